"""The main thread's loop: feeds the watchdog while all threads live, shows progress, publishes telemetry, passes a stop down the line."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeannot import __version__
from edgeannot.base.errors import LinkError
from edgeannot.base.foreign import number_of
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
        sinks: Sequence[str] = (),
    ) -> None:
        """sources: name -> kind. why: of the profile. damaged, sinks: see `info_payload`."""
        self._publisher = publisher
        self._origin = origin
        self._sources = sources
        self._chosen = chosen
        self._why = why
        self._damaged = damaged
        self._sinks = sinks

    @property
    def heard(self) -> bool:
        """Whether there is a publisher at all."""
        return self._publisher is not None

    def model(self, model: ActiveModel, *reasons: str) -> None:
        """Log and publish, retained, what runs here and why; again after each change of the model."""
        log.info("%s with %s on %s: %s", model.card.name, number_of(model.threads, "thread"), model.runtime, "; ".join(reasons))
        if self._publisher is not None:
            choice = self._chosen.choice.as_dict()
            reasons = (self._why, *reasons)
            info = info_payload(self._origin, __version__, model.facts, reasons, self._sources, choice, self._damaged, self._sinks)
            self._publisher.send_now(Message(self._publisher.topic("info"), encode(info), "info", retain=True))

    def telemetry(self, figures: Mapping[str, Any]) -> None:
        """Tell how the device is doing."""
        if self._publisher is not None:
            payload = telemetry_payload(self._origin, {**figures, "untold": self._publisher.evicted})
            self._publisher.send_now(Message(self._publisher.topic("telemetry"), encode(payload), "telemetry", qos=0))


@dataclass(eq=False, kw_only=True)
class Supervisor:
    """Looks at a pool about once a second until it has finished."""

    pool: WorkerPool
    stop: threading.Event
    heartbeats: Heartbeats
    notifier: Notifier
    announcer: Announcer
    active_model: ActiveModel
    at_work: AtWork
    governor_loop: GovernorLoop
    measuring: IdleMeasuring | None = None
    reporter: Reporter | None = None

    def __post_init__(self) -> None:
        self._fed = True
        self._faults: set[type] = set()
        self._steps = self.governor_loop.steps
        self._telemetry_at = time.monotonic() + _TELEMETRY_S

    def run(self) -> None:
        """Start the threads and watch them until the last has ended; raises the error of one that broke."""
        self.pool.start()
        self.notifier.send(READY="1")
        self._watch()
        self.notifier.send(STOPPING="1")
        self.pool.join()

    def _watch(self) -> None:
        watchdog_s = self.notifier.watchdog_s
        tick_s = _TICK_S if watchdog_s is None else min(_TICK_S, watchdog_s / 3)
        patience_s = float("inf") if watchdog_s is None else watchdog_s / 2
        while not self.pool.finished.wait(tick_s):
            if self.stop.is_set():
                self.pool.cancel()
            self._feed(patience_s)
            if self.reporter is not None:
                self.reporter.progress(self.pool.progress.files_waiting)
            self._steer()
            if self.measuring is not None:
                self.measuring.tick()
            if time.monotonic() >= self._telemetry_at or self.governor_loop.steps != self._steps:
                self._publish_telemetry()

    def _steer(self) -> None:
        try:
            self.governor_loop.tick()
        except Exception as exc:  # the work goes on without a governor, too
            if type(exc) not in self._faults:
                log.exception("internal error of the governor (please report); it tries again")
            self._faults.add(type(exc))

    def _publish_telemetry(self) -> None:
        """Tell the figures now, and again after the usual time."""
        self._telemetry_at = time.monotonic() + _TELEMETRY_S
        self._steps = self.governor_loop.steps
        if not self.announcer.heard:
            return
        try:
            figures = self.pool.figures()
        except LinkError:  # the disk is away, and the writer says so
            return
        self.announcer.telemetry({**figures, **self.governor_loop.figures()})

    def _feed(self, patience_s: float) -> None:
        """Give systemd a sign of life, unless a thread owes its own for too long."""
        silence_s, name = self.heartbeats.silence_s()
        self.at_work.tick(name if silence_s >= patience_s else "")
        if silence_s < patience_s:
            status = f"{number_of(self.pool.progress.annotated, 'picture')} annotated with {self.active_model.card.name}"
            self.notifier.send(WATCHDOG="1", STATUS=status)
        elif self._fed:
            log.error("%s has not moved for %.0f s: the watchdog is no longer fed", name, silence_s)
        self._fed = silence_s < patience_s
