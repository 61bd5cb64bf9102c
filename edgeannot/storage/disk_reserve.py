"""Room on the disk that is held back, so that a full disk can still be emptied.

To delete rows, SQLite writes first: to its log, and when that is written back, to the database. Where the outbox itself or
somebody else has filled the last byte, nothing that the broker acknowledges could be deleted, and the same messages would be sent
again and again. So a file of this size lies beside the database, and is given up when a deletion fails for want of room.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from edgeannot.base import atomicfile

__all__ = ["Reserve"]

log = logging.getLogger(__name__)


class Reserve:
    """The file, while there is one. Its caller holds a lock."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        """Nothing is held before the first `take`."""
        self._path = path
        self._size = size_bytes
        self.held = False

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
