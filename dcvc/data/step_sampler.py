"""Which samples make which step: a pure function of (seed, step, process), so that any step can be resumed at once."""

from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from dcvc.data.training_set import TrainingSet

# Batches between samples of one decoded GOP. DataLoader deals batches out in turn, so that with 1, 2, 3, 4, 6 or 12
# workers all of them fall to the worker that has the GOP in memory; the order is the same with any number.
APART = 12

SampleKey = tuple[int, int]  # (epoch, index)


class StepSampler(Sampler[list[SampleKey]]):
    """Keys of this process's micro-batches, from `first_step` to `last_step`.

    A step takes `accumulation` micro-batches of `batch_size` on each of `processes`; an epoch is one random
    permutation of the data set, its incomplete last step filled up from the permutation's beginning.
    crops_per_read: with k > 1, samples k·g ... k·g+k-1 come from one decoded GOP: GOPs are permuted, and the samples
    of each come APART batches from another (a shuffle buffer whose order depends on nothing but the seed).
    """

    def __init__(self, samples: int, batch_size: int, seed: int, *, accumulation: int = 1, process: int = 0,
                 processes: int = 1, first_step: int = 0, last_step: int = 0, crops_per_read: int = 1) -> None:
        self.crops_per_read = crops_per_read
        self.samples, self.batch_size, self.seed = samples, batch_size, seed
        self.accumulation, self.process, self.processes = accumulation, process, processes
        self.first_step, self.last_step = first_step, last_step
        self.steps_per_epoch = max(1, -(-samples // (batch_size * accumulation * processes)))
        self._order = lru_cache(maxsize=2)(self._permutation)

    def _permutation(self, epoch: int) -> list[int]:
        generator = torch.Generator().manual_seed((self.seed << 20) + epoch)
        return torch.randperm(-(-self.samples // self.crops_per_read), generator=generator).tolist()

    def step_keys(self, step: int) -> list[list[SampleKey]]:
        """The `accumulation` micro-batches of one step on this process."""
        epoch, within = divmod(step, self.steps_per_epoch)
        if self.crops_per_read > 1:
            return [self._spread(epoch, within * self.accumulation + micro) for micro in range(self.accumulation)]
        order = self._order(epoch)
        batches = []
        for micro in range(self.accumulation):
            block = (within * self.accumulation + micro) * self.processes + self.process
            start = block * self.batch_size
            batches.append([(epoch, order[(start + k) % self.samples]) for k in range(self.batch_size)])
        return batches

    def frames_per_step(self, gop_size: int) -> int:
        """Of all processes together."""
        return self.batch_size * self.accumulation * self.processes * gop_size

    def _spread(self, epoch: int, batch: int) -> list[SampleKey]:
        """Micro-batch number `batch` of this process within the epoch: slots change their GOPs at different times."""
        order, crops, keys = self._order(epoch), self.crops_per_read, []
        for slot in range(self.batch_size):
            round_, within = divmod(batch + slot % crops * APART, crops * APART)
            crop, place = divmod(within, APART)
            number = ((round_ * APART + place) * self.batch_size + slot) * self.processes + self.process
            keys.append((epoch, min(order[number % len(order)] * crops + crop, self.samples - 1)))
        return keys

    def __iter__(self) -> Iterator[list[SampleKey]]:
        for step in range(self.first_step, self.last_step):
            yield from self.step_keys(step)

    def __len__(self) -> int:
        return (self.last_step - self.first_step) * self.accumulation


class KeyedDataset(Dataset):
    """Reads a training set by (epoch, index): workers may prefetch across an epoch's end without being told.

    keep_bytes: frames stay uint8 where no transform is given, a quarter of what has to travel to the device.
    """

    def __init__(self, dataset: Dataset, keep_bytes: bool = False) -> None:
        self.dataset, self.keep_bytes = dataset, keep_bytes

    def __getitem__(self, key: SampleKey) -> Tensor:
        self.dataset.keep_bytes = self.keep_bytes
        return self.dataset.sample(*key)


def step_loader(dataset: TrainingSet, sampler: StepSampler, num_workers: int, pin_memory: bool,
                keep_bytes: bool = False) -> DataLoader:
    """Micro-batches `(B, T, 3, H, W)` in the sampler's order; see KeyedDataset."""
    if num_workers:
        dataset.prepare_workers()
    return DataLoader(KeyedDataset(dataset, keep_bytes), batch_sampler=sampler, num_workers=num_workers,
                      pin_memory=pin_memory, prefetch_factor=2 if num_workers else None)
