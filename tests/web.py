"""A web server on the loopback that serves bytes and misbehaves as told, and a forward proxy that counts."""

from __future__ import annotations

import re
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.patience import DEADLINE_S

Answer = Callable[["Handler", bytes], None]


class Handler(BaseHTTPRequestHandler):
    """Serves `Site.files`; `Site.answers` of a path come first, one each request."""

    protocol_version = "HTTP/1.1"
    site: Site

    def do_GET(self):
        self.site.asked.append((self.path, dict(self.headers)))
        queue = self.site.answers.get(self.path)
        if self.path not in self.site.files and not queue:
            self.send_error(404, "Not Found")
            return
        content = self.site.files.get(self.path, b"")
        (queue.pop(0) if queue else serve)(self, content)

    def log_message(self, *args):
        pass

    def start(self, status: int, length: int | None, **headers: str) -> None:
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()


def etag(content: bytes) -> str:
    return f'"{hash(content) & 0xFFFFFFFF:x}"'


def serve(handler: Handler, content: bytes, send: int | None = None) -> None:
    """As RFC 9110 wants it; `send` bytes at most, and then the connection ends."""
    start, status, headers = 0, 200, {"ETag": etag(content)}
    wanted = re.match(r"bytes=(\d+)-$", handler.headers.get("Range", ""))
    same = handler.headers.get("If-Range") in (None, etag(content))
    if wanted and same:
        start = int(wanted[1])
        if start >= len(content):
            handler.start(416, 0, Content_Range=f"bytes */{len(content)}")
            return
        status, headers["Content_Range"] = 206, f"bytes {start}-{len(content) - 1}/{len(content)}"
    body = content[start:]
    handler.start(status, len(body), **headers)
    handler.wfile.write(body if send is None else body[:send])
    if send is not None:
        handler.wfile.flush()
        handler.close_connection = True


def cut_after(count: int) -> Answer:
    return lambda handler, content: serve(handler, content, count)


def status(code: int, **headers: str) -> Answer:
    return lambda handler, _: handler.start(code, 0, **headers)


def redirect(to: str) -> Answer:
    return status(302, Location=to)


def whole_always(handler: Handler, content: bytes) -> None:
    """Knows no ranges."""
    handler.start(200, len(content))
    handler.wfile.write(content)


def unstated(handler: Handler, content: bytes) -> None:
    """No length, and the end of the connection is the end of the body."""
    handler.start(200, None, Connection="close")
    handler.wfile.write(content)
    handler.close_connection = True


def stated(length: int) -> Answer:
    """Says another length than it sends."""

    def answer(handler: Handler, content: bytes) -> None:
        handler.start(200, length)
        handler.wfile.write(content[:length])
        handler.close_connection = True

    return answer


def stated_without_version(count: int) -> Answer:
    """Sends the first `count` bytes of what it states, and no ETag."""

    def answer(handler: Handler, content: bytes) -> None:
        handler.start(200, len(content))
        handler.wfile.write(content[:count])
        handler.wfile.flush()
        handler.close_connection = True

    return answer


def another_part(handler: Handler, content: bytes) -> None:
    handler.start(206, len(content) - 1, Content_Range=f"bytes 1-{len(content) - 1}/{len(content)}")
    handler.wfile.write(content[1:])


def stall_after(count: int, released: threading.Event) -> Answer:
    """Sends the beginning and then nothing, until the test is over."""

    def answer(handler: Handler, content: bytes) -> None:
        handler.start(200, len(content))
        handler.wfile.write(content[:count])
        handler.wfile.flush()
        released.wait(DEADLINE_S)
        handler.close_connection = True

    return answer


def trickle(released: threading.Event) -> Answer:
    """A byte now and then."""

    def answer(handler: Handler, content: bytes) -> None:
        handler.start(200, len(content))
        for byte in content:
            if released.wait(0.02):
                break
            try:
                handler.wfile.write(bytes([byte]))
                handler.wfile.flush()
            except OSError:
                break
        handler.close_connection = True

    return answer


@dataclass
class Site:
    """What is served under which path, and what was asked for."""

    port: int = 0
    files: dict[str, bytes] = field(default_factory=dict)
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def put(self, path: str, content: bytes, *answers: Answer) -> str:
        """Serve the content there; the first requests get the answers. The address."""
        self.files[path] = content
        self.answers[path] = list(answers)
        return self.url(path)


@contextmanager
def _serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join(DEADLINE_S)


@contextmanager
def web_site() -> Iterator[Site]:
    site = Site()
    with _serving(type("Bound", (Handler,), {"site": site})) as port:
        site.port = port
        yield site


@contextmanager
def forward_proxy() -> Iterator[tuple[str, list[str]]]:
    """The address of a proxy, and the addresses that went through it."""
    through: list[str] = []
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self):
            through.append(self.path)
            passed = {key: value for key, value in self.headers.items() if key.lower() in ("range", "if-range")}
            with direct.open(urllib.request.Request(self.path, headers=passed), timeout=DEADLINE_S) as answer:
                body = answer.read()
                self.send_response(answer.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *args):
            pass

    with _serving(Proxy) as port:
        yield f"http://127.0.0.1:{port}", through
