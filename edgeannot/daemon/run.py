"""One run from its start to its end: builds the parts, starts the threads, takes the signals, and stops everything in order."""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from edgeannot.base.errors import ModelError
from edgeannot.base.systemd import Notifier, clock_synced
from edgeannot.choice.auto_profile import grade_for_next_start
from edgeannot.choice.selection import Choice, exclude, measuring_at_start, select_model
from edgeannot.crash_guard import AtWork
from edgeannot.daemon.active_model import ActiveModel
from edgeannot.daemon.announce import Announcer
from edgeannot.daemon.bounded_queue import BoundedQueue
from edgeannot.daemon.build import bounds_of, configured_limits, find_any, make_folder, open_sources, pipeline_builder
from edgeannot.daemon.first_use_trial import FirstUseTrial
from edgeannot.daemon.governor import Governor
from edgeannot.daemon.governor_loop import GovernorLoop, Pace
from edgeannot.daemon.idle import CurrentChoice, IdleMeasuring
from edgeannot.daemon.report import Reporter
from edgeannot.daemon.sensors import Sensors
from edgeannot.daemon.supervisor import Supervisor
from edgeannot.daemon.worker_pool import Parts, WorkerPool
from edgeannot.daemon.workers import FrameQueue
from edgeannot.mqtt.publisher import Publisher
from edgeannot.payload import Origin
from edgeannot.probe import read_board
from edgeannot.probe.limits import free_memory_bytes
from edgeannot.remote.control import Control
from edgeannot.remote.remote import Remote
from edgeannot.settings import Loaded
from edgeannot.sinks import SinkContext, open_sinks
from edgeannot.storage.store import Store
from edgeannot.vision.data import Frame
from edgeannot.vision.decode import configure_opencv
from edgeannot.vision.pipeline import Pipeline

__all__ = ["run_daemon"]

log = logging.getLogger(__name__)

_CONNECT_S = 2.0
"""How long `once` waits for a broker that did not answer at first; for one that did to take all messages, _DRAIN_S."""
_DRAIN_S = 60.0
_FULL_DISK_S = 30.0
"""How long `once` waits for a disk that takes no results; a daemon waits for ever, as somebody may tidy up."""
_EX_UNAVAILABLE = 69


def run_daemon(loaded: Loaded, *, once: bool = False, again: bool = False, remeasure: bool = False) -> int:
    """Run until told to stop (SIGTERM, SIGINT), or with `once` until every source has ended; returns the exit code.

    again: annotate pictures that the ledger says are done, too. remeasure: forget what models cost here and measure anew. Raises
    ConfigError, ModelError or MissingError where the settings cannot be carried out.
    """
    stop = threading.Event()
    with _on_signals(stop.set):
        return _run(loaded, stop, once=once, again=again, remeasure=remeasure)


def _run(loaded: Loaded, stop: threading.Event, *, once: bool, again: bool, remeasure: bool) -> int:
    settings = loaded.settings
    configure_opencv()
    make_folder(settings.data_dir)
    why = f"profile {loaded.profile}: {loaded.profile_reason}"
    trying = FirstUseTrial(settings, stop.is_set)
    build, limits = pipeline_builder(loaded, trying), configured_limits(settings)
    choice, pipeline = _first_model(loaded, lambda choice: build(choice.card, limits, choice.threads), stop, remeasure=remeasure)
    chosen = CurrentChoice(choice)
    origin = Origin(settings.device, uuid.uuid4().hex[:12], clock_synced)
    reporter = Reporter(sys.stdout) if once or sys.stdout.isatty() else None
    with ExitStack() as stack:
        mqtt = settings.sinks.mqtt
        store = stack.enter_context(Store.open(settings.data_dir / "state.sqlite"))
        at_work = AtWork(settings.data_dir)
        stack.callback(at_work.close)
        inbox: FrameQueue = BoundedQueue(replaced=lambda item: at_work.leave(item.place) if isinstance(item, Frame) else None)
        active_model = ActiveModel(
            pipeline,
            build,
            find_any(settings),
            limits,
            threads_for=chosen.threads_for,
            free_bytes=free_memory_bytes,
            others=chosen.others,
            distrusted=trying.forget,
        )
        if at_work.has_suspects:
            active_model.self_test()
        control = Control(inbox.nudge, active_model.check, keep_last=mqtt.commands.enabled)
        pace = Pace(control)
        sources = open_sources(settings, store, at_work, pace.interval_s, once=once, again=again)
        sinks = open_sinks(settings.sinks, SinkContext(origin, settings.out_folder, pipeline.class_names()))
        for sink in sinks:
            stack.callback(sink.close)
        publisher = (
            Publisher(mqtt, store.queue("mqtt", mqtt.caps), origin, prefix=mqtt.prefix, window=mqtt.window) if mqtt.enabled else None
        )
        kinds = {name: type(source).__name__.removesuffix("Source").lower() for name, source in sources.items()}
        announcer = Announcer(publisher, origin, kinds, store.damaged())
        announcer.info(pipeline.facts, (why, *choice.reasons), choice.as_dict())
        active_model.changed = lambda reason: _say_changed(announcer, active_model, (why, reason), chosen.choice)
        if publisher is not None:
            own = tuple(name for name, kind in kinds.items() if kind != "mqtt")  # results of the others go to their senders' topics
            remote = Remote(settings, publisher, store, origin, control, at_work, lambda: active_model.card, own)
            sinks += remote.sinks
            publisher.start()
            stack.callback(publisher.stop)
            remote.start()
            stack.callback(remote.stop)
        log.info(
            "%s with %d thread(s) on %s: %s",
            active_model.card.name,
            active_model.threads,
            active_model.runtime,
            "; ".join((why, *choice.reasons)),
        )
        _warn_of_budget(choice)
        patience_s = _FULL_DISK_S if once else math.inf
        pool = WorkerPool(Parts(inbox, active_model, control, store, sources, sinks, reporter, pace.rest_s, stop, patience_s, at_work))
        trying.heartbeat = pool.infer_beat
        governor_loop = _governor_loop(loaded, pool, pace, chosen)
        measuring = None if once else _measuring(loaded, pool, chosen, governor_loop)
        Supervisor(pool, Notifier(os.environ), announcer, governor_loop, measuring).run()
        if reporter is not None:
            reporter.end(sum(source.done_before for source in sources.values()))
        wanted = any(key.startswith("sinks.mqtt") for key in loaded.origins)
        return _drain(store, publisher, stop, mqtt.connect_timeout_s) if once and publisher is not None and wanted else 0


def _first_model(loaded: Loaded, build: Callable[[Choice], Pipeline], stop: threading.Event, *, remeasure: bool) -> tuple[Choice, Pipeline]:
    """The choice with its pipeline. A model that the user did not set and that cannot be used is replaced by the next."""
    failed: set[str] = set()
    while True:
        choice = select_model(loaded, measuring_at_start(loaded, remeasure=remeasure), stopped=stop.is_set)
        try:
            return choice, build(choice)
        except ModelError as exc:
            if choice.card.sha256 in failed or not exclude(choice, str(exc)):  # nothing could be remembered
                raise
            failed.add(choice.card.sha256)
            log.warning("%s; it is left out of the choice", exc)
            remeasure = False


def _measuring(loaded: Loaded, pool: WorkerPool, chosen: CurrentChoice, governor_loop: GovernorLoop) -> IdleMeasuring | None:
    """What measures the models in an idle moment; None where the model is set."""
    if chosen.choice.pinned:
        return None

    def stays(reason: str) -> None:
        governor_loop.start_over("the models were measured")  # its ladder follows the new figures
        pool.parts.active_model.changed(reason)

    def measure() -> Choice:
        stopped = pool.parts.stop.is_set
        grade_for_next_start(loaded, read_board(), stopped)
        return select_model(loaded, "noisy", stopped=stopped)

    return IdleMeasuring(pool, chosen, measure, stays=stays)


def _governor_loop(loaded: Loaded, pool: WorkerPool, pace: Pace, chosen: CurrentChoice) -> GovernorLoop:
    """The governor with its sensors, over the ladder of the models in choice."""
    parts = pool.parts
    bounds = bounds_of(loaded, parts.sources.values(), pinned=chosen.choice.pinned)
    governor = Governor(chosen.levels(parts.active_model.card.name), bounds)
    if chosen.choice.pinned and bounds.budget_ms is not None:
        log.info("the model is set: to hold %.0f ms a picture, only the rate will be changed", bounds.budget_ms)
    return GovernorLoop(governor, Sensors(), pool.telemetry, parts.control, parts.active_model, pace, levels=chosen.levels)


def _warn_of_budget(choice: Choice) -> None:
    """One line where nothing keeps the budget: otherwise a user learns of it from pictures that come late."""
    decision = choice.evaluation.decision if choice.evaluation else None
    if decision is not None and decision.winner.ms is not None and decision.winner.ms > decision.budget.ms:
        ms, why = decision.winner.ms, decision.budget.why
        log.warning("no model takes at most %s here: %s, the fastest, takes %.0f ms", why, decision.winner.name, ms)


def _say_changed(announcer: Announcer, active_model: ActiveModel, reasons: tuple[str, ...], choice: Choice) -> None:
    log.info("now %s with %d thread(s) on %s: %s", active_model.card.name, active_model.threads, active_model.runtime, reasons[-1])
    announcer.info(active_model.facts, reasons, choice.as_dict())


def _drain(store: Store, publisher: Publisher, stop: threading.Event, first_answer_s: float) -> int:
    """Wait for the broker to take what there is; EX_UNAVAILABLE when it does not, 0 when told to stop waiting.

    first_answer_s: how long the first attempt to connect may take; one that failed is waited for only _CONNECT_S.
    """
    began = time.monotonic()
    answers = False
    while store.pending().rows and not stop.is_set():
        waited_s = time.monotonic() - began
        answers = answers or publisher.wait_online(0)
        if waited_s > (_DRAIN_S if answers else first_answer_s if publisher.state == "new" else _CONNECT_S):
            log.warning("%d messages are kept in %s until a broker takes them", store.pending().rows, store.path)
            return _EX_UNAVAILABLE
        publisher.wait_drained(0.1)
    return 0


@contextmanager
def _on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """SIGTERM, SIGINT and SIGHUP (a terminal that closed) ask for an orderly stop; a second one ends the program the usual way."""
    numbers = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup
        numbers.append(signal.SIGHUP)

    def handle(number: int, frame: object) -> None:
        del frame
        signal.signal(number, before[signal.Signals(number)])
        stop()

    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
