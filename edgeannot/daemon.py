"""Builds the parts from the settings and runs them: threads, signals, watchdog, and the order in which things stop."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgeannot import __version__
from edgeannot.cards import bundled_folder, find_card, read_cards
from edgeannot.choose import Choice, choose
from edgeannot.clock import clock_synced
from edgeannot.data import Frame, Profile
from edgeannot.errors import ConfigError, LinkError
from edgeannot.handoff import Budget, Handoff
from edgeannot.link import Link
from edgeannot.payload import Origin, encode, info_payload, telemetry_payload
from edgeannot.picture import configure_opencv
from edgeannot.pipeline import Limits, Pipeline, load_pipeline
from edgeannot.report import Reporter
from edgeannot.sdnotify import Notifier
from edgeannot.settings import Loaded, Settings
from edgeannot.sinks import Sink, SinkContext, open_sinks, written_paths
from edgeannot.sources import Context, DirectoryOptions, Source, open_source
from edgeannot.sources.contract import never_done
from edgeannot.store import Message, Store
from edgeannot.telemetry import Telemetry
from edgeannot.workers import Inbox, Pulse, Results, Worker, infer, read, weight, write

__all__ = ["model_folders", "run_daemon"]

log = logging.getLogger(__name__)

_TICK_S = 1.0
_TELEMETRY_S = 30.0
_CONNECT_S = 2.0
"""How long `once` waits for a broker that did not answer at first; for one that did to take all messages, _DRAIN_S."""
_DRAIN_S = 60.0
_PICTURE_BYTES = 64 * 2**20
"""Decoded pictures under way at a time: one of 12 megapixels, or several small ones."""
_EX_UNAVAILABLE = 69


def run_daemon(loaded: Loaded, *, once: bool = False, again: bool = False) -> int:
    """Run until told to stop (SIGTERM, SIGINT), or with `once` until every source has ended; returns the exit code.

    again: annotate pictures that the ledger says are done, too. Raises ConfigError, ModelError or MissingError where the
    settings cannot be carried out.
    """
    stop = threading.Event()
    with _on_signals(stop.set):
        return _run(loaded, stop, once=once, again=again)


def _run(loaded: Loaded, stop: threading.Event, *, once: bool, again: bool) -> int:
    settings = loaded.settings
    configure_opencv()
    _make_folder(settings.data_dir)
    choice = _choose_model(loaded)
    reasons = (f"profile {loaded.profile}: {loaded.profile_reason}", *choice.reasons)
    pipeline = _build_pipeline(settings, choice, loaded.profile)
    origin = Origin(settings.device, uuid.uuid4().hex[:12], clock_synced)
    reporter = Reporter(sys.stdout) if once or sys.stdout.isatty() else None
    with ExitStack() as stack:
        mqtt = settings.sinks.mqtt
        store = stack.enter_context(Store.open(settings.data_dir / "state.sqlite", caps=mqtt.caps))
        sources = _open_sources(settings, store, once=once, again=again)
        sinks = open_sinks(settings.sinks, SinkContext(origin, settings.out_folder, pipeline.class_names()))
        for sink in sinks:
            stack.callback(sink.close)
        link = Link(mqtt, store, origin, prefix=mqtt.prefix, window=mqtt.window) if mqtt.enabled else None
        if link is not None:
            kinds = {source.name: type(source).__name__.removesuffix("Source").lower() for source in sources}
            info = info_payload(origin, __version__, pipeline.facts, reasons, kinds)
            link.tell(Message(link.topic("info"), encode(info), "info", retain=True))
            link.start()
            stack.callback(link.stop)
        log.info("%s with %d thread(s) on %s: %s", pipeline.card.name, pipeline.engine.threads, pipeline.engine.runtime, "; ".join(reasons))
        crew = _Crew(pipeline, store, {source.name: source for source in sources}, sinks, reporter, link, origin, stop)
        crew.run()
        if reporter is not None:
            reporter.end(sum(source.done_before for source in sources))
        wanted = any(key.startswith("sinks.mqtt") for key in loaded.origins)
        return _drain(store, link, stop, mqtt.connect_timeout_s) if once and link is not None and wanted else 0


@dataclass(slots=True)
class _Watched:
    """What the main thread looks at, once a second."""

    next_telemetry: float = 0.0
    fed: bool = True


class _Crew:
    """The threads of one run, and the main thread's watch over them."""

    def __init__(
        self,
        pipeline: Pipeline,
        store: Store,
        sources: dict[str, Source],
        sinks: Sequence[Sink],
        reporter: Reporter | None,
        link: Link | None,
        origin: Origin,
        stop: threading.Event,
    ) -> None:
        self._pipeline = pipeline
        self._store = store
        self._sources = sources
        self._reporter = reporter
        self._link = link
        self._origin = origin
        self._notifier = Notifier(os.environ)
        self._stop = stop
        self._finished = threading.Event()
        self._pulse = Pulse()
        self._telemetry = Telemetry()
        self._inbox: Inbox = Handoff()
        self._results: Results = Handoff()
        self._budget = Budget(_PICTURE_BYTES)
        self._waiting: dict[str, int] = {}
        self._reading_now = len(sources)
        self._reading_lock = threading.Lock()
        readers = [self._worker(f"read {name}", self._reading(source)) for name, source in sources.items()]
        inference = self._worker("infer", lambda: infer(self._inbox, self._results, pipeline, self._beat("infer"), self._give_up))
        writer = self._worker("write", self._writing(sinks))
        self._workers = [*readers, inference, writer]

    def run(self) -> None:
        """Start the threads, watch them until the last has ended, raise the error of one that broke."""
        for worker in self._workers:
            worker.start()
        self._notifier.send(READY="1")
        self._watch()
        self._notifier.send(STOPPING="1")
        for worker in self._workers:
            worker.join()
        for worker in self._workers:
            if worker.error is not None:
                raise worker.error

    def _worker(self, name: str, work: Callable[[], None]) -> Worker:
        return Worker(name, work, self._pulse, self._stop.set)

    def _beat(self, name: str) -> Callable[[], None]:
        return lambda: self._pulse.beat(name)

    def _give_up(self, frame: Frame) -> None:
        self._budget.give(weight(self._sources[frame.source], frame))

    def _reading(self, source: Source) -> Callable[[], None]:
        def work() -> None:
            try:
                read(
                    source,
                    self._inbox,
                    self._budget,
                    self._stop,
                    self._beat(f"read {source.name}"),
                    lambda n: self._waiting.update({source.name: n}),
                )
            finally:
                with self._reading_lock:
                    self._reading_now -= 1
                    if not self._reading_now:
                        self._inbox.end()

        return work

    def _writing(self, sinks: Sequence[Sink]) -> Callable[[], None]:
        def work() -> None:
            try:
                write(
                    self._results,
                    sinks,
                    self._store,
                    self._sources,
                    self._budget,
                    self._telemetry,
                    self._reporter,
                    self._stop,
                    self._beat("write"),
                )
            finally:
                self._finished.set()

        return work

    def _watch(self) -> None:
        """The main thread's loop: feed the watchdog while all workers live, publish telemetry, pass a stop down the line."""
        watchdog_s = self._notifier.watchdog_s
        tick_s = _TICK_S if watchdog_s is None else min(_TICK_S, watchdog_s / 3)
        patience_s = float("inf") if watchdog_s is None else watchdog_s / 2
        watched = _Watched(next_telemetry=time.monotonic() + _TELEMETRY_S)
        while not self._finished.wait(tick_s):
            if self._stop.is_set():
                self._inbox.cancel()
            silence_s, name = self._pulse.silence_s()
            if silence_s < patience_s:
                self._notifier.send(WATCHDOG="1", STATUS=f"{self._telemetry.pictures} pictures annotated with {self._pipeline.card.name}")
            elif watched.fed:
                log.error("%s has not moved for %.0f s: the watchdog is no longer fed", name, silence_s)
            watched.fed = silence_s < patience_s
            if self._reporter is not None:
                self._reporter.progress(sum(self._waiting.values()))
            if time.monotonic() >= watched.next_telemetry:
                watched.next_telemetry = time.monotonic() + _TELEMETRY_S
                self._publish_telemetry()

    def _publish_telemetry(self) -> None:
        if self._link is None:
            return
        try:
            pending = self._store.pending()
        except LinkError:  # the disk is away, and the writer says so
            return
        figures = {
            **self._telemetry.snapshot(),
            "queues": {"frames": len(self._inbox), "results": len(self._results), "files": sum(self._waiting.values())},
            "skipped": self._inbox.replaced + sum(source.skipped for source in self._sources.values()),
            "outbox": {"rows": pending.rows, "bytes": pending.bytes, "dropped": pending.dropped, "refused": pending.refused},
        }
        self._link.tell(Message(self._link.topic("telemetry"), encode(telemetry_payload(self._origin, figures)), "telemetry", qos=0))


def model_folders(data_dir: Path) -> list[Path]:
    """Where model cards are looked for: the user's own first."""
    return [data_dir / "models", bundled_folder()]


def _choose_model(loaded: Loaded) -> Choice:
    settings, profile = loaded.settings, loaded.profile
    folders = model_folders(settings.data_dir)
    if settings.model is None:
        cards = read_cards(folders, wrong=lambda exc: log.warning("%s; it is passed over", exc))
        return choose(profile, cards, settings.task, settings.labels)
    card = find_card(settings.model, folders)
    if card.task == "embed":
        raise ConfigError(f"model {card.name} gives an embedding, neither boxes nor classes; choose another with `edgeannot models list`")
    if card.task != settings.task and "task" in loaded.origins:
        raise ConfigError(
            f"model {card.name} is for the task {card.task!r}, the {loaded.origins['task']} says {settings.task!r}; set one of them only"
        )
    return Choice(card, ("the model is set",))


def _build_pipeline(settings: Settings, choice: Choice, profile: Profile) -> Pipeline:
    cores = len(os.sched_getaffinity(0))
    threads = settings.threads or min(cores, settings.max_threads)
    limits = Limits(settings.min_score, settings.iou, labels=settings.labels)
    return load_pipeline(choice.card, threads=threads, runtime=settings.runtime, profile=profile, limits=limits)


def _open_sources(settings: Settings, store: Store, *, once: bool, again: bool) -> list[Source]:
    options = dict(settings.sources)
    if not options:
        inbox = settings.data_dir / "inbox"
        _make_folder(inbox)
        log.info("watching %s: put pictures there, or name a folder with --watch DIR or in the configuration file ([sources.NAME])", inbox)
        options = {"inbox": DirectoryOptions(path=inbox)}
    context = Context(
        quarantine=settings.data_dir / "quarantine",
        own_folders=(settings.data_dir, settings.out_folder),
        results=written_paths(settings.sinks, settings.out_folder),
        is_done=never_done if again else store.is_done,
        once=once,
        max_fps=settings.max_fps,
    )
    return [open_source(name, option, context) for name, option in options.items()]


def _drain(store: Store, link: Link, stop: threading.Event, first_answer_s: float) -> int:
    """Wait for the broker to take what there is; EX_UNAVAILABLE when it does not, 0 when told to stop waiting.

    first_answer_s: how long the first attempt to connect may take; one that failed is waited for only _CONNECT_S.
    """
    began = time.monotonic()
    answers = False
    while store.pending().rows and not stop.is_set():
        waited_s = time.monotonic() - began
        answers = answers or link.wait_online(0)
        if waited_s > (_DRAIN_S if answers else first_answer_s if link.state == "new" else _CONNECT_S):
            log.warning("%d messages are kept in %s until a broker takes them", store.pending().rows, store.path)
            return _EX_UNAVAILABLE
        link.wait_drained(0.1)
    return 0


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise ConfigError(f"the folder {folder} cannot be made ({exc.strerror}); choose another with --data-dir or data_dir") from exc


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
