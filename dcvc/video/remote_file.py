"""A file behind an address: its bytes by place, through the cache, with patience.

    read(place) ─▶ block in the cache? ─ yes ─▶ its bytes
                        │ no
                        ▼
                   fetch it, check it, keep it ─ Interrupted ─▶ wait, and again, WAITS times
                                               └ for good ────▶ ReadError naming the address

FFmpeg reads through this and may take a failed read for the end of the file. Then a video would
seem to be shorter than it is. So for FFmpeg the file simply ends there (ReadForFFmpeg), the failure
is remembered, and whoever reads videos under `no_lost_reads` hears of it.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, TypeVar

from dcvc.errors import DcvcError, ReadError
from dcvc.files.http_answers import Interrupted
from dcvc.video.block_cache import Block, BlockCache
from dcvc.video.places import Stamp
from dcvc.video.remote_stores import BLOCK, block_length, store_of

# Seconds before each new try, on the average: a server that restarts is back by the last one.
WAITS = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
# Of its own: whoever seeds Python's generator wants its numbers for himself.
_random = random.Random()
_lost = threading.local()
Result = TypeVar("Result")


def patiently(url: str, attempt: Callable[[], Result]) -> Result:
    """What `attempt` gives, in several tries where it must be. Raises ReadError naming the address.
    """
    for wait in (*WAITS, None):
        try:
            return attempt()
        except Interrupted as error:
            if wait is None:
                raise ReadError(f"{url}: cannot be read, {len(WAITS) + 1} tries ({error})") from None
            # Between half and one and a half: of a hundred workers that a server turned away, not
            # all come back in the same moment.
            time.sleep(wait * (0.5 + _random.random()))
    raise AssertionError("the last try returns or raises")


@contextmanager
def no_lost_reads(close: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Raises the first failure to read in the block, in this thread, and not what came of it. close:
    called then, for a file that failed once fails at every later read."""
    outer, _lost.error = getattr(_lost, "error", None), None
    try:
        try:
            yield
        except Exception:
            if _lost.error is None:
                raise
        if _lost.error is not None:
            close()
            raise _lost.error from None
    finally:
        _lost.error = outer


def checked_reads(packets: Iterator[Result]) -> Iterator[Result]:
    """The same packets; raises a failure to read instead of what FFmpeg made of it."""
    while True:
        # Within the block nothing but this file is read.
        with no_lost_reads():
            packet = next(packets, None)
        if packet is None:
            return
        yield packet


class ReadForFFmpeg:
    """A file whose failures to read are told by no_lost_reads alone: of exceptions within its own
    reads FFmpeg keeps one, and prints the others."""

    def __init__(self, file: BinaryIO) -> None:
        self.name = file.name
        self.seek, self.tell, self._read = file.seek, file.tell, file.read

    def read(self, count: int) -> bytes:
        try:
            return self._read(count)
        except DcvcError as error:
            # The first one is what happened; those after it only say so again.
            _lost.error = getattr(_lost, "error", None) or error
            return b""


class RemoteFile:
    """The bytes of one state of a file. Raises MissingError, ReadError."""

    def __init__(self, url: str, stamp: Stamp) -> None:
        self.url, self.stamp = url, stamp
        self._store, self._cache = store_of(url), BlockCache.of_environment()
        self._name = self._cache.name_of(url, stamp)
        # The block read last: reads are small, and the next one is nearly always in it.
        self._number, self._block = -1, Block(b"")
        # After a failure, every further read fails at once: FFmpeg tries a few times.
        self._failure: DcvcError | None = None

    def read_at(self, place: int, count: int) -> bytes:
        """Up to `count` bytes, none behind the end; fewer at the end of a block."""
        # Not beyond the block: whoever reads asks again for the rest.
        number, start = divmod(place, BLOCK)
        if count <= 0 or place >= self.stamp.size:
            return b""
        try:
            if self._failure is not None:
                raise self._failure
            if number != self._number:
                self._block, self._number = self._at(number), number
            data = self._block.read(start, count)
            if not data:
                raise ReadError(f"{self.url}: a block in the cache has been cut; delete "
                                f"{self._cache.folder}")
            return data
        except DcvcError as error:
            self._failure = error
            raise

    def _at(self, number: int) -> Block:
        length = block_length(number, self.stamp.size)
        block = self._cache.open(self._name, number, length)
        if block is not None:
            return block
        with self._cache.fetching(self._name):
            # Another process may have been first.
            block = self._cache.open(self._name, number, length)
            return block or Block(patiently(self.url, lambda: self._fetch(number)))

    def _fetch(self, number: int) -> bytes:
        wanted = None
        # A server without ranges sends all blocks; none of them is thrown away.
        for came, data in self._store.fetch(self.url, number, self.stamp):
            self._cache.put(self._name, came, data)
            wanted = data if came == number else wanted
        if wanted is None:
            raise Interrupted(f"the answer has no byte from {number * BLOCK} on")
        return wanted
