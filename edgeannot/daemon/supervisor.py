"""The main thread's loop: feeds the watchdog while all threads live, shows progress, publishes telemetry, passes a stop down the line."""

from __future__ import annotations

import logging
import time

from edgeannot.base.errors import LinkError
from edgeannot.base.systemd import Notifier
from edgeannot.daemon.announce import Announcer
from edgeannot.daemon.governor_loop import GovernorLoop
from edgeannot.daemon.idle import IdleMeasuring
from edgeannot.daemon.worker_pool import WorkerPool

__all__ = ["Supervisor"]

log = logging.getLogger(__name__)

_TICK_S = 1.0
_TELEMETRY_S = 30.0


class Supervisor:
    """Looks at a pool about once a second until it has finished."""

    def __init__(
        self, pool: WorkerPool, notifier: Notifier, announcer: Announcer, governor_loop: GovernorLoop, measuring: IdleMeasuring | None
    ) -> None:
        self._pool = pool
        self._notifier = notifier
        self._announcer = announcer
        self._governor_loop = governor_loop
        self._measuring = measuring
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
        parts = self._pool.parts
        while not self._pool.finished.wait(tick_s):
            if parts.stop.is_set():
                parts.inbox.cancel()
            self._feed(patience_s)
            if parts.reporter is not None:
                parts.reporter.progress(self._pool.files_waiting)
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
                log.exception("the governor failed, which is a fault of the program; it tries again")
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
        silence_s, name = self._pool.heartbeats.silence_s()
        self._pool.parts.at_work.tick(name if silence_s >= patience_s else "")
        if silence_s < patience_s:
            status = f"{self._pool.telemetry.pictures} pictures annotated with {self._pool.parts.active_model.card.name}"
            self._notifier.send(WATCHDOG="1", STATUS=status)
        elif self._fed:
            log.error("%s has not moved for %.0f s: the watchdog is no longer fed", name, silence_s)
        self._fed = silence_s < patience_s
