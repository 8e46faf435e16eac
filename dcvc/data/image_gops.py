"""Data sets of images: Vimeo-90k septuplets, BVI-AOM and HEVC class B as one folder of pictures per sequence."""

import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from dcvc.data.training_set import TrainingSet, check_length, check_size
from dcvc.data.video_list import PathLike
from dcvc.errors import DcvcError, InputError, MissingError
from dcvc.interfaces import Crop
from dcvc.video.images import image_size, list_images, list_sequences, read_image


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


