"""The tables of the database: files that are done, and for each sink a queue of messages that are to be sent.

The caller holds the lock and, where something is written, the transaction.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from edgeannot.base.file_signature import FileSignature, LedgerEntry
from edgeannot.storage.queue import Caps, Message, Pending

__all__ = ["Ledger", "Outbox"]

_COLUMNS: Final = "id, kind, key, payload, qos, retain, content_type, expiry_s, properties, correlation"

_SUMS: Final = """SELECT count(*), sum(length(payload)), sum(kind = 'image'), sum(length(payload) * (kind = 'image')), max(id)
FROM outbox WHERE id > ? AND id < ?"""

_CAPS: Final = Caps()

_NUMBER_BITS: Final = 48
"""An id is the number of its sink, and below it that of the message in the sink's queue.

So a queue is one piece of the table: however much waits for another sink, none of it is passed over to read, and no index is written.
"""

_MOST_RETAINED: Final = 1000
"""Of these many topics retained messages stay over the caps; senders of pictures can have any names."""


_COARSE_NS: Final = (2_000_000_000, 1_000_000_000, 10_000_000, 1_000_000, 1_000, 100)
"""Steps of the times of file systems: FAT, ext3 and HFS+, exFAT, some network file systems, NTFS and SMB."""

_MOST_SIMILAR: Final = 64
"""Of files that have one size and time, as some programs make them."""


class Ledger:
    """One row a file: source and path, and the signature it had when it was done."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def check(self) -> None:
        """Raise where a row cannot be one of ours: a scratch can turn a value into one of another type."""
        if self._db.execute("SELECT 1 FROM ledger WHERE typeof(path) != 'blob' OR typeof(source) != 'text' LIMIT 1").fetchone():
            raise ValueError("a row of the ledger has values of other types than ours")
        self._db.execute("SELECT DISTINCT source, outcome FROM ledger").fetchall()  # raises where a text is none
        if self._db.execute("SELECT 1 FROM folders WHERE typeof(path) != 'blob' LIMIT 1").fetchone():
            raise ValueError("a folder of the ledger whose path is none")

    def outcome(self, source: str, path: str, signature: FileSignature) -> str | None:
        """Return the outcome of this file, unchanged since; None if it has no entry."""
        query = "SELECT outcome FROM ledger WHERE source = ? AND path = ? AND size = ? AND mtime_ns = ? AND inode = ?"
        row = self._db.execute(query, (source, os.fsencode(path), signature.size, signature.mtime_ns, signature.inode)).fetchone()
        return None if row is None else str(row[0])

    def similar(self, source: str, signature: FileSignature) -> list[LedgerEntry]:
        """Return the entries of a source with this size and time: with this inode, where there are any, else at most 64 of them.

        Where the time is a round one, also those whose time was rounded down to it: a file system may store times less exactly.
        """
        size, time_ns, inode = signature
        step_ns = next((step for step in _COARSE_NS if time_ns % step == 0), 1)
        # Without its name SQLite would rather read all entries of the source.
        query = (
            "SELECT l.path, l.size, l.mtime_ns, l.inode, l.content_hash, l.outcome, f.path FROM ledger l INDEXED BY ledger_time"
            " LEFT JOIN folders f ON f.id = l.folder WHERE l.size = ? AND l.source = ? AND"
        )
        rows = self._db.execute(f"{query} l.mtime_ns = ? AND l.inode = ? LIMIT ?", (size, source, time_ns, inode, _MOST_SIMILAR)).fetchall()
        if not rows:
            last_ns = time_ns + step_ns - 1
            rows = self._db.execute(
                f"{query} l.mtime_ns BETWEEN ? AND ? LIMIT ?", (size, source, time_ns, last_ns, _MOST_SIMILAR)
            ).fetchall()
        return [
            LedgerEntry(source, os.fsdecode(path), FileSignature(*numbers), digest, outcome, os.fsdecode(folder or b""))
            for path, *numbers, digest, outcome, folder in rows
        ]

    def move(self, old: LedgerEntry, new: LedgerEntry) -> None:
        """Replace an entry by that of the same file at another place, unless another file took its place meanwhile."""
        where = "source = ? AND path = ? AND size = ? AND mtime_ns = ? AND inode = ?"
        self._db.execute(f"DELETE FROM ledger WHERE {where}", (old.source, os.fsencode(old.path), *old.signature))  # noqa: S608 - a constant
        self.write(new)

    def entries(self, source: str | None) -> list[LedgerEntry]:
        """Return the entries of one source, or all, by path."""
        query = "SELECT source, path, size, mtime_ns, inode, content_hash, outcome, folder FROM ledger"
        rows = self._db.execute(f"{query} WHERE ? IN (source, '') ORDER BY source, path", (source or "",)).fetchall()
        folders = {number: os.fsdecode(path) for number, path in self._db.execute("SELECT id, path FROM folders")}
        return [
            LedgerEntry(name, os.fsdecode(path), FileSignature(*numbers), digest, outcome, folders.get(folder, ""))
            for name, path, *numbers, digest, outcome, folder in rows
        ]

    def paths(self, source: str, after: str, limit: int) -> list[str]:
        """Return the paths of one source that come after one, in order."""
        query = "SELECT path FROM ledger WHERE source = ? AND path > ? ORDER BY path LIMIT ?"
        return [os.fsdecode(path) for (path,) in self._db.execute(query, (source, os.fsencode(after), limit)).fetchall()]

    def write(self, done: LedgerEntry) -> None:
        """Insert an entry, replacing one of the same source and path."""
        folder = os.fsencode(done.folder) or None
        if folder is not None:
            self._db.execute("INSERT OR IGNORE INTO folders (path) VALUES (?)", (folder,))
        values = (done.source, os.fsencode(done.path), *done.signature, done.content_hash, done.outcome, int(time.time()), folder)
        marks = "?, ?, ?, ?, ?, ?, ?, ?, (SELECT id FROM folders WHERE path = ?)"
        self._db.execute(f"INSERT OR REPLACE INTO ledger VALUES ({marks})", values)  # noqa: S608 - a constant

    def forget(self, source: str, gone: Iterable[str]) -> None:
        """Delete the entries of these paths; unknown ones are ignored."""
        self._db.executemany("DELETE FROM ledger WHERE source = ? AND path = ?", ((source, os.fsencode(path)) for path in gone))


@dataclass(slots=True)
class _Queue:
    """What is known of a queue without reading it: asking SQLite would read the whole table at each commit."""

    base: int
    """All of its ids are larger than this."""
    next_id: int
    rows: int = 0
    bytes: int = 0
    image_rows: int = 0
    image_bytes: int = 0
    dropped: int = 0
    refused: int = 0

    @property
    def end(self) -> int:
        """Return the bound that all of its ids are smaller than."""
        return self.base + (1 << _NUMBER_BITS)

    def tally(self, kind: str, size: int, sign: int) -> None:
        """Count one message more (1) or less (-1)."""
        self.rows += sign
        self.bytes += sign * size
        if kind == "image":
            self.image_rows += sign
            self.image_bytes += sign * size

    def copy(self) -> _Queue:
        """Return the same, to be kept."""
        return _Queue(self.base, self.next_id, self.rows, self.bytes, self.image_rows, self.image_bytes, self.dropped, self.refused)

    def pending(self) -> Pending:
        """Return the waiting and lost messages."""
        return Pending(self.rows, self.bytes, self.image_rows, self.image_bytes, self.dropped, self.refused)


class Outbox:
    """The queues of all sinks, each in the order of its commits; ids are never used twice while it is open."""

    def __init__(self, db: sqlite3.Connection, caps: Mapping[str, Caps]) -> None:
        """caps: of sinks by name; looked at in each commit."""
        self._db = db
        self._caps = caps
        counted = Counter[str](dict(db.execute("SELECT name, value FROM counters")))
        self._queues: dict[str, _Queue] = {}
        for name, number in db.execute("SELECT name, number FROM sinks"):
            first = number << _NUMBER_BITS
            [(rows, size, image_rows, image_size, last)] = db.execute(_SUMS, (first, first + (1 << _NUMBER_BITS)))
            sums = rows, size or 0, image_rows or 0, image_size or 0
            self._queues[name] = _Queue(first, (last or first) + 1, *sums, counted[f"{name}.dropped"], counted[f"{name}.refused"])

    def check(self) -> None:
        """Raise where a row could not be sent, or a count not be counted on: a scratch can turn a value into one of another type."""
        columns = _COLUMNS.replace("payload", "CASE typeof(payload) WHEN 'blob' THEN x'' END")  # its bytes may be anything
        wanted = Message("", b"")
        for row in self._db.execute(f"SELECT {columns} FROM outbox"):  # noqa: S608 - constants
            found = _message(row, "")
            for name in ("key", "payload", "kind", "qos", "content_type"):
                if type(getattr(found, name)) is not type(getattr(wanted, name)):
                    raise TypeError(f"a message whose {name} is {getattr(found, name)!r:.40}")
            if found.qos not in {0, 1, 2} or not isinstance(found.expiry_s, int | None) or not isinstance(found.correlation, bytes | None):
                raise ValueError("a message that cannot be sent")
            if not all(isinstance(text, str) for pair in found.properties for text in pair):
                raise TypeError("a message whose properties are no texts")
        counters = self._db.execute("SELECT name, value FROM counters").fetchall()
        if not all(type(name) is str and type(value) is int and value >= 0 for name, value in counters):
            raise TypeError("a count that is no number")
        sinks = self._db.execute("SELECT name, number FROM sinks").fetchall()
        if not all(type(name) is str and type(number) is int and 0 <= number < 1 << 15 for name, number in sinks):
            raise TypeError("a sink without a name or a number")
        if self._db.execute("SELECT 1 FROM outbox WHERE sink NOT IN (SELECT number FROM sinks) LIMIT 1").fetchone():
            raise ValueError("a message of no sink")

    def counts(self) -> dict[str, _Queue]:
        """Return the counts in memory as they are now, for `restore`."""
        return {sink: queue.copy() for sink, queue in self._queues.items()}

    def restore(self, counts: dict[str, _Queue]) -> None:
        """Take back the counts of a transaction that did not come to its end."""
        self._queues = counts

    @property
    def bytes(self) -> int:
        """Return what waits for all sinks together, in bytes."""
        return sum(queue.bytes for queue in self._queues.values())

    def pending(self, sink: str) -> Pending:
        """Return the waiting and lost messages of a sink."""
        queue = self._queues.get(sink)
        return queue.pending() if queue is not None else Pending()

    def sinks(self) -> list[str]:
        """Return the names of all that ever had a message here."""
        return list(self._queues)

    def is_roomy(self, sink: str) -> bool:
        """Return whether a tenth of each cap is free."""
        caps, waiting = self._caps.get(sink, _CAPS), self.pending(sink)
        return waiting.rows <= 0.9 * caps.rows and waiting.bytes <= 0.9 * caps.bytes and waiting.image_bytes <= 0.9 * caps.image_bytes

    def append(self, m: Message) -> None:
        """Put a message behind all others of its sink; a retained one takes the place of the one with its key."""
        queue = self._queues.get(m.sink) or self._new_queue(m.sink)
        if m.retain:
            self._remove(queue, "retain AND key = ?", (m.key,))
        pairs = json.dumps(m.properties) if m.properties else "[]"
        values = (queue.next_id, m.kind, m.key, m.payload, m.qos, m.retain, m.content_type, m.expiry_s, pairs, m.correlation)
        self._db.execute(f"INSERT INTO outbox ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)  # noqa: S608 - constants
        queue.next_id += 1
        queue.tally(m.kind, len(m.payload), 1)

    def read(
        self, sink: str, after_id: int, limit: int, max_bytes: int, skip_keys: Iterable[str], images_below: int | None = None
    ) -> list[Message]:
        """Return the oldest messages with a larger id, in order: at most `limit`, and no more after `max_bytes`.

        images_below: leave out images of so many bytes and more.
        """
        values: list[object] = list(skip_keys)
        where = f"key NOT IN ({_marks(values)})"
        if images_below is not None:
            where += " AND NOT (kind = 'image' AND length(payload) >= ?)"
            values.append(images_below)
        messages = []
        for message in self._select(sink, where, values, limit, after_id):
            messages.append(message)
            max_bytes -= len(message.payload)
            if max_bytes <= 0:
                break
        return messages

    def images(self, sink: str, from_bytes: int, skip_keys: Iterable[str], limit: int) -> list[Message]:
        """Return the oldest images of so many bytes and more."""
        skipped = list(skip_keys)
        where = f"kind = 'image' AND length(payload) >= ? AND key NOT IN ({_marks(skipped)})"
        return list(self._select(sink, where, [from_bytes, *skipped], limit))

    def delete(self, sink: str, ids: Sequence[int]) -> int:
        """Delete messages of a sink and return how many there were. Unknown ids are ignored."""
        queue = self._queues.get(sink)
        return 0 if queue is None else self._remove(queue, "id IN (SELECT value FROM json_each(?))", (f"[{','.join(map(str, ids))}]",))

    def enforce_caps(self, sink: str) -> int:
        """Drop the oldest messages of a sink while it is over its caps; return how many."""
        dropped, caps, queue = 0, self._caps.get(sink, _CAPS), self._queues[sink]
        while queue.image_bytes > caps.image_bytes:
            dropped += self._drop_oldest(queue, "kind = 'image'")
        while queue.rows > caps.rows or queue.bytes > caps.bytes:
            # Retained messages are one a topic and say how things stand now: they stay, unless their topics are too many.
            gone = self._drop_oldest(queue, "kind = 'image'") or self._drop_oldest(queue, "NOT retain")
            if not gone and queue.rows > _MOST_RETAINED:
                gone = self._drop_oldest(queue, "retain")
            if not gone:
                break
            dropped += gone
        if dropped:
            queue.dropped += dropped
            self._count(f"{sink}.dropped", queue.dropped)
        return dropped

    def count_refused(self, sink: str, count: int) -> None:
        """Add to the messages of a sink that were refused; this count, like that of the dropped, stays for the life of the database."""
        if count:
            self._queues[sink].refused += count
            self._count(f"{sink}.refused", self._queues[sink].refused)

    def _count(self, name: str, value: int) -> None:
        self._db.execute("INSERT OR REPLACE INTO counters VALUES (?, ?)", (name, value))

    def _new_queue(self, sink: str) -> _Queue:
        [(number,)] = self._db.execute("INSERT INTO sinks SELECT ?, max(number) + 1 FROM sinks RETURNING number", (sink,)).fetchall()
        first = number << _NUMBER_BITS
        self._queues[sink] = _Queue(first, first + 1)
        return self._queues[sink]

    def _select(self, sink: str, where: str, values: Sequence[object], limit: int, after_id: int = 0) -> Iterator[Message]:
        if (queue := self._queues.get(sink)) is None:
            return
        query = f"SELECT {_COLUMNS} FROM outbox WHERE id > ? AND id < ? AND {where} ORDER BY id LIMIT ?"  # noqa: S608 - constants and marks
        for row in self._db.execute(query, (max(after_id, queue.base), queue.end, *values, limit)):
            yield _message(row, sink)

    def _remove(self, queue: _Queue, where: str, values: tuple[object, ...]) -> int:
        query = f"DELETE FROM outbox WHERE {where} AND sink = ? RETURNING kind, length(payload)"  # noqa: S608 - callers give constants
        gone = self._db.execute(query, (*values, queue.base >> _NUMBER_BITS)).fetchall()
        for kind, size in gone:
            queue.tally(kind, size, -1)
        return len(gone)

    def _drop_oldest(self, queue: _Queue, which: str) -> int:
        where = f"id = (SELECT id FROM outbox WHERE id > ? AND id < ? AND {which} ORDER BY id LIMIT 1)"  # noqa: S608 - callers give constants
        return self._remove(queue, where, (queue.base, queue.end))


def _marks(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))


def _message(row: tuple[int, str, str, bytes, int, int, str, int | None, str, bytes | None], sink: str) -> Message:
    id_, kind, key, payload, qos, retain, content_type, expiry_s, properties, correlation = row
    pairs = () if properties == "[]" else tuple((name, value) for name, value in json.loads(properties))
    return Message(key, payload, kind, qos, bool(retain), content_type, expiry_s, pairs, id_, correlation, sink=sink)
