"""Chains of work side by side: an item needs what came of the one before it in its own chain, and nothing of
other chains. A clip is such: a chain begins with each I-frame.

    items       I P P P I P P P I P ...        as they come
    lane 1      I P P P         I P ...        a thread that takes whole chains
    lane 2              I P P P
    results     I P P P I P P P I P ...        in order, as they went in

Lanes never wait for each other, as threads that share one frame do all the time. Where there are more
threads than chains, each chain has several of them, so the last one of a clip has them all.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Generic, TypeVar

import torch

from dcvc.device.workers import elsewhere, with_threads

Item = TypeVar("Item")
Result = TypeVar("Result")
_END = object()


@dataclass(frozen=True)
class Lanes:
    """count: how many chains at the same time; room: how many items, at most, may have come whose
    results were not given yet."""

    count: int
    room: int


@dataclass(frozen=True)
class _Failed:
    error: BaseException


def in_lanes(items: Iterable[Item], begins: Callable[[Item], bool],
             start: Callable[[], Callable[[Item], Result]], lanes: Lanes) -> Iterator[Result]:
    """What work makes of each item, in order; start() -> the work of a new chain; begins: whether an item
    is the first of a chain. What items or work raise comes after all results before it.

    Items are taken on the caller's thread, as early as there is room for them.
    """
    line, failure = _Line(lanes), None
    try:
        for item in _with_failure(items):
            if isinstance(item, _Failed):
                failure = item.error
                break
            if not line.chains or begins(item):
                line.begin(start())
            line.put(item)
            # What is there is given before the next item is taken, which may take long.
            while line.inside >= lanes.room or line.ready():
                yield line.next()
        while line.inside:
            yield line.next()
        if failure is not None:
            raise failure
    finally:
        line.stop()


def _with_failure(items: Iterable[Item]) -> Iterator[Item | _Failed]:
    """The items, and what ended them where that was an error."""
    try:
        yield from items
    except Exception as error:
        yield _Failed(error)


@dataclass
class _Chain(Generic[Item, Result]):
    """items: until _END; results: each one, or what its work raised; waiting: how many were not given."""

    work: Callable[[Item], Result]
    items: SimpleQueue = field(default_factory=SimpleQueue)
    results: SimpleQueue = field(default_factory=SimpleQueue)
    waiting: int = 0


class _Line:
    """Chains in order, and the threads that work on them. inside: how many results are to come."""

    def __init__(self, lanes: Lanes) -> None:
        self.chains: deque[_Chain] = deque()
        self.inside = 0
        self._threads, self._lock = torch.get_num_threads(), threading.Lock()
        self._running, self._stopped = 0, False
        self._pool = ThreadPoolExecutor(lanes.count, thread_name_prefix="lane")

    def begin(self, work: Callable[[Item], Result]) -> None:
        """A new chain; the one before has no more items. It waits for a free thread."""
        if self.chains:
            self.chains[-1].items.put(_END)
        self.chains.append(_Chain(work))
        self._pool.submit(elsewhere(self._run, self.chains[-1]))

    def put(self, item: Item) -> None:
        chain = self.chains[-1]
        chain.waiting += 1
        self.inside += 1
        chain.items.put(item)

    def ready(self) -> bool:
        """Whether the next result is there."""
        return self.inside > 0 and not self._first().results.empty()

    def next(self) -> Result:
        """The next result; waits for it, and raises what its work raised."""
        chain = self._first()
        result = chain.results.get()
        if isinstance(result, _Failed):
            raise result.error
        chain.waiting -= 1
        self.inside -= 1
        return result

    def stop(self) -> None:
        """Returns when each thread is done with the item that it has in hand."""
        self._stopped = True
        for chain in self.chains:
            chain.items.put(_END)
        self._pool.shutdown(cancel_futures=True)

    def _first(self) -> _Chain:
        """The oldest chain that has a result to give, or will have."""
        while not self.chains[0].waiting:
            self.chains.popleft()
        return self.chains[0]

    def _run(self, chain: _Chain) -> None:
        self._count(1)
        try:
            while (item := chain.items.get()) is not _END and not self._stopped:
                with with_threads(max(1, self._threads // self._running)):
                    chain.results.put(chain.work(item))
        except BaseException as error:
            chain.results.put(_Failed(error))
        finally:
            self._count(-1)

    def _count(self, change: int) -> None:
        with self._lock:
            self._running += change
