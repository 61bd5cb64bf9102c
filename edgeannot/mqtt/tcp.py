"""A connection's socket as the kernel sees it: when it sends, when it acknowledges, and whether what was given to it leaves."""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct
import termios
import time
from collections.abc import Iterator
from typing import Any

__all__ = ["Flow", "acknowledge", "corked"]


class Flow:
    """Watches whether bytes leave: a packet may take longer than the keepalive on a slow line, and a ping waits behind it."""

    def __init__(self) -> None:
        self._waiting = 0
        self._moved_at = time.monotonic()

    def is_moving(self, sock: Any, within_s: float) -> bool:
        """Whether bytes wait to be sent and some have left, or come, in the last `within_s` seconds."""
        now, waiting = time.monotonic(), _unsent_bytes(sock)
        if waiting != self._waiting:
            self._waiting, self._moved_at = waiting, now
        return waiting > 0 and now - self._moved_at < within_s


def _unsent_bytes(sock: Any) -> int:
    """Bytes that the other side's kernel has not acknowledged (tcp(7), SIOCOUTQ, which has the number of TIOCOUTQ)."""
    try:
        return int(struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)))[0])
    except (OSError, ValueError):  # closed meanwhile
        return 0


def acknowledge(sock: Any) -> None:
    """Have the kernel tell the broker's at once that its answers came: they gather there until then (Nagle's algorithm), and ours would
    wait 40 ms for something of ours to send along."""
    if hasattr(sock, "setsockopt"):
        with contextlib.suppress(OSError):  # closed meanwhile
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


@contextlib.contextmanager
def corked(sock: Any) -> Iterator[None]:
    """Have the kernel gather what is sent meanwhile into full packets: one system call for each would wake the broker each time."""
    plain = hasattr(sock, "setsockopt")  # paho's WebSocket is none of the system's
    if plain:
        with contextlib.suppress(OSError):  # closed meanwhile
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
    try:
        yield
    finally:
        if plain:
            with contextlib.suppress(OSError):  # closed meanwhile
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
