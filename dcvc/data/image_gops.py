"""Folders of pictures as training GOPs: a folder per sequence, im2 before im10.

A sample is `gop_size` consecutive pictures of one folder. The random numbers of (seed, epoch,
index) choose the first picture, then the crop; only the crop is decoded. The folder is not drawn:
sample number `index` is of folder `index`.
"""

import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from dcvc.data.training_set import TrainingSet, check_index, check_length, check_size
from dcvc.data.video_list import PathLike, read_lines
from dcvc.errors import DcvcError, InputError, MissingError
from dcvc.interfaces import Crop
from dcvc.video.images import image_size, list_images, list_sequences, read_image


class ImageGOPDataset(TrainingSet):
    """GOPs from folders of pictures, the same crop in all pictures. See TrainingSet.

    random_shuffle: random first picture and crop; otherwise the first pictures and the centre.
    """

    def __init__(self, folders: list[str], gop_size: int = 7, transform: Callable | None = None,
                 crop_size: int | None = 256, random_shuffle: bool = True,
                 seed: int | None = None) -> None:
        super().__init__(gop_size, transform, crop_size, random_shuffle, seed)
        self.folders = folders

    def __len__(self) -> int:
        return len(self.folders)

    def check_folder(self, folder: str) -> None:
        """Raises InputError where there are too few pictures, or the first is smaller than the
        crop."""
        images = self._images(folder)
        check_size(images[0], image_size(images[0]), self.crop_size)

    def _images(self, folder: str) -> list[str]:
        images = list_images(folder)
        check_length(folder, len(images), self.gop_size)
        return images

    def _choose(self, epoch: int, index: int) -> tuple[list[str], int, Crop]:
        """The pictures' paths, the number of the first one, the crop."""
        images = self._images(self.folders[index])
        # The folder is listed each time: kept lists of a million pictures would fill the memory.
        rng = self.rng(epoch, index)
        start = int(rng.integers(len(images) - self.gop_size + 1)) if self.random_shuffle else 0
        # Only this picture's size is looked at; read_image tells if another one does not fit.
        size = image_size(images[start])
        check_size(images[start], size, self.crop_size)
        return images[start: start + self.gop_size], start, self.choose_crop(size, rng)

    def gop(self, epoch: int, index: int) -> Tensor:
        images, _, crop = self._choose(epoch, index)
        return torch.stack([read_image(path, crop) for path in images])

    def describe(self, index: int) -> str:
        """Folder and numbers (from 0) of the pictures that this epoch's sample `index` is made of.
        """
        index = check_index("sample", index, len(self))
        try:
            _, start, _ = self._choose(self.epoch, index)
        except DcvcError as error:
            return str(error)  # it is asked for to tell what a bad sample was made of
        return f"{self.folders[index]} pictures {start}-{start + self.gop_size - 1}"


class VimeoGOPDataset(ImageGOPDataset):
    """Vimeo-90k: `root/sequences/00001/0001/im1.png ... im7.png`, a list of `00001/0001` lines.

    root: the folder with `sequences` in it, or `sequences` itself. septuplet_list: the list's path,
    or its name within root. A random run of `gop_size` of the seven; otherwise as ImageGOPDataset.
    Raises MissingError, InputError, ReadError.
    """

    def __init__(self, root: PathLike, septuplet_list: PathLike, gop_size: int = 7,
                 transform: Callable | None = None, crop_size: int | None = 256,
                 random_shuffle: bool = True, seed: int | None = None) -> None:
        base = Path(root)
        if not base.is_dir():
            raise MissingError(f"{base}: no such folder, needed Vimeo's folder with 'sequences' in "
                               "it")
        places = (Path(septuplet_list), base / septuplet_list)
        list_file = next((path for path in places if path.is_file()), None)
        if list_file is None:
            raise MissingError(f"{os.fspath(septuplet_list)}: no such septuplet list")
        sequences = base / "sequences" if (base / "sequences").is_dir() else base
        folders = [os.path.join(sequences, name) for name in map(str.strip, read_lines(list_file))]
        if not folders:
            raise InputError(f"{list_file}: found no septuplets, needed lines like 00001/0001")
        super().__init__(folders, gop_size, transform, crop_size, random_shuffle, seed)
        # All septuplets are alike, and 64,612 are for training: the first one stands for all.
        self.check_folder(folders[0])


class BVI_AOM_Dataset(ImageGOPDataset):
    """BVI-AOM and the like: every folder at or below `root` that holds pictures is a sequence.

    All are checked for length and size at the start. See ImageGOPDataset.
    Raises MissingError, InputError, ReadError.
    """

    def __init__(self, root: PathLike, gop_size: int = 7, transform: Callable | None = None,
                 crop_size: int | None = 256, random_shuffle: bool = True,
                 seed: int | None = None) -> None:
        super().__init__(list_sequences(root), gop_size, transform, crop_size, random_shuffle, seed)
        # Hundreds of sequences, of differing lengths and sizes: each is looked at.
        for folder in self.folders:
            self.check_folder(folder)
