"""The threads of one run: a reader for each source, the inference, the writer; what joins them, and what they show of themselves."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgeannot.crash_guard import AtWork
from edgeannot.daemon.active_model import ActiveModel
from edgeannot.daemon.bounded_queue import BoundedQueue, MemoryLimiter
from edgeannot.daemon.heartbeats import Heartbeats, Worker
from edgeannot.daemon.pause_gate import PauseGate
from edgeannot.daemon.report import Reporter
from edgeannot.daemon.telemetry import Telemetry
from edgeannot.daemon.workers import FrameQueue, Results, infer, read, weight, write
from edgeannot.remote.control import Control
from edgeannot.sinks import Sink
from edgeannot.sources import Source
from edgeannot.storage.store import Store
from edgeannot.vision.data import Annotation, Frame

__all__ = ["Parts", "WorkerPool"]

_PICTURE_BYTES = 64 * 2**20
"""Decoded pictures under way at a time: one of 12 megapixels, or several small ones."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a pool works with."""

    inbox: FrameQueue
    active_model: ActiveModel
    control: Control
    store: Store
    sources: dict[str, Source]
    sinks: Sequence[Sink]
    reporter: Reporter | None
    rest_s: Callable[[], float]
    """See `PauseGate`."""
    stop: threading.Event
    patience_s: float = math.inf
    """How long a disk that refuses results is waited for, in seconds."""
    at_work: AtWork = field(default_factory=AtWork)


class WorkerPool:
    """Use `start`, look at it while `finished` is not set, then `join`."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.finished = threading.Event()
        self.heartbeats = Heartbeats()
        self.telemetry = Telemetry()
        self._results: Results = BoundedQueue()
        self._budget = MemoryLimiter(_PICTURE_BYTES)
        self._waiting: dict[str, int] = {}
        self._gates = {name: PauseGate(source, parts.control, parts.rest_s) for name, source in parts.sources.items()}
        self._reading_now = len(parts.sources)
        self._reading_lock = threading.Lock()
        readers = [self._worker(f"read {name}", self._reading(source)) for name, source in parts.sources.items()]
        self._workers = [*readers, self._worker("infer", self._infer), self._worker("write", self._write)]

    def start(self) -> None:
        """Start the threads."""
        for worker in self._workers:
            worker.start()

    def join(self) -> None:
        """Wait for the threads' end; raises the error of one that broke."""
        for worker in self._workers:
            worker.join()
        for worker in self._workers:
            if worker.error is not None:
                raise worker.error

    @property
    def files_waiting(self) -> int:
        """Files that the sources know of and have not read."""
        return sum(self._waiting.values())

    @property
    def pictures_waiting(self) -> int:
        """Pictures that were read and are not stored."""
        return len(self.parts.inbox) + len(self._results)

    def figures(self) -> dict[str, Any]:
        """JSON-ready: counts, times, queues and outbox. Raises LinkError while the disk is away."""
        pending = self.parts.store.pending()
        return {
            **self.telemetry.snapshot(),
            "queues": {"frames": len(self.parts.inbox), "results": len(self._results), "files": self.files_waiting},
            "skipped": self.parts.inbox.replaced + sum(gate.skipped for gate in self._gates.values()),
            "outbox": {"rows": pending.rows, "bytes": pending.bytes, "dropped": pending.dropped, "refused": pending.refused},
            "damaged": self.parts.store.damaged(),
            "folders": [
                {"path": str(state.path), "unwritten": state.unwritten, "trouble": state.trouble}
                for sink in self.parts.sinks
                for state in sink.folders()
            ],
        }

    def _worker(self, name: str, work: Callable[[], None]) -> Worker:
        return Worker(name, work, self.heartbeats, self.parts.stop.set)

    def _beat(self, name: str) -> Callable[[], None]:
        return lambda: self.heartbeats.beat(name)

    def _reading(self, source: Source) -> Callable[[], None]:
        parts = self.parts

        def work() -> None:
            heartbeat, gate = self._beat(f"read {source.name}"), self._gates[source.name]
            try:
                read(
                    source,
                    parts.inbox,
                    self._budget,
                    parts.stop,
                    heartbeat,
                    lambda n: self._waiting.update({source.name: n}),
                    gate,
                    self._leave,
                )
            finally:
                with self._reading_lock:
                    self._reading_now -= 1
                    if not self._reading_now:
                        parts.inbox.end()

        return work

    def infer_beat(self) -> None:
        """The inference thread lives, though it waits."""
        self.heartbeats.beat("infer")

    def _infer(self) -> None:
        control, active_model, heartbeat = self.parts.control, self.parts.active_model, self.infer_beat

        def between() -> None:
            active_model.limit(control.now())
            control.serve(active_model.use, active_model, heartbeat)

        def annotate(frame: Frame) -> Annotation:
            self.parts.at_work.move(frame.place, "inferring")
            annotation = active_model(frame)
            control.saw(annotation)
            return annotation

        try:
            infer(self.parts.inbox, self._results, annotate, heartbeat, self._give_up, between)
        finally:
            control.close()

    def _give_up(self, frame: Frame) -> None:
        self._budget.give(weight(self.parts.sources[frame.source], frame))
        self._leave(frame)

    def _leave(self, frame: Frame) -> None:
        self.parts.at_work.leave(frame.place)

    def _write(self) -> None:
        parts, heartbeat = self.parts, self._beat("write")
        try:
            write(
                self._results,
                parts.sinks,
                parts.store,
                parts.sources,
                self._budget,
                self.telemetry,
                parts.reporter,
                parts.stop,
                heartbeat,
                parts.patience_s,
                parts.at_work,
            )
        finally:
            self.finished.set()
