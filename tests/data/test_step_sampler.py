"""Which samples make which step: whatever the step, the processes and the workers."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dcvc.data import step_sampler
from dcvc.data.step_sampler import BATCHES_BETWEEN_CROPS, StepSampler, step_loader
from dcvc.data.training_set import TrainingSet
from dcvc.errors import ReadError


@given(samples=st.integers(1, 60), batch=st.integers(1, 7), processes=st.integers(1, 4), accumulation=st.integers(1, 3),
       step=st.integers(0, 40))
def test_processes_share_one_big_batch(samples, batch, processes, accumulation, step):
    """N processes with batch b see, together, what one process with batch N*b sees."""
    shards = [StepSampler(samples, batch, 5, accumulation=accumulation, process=p, processes=processes).step_keys(step)
              for p in range(processes)]
    whole = StepSampler(samples, batch * processes, 5, accumulation=accumulation).step_keys(step)
    together = [sum((shard[micro] for shard in shards), []) for micro in range(accumulation)]
    assert together == whole


@given(samples=st.integers(1, 60), batch=st.integers(1, 9))
def test_an_epoch_visits_every_sample(samples, batch):
    sampler = StepSampler(samples, batch, 1)
    seen = {index for step in range(sampler.steps_per_epoch) for _, index in sampler.step_keys(step)[0]}
    assert seen == set(range(samples))


def test_sampler_resumes_anywhere():
    whole = list(StepSampler(10, 3, 7, accumulation=2, last_step=9))
    assert list(StepSampler(10, 3, 7, accumulation=2, first_step=4, last_step=9)) == whole[8:]
    assert whole != list(StepSampler(10, 3, 8, accumulation=2, last_step=9))


def test_the_sampler_spreads_a_gop_within_one_worker():
    sampler = StepSampler(480, 4, 3, crops_per_read=4, last_step=120)
    batches = list(sampler)
    assert batches == list(StepSampler(480, 4, 3, crops_per_read=4, last_step=120))
    seen = {}
    for number, batch in enumerate(batches):
        assert len({index // 4 for _, index in batch}) == 4
        for _, index in batch:
            seen.setdefault(index // 4, []).append((number, index % 4))
    whole = [found for found in seen.values() if len(found) == 4]
    assert len(whole) >= 60
    for found in whole:
        assert sorted(crop for _, crop in found) == [0, 1, 2, 3]
        assert len({number % BATCHES_BETWEEN_CROPS for number, _ in found}) == 1


def test_the_drawing_at_the_top_of_the_file_is_what_the_sampler_does(monkeypatch):
    lines = step_sampler.__doc__.splitlines()
    drawn = [[cell for cell in line.replace("|", " ").split() if cell[-1] in "ab"] for line in lines
             if line.startswith("    slot")]
    assert [len(row) for row in drawn] == [12, 10]
    monkeypatch.setattr(step_sampler, "BATCHES_BETWEEN_CROPS", 3)
    sampler = StepSampler(200, 2, 0, crops_per_read=2, last_step=12)
    monkeypatch.setattr(sampler, "_order", lambda epoch: list(range(100)))
    batches = [[f"{index // 2}{'ab'[index % 2]}" for _, index in batch] for batch in sampler]
    for slot, row in enumerate(drawn):
        assert [batch[slot] for batch in batches[:len(row)]] == row


class Numbers(TrainingSet):
    def __init__(self, size):
        super().__init__(1, None, None, False, 0)
        self.size = size

    def __len__(self):
        return self.size


@pytest.mark.parametrize("words", ["unable to open shared memory object </torch_12> in read-write mode",
                                   "unable to write to file </torch_7_1>: No space left on device (28)",
                                   "DataLoader worker (pid 3) is killed by signal: Bus error."])
def test_shared_memory_that_is_too_small_is_one_line(words, monkeypatch):
    class Full:
        def __init__(self, *_, **__):
            pass

        def __iter__(self):
            raise RuntimeError(words)

    monkeypatch.setattr("dcvc.data.step_sampler.DataLoader", Full)
    with pytest.raises(ReadError, match=r"/dev/shm.*4 workers.*--shm-size.*--num_workers.*--batch_size"):
        next(step_loader(Numbers(4), StepSampler(4, 1, 0), 4, False))


def test_without_shared_memory_a_training_set_works_by_itself(monkeypatch):
    def refuse(_):
        raise RuntimeError("unable to open shared memory object")

    monkeypatch.setattr("torch.Tensor.share_memory_", refuse)
    data = Numbers(4)
    data.set_epoch(3)
    assert data.epoch == 3


def test_eight_machines_of_four_workers_draw_a_million_videos_once_each():
    """As a loader deals them out: each machine's batches in turn to its workers. An epoch's last step alone is filled
    up from its beginning."""
    videos, machines, workers, batch = 1_000_000, 8, 4, 7
    times = torch.zeros(videos, dtype=torch.int64)
    for machine in range(machines):
        sampler = StepSampler(videos, batch, 3, process=machine, processes=machines)
        batches = [sampler.step_keys(step)[0] for step in range(sampler.steps_per_epoch)]
        by_worker = [torch.tensor([index for one in batches[worker::workers] for _, index in one])
                     for worker in range(workers)]
        for drawn in by_worker:
            assert len(drawn.unique()) == len(drawn)
            times += torch.bincount(drawn, minlength=videos)
    assert times.min() == 1
    filled = int(times.sum()) - videos
    assert filled == -videos % (batch * machines)
    assert int((times == 2).sum()) == filled
