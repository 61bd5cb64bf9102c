"""What tells, without reading it, that a file is the one that was seen before, and what became of that."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import NamedTuple, Self

__all__ = ["ANNOTATED", "FileSignature", "LedgerEntry"]

ANNOTATED = "annotated"
"""What became of a file whose results are stored; of any other it is the reason of its failure."""


class FileSignature(NamedTuple):
    """Size in bytes, modification time in ns and inode, as `os.stat` gives them, each in 64 bits with a sign."""

    size: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, stat: os.stat_result) -> Self:
        """Return the signature of a file with this stat."""
        return cls(stat.st_size, _signed(stat.st_mtime_ns), _signed(stat.st_ino))


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """A file that needs no more work. A later entry for the same source and path takes its place."""

    source: str
    path: str
    """Relative to the source's folder, as `os.fsdecode` gives it."""
    signature: FileSignature
    content_hash: bytes
    """Of the file's bytes; empty where nobody read it."""
    outcome: str = ANNOTATED
    """"annotated", or the reason it was set aside."""
    folder: str = ""
    """The source's folder at that time, absolute; empty where it is not known."""


def _signed(number: int) -> int:
    """Fit a number into the 64 bits of a database: some file systems number files above 2**63, and a wrong time may lie beyond them."""
    return (number + 2**63) % 2**64 - 2**63
