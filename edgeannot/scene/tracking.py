"""Tracking of one source: detections get their track ids, events are made, and what is open can be stored and taken up again."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from edgeannot.scene.best_picture import BestPictures
from edgeannot.scene.events import Follower, Presence
from edgeannot.scene.tracker import Tracker
from edgeannot.scene.tracking_options import TrackingOptions
from edgeannot.vision.data import Annotation
from edgeannot.vision.news import Event, News

__all__ = ["OpenEvent", "Tracking", "open_events"]

log = logging.getLogger(__name__)

_BLOCK: Final = 1000
"""Ids that are set aside at a time, so that not every new one has to be stored."""
_VERSION: Final = 1


class Tracking:
    """The tracks and events of one source. For one thread."""

    def __init__(self, source: str, options: TrackingOptions, state: bytes | None = None) -> None:
        """state: what `state` gave in an earlier run; None, or one that cannot be read: begin anew."""
        self._source = source
        self.options = options
        self._tracker = Tracker(options.patience_s)
        self._follower = Follower(options)
        self._best = BestPictures() if options.pictures else None
        self._set_aside = 1
        self._size_wh = (1, 1)
        self._at_s = 0.0
        self._resume(state)

    def see(self, annotation: Annotation, min_score: float, wanted: Collection[str] = ()) -> Annotation:
        """Return the annotation with track ids and what happened.

        min_score: of the detections that are reported. Those of lower score are there only where they continue a track. wanted: labels of
        the detections that are reported, empty: all. Others only show where an object goes that the model names differently meanwhile.
        """
        frame, found = annotation.frame, annotation.detections
        if frame.moment_s < self._at_s:
            self._set_back(self._at_s - frame.moment_s)
        self._size_wh, self._at_s = frame.size_wh, frame.moment_s
        ids, ended = self._tracker.update(found, annotation.labels, min_score, self._at_s, self._size_wh, wanted)
        asked = np.array([not wanted or label in wanted for label in annotation.labels], bool)
        kept = (asked & (found.scores >= min_score)) | (ids >= 0)
        events = self._follower.see(self._tracker.tracks, self._size_wh, self._at_s)
        for track in ended:
            events += self._left(track.id, track.score, "restart" if track.resumed else "gone")
        labels = tuple(label for label, keep in zip(annotation.labels, kept, strict=True) if keep)
        detections = replace(found, tracks=ids)[kept]
        result = replace(annotation, detections=detections, labels=labels, news=self._news(events))
        return result if self._best is None else self._best.see(result)

    def lost(self) -> News | None:
        """Return the end of all that is open: the source is away for long."""
        events = [event for track in list(self._follower.present) for event in self._left(track, 0.0, "source")]
        self._tracker.tracks.clear()
        return self._with_pictures(self._news(events))

    def forget_labels(self, known: Collection[str]) -> News | None:
        """Return the end of what a new model cannot see, by the labels that it knows."""
        gone = [track for track in self._tracker.tracks if track.label not in known]
        self._tracker.tracks = [track for track in self._tracker.tracks if track not in gone]
        events = [event for track in gone for event in self._left(track.id, track.score, "model")]
        return self._with_pictures(self._news(events))

    def state(self) -> bytes:
        """Return what is to be stored: the next id, the objects whose events are open, and the counts of the lines."""
        present = [
            {
                "id": track_id, "label": one.label, "box": [round(float(v), 1) for v in one.box], "began_s": one.began_s,
                "events": one.events, "still": one.still, "anchor": one.anchor, "anchored_s": one.anchored_s,
            }
            for track_id, one in self._follower.present.items()
            if one.open
        ]  # fmt: skip
        facts = {"version": _VERSION, "next_id": self._set_aside, "size": self._size_wh, "at_s": self._at_s, "open": present}
        return json.dumps({**facts, "lines": self._follower.crossings}, separators=(",", ":")).encode()

    def _with_pictures(self, news: News | None) -> News | None:
        return news if self._best is None else self._best.told(news)

    def _set_back(self, seconds: float) -> None:
        """Set what is remembered back with the clock: it would be in the future, and no dwell would end until the clock is there again."""
        for track in self._tracker.tracks:
            track.begun_s -= seconds
        self._follower.set_back(seconds)

    def _left(self, track_id: int, score: float, reason: str) -> list[Event]:
        return self._follower.end(track_id, score, self._size_wh, self._at_s, reason)

    def _news(self, events: list[Event]) -> News | None:
        """Return the events with the state to be stored with them; None where nothing is to be told or stored."""
        if not events and self._tracker.next_id <= self._set_aside:
            return None
        while self._set_aside < self._tracker.next_id:
            self._set_aside += _BLOCK
        return News(self._source, tuple(events), self.state())

    def _resume(self, state: bytes | None) -> None:
        if state is None:
            return
        try:
            stored = _Stored.read(state)
        except (ValueError, LookupError, TypeError, AttributeError) as exc:
            log.warning("%s: the stored state of the tracking cannot be read (%s); begun anew", self._source, type(exc).__name__)
            return
        self._tracker.next_id = self._set_aside = stored.next_id
        self._size_wh, self._at_s = stored.size_wh, stored.at_s
        self._follower.crossings, self._follower.present = stored.crossings, stored.present
        for track_id, one in stored.present.items():
            self._tracker.resume(track_id, one.label, one.box)


@dataclass(frozen=True, slots=True)
class OpenEvent:
    """An object that has appeared and not left."""

    track_id: int
    label: str
    began_s: float
    """When it was first seen, in seconds since 1970."""
    still: bool


def open_events(state: bytes | None) -> list[OpenEvent]:
    """Return what is open in a state that `Tracking.state` gave, the longest first; nothing where it cannot be read."""
    try:
        present = {} if state is None else _Stored.read(state).present
    except (ValueError, LookupError, TypeError, AttributeError):  # `Tracking` says so at its start
        return []
    return sorted((OpenEvent(track, one.label, one.began_s, one.still) for track, one in present.items()), key=lambda each: each.began_s)


@dataclass(frozen=True, slots=True)
class _Stored:
    """What `Tracking.state` gave."""

    next_id: int
    size_wh: tuple[int, int]
    at_s: float
    crossings: dict[str, Counter[str]]
    present: dict[int, Presence]

    @classmethod
    def read(cls, state: bytes) -> _Stored:
        """Return what the bytes say. Raises ValueError, LookupError, TypeError or AttributeError where they say something else."""
        facts = json.loads(state)
        if facts["version"] != _VERSION:
            raise ValueError(f"wanted version {_VERSION}, found {facts['version']}")
        width, height = facts["size"]
        present = {
            int(one["id"]): Presence(
                str(one["label"]), np.array(one["box"], np.float32).reshape(4), float(one["began_s"]), float(one["began_s"]), open=True,
                events=int(one["events"]), still=bool(one["still"]), anchor=(float(one["anchor"][0]), float(one["anchor"][1])),
                anchored_s=float(one["anchored_s"]), resumed=True,
            )
            for one in facts["open"]
        }  # fmt: skip
        crossings = {str(name): Counter({str(key): int(count) for key, count in each.items()}) for name, each in facts["lines"].items()}
        return cls(int(facts["next_id"]), (int(width), int(height)), float(facts["at_s"]), crossings, present)
