"""Blocks of files from elsewhere, kept in a folder of this machine up to a limit.

    FOLDER/3f/3f09…-12     block 12 of one state of one file: its name is made of the address and the
                           file's ETag (dcvc.video.places.Stamp), so that a file that was replaced
                           never meets the blocks of its predecessor
    FOLDER/locks/3f0       held while a block with this beginning is fetched: of several processes
                           that need it, one fetches it and the others find it
    FOLDER/locks/total     how many bytes all blocks have, read and written while it is held

A block is written under another name and renamed, so that whoever finds it finds it whole. Where
the next one would exceed the limit, the blocks that were not used for the longest time are removed,
until a tenth of the limit is free. A process that just opened one reads on: the system removes a
file when nobody has it open. Where the folder cannot be written, nothing is kept, and reading goes
on.

The folder is DCVC_BLOCK_CACHE (--cache_dir), the limit DCVC_BLOCK_CACHE_GB (--cache_gb).
"""

import hashlib
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dcvc.errors import InputError
from dcvc.files import fcntl, home_cache
from dcvc.video.places import Stamp

FOLDER, LIMIT = "DCVC_BLOCK_CACHE", "DCVC_BLOCK_CACHE_GB"
DEFAULT_GB = 10.0
# Of the limit, what is free after blocks were removed: looking for old ones takes a while.
_FREED = 0.1
# Seconds. When a block was used last is only noted so often.
_NOTED_EVERY = 30.0
log = logging.getLogger("dcvc.video")


class Block:
    """Bytes of a file: in memory, or in a file that is open, which may be removed meanwhile."""

    def __init__(self, data: bytes | None = None, handle: int = -1) -> None:
        self._data, self._handle = data, handle

    def read(self, start: int, count: int) -> bytes:
        if self._data is not None:
            return self._data[start: start + count]
        return os.pread(self._handle, count, start)

    def __del__(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)


class BlockCache:
    """See the top. limit: in bytes."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        # Of a folder that cannot be written, one line is told.
        self._works = True

    @classmethod
    def of_environment(cls) -> "BlockCache":
        text = os.environ.get(LIMIT) or str(DEFAULT_GB)
        try:
            gigabytes = float(text)
        except ValueError:
            gigabytes = -1.0
        if not 0 <= gigabytes < 1e9:
            raise InputError(f"{LIMIT}: found {text!r}, needed a number of gigabytes from 0 up")
        # Read each time: a worker process has what the command that started it was told.
        base = os.environ.get(FOLDER)
        if not base:
            own = os.environ.get("DCVC_CACHE") or home_cache()
            base = os.path.join(own, "blocks")
        return cls(Path(base), int(gigabytes * 1e9))

    def name_of(self, url: str, stamp: Stamp) -> str:
        """The beginning of the names of a file's blocks."""
        text = f"{url}\0{stamp.size}\0{stamp.mark}"
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:40]

    def _path(self, name: str, number: int | str) -> Path:
        return self.folder / name[:2] / f"{name}-{number}"

    def open(self, name: str, number: int | str, length: int | None = None) -> Block | None:
        """None where it is not here, or has another length (a machine that lost its power)."""
        try:
            handle = os.open(self._path(name, number), os.O_RDONLY)
        except OSError:
            return None
        # From here on the block closes it, whatever comes next.
        block = Block(handle=handle)
        status = os.fstat(handle)
        if length not in (None, status.st_size) or not status.st_size:
            return None
        if time.time() - status.st_mtime > _NOTED_EVERY:
            with suppress(OSError):
                os.utime(handle)
        return block

    @contextmanager
    def fetching(self, name: str) -> Iterator[None]:
        """Alone with the blocks of this file, as far as the folder allows that."""
        with self._held(name[:3]):
            yield

    def put(self, name: str, number: int | str, data: bytes) -> None:
        """Keep a block, unless the folder refuses."""
        if not self._works or len(data) > self.limit:
            return
        path = self._path(name, number)
        # Hidden, so that nobody takes it for a block; counted and removed like one after a kill.
        partial = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Counted first: after a kill in between, too much is counted, which the next search for
            # old blocks puts right.
            self._count(len(data))
            partial.write_bytes(data)
            os.replace(partial, path)
        except OSError as error:
            self._works = False
            log.warning("%s: cannot be written (%s); what is read from elsewhere is not kept",
                        self.folder, error.strerror)
            with suppress(OSError):
                partial.unlink()

    def _count(self, more: int) -> None:
        """`more` bytes will be written: make room, and note the new total."""
        with self._held("total") as file:
            # In a new folder there is no number yet. Then, and without locks, all are counted.
            text = os.pread(file, 32, 0) if file >= 0 else b""
            total = int(text) if text.isdigit() else self.limit
            if total + more > self.limit:
                total = self._make_room(more)
            # Always as long as before, so that nothing of the old number is left behind it.
            if file >= 0:
                os.pwrite(file, b"%032d" % (total + more), 0)

    def _make_room(self, more: int) -> int:
        """Remove old blocks, if they and `more` are beyond the limit. How many bytes there are."""
        found = []
        for folder in (entry.path for entry in os.scandir(self.folder) if len(entry.name) == 2):
            for entry in os.scandir(folder):
                # Other processes replace and remove them at the same time.
                with suppress(OSError):
                    status = entry.stat()
                    found.append((status.st_mtime, status.st_size, entry.path))
        total = sum(size for _, size, _ in found)
        if total + more <= self.limit:
            return total
        # By the time of the last use, the oldest first.
        for _, size, path in sorted(found):
            if total + more <= self.limit * (1 - _FREED):
                break
            with suppress(OSError):
                os.unlink(path)
            total -= size
        return total

    @contextmanager
    def _held(self, name: str) -> Iterator[int]:
        """The handle of this lock's file, held; -1 where there are no locks: then a block may be
        fetched twice, and the total is counted anew at each one."""
        handle = -1
        try:
            folder = self.folder / "locks"
            folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o666)
            # Not lockf: that holds off other processes only, and threads need blocks, too.
            fcntl.flock(handle, fcntl.LOCK_EX)
        except (OSError, AttributeError):
            handle = _closed(handle)
        try:
            yield handle
        finally:
            if handle >= 0:
                # Not by closing alone: a process forked meanwhile has it open, too.
                fcntl.flock(handle, fcntl.LOCK_UN)
            _closed(handle)


def _closed(handle: int) -> int:
    if handle >= 0:
        os.close(handle)
    return -1
