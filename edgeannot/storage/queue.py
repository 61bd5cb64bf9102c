"""The queue of one sink in the store, as the thread sees it that empties it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from edgeannot.storage import database
from edgeannot.storage.records import Message, Pending
from edgeannot.storage.tables import Outbox

if TYPE_CHECKING:
    from edgeannot.storage.store import Store

__all__ = ["Queue"]


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
        with self._reading() as outbox:
            return outbox.read(self.sink, after_id, limit, max_bytes, skip_topics, images_below)

    def large_images(self, from_bytes: int, limit: int, *, skip_topics: Iterable[str] = ()) -> list[Message]:
        """Return the oldest unsent images of so many bytes and more."""
        with self._reading() as outbox:
            return outbox.images(self.sink, from_bytes, skip_topics, limit)

    def delete(self, ids: Sequence[int], *, refused: bool = False) -> None:
        """Delete messages that the receiver has accepted (or, `refused`, never will); unknown ids are ignored."""
        self._store._delete(self.sink, ids, refused=refused)

    def pending(self) -> Pending:
        """Return the waiting and lost messages."""
        with self._reading() as outbox:
            return outbox.pending(self.sink)

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

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Outbox]:
        with self._store._changed, database.translated(self._store.path):
            yield self._store._outbox
