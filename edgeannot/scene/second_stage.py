"""The second stage: detections of chosen labels are cut out, and a classifier says more of each (a dog: which breed).

What it says of a tracked object is summed up over its pictures, so that one bad picture changes nothing. Its time is bounded, and it is
the first thing that the governor drops.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from edgeannot.base.errors import EdgeannotError
from edgeannot.scene.classify_options import ClassifyOptions
from edgeannot.vision.data import Annotation, FloatArray, Frame
from edgeannot.vision.news import News, SubLabel

__all__ = ["Classify", "SecondStage", "part_of"]

log = logging.getLogger(__name__)

Classify = Callable[[Frame], Annotation]
"""A classifier's pipeline."""

_LEAST_SIDE: Final = 8.0
"""Pixels; nothing can be told from a smaller cut-out."""
_MOST_TRACKS: Final = 1000
"""Objects that are remembered, those that were looked at last."""

_Object = tuple[str, int]
"""Source and track."""


@dataclass(eq=False)
class _Known:
    """What was said of one tracked object."""

    looked_s: float = 0.0
    looks: int = 0
    scores: dict[str, float] = field(default_factory=dict)

    @property
    def said(self) -> SubLabel | None:
        """Return the label with the largest sum of scores, and their mean over all looks."""
        if not self.scores:
            return None
        label, total = max(self.scores.items(), key=lambda item: item[1])
        return SubLabel(label, total / self.looks)


class SecondStage:
    """The classifiers by the label that they are for. For one thread; `dropped` and `figures` for any."""

    def __init__(self, stages: Mapping[str, tuple[ClassifyOptions, Classify]], clock: Callable[[], float] = time.perf_counter) -> None:
        self._stages = stages
        self._clock = clock
        self._known: dict[_Object, _Known] = {}
        self._counts = Counter(classified=0, waited=0, dropped=0, failed=0)
        self._broken: set[str] = set()
        self.dropped = False
        """Whether the governor has taken it out of the way; set by it."""

    def __call__(self, annotation: Annotation) -> Annotation:
        """Return the annotation with what is known of its objects, and the time that it took as `timing_ms.classify`."""
        start = self._clock()
        wanted = self._wanted(annotation)
        said: dict[int, SubLabel | None] = {}
        if self.dropped:
            self._counts["dropped"] += len(wanted)
        else:
            for place, row in enumerate(wanted):
                options, _ = self._stages[annotation.labels[row]]
                if place and (place >= options.most or (self._clock() - start) * 1e3 >= options.max_ms):
                    self._counts["waited"] += 1
                    continue
                said[row] = self._look(annotation, row)
        if not any(label in self._stages for label in annotation.labels):
            return annotation
        sub_labels = tuple(
            said.get(row) or self._remembered(annotation.frame.source, track) for row, track in enumerate(_tracks(annotation))
        )
        took_ms = (self._clock() - start) * 1e3
        timing = {**annotation.timing_ms, "classify": took_ms, "total": annotation.timing_ms.get("total", 0.0) + took_ms}
        return replace(annotation, sub_labels=sub_labels, timing_ms=timing, news=self.named(annotation.news))

    def named(self, news: News | None) -> News | None:
        """Return the events with what is known of their objects."""
        if news is None or not news.events:
            return news
        events = (replace(event, sub_label=self._remembered(news.source, event.track_id)) for event in news.events)
        return replace(news, events=tuple(events))

    def figures(self) -> dict[str, int]:
        """Return how many objects were classified, had to wait for a later picture, were dropped by the governor, and failed."""
        return dict(self._counts)

    def _wanted(self, annotation: Annotation) -> list[int]:
        """Return the rows to look at now, those first that waited longest; then by score."""
        now_s, source = annotation.frame.moment_s, annotation.frame.source
        waited: list[tuple[float, int]] = []
        for row, (label, track) in enumerate(zip(annotation.labels, _tracks(annotation), strict=True)):
            if label not in self._stages or _least_side(annotation.detections.boxes[row]) < _LEAST_SIDE:
                continue
            known = self._known.get((source, track)) if track >= 0 else None
            since_s = float("inf") if known is None else now_s - known.looked_s
            if since_s < 0 or since_s >= self._stages[label][0].every_s:  # below 0: a video began again
                waited.append((-abs(since_s), row))
        return [row for _, row in sorted(waited)]

    def _look(self, annotation: Annotation, row: int) -> SubLabel | None:
        """Return what the classifier says of one object now; of a tracked one it is remembered."""
        label, frame, track = annotation.labels[row], annotation.frame, _tracks(annotation)[row]
        options, classify = self._stages[label]
        region = part_of(annotation.detections.boxes[row], options.margin, frame.size_wh)
        try:
            seen = classify(replace(frame, region=region, min_score=options.min_score, taken_at=None))
        except EdgeannotError as exc:
            self._counts["failed"] += 1
            if label not in self._broken:
                self._broken.add(label)
                log.warning("classify.%s: %s; all else goes on", label, exc)
            return None
        self._counts["classified"] += 1
        said = SubLabel(seen.labels[0], float(seen.detections.scores[0])) if seen.labels else None
        if track < 0:
            return said
        key = frame.source, track
        known = self._known.pop(key, None) or _Known()
        known.looked_s, known.looks = frame.moment_s, known.looks + 1
        if said is not None:
            known.scores[said.label] = known.scores.get(said.label, 0.0) + said.score
        self._known[key] = known
        if len(self._known) > _MOST_TRACKS:
            del self._known[next(iter(self._known))]
        return known.said

    def _remembered(self, source: str, track: int) -> SubLabel | None:
        known = self._known.get((source, track)) if track >= 0 else None
        return None if known is None else known.said


def part_of(box: FloatArray, margin: float, size_wh: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return a box (4,) xyxy in pixels of the whole picture, with a margin on each side, as fractions of the picture within it."""
    x1, y1, x2, y2 = (float(value) for value in box)
    across, down = margin * (x2 - x1), margin * (y2 - y1)
    width, height = size_wh
    return max(0.0, (x1 - across) / width), max(0.0, (y1 - down) / height), min(1.0, (x2 + across) / width), min(1.0, (y2 + down) / height)


def _tracks(annotation: Annotation) -> list[int]:
    tracks = annotation.detections.tracks
    return [-1] * len(annotation.labels) if tracks is None else tracks.tolist()


def _least_side(box: FloatArray) -> float:
    return float(min(box[2] - box[0], box[3] - box[1]))
