"""One request over HTTP, and what its answer says. For videos that are read and models that are
pulled.

What went wrong is told apart by what it means to the caller:

    Interrupted    the network or the server failed; the same request may succeed a little later
    an answer      everything else, refusals too: its `status` says which
"""

import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, NamedTuple

from dcvc.errors import ReadError

BUSY = (408, 425, 429)              # refusals that ask to come again


class Interrupted(Exception):
    """The network or the server failed; the same request may succeed a little later."""


class ContentRange(NamedTuple):
    """first, last: places of the bytes that the answer has. total: bytes of the whole file. None
    where it does not say."""

    first: int | None
    last: int | None
    total: int | None


def open_url(url: str, headers: Mapping[str, str], timeout: float, method: str = "GET") -> Any:
    """The server's answer, also where it refuses (an HTTPError is one). timeout: seconds without a
    byte. Raises Interrupted, ReadError for what is no URL."""
    # urllib's own opener would follow a redirect to ftp and open files: here are only these two.
    opener = urllib.request.OpenerDirector()
    for handler in (urllib.request.ProxyHandler, urllib.request.UnknownHandler,
                    urllib.request.HTTPHandler, urllib.request.HTTPSHandler,
                    urllib.request.HTTPDefaultErrorHandler, urllib.request.HTTPRedirectHandler,
                    urllib.request.HTTPErrorProcessor):
        opener.add_handler(handler())
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "dcvc", **headers},
                                         method=method)
        return opener.open(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code >= 500 or error.code in BUSY:
            error.close()
            raise Interrupted(f"HTTP {error.code} {reason_of(error)}") from None
        return error
    except http.client.InvalidURL as error:
        raise ReadError(f"{url}: no URL ({error})") from None
    except (OSError, http.client.HTTPException) as error:
        raise Interrupted(reason_of(error)) from None


def reason_of(error: Exception) -> str:
    """In one line, for a message."""
    reason = getattr(error, "reason", None) or error
    text = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
    return text.splitlines()[0]


def length_of(answer: Any) -> int | None:
    text = answer.headers.get("Content-Length") or ""
    return int(text) if text.isdecimal() else None


def content_range(answer: Any) -> ContentRange:
    """bytes 1000-4999/5000 -> 1000, 4999, 5000;  bytes */5000 -> None, None, 5000"""
    text = answer.headers.get("Content-Range") or ""
    found = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)", text)
    if not found:
        return ContentRange(None, None, None)
    return ContentRange(*(int(text) if text and text.isdecimal() else None
                          for text in found.groups()))
