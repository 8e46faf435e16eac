"""Data sets of images: Vimeo-90k septuplets, BVI-AOM and HEVC class B as one folder of pictures per sequence."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from dcvc.data.training_set import Crop, TrainingSet, apply_transform, check_length, check_size
from dcvc.errors import DcvcError, InputError, MissingError, ReadError

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


class ImageGOPDataset(TrainingSet):
    """GOPs from folders of pictures: `gop_size` consecutive ones, the same crop in all. See TrainingSet.

    random_shuffle: random first picture and crop; otherwise the first pictures and the centre.
    """

    def __init__(self, folders: list[str], gop_size: int = 7, transform: Callable | None = None,
                 crop_size: int | None = 256, random_shuffle: bool = True, seed: int | None = None) -> None:
        super().__init__(gop_size, transform, crop_size, random_shuffle, seed)
        self.folders = folders

    def __len__(self) -> int:
        return len(self.folders)

    def _choose(self, epoch: int, index: int) -> tuple[list[str], int, Crop]:
        folder = self.folders[index]
        images = list_images(folder)
        check_length(folder, len(images), self.gop_size)
        rng = self.rng(epoch, index)
        start = int(rng.integers(len(images) - self.gop_size + 1)) if self.random_shuffle else 0
        size = image_size(images[start])
        check_size(images[start], size, self.crop_size)
        return images[start: start + self.gop_size], start, self.choose_crop(size, rng)

    def sample(self, epoch: int, index: int) -> Tensor:
        images, _, crop = self._choose(epoch, index)
        return self.finish(torch.stack([read_image(path, crop) for path in images]))

    def describe(self, index: int) -> str:
        """The folder and the numbers of its pictures (from 0) that this epoch's sample `index` is made of."""
        index = self._checked(index)
        try:
            _, start, _ = self._choose(self.epoch, index)
        except DcvcError as error:
            return str(error)
        return f"{self.folders[index]} pictures {start}-{start + self.gop_size - 1}"


class VimeoGOPDataset(ImageGOPDataset):
    """Vimeo-90k septuplets: `root/sequences/00001/0001/im1.png ... im7.png` and a list file of `00001/0001` lines.

    root: the folder with `sequences` in it, or `sequences` itself. septuplet_list: the list's path, or its name
    within root. A random run of `gop_size` of the seven; otherwise as ImageGOPDataset.
    Raises MissingError, InputError, ReadError.
    """

    def __init__(self, root: PathLike, septuplet_list: PathLike, gop_size: int = 7, transform: Callable | None = None,
                 crop_size: int | None = 256, random_shuffle: bool = True, seed: int | None = None) -> None:
        base = Path(root)
        if not base.is_dir():
            raise MissingError(f"{base}: no such folder, needed Vimeo's folder with 'sequences' in it")
        list_file = next((p for p in (Path(septuplet_list), base / septuplet_list) if p.is_file()), None)
        if list_file is None:
            raise MissingError(f"{os.fspath(septuplet_list)}: no such septuplet list")
        sequences = base / "sequences" if (base / "sequences").is_dir() else base
        names = [line.strip() for line in list_file.read_text(encoding="utf-8").splitlines()]
        folders = [os.path.join(sequences, name) for name in names if name]
        if not folders:
            raise InputError(f"{list_file}: found no septuplets, needed lines like 00001/0001")
        super().__init__(folders, gop_size, transform, crop_size, random_shuffle, seed)
        images = list_images(folders[0])
        check_length(folders[0], len(images), gop_size)
        check_size(images[0], image_size(images[0]), crop_size)


class BVI_AOM_Dataset(ImageGOPDataset):
    """BVI-AOM and the like: every folder at or below `root` that holds pictures is a sequence. See ImageGOPDataset.

    All sequences are checked for length and size at the start. Raises MissingError, InputError, ReadError.
    """

    def __init__(self, root: PathLike, gop_size: int = 7, transform: Callable | None = None,
                 crop_size: int | None = 256, random_shuffle: bool = True, seed: int | None = None) -> None:
        super().__init__(list_sequences(root), gop_size, transform, crop_size, random_shuffle, seed)
        for folder in self.folders:
            images = list_images(folder)
            check_length(folder, len(images), gop_size)
            check_size(images[0], image_size(images[0]), crop_size)


class HEVCB_Dataset(Dataset):
    """Evaluation on folders of pictures (HEVC class B): one item per sequence.

    `[index]` -> {"frames": float32 `(T, 3, H, W)` in [0, 1], "name": str, "num_frames": int}.
    `stream(index)` gives the frames one by one in constant memory. max_frames: only the first ones of each.
    Raises MissingError, InputError, ReadError.
    """

    def __init__(self, root: PathLike, transform: Callable | None = None, max_frames: int | None = None) -> None:
        if max_frames is not None and max_frames < 1:
            raise InputError(f"max_frames: found {max_frames}, needed at least 1")
        self.root, self.transform, self.max_frames = os.fspath(root), transform, max_frames
        self.folders = list_sequences(root)

    def __len__(self) -> int:
        return len(self.folders)

    def name(self, index: int) -> str:
        relative = os.path.relpath(self.folders[index], self.root)
        return os.path.basename(os.path.abspath(self.root)) if relative == "." else relative.replace(os.sep, "/")

    def stream(self, index: int) -> Iterator[Tensor]:
        """float32 `(3, H, W)` frames in order. All must have the first one's size."""
        size = None
        for path in list_images(self.folders[index])[: self.max_frames]:
            frame = read_image(path)
            size = size or frame.shape
            if frame.shape != size:
                raise InputError(f"{path}: found {frame.shape[2]}x{frame.shape[1]}, needed {size[2]}x{size[1]} "
                                 "as the sequence's first picture")
            yield apply_transform(frame, self.transform)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(f"sequence {index} of {len(self)}")
        frames = torch.stack(list(self.stream(index)))
        return {"frames": frames, "name": self.name(index), "num_frames": len(frames)}
