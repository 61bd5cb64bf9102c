"""What happens to tracked objects: they appear, are still, move, cross lines and leave; with zones, dwell and hysteresis.

Between `appeared` and `left` an object has one open event, whatever happens to it in between. Nothing here reads a clock: time is that
of the pictures, so that a parked car is one event however long the motion gate is closed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from edgeannot.scene.motion_options import Polygon
from edgeannot.scene.tracker import Track
from edgeannot.scene.tracking_options import TrackingOptions
from edgeannot.vision.data import FloatArray
from edgeannot.vision.news import Event

__all__ = ["Follower", "Presence"]

_NEAR: Final = 0.15
"""Parts of its size that an object may sway and be still."""
_FAR: Final = 0.4
"""The same that a still one has to go to have moved."""
_MOTION: Final = 2
"""Pictures in a row away from its place that keep an object from being still: one box that fits it badly is no motion."""

_Point = tuple[float, float]


@dataclass(eq=False)
class Presence:
    """What is known of one object between its events."""

    label: str
    box: FloatArray
    since_s: float
    """When it was first seen, or came into a zone."""
    began_s: float = 0.0
    open: bool = False
    events: int = 0
    still: bool = False
    anchor: _Point = (0.0, 0.0)
    anchors: int = 1
    """Of how many pictures that is the mean."""
    strays: int = 0
    """Pictures in a row in which it was away from there."""
    anchored_s: float = 0.0
    foot: _Point | None = None
    outside_s: float | None = None
    resumed: bool = False
    """Whether it appeared in an earlier run."""


class Follower:
    """Makes events of the tracks of one source. For one thread."""

    def __init__(self, options: TrackingOptions) -> None:
        self._options = options
        self.present: dict[int, Presence] = {}
        self.crossings: dict[str, Counter[str]] = {}
        """By line, counts of "LABEL in" and "LABEL out"."""

    def see(self, tracks: Iterable[Track], size_wh: tuple[int, int], at_s: float) -> list[Event]:
        """Return what the tracks that were seen in this picture did."""
        events: list[Event] = []
        for track in tracks:
            one = self.present.get(track.id)
            is_open = one is not None and one.open
            if track.misses or not track.confirmed or (track.strange and not is_open):
                if one is not None and not is_open and track.unseen_s > self._options.dwell_s:
                    one.since_s = at_s
                continue
            if one is None:
                one = self.present[track.id] = Presence(track.label, track.box, track.begun_s)
            one.label, one.box = track.label, track.box
            events += self._step(track, one, size_wh, at_s)
        return events

    def set_back(self, seconds: float) -> None:
        """Set all times that are remembered back, as the clock was."""
        for one in self.present.values():
            one.since_s, one.began_s, one.anchored_s = one.since_s - seconds, one.began_s - seconds, one.anchored_s - seconds
            one.outside_s = None if one.outside_s is None else one.outside_s - seconds

    def end(self, track_id: int, score: float, size_wh: tuple[int, int], at_s: float, reason: str) -> list[Event]:
        """Return the end of an object's event, where one is open; the object is forgotten."""
        one = self.present.pop(track_id, None)
        if one is None or not one.open:
            return []
        return [self._event("left", track_id, one, score, size_wh, at_s, reason=reason)]

    def _step(self, track: Track, one: Presence, size_wh: tuple[int, int], at_s: float) -> list[Event]:
        before, one.foot = one.foot, _foot(track.box, size_wh)
        zones = self._zones(one.foot)
        if not one.open and track.evidence < 0:
            one.since_s = at_s
            return []
        if not self._is_inside(one, zones, at_s):
            if not one.open:
                one.since_s = at_s
                return []
            if one.outside_s is not None and at_s - one.outside_s >= self._options.dwell_s:
                one.open, one.still = False, False
                one.since_s = at_s
                return [self._event("left", track.id, one, track.score, size_wh, at_s, reason="zone")]
        elif not one.open:
            if at_s - one.since_s < self._options.dwell_s:
                return []
            one.open, one.began_s = True, one.since_s
            one.anchor, one.anchored_s, one.anchors, one.strays = _centre(track.box), at_s, 1, 0
            return [self._event("appeared", track.id, one, track.score, size_wh, at_s, zones=zones)]
        return [*self._rest(track, one, size_wh, at_s, zones), *self._crossed(track, one, before, size_wh, at_s, zones)]

    def _is_inside(self, one: Presence, zones: tuple[str, ...], at_s: float) -> bool:
        if zones or not self._options.zones:
            one.outside_s = None
            return True
        one.outside_s = at_s if one.outside_s is None else one.outside_s
        return False

    def _rest(self, track: Track, one: Presence, size_wh: tuple[int, int], at_s: float, zones: tuple[str, ...]) -> list[Event]:
        """Return that the object is still now, or moves again."""
        centre = _centre(track.box)
        size = math.sqrt(max(float((track.box[2] - track.box[0]) * (track.box[3] - track.box[1])), 1.0))
        away = math.dist(centre, one.anchor) / size
        if away > (_FAR if one.still else _NEAR):
            one.strays += 1
            was_still, one.still = one.still, False
            if not was_still and one.strays < _MOTION:
                return []
            one.anchor, one.anchored_s, one.anchors, one.strays = centre, at_s, 1, 0
            return [self._event("moved", track.id, one, track.score, size_wh, at_s, zones=zones)] if was_still else []
        one.strays = 0
        if one.still:
            return []
        one.anchors += 1
        one.anchor = _between(one.anchor, centre, 1 / one.anchors)
        if at_s - one.anchored_s < self._options.still_s:
            return []
        one.still = True
        return [self._event("still", track.id, one, track.score, size_wh, at_s, zones=zones)]

    def _crossed(
        self, track: Track, one: Presence, before: _Point | None, size_wh: tuple[int, int], at_s: float, zones: tuple[str, ...]
    ) -> list[Event]:
        events = []
        for name, (start, end) in self._options.lines.items() if before is not None and one.foot is not None else ():
            direction = _direction(before, one.foot, start, end) if before is not None and one.foot is not None else ""
            if direction:
                counts = self.crossings.setdefault(name, Counter())
                counts[f"{one.label} {direction}"] += 1
                sums = {each: counts[f"{one.label} {each}"] for each in ("in", "out")}
                more: dict[str, Any] = {"zones": zones, "line": name, "direction": direction, "counts": sums}
                events.append(self._event("crossed", track.id, one, track.score, size_wh, at_s, **more))
        return events

    def _zones(self, foot: _Point) -> tuple[str, ...]:
        return tuple(name for name, polygon in self._options.zones.items() if _contains(polygon, foot))

    def _event(self, kind: str, track_id: int, one: Presence, score: float, size_wh: tuple[int, int], at_s: float, **more: Any) -> Event:
        number, one.events = one.events, one.events + 1
        return Event(kind, track_id, number, one.label, score, one.box, size_wh, at_s, one.began_s, resumed=one.resumed, **more)


def _centre(box: FloatArray) -> _Point:
    return float(box[0] + box[2]) / 2, float(box[1] + box[3]) / 2


def _between(one: _Point, other: _Point, part: float) -> _Point:
    """Return the point that lies this part of the way from one to the other."""
    return one[0] + part * (other[0] - one[0]), one[1] + part * (other[1] - one[1])


def _foot(box: FloatArray, size_wh: tuple[int, int]) -> _Point:
    """Return where an object stands, in fractions of the picture: the middle of its lower edge."""
    return float(box[0] + box[2]) / 2 / size_wh[0], float(box[3]) / size_wh[1]


def _contains(polygon: Polygon, point: _Point) -> bool:
    """Return whether the point is inside, by the number of edges to its right."""
    inside = False
    corners = np.array(polygon, np.float64)
    for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if (y1 > point[1]) != (y2 > point[1]) and point[0] < x1 + (point[1] - y1) / (y2 - y1) * (x2 - x1):
            inside = not inside
    return inside


def _direction(before: _Point, now: _Point, start: _Point, end: _Point) -> str:
    """Return "in" or "out" where the way from before to now crosses the line, else an empty text."""
    one, other = _side(before, start, end), _side(now, start, end)
    if (one > 0) == (other > 0) or (_side(start, before, now) > 0) == (_side(end, before, now) > 0):
        return ""
    return "in" if other > 0 else "out"


def _side(point: _Point, start: _Point, end: _Point) -> float:
    """Return a number over 0 to the right of the line, seen from its start (y runs down)."""
    return (end[0] - start[0]) * (point[1] - start[1]) - (end[1] - start[1]) * (point[0] - start[0])
