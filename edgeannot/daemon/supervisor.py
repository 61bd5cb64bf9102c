"""The main thread's loop: feed the watchdog while all threads live, show progress, publish telemetry, stop the threads in order."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from edgeannot.daemon.monitoring.report import Reporter
from edgeannot.daemon.reload import Reload
from edgeannot.daemon.worker_pool import Heartbeats, WorkerPool
from edgeannot.mqtt.publisher import Publisher
from edgeannot.payload import Origin, encode, info_payload, telemetry_payload
from edgeannot.storage.store import Message

__all__ = ["Announcer", "Supervisor", "on_signals"]

log = logging.getLogger(__name__)

_TICK_S = 1.0
_TELEMETRY_S = 30.0
_SUMMARY_S = 60.0


class Announcer:
    """Publishes info and telemetry, if there is a publisher. Thread-safe."""

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
        self.reasons: tuple[str, ...] = ()
        """Why the active model was chosen, in sentences."""

    @property
    def heard(self) -> bool:
        """Return whether there is a publisher."""
        return self._publisher is not None

    def model(self, model: ActiveModel, *reasons: str) -> None:
        """Log and publish (retained) the active model and why it was chosen; call it again after each change."""
        log.info("%s with %s on %s: %s", model.card.name, number_of(model.threads, "thread"), model.runtime, "; ".join(reasons))
        self.reasons = (self._why, *reasons)
        if self._publisher is not None:
            choice = self._chosen.choice.as_dict()
            info = info_payload(self._origin, __version__, model.facts, self.reasons, self._sources, choice, self._damaged, self._sinks)
            self._publisher.send_now(Message(self._publisher.topic("info"), encode(info), "info", retain=True))

    def telemetry(self, figures: Mapping[str, Any]) -> None:
        """Publish telemetry."""
        if self._publisher is not None:
            payload = telemetry_payload(self._origin, {**figures, "untold": self._publisher.evicted})
            self._publisher.send_now(Message(self._publisher.topic("telemetry"), encode(payload), "telemetry", qos=0))


@dataclass(eq=False, kw_only=True)
class Supervisor:
    """Checks a pool about once a second until it has finished."""

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
    reload: Reload | None = None
    summary: bool = False
    """Whether the log gets a line a minute in which pictures were annotated, as that of a service."""

    def __post_init__(self) -> None:
        self._fed = True
        self._faults: set[type] = set()
        self._steps = self.governor_loop.steps
        self._telemetry_at = time.monotonic() + _TELEMETRY_S
        self._summary_at = time.monotonic() + _SUMMARY_S
        self._told = 0

    def run(self) -> None:
        """Start the threads and supervise them until the last has ended; raise the error of one that failed."""
        self.pool.start()
        self.notifier.send(READY="1")
        if not self._watch():
            self.notifier.send(STOPPING="1")
        self.pool.join()

    def _watch(self) -> bool:
        """Watch until the threads have ended; True if it was for a new configuration."""
        reloading = False
        watchdog_s = self.notifier.watchdog_s
        tick_s = _TICK_S if watchdog_s is None else min(_TICK_S, watchdog_s / 3)
        patience_s = float("inf") if watchdog_s is None else watchdog_s / 2
        while not self.pool.finished.wait(tick_s):
            if self.reload is not None and not self.stop.is_set() and self.reload.tick():
                reloading = True
                self.stop.set()
            if self.stop.is_set():
                self.pool.frames.cancel()  # what waits to be annotated is done at the next start
            self._feed(patience_s)
            if self.reporter is not None:
                self.reporter.progress(self.pool.progress.files_waiting)
            self._steer()
            if self.measuring is not None:
                self.measuring.tick()
            if time.monotonic() >= self._telemetry_at or self.governor_loop.steps != self._steps:
                self._publish_telemetry()
            if self.summary and time.monotonic() >= self._summary_at:
                self._summarize()
        return reloading

    def _summarize(self) -> None:
        """Log what was done since the last line, if anything was."""
        self._summary_at = time.monotonic() + _SUMMARY_S
        annotated = self.pool.progress.annotated
        new, self._told = annotated - self._told, annotated
        if not new:
            return
        try:
            figures = self.pool.figures()
        except LinkError:  # the disk is not available; the writer logs that
            return
        rejected, unsent = sum(figures.get("rejected", {}).values()), figures.get("outbox", {}).get("rows", 0)
        total_ms = figures.get("timing_ms", {}).get("total", {}).get("p50", 0.0)
        text = (
            f"{number_of(new, 'picture')} in the last minute, {total_ms:.0f} ms each; since the start {annotated}, {rejected} not annotated"
        )
        fields = {"pictures": new, "pictures_total": annotated, "rejected_total": rejected, "total_ms": total_ms, "unsent": unsent}
        log.info("%s; %s unsent", text, number_of(unsent, "message"), extra={"fields": fields})

    def _steer(self) -> None:
        try:
            self.governor_loop.tick()
        except Exception as exc:  # annotation continues without a governor, too
            if type(exc) not in self._faults:
                log.exception("internal error of the governor (please report); trying again")
            self._faults.add(type(exc))

    def _publish_telemetry(self) -> None:
        """Publish the figures now, and schedule the next time."""
        self._telemetry_at = time.monotonic() + _TELEMETRY_S
        self._steps = self.governor_loop.steps
        if not self.announcer.heard:
            return
        try:
            figures = self.pool.figures()
        except LinkError:  # the disk is not available; the writer logs that
            return
        self.announcer.telemetry({**figures, **self.governor_loop.figures()})

    def _feed(self, patience_s: float) -> None:
        """Feed the systemd watchdog, unless a thread's heartbeat is overdue."""
        silence_s, name = self.heartbeats.silence_s()
        self.at_work.tick(name if silence_s >= patience_s else "")
        if silence_s < patience_s:
            status = f"{number_of(self.pool.progress.annotated, 'picture')} annotated with {self.active_model.card.name}"
            refused = self.reload.status if self.reload is not None else ""
            self.notifier.send(WATCHDOG="1", STATUS=refused or status)
        elif self._fed:
            log.error("no heartbeat of %s for %.0f s: the watchdog is no longer fed", name, silence_s)
        self._fed = silence_s < patience_s


@contextmanager
def on_signals(stop: Callable[[], None], reload: Callable[[], None] | None = None) -> Iterator[None]:
    """Stop in order on SIGTERM, SIGINT or SIGHUP (a closed terminal); a second signal has its usual effect.

    reload: what SIGHUP does instead, where no terminal can be closed.
    """
    numbers = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN or reload is not None:  # nohup
        numbers.append(signal.SIGHUP)

    def handle(number: int, frame: object) -> None:
        del frame
        if number == signal.SIGHUP and reload is not None:
            reload()
            return
        signal.signal(number, before[signal.Signals(number)])
        stop()

    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
