"""Pictures in folders: listed in natural order, read whole or as a crop."""

import os
import re
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dcvc.errors import InputError, MissingError, ReadError
from dcvc.interfaces import Crop
from dcvc.video.folders import walk_folders

IMAGE_EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm")
PathLike = str | os.PathLike
# Pillow's names for grey pictures of 16 bits ("I" has 32, in which it also keeps some of 16).
SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N", "I")
EXIF_ORIENTATION = 0x0112


def natural_key(name: str) -> list[Any]:
    """im2 before im10."""
    # Numbers sort before text: a comparison of the two kinds would raise.
    return [(0, int(part), "") if part.isdigit() else (1, 0, part)
            for part in re.split(r"(\d+)", name)]


def list_images(folder: PathLike) -> list[str]:
    """The pictures of a folder in natural order. Raises MissingError."""
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise MissingError(
            f"{os.fspath(folder)}: cannot list this folder ({error.strerror})") from None
    # Names with a dot in front are what other systems leave behind (._im1.png).
    chosen = [name for name in names if _is_image(name) and not name.startswith(".")]
    return [os.path.join(folder, name) for name in sorted(chosen, key=natural_key)]


def list_sequences(root: PathLike) -> list[str]:
    """Every folder at or below `root` that holds pictures, sorted; linked folders are followed.

    Raises MissingError, InputError (there is none).
    """
    root = os.fspath(root)
    if not os.path.isdir(root):
        raise MissingError(
            f"{root}: no such folder, needed a folder with one folder of pictures per sequence")
    folders = [folder.path for folder in walk_folders(root) if any(map(_is_image, folder.files))]
    if not folders:
        raise InputError(f"{root}: found no pictures in or below this folder, "
                         f"needed {' '.join(IMAGE_EXTENSIONS)}")
    return sorted(folders, key=natural_key)


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_EXTENSIONS)


def image_size(path: str) -> tuple[int, int]:
    """(height, width) from the file's header."""
    with _open(path) as image:
        return image.height, image.width


def image_notes(path: str) -> tuple[str, ...]:
    """What reading leaves out of a picture, in words. Raises MissingError, ReadError."""
    with _open(path) as image:
        notes = []
        if image.mode in SIXTEEN_BITS:
            notes.append("16-bit pictures, measured in 8 bits")
        if "A" in image.getbands() or "transparency" in image.info:
            notes.append("transparency left out")
        if getattr(image, "n_frames", 1) > 1:
            notes.append(f"the first of {image.n_frames} frames in a picture's file")
        try:
            turned = image.getexif().get(EXIF_ORIENTATION, 1)
        except (OSError, ValueError, SyntaxError):
            turned = 1                        # metadata that cannot be read tell nothing
        if turned not in (0, 1):
            notes.append(f"EXIF orientation {turned} not applied")
        return tuple(notes)


def read_image(path: str, crop: Crop | None = None) -> Tensor:
    """uint8 `(3, H, W)`; samples of 16 bits become 8. Raises MissingError, ReadError, InputError (the
    crop does not fit, samples are floats)."""
    with _open(path) as image:
        if crop is not None:
            top, left, height, width = crop
            if top + height > image.height or left + width > image.width:
                raise InputError(f"{path}: found {image.width}x{image.height}, needed at least "
                                 f"{left + width}x{top + height} as its sequence's first picture")
        # Opening reads the header only: damage shows where the samples are asked for.
        try:
            if crop is not None:
                image = image.crop((left, top, left + width, top + height))
            return torch.from_numpy(_rgb(image, path)).permute(2, 0, 1).contiguous()
        except InputError:
            raise
        except (OSError, ValueError, SyntaxError) as error:
            raise ReadError(f"{path}: cannot decode ({error})") from None


def _rgb(image: Image.Image, path: str) -> np.ndarray:
    """uint8 `(H, W, 3)`."""
    if image.mode not in SIXTEEN_BITS and image.mode != "F":
        return np.array(image.convert("RGB"))
    # Pillow's own conversion of these cuts everything above 255 off: grey would become white.
    samples = np.array(image)
    if image.mode == "F" or samples.min() < 0 or samples.max() > 0xFFFF:
        kind = "floats" if image.mode == "F" else "32 bits"
        raise InputError(f"{path}: found samples of {kind}, needed pictures of 8 or 16 bits")
    grey = ((samples.astype(np.int64) + 128) // 257).astype(np.uint8)
    return np.repeat(grey[..., None], 3, -1)


def _open(path: str) -> Image.Image:
    try:
        return Image.open(path)
    except FileNotFoundError:
        raise MissingError(f"{path}: no such picture") from None
    except (OSError, ValueError, SyntaxError) as error:
        raise ReadError(f"{path}: cannot open ({error})") from None
