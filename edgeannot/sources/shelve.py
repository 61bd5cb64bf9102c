"""Moving files out of a watched folder: into quarantine with the reason beside them, or to where finished pictures go.

Nothing is ever overwritten: a name that is taken gets -1, -2, ... before its extension. A rename where source and target are on
one file system; otherwise a copy under a temporary name, renamed when complete, and only then is the original removed.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

__all__ = ["move_aside", "quarantine"]


def quarantine(path: Path, relative: Path, folder: Path, *, reason: str, message: str, when: str) -> Path:
    """Move the file to `folder`/`relative` and write why to NAME.reason.txt beside it; gives the new place.

    The file stays, too, where it cannot be removed (a read-only medium). Raises OSError when it can be neither moved nor copied;
    then no reason is left behind either.
    """
    text = f"{message}\nreason: {reason}\nfrom: {path}\nat: {when}\n"
    for target in _names(folder / relative):
        note = target.with_name(target.name + ".reason.txt")
        with contextlib.suppress(FileExistsError):
            # Creating the note claims the name: it fails where a note is there, and a claimed name without a file is free.
            note.touch(exist_ok=False)
            if not os.path.lexists(target):
                break
            note.unlink()
    try:
        note.write_text(text, encoding="utf-8", errors="surrogateescape")
        _move(path, target)
    except OSError:
        note.unlink()
        raise
    return target


def move_aside(path: Path, relative: Path, folder: Path) -> Path:
    """Move the file to `folder`/`relative`; gives the new place. Raises OSError."""
    target = next(target for target in _names(folder / relative) if not os.path.lexists(target))
    _move(path, target)
    return target


def _names(wanted: Path) -> Iterator[Path]:
    """The wanted name and its alternatives, the folder made."""
    wanted.parent.mkdir(parents=True, exist_ok=True)
    stem, suffix = os.fsencode(wanted.stem), os.fsencode(wanted.suffix)[:20]
    stem = stem[: 220 - len(suffix)]  # file systems take 255 bytes; the number and ".reason.txt" need theirs
    yield wanted.with_name(os.fsdecode(stem + suffix))
    for number in itertools.count(1):
        yield wanted.with_name(os.fsdecode(stem + b"-%d" % number + suffix))


def _move(path: Path, target: Path) -> None:
    if path.is_symlink():  # the link moves, what it points to stays; a relative link would point elsewhere from there
        target.symlink_to(Path(os.path.abspath(path.parent / path.readlink())))  # noqa: PTH100 - resolve() would follow further links
        _remove(path)
        return
    try:
        path.rename(target)
    except OSError as exc:
        if exc.errno not in (errno.EXDEV, errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        _copy(path, target)
        _remove(path)


def _copy(path: Path, target: Path) -> None:
    partial = target.with_name(f".{target.name}.part")
    try:
        shutil.copy2(path, partial)
        partial.rename(target)
    finally:
        partial.unlink(missing_ok=True)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
