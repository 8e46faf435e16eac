"""Which samples make which step.

The samples of a step are computed from (seed, step, process), never drawn one after the other. So a
training that stopped goes on at any step at once, without going through the samples before it; each
process knows its own share without asking the others; and a bad step can be looked at again.

An epoch is one random order of the data set, dealt out in blocks of `batch_size`, to the processes
in turn. With two processes, accumulation = 2 and batch_size = 3, step 0 takes the first 12 samples
of the order:

    order       0  1  2 | 3  4  5 | 6  7  8 | 9 10 11 | 12 …
    process     0       | 1       | 0       | 1       |
    micro-batch 0       | 0       | 1       | 1       | step 1

crops_per_read = k > 1: samples k·g … k·g + k-1 are different crops of the same frames, the GOP g,
which is decoded once for all of them. In one batch they would be too much alike. So they come d =
BATCHES_BETWEEN_CROPS batches apart. With k = 2 and batch_size = 2, drawn with d = 3 for short; "4b"
is the second crop of the GOP that stands at place 4 of the epoch's order, and each row is one slot
of the batch:

    batch       0   1   2     3   4   5     6   7   8     9  10  11
    slot 0     0a  2a  4a |  0b  2b  4b |  6a  8a 10a |  6b  8b 10b | …
    slot 1     1b  3b  5b |  7a  9a 11a |  7b  9b 11b | 13a …

Down a slot: d new GOPs, then the second crops of the same d in the same order, and so on. Slot 1 is
d batches ahead of slot 0, so that a batch mixes GOPs just decoded with known ones, and decoding
costs about the same in every batch. (At the epoch's start it begins in the middle: 1a, 3a and 5a
are left out.) A cache that keeps the GOPs of d batches is enough, and if one is lost it is decoded
again: the order stays, only time is lost.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from functools import lru_cache

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from dcvc.data.training_set import TrainingSet
from dcvc.device.processes import leave_signals_to_parent
from dcvc.errors import DcvcError, ReadError

# DataLoader deals batches out to its workers in turn. 12 can be divided by 1, 2, 3, 4, 6 and 12:
# with so many workers all crops of a GOP fall to the worker that has it in memory. The order is the
# same with any number of workers.
BATCHES_BETWEEN_CROPS = 12
SHARED_MEMORY = re.compile(r"shared memory|/torch_|\bshm\b|Bus error|No space left on device")

SampleKey = tuple[int, int]  # (epoch, index)


class StepSampler(Sampler[list[SampleKey]]):
    """Keys of this process's micro-batches, from `first_step` to `last_step` (excluded).

    A step takes `accumulation` micro-batches of `batch_size` on each of `processes`. The last step
    of an epoch is filled up from the beginning of the epoch's order. samples: size of the data set;
    crops_per_read: see the top.
    """

    def __init__(self, samples: int, batch_size: int, seed: int, *, accumulation: int = 1,
                 process: int = 0, processes: int = 1, first_step: int = 0, last_step: int = 0,
                 crops_per_read: int = 1) -> None:
        self.crops_per_read = crops_per_read
        self.samples, self.batch_size, self.seed = samples, batch_size, seed
        self.accumulation, self.process, self.processes = accumulation, process, processes
        self.first_step, self.last_step = first_step, last_step
        self.steps_per_epoch = max(1, -(-samples // (batch_size * accumulation * processes)))
        # Two: the loader may be in the next epoch when a message asks about a step of this one.
        self._order = lru_cache(maxsize=2)(self._permutation)

    def _permutation(self, epoch: int) -> list[int]:
        """The order of an epoch: of samples, or of GOPs where several samples are made of one."""
        # Shifted by 20 bits: for a million epochs, no epoch of one seed is an epoch of the next.
        generator = torch.Generator().manual_seed((self.seed << 20) + epoch)
        return torch.randperm(-(-self.samples // self.crops_per_read), generator=generator).tolist()

    def step_keys(self, step: int) -> list[list[SampleKey]]:
        """The `accumulation` micro-batches of one step on this process."""
        epoch, step_of_epoch = divmod(step, self.steps_per_epoch)
        keys_of = self._spread_batch if self.crops_per_read > 1 else self._plain_batch
        # Micro-batches are numbered through the epoch; each process counts its own.
        first = step_of_epoch * self.accumulation
        return [keys_of(epoch, first + micro) for micro in range(self.accumulation)]

    def frames_per_step(self, gop_size: int) -> int:
        """Of all processes together."""
        return self.batch_size * self.accumulation * self.processes * gop_size

    def _plain_batch(self, epoch: int, batch: int) -> list[SampleKey]:
        """This process's micro-batch number `batch` of the epoch: the first drawing."""
        order = self._order(epoch)
        start = (batch * self.processes + self.process) * self.batch_size
        return [(epoch, order[(start + k) % self.samples]) for k in range(self.batch_size)]

    def _spread_batch(self, epoch: int, batch: int) -> list[SampleKey]:
        """The same where several samples are made of one GOP: the second drawing."""
        order, crops, distance = self._order(epoch), self.crops_per_read, BATCHES_BETWEEN_CROPS
        keys = []
        for slot in range(self.batch_size):
            # A round is as long as `distance` GOPs take until all of their crops are used.
            ahead = slot % crops * distance
            round_number, place = divmod(batch + ahead, crops * distance)
            crop, gop_of_round = divmod(place, distance)
            row = round_number * distance + gop_of_round
            number = (row * self.batch_size + slot) * self.processes + self.process
            gop = order[number % len(order)]
            # The last GOP may have fewer crops than the others.
            keys.append((epoch, min(gop * crops + crop, self.samples - 1)))
        return keys

    def __iter__(self) -> Iterator[list[SampleKey]]:
        for step in range(self.first_step, self.last_step):
            yield from self.step_keys(step)

    def __len__(self) -> int:
        return (self.last_step - self.first_step) * self.accumulation


class KeyedDataset(Dataset):
    """A training set read by (epoch, index), so that workers may run ahead into the next epoch.

    keep_bytes: see TrainingSet."""

    def __init__(self, dataset: TrainingSet, keep_bytes: bool = False) -> None:
        # A copy, whose parts are the same: whoever else reads the data set gets what it got before.
        self.dataset = copy(dataset)
        self.dataset.keep_bytes = keep_bytes

    def __getitem__(self, key: SampleKey) -> Tensor:
        return self.dataset.sample(*key)


def step_loader(dataset: TrainingSet, sampler: StepSampler, num_workers: int, pin_memory: bool,
                keep_bytes: bool = False) -> Iterator[Tensor]:
    """Micro-batches `(B, T, 3, H, W)` in the sampler's order; see KeyedDataset. Raises ReadError
    where the memory that workers share with this process is too small."""
    if num_workers:
        dataset.prepare_workers()
    with _memory_errors_told(num_workers):
        # Now, and not at the first batch: making it draws from torch's generator.
        batches = iter(DataLoader(KeyedDataset(dataset, keep_bytes), batch_sampler=sampler,
                                  num_workers=num_workers, pin_memory=pin_memory,
                                  worker_init_fn=leave_signals_to_parent,
                                  prefetch_factor=2 if num_workers else None))
    return _told(batches, num_workers)


def _told(batches: Iterator[Tensor], workers: int) -> Iterator[Tensor]:
    with _memory_errors_told(workers):
        yield from batches


@contextmanager
def _memory_errors_told(workers: int) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, OSError) as error:
        # torch tells it in many ways: of its file there, of its own advice, of a bus error.
        if isinstance(error, DcvcError) or not SHARED_MEMORY.search(str(error)):
            raise
        raise ReadError(f"shared memory (/dev/shm): too small for the batches of {workers} "
                        "workers; give more (docker run --shm-size=2g), or take fewer --num_workers "
                        "(0 needs none) or a smaller --batch_size; the last checkpoint is kept") from None
