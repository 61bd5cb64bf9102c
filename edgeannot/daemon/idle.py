"""The choice of the model, and the first idle moment, in which the models are measured if nobody has done so before."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

from edgeannot.base.errors import EdgeannotError
from edgeannot.choice.selection import Choice
from edgeannot.daemon.governor import DegradationLevel
from edgeannot.daemon.ladder import levels_below
from edgeannot.daemon.worker_pool import WorkerPool

__all__ = ["CurrentChoice", "IdleMeasuring"]

log = logging.getLogger(__name__)

_IDLE_S = 5.0
"""Nothing to do for this long is an idle moment."""
_LIVE_S = 20.0
"""A camera has none; it is interrupted once, this long after the start."""
_DRAIN_S = 30.0
"""How long pictures under way may take to be done before measuring begins beside them."""


class CurrentChoice:
    """The choice as it is now: made at the start, and again when there are measurements."""

    def __init__(self, choice: Choice) -> None:
        self.choice = choice

    def threads_for(self, name: str) -> int:
        """The best number of threads for a model, as far as it is known."""
        return self.choice.threads_for(name)

    def others(self) -> list[str]:
        """All models of the choice that can be used, the best first; none where the user set the model."""
        evaluation = self.choice.evaluation
        return [] if evaluation is None else [candidate.name for candidate in evaluation.decision.candidates if not candidate.rejection]

    def levels(self, name: str) -> list[DegradationLevel]:
        """The governor's ladder below a model. One that the user asked for has none: only another choice may replace a choice."""
        evaluation = self.choice.evaluation
        if evaluation is None or name != self.choice.card.name:
            return [DegradationLevel(name, 1.0)]
        return levels_below(name, evaluation.decision.candidates)


class IdleMeasuring:
    """Measures once, in a thread of its own, while the sources are held; `tick` about once a second, in one thread."""

    def __init__(
        self,
        pool: WorkerPool,
        chosen: CurrentChoice,
        measure: Callable[[], Choice],
        *,
        stays: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """measure: may take a minute; raises EdgeannotError. stays: told why when the model does."""
        self._pool = pool
        self._chosen = chosen
        self._measure = measure
        self._stays = stays
        self._clock = clock
        self._began = self._moved_at = clock()
        self._pictures = 0
        self._thread: threading.Thread | None = None
        self._held_at: float | None = None
        self._found: Choice | None = None
        evaluation = chosen.choice.evaluation
        self.done = evaluation is None or (evaluation.decision.measured and not evaluation.noisy)

    def tick(self) -> None:
        """Look whether it is time, or whether the measuring has ended."""
        if self.done:
            return
        if self._thread is not None:
            self._look_after(self._thread)
        elif self._held_at is not None:
            self._begin_when_drained(self._held_at)
        elif self._is_time():
            self._held_at = self._clock()
            self._pool.parts.control.hold(True)

    def _is_time(self) -> bool:
        pool, now = self._pool, self._clock()
        if pool.telemetry.pictures != self._pictures or pool.files_waiting or pool.pictures_waiting:
            self._pictures, self._moved_at = pool.telemetry.pictures, now
        if pool.parts.control.now().paused or pool.parts.active_model.card.name != self._chosen.choice.card.name:
            return False
        live = any(source.live for source in pool.parts.sources.values())
        return now - self._moved_at >= _IDLE_S or (live and now - self._began >= _LIVE_S)

    def _begin_when_drained(self, held_at: float) -> None:
        if self._pool.pictures_waiting and self._clock() - held_at < _DRAIN_S:
            return
        log.info("a quiet moment: the models are measured once; pictures wait")
        self._thread = threading.Thread(target=self._work, name="measure", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            self._found = self._measure()
        except EdgeannotError as exc:
            log.warning("%s; the model stays", exc)
        except Exception:  # the daemon has a model that works
            log.exception("measuring failed, which is a fault of the program; the model stays")

    def _look_after(self, thread: threading.Thread) -> None:
        if thread.is_alive():
            return
        self.done = True
        waits = False
        try:
            waits = self._asks_for_another()
        finally:
            if not waits:
                self._pool.parts.control.hold(False)

    def _asks_for_another(self) -> bool:
        """Whether another model is on its way; the pictures wait for it."""
        parts, found, before = self._pool.parts, self._found, self._chosen.choice.card.name
        if found is None or parts.stop.is_set():
            return False
        if parts.active_model.card.name != before or parts.control.awaits_model:  # somebody wanted another meanwhile
            return False
        if found.evaluation is not None and found.evaluation.noisy:
            self._stays("measured: noisy (CPU contention), so the measurements decide nothing and the model stays")
            return False
        earlier, self._chosen.choice = self._chosen.choice, found
        why = f"measured: {'; '.join(found.reasons)}"
        if (found.card.name, found.threads) == (before, parts.active_model.threads):
            self._stays(why)
            return False
        parts.control.ask_model(found.card.name, why).add_done_callback(partial(self._came, earlier))
        return True

    def _came(self, earlier: Choice, answer: Future[str]) -> None:
        """The better model is in force, or could not be put there: then the choice before it holds, and its ladder."""
        self._pool.parts.control.hold(False)
        if (exc := answer.exception()) is not None:
            self._chosen.choice = earlier
            if not self._pool.parts.stop.is_set():
                log.warning("%s; the model stays", exc)
