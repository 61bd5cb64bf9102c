"""What must survive kill -9 and power loss: a ledger of files that are done and an outbox of messages to be sent.

One transaction a picture writes both, so a picture is either done with its messages kept, or not done at all. A commit does not
wait for the disk (WAL, `synchronous=NORMAL`), and a crash of the program loses nothing of it. After a power cut the newest
commits may be missing, but from ledger and outbox alike: those pictures are done again, and their messages carry the same ids.
`sync_s` bounds how much that can be, which matters for camera frames, that nobody can take again. An fsync a picture
(`synchronous=FULL`) would wear an SD card and stop the writer for tens of milliseconds each time.

One connection, one lock: the writer thread commits, the sending thread reads and deletes; both are short.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from edgeannot.database import lock_file, open_database, sync_log, translated
from edgeannot.errors import EdgeannotError, LinkError

__all__ = ["Caps", "LedgerEntry", "Message", "Pending", "Signature", "Store"]

MIGRATIONS: Final[Sequence[str]] = (
    """
    CREATE TABLE ledger (
        source TEXT NOT NULL, path BLOB NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, inode INTEGER NOT NULL,
        content_hash BLOB NOT NULL, outcome TEXT NOT NULL, done_at INTEGER NOT NULL,
        PRIMARY KEY (source, path)) WITHOUT ROWID;
    CREATE INDEX ledger_content ON ledger (source, content_hash);
    CREATE TABLE outbox (
        id INTEGER PRIMARY KEY, kind TEXT NOT NULL, topic TEXT NOT NULL, payload BLOB NOT NULL, qos INTEGER NOT NULL,
        retain INTEGER NOT NULL, content_type TEXT NOT NULL, expiry_s INTEGER, properties TEXT NOT NULL);
    CREATE INDEX outbox_retained ON outbox (topic) WHERE retain;
    CREATE INDEX outbox_images ON outbox (id) WHERE kind = 'image';
    CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    """,
)
"""The script at place N brings a database of version N to N + 1; `user_version` holds the version. Append, never edit."""

log = logging.getLogger(__name__)

_COLUMNS: Final = "id, kind, topic, payload, qos, retain, content_type, expiry_s, properties"


@dataclass(frozen=True, slots=True)
class Signature:
    """What tells, without reading it, that a file is the one that was done: `os.stat`'s size, mtime and inode."""

    size: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, stat: os.stat_result) -> Self:
        """The signature of a file with this stat."""
        return cls(stat.st_size, stat.st_mtime_ns, stat.st_ino)


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """A file that needs no more work. A later entry for the same source and path takes its place."""

    source: str
    path: str
    """Relative to the source's folder, as `os.fsdecode` gives it."""
    signature: Signature
    content_hash: bytes
    """Of the file's bytes; empty where nobody read it."""
    outcome: str = "annotated"
    """"annotated", or the reason it was set aside."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message on its way to the broker."""

    topic: str
    payload: bytes
    kind: str = "detections"
    """What it is, for caps and counts: detections, image, count, ... Images are the first to be dropped."""
    qos: int = 1
    retain: bool = False
    """A retained message takes the place of an unsent one on its topic, and is not stored when nothing changed."""
    content_type: str = "application/json"
    expiry_s: int | None = None
    """How long the broker may keep it for a client that is away; None: for ever."""
    properties: tuple[tuple[str, str], ...] = ()
    """MQTT 5 user properties."""
    id: int = 0
    """Place in the outbox, counting up in the order of commits; 0 before it is there."""


@dataclass(frozen=True, slots=True)
class Caps:
    """How much may wait in the outbox; over that the oldest go, images before all others, and are counted."""

    rows: int = 1_000_000
    bytes: int = 256 * 2**20
    image_bytes: int = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Pending:
    """What waits, and what had to go since the database was made."""

    rows: int
    bytes: int
    image_rows: int
    image_bytes: int
    dropped: int
    """Messages that the caps pushed out unsent."""
    refused: int
    """Messages that the broker would never take (too large, not a valid topic there)."""


class Store:
    """The database of one daemon; open it with `Store.open`."""

    def __init__(self, path: Path, connection: sqlite3.Connection, lock_fd: int, caps: Caps, sync_s: float) -> None:
        self.path = path
        self._db = connection
        self._lock_fd = lock_fd
        self._caps = caps
        self._sync_s = sync_s
        self._changed = threading.Condition(threading.RLock())
        self._listeners: list[Callable[[], None]] = []
        self._retained: dict[str, Message] = {}
        self._synced_at = time.monotonic()
        self._unsynced = False
        self._failing = False
        self._next_id, self._rows, self._bytes = 1, Counter[bool](), Counter[bool]()
        for is_image, rows, size, last in connection.execute(
            "SELECT kind = 'image', count(*), sum(length(payload)), max(id) FROM outbox GROUP BY 1"
        ):
            self._rows[bool(is_image)], self._bytes[bool(is_image)] = rows, size
            self._next_id = max(self._next_id, last + 1)

    @classmethod
    def open(cls, path: Path, *, caps: Caps | None = None, sync_s: float = 5.0) -> Self:
        """Open or make the database; a corrupt one is set aside beside it, with an error in the log.

        `sync_s`: longest time in seconds that a commit may wait for the disk, 0 for an fsync a commit. Raises ConfigError when
        another daemon has it open, the folder cannot be written to, or a newer version of this program made it.
        """
        lock_fd = lock_file(Path(f"{path}.lock"))
        try:
            connection = open_database(path, MIGRATIONS)
            return cls(path, connection, lock_fd, caps or Caps(), sync_s)
        except BaseException:
            os.close(lock_fd)
            raise

    def close(self) -> None:
        """Bring everything to the disk and let go of the database."""
        with self._changed:
            try:
                self.sync()
            except EdgeannotError as exc:
                log.warning("%s", exc)
            self._db.close()
            os.close(self._lock_fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # The ledger

    def is_done(self, source: str, path: str, signature: Signature) -> bool:
        """Whether this very file, unchanged since, needs no more work."""
        query = "SELECT 1 FROM ledger WHERE source = ? AND path = ? AND size = ? AND mtime_ns = ? AND inode = ?"
        with self._changed, translated(self.path):
            row = self._db.execute(query, (source, os.fsencode(path), signature.size, signature.mtime_ns, signature.inode))
            return row.fetchone() is not None

    def has_content(self, source: str, content_hash: bytes) -> bool:
        """Whether a file with these bytes was done in this source, under any name."""
        with self._changed, translated(self.path):
            row = self._db.execute("SELECT 1 FROM ledger WHERE source = ? AND content_hash = ?", (source, content_hash))
            return row.fetchone() is not None

    def ledger(self, source: str | None = None) -> list[LedgerEntry]:
        """The entries of one source, or all, by path."""
        query = (
            "SELECT source, path, size, mtime_ns, inode, content_hash, outcome FROM ledger WHERE ? IN (source, '') ORDER BY source, path"
        )
        with self._changed, translated(self.path):
            rows = self._db.execute(query, (source or "",)).fetchall()
        return [LedgerEntry(row[0], os.fsdecode(row[1]), Signature(*row[2:5]), *row[5:]) for row in rows]

    def ledger_paths(self, source: str, after: str = "", limit: int = 1000) -> list[str]:
        """The paths of one source's entries that come after one, in order: the ledger in handy pieces, however long it is."""
        query = "SELECT path FROM ledger WHERE source = ? AND path > ? ORDER BY path LIMIT ?"
        with self._changed, translated(self.path):
            rows = self._db.execute(query, (source, os.fsencode(after), limit)).fetchall()
        return [os.fsdecode(path) for (path,) in rows]

    def forget(self, source: str, gone: Iterable[str]) -> None:
        """Drop the entries of files that are no longer there, so that the ledger is no larger than the folder."""
        with self._changed, self._transaction():
            self._db.executemany("DELETE FROM ledger WHERE source = ? AND path = ?", ((source, os.fsencode(path)) for path in gone))

    # The outbox

    def commit(self, done: LedgerEntry | None, messages: Sequence[Message]) -> None:
        """One picture: it is done (a camera's frame has no entry) and these messages are to be sent; all of it or nothing.

        Raises LinkError when the disk is full or fails: nothing was written, try again later.
        """
        with self._changed:
            fresh = [m for m in messages if not (m.retain and self._same_as_last(m))]
            with self._transaction():
                if done is not None:
                    self._write_entry(done)
                for message in fresh:
                    self._append(message)
                self._enforce_caps()
            self._unsynced = True
            self._retained.update((m.topic, m) for m in fresh if m.retain)
            if fresh:
                self._changed.notify_all()
                for listener in self._listeners:
                    listener()
        self.sync_if_due()

    def next_messages(self, after_id: int, limit: int, *, max_bytes: int = 2**22, skip_topics: Iterable[str] = ()) -> list[Message]:
        """The oldest unsent messages with a larger id than `after_id`, in order: at most `limit`, and no more after `max_bytes`."""
        skipped = list(skip_topics)
        marks = ",".join("?" * len(skipped))
        query = f"SELECT {_COLUMNS} FROM outbox WHERE id > ? AND topic NOT IN ({marks}) ORDER BY id LIMIT ?"  # noqa: S608 - constants and marks
        with self._changed, translated(self.path):
            messages = []
            for row in self._db.execute(query, (after_id, *skipped, limit)):
                messages.append(_message(row))
                max_bytes -= len(messages[-1].payload)
                if max_bytes <= 0:
                    break
            return messages

    def delete(self, ids: Sequence[int], *, refused: bool = False) -> None:
        """Forget messages that the broker has (or, `refused`, will never take); ids that are not there are passed over."""
        with self._changed:
            with self._transaction():
                count = self._remove("id IN (SELECT value FROM json_each(?))", ("[" + ",".join(map(str, ids)) + "]",))
                if refused:
                    self._count("refused", count)
            self._changed.notify_all()

    def pending(self) -> Pending:
        """What waits to be sent, and what was lost of it."""
        with self._changed, translated(self.path):
            counted = dict(self._db.execute("SELECT name, value FROM counters").fetchall())
            return Pending(
                self._rows.total(),
                self._bytes.total(),
                self._rows[True],
                self._bytes[True],
                counted.get("dropped", 0),
                counted.get("refused", 0),
            )

    def retained(self) -> list[Message]:
        """The newest retained message of each topic since the start: what a broker that lost its memory must be told again."""
        with self._changed:
            return list(self._retained.values())

    def add_listener(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each commit that put messages into the outbox; it must return at once."""
        with self._changed:
            self._listeners.append(listener)

    def wait_empty(self, timeout_s: float) -> bool:
        """Wait until nothing is left to send; False when something is after `timeout_s`."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._rows.total(), timeout_s)

    def sync(self) -> None:
        """Bring every commit to the disk; call it before doing what cannot be done again, such as removing an input file."""
        with self._changed:
            if not self._unsynced:
                return
            self._synced_at, self._unsynced = time.monotonic(), False
        try:  # the disk may take its time: nobody waits for the lock meanwhile
            sync_log(self.path)
        except LinkError:
            self._unsynced = True
            raise

    def sync_if_due(self) -> None:
        """`sync()` when the last one is `sync_s` ago; call it now and then where no commit follows the last.

        A disk that fails is only logged, when that changes: what was committed is committed, and is kept as long as the machine runs.
        Raises EdgeannotError when the database is gone.
        """
        if time.monotonic() - self._synced_at < self._sync_s:
            return
        try:
            self.sync()
        except LinkError as exc:
            if not self._failing:
                log.warning("%s", exc)
            self._failing = True
        else:
            if self._failing:
                log.info("the database %s is brought to the disk again", self.path)
            self._failing = False

    # What a transaction is made of; the counts in memory follow only when it was committed.

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        before = self._next_id, self._rows.copy(), self._bytes.copy()
        try:
            with translated(self.path):
                self._db.execute("BEGIN IMMEDIATE")
                yield
                self._db.execute("COMMIT")
        except BaseException:
            self._next_id, self._rows, self._bytes = before
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _write_entry(self, done: LedgerEntry) -> None:
        s = done.signature
        done_at = int(time.time())
        values = (done.source, os.fsencode(done.path), s.size, s.mtime_ns, s.inode, done.content_hash, done.outcome, done_at)
        self._db.execute("INSERT OR REPLACE INTO ledger VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)

    def _append(self, message: Message) -> None:
        if message.retain:
            self._remove("retain AND topic = ?", (message.topic,))
        m = message
        values = (self._next_id, m.kind, m.topic, m.payload, m.qos, m.retain, m.content_type, m.expiry_s, json.dumps(m.properties))
        self._db.execute("INSERT INTO outbox VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
        self._next_id += 1
        self._tally(message.kind, len(message.payload), 1)

    def _remove(self, where: str, values: tuple[object, ...]) -> int:
        gone = self._db.execute(f"DELETE FROM outbox WHERE {where} RETURNING kind, length(payload)", values).fetchall()  # noqa: S608 - callers give constants
        for kind, size in gone:
            self._tally(kind, size, -1)
        return len(gone)

    def _tally(self, kind: str, size: int, sign: int) -> None:
        self._rows[kind == "image"] += sign
        self._bytes[kind == "image"] += sign * size

    def _enforce_caps(self) -> None:
        dropped = 0
        while self._bytes[True] > self._caps.image_bytes:
            dropped += self._drop_oldest("kind = 'image'")
        while self._rows.total() > self._caps.rows or self._bytes.total() > self._caps.bytes:
            # Retained messages are one a topic and say how things stand now: they stay.
            gone = self._drop_oldest("kind = 'image'") or self._drop_oldest("NOT retain")
            if not gone:
                break
            dropped += gone
        self._count("dropped", dropped)

    def _drop_oldest(self, which: str) -> int:
        return self._remove(f"id = (SELECT id FROM outbox WHERE {which} ORDER BY id LIMIT 1)", ())  # noqa: S608 - callers give constants

    def _count(self, name: str, amount: int) -> None:
        if amount:
            self._db.execute(
                "INSERT INTO counters VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value", (name, amount)
            )

    def _same_as_last(self, message: Message) -> bool:
        last = self._retained.get(message.topic)
        return last is not None and last.payload == message.payload


def _message(row: tuple[int, str, str, bytes, int, int, str, int | None, str]) -> Message:
    id_, kind, topic, payload, qos, retain, content_type, expiry_s, properties = row
    pairs = tuple((key, value) for key, value in json.loads(properties))
    return Message(topic, payload, kind, qos, bool(retain), content_type, expiry_s, pairs, id_)
