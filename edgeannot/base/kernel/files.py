"""Read small files of the kernel; a missing or odd one is no error."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["number", "read"]

_LONGEST = 1 << 22
"""Far above /proc/cpuinfo of a machine of hundreds of cores; a special file that never ends must not be read for ever."""
_PIECE = 1 << 16
"""What is asked for at a time: the kernel refuses larger reads of what lies in /proc/sys (ENOMEM)."""


def read(path: Path) -> str:
    """Return the text of a file; empty where it cannot be read. Device tree texts end in NULs, which are kept."""
    try:
        with path.open("rb", buffering=0) as file:
            pieces: list[bytes] = []
            while (piece := file.read(_PIECE)) and len(pieces) < _LONGEST // _PIECE:
                pieces.append(piece)
            return b"".join(pieces).decode("utf-8", errors="replace")
    except (OSError, ValueError):  # ValueError: a path with a NUL in it
        return ""


def number(text: str) -> int | None:
    """Return the integer that the text is; None where it is not one."""
    stripped = text.strip()
    return int(stripped) if re.fullmatch(r"-?[0-9]{1,19}", stripped) else None
