"""A way to the broker with the faults of real networks: slow, cut at any byte, dripping, silent in one direction."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from dataclasses import dataclass, field

from tests.patience import DEADLINE_S

_CHUNK = 65536


@dataclass(eq=False)
class _Connection:
    client: socket.socket
    server: socket.socket
    bytes_left: int | None
    over: threading.Event = field(default_factory=threading.Event)


class Proxy:
    """A TCP relay on a port of its own. Every knob may be turned while connections are open."""

    def __init__(self, upstream_port: int, address: str = "127.0.0.1") -> None:
        self.upstream = upstream_port
        self._server = socket.create_server((address, 0))
        self.port = int(self._server.getsockname()[1])
        self.open = False
        """Whether new connections get through."""
        self.delay_s = 0.0
        """How long each piece of data is held back, in either direction."""
        self.drip_s: float | None = None
        """Seconds between single bytes; None: all at once."""
        self.silent: frozenset[str] = frozenset()
        """Directions ("up" to the broker, "down" from it) in which nothing gets through, though the connection stays."""
        self.cut_after: tuple[random.Random, int, int] | None = None
        """Cut each connection after a random number of bytes in this range, in the middle of whatever is sent then."""
        self.cuts = 0
        """Connections that were cut."""
        self.accepted = 0
        """Connections that got through."""
        self._connections: set[_Connection] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._loud = threading.Condition()
        self._thread = threading.Thread(target=self._serve, name="proxy", daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """Close every connection at once."""
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            self._end(connection)
            self.cuts += 1

    def hush(self, *directions: str) -> None:
        """Let nothing through in these directions; without any, all is heard again."""
        with self._loud:
            self.silent = frozenset(directions)
            self._loud.notify_all()

    def close(self) -> None:
        self._closed.set()
        self._server.close()
        self.hush()
        self.cut()

    def _serve(self) -> None:
        self._server.settimeout(0.05)
        while not self._closed.is_set():
            try:
                client, _ = self._server.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            if not self.open:
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self.upstream), timeout=DEADLINE_S)
            except OSError:
                client.close()
                continue
            for end in (client, server):
                end.settimeout(None)
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            left = self.cut_after[0].randint(*self.cut_after[1:]) if self.cut_after else None
            connection = _Connection(client, server, left)
            with self._lock:
                self._connections.add(connection)
            self.accepted += 1
            for direction, source, target in (("up", client, server), ("down", server, client)):
                threading.Thread(target=self._pump, args=(connection, direction, source, target), name=direction, daemon=True).start()

    def _pump(self, connection: _Connection, direction: str, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(_CHUNK):
                with self._loud:
                    self._loud.wait_for(lambda: direction not in self.silent or connection.over.is_set())
                if self.delay_s and connection.over.wait(self.delay_s):
                    break
                if not self._pass_on(connection, data, target):
                    break
        except OSError:
            pass
        self._end(connection)

    def _pass_on(self, connection: _Connection, data: bytes, target: socket.socket) -> bool:
        """Send it; False when the connection is over."""
        if connection.bytes_left is not None:
            part = data[: connection.bytes_left]
            connection.bytes_left -= len(part)
            target.sendall(part)
            if connection.bytes_left <= 0:
                self.cuts += 1
                return False
            return True
        if self.drip_s is None:
            target.sendall(data)
            return True
        for byte in data:
            target.sendall(bytes([byte]))
            if self.drip_s and connection.over.wait(self.drip_s):
                return False
        return True

    def _end(self, connection: _Connection) -> None:
        connection.over.set()
        with self._loud:
            self._loud.notify_all()
        with self._lock:
            self._connections.discard(connection)
        for end in (connection.client, connection.server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)  # wakes the other thread, which close() alone does not
            end.close()
