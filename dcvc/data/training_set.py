"""What all training sets share: samples that are a pure function of (seed, epoch, index), crops, transforms."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from dcvc.errors import InputError
from dcvc.interfaces import Crop


def fresh_seed() -> int:
    return int(np.random.SeedSequence().generate_state(1, np.uint32)[0])


class TrainingSet(Dataset):
    """Base of the training sets: `len`, `[index]`, `sample(epoch, index)`, `describe(index)`, `set_epoch(epoch)`.

    A sample is float32 `(T, 3, H, W)`, RGB in [0, 1]. It depends on (seed, epoch, index) alone, so not on the number
    of workers or processes. `seed=None` draws a seed once. `set_epoch` reaches workers that already run.
    """

    crops_per_read = 1  # samples that are made of one decoded GOP: the step sampler keeps them within one worker

    def __init__(self, gop_size: int, transform: Callable | None, crop_size: int | None, random_shuffle: bool,
                 seed: int | None) -> None:
        if gop_size < 1:
            raise InputError(f"gop_size: found {gop_size}, needed at least 1")
        if crop_size is not None and crop_size < 1:
            raise InputError(f"crop_size: found {crop_size}, needed at least 1 (None keeps whole frames)")
        self.gop_size, self.crop_size, self.transform = gop_size, crop_size, transform
        self.random_shuffle = random_shuffle
        self.keep_bytes = False                              # see batches.KeyedDataset
        self.seed = fresh_seed() if seed is None else int(seed)
        if self.seed < 0:
            raise InputError(f"seed: found {seed}, needed 0 or more")
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    @property
    def epoch(self) -> int:
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """From now on `[index]` gives the samples of this epoch, also in workers that already run."""
        self._epoch.fill_(int(epoch))

    def __getitem__(self, index: int) -> Tensor:
        return self.sample(self.epoch, self._checked(index))

    def sample(self, epoch: int, index: int) -> Tensor:
        """The sample of this epoch and index: float32 `(T, 3, H, W)`."""
        raise NotImplementedError

    def _checked(self, index: int) -> int:
        size = len(self)
        if not -size <= index < size:
            raise IndexError(f"sample {index} of {size}")
        return index % size

    def prepare_workers(self) -> None:
        """Called before worker processes start: what they may share with this one, they need not each make."""

    def rng(self, epoch: int, index: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, int(epoch), int(index)))

    def choose_crop(self, size: tuple[int, int], rng: np.random.Generator) -> Crop:
        """A crop within (height, width): anywhere if random_shuffle, else the centre."""
        height, width = size
        if self.crop_size is None:
            return 0, 0, height, width
        spare = height - self.crop_size, width - self.crop_size
        if self.random_shuffle:
            top, left = (int(rng.integers(room + 1)) for room in spare)
        else:
            top, left = spare[0] // 2, spare[1] // 2
        return top, left, self.crop_size, self.crop_size

    def finish(self, frames: Tensor) -> Tensor:
        if self.keep_bytes and self.transform is None:
            return frames
        return finish_frames(frames, self.transform)


def check_size(name: str, size: tuple[int, int], crop_size: int | None) -> None:
    """Raises InputError if (height, width) is smaller than the crop."""
    if crop_size is not None and min(size) < crop_size:
        raise InputError(
            f"{name}: found frames of {size[1]}x{size[0]}, needed at least {crop_size}x{crop_size} (crop_size)"
        )


def check_length(name: str, found: int, needed: int) -> None:
    """Raises InputError if there are too few frames."""
    if found < needed:
        raise InputError(f"{name}: found {found} frames, needed at least {needed}")


def finish_frames(frames: Tensor, transform: Callable | None) -> Tensor:
    """uint8 `(T, 3, H, W)` -> float32 in [0, 1], each frame passed through `transform` as a PIL image first."""
    if transform is None:
        return frames.to(torch.float32).div_(255)
    return torch.stack([apply_transform(frame, transform) for frame in frames])


def apply_transform(frame: Tensor, transform: Callable | None) -> Tensor:
    """uint8 `(3, H, W)` -> float32 `(3, H, W)`; `transform` takes a PIL image, gives a PIL image, tensor or array."""
    if transform is None:
        return frame.to(torch.float32).div_(255)
    return _as_frame(transform(Image.fromarray(frame.permute(1, 2, 0).contiguous().numpy())))


def _as_frame(result: Any) -> Tensor:
    if isinstance(result, Image.Image):
        result = np.array(result.convert("RGB"))
    if isinstance(result, np.ndarray):
        result = torch.from_numpy(np.ascontiguousarray(result))
        if result.dim() == 3 and result.shape[-1] == 3 and result.shape[0] != 3:
            result = result.permute(2, 0, 1)
    if not isinstance(result, Tensor) or result.dim() != 3 or result.shape[0] != 3:
        found = f"shape {tuple(result.shape)}" if isinstance(result, Tensor) else type(result).__name__
        raise InputError(f"transform: found {found}, needed a PIL image or (3, H, W)")
    return result.to(torch.float32).div(255) if result.dtype == torch.uint8 else result.to(torch.float32)
