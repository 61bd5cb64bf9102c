"""Files of sinks: names that follow the picture's, atomic writes, and a minimum of free disk space."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from datetime import UTC
from pathlib import Path, PurePosixPath

from pydantic import Field

from edgeannot.base import atomicfile
from edgeannot.base.errors import ConfigError, LinkError
from edgeannot.base.systemd import write_advice
from edgeannot.sinks.base import FolderState, Sink, SinkContext, SinkOptions
from edgeannot.vision.data import Frame

__all__ = ["FolderOptions", "FolderSink", "OutputFolder", "companion_name", "folder_name", "moment_name", "picture_name"]

log = logging.getLogger(__name__)

_MAX_NAME_BYTES = 240
"""A name may have 255 bytes on every file system in use; the rest is for the suffix that we add."""

_PICTURE_SUFFIXES = tuple(s for low in (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff") for s in (low, low.upper()))


def picture_name(frame: Frame) -> PurePosixPath:
    """Return the path of output for this frame: `<source>/<folders in the source>/<name with extension>`, never outside of it.

    Files that were named on the command line have no level for the source. A camera's frame without a name gets
    `<source>/<date>/<time>-<seq>.jpg`, in UTC.
    """
    name = frame.name or (frame.path.name if frame.path else f"{frame.captured_at.astimezone(UTC):%Y-%m-%d/%H%M%S}-{frame.seq:06d}.jpg")
    parts = [part.replace("\0", "_") for part in PurePosixPath(name).parts if part not in {"/", "//", ".", ".."}]
    levels = [folder_name(frame.source)] if frame.own_folder else []
    return PurePosixPath(*levels, *map(_short, parts or [f"{frame.seq:06d}"]))


def moment_name(frame: Frame) -> str:
    """Return the beginning of a file's name by time and source, and by what the frame is: the same when it is done again."""
    key = hashlib.sha256(frame.identity.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{frame.captured_at.astimezone(UTC):%Y%m%dT%H%M%S}-{folder_name(frame.source)[:80]}-{key}"


def companion_name(frame: Frame, suffix: str) -> PurePosixPath:
    """Return the name of a file beside the picture's: `cat.jpg` -> `cat.txt`, as training tools look for it.

    Where the source holds `cat.png` as well, both would be called `cat.txt`: then the extension stays (`cat.png.txt`).
    """
    name = picture_name(frame)
    path = frame.path
    # os.path: a name with one letter more may be too long, which Path.exists() raises.
    if path is not None and any(os.path.lexists(path.with_suffix(other)) for other in _PICTURE_SUFFIXES if other != path.suffix):
        return name.with_name(name.name + suffix)
    return name.with_name(name.stem + suffix)


class OutputFolder:
    """An output folder with atomic writes; logs once when writing fails, and once when it works again."""

    def __init__(self, folder: Path, *, min_free_bytes: int = 0) -> None:
        """Raises ConfigError when the folder cannot be made or written to."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise ConfigError(
                f"the output folder {folder} cannot be created ({exc.strerror}); {write_advice(folder, exc)}choose another"
            ) from exc
        if not os.access(folder, os.W_OK | os.X_OK):
            raise ConfigError(f"the output folder {folder} cannot be written to; {write_advice(folder)}choose another")
        self.folder = folder
        self._device = folder.stat().st_dev
        self.skipped = 0
        """Files that were not written since the start."""
        self._min_free_bytes = min_free_bytes
        self._trouble = ""
        self._last: Path | None = None
        self._tidied: set[Path] = set()

    @property
    def state(self) -> FolderState:
        """Return the state of the folder."""
        return FolderState(self.folder, self.skipped, self._trouble)

    def write(self, name: PurePosixPath, data: bytes) -> Path | None:
        """Write a file, replacing one of that name; return its path, or None if the disk is full or fails."""
        try:
            if not self.has_room(len(data)):
                self._failed(self.no_room)
                return None
            path = self._last = self.folder / name
            self._tidy(path.parent)
            atomicfile.write(path, data, below=self.folder)
        except OSError as exc:
            self._failed(exc.strerror or str(exc))
            return None
        if self._trouble:
            log.warning("writing files to %s works again; %d missing since the start", self.folder, self.skipped)
            self._trouble = ""
        return path

    def flush(self) -> None:
        """Sync the last written file and its name to disk. Raises LinkError if the disk fails."""
        if self._last is None:
            return
        try:
            for path in (self._last, self._last.parent):
                fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
                try:
                    os.fsync(fd)
                finally:
                    os.close(fd)
        except FileNotFoundError:  # somebody took it already
            pass
        except OSError as exc:
            raise LinkError(f"the file {self._last} cannot be synced to disk now ({exc.strerror}); check the disk") from exc
        self._last = None

    @property
    def no_room(self) -> str:
        """Return why nothing is written where there is no room."""
        return f"less than {self._min_free_bytes // 2**20} MB are free" if self._min_free_bytes else "the disk is full"

    def has_room(self, size: int) -> bool:
        """Return whether the disk keeps its free minimum after a file of `size` bytes. Raises OSError if the folder is not available."""
        try:
            stat = os.statvfs(self.folder)
        except FileNotFoundError:
            self._make_again()
            stat = os.statvfs(self.folder)
        return stat.f_bavail * stat.f_frsize - size >= self._min_free_bytes

    def _tidy(self, folder: Path) -> None:
        """Remove the temporary files of killed runs, before the first file in each folder."""
        if folder not in self._tidied:
            self._tidied.add(folder)
            atomicfile.remove_leftovers(folder)

    def _make_again(self) -> None:
        """Create the folder again if it was deleted, but not if its medium was unmounted: the mount point is on another device."""
        above = next(parent for parent in self.folder.absolute().parents if parent.is_dir())
        if above.stat().st_dev == self._device:
            self.folder.mkdir(parents=True, exist_ok=True)

    def _failed(self, why: str) -> None:
        self.skipped += 1
        if why != self._trouble:
            log.warning("cannot write files to %s: %s; all else goes on", self.folder, why)
            self._trouble = why


class FolderOptions(SinkOptions):
    """Options of a sink that writes into one folder."""

    folder: Path
    """Folder for its files; a relative one lies in the output folder."""
    min_free_mb: int = Field(default=200, ge=0)
    """Free disk space, in megabytes, below which nothing is written there."""

    def written_paths(self, out_dir: Path) -> tuple[Path, ...]:
        """Return the one folder."""
        return (out_dir / self.folder,)


class FolderSink(Sink):
    """What sinks that write into one folder have in common."""

    def __init__(self, options: FolderOptions, context: SinkContext) -> None:
        self._out = OutputFolder(context.out_dir / options.folder, min_free_bytes=options.min_free_mb * 2**20)

    def folders(self) -> Sequence[FolderState]:
        """Return the one folder."""
        return (self._out.state,)

    def flush(self) -> None:
        """Bring the last file to the disk. Raises LinkError."""
        self._out.flush()


def folder_name(word: str) -> str:
    """Return the name of a folder for a source or a label, whatever that is called."""
    cleaned = word.replace("/", "_").replace("\0", "_")
    return _short(cleaned) if cleaned.strip(".") else f"_{cleaned}"


def _short(name: str) -> str:
    raw = os.fsencode(name)
    if len(raw) <= _MAX_NAME_BYTES:
        return name
    tail = hashlib.sha256(raw).hexdigest()[:12] + PurePosixPath(name).suffix[:16]
    return raw[: _MAX_NAME_BYTES - 1 - len(os.fsencode(tail))].decode("utf-8", "ignore") + "~" + tail
