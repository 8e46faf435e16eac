"""Folders searched with everything below them: the same files, in the same order, on every machine.

Linked folders are followed, and each real folder is visited once: the link `latest -> .` is no loop,
and what `b -> a` shows is not counted twice. Folders that are no links come first, so that a file
has its real path where it has one below the root:

    set/a/x.mp4    set/latest -> a    set/more -> /disk/more       a (x.mp4), then more; not latest
"""

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from dcvc.errors import MissingError


class Folder(NamedTuple):
    """files: their names, sorted, without hidden ones, which other systems leave behind (._im1.png).
    """

    path: str
    files: list[str]


def walk_folders(root: str | os.PathLike, closed: Sequence[str] = ()) -> Iterator[Folder]:
    """The root and every folder below it. closed: endings of folders that count as files: whoever
    calls one x.mp4 should hear of it. Raises MissingError for a folder that cannot be listed."""
    root, seen = os.fspath(root), set()
    links = [root]
    while links:
        # A link that leads to a folder with links of its own brings new ones.
        path = links.pop(0)
        for folder, found in _walk_real(path, tuple(closed), seen):
            links += found
            yield folder


def _walk_real(path: str, closed: tuple[str, ...],
               seen: set[tuple[int, int]]) -> Iterator[tuple[Folder, list[str]]]:
    """Each folder at and below `path` that is no link and was not seen, and the links in it."""
    try:
        status = os.stat(path)
        if (status.st_dev, status.st_ino) in seen:
            return
        seen.add((status.st_dev, status.st_ino))
        entries = sorted(os.scandir(path), key=lambda entry: entry.name)
    except OSError as error:
        raise MissingError(f"{path}: cannot list this folder ({error.strerror})") from None
    entries = [entry for entry in entries if not entry.name.startswith(".")]
    inner = [entry for entry in entries
             if not (closed and entry.name.lower().endswith(closed)) and _is_folder(entry)]
    names = {entry.name for entry in inner}
    links = [entry.path for entry in inner if entry.is_symlink()]
    yield Folder(path, [entry.name for entry in entries if entry.name not in names]), links
    for entry in inner:
        if not entry.is_symlink():
            yield from _walk_real(entry.path, closed, seen)


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:                           # a link that leads to itself: no folder, nor a file
        return False
