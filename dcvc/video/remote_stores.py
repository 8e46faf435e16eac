"""What lies behind an address: is it there, which files are below it, and the bytes of a block.

    http, https      by Python's own client, which shows what must be checked: the answer's status,
                     the range that it has, the length of the whole file, its ETag. Folders are
                     pages with links, as web servers make them.
    s3, gs, hf, …    by fsspec and its package for that kind of address. The file's size and ETag
                     are asked again after each block, which fsspec does not tell with it.

Files are fetched in blocks of BLOCK bytes. Nothing is tried again here: whatever may go better a
little later is an Interrupted, also an answer that is not what was asked for.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from typing import Any, Protocol
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from dcvc.errors import DcvcError, InputError, MissingError, ReadError
from dcvc.files.http_answers import (
    Interrupted,
    content_range,
    length_of,
    open_url,
    reason_of,
)
from dcvc.video.places import Place, Stamp, is_address, mark_of

BLOCK = 1 << 20
TIMEOUT = 15.0          # seconds without a byte
BLOCK_SECONDS = 60.0    # a server that sends a byte now and then is not waited for any longer
PIECE = 1 << 18
# Bytes of a page of links; folders of folders.
LARGEST_PAGE, DEEPEST = 1 << 26, 32
# What packages for fsspec call the name of one state of a file, the best first.
_MARKS = ("ETag", "etag", "blob_id", "generation", "md5Hash", "mtime", "LastModified",
          "last_modified", "created")


class Store(Protocol):
    """All raise Interrupted, MissingError, ReadError, and InputError where a package is missing."""

    def stamp(self, url: str) -> Stamp: ...

    def fetch(self, url: str, number: int, stamp: Stamp) -> Iterator[tuple[int, bytes]]:
        """Block `number`, with its number; perhaps others before and after it. stamp: of the file
        that is meant; any other is refused."""

    def files(self, url: str) -> list[Place] | None:
        """The files below it, without hidden ones; None where it is no folder."""


def store_of(url: str) -> Store:
    return HttpStore() if url[:5].lower() == "http:" or url[:6].lower() == "https:" else FsspecStore()


def block_length(number: int, size: int) -> int:
    return min(BLOCK, size - number * BLOCK)


def _other_file() -> Interrupted:
    return Interrupted("found another state of the file than was indexed; if it was replaced, run "
                       "`dcvc index` again")


class HttpStore:
    """See the top."""

    def stamp(self, url: str) -> Stamp:
        with _asked(url, "HEAD", {}) as answer:
            if answer.status in (200, 206) and length_of(answer) is not None:
                return Stamp(length_of(answer), _mark(answer))
            missing = answer.status in (404, 410)
        # Some servers take no HEAD, or tell no length there. The first byte's range tells it.
        with _asked(url, "GET", {"Range": "bytes=0-0"}) as answer:
            total = content_range(answer).total if answer.status == 206 else length_of(answer)
            if missing or answer.status not in (200, 206):
                raise _refusal(url, answer)
            if total is None:
                raise Interrupted("the server does not tell the file's length")
            return Stamp(total, _mark(answer))

    def fetch(self, url: str, number: int, stamp: Stamp) -> Iterator[tuple[int, bytes]]:
        first, length = number * BLOCK, block_length(number, stamp.size)
        with _asked(url, "GET", {"Range": f"bytes={first}-{first + length - 1}"}) as answer:
            # 416: the file is shorter than it was. Its range says so below.
            if answer.status not in (200, 206, 416):
                raise _refusal(url, answer)
            # Some servers tell the ETag only now and then.
            if -1 not in (stamp.mark, _mark(answer)) and stamp.mark != _mark(answer):
                raise _other_file()
            if answer.status == 200:
                yield from _whole_file(answer, stamp)
                return
            found = content_range(answer)
            if found.total not in (None, stamp.size):
                raise _other_file()
            if (found.first, found.last) != (first, first + length - 1):
                raise Interrupted(f"asked for bytes {first}-{first + length - 1}, the answer has "
                                  f"{found.first}-{found.last}")
            if length_of(answer) not in (None, length):
                raise Interrupted(f"the answer's length is {length_of(answer)}, needed {length}")
            yield number, _exactly(answer, length)

    def files(self, url: str) -> list[Place] | None:
        if not urlsplit(url).path.endswith("/"):
            with _asked(url, "HEAD", {}) as answer:
                # A page there that is no folder of this name would be one of another program.
                if not answer.url.endswith("/") or not _is_page(answer):
                    return None
            url += "/"
        # Folders whose pages are still to be read. Links of a page lead downwards only, but a
        # program that makes pages could make them for ever.
        found, waiting, seen = [], [(url, 0)], set()
        while waiting:
            folder, depth = waiting.pop()
            seen.add(folder)
            for link in _links(folder):
                inner = link.endswith("/")
                if inner and link not in seen and depth < DEEPEST:
                    waiting.append((link, depth + 1))
                elif not inner:
                    found.append(Place(link))
        return found


class FsspecStore:
    """See the top."""

    def stamp(self, url: str) -> Stamp:
        with _fsspec_named(url) as (system, path):
            return _stamp(system.info(path))

    def fetch(self, url: str, number: int, stamp: Stamp) -> Iterator[tuple[int, bytes]]:
        first, length = number * BLOCK, block_length(number, stamp.size)
        with _fsspec_named(url) as (system, path):
            data = system.cat_file(path, start=first, end=first + length)
            # Afterwards: had it been replaced before or while it was read, this would tell.
            if _stamp(system.info(path)) != stamp:
                raise _other_file()
        if len(data) != length:
            raise Interrupted(f"asked for {length} bytes from {first} on, found {len(data)}")
        yield number, data

    def files(self, url: str) -> list[Place] | None:
        with _fsspec_named(url) as (system, path):
            if system.info(path)["type"] != "directory":
                return None
            inside = system.find(path, detail=True)
            # Only what is below the folder may be hidden, not the way to it.
            below = len(path.rstrip("/")) + 1
            return [Place(system.unstrip_protocol(name), _stamp(info))
                    for name, info in inside.items() if not _hidden(name[below:])]


def _hidden(path: str) -> bool:
    return any(part.startswith(".") for part in path.split("/"))


def _stamp(info: dict) -> Stamp:
    mark = next((info[name] for name in _MARKS if info.get(name)), None)
    # Some packages tell a time in seconds in a listing, and as a date of a single file.
    mark = mark.timestamp() if hasattr(mark, "timestamp") else mark
    return Stamp(-1 if info["size"] is None else info["size"],
                 -1 if mark is None else mark_of(str(mark)))


@contextmanager
def _fsspec_named(url: str) -> Iterator[tuple[Any, str]]:
    """The file system and the path in it. Its errors become ours."""
    try:
        import fsspec

        # Without a cache of listings, which would show a file as it was; and asked for each time,
        # for a system that was opened before a fork does not work in the new process.
        yield fsspec.core.url_to_fs(url, use_listings_cache=False)
    except (DcvcError, Interrupted):
        raise
    except FileNotFoundError:
        raise MissingError(f"{url}: no such file or folder there") from None
    except PermissionError as error:
        raise ReadError(f"{url}: reading is not permitted ({reason_of(error)})") from None
    except ImportError as error:
        raise InputError(f"{url}: found no package for such addresses ({error}); "
                         "pip install 'dcvc[remote]' brings that for s3://") from None
    except Exception as error:
        # Whatever else the packages raise; each has errors of its own.
        # What no repetition will change is told at once.
        if isinstance(error, ValueError) and "rotocol" in str(error):
            raise InputError(f"{url}: found an unknown kind of address ({error})") from None
        if "redential" in type(error).__name__:
            raise ReadError(f"{url}: cannot be read ({reason_of(error)})") from None
        raise Interrupted(reason_of(error)) from None


# ---- HTTP


@contextmanager
def _asked(url: str, method: str, headers: dict[str, str]) -> Iterator[Any]:
    # A packed answer has another length, and ranges of it would be of no use.
    with open_url(url, {"Accept-Encoding": "identity", **headers}, TIMEOUT, method) as answer:
        yield answer


def _refusal(url: str, answer: Any) -> DcvcError:
    if answer.status in (404, 410):
        return MissingError(f"{url}: the server has no such file (HTTP {answer.status})")
    return ReadError(f"{url}: the server does not give it (HTTP {answer.status} "
                     f"{reason_of(answer) if isinstance(answer, Exception) else answer.reason})")


def _mark(answer: Any) -> int:
    text = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
    return mark_of(text) if text else -1


def _whole_file(answer: Any, stamp: Stamp) -> Iterator[tuple[int, bytes]]:
    """All blocks, from a server that knows no ranges: of what it has sent, nothing is asked for
    again."""
    if length_of(answer) not in (None, stamp.size):
        raise _other_file()
    for number in range(-(-stamp.size // BLOCK)):
        yield number, _exactly(answer, block_length(number, stamp.size))


def _exactly(answer: Any, length: int) -> bytes:
    pieces, left, end = [], length, time.monotonic() + BLOCK_SECONDS
    while left:
        try:
            # As much as has come: so a slow server is noticed.
            piece = answer.read1(min(PIECE, left))
        except Exception as error:
            # Timeouts, connections that end, and lengths of parts that are no numbers.
            raise Interrupted(reason_of(error)) from None
        if not piece:
            raise Interrupted(f"the connection ended after {length - left} of {length} bytes")
        if time.monotonic() > end:
            raise Interrupted(f"the server sent less than {length} bytes in {BLOCK_SECONDS:g} s")
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def _is_page(answer: Any) -> bool:
    return (answer.headers.get("Content-Type") or "").startswith("text/html")


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if (tag, name) == ("a", "href") and value]


def _links(folder: str) -> list[str]:
    """What a page links to right below itself. Upwards, elsewhere and sorted otherwise lead links
    that every such page has."""
    with _asked(folder, "GET", {}) as answer:
        if answer.status != 200:
            raise _refusal(folder, answer)
        if not _is_page(answer):
            raise ReadError(f"{folder}: found no page of links, needed the server's list of this "
                            "folder, a .txt list of addresses, or an index")
        length, data = length_of(answer), b""
        # Pages are often made while they are sent, and nobody knows their length beforehand.
        if length is None or length > LARGEST_PAGE:
            data = answer.read(LARGEST_PAGE)
        else:
            data = _exactly(answer, length)
    parser = _Links()
    parser.feed(data.decode("utf-8", "replace"))
    found = {}
    for link in parser.found:
        target = urldefrag(urljoin(folder, link)).url
        rest = target[len(folder):]
        # One level down, so that each folder is seen once, by its own page.
        if not target.startswith(folder) or not is_address(target) or "?" in rest:
            continue
        inner = rest.removesuffix("/")
        if inner and "/" not in inner and not unquote(inner).startswith("."):
            found[target] = None
    return list(found)
