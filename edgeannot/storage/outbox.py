"""The table of messages that are to be sent, its caps and its counts. Its caller holds the lock and the transaction.

How many rows and bytes wait is counted in memory: asking SQLite would read the whole table at each commit.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from edgeannot.storage.records import Caps, Message, Pending

__all__ = ["Outbox"]

_COLUMNS: Final = "id, kind, topic, payload, qos, retain, content_type, expiry_s, properties, correlation"


_MOST_RETAINED: Final = 1000
"""Of these many topics retained messages stay over the caps; senders of pictures can have any names."""


class Outbox:
    """Messages in the order of their commits; ids are never used twice while it is open."""

    def __init__(self, db: sqlite3.Connection, caps: Caps) -> None:
        self._db = db
        self._caps = caps
        self._next_id, self._rows, self._bytes = 1, Counter[bool](), Counter[bool]()  # rows and bytes by: is it an image
        for is_image, rows, size, last in db.execute(
            "SELECT kind = 'image', count(*), sum(length(payload)), max(id) FROM outbox GROUP BY 1"
        ):
            self._rows[bool(is_image)], self._bytes[bool(is_image)] = rows, size
            self._next_id = max(self._next_id, last + 1)
        self._counted = Counter[str](dict(db.execute("SELECT name, value FROM counters")))

    def check(self) -> None:
        """Raise where a row could not be sent, or a count not be counted on: a scratch can turn a value into one of another type."""
        columns = _COLUMNS.replace("payload", "CASE typeof(payload) WHEN 'blob' THEN x'' END")  # its bytes may be anything
        wanted = Message("", b"")
        for row in self._db.execute(f"SELECT {columns} FROM outbox"):  # noqa: S608 - constants
            found = _message(row)
            for name in ("topic", "payload", "kind", "qos", "content_type"):
                if type(getattr(found, name)) is not type(getattr(wanted, name)):
                    raise TypeError(f"a message whose {name} is {getattr(found, name)!r:.40}")
            if found.qos not in {0, 1, 2} or not isinstance(found.expiry_s, int | None) or not isinstance(found.correlation, bytes | None):
                raise ValueError("a message that cannot be sent")
            if not all(isinstance(text, str) for pair in found.properties for text in pair):
                raise TypeError("a message whose properties are no texts")
        if not all(type(name) is str and type(value) is int and value >= 0 for name, value in self._counted.items()):
            raise TypeError("a count that is no number")

    @contextmanager
    def undone_on_error(self) -> Iterator[None]:
        """Take the counts in memory back when the transaction inside does not come to its end."""
        before = self._next_id, self._rows.copy(), self._bytes.copy(), self._counted.copy()
        try:
            yield
        except BaseException:
            self._next_id, self._rows, self._bytes, self._counted = before
            raise

    @property
    def rows(self) -> int:
        """How many messages wait."""
        return self._rows.total()

    @property
    def is_roomy(self) -> bool:
        """Whether a tenth of each cap is free."""
        caps = self._caps
        return self.rows <= 0.9 * caps.rows and self._bytes.total() <= 0.9 * caps.bytes and self._bytes[True] <= 0.9 * caps.image_bytes

    def pending(self) -> Pending:
        """What waits, and what was lost of it."""
        rows, size, counted = self._rows, self._bytes, self._counted
        return Pending(rows.total(), size.total(), rows[True], size[True], counted["dropped"], counted["refused"])

    def append(self, m: Message) -> None:
        """Put a message behind all others; a retained one takes the place of the one on its topic."""
        if m.retain:
            self._remove("retain AND topic = ?", (m.topic,))
        pairs = json.dumps(m.properties) if m.properties else "[]"
        values = (self._next_id, m.kind, m.topic, m.payload, m.qos, m.retain, m.content_type, m.expiry_s, pairs, m.correlation)
        self._db.execute(f"INSERT INTO outbox ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)  # noqa: S608 - constants
        self._next_id += 1
        self._tally(m.kind, len(m.payload), 1)

    def read(self, after_id: int, limit: int, max_bytes: int, skip_topics: Iterable[str], images_below: int | None = None) -> list[Message]:
        """The oldest messages with a larger id, in order: at most `limit`, and no more after `max_bytes`.

        images_below: leave out images of so many bytes and more.
        """
        skipped, where = list(skip_topics), ""
        values: list[object] = [after_id, *skipped]
        if images_below is not None:
            where = "AND NOT (kind = 'image' AND length(payload) >= ?)"
            values.append(images_below)
        marks = ",".join("?" * len(skipped))
        query = f"SELECT {_COLUMNS} FROM outbox WHERE id > ? AND topic NOT IN ({marks}) {where} ORDER BY id LIMIT ?"  # noqa: S608 - constants and marks
        messages = []
        for row in self._db.execute(query, (*values, limit)):
            messages.append(_message(row))
            max_bytes -= len(messages[-1].payload)
            if max_bytes <= 0:
                break
        return messages

    def images(self, from_bytes: int, skip_topics: Iterable[str], limit: int) -> list[Message]:
        """The oldest images of so many bytes and more."""
        skipped = list(skip_topics)
        marks = ",".join("?" * len(skipped))
        where = f"kind = 'image' AND length(payload) >= ? AND topic NOT IN ({marks})"
        query = f"SELECT {_COLUMNS} FROM outbox WHERE {where} ORDER BY id LIMIT ?"  # noqa: S608 - constants and marks
        return [_message(row) for row in self._db.execute(query, (from_bytes, *skipped, limit))]

    def delete(self, ids: Sequence[int]) -> int:
        """Forget messages; how many there were. Ids that are not there are passed over."""
        return self._remove("id IN (SELECT value FROM json_each(?))", ("[" + ",".join(map(str, ids)) + "]",))

    def enforce_caps(self) -> int:
        """Drop the oldest while there is too much; how many went."""
        dropped = 0
        while self._bytes[True] > self._caps.image_bytes:
            dropped += self._drop_oldest("kind = 'image'")
        while self._rows.total() > self._caps.rows or self._bytes.total() > self._caps.bytes:
            # Retained messages are one a topic and say how things stand now: they stay, unless their topics are too many.
            gone = self._drop_oldest("kind = 'image'") or self._drop_oldest("NOT retain")
            if not gone and self.rows > _MOST_RETAINED:
                gone = self._drop_oldest("retain")
            if not gone:
                break
            dropped += gone
        self.count("dropped", dropped)
        return dropped

    def count(self, name: str, amount: int) -> None:
        """Add to one of the counts that stay for the life of the database."""
        if amount:
            self._counted[name] += amount
            self._db.execute("INSERT OR REPLACE INTO counters VALUES (?, ?)", (name, self._counted[name]))

    def _remove(self, where: str, values: tuple[object, ...]) -> int:
        gone = self._db.execute(f"DELETE FROM outbox WHERE {where} RETURNING kind, length(payload)", values).fetchall()  # noqa: S608 - callers give constants
        for kind, size in gone:
            self._tally(kind, size, -1)
        return len(gone)

    def _drop_oldest(self, which: str) -> int:
        return self._remove(f"id = (SELECT id FROM outbox WHERE {which} ORDER BY id LIMIT 1)", ())  # noqa: S608 - callers give constants

    def _tally(self, kind: str, size: int, sign: int) -> None:
        self._rows[kind == "image"] += sign
        self._bytes[kind == "image"] += sign * size


def _message(row: tuple[int, str, str, bytes, int, int, str, int | None, str, bytes | None]) -> Message:
    id_, kind, topic, payload, qos, retain, content_type, expiry_s, properties, correlation = row
    pairs = () if properties == "[]" else tuple((key, value) for key, value in json.loads(properties))
    return Message(topic, payload, kind, qos, bool(retain), content_type, expiry_s, pairs, id_, correlation)
