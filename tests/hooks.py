"""A web server on the loopback that takes POSTs and answers as told: what a webhook sends to. Counts deliveries by idempotency key."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import sys
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.brokers import free_port
from tests.patience import DEADLINE_S

Reply = Callable[["Handler"], None]
"""Answers one request."""


class Handler(BaseHTTPRequestHandler):
    """Takes a POST whole, then answers it."""

    protocol_version = "HTTP/1.1"
    hook: Hook
    post: Request
    disable_nagle_algorithm = True

    def do_POST(self):
        length = int(self.headers.get("Content-Length", "0"))
        body = self.rfile.read(length)
        if len(body) < length:  # the connection broke
            self.close_connection = True
            return
        self.post = request = Request(self.path, dict(self.headers.items()), body)
        with self.hook.lock:
            self.hook.requests.append(request)
            reply = self.hook.replies.pop(0) if self.hook.replies else self.hook.reply
        reply(self)

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        if 200 <= status < 300:  # before the sender knows of it: it may be killed meanwhile
            with self.hook.lock:
                self.hook.taken.append(self.post)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


class Request:
    """What came."""

    def __init__(self, path: str, headers: dict[str, str], body: bytes) -> None:
        self.path, self.headers, self.body = path, headers, body

    @property
    def key(self) -> str:
        return self.headers["Idempotency-Key"]

    def json(self) -> dict[str, Any]:
        return json.loads(self.body)  # type: ignore[no-any-return]


def status(code: int, body: bytes = b"", **headers: str) -> Reply:
    return lambda handler: handler.answer(code, body, **headers)


class Hook:
    """The server; start and end it at will, on one port."""

    sink = "webhook"

    def __init__(self, *, context: ssl.SSLContext | None = None) -> None:
        self.port = free_port()
        self.reply: Reply = status(204)
        """For every request that has none in `replies`, which is used up."""
        self.replies: list[Reply] = []
        self.requests: list[Request] = []
        self.taken: list[Request] = []
        """Those that were answered with 2xx."""
        self.faults: list[BaseException] = []
        """What a reply or the server itself raised; `end` fails with them."""
        self.lock = threading.Lock()
        self._context = context
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self._context else 'http'}://127.0.0.1:{self.port}/hook?site=barn"

    @property
    def address(self) -> dict[str, str]:
        """The settings of the sink that say where to send."""
        return {"url": self.url}

    def environment(self, **options: str) -> dict[str, str]:
        """Settings of the sink for a daemon."""
        return {f"EDGEANNOT_SINKS__{self.sink}__{name}".upper(): value for name, value in options.items()}

    def start(self) -> Hook:
        handler = type("Bound", (Handler,), {"hook": self})
        self._server = _Server(self.faults, ("127.0.0.1", self.port), handler)
        if self._context:
            self._server.socket = self._context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def end(self) -> None:
        """Close the port and every connection; fail where the server had a fault."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server.hang_up()
            self._server = None
        assert not self.faults

    def deliveries(self) -> Counter[str]:
        """How often each message was taken, by its key."""
        with self.lock:
            return Counter(request.key for request in self.taken)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, faults: list[BaseException], *args: Any) -> None:
        super().__init__(*args)
        self._faults = faults
        self._open: set[Any] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        for request in list(self._open):
            with contextlib.suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)
            super().shutdown_request(request)

    def handle_error(self, *args: Any) -> None:
        """A client that hung up is no error here; all else is kept."""
        fault = sys.exception()
        if fault is not None and not isinstance(fault, OSError):
            self._faults.append(fault)


def hold(released: threading.Event, seconds: float = DEADLINE_S) -> Reply:
    """Answer late, or never while the test lasts."""

    def reply(handler: Handler) -> None:
        released.wait(seconds)
        handler.answer(204)

    return reply
