"""Tries a model in a process of its own before the daemon loads it, where it was never tried here; the bundled ones need no trial."""

from __future__ import annotations

import logging
from collections.abc import Callable

from edgeannot.cards import ModelCard, read_cards
from edgeannot.choice.selection import conditions_of
from edgeannot.places import bundled_folder
from edgeannot.probe import read_board
from edgeannot.settings import Settings
from edgeannot.trial.cards import prove
from edgeannot.trial.loads import UntriedError
from edgeannot.trial.tried import Tried

__all__ = ["Trying"]

log = logging.getLogger(__name__)


class Trying:
    """Call it with a card before its model is loaded; for one thread at a time."""

    def __init__(self, settings: Settings, stopped: Callable[[], bool] = lambda: False) -> None:
        """stopped: True ends a trial; the model is then loaded untried by nobody, as the daemon stops."""
        self._settings = settings
        self._stopped = stopped
        self.beat: Callable[[], None] = lambda: None
        """Called a few times a second while it waits."""

    def __call__(self, card: ModelCard) -> None:
        """Raises ModelError, with a sentence, where the file kills the runtime, is refused by it or gives other numbers each time."""
        if card.folder == bundled_folder():
            return
        settings = self._settings
        key = f"{card.sha256}@{card.name.partition('@')[2]}".rstrip("@")
        where = conditions_of(read_board(), settings.runtime).hardware
        tried = Tried(settings.data_dir / "cache" / "tried.json", " on ".join(reversed(where)))
        if tried.knows(key) or any(card.sha256 == bundled.sha256 for bundled in read_cards([bundled_folder()], lambda _: None)):
            return
        log.info("%s was never tried here by this runtime: it is tried in a process of its own", card.name)
        try:
            prove(card, settings.runtime, stopped=self._waits)
        except UntriedError as exc:
            log.warning("%s", exc)
        else:
            tried.add(key)

    def _waits(self) -> bool:
        self.beat()
        return self._stopped()
