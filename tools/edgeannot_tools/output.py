"""Atomic files and folders: everything is written under another name first, then renamed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from edgeannot.base import atomicfile
from edgeannot.base.errors import InputError, UsageError

__all__ = ["require_png", "require_writable", "staged_folder", "write_together", "write_whole"]


def require_writable(path: Path) -> None:
    """Raise InputError if a file cannot be written there; call it before the work."""
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if path.is_dir():
        raise InputError(f"{path} cannot be written: it is a folder; give the name of a file")
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        problem = "may not be written" if folder.is_dir() else "is a file"
        raise InputError(f"{path} cannot be written: {folder} {problem}; choose another path")


def require_png(path: Path, option: str) -> None:
    """Raise UsageError if the name of a picture to be written ends in something else than .png, which is what is in it."""
    if path.suffix.lower() != ".png":
        raise UsageError(f"{option}: wanted a name that ends in .png, found {path.name}")


def write_whole(path: Path, content: bytes | str) -> None:
    """Write the file so that a reader, or a power cut, meets the old content or the new, never a part. Text becomes UTF-8.

    Raises InputError when it cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        atomicfile.write(path, data, mode=path.stat().st_mode & 0o777 if path.exists() else None, durable=True)
    except OSError as exc:
        raise InputError(f"{path} cannot be written ({exc.strerror}); choose another path or free space") from exc


def write_together(files: Mapping[Path, bytes]) -> None:
    """Write all of the files or none: each under another name in its folder first, then all are renamed, in their order.

    All may read them, as the daemon may run as another user. Raises InputError where one cannot be written.
    """
    target = next(iter(files))
    try:
        with ExitStack() as stack:  # leaves the last first
            for target, data in reversed(list(files.items())):
                file = stack.enter_context(atomicfile.new_file(target, mode=0o644, durable=True))
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
    except OSError as exc:
        raise InputError(f"{target} cannot be written ({exc.strerror}); choose another path with --out, or free space") from exc


@contextmanager
def staged_folder(target: Path) -> Iterator[Path]:
    """Return a folder to fill, which becomes `target` when the block ends well and disappears when it does not.

    Raises InputError when `target` holds something already: nothing of the user's is overwritten or mixed with new files; and when it
    cannot be written.
    """
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise InputError(f"{target} is there already and is not an empty folder; remove it, or name another output folder")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
        try:
            yield stage
            stage.chmod(0o777 & ~_umask())
            stage.replace(target)
        except BaseException:
            shutil.rmtree(stage, ignore_errors=True)
            raise
    except OSError as exc:
        raise InputError(f"{target} cannot be written ({exc.strerror}); choose another path or free space") from exc


def _umask() -> int:
    """Return the permissions that this process withholds from new files; the system tells it only by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
