"""The threads of one run: a reader for each source, the inference and the writer; their heartbeats and progress."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edgeannot.base.foreign import valid_text
from edgeannot.base.redaction import redacted
from edgeannot.daemon.monitoring.telemetry import Telemetry
from edgeannot.daemon.workers import FrameQueue, Inference, Reader, ResultQueue
from edgeannot.daemon.writer import Writer

__all__ = ["Heartbeats", "Progress", "Worker", "WorkerPool"]


class Heartbeats:
    """When each worker last sent a heartbeat; the watchdog is fed only while all of them do."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: dict[str, float] = {}

    def begin(self, name: str) -> None:
        """Expect heartbeats of the thread of this name from now on."""
        self._last[name] = self._clock()

    def beat(self) -> None:
        """Record a heartbeat of the calling thread; ignored for threads that did not `begin`."""
        name = threading.current_thread().name
        if name in self._last:
            self._last[name] = self._clock()

    def end(self, name: str) -> None:
        """Expect no more heartbeats."""
        self._last.pop(name, None)

    def silence_s(self) -> tuple[float, str]:
        """Return the longest time in seconds that a worker has been silent, and its name."""
        now = self._clock()
        return max(((now - last, name) for name, last in list(self._last.items())), default=(0.0, ""))


class Worker(threading.Thread):
    """A named thread that keeps the error which ended it."""

    def __init__(self, name: str, work: Callable[[], None], heartbeats: Heartbeats, failed: Callable[[], None]) -> None:
        super().__init__(name=name, daemon=True)
        self._work = work
        self._heartbeats = heartbeats
        self._failed = failed
        self.error: BaseException | None = None

    def run(self) -> None:
        """Do the work; keep and report its error."""
        self._heartbeats.begin(self.name)
        try:
            self._work()
        except BaseException as exc:  # noqa: BLE001 - the main thread raises it again
            self.error = exc
            self._failed()
        finally:
            self._heartbeats.end(self.name)


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of the run."""

    annotated: int
    """Pictures annotated since the start."""
    files_waiting: int
    """Files that the sources have found and not read yet."""
    pictures_waiting: int
    """Pictures that were read and are not stored yet."""


@dataclass(eq=False, kw_only=True)
class WorkerPool:
    """Call `start`, wait for `finished`, then call `join`."""

    readers: Sequence[Reader]
    inference: Inference
    writer: Writer
    frames: FrameQueue
    results: ResultQueue
    telemetry: Telemetry
    heartbeats: Heartbeats
    stop: threading.Event

    def __post_init__(self) -> None:
        self.finished = threading.Event()
        self._reading_now = len(self.readers)
        self._reading_lock = threading.Lock()
        work = [(f"read {reader.source.name}", self._reading(reader)) for reader in self.readers]
        work += [("infer", self.inference.run), ("write", self._write)]
        self._workers = [Worker(name, each, self.heartbeats, self.stop.set) for name, each in work]

    def start(self) -> None:
        """Start the threads."""
        for worker in self._workers:
            worker.start()

    def join(self) -> None:
        """Wait for the threads to end; raise the error of one that failed."""
        for worker in self._workers:
            worker.join()
        for worker in self._workers:
            if worker.error is not None:
                raise worker.error

    @property
    def progress(self) -> Progress:
        """Return the progress now."""
        return Progress(self.telemetry.pictures, sum(reader.files_waiting for reader in self.readers), len(self.frames) + len(self.results))

    def figures(self) -> dict[str, Any]:
        """Return counts, times, queues and outbox, ready for JSON. Raises LinkError while the disk is not available."""
        files = self.progress.files_waiting
        return {
            **self.telemetry.snapshot(),
            "queues": {"frames": len(self.frames), "results": len(self.results), "files": files},
            "skipped": self.frames.replaced + sum(reader.gate.skipped for reader in self.readers),
            "sources": self._sources(),
            **({} if self.inference.second_stage is None else {"second_stage": self.inference.second_stage.figures()}),
            **self.writer.figures(),
        }

    def _sources(self) -> dict[str, dict[str, Any]]:
        """Return the figures of each source."""
        seen = self.telemetry.by_source()
        return {
            reader.source.name: {
                **seen.get(reader.source.name, {"pictures": 0, "fps": 0.0}),
                "skipped": reader.gate.skipped,
                "trouble": valid_text(redacted(reader.trouble)),
                **({} if reader.motion is None else {"motion": reader.motion.figures()}),
            }
            for reader in self.readers
        }

    def _reading(self, reader: Reader) -> Callable[[], None]:
        def work() -> None:
            try:
                reader.run()
            finally:
                with self._reading_lock:
                    self._reading_now -= 1
                    if not self._reading_now:
                        self.frames.end()

        return work

    def _write(self) -> None:
        try:
            self.writer.run()
        finally:
            self.finished.set()
