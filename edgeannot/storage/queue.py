"""The messages that wait in the outbox, as values; and the queue of one sink, as the thread sees it that empties it."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Self

from edgeannot.storage import database

if TYPE_CHECKING:
    from edgeannot.storage.store import Store

__all__ = ["Caps", "Message", "Pending", "Queue"]


@dataclass(frozen=True, slots=True)
class Message:
    """One message on its way out of a sink's queue."""

    key: str
    """What the receiver files it under: MQTT's topic, a webhook's idempotency key."""
    payload: bytes
    kind: str = "detections"
    """What it is, for caps and counts: detections, image, count, ... Images are the first to be dropped."""
    qos: int = 1
    retain: bool = False
    """A retained message takes the place of an unsent one with its key, and is not stored when nothing changed."""
    content_type: str = "application/json"
    expiry_s: int | None = None
    """How long the broker may keep it for a client that is away; None: for ever."""
    properties: tuple[tuple[str, str], ...] = ()
    """MQTT 5 user properties."""
    id: int = 0
    """Place in the outbox; within a sink's queue they count up in the order of commits. 0 before it is there."""
    correlation: bytes | None = None
    """MQTT 5 correlation data, for a reply: what the request carried."""
    instead: Message | None = None
    """What is told where the broker does not take this one; for messages that go past the outbox."""
    sink: str = "mqtt"
    """Whose queue it goes into."""

    @property
    def topic(self) -> str:
        """MQTT's name for the key."""
        return self.key


@dataclass(frozen=True, slots=True)
class Caps:
    """How much may wait in the queue of one sink; over that its oldest go, images before all others, and are counted."""

    rows: int = 1_000_000
    bytes: int = 256 * 2**20
    image_bytes: int = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Pending:
    """What waits in the queue of one sink, or in all of them, and what had to go since the database was made."""

    rows: int = 0
    bytes: int = 0
    image_rows: int = 0
    image_bytes: int = 0
    dropped: int = 0
    """Messages that the caps pushed out unsent."""
    refused: int = 0
    """Messages that the receiver would never take (too large, not a valid topic there)."""

    def __add__(self, other: Self) -> Self:
        return type(self)(*map(operator.add, astuple(self), astuple(other)))


class Queue:
    """The messages of one sink, from any thread; get it with `Store.queue`."""

    def __init__(self, store: Store, sink: str) -> None:
        self._store = store
        self.sink = sink
        self.path = store.path

    def next_messages(
        self, after_id: int, limit: int, *, max_bytes: int = 2**22, skip_topics: Iterable[str] = (), images_below: int | None = None
    ) -> list[Message]:
        """Return the oldest unsent messages with a larger id than `after_id`, in order: at most `limit`, and no more after `max_bytes`.

        images_below: leave out images of so many bytes and more.
        """
        with self._store._changed, database.translated(self.path):
            return self._store._outbox.read(self.sink, after_id, limit, max_bytes, skip_topics, images_below)

    def large_images(self, from_bytes: int, limit: int, *, skip_topics: Iterable[str] = ()) -> list[Message]:
        """Return the oldest unsent images of so many bytes and more."""
        with self._store._changed, database.translated(self.path):
            return self._store._outbox.images(self.sink, from_bytes, skip_topics, limit)

    def delete(self, ids: Sequence[int], *, refused: bool = False) -> None:
        """Delete messages that the receiver has accepted (or, `refused`, never will); unknown ids are ignored."""
        self._store._delete(self.sink, ids, refused=refused)

    def pending(self) -> Pending:
        """Return the waiting and lost messages."""
        with self._store._changed, database.translated(self.path):
            return self._store._outbox.pending(self.sink)

    def retained(self) -> list[Message]:
        """Return the newest retained message of each topic since the start: what a broker that lost its memory must be told again."""
        with self._store._changed:
            return [message for message in self._store._retained.values() if message.sink == self.sink]

    def add_listener(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each commit that put messages into the queue; it must return at once."""
        with self._store._changed:
            self._store._listeners.setdefault(self.sink, []).append(listener)

    def wait_empty(self, timeout_s: float) -> bool:
        """Wait until the queue is empty; return False if it is not after `timeout_s`."""
        with self._store._changed:
            return self._store._changed.wait_for(lambda: not self._store._outbox.pending(self.sink).rows, timeout_s)

    def sync_if_due(self) -> None:
        """Call `Store.sync_if_due`; the sending thread does this, as it also runs while no commits follow."""
        self._store.sync_if_due()
