"""Room on the disk that is held back, so that a full disk can still be emptied.

To delete rows, SQLite writes first: to its log, and when that is written back, to the database. Where the outbox itself or
somebody else has filled the last byte, nothing that the broker acknowledges could be deleted, and the same messages would be sent
again and again. So a file of this size lies beside the database, and is given up when a deletion fails for want of room.
"""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path
from typing import Final, Self

from edgeannot.base import atomicfile
from edgeannot.base.errors import LinkError

__all__ = ["Reserve"]

log = logging.getLogger(__name__)


_RESERVE_BYTES: Final = 8 * 2**20
"""The most that deletions may need before they make room: the log, and what it adds to the database when it is written back."""

_SMALL_BYTES: Final = 2**20
"""An outbox that can be emptied also where nothing is held back: it lives in pages that the database has already."""


class Reserve:
    """The file, while there is one. Its caller holds a lock."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        """Nothing is held before the first `take`."""
        self._path = path
        self._size = size_bytes
        self.held = False

    @classmethod
    def beside(cls, database: Path) -> Self:
        """What is held back for the database at this path."""
        return cls(database.with_name(f"{database.name}.reserve"), _RESERVE_BYTES)

    def take(self, spare: int = 0) -> bool:
        """Hold the room, if the disk has it and `spare` times as much beside it; whether it is held."""
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
            log.debug("no room is held back at %s (%s)", self._path, exc.strerror)
            self.give()
            return False
        self.held = True
        return True

    def give(self) -> bool:
        """Let go of the room, also of what a program that was killed left; whether there was any."""
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
        """Whether the disk has so many times the room free, beside what is held. Raises OSError."""
        facts = os.statvfs(self._path.parent)
        return facts.f_bavail * facts.f_frsize >= times * self._size

    def check_room(self, waiting_bytes: int) -> None:
        """Where no room is held back, let the outbox grow only as far as it can be emptied again. Raises LinkError."""
        if self.held or waiting_bytes < _SMALL_BYTES:
            return
        with contextlib.suppress(OSError):  # the transaction says what is wrong
            if not self.has_room():
                raise LinkError(
                    f"the disk of {self._path.parent} has less than {self._size // 2**20} MB of room; results wait until "
                    "what waits to be sent was taken, or there is room again"
                )
