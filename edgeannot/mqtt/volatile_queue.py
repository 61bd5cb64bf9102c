"""Messages that go past the outbox: how things stand, kept to be said again, and what is only of the moment. From any thread."""

from __future__ import annotations

import threading
from collections import deque
from typing import Final

from edgeannot.storage.records import Message

__all__ = ["VolatileQueue"]

_AT_MOST: Final = 256
"""Messages that may queue up between two turns of the publisher; the oldest go."""


class VolatileQueue:
    """A queue that the publisher empties at each turn, and the newest retained message of each topic."""

    def __init__(self) -> None:
        self._queue: deque[Message] = deque()
        self._standing: dict[str, Message] = {}
        self._lock = threading.Lock()
        self.pushed_out = 0
        """Messages that later ones pushed out, and that nobody will hear."""

    def add(self, message: Message, *, online: bool) -> None:
        """Queue a message; a retained one stands until the next on its topic. online: whether it would be sent at once."""
        with self._lock:
            if message.retain:
                self._standing[message.topic] = message
            self._queue.append(message)
            if len(self._queue) > _AT_MOST:
                # Nothing is lost of a retained one, which is said at the next connection, nor of others while the broker is away.
                gone = self._queue.popleft()
                self.pushed_out += online and not gone.retain

    def take(self) -> list[Message]:
        """What was queued since the last time."""
        with self._lock:
            queued = list(self._queue)
            self._queue.clear()
        return queued

    def take_standing(self) -> list[Message]:
        """What is to be said at the beginning of a connection: what stands, and nothing that was of a moment before it."""
        with self._lock:
            self._queue.clear()
            return list(self._standing.values())
