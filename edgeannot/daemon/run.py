"""One run of the daemon: build the parts, start the threads, handle signals, stop everything in order."""

from __future__ import annotations

import gc
import logging
import math
import os
import sys
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from edgeannot.base.errors import ConfigError, MissingError, ModelError
from edgeannot.base.kernel import free_memory_bytes
from edgeannot.base.systemd import Notifier, clock_synced, has_terminal, is_service
from edgeannot.choice.auto_profile import grade_for_next_start
from edgeannot.choice.first_use_trial import FirstUseTrial
from edgeannot.choice.selection import Choice, exclude, measuring_at_start, select_model
from edgeannot.crash_guard import AtWork
from edgeannot.daemon.active_model import ActiveModel
from edgeannot.daemon.bounded_queue import BoundedQueue, MemoryLimiter
from edgeannot.daemon.build import bounds_of, configured_limits, find_any, make_folder, open_sources, pipeline_builder, source_options
from edgeannot.daemon.deliverers import Deliverer, begin_delivery, drained, make_publisher
from edgeannot.daemon.governor import Governor
from edgeannot.daemon.governor_loop import GovernorLoop, Pace, Sensors
from edgeannot.daemon.idle import CurrentChoice, IdleMeasuring
from edgeannot.daemon.monitoring.health import serve_health
from edgeannot.daemon.monitoring.report import Reporter
from edgeannot.daemon.monitoring.telemetry import Telemetry
from edgeannot.daemon.page.figures import Shown
from edgeannot.daemon.page.live_page import LivePage
from edgeannot.daemon.reload import Reload
from edgeannot.daemon.remote_control import Remote
from edgeannot.daemon.scenes import motion_gate, scenes_of
from edgeannot.daemon.supervisor import Announcer, Supervisor, on_signals
from edgeannot.daemon.worker_pool import Heartbeats, WorkerPool
from edgeannot.daemon.workers import FrameQueue, Inference, PauseGate, Reader, ResultQueue, frame_of
from edgeannot.daemon.writer import Writer
from edgeannot.payload import Origin
from edgeannot.probe import read_board
from edgeannot.remote.control import Control
from edgeannot.settings import Loaded
from edgeannot.sinks import Sink, SinkContext, open_sinks
from edgeannot.sources import Source
from edgeannot.storage.store import Store
from edgeannot.vision.decode import configure_opencv, keep_freed_memory
from edgeannot.vision.pipeline import Pipeline

__all__ = ["RESULTS_MISSING", "Deliverer", "run_daemon"]

log = logging.getLogger(__name__)

_EX_DATAERR = 65  # sysexits.h
RESULTS_MISSING = 73
"""EX_CANTCREAT of sysexits.h: some results could not be written into their folder."""
_FULL_DISK_S = 30.0
"""How long `once` waits for a full disk; a daemon waits for ever, as somebody may free space."""
_PICTURE_BYTES = {"low": 11 * 2**20, "mid": 64 * 2**20, "high": 64 * 2**20}
"""Bytes of decoded pictures at a time, by profile, between reading and storing. Four of 1 megapixel keep all loops busy, also that which
draws; one larger picture always has room."""


def run_daemon(
    loaded: Loaded,
    *,
    once: bool = False,
    again: bool = False,
    remeasure: bool = False,
    state_dir: Path | None = None,
    reporter: Reporter | None = None,
    load: Callable[[], Loaded] | None = None,
) -> int:
    """Run until SIGTERM or SIGINT, or with `once` until every source has ended; return the exit code.

    again: also annotate pictures that the ledger lists as done. remeasure: discard the measurements of the models and repeat them.
    state_dir: a folder for ledger, outbox and crash record in place of the data directory, which another daemon may use meanwhile; who
    names one waits for these pictures, so results that cannot be written give the exit code 73, a picture that cannot be annotated 65.
    reporter: what tells of each picture; else one is made where somebody looks.
    load: reads the configuration again, which SIGHUP asks for where no terminal controls this; one that cannot be used changes nothing.
    Raises ConfigError, ModelError or MissingError if the settings cannot be carried out.
    """
    configure_opencv()
    keep_freed_memory()
    stop, ended = threading.Event(), threading.Event()
    reload = Reload(load, Notifier(os.environ)) if load is not None and not once and not has_terminal() else None

    def end() -> None:
        ended.set()
        stop.set()

    with on_signals(end, reload.ask if reload else None):
        if reporter is None and (once or sys.stdout.isatty()):
            reporter = Reporter(sys.stdout, once=once)
        before: Loaded | None = None
        while True:
            try:
                code = _run(loaded, stop, reporter, reload, once=once, again=again, remeasure=remeasure, state_dir=state_dir)
            except (ConfigError, ModelError, MissingError) as exc:
                if reload is None or before is None:
                    raise
                reload.refused(exc)
                loaded, before = before, None
                continue
            new = reload.take() if reload else None
            if new is None:
                return code
            loaded, before = new, loaded
            gc.collect()  # the model of the run before is in a cycle, and would take memory beside the next one
            stop.clear()
            if ended.is_set():
                return code


def _run(
    loaded: Loaded,
    stop: threading.Event,
    reporter: Reporter | None,
    reload: Reload | None,
    *,
    once: bool,
    again: bool,
    remeasure: bool,
    state_dir: Path | None,
) -> int:
    settings, mqtt = loaded.settings, loaded.settings.sinks.mqtt
    make_folder(settings.data_dir)
    heartbeats, telemetry = Heartbeats(), Telemetry(max_labels=settings.health.max_labels)
    trial = FirstUseTrial(settings, stop.is_set, heartbeats.beat)
    build, limits = pipeline_builder(loaded, trial), configured_limits(settings)
    origin = Origin(settings.device, uuid.uuid4().hex[:12], clock_synced)
    options = source_options(settings)
    kinds = {name: each.kind for name, each in options.items()}
    with ExitStack() as stack:
        store = stack.enter_context(Store.open((state_dir or settings.data_dir) / "state.sqlite"))
        at_work = AtWork(state_dir or settings.data_dir)
        stack.callback(at_work.close)
        # After that, so that the trace of a runtime that dies while it loads the model is there for the next start.
        choice, pipeline = _first_model(loaded, lambda choice: build(choice.card, limits, choice.threads), stop, remeasure=remeasure)
        chosen = CurrentChoice(choice)
        publisher = make_publisher(mqtt, store, origin) if mqtt.enabled else None
        why = f"profile {loaded.profile}: {loaded.profile_reason}"
        log.info("%s", why)
        announcer = Announcer(publisher, origin, kinds, chosen, why, store.damaged(), settings.sinks.enabled)
        active_model = ActiveModel(
            pipeline,
            build,
            find_any(settings),
            limits,
            threads_for=chosen.threads_for,
            free_bytes=free_memory_bytes,
            others=chosen.others,
            distrusted=trial.forget,
            changed=announcer.model,
        )
        if at_work.has_suspects or is_service():  # ready means that pictures are annotated
            active_model.self_test()
        frames: FrameQueue = BoundedQueue(replaced=lambda item: at_work.leave(frame.ticket) if (frame := frame_of(item)) else None)
        control = Control(frames.nudge, active_model.check, keep_last=mqtt.commands.enabled or settings.page.has_controls)
        pace = Pace(control)
        sources = open_sources(settings, options, store, at_work, pace.interval_s, once=once, again=again)
        sinks = open_sinks(settings.sinks, SinkContext(origin, settings.out_folder, pipeline.class_names()))
        for sink in sinks:
            stack.callback(sink.close)
        page = LivePage(settings.page, off=state_dir is not None)
        sinks += page.sinks
        announcer.model(active_model, *choice.reasons)
        _warn_of_budget(choice)
        remote = Remote(
            settings, publisher, store, origin, control, at_work, lambda: active_model.card,
            tuple(name for name, kind in kinds.items() if kind != "mqtt"),  # results of the others go to their senders' topics
        )  # fmt: skip
        sinks += remote.sinks
        deliverers = begin_delivery(stack, loaded, sinks, store, publisher, remote.handler)
        scenes = scenes_of(loaded, build, store, options, pipeline.class_names())
        limiter, results, beat = MemoryLimiter(_PICTURE_BYTES[loaded.profile]), ResultQueue(), heartbeats.beat
        readers = [
            Reader(
                source=source, frames=frames, gate=PauseGate(source, control, pace.rest_s), limiter=limiter, at_work=at_work, stop=stop,
                heartbeat=beat, prepare=active_model.prepare, options=options[name], motion=motion_gate(options[name]),
                lost_after_s=scenes.lost_after_s[name],
            )
            for name, source in sources.items()
        ]  # fmt: skip
        inference = Inference(
            frames=frames, results=results, active_model=active_model, control=control, sources=sources,
            limiter=limiter, at_work=at_work, heartbeat=beat,
            tracking=scenes.tracking, second_stage=scenes.second_stage, regions=scenes.regions,
        )  # fmt: skip
        writer = Writer(
            results=results, sources=sources, sinks=sinks, store=store, limiter=limiter, telemetry=telemetry, at_work=at_work, stop=stop,
            heartbeat=beat, reporter=reporter, patience_s=_FULL_DISK_S if once else math.inf,
        )  # fmt: skip
        pool = WorkerPool(
            readers=readers, inference=inference, writer=writer, frames=frames, results=results,
            telemetry=telemetry, heartbeats=heartbeats, stop=stop,
        )  # fmt: skip
        governor_loop = GovernorLoop(
            Governor(chosen.levels(active_model.card.name), bounds_of(loaded, sources.values(), pinned=choice.pinned)),
            Sensors(), telemetry, control, active_model, pace, levels=chosen.levels, second_stage=scenes.second_stage,
        )  # fmt: skip
        stack.callback(serve_health(loaded, pool, active_model, governor_loop, control, publisher))
        shown = Shown(loaded, origin, options, pool, active_model, governor_loop, control, publisher, announcer, store)
        stack.callback(page.serve(shown, remote.handler))
        measuring = (
            None
            if once or choice.pinned
            else _measuring(loaded, chosen, sources, pool, active_model, control, governor_loop, announcer, stop)
        )
        Supervisor(
            pool=pool,
            stop=stop,
            heartbeats=heartbeats,
            notifier=Notifier(os.environ),
            announcer=announcer,
            active_model=active_model,
            at_work=at_work,
            governor_loop=governor_loop,
            measuring=measuring,
            reporter=reporter,
            reload=reload,
            summary=is_service(),
        ).run()
        if reporter is not None:
            reporter.end(sum(source.done_before for source in sources.values()))
        code = drained(deliverers, stop) if once else 0
        return code if state_dir is None else _awaited(sinks, reporter) or code


def _awaited(sinks: Sequence[Sink], reporter: Reporter | None) -> int:
    """Return the exit code for pictures that the user named, each of which has to be annotated and its results written."""
    if any(state.unwritten for sink in sinks for state in sink.folders()):
        return RESULTS_MISSING
    return _EX_DATAERR if reporter is not None and reporter.failed else 0


def _first_model(loaded: Loaded, build: Callable[[Choice], Pipeline], stop: threading.Event, *, remeasure: bool) -> tuple[Choice, Pipeline]:
    """Return the choice with its pipeline. If the chosen model cannot be used, try the next, unless the user set the model."""
    failed: set[str] = set()
    while True:
        choice = select_model(loaded, measuring_at_start(loaded, remeasure=remeasure), stopped=stop.is_set)
        try:
            return choice, build(choice)
        except ModelError as exc:
            if choice.card.sha256 in failed or not exclude(choice, str(exc)):  # nothing could be remembered
                raise
            failed.add(choice.card.sha256)
            log.warning("%s; excluded from the choice", exc)
            remeasure = False


def _measuring(
    loaded: Loaded,
    chosen: CurrentChoice,
    sources: Mapping[str, Source],
    pool: WorkerPool,
    active_model: ActiveModel,
    control: Control,
    governor_loop: GovernorLoop,
    announcer: Announcer,
    stop: threading.Event,
) -> IdleMeasuring:
    """Build the benchmark of the models for an idle moment."""

    def measure() -> Choice:
        grade_for_next_start(loaded, read_board(), stop.is_set)
        return select_model(loaded, "noisy", stopped=stop.is_set)

    def stays(reason: str) -> None:
        governor_loop.start_over("the models were measured")  # its levels depend on the new measurements
        announcer.model(active_model, reason)

    is_live = any(source.live for source in sources.values())
    return IdleMeasuring(pool, chosen, measure, control=control, active_model=active_model, live=is_live, stop=stop, stays=stays)


def _warn_of_budget(choice: Choice) -> None:
    """Log a warning if no model keeps the budget: otherwise a user would only notice late results."""
    decision = choice.evaluation.decision if choice.evaluation else None
    if decision is not None and decision.winner.ms is not None and decision.winner.ms > decision.budget.ms:
        ms, why = decision.winner.ms, decision.budget.why
        log.warning("no model keeps the budget of %s on this board: the fastest, %s, takes %.0f ms", why, decision.winner.name, ms)
