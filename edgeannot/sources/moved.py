"""Files that the ledger has under another name: renamed, in a renamed folder, or moved to another file system.

A file is the same where size, time and inode are, the time being one that the kernel set. Where the inode differs (another file system; a
network file system, FAT or FUSE after each mount), or the time is a round one, as programs set it, the bytes decide: a removed file's inode
is soon that of another. As long as a file with that size and time is at the old place, this one is a copy or a link, which is a
picture of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import replace
from pathlib import Path

from edgeannot.base.errors import LinkError
from edgeannot.base.file_signature import ANNOTATED, FileSignature, LedgerEntry
from edgeannot.sources.backlog import GONE
from edgeannot.sources.contract import Context
from edgeannot.sources.turn import DEADLY

__all__ = ["MovedFiles", "content_hash"]

_MOST_UNTOLD = 256
"""Moves that go into one transaction."""
_BLOCK_BYTES = 1 << 20
_PROGRAMS_NS = 1_000
"""Times that programs set are multiples of this, as a rule; those of the kernel have nanoseconds."""


def content_hash(data: bytes = b"") -> hashlib.blake2b:
    """Return the hash of a picture's bytes, 16 bytes long, as the ledger keeps it."""
    return hashlib.blake2b(data, digest_size=16)


class MovedFiles:
    """Looks files of one folder up in the ledger. For one thread."""

    def __init__(self, source: str, folder: str, context: Context) -> None:
        """folder: the absolute path that names are relative to."""
        self._source = source
        self._folder = folder
        self._context = context
        self._untold: list[tuple[LedgerEntry, LedgerEntry]] = []

    def outcome(self, name: str, signature: FileSignature) -> str | None:
        """Return what became of the file at another place; None where it is to be annotated. `tell` passes the move on to the ledger.

        Pictures that were refused are tried again at their new place, but for those that the program died of.
        """
        digest: bytes | None = None
        for known in self._context.similar(self._source, signature):
            if known.outcome not in {ANNOTATED, DEADLY} or self._is_elsewhere(known, name):
                continue
            if known.signature != signature or (signature.mtime_ns % _PROGRAMS_NS == 0 and known.content_hash):
                digest = self._digest(name, signature) if digest is None else digest
                if not digest or digest != known.content_hash:
                    continue
            self._untold.append((known, replace(known, path=name, signature=signature, folder=self._folder)))
            if len(self._untold) >= _MOST_UNTOLD:
                self.tell()
            return known.outcome
        return None

    def tell(self) -> None:
        """Write the moves into the ledger. Where that fails, the next start finds them again."""
        if self._untold:
            with contextlib.suppress(LinkError):
                self._context.move(self._untold)
            self._untold = []

    def _is_elsewhere(self, known: LedgerEntry, name: str) -> bool:
        """Return whether the entry is that of another file, which is still at its place."""
        folder = known.folder or self._folder
        if (folder, known.path) == (self._folder, name):
            return False
        try:
            facts = os.stat(f"{folder}/{known.path}")  # noqa: PTH116 - called for every file
        except OSError as exc:
            return exc.errno not in GONE
        return FileSignature.of(facts)[:2] == known.signature[:2]

    def _digest(self, name: str, signature: FileSignature) -> bytes:
        """Return the hash of the file's bytes; nothing where it cannot be read, or changed meanwhile."""
        found = content_hash()
        try:
            with Path(self._folder, name).open("rb") as file:
                while block := file.read(_BLOCK_BYTES):
                    found.update(block)
                same = FileSignature.of(os.fstat(file.fileno())) == signature
        except OSError:
            return b""
        return found.digest() if same else b""
