"""Reading files wherever they lie (dcvc.video.places): is one there, its bytes, what is in a folder.

    open_file(path)   a file to read and seek in
    stamp_of(path)      what tells whether it is still the same
    files_below(path)   the files of an address, a folder there or a tar file

A file in a tar file is a part of it: the tar file is opened, and read from where that part begins.
Tar files that are compressed as a whole have no such places, and are refused.
"""

import functools
import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from typing import BinaryIO

from dcvc.errors import MissingError, ReadError
from dcvc.video.block_cache import BlockCache
from dcvc.video.places import TAR, UNKNOWN, Place, Stamp, is_address, plain, split_tar
from dcvc.video.remote_file import RemoteFile, patiently
from dcvc.video.remote_stores import store_of

_TAR_BLOCK = 512


class SourceFile(io.RawIOBase):
    """A part of something that is read by place, as a file. name: for messages, and for FFmpeg,
    which goes by its ending where the content tells little."""

    def __init__(self, name: str, size: int, read_at: Callable[[int, int], bytes],
                 begin: int = 0) -> None:
        super().__init__()
        self.name, self._size, self._read_at, self._begin = name, size, read_at, begin
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"seek: found {base + offset}, needed a place from 0 up")
        self._place = base + offset
        return self._place

    def read(self, count: int = -1) -> bytes:
        if count is None or count < 0:
            return self.readall()
        count = max(0, min(count, self._size - self._place))
        data = self._read_at(self._begin + self._place, count) if count else b""
        self._place += len(data)
        return data

    def readall(self) -> bytes:
        pieces = []
        while piece := self.read(1 << 20):
            pieces.append(piece)
        return b"".join(pieces)

    def readinto(self, buffer) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def open_file(path: str | os.PathLike) -> BinaryIO:
    """Raises MissingError, ReadError, InputError (a package is missing)."""
    path = plain(path)
    inside = split_tar(path)
    if inside is None:
        return _open_whole(path)
    tar, _ = inside
    place = path if isinstance(path, Place) and path.offset >= 0 else _place_in_tar(path, *inside)
    whole = _open_whole(tar)
    # Another tar file of this name has its files elsewhere: the bytes would be of any of them.
    if tar_mark(tar) != place.stamp.mark:
        raise ReadError(f"{path}: {tar} has changed since it was indexed; run `dcvc index` again")
    return SourceFile(path, place.stamp.size, _reads_of(whole), place.offset)


def tar_mark(tar: str) -> int:
    return _tar_stamp(tar, os.getpid()).mark if is_address(tar) else stamp_of(tar).mark


@functools.lru_cache(maxsize=4096)
def _tar_stamp(tar: str, process: int) -> Stamp:
    # Asked for once in a process: many files are read from one tar file, and what does not belong
    # to this stamp is refused with the first block.
    return stamp_of(tar)


def _open_whole(path: str) -> BinaryIO:
    """A file that is in no tar file."""
    if not is_address(path):
        try:
            return open(path, "rb")
        except FileNotFoundError:
            raise MissingError(f"{path}: no such file") from None
        except OSError as error:
            raise ReadError(f"{path}: cannot be read ({error.strerror})") from None
    # The index or the folder's listing may have told size and mark; else the server is asked.
    known = path.stamp if isinstance(path, Place) else UNKNOWN
    if known.size < 0:
        known = _tar_stamp(path, os.getpid()) if path.lower().endswith(TAR) else stamp_of(path)
    return SourceFile(path, known.size, RemoteFile(str(path), known).read_at)


def _reads_of(file: BinaryIO) -> Callable[[int, int], bytes]:
    if isinstance(file, SourceFile):
        def read_at(place: int, count: int) -> bytes:
            file.seek(place)
            return file.read(count)
    else:
        # By place: after a fork, processes share the file and its position.
        def read_at(place: int, count: int) -> bytes:
            return os.pread(file.fileno(), count, place)
    return read_at


def stamp_of(path: str | os.PathLike) -> Stamp:
    """As the file is now; a Place is believed. Raises as open_file."""
    path = plain(path)
    if isinstance(path, Place) and path.stamp.size >= 0:
        return path.stamp
    inside = split_tar(path)
    if inside is not None:
        return _place_in_tar(path, *inside).stamp
    if is_address(path):
        stamp = patiently(path, lambda: store_of(path).stamp(path))
        if stamp.size < 0:
            raise ReadError(f"{path}: the server does not tell the file's length")
        return stamp
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise MissingError(f"{path}: no such file") from None
    except OSError as error:
        raise ReadError(f"{path}: cannot open ({error.strerror})") from None
    return Stamp(status.st_size, status.st_mtime_ns)


def files_below(path: str) -> list[Place] | None:
    """The files below an address or in a tar file, sorted; None where it is neither a folder nor a
    tar file. Raises as open_file."""
    if path.lower().endswith(TAR):
        return tar_members(path)
    found = patiently(path, lambda: store_of(path).files(path))
    return found and sorted(found)


def tar_members(tar: str) -> list[Place]:
    """The files in a tar file, in its order. Kept with the blocks, for finding them is to read every
    part of the tar file. Raises ReadError for what is no tar file, or ends too early."""
    stamp = stamp_of(tar)
    cache = BlockCache.of_environment()
    name = cache.name_of(str(tar), stamp)
    kept = cache.open(name, "members")
    members = None
    if kept is not None:
        # What a machine that lost its power left is made anew.
        try:
            members = json.loads(kept.read(0, 1 << 31))
        except ValueError:
            members = None
    if members is None:
        members = list(_scanned(tar, stamp))
        cache.put(name, "members", json.dumps(members).encode())
    return [Place(f"{tar}/{name}", Stamp(size, stamp.mark), offset)
            for name, offset, size in members]


def _scanned(tar: str, stamp: Stamp) -> Iterator[tuple[str, int, int]]:
    """(name, where its bytes begin, how many) of each file."""
    try:
        with open_file(tar) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                # Folders, links, and files with holes, which have no bytes of their own in a row.
                if not member.isreg() or member.sparse or _is_hidden(member.name):
                    continue
                yield member.name.removeprefix("./"), member.offset_data, member.size
            # tarfile takes a header that is cut for the end.
            file.seek(archive.offset)
            end = file.read(_TAR_BLOCK)
    except tarfile.TarError as error:
        raise ReadError(f"{tar}: cannot be read as a tar file ({error}); needed one that is not "
                        "compressed") from None
    if end and end != bytes(_TAR_BLOCK):
        raise ReadError(f"{tar}: ends in the middle of a file, at {stamp.size} bytes")


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.removeprefix("./").split("/"))


def _place_in_tar(path: str, tar: str, name: str) -> Place:
    # Only for a path that nobody listed; those of an index know their places.
    for place in _members(tar, tar_mark(tar), os.getpid()):
        if place == path:
            return place
    raise MissingError(f"{path}: no such file in {tar}")


@functools.lru_cache(maxsize=16)
def _members(tar: str, mark: int, process: int) -> list[Place]:
    return tar_members(tar)


def exists(path: str | os.PathLike) -> bool:
    """Raises ReadError where an address does not answer."""
    path = plain(path)
    if not is_address(path) and split_tar(path) is None:
        return os.path.exists(path)
    try:
        stamp_of(path)
    except MissingError:
        return False
    return True
