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

IMAGE_EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm")


PathLike = str | os.PathLike


def natural_key(name: str) -> list[Any]:
    """im2 before im10."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name)]


def list_images(folder: PathLike) -> list[str]:
    """The pictures of a folder in natural order. Raises MissingError."""
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise MissingError(f"{os.fspath(folder)}: cannot list this folder ({error.strerror})") from None
    chosen = [name for name in names if name.lower().endswith(IMAGE_EXTENSIONS) and not name.startswith(".")]
    return [os.path.join(folder, name) for name in sorted(chosen, key=natural_key)]


def list_sequences(root: PathLike) -> list[str]:
    """Every folder at or below `root` that holds pictures, sorted. Raises MissingError, InputError (none)."""
    root = os.fspath(root)
    if not os.path.isdir(root):
        raise MissingError(f"{root}: no such folder, needed a folder with one folder of pictures per sequence")
    found = sorted(
        (folder for folder, _, names in os.walk(root) if any(n.lower().endswith(IMAGE_EXTENSIONS) for n in names)),
        key=natural_key,
    )
    if not found:
        raise InputError(f"{root}: found no pictures in or below this folder, needed {' '.join(IMAGE_EXTENSIONS)}")
    return found


def image_size(path: str) -> tuple[int, int]:
    """(height, width) from the file's header."""
    with _open(path) as image:
        return image.height, image.width


def read_image(path: str, crop: Crop | None = None) -> Tensor:
    """uint8 `(3, H, W)`. Raises MissingError, ReadError, InputError (the crop does not fit)."""
    with _open(path) as image:
        if crop is not None:
            top, left, height, width = crop
            if top + height > image.height or left + width > image.width:
                raise InputError(f"{path}: found {image.width}x{image.height}, needed at least "
                                 f"{left + width}x{top + height} as its sequence's first picture")
        try:
            if crop is not None:
                image = image.crop((left, top, left + width, top + height))
            return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()
        except (OSError, ValueError, SyntaxError) as error:
            raise ReadError(f"{path}: cannot decode ({error})") from None


def _open(path: str) -> Image.Image:
    try:
        return Image.open(path)
    except FileNotFoundError:
        raise MissingError(f"{path}: no such picture") from None
    except (OSError, ValueError, SyntaxError) as error:
        raise ReadError(f"{path}: cannot open ({error})") from None
