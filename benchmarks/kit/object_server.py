"""A web server on loopback: files with ranges, folders as pages of links, a bucket as S3 lists it, and
every way in which servers and networks fail."""

import hashlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

# What may be wrong with an answer. Those of the second line are answers to HEAD as well.
FAULTS = ("cut", "stall", "slow", "short range", "shifted range", "short body", "long length", "wrong total",
          "page", "other etag", "reset", "no answer", "garbage", "500", "503", "429", "wrong length")


@dataclass
class ObjectServer:
    """files: path ("/a.mp4") -> bytes. The rest is how it behaves; all may change while it runs."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    etags: bool = True
    ranges: bool = True
    pages: bool = True             # False: folders are no pages, as in a bucket
    fault: str = ""
    skip: int = 0                  # answers of files before the fault
    times: int = 0                 # how often the fault comes; -1: for ever
    given: int = 0                 # how often it came
    silence: float = 1.0           # seconds of a stall
    log: list[tuple[str, str, str | None]] = field(default_factory=list)        # (method, path, its range)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fail(self, fault: str, skip: int = 0, times: int = -1) -> None:
        with self.lock:
            self.fault, self.skip, self.times, self.given = fault, skip, times, 0

    def next_fault(self) -> str:
        """Of the answer that is to be given."""
        with self.lock:
            if self.skip:
                self.skip -= 1
                return ""
            if not self.times:
                return ""
            self.times -= 1
            self.given += 1
            return self.fault

    def etag(self, path: str) -> str:
        return f'"{hashlib.sha256(self.files[path]).hexdigest()[:16]}"' if self.etags else ""


class Handler(BaseHTTPRequestHandler):
    house: ObjectServer

    def log_message(self, *args) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        house, asked = self.house, urlsplit(self.path)
        path = unquote(asked.path)
        house.log.append((self.command, path, self.headers.get("Range")))
        if "list-type" in parse_qs(asked.query):
            self._text(self._bucket(path.strip("/"), parse_qs(asked.query)), "application/xml", body)
        elif path in house.files:
            self._file(path, house.files[path], house.next_fault(), body)
        elif house.pages and path.endswith("/") and any(name.startswith(path) for name in house.files):
            self._text(self._page(path), "text/html", body)
        elif house.pages and any(name.startswith(path + "/") for name in house.files):
            self.send_response(301)
            self.send_header("Location", asked.path + "/")
            self.end_headers()
        else:
            self.send_error(404)

    def _page(self, path: str) -> str:
        below = {name[len(path):] for name in self.house.files if name.startswith(path)}
        names = sorted({name.split("/")[0] + ("/" if "/" in name else "") for name in below})
        links = "".join(f'<a href="{quote(name)}">{escape(name)}</a>' for name in names)
        return f'<a href="../">up</a><a href="?C=S;O=A">by size</a>{links}'

    def _bucket(self, bucket: str, query: dict[str, list[str]]) -> str:
        """What ListObjectsV2 gives, in one page."""
        prefix, delimiter = query.get("prefix", [""])[0], query.get("delimiter", [""])[0]
        keys = [path[len(bucket) + 2:] for path in sorted(self.house.files) if path.startswith(f"/{bucket}/")]
        keys = [key for key in keys if key.startswith(prefix)]
        common = {prefix + key[len(prefix):].split(delimiter)[0] + delimiter for key in keys
                  if delimiter and delimiter in key[len(prefix):]}
        contents = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified>"
            f"<ETag>{escape(self.house.etag(f'/{bucket}/{key}'))}</ETag>"
            f"<Size>{len(self.house.files[f'/{bucket}/{key}'])}</Size></Contents>"
            for key in keys if not any(key.startswith(one) for one in common))
        folders = "".join(f"<CommonPrefixes><Prefix>{escape(one)}</Prefix></CommonPrefixes>" for one in sorted(common))
        return ('<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
                f"<Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{len(keys)}</KeyCount>"
                f"<IsTruncated>false</IsTruncated>{contents}{folders}</ListBucketResult>")

    def _text(self, text: str, kind: str, body: bool) -> None:
        data = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)

    def _file(self, path: str, data: bytes, fault: str, body: bool) -> None:
        house = self.house
        if self._refuses(fault):
            return
        begin, end, status = 0, len(data), 200
        if house.ranges and self.headers.get("Range"):
            first, last = self.headers["Range"].removeprefix("bytes=").split("-")
            begin, end, status = int(first), min(int(last) + 1, len(data)), 206
        # What it says it has, and what it sends.
        said_begin, said_end, total, part = begin, end, len(data), data[begin:end]
        half = max(1, (end - begin) // 2)
        if fault == "short range":
            said_end, part = begin + half, part[:half]
        elif fault == "shifted range":
            said_begin, said_end = begin + 1, end + 1
            part = data[said_begin:said_end]
        elif fault == "wrong total":
            total += 100
        length = len(part)
        if fault == "short body":
            part, length = part[:half], half
        elif fault == "long length":
            length += 50
        elif fault == "wrong length":
            length = length + 100 if not body else length - 1
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {said_begin}-{said_end - 1}/{total}")
        self.send_header("Content-Length", str(length))
        if house.etags:
            self.send_header("ETag", '"another"' if fault == "other etag" else house.etag(path))
        self.end_headers()
        if body:
            self._send(part[:length], fault, half)

    def _refuses(self, fault: str) -> bool:
        """Answers that are none of a file."""
        if fault in ("500", "503", "429"):
            self.send_error(int(fault))
        elif fault == "page":
            self._text("<html>Please sign in.</html>", "text/html", True)
        elif fault == "garbage":
            self.wfile.write(b"\x00\x01 what is this?\r\n\r\n")
        elif fault not in ("no answer", "reset"):
            return False
        if fault == "reset":
            # Without lingering, closing is a reset.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        return True

    def _send(self, part: bytes, fault: str, half: int) -> None:
        if fault in ("cut", "stall", "slow"):
            self.wfile.write(part[:half])
            self.wfile.flush()
            if fault == "stall":
                time.sleep(self.house.silence)
            for byte in part[half: half + 30] if fault == "slow" else ():
                time.sleep(self.house.silence / 10)
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
            return
        self.wfile.write(part)


class QuietServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, client_address) -> None:
        """A client that goes in the middle is what some tests are about."""


@contextmanager
def serving(**settings) -> Iterator[ObjectServer]:
    house = ObjectServer(**settings)
    handler = type("HandlerOfTest", (Handler,), {"house": house})
    server = QuietServer(("127.0.0.1", 0), handler)
    house.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield house
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
