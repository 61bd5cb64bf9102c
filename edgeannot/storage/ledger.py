"""The table of files that are done. Its caller holds the lock and, where it writes, the transaction."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable

from edgeannot.storage.records import LedgerEntry, Signature

__all__ = ["Ledger"]


class Ledger:
    """One row a file: source and path, and the signature it had when it was done."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def check(self) -> None:
        """Raise where a row cannot be one of ours: a scratch can turn a value into one of another type."""
        if self._db.execute("SELECT 1 FROM ledger WHERE typeof(path) != 'blob' OR typeof(source) != 'text' LIMIT 1").fetchone():
            raise ValueError("a row of the ledger has values of other types than ours")
        self._db.execute("SELECT DISTINCT source, outcome FROM ledger").fetchall()  # raises where a text is none

    def holds(self, source: str, path: str, signature: Signature) -> bool:
        """Whether this very file, unchanged since, is there."""
        query = "SELECT 1 FROM ledger WHERE source = ? AND path = ? AND size = ? AND mtime_ns = ? AND inode = ?"
        row = self._db.execute(query, (source, os.fsencode(path), signature.size, signature.mtime_ns, signature.inode))
        return row.fetchone() is not None

    def entries(self, source: str | None) -> list[LedgerEntry]:
        """The entries of one source, or all, by path."""
        query = (
            "SELECT source, path, size, mtime_ns, inode, content_hash, outcome FROM ledger WHERE ? IN (source, '') ORDER BY source, path"
        )
        rows = self._db.execute(query, (source or "",)).fetchall()
        return [LedgerEntry(row[0], os.fsdecode(row[1]), Signature(*row[2:5]), *row[5:]) for row in rows]

    def paths(self, source: str, after: str, limit: int) -> list[str]:
        """The paths of one source that come after one, in order."""
        query = "SELECT path FROM ledger WHERE source = ? AND path > ? ORDER BY path LIMIT ?"
        return [os.fsdecode(path) for (path,) in self._db.execute(query, (source, os.fsencode(after), limit)).fetchall()]

    def write(self, done: LedgerEntry) -> None:
        """Put an entry there; one of the same source and path goes."""
        s = done.signature
        values = (done.source, os.fsencode(done.path), s.size, s.mtime_ns, s.inode, done.content_hash, done.outcome, int(time.time()))
        self._db.execute("INSERT OR REPLACE INTO ledger VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)

    def forget(self, source: str, gone: Iterable[str]) -> None:
        """Drop the entries of these paths; those that are not there are passed over."""
        self._db.executemany("DELETE FROM ledger WHERE source = ? AND path = ?", ((source, os.fsencode(path)) for path in gone))
