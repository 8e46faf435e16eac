"""Tasks shared out over processes that end when whoever started them does, however that ends."""

import importlib
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor
from concurrent.futures import wait as wait_for
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import active_children, get_context, parent_process
from multiprocessing.connection import wait
from threading import Thread
from typing import TypeVar

from dcvc.errors import ReadError

Task, Result = TypeVar("Task"), TypeVar("Result")
Share = Callable[[Callable[[Task], Result], Iterable[Task]], Iterator[tuple[Task, Result]]]
# Tasks that wait beside those in work, so that no process waits for one.
WAITING = 2


def end_with_parent() -> None:
    """Let this process end at once when its parent does, however the parent ends: of a kill nobody
    tells a process that is in the middle of a task."""
    parent = parent_process()
    if parent is not None:
        # Until the parent's handle is ready nothing happens here.
        Thread(target=lambda: (wait([parent.sentinel]), os._exit(1)), daemon=True).start()


def leave_signals_to_parent(_number: int = 0) -> None:
    """Ctrl-C and a job's end reach every process of a terminal or a job: the parent alone answers them,
    and may need this process until it has saved. What the parent itself sends ends this process.
    For a worker's begin, which has one thread."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    # macOS does not tell who sent a signal.
    if parent is None or not hasattr(signal, "sigwaitinfo"):
        return
    # A thread waits for the signal, which no thread is interrupted by.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def answer() -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent.pid:
            pass
        os._exit(0)

    Thread(target=answer, daemon=True).start()


def _begin_worker() -> None:
    import torch

    end_with_parent()
    leave_signals_to_parent()
    torch.set_num_threads(1)


def _import(module: str) -> None:
    importlib.import_module(module)


def share_out(work: Callable[[Task], Result], tasks: Iterable[Task],
              processes: int) -> Iterator[tuple[Task, Result]]:
    """(task, work(task)) as they are finished; with one process, here and in order. `tasks` are
    taken as they are needed. The first error of a task is raised, and no further one begun. work
    and tasks must pickle.

    Raises ReadError where a process is killed from outside.
    """
    with shared(processes) as share:
        yield from share(work, tasks)


@contextmanager
def shared(processes: int, module: str | None = None) -> Iterator[Share]:
    """What shares tasks out as `share_out` does, as often as wanted, over processes that begin at once.
    module: what they import meanwhile, which takes a second or two; the caller has time for the same."""
    if processes < 2:
        yield here
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn"),
                             initializer=_begin_worker) as pool:
        # A pool begins a process for each task that finds none idle.
        for _ in range(processes):
            pool.submit(_import, module or __name__)
        try:
            yield lambda work, tasks: _as_finished(pool, work, iter(tasks), processes + WAITING)
        except BrokenProcessPool:
            raise ReadError("a process was ended from outside (out of memory?), needed all; give the "
                            "same command again, with fewer --processes in less memory") from None
        except Exception:
            pool.shutdown(cancel_futures=True)
            raise
        except BaseException:
            # A signal, or nobody wants the rest: what the processes are at is wanted no more.
            pool.shutdown(wait=False, cancel_futures=True)
            for process in active_children():
                process.kill()
            raise


def here(work: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[tuple[Task, Result]]:
    """`share_out` with one process."""
    for task in tasks:
        yield task, work(task)


def _as_finished(pool: ProcessPoolExecutor, work: Callable[[Task], Result], tasks: Iterator[Task],
                 at_a_time: int) -> Iterator[tuple[Task, Result]]:
    waiting: dict[Future, Task] = {}
    while True:
        while len(waiting) < at_a_time and (task := next(tasks, None)) is not None:
            waiting[pool.submit(work, task)] = task
        if not waiting:
            return
        for future in wait_for(waiting, return_when=FIRST_COMPLETED).done:
            yield waiting.pop(future), future.result()
