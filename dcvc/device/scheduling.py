"""Priorities stay as they were, whatever an encoder does.

Run by root, which is the rule in containers, SVT-AV1 makes the thread that opens it and all of its own
real-time threads of the highest priority (SCHED_FIFO, 99). They, and every process that is started
from there later, then keep all others from the processor: a training beside them stands still.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

THREADS = Path("/proc/self/task")


@contextmanager
def scheduling_kept() -> Iterator[None]:
    """Threads that are there at the end have the policy and the priority that the caller had at the
    beginning, if the caller's own was changed. Nothing on systems without such policies."""
    if not hasattr(os, "sched_getscheduler") or not THREADS.is_dir():
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        # One call where nothing was changed: this is around every frame of an encoder.
        if os.sched_getscheduler(0) != policy:
            for thread in THREADS.iterdir():
                try:
                    os.sched_setscheduler(int(thread.name), policy, parameters)
                except ProcessLookupError:  # it has ended meanwhile
                    continue
