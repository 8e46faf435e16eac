"""Where files lie, by their names:

    /data/a.mp4                       on this machine; file:///data/a.mp4 is the same
    s3://bucket/set/a.mp4             behind an address: http, https, or what fsspec has a package for
    /data/000.tar/a.mp4               within a tar file, which counts as a folder
    https://host/set/000.tar/a.mp4    both

FFmpeg opens the first kind itself. The others are read by dcvc.video.sources.
"""

import hashlib
import os
import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

TAR = ".tar"
PathLike = str | os.PathLike
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_IN_TAR = re.compile(re.escape(TAR) + "/", re.IGNORECASE)


class Stamp(NamedTuple):
    """What tells whether a file is still the same. size: in bytes, mark: its time of change in
    nanoseconds, or of files behind an address a number made of their ETag or the like. -1: not
    known."""

    size: int = -1
    mark: int = -1


UNKNOWN = Stamp()


class Place(str):
    """A path or address, with what a listing or an index told of the file. stamp: of a file within
    a tar file, its own size and the tar file's mark. offset: where it begins in its tar file, -1:
    not known, or in none."""

    stamp: Stamp
    offset: int

    def __new__(cls, path: str, stamp: Stamp = UNKNOWN, offset: int = -1) -> "Place":
        place = super().__new__(cls, path)
        place.stamp, place.offset = stamp, offset
        return place


def mark_of(text: str) -> int:
    """An ETag or a date as a number that fits where an index has times of change."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def plain(path: str | os.PathLike) -> str:
    """The path as it is, file:///data/a.mp4 as /data/a.mp4."""
    path = os.fspath(path)
    # Addresses are written with escapes (%20), paths are not.
    if path[:7].lower() == "file://":
        return url2pathname(unquote(urlsplit(path).path))
    return path


def is_address(path: str | os.PathLike) -> bool:
    """Whether it is the address of something that may lie on another machine."""
    path = os.fspath(path)
    return bool(_ADDRESS.match(path)) and path[:7].lower() != "file://"


def split_tar(path: str) -> tuple[str, str] | None:
    """The tar file that a path leads into, and the rest; None where it leads into none."""
    for found in _IN_TAR.finditer(path):
        tar = path[: found.end() - 1]
        # A folder may be called so as well.
        if is_address(path) or os.path.isfile(tar):
            return tar, path[found.end():]
    return None


def read_by_ffmpeg(path: str | os.PathLike) -> bool:
    """Whether it is a file of this machine, in no tar file."""
    path = os.fspath(path)
    return not is_address(path) and split_tar(path) is None


def absolute(path: str | os.PathLike) -> str:
    """The same from any working directory. An address is that already."""
    path = plain(path)
    return path if is_address(path) else str(Path(path).resolve())


def stem_of(path: str | os.PathLike) -> str:
    """The file's name without its ending; of an address without its query."""
    path = os.fspath(path)
    return Path(unquote(urlsplit(path).path) if is_address(path) else path).stem
