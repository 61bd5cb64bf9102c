"""The current choice of the model, and the benchmark of the models in the first idle moment, if none was done before."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial

from edgeannot.base.errors import EdgeannotError
from edgeannot.choice.candidates import Candidate, gain
from edgeannot.choice.selection import Choice
from edgeannot.daemon.active_model import ActiveModel
from edgeannot.daemon.governor import DegradationLevel
from edgeannot.daemon.worker_pool import WorkerPool
from edgeannot.remote.control import Control

__all__ = ["CurrentChoice", "IdleMeasuring", "levels_below"]

log = logging.getLogger(__name__)

_IDLE_S = 5.0
"""The daemon is idle when it had nothing to do for this long."""
_LIVE_S = 20.0
"""A camera is never idle; it is paused once, this long after the start."""
_DRAIN_S = 30.0
"""How long to wait for the pictures being processed before measuring starts anyway."""
_CHEAPER = 0.9
"""A level must cost at most this part of the one above it; smaller steps have no noticeable effect."""


class CurrentChoice:
    """The current choice: made at the start, and again once there are measurements."""

    def __init__(self, choice: Choice) -> None:
        self.choice = choice

    def threads_for(self, name: str) -> int:
        """Return the best known number of threads for a model."""
        return self.choice.threads_for(name)

    def others(self) -> list[str]:
        """Return all usable models of the choice, the best first; none if the user set the model."""
        evaluation = self.choice.evaluation
        return [] if evaluation is None else [candidate.name for candidate in evaluation.decision.candidates if not candidate.rejection]

    def levels(self, name: str) -> list[DegradationLevel]:
        """Return the governor's levels below a model. A model that the user set or asked for is the only level."""
        evaluation = self.choice.evaluation
        if evaluation is None or name != self.choice.card.name:
            return [DegradationLevel(name, 1.0)]
        return levels_below(name, evaluation.decision.candidates)


class IdleMeasuring:
    """Measures once, in a thread of its own, while the sources are paused. Call `tick` about once a second, in one thread."""

    def __init__(
        self,
        pool: WorkerPool,
        chosen: CurrentChoice,
        measure: Callable[[], Choice],
        *,
        control: Control,
        active_model: ActiveModel,
        live: bool,
        stop: threading.Event,
        stays: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """measure: takes up to a minute, raises EdgeannotError. live: has a camera. stays: called with the reason if the model is kept."""
        self._pool = pool
        self._control = control
        self._active_model = active_model
        self._live = live
        self._stop = stop
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
        """Start measuring when idle, and finish when the measurement has ended."""
        if self.done:
            return
        if self._thread is not None:
            self._look_after(self._thread)
        elif self._held_at is not None:
            self._begin_when_drained(self._held_at)
        elif self._is_time():
            self._held_at = self._clock()
            self._control.hold(True)

    def _is_time(self) -> bool:
        progress, now = self._pool.progress, self._clock()
        if progress.annotated != self._pictures or progress.files_waiting or progress.pictures_waiting:
            self._pictures, self._moved_at = progress.annotated, now
        if self._control.now().paused or self._active_model.card.name != self._chosen.choice.card.name:
            return False
        return now - self._moved_at >= _IDLE_S or (self._live and now - self._began >= _LIVE_S)

    def _begin_when_drained(self, held_at: float) -> None:
        if self._pool.progress.pictures_waiting and self._clock() - held_at < _DRAIN_S:
            return
        log.info("idle: benchmarking the models once, input paused")
        self._thread = threading.Thread(target=self._work, name="measure", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            self._found = self._measure()
        except EdgeannotError as exc:
            log.warning("%s; the model stays", exc)
        except Exception:  # the daemon has a model that works
            log.exception("internal error while measuring (please report); the model stays")

    def _look_after(self, thread: threading.Thread) -> None:
        if thread.is_alive():
            return
        self.done = True
        waits = False
        try:
            waits = self._asks_for_another()
        finally:
            if not waits:
                self._control.hold(False)

    def _asks_for_another(self) -> bool:
        """Return whether another model was requested; the input stays paused until it is active."""
        found, before = self._found, self._chosen.choice.card.name
        if found is None or self._stop.is_set():
            return False
        if self._active_model.card.name != before or self._control.awaits_model:  # somebody wanted another meanwhile
            return False
        if found.evaluation is not None and found.evaluation.noisy:
            self._stays("measured: too noisy (CPU contention), keeping the model")
            return False
        earlier, self._chosen.choice = self._chosen.choice, found
        why = f"measured: {'; '.join(found.reasons)}"
        if (found.card.name, found.threads) == (before, self._active_model.threads):
            self._stays(why)
            return False
        self._control.ask_model(found.card.name, why).add_done_callback(partial(self._came, earlier))
        return True

    def _came(self, earlier: Choice, answer: Future[str]) -> None:
        """Finish the change to the better model; if it failed, keep the previous choice and its levels."""
        self._control.hold(False)
        if (exc := answer.exception()) is not None:
            self._chosen.choice = earlier
            if not self._stop.is_set():
                log.warning("%s; the model stays", exc)


def levels_below(name: str, candidates: Sequence[Candidate]) -> list[DegradationLevel]:
    """Return the levels from the model `name` (NAME[@SIZE]) downwards: its smaller inputs, then other models, each cheaper than the last.

    The candidates are those of the choice: they fit the task and have the labels. One that costs no less than a more accurate one is no
    level. Only the top if the name is not among them or
    its cost is not known.
    """
    usable = [c for c in candidates if not c.rejection]
    top = next((c for c in usable if c.name == name), None)
    if top is None or (top_cost := _cost(top, top)) is None:
        return [DegradationLevel(name, 1.0)]
    known = [(c, cost) for c in usable if (cost := _cost(c, top)) is not None]
    costs = [(c, cost) for c, cost in known if not any(its <= cost and (gain(other, c) or 0) > 0 for other, its in known)]
    own = sorted(((c, cost) for c, cost in costs if c.facts is top.facts), key=lambda row: -row[1])
    others = sorted(((c, cost) for c, cost in costs if c.facts is not top.facts), key=lambda row: -row[1])
    levels = [DegradationLevel(name, top_cost)]
    for candidate, cost in own + others:
        if cost <= _CHEAPER * levels[-1].cost:
            levels.append(DegradationLevel(candidate.name, cost))
    return levels


def _cost(candidate: Candidate, top: Candidate) -> float | None:
    """Return the cost of a picture: ms if the top was measured, else multiply-accumulates; None if it cannot be compared to the top.

    Of two that were measured the CPU times tell how their costs compare: others may have had the core meanwhile.
    """
    if top.ms is None and not _macs(top):
        return candidate.facts.area(candidate.size) if candidate.facts is top.facts else None
    if top.ms is None:
        return _macs(candidate) or None
    ours, its = candidate.sample, top.sample
    if ours and its and ours.threads == its.threads and its.cpu_ms > 0:
        return its.ms * ours.cpu_ms / its.cpu_ms
    if (ms := candidate.ms or candidate.predicted_ms) is not None:
        return ms
    macs, top_macs = _macs(candidate), _macs(top)
    return top.ms * macs / top_macs if macs and top_macs else None


def _macs(candidate: Candidate) -> float:
    """Return the multiply-accumulates at its size, proportional to the input's area; 0: not known."""
    facts = candidate.facts
    return facts.macs * facts.area(candidate.size) / (facts.width * facts.height)
