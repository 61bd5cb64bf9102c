"""The database's files while it is open: somebody may remove them, or put others in their place.

SQLite goes on writing into what it has open, and all of that is gone with the process. So the paths are compared with what was
opened, now and then, and what is still to be read is written to the path anew.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

from edgeannot.base.errors import LinkError
from edgeannot.storage.database import set_aside, translated

__all__ = ["Opened", "same_file", "write_anew"]


class Opened:
    """What lay at the database's paths when it was opened."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files = {tail: _identity(f"{path}{tail}") for tail in ("", "-wal")}

    def is_in_place(self, *, log_needed: bool) -> bool:
        """Whether database and log are the files that were opened.

        log_needed: whether commits are in the log. Before the first one there may be none yet.
        """
        database, log = _identity(self._path), _identity(f"{self._path}-wal")
        if database is None or database != self._files[""] or (log is None and log_needed):
            return False
        if self._files["-wal"] is None:
            self._files["-wal"] = log
        return log == self._files["-wal"]

    def is_ours(self) -> bool:
        """Whether what lies at the path is the database that was opened, or nothing does."""
        return _identity(self._path) in {None, self._files[""]}


def same_file(fd: int, path: Path) -> bool:
    """Whether an open file is the one at this path."""
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
            f"the database {path} was removed while it was in use, and cannot be written anew ({exc}); until it can, "
            "all that is done since is lost with this process"
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
