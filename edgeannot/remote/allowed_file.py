"""Opens a file that somebody else named: only a regular file, only under one folder, whatever links lie on the way.

The file is first opened without reading (`O_PATH`, open(2)), so that a device or a pipe is not touched; then the kernel says which
file that is, and only that one, not its name, is opened for reading. So nobody can exchange it in between.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath

__all__ = ["NotAllowedError", "read_allowed"]


class NotAllowedError(Exception):
    """The name leads elsewhere than to a regular file under the folder. The text is for who named it, and names no file."""


def read_allowed(root: Path, name: str, max_bytes: int) -> bytes:
    """The content of the file `name` under `root`.

    Raises NotAllowedError, FileNotFoundError, or another OSError where it cannot be read; ValueError where it is larger than `max_bytes`.
    """
    parts = PurePosixPath(name).parts
    if "\0" in name or not parts or parts[0] == "/" or ".." in parts:
        raise NotAllowedError("wanted a path relative to the allowed folder, without ..")
    handle = os.open(root / name, os.O_PATH | os.O_CLOEXEC)
    try:
        found = Path(os.readlink(f"/proc/self/fd/{handle}"))  # noqa: PTH115 - a path only the kernel has
        if not found.is_relative_to(os.path.realpath(root)):
            raise NotAllowedError("the path leads out of the allowed folder")
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode):
            raise NotAllowedError("the path does not lead to a regular file")
        if facts.st_size > max_bytes:
            raise ValueError(f"the file has {facts.st_size} bytes, allowed are {max_bytes}")
        with open(f"/proc/self/fd/{handle}", "rb", buffering=0) as file:  # noqa: PTH123 - as above
            return file.read(max_bytes)
    finally:
        os.close(handle)
