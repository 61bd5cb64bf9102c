"""Tries a model in a process of its own before the daemon loads it, where it was never tried here; the bundled ones need no trial."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from edgeannot.base.places import bundled_folder
from edgeannot.choice.measurements import conditions_of
from edgeannot.probe import read_board
from edgeannot.settings import Settings
from edgeannot.trial.tried import Tried
from edgeannot.vision.cards import ModelCard, read_cards
from edgeannot.vision.runtimes import Runtime

__all__ = ["FirstUseTrial", "remember_tried"]

log = logging.getLogger(__name__)


class FirstUseTrial:
    """Call it with a card before its model is loaded; for one thread at a time."""

    def __init__(
        self, settings: Settings, stopped: Callable[[], bool] = lambda: False, heartbeat: Callable[[], None] = lambda: None
    ) -> None:
        """stopped: True ends a trial; the model is then loaded untried by nobody, as the daemon stops.
        heartbeat: called a few times a second while it waits."""
        self._settings = settings
        self._stopped = stopped
        self._heartbeat = heartbeat

    def __call__(self, card: ModelCard) -> None:
        """Raises ModelError, with a sentence, where the file kills the runtime, is refused by it or gives other numbers each time."""
        if card.folder == bundled_folder():
            return
        tried, key = self._tried(), _key(card)
        if tried.knows(key) or any(card.sha256 == bundled.sha256 for bundled in read_cards([bundled_folder()], lambda _: None)):
            return
        from edgeannot.trial.cards import prove  # noqa: PLC0415 - the bundled models start without it
        from edgeannot.trial.loads import UntriedError  # noqa: PLC0415 - as above

        log.info("%s was never run here by this runtime: it is tried in a process of its own first", card.name)
        try:
            prove(card, self._settings.runtime, stopped=self._waits)
        except UntriedError as exc:
            log.warning("%s", exc)
        else:
            tried.add(key)

    def forget(self, card: ModelCard) -> None:
        """The model was found to be broken: try it again before it is loaded the next time."""
        self._tried().forget(_key(card))

    def _tried(self) -> Tried:
        return _tried_here(self._settings.data_dir, self._settings.runtime)

    def _waits(self) -> bool:
        self._heartbeat()
        return self._stopped()


def remember_tried(card: ModelCard, data_dir: Path, runtime: Runtime = "auto") -> None:
    """Note that a command has tried the card's model with this runtime, so that the daemon need not."""
    _tried_here(data_dir, runtime).add(_key(card))


def _tried_here(data_dir: Path, runtime: Runtime) -> Tried:
    where = conditions_of(read_board(), runtime).hardware
    return Tried(data_dir / "cache" / "tried.json", " on ".join(reversed(where)))


def _key(card: ModelCard) -> str:
    """The file's hash, and the input size where a graph of another size is derived from it."""
    _, at, size = card.name.partition("@")
    return f"{card.sha256}{at}{size}"
