"""How this program writes files: whole or not at all, and never through a link or into a file that somebody else has put there.

A folder may be shared, so whoever else may write into it can plant a link or a pipe under any name that can be foretold (CWE-59). A new
file therefore gets a name that cannot, is created only if nothing bears it (O_EXCL), and takes its own name by a rename, which replaces
a link instead of following it. What is appended to must be a regular file, and no link.

Names of temporary files begin with a dot and end with .tmp: watched folders pass over them, so what a killed run leaves is harmless;
`remove_leftovers` clears it away. JSON of the program's own is set aside when it is damaged.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import re
import stat
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from edgeannot.base.errors import InputError, MissingError
from edgeannot.base.foreign import parse_json, read_bytes

__all__ = ["create", "make_folder", "new_file", "open_append", "read_json", "remove_leftovers", "write", "write_json"]

_TEMPORARY = re.compile(r"\.edgeannot-[0-9a-f]{16}\.tmp")
_LEFT_S = 3600.0
"""A temporary file that did not change for this long belongs to no run that is alive."""


def write(path: Path, data: bytes, *, mode: int | None = None, durable: bool = False, below: Path | None = None) -> None:
    """Put the whole content at `path`, or leave what was there; as `new_file`, which has the parameters. Raises OSError."""
    with new_file(path, mode=mode, durable=durable, below=below) as file:
        file.write(data)


@contextlib.contextmanager
def new_file(path: Path, *, mode: int | None = None, durable: bool = False, below: Path | None = None) -> Iterator[BinaryIO]:
    """Yield a file to fill, which gets the name `path` when the block ends well, and disappears when it does not. Its folder is made.

    mode: its permissions; None: those that the umask leaves. durable: the content and the name are on the disk before it returns.
    below: the folder that the user named, above `path`; between the two no link is followed. Raises OSError, also where something else
    than a file has the name.
    """
    folder = _open_folder(path.parent, below)
    temporary = f".edgeannot-{os.urandom(8).hex()}.tmp"
    try:
        _refuse_what_is_no_file(path, folder)
        with os.fdopen(_create(temporary, mode, folder), "wb") as file:
            try:
                yield file
                file.flush()
                if durable:
                    os.fsync(file.fileno())
                os.replace(temporary, path.name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary, dir_fd=folder)
                raise
        if durable:
            _sync_folder(folder)
    finally:
        os.close(folder)


def create(path: Path, mode: int | None = None) -> int:
    """Create a file that must not be there yet and open it for writing; its descriptor. mode: as in `new_file`. Raises OSError."""
    return _create(path, mode, None)


def open_append(path: Path, mode: int | None = None) -> int:
    """Open a regular file for reading and appending, made where there is none; its descriptor.

    mode: the permissions that it has from now on, also one that was there; None: a new one has those that the umask leaves. Raises
    OSError, also for a link and for what is no regular file: opening a pipe or a device has no effect and does not wait.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with contextlib.suppress(FileNotFoundError):
        _refuse(path, path.lstat().st_mode)
    fd = os.open(path, flags, 0o666 if mode is None else mode)
    try:
        _refuse(path, os.fstat(fd).st_mode)  # what was looked at may have been exchanged since
        _set_mode(fd, mode)
    except OSError:
        os.close(fd)
        raise
    return fd


def make_folder(folder: Path, below: Path | None = None) -> None:
    """Make a folder with those above it, following no link between `below` and it. Raises OSError."""
    os.close(_open_folder(folder, below))


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that runs which were killed have left in a folder."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _TEMPORARY.fullmatch(entry.name) and time.time() - entry.stat(follow_symlinks=False).st_mtime > _LEFT_S:
                Path(entry.path).unlink(missing_ok=True)


def _open_folder(folder: Path, below: Path | None) -> int:
    """Return a descriptor for the folder, which is made."""
    flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
    if below is None or folder == below:
        folder.mkdir(parents=True, exist_ok=True)
        return os.open(folder, flags)
    fd = os.open(below, flags)
    place = below
    try:
        for part in folder.relative_to(below).parts:
            place /= part
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, dir_fd=fd)
            try:
                inner = os.open(part, flags | os.O_NOFOLLOW, dir_fd=fd)
            except NotADirectoryError:
                if place.is_symlink():
                    raise _link(place) from None
                raise
            os.close(fd)
            fd = inner
    except BaseException:
        os.close(fd)
        raise
    return fd


def _create(path: Path | str, mode: int | None, folder: int | None) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(path, flags, 0o666 if mode is None else mode, dir_fd=folder)
    _set_mode(fd, mode)
    return fd


def _set_mode(fd: int, mode: int | None) -> None:
    """Set the permissions: the umask may have taken some away, or an earlier version given more."""
    if mode is not None and stat.S_IMODE(os.fstat(fd).st_mode) != mode:
        with contextlib.suppress(OSError):  # a file system without permissions, or somebody else's file
            os.fchmod(fd, mode)


def _refuse_what_is_no_file(path: Path, folder: int) -> None:
    """Raise OSError where the name leads to a folder, a pipe or a device: /dev/stdout may be named, and must not be replaced."""
    try:
        mode = os.stat(path.name, dir_fd=folder).st_mode
    except OSError:  # nothing is there, or a link to nothing or in a circle, which is replaced
        return
    _refuse(path, mode)


def _refuse(path: Path, mode: int) -> None:
    if stat.S_ISLNK(mode):
        raise _link(path)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, f"{path.name} is no regular file", str(path))


def _link(path: Path) -> OSError:
    return OSError(errno.ELOOP, f"{path.name} is a link, and links are not followed here", str(path))


def _sync_folder(folder: int) -> None:
    with contextlib.suppress(PermissionError):  # a folder that may be written into but not listed
        fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


_MAX_BYTES = 64 << 20

log = logging.getLogger(__name__)


def read_json(path: Path, schema: int, *, sealed: bool = False) -> dict[str, Any]:
    """Return the object in the file if its "schema" is the one wanted; {} where there is no file, or none that can be read.

    A damaged file is renamed to NAME.damaged and logged once, so that the next write does not hide what happened. sealed: {} also where
    the content is not what `write_json` sealed, so that the reader need not check each field.
    """
    try:
        data = read_bytes(path, "the file", max_bytes=_MAX_BYTES)
        value = parse_json(data, "")
    except MissingError:
        return {}
    except InputError as exc:
        if isinstance(exc.__cause__, ValueError | RecursionError):
            _set_aside(path, f"is damaged ({exc.__cause__})")
        else:
            log.warning("%s; it is made anew", exc)
        return {}
    if not isinstance(value, dict):
        _set_aside(path, "holds no JSON object")
        return {}
    if sealed and value.pop("seal", None) != _seal(value):
        return {}
    return value if value.get("schema") == schema else {}  # of another version of this program: written over


def write_json(path: Path, value: dict[str, Any], *, sealed: bool = False) -> None:
    """Put the object at `path`, making its folder. sealed: see `read_json`.

    What cannot be written costs only time at the next start, so it is a log line.
    """
    if sealed:
        value = {**value, "seal": _seal(value)}
    text = json.dumps(value, separators=(",", ":"))  # in ASCII: names of files need not be UTF-8
    try:
        write(path, text.encode(), mode=0o600, durable=True)
    except OSError as exc:
        log.warning("%s cannot be written (%s); it is made anew each time", path, exc.strerror)
    else:
        remove_leftovers(path.parent)


def _seal(value: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(value).encode())  # hashlib loads OpenSSL, a tenth of the time of a warm `probe`


def _set_aside(path: Path, why: str) -> None:
    aside = path.with_name(f"{path.name}.damaged")
    log.warning("%s %s; it is kept as %s and made anew", path, why, aside.name)
    with contextlib.suppress(OSError):
        path.replace(aside)
