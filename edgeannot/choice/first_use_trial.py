"""Try a model in a child process before the daemon first loads it on this board; bundled models need no trial."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from edgeannot.base.atomicfile import read_json, write_json
from edgeannot.base.places import bundled_folder
from edgeannot.base.runtimes import Runtime
from edgeannot.choice.measurements import conditions_of
from edgeannot.probe import read_board
from edgeannot.vision.cards import ModelCard, read_cards

if TYPE_CHECKING:
    from edgeannot.settings import Settings

__all__ = ["FirstUseTrial", "Tried", "remember_tried"]

log = logging.getLogger(__name__)

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


class FirstUseTrial:
    """Call it with a card before loading its model; for one thread at a time."""

    def __init__(
        self, settings: Settings, stopped: Callable[[], bool] = lambda: False, heartbeat: Callable[[], None] = lambda: None
    ) -> None:
        """stopped: True ends a trial, as the daemon stops and loads no model.
        heartbeat: called a few times a second while the trial runs."""
        self._settings = settings
        self._stopped = stopped
        self._heartbeat = heartbeat

    def __call__(self, card: ModelCard) -> None:
        """Raise ModelError if the file kills the runtime, is refused by it, or gives different outputs for the same input."""
        if card.folder == bundled_folder():
            return
        tried, key = self._tried(), _key(card)
        if tried.knows(key) or any(card.sha256 == bundled.sha256 for bundled in read_cards([bundled_folder()], lambda _: None)):
            return
        from edgeannot.trial.cards import prove  # noqa: PLC0415 - the bundled models start without it
        from edgeannot.trial.loads import UntriedError  # noqa: PLC0415 - as above

        log.info("%s: first use with this runtime, trying it in a child process", card.name)
        try:
            prove(card, self._settings.runtime, stopped=self._waits)
        except UntriedError as exc:
            log.warning("%s", exc)
        else:
            tried.add(key)

    def forget(self, card: ModelCard) -> None:
        """Forget the trial of a model found to be broken, so that it is tried again before the next load."""
        self._tried().forget(_key(card))

    def _tried(self) -> Tried:
        return _tried_here(self._settings.data_dir, self._settings.runtime)

    def _waits(self) -> bool:
        self._heartbeat()
        return self._stopped()


def remember_tried(card: ModelCard, data_dir: Path, runtime: Runtime = "auto") -> None:
    """Record that a command has tried the card's model with this runtime, so that the daemon need not."""
    _tried_here(data_dir, runtime).add(_key(card))


def _tried_here(data_dir: Path, runtime: Runtime) -> Tried:
    where = conditions_of(read_board(), runtime).hardware
    return Tried(data_dir / "cache" / "tried.json", " on ".join(reversed(where)))


def _key(card: ModelCard) -> str:
    """The file's hash, and the input size where a graph of another size is derived from it."""
    _, at, size = card.name.partition("@")
    return f"{card.sha256}{at}{size}"
