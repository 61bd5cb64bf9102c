"""Remember successful trials, so that a model is tried once: by the file's hash, for one runtime and processor."""

from __future__ import annotations

from pathlib import Path

from edgeannot.base.jsonfile import read_json, write_json

__all__ = ["Tried"]

_SCHEMA = 2
"""1 was not sealed."""
_KEPT = 200
"""Newest files that are remembered."""


class Tried:
    """The files that were tried by a runtime on a processor; where these are others now, nothing is known."""

    def __init__(self, path: Path, where: str) -> None:
        """where: runtime with its version, and the processor."""
        self._path = path
        self._where = where

    def knows(self, key: str) -> bool:
        """Return whether the file with this key was tried."""
        return key in self._keys()

    def add(self, key: str) -> None:
        """Remember that the file with this key was tried, and may be used."""
        self._write([*(known for known in self._keys() if known != key), key])

    def forget(self, key: str) -> None:
        """Forget the file with this key: it is to be tried again."""
        if key in (known := self._keys()):
            self._write([other for other in known if other != key])

    def _write(self, keys: list[str]) -> None:
        write_json(self._path, {"schema": _SCHEMA, "where": self._where, "models": keys[-_KEPT:]}, sealed=True)

    def _keys(self) -> list[str]:
        stored = read_json(self._path, _SCHEMA, sealed=True)
        return stored["models"] if stored.get("where") == self._where else []
