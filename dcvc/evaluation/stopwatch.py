"""Seconds of an encoder or a decoder alone, without what is measured between its frames."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


class Stopwatch:
    """Runs only while the work handed to it is done.

        watch = Stopwatch()
        for frame in watch.through(codec.decode(stream)):    # runs while the next frame is decoded
            compare(frame)                                   # stands still here
        payload = watch.call(codec.compress, x)              # runs on
    """

    def __init__(self) -> None:
        self.seconds = 0.0

    def call(self, work: Callable[..., T], *arguments: Any) -> T:
        began = time.perf_counter()
        result = work(*arguments)
        self.seconds += time.perf_counter() - began
        return result

    def through(self, items: Iterable[T]) -> Iterator[T]:
        iterator, end = iter(items), object()
        while (item := self.call(next, iterator, end)) is not end:
            yield item
