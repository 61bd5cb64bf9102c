"""A short queue between two threads that blocks its producers, or lets the newest item replace the oldest.

A directory must wait when the next stage is busy (nothing is skipped); a live camera must not (an old frame is worth nothing).
All share one queue and take turns in it, so that none starves another.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["BoundedQueue", "Closed", "MemoryLimiter"]

Item = TypeVar("Item")


class Closed(Exception):  # noqa: N818 - it reports the end, not a fault
    """No further item will come (`take`), or none is accepted any more (`put`)."""


class MemoryLimiter:
    """Bounds the bytes of pictures being processed at a time, so that large pictures cannot fill a small board's memory."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._used = 0
        self._changed = threading.Condition()

    def acquire(self, size: int, timeout_s: float = 1.0) -> bool:
        """Wait for room and take it; return False if there was none within `timeout_s` (try again). A single picture always has room."""
        with self._changed:
            if not self._changed.wait_for(lambda: not self._used or self._used + size <= self._limit, timeout_s):
                return False
            self._used += size
            return True

    def within(self, timeout_s: float = 1.0) -> bool:
        """Wait until usage is within the limit; return False if it was not within `timeout_s` (try again)."""
        with self._changed:
            return self._changed.wait_for(lambda: self._used <= self._limit, timeout_s)

    def release(self, size: int) -> None:
        """Release the bytes that `acquire` took."""
        with self._changed:
            self._used -= size
            self._changed.notify_all()


class BoundedQueue(Generic[Item]):
    """A queue of at most `depth` items a producer. Every wait is bounded, so that a caller can send its heartbeat.

    `end()` lets what is inside be taken, then raises Closed; `cancel()` drops what is inside and raises Closed at once.
    """

    def __init__(self, depth: int = 2, replaced: Callable[[Item], None] = lambda _: None) -> None:
        """replaced: called with each item that a newer one replaces."""
        self._depth = depth
        self._tell = replaced
        self._items: deque[tuple[str, Item]] = deque()
        self._turns = itertools.count(1)
        self._served: dict[str, int] = {}
        """The last turn of each producer."""
        self._changed = threading.Condition()
        self._ended = False
        self._cancelled = False
        self._nudged = False
        self.replaced = 0
        """Items that a newer one replaced before they were taken."""

    def put(self, item: Item, giver: str = "", *, replace: bool = False, timeout_s: float = 1.0) -> bool:
        """Add an item; return False if the queue stayed full for `timeout_s` (try again). `replace` never waits."""
        with self._changed:
            if replace:
                self._make_room(giver)
            elif not self._changed.wait_for(lambda: self._ended or self._count(giver) < self._depth, timeout_s):
                return False
            if self._ended:
                raise Closed
            self._items.append((giver, item))
            self._changed.notify_all()
            return True

    def take(self, timeout_s: float = 1.0) -> Item | None:
        """Return the oldest item of the producer whose turn is longest ago; None if none came within `timeout_s`, or before a `nudge`."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._ended or self._nudged, timeout_s)
            self._nudged = False
            if self._cancelled or (self._ended and not self._items):
                raise Closed
            if not self._items:
                return None
            index = min(range(len(self._items)), key=lambda at: self._served.get(self._items[at][0], 0))
            giver, item = self._items[index]
            del self._items[index]
            self._served[giver] = next(self._turns)
            self._changed.notify_all()
            return item

    def wait_taken(self, giver: str, timeout_s: float = 1.0) -> bool:
        """Wait until no item of this producer is inside, or none will be taken any more; return False after `timeout_s` (try again)."""
        with self._changed:
            return self._changed.wait_for(lambda: self._ended or not self._count(giver), timeout_s)

    def nudge(self) -> None:
        """Wake the consumer if it waits for an item."""
        with self._changed:
            self._nudged = True
            self._changed.notify_all()

    def end(self) -> None:
        """Accept no more items; `take` still returns those in the queue."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def cancel(self) -> None:
        """Drop the items in the queue and accept no more."""
        with self._changed:
            self._ended = self._cancelled = True
            self._items.clear()
            self._changed.notify_all()

    def __len__(self) -> int:
        return len(self._items)

    def _count(self, giver: str) -> int:
        return sum(1 for name, _ in self._items if name == giver)

    def _make_room(self, giver: str) -> None:
        for entry in list(self._items):
            if self._count(giver) < self._depth:
                return
            if entry[0] == giver:
                self._items.remove(entry)
                self.replaced += 1
                self._tell(entry[1])
