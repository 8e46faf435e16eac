"""A file from the network, in several goes where it must be.

    partial.safetensors     what is here of it; it grows at its end only
    partial.json            {"url", "validator"}: which file the bytes are of. The validator is the
                            server's own name for this state of the file: its ETag or its date.

A connection that breaks is tried again, and a command that was killed continues where it stopped:

    GET, Range: bytes=1000-, If-Range: validator
        206   the rest of the same file                        -> goes behind what is here
        200   another file by now, or a server without ranges  -> starts anew
        416   nothing lies behind byte 1000                    -> all is here, or it starts anew

Whether the bytes are the right ones is not known here: whoever calls compares the SHA-256.
"""

import http.client
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dcvc.errors import MissingError, ReadError
from dcvc.files import refusal_named, write_text
from dcvc.files.http_answers import (
    Interrupted,
    content_range,
    length_of,
    open_url,
    reason_of,
)

TIMEOUT = 15.0                      # seconds without a byte
WAITS = (0.5, 1.0, 2.0)             # seconds before each new try
PIECE = 1 << 18
SMALL = 1 << 20                     # no card is larger

# (bytes here, bytes of the whole file where the server says how many)
Progress = Callable[[int, int | None], None]


def megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"


class PartialFile:
    """What is here of a file, and which file that is."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.note = path.with_suffix(".json")

    def known(self, url: str) -> tuple[int, str | None]:
        """How many bytes are here of the file at this address, and its validator. 0, None where
        they are of another file, or nobody could tell whether the rest belongs to them."""
        try:
            note = json.loads(self.note.read_text(encoding="utf-8"))
            if note["url"] == url and note["validator"]:
                return self.path.stat().st_size, note["validator"]
        except (OSError, ValueError, LookupError, TypeError):
            pass
        return 0, None

    def start(self, url: str, validator: str | None) -> None:
        """Forget what is here. The file is emptied before the note changes: bytes never lie under
        the note of another file, wherever a kill falls."""
        with refusal_named(self.path):
            self.path.write_bytes(b"")
        write_text(self.note, json.dumps({"url": url, "validator": validator}))

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


def download(url: str, partial: PartialFile, size: int | None, progress: Progress,
             tell: Callable[[str], None]) -> None:
    """Bring the file at `url` into `partial`, from where that stands.

    size: in bytes, where it is known beforehand. tell: is told of every new try. Raises ReadError
    or MissingError; what is here by then stays, and the next call continues.
    """
    for wait in (*WAITS, None):
        try:
            _bring(url, partial, size, progress)
            return
        except Interrupted as error:
            if wait is None:
                raise _given_up(url, partial, error) from None
            tell(f"{error}; trying again")
            time.sleep(wait)


def _given_up(url: str, partial: PartialFile, error: Interrupted) -> ReadError:
    here, _ = partial.known(url)
    if here == 0:
        return ReadError(f"{url}: cannot be read ({error}); is there a network, and "
                         "the address right?")
    return ReadError(f"{url}: {error}; {here} bytes are here, the same command continues")


def _bring(url: str, partial: PartialFile, size: int | None, progress: Progress) -> None:
    """One connection. Raises Interrupted where another may do better."""
    here, validator = partial.known(url)
    resume = {"Range": f"bytes={here}-", "If-Range": validator} if here else {}
    with open_url(url, resume, TIMEOUT) as answer:
        if resume and answer.status == 416:
            if content_range(answer).total == here:
                return
            partial.remove()
            raise Interrupted("the file on the server has become shorter")
        if resume and answer.status == 206:
            here, total = _rest_begins(answer, partial, here, validator)
        elif answer.status == 200:
            partial.start(url, _validator(answer))
            here, total = 0, length_of(answer)
        else:
            raise _refusal(url, answer)
        if size is not None and total not in (None, size):
            raise ReadError(f"{url}: found a file of {total} bytes, needed {size} by its card")
        total = size if total is None else total
        _check_room(url, partial.path, here, total)
        _copy(answer, partial.path, here, total, progress)


def _rest_begins(answer: Any, partial: PartialFile, here: int,
                 validator: str) -> tuple[int, int | None]:
    """Where the rest begins and how long the whole is. Some servers take Range and forget If-Range:
    their rest may be that of another file."""
    asked = content_range(answer)
    if asked.first != here or _validator(answer) not in (None, validator):
        partial.remove()
        raise Interrupted("the file on the server has changed")
    return here, asked.total


def _copy(answer: Any, path: Path, here: int, total: int | None, progress: Progress) -> None:
    # Unbuffered: what has come is in the file, whatever happens to this process next.
    with refusal_named(path):
        file = open(path, "ab", buffering=0)  # noqa: SIM115
    with file:
        progress(here, total)
        while True:
            try:
                # As much as has come: a read that waits for a full piece loses it at a timeout.
                piece = answer.read1(PIECE)
            except (OSError, http.client.HTTPException) as error:
                raise Interrupted(reason_of(error)) from None
            if not piece:
                break
            with refusal_named(path):
                rest = memoryview(piece)
                while rest:
                    rest = rest[file.write(rest):]
            here += len(piece)
            progress(here, total)
        with refusal_named(path):
            os.fsync(file.fileno())
    if total is not None and here < total:
        raise Interrupted(f"the connection ended after {here} of {total} bytes")


def _check_room(url: str, path: Path, here: int, total: int | None) -> None:
    free = shutil.disk_usage(path.parent).free
    if total is not None and total - here > free:
        raise ReadError(f"{url}: needs {megabytes(total - here)}, {path.parent.parent} has "
                        f"{megabytes(free)} left; free space or set DCVC_HOME to another place")


def read_small(url: str) -> bytes | None:
    """A small file, whole; None where the server has none or gives none. Raises ReadError where
    there is no server."""
    for wait in (*WAITS, None):
        try:
            with open_url(url, {}, TIMEOUT) as answer:
                if answer.status != 200:
                    return None
                try:
                    data = answer.read(SMALL + 1)
                except (OSError, http.client.HTTPException) as error:
                    raise Interrupted(reason_of(error)) from None
            if len(data) > SMALL:
                raise ReadError(f"{url}: found more than {megabytes(SMALL)}, needed a card")
            return data
        except Interrupted as error:
            if wait is None:
                raise ReadError(f"{url}: cannot be read ({error}); is there a network, and "
                                "the address right?") from None
            time.sleep(wait)
    return None


# ---- HTTP


def _refusal(url: str, answer: Any) -> Exception:
    if answer.status in (404, 410):
        return MissingError(f"{url}: the server has no such file (HTTP {answer.status})")
    reason = str(answer.reason).splitlines()[0] if answer.reason else ""
    return ReadError(f"{url}: the server does not give it (HTTP {answer.status} {reason})")


def _validator(answer: Any) -> str | None:
    """What If-Range takes: an ETag, unless it is a weak one (W/"…"), which stands for files that
    are alike and not the same; else the date."""
    etag = answer.headers.get("ETag")
    if etag and not etag.startswith("W/"):
        return etag
    return answer.headers.get("Last-Modified")
