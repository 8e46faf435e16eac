"""What all training sets share: the random numbers behind a sample, crops, transforms.

A sample is a pure function of (seed, epoch, index): its own random generator, seeded with these
three numbers, makes every choice about it. So it is the same sample with any number of workers or
processes, in whatever order samples are asked for, and a training that goes on at step 1,000 sees
what an uninterrupted one would have seen.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from dcvc.errors import InputError
from dcvc.interfaces import Crop, from_levels


def random_seed() -> int:
    """A seed from the operating system's randomness: another one at every call."""
    return int(np.random.SeedSequence().generate_state(1, np.uint32)[0])


class TrainingSet(Dataset):
    """Base of the training sets: what `[index]` gives in epoch e is `sample(e, index)`.

    A sample is float32 `(T, 3, H, W)`, RGB in [0, 1]. A data set of your own writes `__len__` and
    `gop`. `seed=None` draws a seed once. `set_epoch` reaches workers that already run.
    random_shuffle: choose at random; otherwise the same sample in every epoch. crop_size: side of
    the square crop in pixels, None for whole frames. transform: called with each frame as a PIL
    image, after the crop. Raises InputError for values out of range.
    """

    # Samples made of one decoded GOP: the step sampler keeps them within one worker.
    crops_per_read = 1
    # Samples stay uint8 where there is no transform: a quarter of what has to travel to the device.
    keep_bytes = False

    def __init__(self, gop_size: int, transform: Callable | None, crop_size: int | None,
                 random_shuffle: bool, seed: int | None) -> None:
        if gop_size < 1:
            raise InputError(f"gop_size: found {gop_size}, needed at least 1")
        if crop_size is not None and crop_size < 1:
            raise InputError(f"crop_size: found {crop_size}, needed at least 1 (None keeps whole "
                             "frames)")
        self.gop_size, self.crop_size, self.transform = gop_size, crop_size, transform
        self.random_shuffle = random_shuffle
        self.seed = random_seed() if seed is None else int(seed)
        if self.seed < 0:
            raise InputError(f"seed: found {seed}, needed 0 or more")
        self._epoch = torch.zeros((), dtype=torch.int64)
        # In shared memory: of a plain number, each worker would keep the copy it started with. Where
        # there is none, no workers can be, either.
        with contextlib.suppress(RuntimeError):
            self._epoch.share_memory_()

    @property
    def epoch(self) -> int:
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """From now on `[index]` gives this epoch's samples, also in workers that already run."""
        self._epoch.fill_(int(epoch))

    def __getitem__(self, index: int) -> Tensor:
        return self.sample(self.epoch, check_index("sample", index, len(self)))

    def gop(self, epoch: int, index: int) -> Tensor:
        """The frames of this epoch's sample `index`: uint8 `(T, 3, H, W)`."""
        raise NotImplementedError

    def sample(self, epoch: int, index: int) -> Tensor:
        """The sample of this epoch and index: float32 `(T, 3, H, W)`."""
        frames = self.gop(epoch, index)
        # What a transform gives need not be levels any more, so it cannot travel as bytes.
        if self.transform is not None:
            return torch.stack([apply_transform(frame, self.transform) for frame in frames])
        return frames if self.keep_bytes else from_levels(frames)

    def prepare_workers(self) -> None:
        """Called before worker processes start: to make once what each of them would have to make.
        """

    def rng(self, epoch: int, index: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, int(epoch), int(index)))

    def choose_crop(self, size: tuple[int, int], rng: np.random.Generator,
                    side: int | None = None) -> Crop:
        """A crop within (height, width): anywhere if random_shuffle, else the centre. side: its
        height and width, where it is not to have crop_size."""
        # Whole frames join to batches only where all videos have the same size.
        height, width = size
        if self.crop_size is None:
            return 0, 0, height, width
        side = self.crop_size if side is None else side
        spare = height - side, width - side
        # The order of draws, here top before left, is part of every sample: see video_gops.py.
        if self.random_shuffle:
            top, left = (int(rng.integers(pixels + 1)) for pixels in spare)
        else:
            top, left = spare[0] // 2, spare[1] // 2
        return top, left, side, side


def check_index(noun: str, index: int, size: int) -> int:
    """The index counted from the front. Raises IndexError outside of `size` items, each called
    `noun`: Python and torch know by it where a data set ends."""
    if not -size <= index < size:
        raise IndexError(f"{noun} {index} of {size}")
    return index % size


def size_problem(name: str, size: tuple[int, int], side: int, by: str) -> str:
    """What to say of (height, width) below `side` pixels, which the option `by` asks for."""
    return f"{name}: found frames of {size[1]}x{size[0]}, needed at least {side}x{side} ({by})"


def length_problem(name: str, frames: int, needed: int, by: str) -> str:
    return f"{name}: found {frames} frames, needed at least {needed} ({by})"


def check_size(name: str, size: tuple[int, int], crop_size: int | None) -> None:
    """Raises InputError if (height, width) is smaller than the crop."""
    if crop_size is not None and min(size) < crop_size:
        raise InputError(size_problem(name, size, crop_size, "crop_size"))


def check_length(name: str, frames: int, gop_size: int) -> None:
    """Raises InputError if there are too few frames."""
    if frames < gop_size:
        raise InputError(length_problem(name, frames, gop_size, "gop_size"))


def apply_transform(frame: Tensor, transform: Callable | None) -> Tensor:
    """uint8 `(3, H, W)` -> float32 `(3, H, W)`. transform: PIL image -> PIL image, tensor, array.
    """
    if transform is None:
        return from_levels(frame)
    return _as_frame(transform(Image.fromarray(frame.permute(1, 2, 0).contiguous().numpy())))


def _as_frame(result: Any) -> Tensor:
    """What a transform may return -> float32 `(3, H, W)`. Whole numbers of 8 bits are levels; other
    numbers are taken as they are, for a transform may have normalised them."""
    if isinstance(result, Image.Image):
        result = np.array(result.convert("RGB"))
    if isinstance(result, np.ndarray):
        result = torch.from_numpy(np.ascontiguousarray(result))
        # Arrays are (H, W, 3) by custom, as PIL makes them; one of (3, H, W) is taken, too.
        if result.dim() == 3 and result.shape[-1] == 3 and result.shape[0] != 3:
            result = result.permute(2, 0, 1)
    if not isinstance(result, Tensor) or result.dim() != 3 or result.shape[0] != 3:
        is_tensor = isinstance(result, Tensor)
        given = f"shape {tuple(result.shape)}" if is_tensor else type(result).__name__
        raise InputError(f"transform: found {given}, needed a PIL image or (3, H, W)")
    return from_levels(result) if result.dtype == torch.uint8 else result.to(torch.float32)
