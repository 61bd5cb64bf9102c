"""SQLite database files: opened by one process at a time, checked, migrated, set aside if damaged.

WAL mode with `synchronous=NORMAL`: a commit is appended to the log without waiting for the disk; the log is replayed at the next
opening, up to the last commit that is whole.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import logging
import os
import sqlite3
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from edgeannot.base import atomicfile
from edgeannot.base.errors import ConfigError, EdgeannotError, LinkError
from edgeannot.base.systemd import write_advice

__all__ = ["MIGRATIONS", "damaged_files", "lock_file", "open_database", "set_aside", "sync_log", "translated"]

log = logging.getLogger(__name__)

_PAGE_BYTES: Final = 1024
"""Rows are small, and each page that a commit touches is logged whole: small pages spare the SD card."""

_CHECKPOINT_PAGES: Final = 4000
"""The log is written back to the database, with two fsyncs, each time it has grown by about 4 MB."""

_SPARE_BYTES: Final = 16 * 2**20
"""Free pages in the file are used again; more than this, and more than half of the file, is given back to the disk at the start."""

_DAMAGED_KEPT: Final = 3
"""Damaged databases that are kept for whoever wants to look: a dying card must not be filled up by them."""

_NO_ROOM: Final = {errno.ENOSPC, errno.EDQUOT, errno.EIO}
_TAILS: Final = ("", "-wal", "-shm")
_MAY_PASS: Final = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM}
_AWAY: Final = _MAY_PASS | {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM}
"""The disk or the folder is at fault, not the file: trying again may help."""


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


def lock_file(path: Path) -> int:
    """Lock `path` for this process and return the descriptor that holds it; the kernel lets go when the process dies.

    Raises ConfigError when another process holds it, with its number, or when the folder cannot be written to; LinkError when its
    disk is full.
    """
    fd = _private(path)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        holder = os.read(fd, 20).decode(errors="replace").strip() or "unknown"
        os.close(fd)
        raise ConfigError(
            f"the state folder {path.parent} is in use by another edgeannot (process {holder}); stop that one, or set another data_dir"
        ) from exc
    with contextlib.suppress(OSError):  # on a full disk the lock holds all the same, and the number is only for messages
        os.ftruncate(fd, 0)
        os.write(fd, str(os.getpid()).encode())
    return fd


def _private(path: Path) -> int:
    """Return a descriptor of a file of ours, made where there is none, that its owner alone may read and write. Raises as `lock_file`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return atomicfile.open_append(path, 0o600)
    except OSError as exc:
        if exc.errno in _NO_ROOM:
            raise LinkError(f"the state folder {path.parent} cannot take more files ({exc.strerror}); free space on its disk") from exc
        raise ConfigError(
            f"the state folder {path.parent} cannot be written to ({exc.strerror}); {write_advice(path.parent, exc)}set another data_dir"
        ) from exc


def open_database(path: Path, check: Callable[[sqlite3.Connection], object]) -> sqlite3.Connection:
    """Open or make the database at `path`, at the version of MIGRATIONS.

    A damaged file is moved aside, with an error in the log, and a new one begun. The connection is in autocommit mode and may be
    used by any thread, one at a time. `check`: looks at what is in the tables; whatever it raises is damage. Raises ConfigError when
    the file cannot be opened, or comes from a newer version; LinkError when the disk is full or fails, which may pass.
    """
    try:
        return _open_checked(path, check)
    except (ConfigError, LinkError):
        raise
    except sqlite3.Error as exc:
        if _code(exc) in _AWAY and not _forbids_writing(path):
            kind = LinkError if _code(exc) in _MAY_PASS else ConfigError
            raise kind(f"the database {path} cannot be opened ({exc}); check that its folder is writable and its disk has space") from exc
        why = str(exc)
    except MemoryError as exc:
        raise LinkError(f"the database {path} cannot be opened (no memory is left)") from exc
    except Exception as exc:  # noqa: BLE001 - what a damaged file holds may be wrong in any way: its start must not hang on it
        why = repr(exc)  # such as UnicodeDecodeError, where SQLite repeats a scratched name in its message
    aside = set_aside(path)
    log.error(
        "the database %s is damaged (%s): set aside as %s, new one created; remaining files are annotated again, unsent messages are lost",
        path,
        why,
        aside,
    )
    return _open_checked(path, check)


def damaged_files(path: Path) -> list[Path]:
    """Return the damaged databases that were set aside beside the one at `path`, oldest first."""
    return sorted(file for file in path.parent.glob(f"{glob.escape(path.name)}.damaged-*") if not file.name.endswith(_TAILS[1:]))


def sync_log(path: Path) -> None:
    """Bring the commits of the database at `path`, of which there are some, to the disk.

    Raises LinkError when the disk fails, or the log was removed a moment ago. In WAL mode the commits are in the log; SQLite takes no
    locks on that file, so opening and closing it here is safe.
    """
    try:
        fd = os.open(f"{path}-wal", os.O_RDONLY)
    except OSError as exc:
        raise LinkError(f"the database {path} cannot be read now ({exc.strerror}); check the disk") from exc
    try:
        os.fdatasync(fd)
    except OSError as exc:
        raise LinkError(f"the database {path} cannot be synced to disk now ({exc.strerror}); check the disk") from exc
    finally:
        os.close(fd)


class translated:  # noqa: N801 - as contextlib.suppress; a generator costs three times as much, and each picture asks several times
    """Translate SQLite's errors: LinkError if the disk is full or not available, EdgeannotError if the file itself is damaged."""

    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None: ...

    def __exit__(self, _kind: object, exc: BaseException | None, _trace: object) -> None:
        if not isinstance(exc, sqlite3.Error):
            return
        path = self._path
        if _code(exc) in _AWAY:
            raise LinkError(
                f"the database {path} cannot be used now ({exc}); check that the disk has space and is mounted read-write"
            ) from exc
        raise EdgeannotError(f"the database {path} failed ({exc}); the next start checks it and sets it aside if it is damaged") from exc


def _code(exc: sqlite3.Error) -> int:
    """Return SQLite's primary result code."""
    return getattr(exc, "sqlite_errorcode", 0) & 0xFF


def _forbids_writing(path: Path) -> bool:
    """Return whether the file's header forbids this SQLite to write; none of our versions ever set that."""
    try:
        with path.open("rb") as file:
            header = file.read(20)
    except OSError:
        return False
    return len(header) == 20 and header[18] > 2  # https://sqlite.org/fileformat.html, 1.3.3


def _open_checked(path: Path, check: Callable[[sqlite3.Connection], object]) -> sqlite3.Connection:
    for tail in _TAILS:  # SQLite gives those that it makes later the permissions of the database
        if not tail or os.path.lexists(f"{path}{tail}"):
            os.close(_private(Path(f"{path}{tail}")))
    db = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
    try:
        db.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        db.execute(f"PRAGMA journal_size_limit = {_CHECKPOINT_PAGES * _PAGE_BYTES}")
        _check(db)
        _migrate(db, path)
        _check_tables(db)
        check(db)
        db.executescript(f"BEGIN; PRAGMA user_version = {len(MIGRATIONS)}; ROLLBACK;")  # a scratched header can forbid writing
        _give_back(db, path)
    except BaseException:
        db.close()
        raise
    return db


def _check(db: sqlite3.Connection) -> None:
    # Not quick_check: it passes over rows that are out of order, which a lookup then does not find.
    [(verdict,)] = db.execute("PRAGMA integrity_check(1)").fetchall()
    if verdict != "ok":
        raise sqlite3.DatabaseError(" ".join(str(verdict).split()))


def _migrate(db: sqlite3.Connection, path: Path) -> None:
    [(version,)] = db.execute("PRAGMA user_version").fetchall()
    if version > len(MIGRATIONS) and not _has_tables(db):  # with our tables the number is what was scratched
        raise ConfigError(
            f"the database {path} has version {version}, this edgeannot supports up to {len(MIGRATIONS)}; "
            "install a newer edgeannot, or set another data_dir"
        )
    if not 0 <= version <= len(MIGRATIONS):
        raise sqlite3.DatabaseError(f"its version is {version}, its tables are those of {len(MIGRATIONS)}")
    for number, script in enumerate(MIGRATIONS[version:], version + 1):
        db.executescript(f"BEGIN; {script}; PRAGMA user_version = {number}; COMMIT;")


def _check_tables(db: sqlite3.Connection) -> None:
    """Raise if the tables are not ours: a damaged schema can leave a valid database with other tables."""
    if not _has_tables(db):
        raise sqlite3.DatabaseError(f"its tables are not those of version {len(MIGRATIONS)}")


def _has_tables(db: sqlite3.Connection) -> bool:
    query = "SELECT type, name, sql FROM sqlite_schema ORDER BY type, name"
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as fresh:
        for script in MIGRATIONS:
            fresh.executescript(script)
        wanted = fresh.execute(query).fetchall()
    return db.execute(query).fetchall() == wanted


def _give_back(db: sqlite3.Connection, path: Path) -> None:
    """Shrink a file that a long outage has left large and empty; it takes a copy of what is in use, and can wait."""
    (free,), (pages,) = (db.execute(f"PRAGMA {name}").fetchone() for name in ("freelist_count", "page_count"))
    if free * _PAGE_BYTES <= _SPARE_BYTES or 2 * free <= pages:
        return
    try:
        db.execute("VACUUM")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as exc:
        log.info("the database %s cannot be shrunk (%s)", path, exc)


def set_aside(path: Path) -> Path:
    """Move the database at `path`, with its log, out of the way; the new name."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
    aside = Path(f"{path}.damaged-{stamp}")
    for tail in _TAILS:
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}{tail}").rename(f"{aside}{tail}")
    for old in damaged_files(path)[:-_DAMAGED_KEPT]:
        log.warning("removing %s: only the last %d damaged databases are kept", old, _DAMAGED_KEPT)
        for tail in _TAILS:
            Path(f"{old}{tail}").unlink(missing_ok=True)
    return aside
