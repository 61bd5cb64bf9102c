"""The daemon's HTTP server, for monitors and for the live page: a bounded number of connections, one request each, no line in the log.

It is the standard library's, made narrower. HTTP/1.0 closes a connection after its answer, so no two requests share one, and a proxy
and this server cannot disagree about where a request ends.
"""

from __future__ import annotations

import contextlib
import http.server
import io
import ipaddress
import logging
import platform
import re
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from http.client import LineTooLong
from typing import Final

from edgeannot.base.errors import ConfigError

__all__ = ["PLAIN", "Reply", "Request", "Server", "is_known", "listen_trouble", "name_in", "own_names"]

log = logging.getLogger(__name__)

PLAIN: Final = "text/plain; charset=utf-8"
_TIMEOUT_S: Final = 5.0
"""How long one read or one write may take."""
_SEND_BYTES: Final = 128 << 10
"""What the kernel keeps for one reader of a stream: a slow one is noticed soon, and gets no old pictures."""
_MOST_BODY: Final = 4096
_MOST_HEAD: Final = 16 << 10
"""Bytes of all headers together, cookies of other programs on this machine among them."""
_PATIENCE_S: Final = 10.0
"""How long a whole request may take to come."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request. Names of headers are in lower case."""

    method: str
    path: str
    """Without what follows a `?`, which nobody reads."""
    headers: Mapping[str, str]
    peer: str
    """Address of who asks."""
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered: bytes, or pieces of them for as long as somebody reads."""

    code: int
    body: bytes | Generator[bytes, None, None]
    kind: str = PLAIN
    headers: Mapping[str, str] = field(default_factory=dict)


class Server:
    """Answers in threads of its own; `close` ends it. Raises ConfigError where the address cannot be had."""

    def __init__(
        self,
        section: str,
        address: str,
        port: int,
        answer: Callable[[Request], Reply],
        *,
        most: int = 16,
        patience_s: float = _PATIENCE_S,
    ) -> None:
        """section: of the settings, for the error. most: connections at a time, others are closed. patience_s: for a request."""
        self._answer = answer
        try:
            self._listener = _listener(address)((address, port), self._handler())
        except OSError as exc:
            why = exc.strerror or exc
            raise ConfigError(
                f"[{section}]: wanted to listen on {address} port {port}, which fails ({why}); set another address or port"
            ) from exc
        self._listener.room, self._listener.patience_s = threading.BoundedSemaphore(most), patience_s
        self.port: int = self._listener.server_address[1]
        threading.Thread(target=self._listener.serve_forever, name=section, daemon=True).start()

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        answer = self._answer

        class Handler(_Handler):
            def reply_to(self, request: Request) -> Reply:
                return answer(request)

        return Handler

    def close(self) -> None:
        """Stop listening; answers under way go on."""
        self._listener.shutdown()
        self._listener.server_close()


class _Listener(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    room: threading.BoundedSemaphore
    patience_s: float

    def server_activate(self) -> None:
        """Listen, with no request under way."""
        self.coming: dict[socket.socket, float] = {}
        """Connections whose request is not there yet, and until when it may come."""
        super().server_activate()

    def service_actions(self) -> None:
        """End connections that take too long to ask: a byte now and then would keep one for ever."""
        now = time.monotonic()
        for connection, until in list(self.coming.items()):
            if until < now and self.coming.pop(connection, None) is not None:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def server_bind(self) -> None:
        """Bind without asking a name server for this machine's name, which may take long."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        if not self.room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        if isinstance(request, socket.socket):
            self.coming[request] = time.monotonic() + self.patience_s
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread can be started
            self.room.release()
            raise

    def process_request_thread(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        """Answer one request. Who sees its end has room for the next one."""
        try:
            self.finish_request(request, client_address)
        except Exception:  # noqa: BLE001 - it tells them apart
            self.handle_error(request, client_address)
        finally:
            self.came(request)
            self.room.release()
            self.shutdown_request(request)

    def came(self, request: object) -> None:
        """Note that a request is there, or will not come."""
        if isinstance(request, socket.socket):
            self.coming.pop(request, None)

    def handle_error(self, request: object, client_address: object) -> None:
        """Log our own errors; one of the connection is the reader's."""
        del request, client_address
        if not isinstance(sys.exception(), OSError):
            log.exception("internal error while answering over HTTP (please report)")


class _ListenerIPv6(_Listener):
    address_family = socket.AF_INET6


def _listener(address: str) -> type[_Listener]:
    return _ListenerIPv6 if ":" in address else _Listener


class _Handler(http.server.BaseHTTPRequestHandler):
    """One request."""

    server: _Listener
    timeout = _TIMEOUT_S
    server_version = "edgeannot"
    sys_version = ""
    default_request_version = "HTTP/1.0"  # an answer has headers whatever was asked

    def reply_to(self, request: Request) -> Reply:
        raise NotImplementedError

    def parse_request(self) -> bool:
        """Read the headers. Return False, with the answer sent, where they are refused."""
        whole = self.rfile
        self.rfile = _Head(whole)
        try:
            understood = super().parse_request()
        finally:
            self.rfile = whole
        if understood and len(self.headers.get_all("Host", [])) > 1:
            self.send_error(400)
            return False
        return understood

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse what is no request for us in a line of our own: the standard library repeats what was asked, as a page."""
        del message, explain
        self._send(Reply(code, f"{self.responses[code][0].lower()}\n".encode(), headers={"X-Content-Type-Options": "nosniff"}))

    def do_GET(self) -> None:
        self._serve(b"")

    def do_HEAD(self) -> None:
        self._serve(b"")

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        fits = re.fullmatch("[0-9]{1,4}", length) and int(length) <= _MOST_BODY
        if not fits or self.headers.get("Transfer-Encoding"):
            self._send(Reply(413, f"wanted a body of at most {_MOST_BODY} bytes, and its Content-Length\n".encode()))
            return
        self._serve(self.rfile.read(int(length)))

    def _serve(self, body: bytes) -> None:
        self.server.came(self.connection)
        headers = {name.lower(): value for name, value in self.headers.items()}
        path = self.path.partition("?")[0]
        method = "GET" if self.command == "HEAD" else self.command  # the answer is the same, and its body stays here
        self._send(self.reply_to(Request(method, path, headers, str(self.client_address[0]), body)))

    def _send(self, reply: Reply) -> None:
        body = reply.body
        self.send_response(reply.code)
        self.send_header("Content-Type", reply.kind)
        if isinstance(body, bytes):
            self.send_header("Content-Length", str(len(body)))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if isinstance(body, bytes):
            self.wfile.write(body if self.command != "HEAD" else b"")
            return
        if self.command == "HEAD":
            body.close()
            return
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BYTES)
        try:
            for piece in body:
                self.wfile.write(piece)  # who does not take it within the timeout is dropped
        finally:
            body.close()

    def log_message(self, *_: object) -> None:
        """Log nothing: monitors ask every few seconds, and a line could hold what nobody may read."""


class _Head(io.BufferedIOBase):
    """The lines of a request's headers. Raises LineTooLong beyond `_MOST_HEAD` bytes of them, as `http.client` does for one line."""

    def __init__(self, lines: io.BufferedIOBase) -> None:
        self._lines = lines
        self._left = _MOST_HEAD

    def readline(self, _size: int | None = -1, /) -> bytes:
        """Return the next line, however long it may be for others."""
        line = self._lines.readline(self._left + 1)
        self._left -= len(line)
        if self._left < 0:
            raise LineTooLong("all headers")
        return line


def listen_trouble(address: str, port: int) -> str:
    """Return why nothing can listen there now; empty where it can. Listens for an instant."""
    try:
        with socket.create_server((address, port), family=_listener(address).address_family):
            return ""
    except OSError as exc:
        return str(exc.strerror or exc)


def own_names(node: str = "") -> set[str]:
    """Return the names by which browsers find this machine. node: its name, if not the real one."""
    node = (node or platform.node()).lower()
    short = node.partition(".")[0]
    return {"localhost", node, short, f"{short}.local"} - {""}


def is_known(host: str, names: set[str]) -> bool:
    """Return whether a Host header has one of the names, or an address: nobody can make another's name of it."""
    name = name_in(host)
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name in names
    return True


def name_in(host: str) -> str:
    """Return the name or address in a Host header, without its port, as one writes it without brackets."""
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]/@\s]+))(?::[0-9]{1,5})?", host)
    return (found[1] or found[2]).lower().rstrip(".") if found else ""
