"""What the outbox keeps: values; and how the tables came to be."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Final, Self

__all__ = ["MIGRATIONS", "Caps", "Message", "Pending"]

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
    # Nobody asked for files by their content, and the index cost a page or two of the card for each picture.
    """
    DROP INDEX ledger_content;
    ALTER TABLE outbox ADD COLUMN correlation BLOB;
    """,
    # A queue for each sink. Those that waited until now were MQTT's, whose number 0 leaves them their ids.
    """
    CREATE TABLE sinks (name TEXT PRIMARY KEY, number INTEGER NOT NULL UNIQUE) WITHOUT ROWID;
    INSERT INTO sinks VALUES ('mqtt', 0);
    ALTER TABLE outbox RENAME COLUMN topic TO key;
    ALTER TABLE outbox ADD COLUMN sink INTEGER GENERATED ALWAYS AS (id >> 48) VIRTUAL;
    UPDATE counters SET name = 'mqtt.' || name;
    """,
    # A file that was renamed is known by its time, size and inode. New pictures have the newest times, so that their entries go into the
    # same page of the index: a page of the log a picture, and hardly one of the database.
    """
    CREATE TABLE folders (id INTEGER PRIMARY KEY, path BLOB NOT NULL UNIQUE);
    ALTER TABLE ledger ADD COLUMN folder INTEGER;
    CREATE INDEX ledger_time ON ledger (mtime_ns, size, inode);
    """,
    # What is open in front of a source: stored with the messages about it, so that each event is told once.
    """
    CREATE TABLE scenes (source TEXT PRIMARY KEY, state BLOB NOT NULL) WITHOUT ROWID;
    """,
)
"""The script at place N brings a database of version N to N + 1; `user_version` holds the version. Append, never edit.

Each changes the tables: a database with the tables of this version and the number of a later one counts as scratched."""


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
