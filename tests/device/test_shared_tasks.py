"""Tasks shared out over processes: taken as they are needed, the first error ends it, a killed process is told."""

import os
import signal

import pytest

from dcvc.device.processes import share_out
from dcvc.errors import InputError, ReadError


def work(task: int) -> int:
    if task == 13:
        raise InputError("13: found, needed another number")
    if task == 99:
        os.kill(os.getpid(), signal.SIGKILL)
    return task * task


def test_one_process_takes_tasks_in_order_as_they_are_needed():
    taken = []
    results = share_out(work, (taken.append(k) or k for k in range(5)), 1)
    assert next(results) == (0, 0)
    assert taken == [0]
    assert list(results) == [(k, k * k) for k in range(1, 5)]
    with pytest.raises(InputError, match="13: found"):
        list(share_out(work, [2, 13], 1))


def test_two_processes_finish_every_task_and_a_killed_one_is_told():
    taken, done = [], {}

    def take_all() -> None:
        for task, result in share_out(work, (taken.append(k) or k for k in [*range(12), 99]), 2):
            done[task] = result
            # Two in work, two waiting, and no more ahead of what is finished.
            assert len(taken) <= len(done) + 4

    with pytest.raises(ReadError, match="ended from outside"):
        take_all()
    assert len(done) >= 9
    assert done.items() <= {k: k * k for k in range(12)}.items()
