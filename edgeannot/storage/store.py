"""Storage that survives kill -9 and power loss: a ledger of files that are done, and an outbox with a queue of messages for each sink.

One transaction a picture writes both, so a picture is either done with its messages kept, or not done at all. A commit does not
wait for the disk (WAL, `synchronous=NORMAL`), and a crash of the program loses nothing of it. After a power cut the newest
commits may be missing, but from ledger and outbox alike: those pictures are done again, and their messages carry the same ids.
`sync_s` bounds how much that can be, which matters for camera frames, that nobody can take again. An fsync a picture
(`synchronous=FULL`) would wear an SD card and stop the writer for tens of milliseconds each time; so it is one each `sync_s`
seconds, and two for each 4 MB of log that SQLite writes back (docs/delivery.md has the figures).

One connection, one lock: the writer thread commits, each sink's own thread reads and deletes in its queue; all of it is short. A queue has
its own bounds: a sink that is away for a day drops nothing of another's.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Self

from edgeannot.base.errors import EdgeannotError, LinkError
from edgeannot.base.file_signature import FileSignature, LedgerEntry
from edgeannot.storage import database
from edgeannot.storage.disk_files import Opened, Reserve, same_file, write_anew
from edgeannot.storage.queue import Caps, Message, Pending, Queue
from edgeannot.storage.tables import Ledger, Outbox

__all__ = ["Caps", "Message", "Pending", "Queue", "Store"]

log = logging.getLogger(__name__)

_MOST_TOPICS = 10_000
"""Topics whose retained message a broker that lost its memory is told again: those that changed last."""


class Store:
    """The database of one daemon; open it with `Store.open`."""

    def __init__(self, path: Path, connection: sqlite3.Connection, lock_fd: int, sync_s: float) -> None:
        self.path = path
        self._db = connection
        self._lock_fd = lock_fd
        self._caps: dict[str, Caps] = {}
        self._opened = Opened(path)
        self._sync_s = sync_s
        self._changed = threading.Condition(threading.RLock())
        self._syncing = threading.Lock()
        self._listeners: dict[str, list[Callable[[], None]]] = {}
        self._retained: dict[tuple[str, str], Message] = {}
        self._synced_at = time.monotonic()
        self._unsynced = False
        self._failing = False
        self._dropping: set[str] = set()
        self._reserve = Reserve.beside(path)
        self._reserve.take()
        self._ledger = Ledger(connection)
        with database.translated(path):
            self._outbox = Outbox(connection, self._caps)

    @classmethod
    def open(cls, path: Path, *, sync_s: float = 5.0) -> Self:
        """Open or create the database; set a damaged one aside, with an error in the log.

        `sync_s`: longest time in seconds that a commit may wait for the disk, 0 for an fsync a commit. Raises ConfigError when
        another daemon has it open, the folder cannot be written to, or a newer version of this program made it.
        """
        lock_fd = database.lock_file(Path(f"{path}.lock"))
        try:
            try:
                connection = database.open_database(path, _check_rows)
            except LinkError:  # a full disk, and a run that was killed held room back
                if not Reserve.beside(path).give():
                    raise
                connection = database.open_database(path, _check_rows)
            return cls(path, connection, lock_fd, sync_s)
        except BaseException:
            os.close(lock_fd)
            raise

    def close(self) -> None:
        """Sync everything to disk and close the database."""
        try:
            self.sync()
        except EdgeannotError as exc:
            log.warning("%s", exc)
        with self._changed:
            self._db.close()
            self._reserve.give()
            os.close(self._lock_fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # The ledger

    def outcome(self, source: str, path: str, signature: FileSignature) -> str | None:
        """Return the outcome of this file, unchanged since (see `LedgerEntry.outcome`); None if it is still to be annotated."""
        with self._changed, database.translated(self.path):
            return self._ledger.outcome(source, path, signature)

    def similar(self, source: str, signature: FileSignature) -> list[LedgerEntry]:
        """Return entries of a source whose file may be this one under another name or number, the surest first (see `Ledger.similar`)."""
        with self._changed, database.translated(self.path):
            return self._ledger.similar(source, signature)

    def move(self, moves: Iterable[tuple[LedgerEntry, LedgerEntry]]) -> None:
        """Replace entries by those of the same files at other places. One that changed meanwhile stays beside its new one."""
        with self._changed, self._transaction():
            for old, new in moves:
                self._ledger.move(old, new)

    def ledger(self, source: str | None = None) -> list[LedgerEntry]:
        """Return the entries of one source, or all, by path."""
        with self._changed, database.translated(self.path):
            return self._ledger.entries(source)

    def ledger_paths(self, source: str, after: str = "", limit: int = 1000) -> list[str]:
        """Return the paths of one source's entries after a given one, in order, to read a long ledger in parts."""
        with self._changed, database.translated(self.path):
            return self._ledger.paths(source, after, limit)

    def forget(self, source: str, gone: Iterable[str]) -> None:
        """Delete the entries of files that are no longer there, so that the ledger is no larger than the folder."""
        with self._changed, self._transaction():
            self._ledger.forget(source, gone)

    # The outbox

    def scene(self, source: str) -> bytes | None:
        """Return the state of a source's tracking, as `commit` stored it last; None if there is none."""
        with self._changed, database.translated(self.path):
            row = self._db.execute("SELECT state FROM scenes WHERE source = ?", (source,)).fetchone()
            return None if row is None else bytes(row[0])

    def commit(self, done: LedgerEntry | None, messages: Sequence[Message], scenes: Sequence[tuple[str, bytes]] = ()) -> None:
        """Store one picture in one transaction: its ledger entry (a camera's frame has none), its messages, and the states of scenes
        that it has changed, by their keys.

        Raises LinkError when the disk is full or fails: nothing was written, try again later.
        """
        with self._changed:
            self._reserve.check_room(self._outbox.bytes)
            fresh = [m for m in messages if not (m.retain and self._same_as_last(m))]
            with self._transaction():
                if done is not None:
                    self._ledger.write(done)
                for scene in scenes:
                    self._db.execute("INSERT INTO scenes VALUES (?, ?) ON CONFLICT (source) DO UPDATE SET state = excluded.state", scene)
                for message in fresh:
                    self._outbox.append(message)
                dropped = {sink: self._outbox.enforce_caps(sink) for sink in {message.sink for message in fresh}}
            self._remember(m for m in fresh if m.retain)
            for sink, count in dropped.items():
                self._say_dropping(sink, count)
                for listener in self._listeners.get(sink, ()):
                    listener()
        self.sync_if_due()

    def queue(self, sink: str, caps: Caps | None = None) -> Queue:
        """Return the queue of one sink, with messages from earlier runs. caps: its limits from now on; None: as before."""
        if caps is not None:
            self._caps[sink] = caps
        return Queue(self, sink)

    def pending(self) -> Pending:
        """Return the waiting and lost messages of all sinks together."""
        with self._changed:
            return sum(map(self._outbox.pending, self._outbox.sinks()), Pending())

    def pending_by_sink(self) -> dict[str, Pending]:
        """Return the same for each sink that has a queue here or ever had a message in one, by name."""
        with self._changed:
            return {sink: self._outbox.pending(sink) for sink in dict.fromkeys((*self._outbox.sinks(), *self._caps))}

    def damaged(self) -> list[str]:
        """Return the names of damaged databases that were set aside, now or at an earlier start, and still lie beside this one."""
        return [file.name for file in database.damaged_files(self.path)]

    # The disk

    def sync(self) -> None:
        """Sync every commit to disk; call it before anything irreversible, such as removing an input file.

        Files that were removed meanwhile are written anew. Raises LinkError when the disk does not take it.
        """
        with self._syncing:  # who comes meanwhile waits: its commits may be among those on their way
            with self._changed:
                self._keep_in_place()
                if not self._unsynced:
                    return
                self._synced_at, self._unsynced = time.monotonic(), False
            try:  # the disk may take its time: no commit waits for it
                database.sync_log(self.path)
            except EdgeannotError:
                self._unsynced = True
                raise

    def sync_if_due(self) -> None:
        """Call `sync` if the last one is `sync_s` ago; call this now and then while no commits follow.

        A disk that fails is only logged, when that changes: what was committed is committed, and is kept as long as the machine runs.
        Raises ConfigError when the lock was removed and another daemon has it now.
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
                log.info("the database %s can be synced to disk again", self.path)
            self._failing = False
            with self._changed:
                self._reserve.take(spare=1)

    def _keep_in_place(self) -> None:
        """Restore database, log or lock from the open files if they were removed or replaced.

        Raises LinkError when that fails, ConfigError when another daemon has locked the folder meanwhile.
        """
        lock = Path(f"{self.path}.lock")
        if not same_file(self._lock_fd, lock):
            fd, old = database.lock_file(lock), self._lock_fd
            self._lock_fd = fd
            os.close(old)
            log.warning("the lock file %s was removed while in use; restored", lock)
        if self._opened.is_in_place(log_needed=self._unsynced):
            return
        write_anew(self._db, self.path, self._opened)
        self._db = database.open_database(self.path, _check_rows)
        self._opened = Opened(self.path)
        self._ledger, self._outbox = Ledger(self._db), Outbox(self._db, self._caps)
        self._reserve.give()
        self._reserve.take()
        log.error("the database %s was removed while in use; restored with all its data", self.path)

    def _delete(self, sink: str, ids: Sequence[int], *, refused: bool) -> None:
        """Delete messages (`Queue.delete`); on a full disk use the reserved space for it."""
        with self._changed:
            try:
                self._delete_rows(sink, ids, refused=refused)
            except LinkError:
                if not self._reserve.give():
                    raise
                log.warning("the disk of %s is full: the reserved space is used to remove acknowledged messages", self.path)
                self._delete_rows(sink, ids, refused=refused)
            self._changed.notify_all()

    def _delete_rows(self, sink: str, ids: Sequence[int], *, refused: bool) -> None:
        with self._transaction():
            count = self._outbox.delete(sink, ids)
            if refused:
                self._outbox.count_refused(sink, count)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        before = self._outbox.counts()
        try:
            with database.translated(self.path):
                self._db.execute("BEGIN IMMEDIATE")
                yield
                self._db.execute("COMMIT")
                self._unsynced = True
        except BaseException:
            self._outbox.restore(before)
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _say_dropping(self, sink: str, dropped: int) -> None:
        """Log when messages of a sink begin to be dropped and when that is over; the number is in telemetry at any time."""
        if not dropped and sink not in self._dropping:
            return
        waiting = self._outbox.pending(sink)
        if sink not in self._dropping:
            log.warning(
                "the queue of %s is full (%d messages, %.1f MB): dropping its oldest, annotated images first, until some are sent",
                sink,
                waiting.rows,
                waiting.bytes / 2**20,
            )
            self._dropping.add(sink)
        elif not dropped and self._outbox.is_roomy(sink):
            log.warning("the queue of %s has room again; %d messages dropped so far", sink, waiting.dropped)
            self._dropping.discard(sink)

    def _remember(self, retained: Iterable[Message]) -> None:
        """Keep the newest of each topic, but not of topics without number: a sender of pictures can name itself anew each time."""
        for message in retained:
            self._retained.pop((message.sink, message.key), None)
            self._retained[message.sink, message.key] = message
        while len(self._retained) > _MOST_TOPICS:
            del self._retained[next(iter(self._retained))]

    def _same_as_last(self, message: Message) -> bool:
        last = self._retained.get((message.sink, message.key))
        return last is not None and last.payload == message.payload


def _check_rows(db: sqlite3.Connection) -> None:
    """Raise where the tables hold what no store wrote; SQLite itself only looks at how they are laid out."""
    Ledger(db).check()
    Outbox(db, {}).check()
