"""JSON lines: every result as one line of the payload that MQTT subscribers get, appended to a file."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from edgeannot.base import atomicfile
from edgeannot.base.errors import ConfigError
from edgeannot.payload import detections_payload, encode
from edgeannot.sinks.base import FolderState, Sink, SinkContext, SinkOptions
from edgeannot.sinks.files import OutputFolder
from edgeannot.storage.store import Message
from edgeannot.vision.data import Annotation

__all__ = ["JsonlOptions", "JsonlSink"]

log = logging.getLogger(__name__)


class JsonlOptions(SinkOptions):
    """Results as JSON lines."""

    enabled: bool = False
    """Whether the file is written."""
    file: Path = Path("annotations.jsonl")
    """The file; a relative one lies in the output folder."""
    max_mb: int = Field(default=100, ge=1)
    """Size, in megabytes, at which the file is renamed to FILE.1 and begun anew."""
    keep: int = Field(default=3, ge=0, le=1000)
    """How many renamed files are kept: FILE.1 is the newest."""
    fsync_s: float = Field(default=30.0, ge=0)
    """Longest time in seconds until lines are on the disk; 0 for each line at once, which wears SD cards."""
    min_free_mb: int = Field(default=50, ge=0)
    """Free disk space, in megabytes, below which nothing is appended."""

    def written_paths(self, out_dir: Path) -> tuple[Path, ...]:
        """Return the file and its renamed predecessors."""
        names = [self.file.name, *(f"{self.file.name}.{number}" for number in range(1, self.keep + 1))]
        return tuple(out_dir / self.file.with_name(name) for name in names)


class JsonlSink(Sink):
    """Appends whole lines: half a line that a power cut left is removed at the start. A picture done again is a line again."""

    def __init__(self, options: JsonlOptions, context: SinkContext) -> None:
        self._options = options
        self._origin = context.origin
        self._path = context.out_dir / options.file
        self._room = OutputFolder(self._path.parent, min_free_bytes=options.min_free_mb * 2**20)
        self._trouble = ""
        self._unwritten = 0
        self._synced_at = time.monotonic()
        try:
            self._fd = _open_append(self._path)
        except OSError as exc:
            raise ConfigError(
                f"the file {self._path} cannot be appended to ({exc.strerror}); let this user write it, or set another sinks.jsonl.file"
            ) from exc

    def write(self, annotation: Annotation) -> Sequence[Message]:
        """Append one line; return no messages."""
        line = encode(detections_payload(annotation, self._origin)) + b"\n"
        try:
            self._append(line)
            self._said("")
        except OSError as exc:
            self._unwritten += 1
            self._said(exc.strerror or str(exc))
        return ()

    def folders(self) -> Sequence[FolderState]:
        """Return the file."""
        return (FolderState(self._path, self._unwritten, self._trouble),)

    def flush(self) -> None:
        """Sync the lines to disk."""
        self._synced_at = time.monotonic()
        try:
            os.fdatasync(self._fd)
        except OSError as exc:
            self._said(exc.strerror or str(exc))

    def close(self) -> None:
        """Flush and close the file."""
        self.flush()
        os.close(self._fd)

    def _append(self, line: bytes) -> None:
        if not self._room.has_room(len(line)):
            raise OSError(0, self._room.no_room)
        if not self._is_ours():
            self._reopen()
        size = os.fstat(self._fd).st_size
        if size and size + len(line) > self._options.max_mb * 2**20:
            self._rotate()
            size = 0
        if os.write(self._fd, line) != len(line):  # the disk is full: what did fit is half a line
            os.ftruncate(self._fd, size)
            raise OSError(0, "the disk is full")
        if time.monotonic() - self._synced_at >= self._options.fsync_s:
            self.flush()

    def _rotate(self) -> None:
        self.flush()
        for number in range(self._options.keep, 0, -1):
            older = self._path if number == 1 else self._numbered(number - 1)
            if older.exists():
                older.replace(self._numbered(number))
        self._path.unlink(missing_ok=True)
        self._reopen()

    def _is_ours(self) -> bool:
        """Return whether the name still stands for the file that is open: it may have been removed, or renamed to be collected."""
        try:
            return os.path.samestat(self._path.lstat(), os.fstat(self._fd))
        except FileNotFoundError:
            return False

    def _reopen(self) -> None:
        fd = _open_append(self._path)  # where this fails, the old one stays open, and is tried again with the next line
        os.close(self._fd)
        self._fd = fd

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    def _said(self, trouble: str) -> None:
        if trouble != self._trouble:
            log.warning("%s: %s", self._path, f"cannot be written: {trouble}; all else goes on" if trouble else "can be written again")
        self._trouble = trouble


def _open_append(path: Path) -> int:
    fd = atomicfile.open_append(path)
    os.ftruncate(fd, _whole_lines(fd))
    return fd


def _whole_lines(fd: int, block: int = 65536) -> int:
    """Return the size of the file up to the end of its last whole line."""
    end = os.fstat(fd).st_size
    while end:
        start = max(0, end - block)
        newline = os.pread(fd, end - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0
