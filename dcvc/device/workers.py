"""Threads that share the work of one frame.

    share(work, items)   work(item) for each, on as many threads as torch computes with
    for_pixels(count)    inside, one thread where a second is not worth it
    apart(work, items)   work(item) for each, all at the same time, one thread each and nothing shared
    beside(work)         work() on a thread of its own, while the caller goes on
    in_turn(a, b)        a(), then b() on a thread of their own
    behind(work)         an item is worked on while the caller makes the next one
    ahead(items)         the next item is made while the caller works with this one

Torch shares each of its operations between threads, which meet at its end. A frame of a light codec
is thousands of short ones: threads wait for each other longer than they compute, and on a busy
machine much longer. Here a thread takes a whole band of a picture through several operations, and
torch computes with one thread in each (`single`). Bands are cut without regard to the number of
threads, so results do not depend on it.

Loops compiled by Numba and operations of torch leave Python's lock to the other threads.
"""

import contextvars
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

from dcvc.device import computing_threads

Item = TypeVar("Item")
Result = TypeVar("Result")
# One of these may wait for another.
LARGEST_BESIDE = 8
# With so many pixels a second thread gains nothing. With light-s on two cores a frame of 320x180 took
# 40 ms on one thread and 46 on two, one of 640x360 92 and 82: of a small one, operations are shorter
# than handing Python's lock over.
NOT_WORTH_SHARING = 320 * 192
# How many threads torch computed with before `single`.
_COUNT = contextvars.ContextVar("workers", default=None)


@contextmanager
def single() -> Iterator[None]:
    """Inside, torch computes with one thread, and `share` with as many as torch did before."""
    before = _COUNT.set(_COUNT.get() or torch.get_num_threads())
    try:
        with computing_threads(1):
            yield
    finally:
        _COUNT.reset(before)


@contextmanager
def for_pixels(pixels: int) -> Iterator[None]:
    """Inside, `share` and `beside` keep to the caller's thread where the pixels, of all pictures of a
    batch, are few."""
    with with_threads(1 if pixels <= NOT_WORTH_SHARING else _COUNT.get() or torch.get_num_threads()):
        yield


@contextmanager
def with_threads(count: int) -> Iterator[None]:
    """Inside, `share` and `beside` work with so many."""
    before = _COUNT.set(count)
    try:
        yield
    finally:
        _COUNT.reset(before)


@functools.lru_cache(maxsize=32)
def _pool(name: str, count: int, process: int) -> ThreadPoolExecutor:
    # process: threads do not live on in a forked process, which needs a pool of its own.
    return ThreadPoolExecutor(count, thread_name_prefix=name)


def elsewhere(work: Callable[..., Item], *arguments: object) -> Callable[[], Item]:
    """work for another thread, with all that holds here: what is packed, and whether there are
    gradients, which torch tells each thread by itself."""
    context, gradients = contextvars.copy_context(), torch.is_grad_enabled()

    def run() -> Item:
        with torch.set_grad_enabled(gradients):
            return context.run(work, *arguments)

    return run


def share(work: Callable[[Item], object], items: Iterable[Item]) -> None:
    """The order is any, and so is the thread: work writes to places of its own."""
    items = list(items)
    helpers = min(_COUNT.get() or torch.get_num_threads(), len(items)) - 1
    # A list's iterator is safe to take from on several threads.
    remaining = iter(items)

    def take() -> None:
        for item in remaining:
            work(item)

    started = [_pool("share", helpers, os.getpid()).submit(elsewhere(take)) for _ in range(helpers)]
    elsewhere(take)()
    for future in started:
        # One that did not begin yet has nothing left to do.
        if not future.cancel():
            future.result()


def apart(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """work(item) of every item in their order. Each has a thread, on which torch and `share` compute with
    that thread alone."""
    def alone(item: Item) -> Result:
        if torch.get_num_threads() != 1:
            # Of this thread, which serves nothing else.
            torch.set_num_threads(1)
        with with_threads(1):
            return work(item)

    with single():
        pool = _pool("apart", max(1, len(items) - 1), os.getpid())
        others = [pool.submit(elsewhere(alone, item)) for item in items[1:]]
        first = alone(items[0])
        return [first, *(other.result() for other in others)]


def beside(work: Callable[..., Item], *arguments: object) -> "Future[Item]":
    """Its `result()` waits, and raises what work raised. With one thread, work is done at once."""
    if (_COUNT.get() or torch.get_num_threads()) > 1:
        return _pool("beside", LARGEST_BESIDE, os.getpid()).submit(elsewhere(work, *arguments))
    return at_once(work, *arguments)


def in_turn(*works: Callable[[], object]) -> "list[Future]":
    """All of them on one thread beside the caller's, one after the other, and none of it shared: what the
    caller does meanwhile is what others wait for. Each `result()` waits for its own."""
    futures = [Future() for _ in works]

    def run() -> None:
        with with_threads(1):
            for future, work in zip(futures, works, strict=True):
                try:
                    future.set_result(work())
                except BaseException as error:
                    future.set_exception(error)

    beside(run)
    return futures


def at_once(work: Callable[..., Item], *arguments: object) -> "Future[Item]":
    """`beside` without another thread."""
    future = Future()
    future.set_result(work(*arguments))
    return future


def ahead(items: Iterable[Item]) -> Iterator[Item]:
    """The same items, each made by another thread while the caller works with the one before."""
    iterator, end = iter(items), object()
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        coming = pool.submit(next, iterator, end)
        while (item := coming.result()) is not end:
            coming = pool.submit(next, iterator, end)
            yield item


@contextmanager
def behind(work: Callable[[Item], object]) -> Iterator[Callable[[Item], None]]:
    """Gives what has another thread do work(item), and waits only for the item before. What work
    raises comes with the next item, or at the end."""
    with ThreadPoolExecutor(1, thread_name_prefix="behind") as pool:
        last: list[Future] = []

        def put(item: Item) -> None:
            if last:
                last.pop().result()
            last.append(pool.submit(work, item))

        yield put
        if last:
            last.pop().result()
