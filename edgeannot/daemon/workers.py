"""Two of the daemon's three loops: read -> infer -> write, joined by two short queues.

Decoding of the next picture, inference of this one and storing of the last one overlap: OpenCV, the runtime and SQLite all
release the GIL. Each loop ends when its input ends, and ends its output, so that stopping runs down the line by itself.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from edgeannot.base.errors import INTERNAL_ERROR, FrameError, ModelError
from edgeannot.crash_guard import AtWork
from edgeannot.daemon.active_model import ActiveModel
from edgeannot.daemon.bounded_queue import BoundedQueue, Closed, MemoryLimiter
from edgeannot.remote.control import Control
from edgeannot.scene.motion import MotionGate
from edgeannot.scene.region_state import Regions
from edgeannot.scene.second_stage import SecondStage
from edgeannot.scene.tracking import Tracking
from edgeannot.sources import Source, SourceOptions, Stop, Tick
from edgeannot.vision.data import Annotation, Failure, Frame
from edgeannot.vision.news import Lost, News
from edgeannot.vision.views import Prepared

__all__ = ["FrameQueue", "Inference", "PauseGate", "Reader", "ResultQueue", "frame_of", "weight"]

log = logging.getLogger(__name__)

_LOOK_S = 1.0
"""Longest single wait, so that heartbeats continue."""

FrameQueue = BoundedQueue[Frame | Prepared | Failure | Lost]
ResultQueue = BoundedQueue[Annotation | Failure | Frame | News]
"""Frame: one without inference, as nothing has changed in it. News: events without a picture."""


class PauseGate:
    """Holds a source's pictures back while the daemon is paused, and slows them down to the governor's rate.

    For the thread that reads the source; read `skipped` from any thread.
    """

    def __init__(self, source: Source, control: Control, rest_s: Callable[[], float] = lambda: 0.0) -> None:
        """rest_s: seconds to wait after a picture of a source that is not live, such as a file."""
        self._source = source
        self._control = control
        self._rest_s = rest_s
        self._in_pauses = 0
        self._closed_at: int | None = None

    @property
    def skipped(self) -> int:
        """Return the frames that the source skipped, except those during a pause."""
        closed_at = self._closed_at
        return (self._source.skipped if closed_at is None else closed_at) - self._in_pauses

    def wait_open(self, stop: Stop, heartbeat: Callable[[], None]) -> bool:
        """Wait while the daemon is paused, or until `stop`; return whether there was a pause."""
        if self._control.wait_while_paused(0):
            return False
        self._closed_at = self._source.skipped
        while not self._control.wait_while_paused(_LOOK_S) and not stop.is_set():
            heartbeat()
        self._in_pauses += self._source.skipped - self._closed_at
        self._closed_at = None
        return True

    def rest(self, stop: Stop, heartbeat: Callable[[], None]) -> None:
        """Wait after a picture of a source that is not live, to keep the current rate; a live source keeps it by itself."""
        left_s = 0.0 if self._source.live else self._rest_s()
        while left_s > 0 and not stop.wait(min(left_s, _LOOK_S)):
            heartbeat()
            left_s -= _LOOK_S


@dataclass(eq=False, kw_only=True)
class Reader:
    """Puts a source's pictures into the queue for inference. Files wait for room and memory. A live source is asked for its newest picture
    when the last one was taken: what nobody can annotate is not unpacked.

    During a pause files wait and live pictures are dropped. `run` is for one thread.
    """

    source: Source
    frames: FrameQueue
    gate: PauseGate
    limiter: MemoryLimiter
    at_work: AtWork
    stop: Stop
    heartbeat: Callable[[], None]
    prepare: Callable[[Frame], Frame | Prepared] = lambda frame: frame
    """Of the active model: here, so that a picture is prepared while the network has another one."""
    options: SourceOptions | None = None
    motion: MotionGate | None = None
    lost_after_s: Sequence[float] = ()
    """After how many seconds in trouble it is said that the source is away, in ascending order."""
    _troubled_at: float = field(default=math.inf, init=False)
    _said_lost: int = field(default=0, init=False)
    files_waiting: int = field(default=0, init=False)
    """Files that the source has found and not read yet."""
    trouble: str = field(default="", init=False)
    """What is wrong with the source at the moment; empty when all is well."""

    def run(self) -> None:
        """Read until `stop` is set, or until the source or the queue has ended."""
        source, stop, heartbeat = self.source, self.stop, self.heartbeat
        self.gate.wait_open(stop, heartbeat)
        for item in source.items(stop):
            heartbeat()
            if self.gate.wait_open(stop, heartbeat) and source.live and isinstance(item, Frame):
                self.at_work.leave(item.ticket)
                continue
            if isinstance(item, Tick):
                self._note(item)
                if not self._tell_lost():
                    return
                continue
            ready = self._ready(item)
            del item
            if ready is None:
                continue
            try:
                if not self._hand_over(ready):
                    return
            except Closed:
                return
            if not isinstance(ready, Failure):
                self.gate.rest(stop, heartbeat)
            del ready  # hold no picture while waiting for the next: one may have 126 MB
            self._await_turn()
            # The source decodes the next picture on request: not while one over the limit is in memory.
            while not stop.is_set() and not self.limiter.within():
                heartbeat()

    def _ready(self, item: Frame | Failure) -> Frame | Prepared | Failure | None:
        """Return the item with what its source's options say of it, prepared; None for a live frame in which nothing has changed."""
        if not isinstance(item, Frame):
            return item
        if self.options is not None:
            item = replace(item, region=self.options.region, min_score=self.options.min_score)
        if self.motion is None or self.motion.opens(item.seen[0], item.captured_at.timestamp()):
            return self.prepare(item)
        if self.source.live:
            self.at_work.leave(item.ticket)
            return None
        return replace(item, unchanged=True)

    def _await_turn(self) -> None:
        """Wait until a live source's picture was taken for inference."""
        while self.source.live and not self.stop.is_set() and not self.frames.wait_taken(self.source.name):
            self.heartbeat()

    def _note(self, tick: Tick) -> None:
        self.files_waiting = tick.waiting
        if bool(tick.trouble) != bool(self.trouble):
            self._troubled_at, self._said_lost = time.monotonic() if tick.trouble else math.inf, 0
        if tick.trouble != self.trouble:
            self.trouble = tick.trouble
            level = logging.WARNING if tick.trouble else logging.INFO
            log.log(level, "%s: %s", self.source.name, tick.trouble or "works again")

    def _tell_lost(self) -> bool:
        """Say, once for each length of time, that the source has been away for it; return False where nobody listens any more."""
        away_s = time.monotonic() - self._troubled_at
        while self._said_lost < len(self.lost_after_s) and away_s >= self.lost_after_s[self._said_lost]:
            lost = Lost(self.source.name, self.lost_after_s[self._said_lost])
            self._said_lost += 1
            try:
                while not self.frames.put(lost, self.source.name) and not self.stop.is_set():
                    self.heartbeat()
            except Closed:
                return False
        return True

    def _hand_over(self, item: Frame | Prepared | Failure) -> bool:
        """Put the item into the queue when there is room and memory; return False if `stop` was set first. Raises Closed."""
        frame = frame_of(item)
        while not self.limiter.acquire(0 if frame is None else weight(self.source, frame)):
            self.heartbeat()
            if self.stop.is_set():
                return False
        if frame is not None and not self.source.live:
            # Here, as a write hands the interpreter to another thread for a while, in which the network would wait.
            self.at_work.move(frame.ticket, "inferring")
        while not self.frames.put(item, self.source.name, replace=self.source.live and frame is not None):
            self.heartbeat()
        return True


@dataclass(eq=False, kw_only=True)
class Inference:
    """Annotates each frame and passes failures on, so that the writer receives everything in order. `run` is for one thread."""

    frames: FrameQueue
    results: ResultQueue
    active_model: ActiveModel
    control: Control
    sources: Mapping[str, Source]
    limiter: MemoryLimiter
    at_work: AtWork
    heartbeat: Callable[[], None]
    tracking: Mapping[str, Tracking] = field(default_factory=dict)
    """Of the sources that have it, by name."""
    second_stage: SecondStage | None = None
    regions: Mapping[str, Regions] = field(default_factory=dict)
    """Of the sources that have some, by name."""

    def run(self) -> None:
        """Annotate until no more frames come; between two frames, or about once a second, carry out the requests to `control`."""
        control, model = self.control, self.active_model
        name = model.card.name if self.tracking else ""
        try:
            while True:
                self.heartbeat()
                model.limit(control.now())
                control.serve(model.use, model, self.heartbeat)
                if self.tracking and model.card.name != name:
                    name = model.card.name
                    known = set(model.card.label_names())
                    for tracking in self.tracking.values() if known else ():
                        self._pass_on(tracking.forget_labels(known))
                item = self.frames.take()
                if isinstance(item, Lost):
                    self._lose(item)
                elif isinstance(item, Prepared) or (isinstance(item, Frame) and not item.unchanged):
                    self._pass_on(self._annotated(item))
                elif item is not None:
                    self._pass_on(item)
                del item
        except Closed:
            return
        finally:  # also after an error: the next thread must not wait for this one
            self.frames.cancel()
            self.results.end()
            control.close()

    def _lose(self, lost: Lost) -> None:
        tracking, regions = self.tracking.get(lost.source), self.regions.get(lost.source)
        if tracking is not None and lost.after_s >= tracking.options.lost_s:
            self._pass_on(tracking.lost())
        if regions is not None:
            self._pass_on(regions.lost(lost.after_s))

    def _pass_on(self, result: Annotation | Failure | Frame | News | None) -> None:
        """Hand a result to the writer. Raises Closed."""
        if isinstance(result, News) and self.second_stage is not None:
            result = self.second_stage.named(result)
        while result is not None and not self.results.put(result):
            self.heartbeat()

    def _tracked(self, seen: Frame | Prepared) -> Annotation:
        """Return the annotation, with track ids and events where its source has them."""
        frame = seen.frame if isinstance(seen, Prepared) else seen
        tracking = self.tracking.get(frame.source)
        if tracking is None:
            return self.active_model(seen)
        reported = self.active_model.min_score if frame.min_score is None else frame.min_score
        frame = replace(frame, min_score=min(reported, tracking.options.low_score), any_label=True)
        found = self.active_model(replace(seen, frame=frame) if isinstance(seen, Prepared) else frame)
        return tracking.see(found, reported, self.active_model.labels)

    def _annotated(self, seen: Frame | Prepared) -> Annotation | Failure:
        """Return the result, or a failure if only this picture causes an internal error: it must not stop every later start as well."""
        frame = seen.frame if isinstance(seen, Prepared) else seen
        if self.sources[frame.source].live:  # not before: where the network hangs, only the camera is suspected whose frame it has
            self.at_work.move(frame.ticket, "inferring")
        try:
            annotation = self._tracked(seen)
            if self.second_stage is not None:
                annotation = self.second_stage(annotation)
            if (regions := self.regions.get(frame.source)) is not None:
                annotation = regions.see(annotation)
            self.control.saw(annotation)
        except FrameError as exc:
            log.warning("%s: %s: %s; not annotated", frame.source, frame.name, exc)
            return self._failure(frame, exc.reason, f"{frame.name}: {exc}; not annotated")
        except ModelError:  # no model can be used any more
            raise
        except Exception as exc:
            exc.add_note(f"while annotating {frame.source}: {frame.name}")
            try:
                self.active_model(replace(frame, image=np.full((64, 64, 3), 114, np.uint8)))
            except Exception:  # noqa: BLE001 - the first error says more
                raise exc from None  # no picture is annotated
            log.exception("internal error while annotating %s (please report); skipped", frame.name)
            found = f"internal error (please report) while annotating it ({type(exc).__name__}: {exc})"
            return self._failure(frame, INTERNAL_ERROR, f"{frame.name}: {found}; left where it is")
        return annotation

    def _failure(self, frame: Frame, reason: str, message: str) -> Failure:
        """Return the failure of a frame that cannot be annotated."""
        self.limiter.release(weight(self.sources[frame.source], frame))
        self.at_work.leave(frame.ticket)
        return Failure(frame.source, frame.name, reason, message, frame.path or Path(frame.name), key=frame.key)


def weight(source: Source, frame: Frame) -> int:
    """Return the bytes that a frame counts in the memory limiter; 0 for live ones: they are few, and replaced ones are not released."""
    return 0 if source.live else frame.image.nbytes


def frame_of(item: object) -> Frame | None:
    """Return the frame in a queue's item; None where there is none."""
    return item.frame if isinstance(item, Prepared) else item if isinstance(item, Frame) else None
