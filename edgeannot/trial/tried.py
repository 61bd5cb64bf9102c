"""What was tried here before, so that a model is tried once: by the file's hash, for one runtime and processor. Only what went well."""

from __future__ import annotations

from pathlib import Path

from edgeannot.base.jsonfile import read_json, write_json

__all__ = ["Tried"]

_SCHEMA = 1
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
        """The file with this key was tried, and may be used."""
        self._write([*(known for known in self._keys() if known != key), key])

    def forget(self, key: str) -> None:
        """What was found of the file with this key no longer holds."""
        if key in (known := self._keys()):
            self._write([other for other in known if other != key])

    def _write(self, keys: list[str]) -> None:
        write_json(self._path, {"schema": _SCHEMA, "where": self._where, "models": keys[-_KEPT:]})

    def _keys(self) -> list[str]:
        stored = read_json(self._path, _SCHEMA)
        keys = stored.get("models")
        return [key for key in keys if isinstance(key, str)] if isinstance(keys, list) and stored.get("where") == self._where else []
