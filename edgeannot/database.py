"""The door to SQLite: a database file of our own, opened by one process, checked, migrated, set aside when it is damaged.

WAL mode with `synchronous=NORMAL`: a commit is appended to the log without waiting for the disk; the log is replayed at the next
opening, up to the last commit that is whole.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import sqlite3
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from edgeannot.errors import ConfigError, EdgeannotError, LinkError

__all__ = ["lock_file", "open_database", "sync_log", "translated"]

log = logging.getLogger(__name__)

_PAGE_BYTES: Final = 1024
"""Rows are small, and each page that a commit touches is logged whole: small pages spare the SD card."""

_CHECKPOINT_PAGES: Final = 4000
"""The log is written back to the database, with two fsyncs, each time it has grown by about 4 MB."""

_NO_ROOM: Final = {errno.ENOSPC, errno.EDQUOT, errno.EIO}
_MAY_PASS: Final = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM}
_AWAY: Final = _MAY_PASS | {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM}
"""The disk or the folder is at fault, not the file: trying again may help."""


def lock_file(path: Path) -> int:
    """Lock `path` for this process and return the descriptor that holds it; the kernel lets go when the process dies.

    Raises ConfigError when another process holds it, with its number, or when the folder cannot be written to; LinkError when its
    disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as exc:
        if exc.errno in _NO_ROOM:
            raise LinkError(f"the state folder {path.parent} takes no more files ({exc.strerror}); see that its disk has room") from exc
        raise ConfigError(
            f"the state folder {path.parent} cannot be written to ({exc.strerror}); set data_dir to a folder that can"
        ) from exc
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


def open_database(path: Path, migrations: Sequence[str]) -> sqlite3.Connection:
    """Open or make the database at `path`, at version `len(migrations)`; script N brings version N to N + 1.

    A damaged file is moved aside, with an error in the log, and a new one begun. The connection is in autocommit mode and may be
    used by any thread, one at a time. Raises ConfigError when the file cannot be opened, or comes from a newer version; LinkError
    when the disk is full or fails, which may pass.
    """
    try:
        return _open_checked(path, migrations)
    except sqlite3.DatabaseError as exc:
        if _code(exc) in _AWAY:
            kind = LinkError if _code(exc) in _MAY_PASS else ConfigError
            raise kind(f"the database {path} cannot be opened ({exc}); see that its folder can be written to and has room") from exc
        aside = _set_aside(path)
        log.error(  # noqa: TRY400 - the operator needs the sentence, not a traceback
            "the database %s is damaged (%s): set aside as %s, a new one begun; files still there are done again, unsent messages are lost",
            path,
            exc,
            aside,
        )
    return _open_checked(path, migrations)


def sync_log(path: Path) -> None:
    """Bring the commits of the database at `path`, of which there are some, to the disk.

    Raises LinkError when the disk fails, EdgeannotError when the files are gone. In WAL mode the commits are in the log; SQLite
    takes no locks on that file, so opening and closing it here is safe.
    """
    try:
        fd = os.open(f"{path}-wal", os.O_RDONLY)
    except FileNotFoundError as exc:  # the open files would be lost with the process, and all that is committed until then
        raise EdgeannotError(
            f"the database {path} was removed while it was in use; what was done since is redone at the next start"
        ) from exc
    except OSError as exc:
        raise LinkError(f"the database {path} cannot be looked at now ({exc.strerror}); see that the disk is well") from exc
    try:
        os.fdatasync(fd)
    except OSError as exc:
        raise LinkError(f"the database {path} cannot be brought to the disk now ({exc.strerror}); see that the disk is well") from exc
    finally:
        os.close(fd)


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """SQLite's errors as ours: LinkError where the disk is full or away, EdgeannotError where the file itself is damaged."""
    try:
        yield
    except sqlite3.Error as exc:
        if _code(exc) in _AWAY:
            raise LinkError(
                f"the database {path} cannot be used now ({exc}); see that the disk has room and is mounted for writing"
            ) from exc
        raise EdgeannotError(
            f"the database {path} failed ({exc}); at the next start it is checked, and set aside if it is damaged"
        ) from exc


def _code(exc: sqlite3.Error) -> int:
    """SQLite's primary result code; the upper bytes say more exactly which."""
    return getattr(exc, "sqlite_errorcode", 0) & 0xFF


def _open_checked(path: Path, migrations: Sequence[str]) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
    try:
        db.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        _check(db)
        _migrate(db, path, migrations)
    except BaseException:
        db.close()
        raise
    return db


def _check(db: sqlite3.Connection) -> None:
    [(verdict,)] = db.execute("PRAGMA quick_check(1)").fetchall()
    if verdict != "ok":
        raise sqlite3.DatabaseError(" ".join(str(verdict).split()))


def _migrate(db: sqlite3.Connection, path: Path, migrations: Sequence[str]) -> None:
    [(version,)] = db.execute("PRAGMA user_version").fetchall()
    if version > len(migrations):
        raise ConfigError(
            f"the database {path} has version {version}, this edgeannot knows up to {len(migrations)}; "
            "install a newer edgeannot, or set another data_dir"
        )
    for number, script in enumerate(migrations[version:], version + 1):
        db.executescript(f"BEGIN; {script}; PRAGMA user_version = {number}; COMMIT;")


def _set_aside(path: Path) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
    aside = Path(f"{path}.damaged-{stamp}")
    for tail in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}{tail}").rename(f"{aside}{tail}")
    return aside
