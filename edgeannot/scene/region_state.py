"""The state of a part of the picture: a gate that is open or closed, a lamp that is on or off. A classifier says what it looks like, and
a new state holds once several pictures in a row say the same.

What was said last is stored with its message, so that it is said once, and again after a restart under the same id.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from edgeannot.base.errors import EdgeannotError
from edgeannot.scene.classify_options import StateOptions
from edgeannot.scene.second_stage import Classify
from edgeannot.vision.data import Annotation, Frame
from edgeannot.vision.news import Cut, News, RegionState

__all__ = ["UNKNOWN", "UNSORTED", "Region", "Regions"]

log = logging.getLogger(__name__)

UNKNOWN: Final = "unknown"
"""The state of a region whose source is away."""
_ROUNDING_S: Final = 1e-3
"""Times of pictures are in whole milliseconds or so."""
UNSORTED: Final = "unsorted"
"""What cut-outs are called while there is no classifier."""


class Region:
    """One region of a source. For one thread."""

    def __init__(self, name: str, options: StateOptions, classify: Classify | None, stored: bytes | None = None) -> None:
        """classify: None: only cut-outs are made. stored: what `RegionState.stored` gave in an earlier run."""
        self.name = name
        self.options = options
        self._classify = classify
        self._now = _read(name, stored)
        self._told = False
        """Whether it was said in this run."""
        self._next = ""
        self._times = 0
        self._looked_s = float("-inf")
        self._cut: Cut | None = None
        self._cut_since_s: float | None = None
        self._broken = False

    def see(self, frame: Frame) -> RegionState | None:
        """Return the state where it is to be told: it is a new one, or the first picture of a run confirms it."""
        if frame.taken_at is not None and 0 <= frame.moment_s - self._looked_s < self.options.every_s - _ROUNDING_S:
            return None
        self._looked_s = frame.moment_s
        label, score = self._look(frame)
        self._keep(frame, label or UNSORTED, score)
        if not label or score < self.options.min_score:
            return None
        current = None if self._now is None else self._now.state
        if label == current:
            self._next, self._times = "", 0
            return None if self._told else self._tell(self._now)
        self._next, self._times = label, self._times + 1 if label == self._next else 1
        if self._times < self.options.steady:
            return None
        return self._tell(RegionState(self.name, label, score, frame.moment_s))

    def lost(self, after_s: float, at_s: float) -> RegionState | None:
        """Return that the state is unknown, where the source has been away for long enough and that is news."""
        known = self._now if self._now is not None and self._now.state == UNKNOWN else None
        if self._classify is None or after_s < self.options.unknown_s or (known and self._told):
            return None
        return self._tell(known or RegionState(self.name, UNKNOWN, None, at_s))

    def take_cut(self) -> Cut | None:
        """Return the cut-out that is to be kept now: of the last `cut_every_s` the one that the classifier was least sure of."""
        cut, since_s = self._cut, self._cut_since_s
        if cut is None or since_s is None or 0 <= self._looked_s - since_s < self.options.cut_every_s - _ROUNDING_S:
            return None
        self._cut, self._cut_since_s = None, self._looked_s
        return cut

    def _tell(self, state: RegionState | None) -> RegionState | None:
        self._now, self._told = state, True
        self._next, self._times = "", 0
        return state

    def _look(self, frame: Frame) -> tuple[str, float]:
        """Return the label of the region and its score; an empty one where nothing can be said."""
        if self._classify is None:
            return "", 0.0
        try:
            seen = self._classify(replace(frame, region=self.options.region, min_score=0.0, taken_at=None))
        except EdgeannotError as exc:
            if not self._broken:
                self._broken = True
                log.warning("states.%s: %s; its state stays as it is", self.name, exc)
            return "", 0.0
        return (seen.labels[0], float(seen.detections.scores[0])) if seen.labels else ("", 0.0)

    def _keep(self, frame: Frame, label: str, score: float) -> None:
        if self._cut is None or score < self._cut.score:
            image, _ = replace(frame, region=self.options.region).seen
            self._cut = Cut(self.name, label, score, replace(frame, image=image.copy(), region=None))
        if self._cut_since_s is None:  # the first one is kept at once
            self._cut_since_s = float("-inf")


class Regions:
    """The regions of one source. For one thread."""

    def __init__(self, source: str, regions: Sequence[Region]) -> None:
        self._source = source
        self._regions = regions

    def see(self, annotation: Annotation) -> Annotation:
        """Return the annotation with the states that are to be told, and the cut-outs to be kept."""
        states = [state for region in self._regions if (state := region.see(annotation.frame)) is not None]
        cuts = [cut for region in self._regions if (cut := region.take_cut()) is not None]
        if not states and not cuts:
            return annotation
        news = annotation.news or News(self._source, (), None)
        return replace(annotation, news=replace(news, regions=tuple(states), cuts=tuple(cuts)))

    def lost(self, after_s: float) -> News | None:
        """Return the states that are unknown now, as the source has been away for `after_s`."""
        states = [state for region in self._regions if (state := region.lost(after_s, time.time())) is not None]
        return News(self._source, (), None, tuple(states)) if states else None


def _read(name: str, stored: bytes | None) -> RegionState | None:
    """Return the state that was stored; None where there is none, or one that cannot be read."""
    if stored is None:
        return None
    try:
        facts = json.loads(stored)
        score = facts["score"]
        return RegionState(name, str(facts["state"]), None if score is None else float(score), float(facts["since_s"]))
    except (ValueError, LookupError, TypeError):
        log.warning("states.%s: the stored state cannot be read; begun anew", name)
        return None
