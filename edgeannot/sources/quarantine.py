"""Move files out of a watched folder: into quarantine with the reason beside them, or to the folder for finished pictures.

Nothing is ever overwritten: a name that is taken gets -1, -2, ... before its extension. A rename where source and target are on
one file system; otherwise a copy, which gets its name when it is complete, and only then is the original removed.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import math
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from edgeannot.base import atomicfile
from edgeannot.base.errors import MODEL_OUTPUT, ConfigError, FrameError
from edgeannot.base.file_signature import ANNOTATED, FileSignature
from edgeannot.base.systemd import is_read_only, is_service, may_write, write_advice

__all__ = ["SET_ASIDE", "DataQuarantine", "FinishedFiles", "folder_bytes", "move_aside", "quarantine"]

log = logging.getLogger(__name__)

SET_ASIDE = frozenset({"damaged", "deadly", "empty", "memory", "not-a-picture", "too-large", "truncated", "unsupported", MODEL_OUTPUT})
"""The failures whose file goes to quarantine. Any other word is none that the ledger was given: a bit of it flipped on a worn card."""

_BLOCK_BYTES = 4096
_MAX_COPY_BYTES = 128 * 2**20
"""Of a file for quarantine: a film from a large disk may not fill the card that the state is on, nor a sparse file keep us for hours."""


def quarantine(path: Path, relative: Path, folder: Path, *, reason: str, message: str) -> Path:
    """Move the file to `folder`/`relative`, write the reason to NAME.reason.txt beside it, and return the new path.

    The file stays, too, where it cannot be removed (a read-only medium). Raises OSError when it can be neither moved nor copied,
    also because it is too large to be copied to another file system; then no reason is left behind either.
    """
    note = _note(message, reason, str(path))
    return _put(folder, relative, note, lambda target: _move(path, target, copy_up_to=_MAX_COPY_BYTES))


def _note(message: str, reason: str, origin: str) -> str:
    when = datetime.now(UTC).isoformat(timespec="seconds")
    return f"{_one_line(message)}\nreason: {reason}\nfrom: {_one_line(origin)}\nat: {when}\n"


class DataQuarantine:
    """Keeps refused pictures that were messages, up to a cap, so that a sender cannot fill the disk."""

    def __init__(self, folder: Path | None, cap_bytes: int) -> None:
        """folder: its own, also of earlier runs; None: nothing is kept."""
        self._folder = folder
        self._cap_bytes = cap_bytes
        self._used: int | None = None

    def keep(self, data: bytes, relative: Path, *, reason: str, message: str, origin: str) -> Path | None:
        """Write the bytes to `folder`/`relative` with the reason beside them; return the path, or None if they are not kept."""
        if self._folder is None or not data:
            return None
        if self._used is None:
            self._used = folder_bytes(self._folder)
        text = _note(message, reason, origin)
        cost = _on_disk(len(data)) + _on_disk(len(text))
        if self._used + cost > self._cap_bytes:
            return None
        try:
            kept = _put(self._folder, relative, text, lambda target: atomicfile.write(target, data))
        except OSError as exc:
            log.warning("the message from %s cannot be kept in %s (%s)", origin, self._folder, exc.strerror)
            return None
        self._used += cost
        return kept


class FinishedFiles:
    """Moves or deletes the files of one watched folder. Thread-safe."""

    def __init__(
        self, label: str, root: Path, after: Literal["keep", "move", "delete"], after_folder: Path | None, quarantine_folder: Path | None
    ) -> None:
        """label: how messages name it, e.g. "sources.inbox". quarantine_folder: None: a damaged picture stays where it is."""
        self._label = label
        self._root = root
        self._after = after
        self._after_folder = None if after_folder is None else after_folder.expanduser()
        self._quarantine_folder = quarantine_folder
        self._said = ""

    def check(self) -> None:
        """Find at the start what cannot work. Raises ConfigError where finished pictures could not leave the folder, or not get to where
        they are to go; a damaged one can be copied, so that is only said. A folder that is not there yet is not judged.
        """
        if not self._root.is_dir():
            return
        writable = may_write(self._root)
        if self._after != "keep" and not writable:
            raise ConfigError(self._cannot(self._root, "finished pictures can be neither moved nor deleted"))
        target = self._after_folder
        if target is not None and not may_write(target):
            sentence = self._cannot(target, "finished pictures cannot be moved there")
            if target.is_dir() or is_read_only(target):
                raise ConfigError(sentence)
            log.warning("%s", sentence)  # a medium may be put there yet
        if self._quarantine_folder is not None and not writable:
            log.log(
                logging.WARNING if is_service() else logging.INFO,
                "%s: the folder %s cannot be written to: a damaged picture is copied to quarantine and stays there, too; "
                '%sset quarantine = "leave"',
                self._label, self._root, write_advice(self._root),
            )  # fmt: skip

    def set_aside(self, path: Path, name: str, exc: FrameError) -> Path | None:
        """Move a damaged picture to quarantine, with the reason beside it; return its new path, or None if it stays."""
        folder = self._quarantine_folder
        if folder is None:
            return None
        try:
            return quarantine(path, Path(name), folder, reason=exc.reason, message=f"{name}: {exc}")
        except OSError as error:
            log.warning("%s cannot be moved to the quarantine folder %s (%s); left in place", path, folder, error.strerror)
            return None

    def catch_up(self, path: Path, name: str, signature: FileSignature, outcome: str) -> None:
        """Do what the program, when it ended, had not done yet with a file of which the ledger has this outcome.

        A failure's file stays where the program left it for good: after an internal error, or beside its copy in quarantine. So does that
        of an outcome which is none: pictures leave the folder only by a word that can be trusted.
        """
        if outcome == ANNOTATED:
            self.clear_away(path, signature)
            return
        folder = self._quarantine_folder
        if outcome not in SET_ASIDE or folder is None or not may_write(path.parent) or os.path.lexists(folder / name):
            return
        if (moved := self.set_aside(path, name, FrameError("it was given up at an earlier start", outcome))) is not None:
            log.info("%s was given up at an earlier start (%s): moved to %s", path, outcome, moved)

    def clear_away(self, path: Path, signature: FileSignature) -> None:
        """Move, delete or keep a finished picture by the settings, unless another file took its name in the meantime."""
        if self._after == "keep":
            return
        try:
            if FileSignature.of(path.stat()) != signature:
                return
            if self._after_folder is not None:
                move_aside(path, path.relative_to(self._root), self._after_folder)
            else:
                path.unlink()
        except FileNotFoundError:
            return
        except OSError as exc:
            self._stays(path, exc)
        else:
            self._said = ""

    def _stays(self, path: Path, exc: OSError) -> None:
        """Say so once with what to do, and of each further picture only what happened to it."""
        reason = exc.strerror or str(exc)
        level = logging.DEBUG if reason == self._said else logging.WARNING
        log.log(level, "%s: after = %r failed (%s); the file stays", path, self._after, reason)
        if reason != self._said and not may_write(path.parent):
            log.warning("%s", self._cannot(path.parent, "finished pictures stay in it"))
        self._said = reason

    def _cannot(self, folder: Path, so: str) -> str:
        wanted = f'{self._label}: after = "{self._after}"'
        return f'{wanted}, but the folder {folder} cannot be written to, so {so}; {write_advice(folder)}set after = "keep"'


def folder_bytes(folder: Path) -> int:
    """Return the disk space of the files below a folder, in bytes; 0 if there is none."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += _on_disk(Path(place, name).lstat().st_size)
    return total


def _on_disk(size: int) -> int:
    """Return the size in whole blocks: a million files of one byte fill a disk, too."""
    return -(-size // _BLOCK_BYTES) * _BLOCK_BYTES


def _put(folder: Path, relative: Path, text: str, place: Callable[[Path], None]) -> Path:
    """Have `place` make the file under the wanted name or the next that is free, with the text beside it."""
    for target in _names(folder, relative):
        note = target.with_name(target.name + ".reason.txt")
        with contextlib.suppress(FileExistsError):
            # Creating the note claims the name: it fails where a note is there, and a claimed name without a file is free.
            fd = atomicfile.create(note)
            if not os.path.lexists(target):
                break
            os.close(fd)
            note.unlink()
    try:
        with os.fdopen(fd, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
        place(target)
    except OSError:
        note.unlink()
        raise
    return target


def move_aside(path: Path, relative: Path, folder: Path) -> Path:
    """Move the file to `folder`/`relative` and return the new path. Raises OSError where it cannot go from where it is: no copy is left."""
    target = next(target for target in _names(folder, relative) if not os.path.lexists(target))
    _move(path, target, may_stay=False)
    return target


def _names(folder: Path, relative: Path) -> Iterator[Path]:
    """Yield `folder`/`relative` and its alternatives, and create the folders. Raises OSError if one below `folder` is a link."""
    wanted = folder / relative
    folder.mkdir(parents=True, exist_ok=True)
    atomicfile.make_folder(wanted.parent, below=folder)
    stem, suffix = os.fsencode(wanted.stem), os.fsencode(wanted.suffix)[:20]
    stem = stem[: 220 - len(suffix)]  # file systems take 255 bytes; the number and ".reason.txt" need theirs
    yield wanted.with_name(os.fsdecode(stem + suffix))
    for number in itertools.count(1):
        yield wanted.with_name(os.fsdecode(stem + b"-%d" % number + suffix))


def _one_line(text: str) -> str:
    """Return one line without control characters; bytes that are not UTF-8 stay as they are."""
    return "".join(c if c.isprintable() or "\udc80" <= c <= "\udcff" else c.encode("unicode_escape").decode() for c in text)


def _move(path: Path, target: Path, *, copy_up_to: float = math.inf, may_stay: bool = True) -> None:
    """copy_up_to: bytes of a file that may be copied where it cannot be renamed. may_stay: whether a copy will do where it cannot go."""
    if path.is_symlink():  # the link moves, what it points to stays; a relative link would point elsewhere from there
        target.symlink_to(Path(os.path.abspath(path.parent / path.readlink())))  # noqa: PTH100 - resolve() would follow further links
        _remove(path, target, may_stay=may_stay)
        return
    try:
        path.rename(target)
    except OSError as exc:
        if exc.errno not in (errno.EXDEV, errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        if not may_stay and not os.access(path.parent, os.W_OK):  # a large file would be copied for nothing
            raise
        if path.stat().st_size > copy_up_to:
            raise OSError(errno.EFBIG, "it is too large to be copied to another file system") from exc
        _copy(path, target)
        _remove(path, target, may_stay=may_stay)


def _copy(path: Path, target: Path) -> None:
    # Not what a link leads to that took the place of the picture, nor a pipe.
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as source, atomicfile.new_file(target) as copy:
        shutil.copyfileobj(source, copy)
        copy.flush()
        facts = os.fstat(fd)
        with contextlib.suppress(PermissionError):  # a USB stick or a share that somebody else has mounted
            os.fchmod(copy.fileno(), stat.S_IMODE(facts.st_mode))
        with contextlib.suppress(PermissionError):
            os.utime(copy.fileno(), ns=(facts.st_atime_ns, facts.st_mtime_ns))


def _remove(path: Path, copy: Path, *, may_stay: bool) -> None:
    try:
        path.unlink()
    except OSError:
        if not may_stay:
            copy.unlink(missing_ok=True)
            raise
