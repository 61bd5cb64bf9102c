"""The files of an open database: restore removed ones, and reserve disk space for deleting.

SQLite goes on writing into the files that it has open, and all of that is gone with the process when they were removed or replaced. So the
paths are compared with what was opened, now and then, and what is still to be read is written to the path anew.

To delete rows, SQLite writes first: to its log, and when that is written back, to the database. Where the outbox itself or
somebody else has filled the last byte, nothing that is acknowledged could be deleted, and the same messages would be sent
again and again. So a file of this size lies beside the database, and is given up when a deletion fails for want of room.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from pathlib import Path
from typing import Final, Self

from edgeannot.base import atomicfile
from edgeannot.base.errors import LinkError
from edgeannot.storage.database import set_aside, translated

__all__ = ["Opened", "Reserve", "same_file", "write_anew"]

log = logging.getLogger(__name__)


_RESERVE_BYTES: Final = 8 * 2**20
"""The most that deletions may need before they make room: the log, and what it adds to the database when it is written back."""

_SMALL_BYTES: Final = 2**20
"""An outbox that can be emptied also where nothing is held back: it lives in pages that the database has already."""


class Reserve:
    """Disk space reserved by a file. The caller holds a lock."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        """Reserves nothing before the first `take`."""
        self._path = path
        self._size = size_bytes
        self.held = False

    @classmethod
    def beside(cls, database: Path) -> Self:
        """Return the reserve of the database at this path."""
        return cls(database.with_name(f"{database.name}.reserve"), _RESERVE_BYTES)

    def take(self, spare: int = 0) -> bool:
        """Reserve the space if the disk has it and `spare` times as much besides; return whether it is reserved."""
        if self.held:
            return True
        try:
            self._path.unlink(missing_ok=True)  # left by a program that was killed
            if not self.has_room(1 + spare):
                return False
            fd = atomicfile.create(self._path, 0o600)
            try:
                os.posix_fallocate(fd, 0, self._size)
            finally:
                os.close(fd)
        except OSError as exc:  # also a file system that has no such call
            log.debug("no disk space reserved at %s (%s)", self._path, exc.strerror)
            self.give()
            return False
        self.held = True
        return True

    def give(self) -> bool:
        """Release the space, also that of a killed program; return whether there was any."""
        self.held = False
        try:
            self._path.unlink()
        except FileNotFoundError:
            return False
        except OSError as exc:
            log.debug("%s cannot be removed (%s)", self._path, exc.strerror)
            return False
        return True

    def has_room(self, times: int = 1) -> bool:
        """Return whether the disk has so many times the space free besides the reserve. Raises OSError."""
        facts = os.statvfs(self._path.parent)
        return facts.f_bavail * facts.f_frsize >= times * self._size

    def check_room(self, waiting_bytes: int) -> None:
        """Without a reserve, let the outbox grow only as far as it can be emptied again. Raises LinkError."""
        if self.held or waiting_bytes < _SMALL_BYTES:
            return
        with contextlib.suppress(OSError):  # the transaction says what is wrong
            if not self.has_room():
                raise LinkError(
                    f"the disk of {self._path.parent} has less than {self._size // 2**20} MB of room; results wait until "
                    "what waits to be sent was taken, or there is room again"
                )


class Opened:
    """The files at the database's paths when it was opened."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files = {tail: _identity(f"{path}{tail}") for tail in ("", "-wal")}

    def is_in_place(self, *, log_needed: bool) -> bool:
        """Return whether database and log are the files that were opened.

        log_needed: whether commits are in the log. Before the first one there may be none yet.
        """
        database, log = _identity(self._path), _identity(f"{self._path}-wal")
        if database is None or database != self._files[""] or (log is None and log_needed):
            return False
        if self._files["-wal"] is None:
            self._files["-wal"] = log
        return log == self._files["-wal"]

    def is_ours(self) -> bool:
        """Return whether what lies at the path is the database that was opened, or nothing does."""
        return _identity(self._path) in {None, self._files[""]}


def same_file(fd: int, path: Path) -> bool:
    """Return whether an open file is the one at this path."""
    facts = os.fstat(fd)
    return _identity(path) == (facts.st_dev, facts.st_ino)


def write_anew(db: sqlite3.Connection, path: Path, opened: Opened) -> None:
    """Write all that an open database holds to its path, and close it. A file of somebody else that lies there is set aside.

    Raises LinkError when the disk does not take it: then the database is open as before.
    """
    copy = path.with_name(f"{path.name}.anew")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            copy.unlink()
        with translated(path):
            db.execute("VACUUM INTO ?", (os.fspath(copy),))
        fd = os.open(copy, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fchmod(fd, 0o600)
            os.fsync(fd)
        finally:
            os.close(fd)
    except (OSError, LinkError) as exc:
        with contextlib.suppress(OSError):
            copy.unlink()
        raise LinkError(
            f"the database {path} was removed while in use and cannot be restored ({exc}); until it can, "
            "all results since then are lost when this process ends"
        ) from exc
    db.close()  # it removes the log that lies at the path, whosever it is: the copy has all
    if not opened.is_ours():
        set_aside(path)
    for tail in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}{tail}").unlink()
    copy.replace(path)


def _identity(path: Path | str) -> tuple[int, int] | None:
    try:
        facts = Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return facts.st_dev, facts.st_ino
