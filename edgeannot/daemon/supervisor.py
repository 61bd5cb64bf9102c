"""The main thread's loop: feeds the watchdog while all threads live, shows progress, publishes telemetry, passes a stop down the line."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from edgeannot import __version__
from edgeannot.base.errors import LinkError
from edgeannot.base.systemd import Notifier
from edgeannot.crash_guard import AtWork
from edgeannot.daemon.active_model import ActiveModel
from edgeannot.daemon.governor_loop import GovernorLoop
from edgeannot.daemon.idle import CurrentChoice, IdleMeasuring
from edgeannot.daemon.report import Reporter
from edgeannot.daemon.worker_pool import Heartbeats, WorkerPool
from edgeannot.mqtt.publisher import Publisher
from edgeannot.payload import Origin, encode, info_payload, telemetry_payload
from edgeannot.storage.store import Message

__all__ = ["Announcer", "Supervisor"]

log = logging.getLogger(__name__)

_TICK_S = 1.0
_TELEMETRY_S = 30.0


class Announcer:
    """Sends it by the publisher, or to nobody where there is none. From any thread."""

    def __init__(
        self,
        publisher: Publisher | None,
        origin: Origin,
        sources: Mapping[str, str],
        chosen: CurrentChoice,
        why: str,
        damaged: Sequence[str] = (),
    ) -> None:
        """sources: name -> kind. why: of the profile. damaged: see `info_payload`."""
        self._publisher = publisher
        self._origin = origin
        self._sources = sources
        self._chosen = chosen
        self._why = why
        self._damaged = damaged

    @property
    def heard(self) -> bool:
        """Whether there is a publisher at all."""
        return self._publisher is not None

    def model(self, model: ActiveModel, *reasons: str) -> None:
        """Log and publish, retained, what runs here and why; again after each change of the model."""
        log.info("%s with %d thread(s) on %s: %s", model.card.name, model.threads, model.runtime, "; ".join(reasons))
        if self._publisher is not None:
            choice = self._chosen.choice.as_dict()
            info = info_payload(self._origin, __version__, model.facts, (self._why, *reasons), self._sources, choice, self._damaged)
            self._publisher.send_now(Message(self._publisher.topic("info"), encode(info), "info", retain=True))

    def telemetry(self, figures: Mapping[str, Any]) -> None:
        """Tell how the device is doing."""
        if self._publisher is not None:
            payload = telemetry_payload(self._origin, {**figures, "untold": self._publisher.evicted})
            self._publisher.send_now(Message(self._publisher.topic("telemetry"), encode(payload), "telemetry", qos=0))


class Supervisor:
    """Looks at a pool about once a second until it has finished."""

    def __init__(
        self,
        pool: WorkerPool,
        *,
        stop: threading.Event,
        heartbeats: Heartbeats,
        notifier: Notifier,
        announcer: Announcer,
        active_model: ActiveModel,
        at_work: AtWork,
        governor_loop: GovernorLoop,
        measuring: IdleMeasuring | None = None,
        reporter: Reporter | None = None,
    ) -> None:
        self._pool = pool
        self._stop = stop
        self._heartbeats = heartbeats
        self._notifier = notifier
        self._announcer = announcer
        self._active_model = active_model
        self._at_work = at_work
        self._governor_loop = governor_loop
        self._measuring = measuring
        self._reporter = reporter
        self._fed = True
        self._faults: set[type] = set()
        self._steps = governor_loop.steps
        self._telemetry_at = time.monotonic() + _TELEMETRY_S

    def run(self) -> None:
        """Start the threads and watch them until the last has ended; raises the error of one that broke."""
        self._pool.start()
        self._notifier.send(READY="1")
        self._watch()
        self._notifier.send(STOPPING="1")
        self._pool.join()

    def _watch(self) -> None:
        watchdog_s = self._notifier.watchdog_s
        tick_s = _TICK_S if watchdog_s is None else min(_TICK_S, watchdog_s / 3)
        patience_s = float("inf") if watchdog_s is None else watchdog_s / 2
        while not self._pool.finished.wait(tick_s):
            if self._stop.is_set():
                self._pool.cancel()
            self._feed(patience_s)
            if self._reporter is not None:
                self._reporter.progress(self._pool.progress.files_waiting)
            self._steer()
            if self._measuring is not None:
                self._measuring.tick()
            if time.monotonic() >= self._telemetry_at or self._governor_loop.steps != self._steps:
                self._publish_telemetry()

    def _steer(self) -> None:
        try:
            self._governor_loop.tick()
        except Exception as exc:  # the work goes on without a governor, too
            if type(exc) not in self._faults:
                log.exception("internal error of the governor, please report; it tries again")
            self._faults.add(type(exc))

    def _publish_telemetry(self) -> None:
        """Tell the figures now, and again after the usual time."""
        self._telemetry_at = time.monotonic() + _TELEMETRY_S
        self._steps = self._governor_loop.steps
        if not self._announcer.heard:
            return
        try:
            figures = self._pool.figures()
        except LinkError:  # the disk is away, and the writer says so
            return
        self._announcer.telemetry({**figures, **self._governor_loop.figures()})

    def _feed(self, patience_s: float) -> None:
        """Give systemd a sign of life, unless a thread owes its own for too long."""
        silence_s, name = self._heartbeats.silence_s()
        self._at_work.tick(name if silence_s >= patience_s else "")
        if silence_s < patience_s:
            status = f"{self._pool.progress.annotated} pictures annotated with {self._active_model.card.name}"
            self._notifier.send(WATCHDOG="1", STATUS=status)
        elif self._fed:
            log.error("%s has not moved for %.0f s: the watchdog is no longer fed", name, silence_s)
        self._fed = silence_s < patience_s
