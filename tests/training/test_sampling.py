"""Samples as a pure function of the step."""

from hypothesis import given
from hypothesis import strategies as st

from dcvc.data.step_sampler import StepSampler


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
