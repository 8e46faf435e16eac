"""A web server on loopback for one test: files from a dictionary, with the bad habits that servers have."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Server:
    """files: path -> bytes. The rest is how it behaves; all may change while it runs."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    etag: str | None = '"one"'
    ranges: bool = True
    if_range: bool = True                      # False: takes Range whatever If-Range says
    cut_after: list[int] = field(default_factory=list)       # bytes of the next bodies; empty: no cut
    status: list[int] = field(default_factory=list)          # of the next answers
    length: int | None = None                  # a Content-Length that is not true
    pause: threading.Event | None = None       # after the cut the connection stays open, silent, until it is set
    log: list[tuple[str, str | None]] = field(default_factory=list)      # (path, its Range)

    def ranges_of(self, path: str) -> list[str | None]:
        return [asked for one, asked in self.log if one == path]


class Handler(BaseHTTPRequestHandler):
    house: Server

    def log_message(self, *args) -> None:
        pass

    def do_GET(self) -> None:
        house, path = self.house, self.path.split("?")[0]
        house.log.append((path, self.headers.get("Range")))
        if path in house.redirects:
            self.send_response(302)
            self.send_header("Location", house.redirects[path])
            self.end_headers()
            return
        if path not in house.files:
            self.send_error(404)
            return
        if path.endswith(".safetensors") and house.status:
            self.send_error(house.status.pop(0))
            return
        self._give(path, house.files[path])

    def _give(self, path: str, data: bytes) -> None:
        house, start = self.house, 0
        fits = not house.if_range or self.headers.get("If-Range") == house.etag
        if house.ranges and self.headers.get("Range") and fits:
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            if start >= len(data):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(data)}")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        body, large = data[start:], path.endswith(".safetensors")
        length = house.length if large and house.length is not None else len(body)
        self.send_header("Content-Length", str(length))
        if house.etag:
            self.send_header("ETag", house.etag)
        self.end_headers()
        if large and house.cut_after:
            body = body[:house.cut_after.pop(0)]
        self.wfile.write(body)
        self.wfile.flush()
        if large and house.pause:
            house.pause.wait(30)


class QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address) -> None:
        """A client that goes in the middle is what some tests are about."""


@contextmanager
def serving(**settings) -> Iterator[Server]:
    house = Server(**settings)
    handler = type("HandlerOfTest", (Handler,), {"house": house})
    server = QuietServer(("127.0.0.1", 0), handler)
    house.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield house
    finally:
        if house.pause:
            house.pause.set()
        server.shutdown()
        server.server_close()
        thread.join()
