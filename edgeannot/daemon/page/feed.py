"""What viewers of the live page get: the last pictures, small ones of those with something in them, and figures over the last minutes.

The writer's thread only notes each picture, and keeps a reference to it. A thread of its own draws and encodes: small pictures as they
come, large ones and figures while somebody looks. What it made is shared by all viewers, and none of them has a queue: a viewer's thread
sends the newest, and whatever came meanwhile is passed over.
"""

from __future__ import annotations

import base64
import json
import logging
import math
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np

from edgeannot.base.foreign import valid_text
from edgeannot.payload import rfc3339
from edgeannot.sinks.base import Sink
from edgeannot.storage.store import Message
from edgeannot.vision.data import Annotation

__all__ = ["Feed", "History"]

log = logging.getLogger(__name__)

_LARGEST: Final = 2_200_000
"""Pixels of a picture that is kept, 1080p with a margin, as `remote.control` keeps one; of a larger one every second pixel or fewer are."""
_SIDE: Final = 960
"""Longest side of the live picture in pixels."""
_SMALL_SIDE: Final = 192
_STRIP: Final = 50
"""Small pictures that are kept, some 6 KB each."""
_MOST_WAITING: Final = 8
_SHARE: Final = 0.01
"""Part of all cores' time that large pictures may take: on a slow board there are fewer of them, and inference goes on as without them."""
_STATE_S: Final = 1.0
_ALIVE_S: Final = 15.0
"""Seconds of silence after which a viewer gets an empty line, so that one who has gone is noticed."""
_MOST_VIEWERS: Final = 16
_MOST_ROWS: Final = 100
"""Detections of one picture that the table has."""


class History:
    """Pictures and their times in steps of some seconds. Not thread-safe."""

    STEP_S: Final = 5.0
    STEPS: Final = 120

    def __init__(self) -> None:
        self._steps: deque[tuple[int, int, float]] = deque(maxlen=self.STEPS)
        """Number of the step, pictures in it, the sum of their times in ms; steps without any are left out."""

    def add(self, now_s: float, ms: float) -> None:
        """Count one picture."""
        step = int(now_s // self.STEP_S)
        if self._steps and self._steps[-1][0] == step:
            _, count, total = self._steps.pop()
            self._steps.append((step, count + 1, total + ms))
        else:
            self._steps.append((step, 1, ms))

    def rows(self, now_s: float) -> list[list[float]]:
        """Return for each of the last steps that had pictures: steps ago (0: the one that runs), pictures, mean time in ms."""
        now = int(now_s // self.STEP_S)
        return [[now - step, count, round(total / count, 1)] for step, count, total in self._steps if now - step < self.STEPS]


class Feed(Sink):
    """A sink that keeps nothing but what the page shows. `watch` may run in several threads at a time."""

    def __init__(self, max_fps: float, clock: Callable[[], float] = time.monotonic) -> None:
        """max_fps: pictures a second that are drawn, of all sources together."""
        self._rest_s = 1 / max_fps
        self._rest_ratio = 1 / (_SHARE * len(os.sched_getaffinity(0)))
        self._figures: Callable[[], Mapping[str, Any]] = dict
        self._clock = clock
        lock = threading.RLock()
        self._changed = threading.Condition(lock)  # for the viewers: there is something to send
        self._work = threading.Condition(lock)  # for the one thread that makes it, which a picture wakes only for something to do
        self._viewers = 0
        self._closed = False
        self._number = 0
        self._last: dict[str, tuple[int, Annotation]] = {}
        """By source, with the number of each picture."""
        self._waiting: deque[tuple[int, Annotation]] = deque(maxlen=_MOST_WAITING)
        """For the strip, small already."""
        self._withheld: tuple[int, Annotation] | None = None
        """The newest for the strip, while it takes none."""
        self._allowed, self._allowed_at = float(_STRIP), clock()
        self._history = History()
        self._pictures: dict[str, tuple[int, bytes]] = {}
        """What viewers are sent, by source, while there are any."""
        self._strip: deque[tuple[int, bytes]] = deque(maxlen=_STRIP)
        self._state: tuple[int, bytes] = (0, b"")
        self._draw_at = self._state_at = 0.0
        self._asleep_until = -math.inf
        """Until when the thread sleeps, seconds of the monotonic clock; minus infinity where it is awake, or will be in a moment."""
        self._thread = threading.Thread(target=self._run, name="page", daemon=True)

    # The sink

    def write(self, annotation: Annotation) -> Sequence[Message]:
        """Note one picture; return no messages."""
        now = self._clock()
        kept = _thinned(annotation, math.ceil(math.sqrt(annotation.frame.image[..., 0].size / _LARGEST)))
        with self._changed:
            self._number += 1
            self._history.add(now, annotation.timing_ms.get("total", 0.0))
            self._last[annotation.frame.source] = (self._number, kept)
            if annotation.labels:
                self._withheld = (self._number, kept)
                self._release(now)
            if (0.0 if self._waiting else self._due()) < self._asleep_until:
                self._asleep_until = -math.inf
                self._work.notify()
        return ()

    def start(self, figures: Callable[[], Mapping[str, Any]]) -> None:
        """Start the thread that draws. figures: JSON-ready, asked for about once a second while somebody looks."""
        self._figures = figures
        self._thread.start()

    def close(self) -> None:
        """End the thread and what viewers read."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._work.notify()
        if self._thread.ident is not None:
            self._thread.join(5.0)

    def _release(self, now: float) -> None:
        """Give the newest picture with something in it to the strip, which takes one a second, after a rest as many as it holds."""
        self._allowed = min(self._allowed + now - self._allowed_at, float(_STRIP))
        self._allowed_at = now
        if self._withheld is not None and self._allowed >= 1:
            self._allowed -= 1
            number, kept = self._withheld
            self._withheld = None
            self._waiting.append((number, _thinned(kept, max(kept.frame.image.shape[:2]) // (2 * _SMALL_SIDE))))

    # The viewers

    def watch(self) -> Generator[bytes, None, None] | None:
        """Return server-sent events (WHATWG HTML, 9.2) for one viewer, until the feed is closed; None where too many look already.

        First come `hello`, the strip and the last picture of each source. Pictures that came while one was sent are passed over, but for
        the newest.
        """
        with self._changed:
            if self._viewers >= _MOST_VIEWERS or self._closed:
                return None
            self._viewers += 1
            self._work.notify()
        events = self._events()
        next(events)  # from here on closing it counts the viewer out
        return events

    def _events(self) -> Generator[bytes, None, None]:
        seen: dict[str, int] = {}
        state = strip = 0
        try:
            yield b""
            yield b"event: hello\ndata: {}\n\n"
            while True:
                with self._changed:
                    self._changed.wait_for(partial(self._has_news, seen, state, strip), _ALIVE_S)
                    if self._closed:
                        return
                    small = [event for number, event in self._strip if number > strip]
                    strip = self._strip[-1][0] if self._strip else strip
                    large = [each for source, each in self._pictures.items() if each[0] != seen.get(source)]
                    seen = {source: number for source, (number, _) in self._pictures.items()}
                    figures = self._state[1] if self._state[0] != state else b""
                    state = self._state[0]
                news = [figures, *small, *(event for _, event in sorted(large, key=lambda each: each[0]))]
                yield from [event for event in news if event] or [b":\n\n"]
        finally:
            with self._changed:
                self._viewers -= 1
                if not self._viewers:
                    self._pictures, self._state = {}, (self._state[0], b"")

    def _has_news(self, seen: Mapping[str, int], state: int, strip: int) -> bool:
        """Return whether there is something that a viewer does not have, or the end."""
        pictures = any(number != seen.get(source) for source, (number, _) in self._pictures.items())
        return self._closed or pictures or self._state[0] != state or bool(self._strip and self._strip[-1][0] > strip)

    # The thread

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._closed and not self._waiting and (due := self._due()) > (now := time.monotonic()):
                    self._asleep_until = due
                    self._work.wait(None if due == math.inf else due - now)
                    self._release(self._clock())
                self._asleep_until = -math.inf
                if self._closed:
                    return
                small = self._waiting.popleft() if self._waiting else None
                fresh = self._fresh() if self._viewers and time.monotonic() >= self._draw_at else None
            try:
                if small is not None:
                    self._add(*small)
                if fresh is not None:
                    begun, cpu_s = time.monotonic(), time.thread_time()
                    self._draw_at = begun + self._rest_s  # also where drawing fails
                    self._draw(*fresh)
                    self._draw_at = max(self._draw_at, begun + self._rest_ratio * (time.thread_time() - cpu_s))
                if self._viewers and time.monotonic() >= self._state_at:
                    self._state_at = time.monotonic() + _STATE_S
                    self._tell()
            except Exception:
                log.exception("internal error of the live page (please report); continuing")
            del small, fresh  # no picture is held while nobody looks

    def _due(self) -> float:
        """Return when there is something to do, if no picture comes: seconds of the monotonic clock. Without viewers mostly never."""
        next_small = time.monotonic() + 1.0 if self._withheld else math.inf
        if not self._viewers:
            return next_small
        return min(next_small, self._state_at, self._draw_at if self._fresh() else math.inf)

    def _fresh(self) -> tuple[int, Annotation] | None:
        """Return the picture that waits longest of those that no viewer has; each source's newest."""
        waiting = [each for source, each in self._last.items() if self._pictures.get(source, (0, b""))[0] != each[0]]
        return min(waiting, key=lambda each: each[0], default=None)

    def _add(self, number: int, annotation: Annotation) -> None:
        """Draw a small picture and add it to the strip."""
        from edgeannot.vision.draw import annotated_jpeg  # noqa: PLC0415 - OpenCV, only when a picture is drawn

        counts = Counter(map(valid_text, annotation.shown_labels)).most_common(20)
        facts = {**_facts(annotation), "labels": counts, "jpeg": _text(annotated_jpeg(annotation, 75, _SMALL_SIDE, labelled=False))}
        event = _event("small", facts)
        with self._changed:
            self._strip.append((number, event))
            self._changed.notify_all()

    def _draw(self, number: int, annotation: Annotation) -> None:
        """Draw a source's picture for the viewers."""
        from edgeannot.vision.draw import annotated_jpeg  # noqa: PLC0415 - as above

        found, frame = annotation.detections, annotation.frame
        tracks = [-1] * len(found) if found.tracks is None else found.tracks.tolist()
        rows = zip(annotation.shown_labels, found.scores.tolist(), found.boxes.tolist(), tracks, strict=True)
        table = [[valid_text(label), round(score, 2), [round(side) for side in box], track] for label, score, box, track in rows]
        facts = {
            **_facts(annotation),
            "size": list(frame.size_wh),
            "ms": round(annotation.timing_ms.get("total", 0.0), 1),
            "damage": valid_text(frame.damage),
            "count": len(table),
            "detections": table[:_MOST_ROWS],
            "jpeg": _text(annotated_jpeg(annotation, 80, _SIDE)),
        }
        event = _event("picture", facts)
        with self._changed:
            if self._viewers:
                self._pictures[frame.source] = (number, event)
                self._changed.notify_all()

    def _tell(self) -> None:
        """Ask for the figures."""
        figures = dict(self._figures())
        with self._changed:
            history = {"step_s": History.STEP_S, "steps": History.STEPS, "rows": self._history.rows(self._clock())}
            self._state = (self._state[0] + 1, _event("state", {**figures, "history": history}))
            self._changed.notify_all()


def _thinned(annotation: Annotation, step: int) -> Annotation:
    """Return the annotation with every `step`th pixel of its picture, in memory of its own; boxes stay as they are."""
    frame = annotation.frame
    if step < 2:
        return annotation
    image = np.ascontiguousarray(frame.image[::step, ::step])
    return replace(annotation, frame=replace(frame, image=image, whole_wh=frame.size_wh))


def _facts(annotation: Annotation) -> dict[str, Any]:
    frame = annotation.frame
    name = frame.name if frame.path is not None else ""
    return {"source": valid_text(frame.source), "name": valid_text(name), "at": rfc3339(frame.captured_at)}


def _event(name: str, data: Mapping[str, Any]) -> bytes:
    """Return a server-sent event; JSON holds no line breaks."""
    return f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


def _text(jpeg: bytes) -> str:
    return base64.b64encode(jpeg).decode()
