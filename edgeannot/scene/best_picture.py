"""The best picture of each tracked object, to go with its events: large, sharp, of a high score, and not cut off by the picture's edge."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np

from edgeannot.scene.second_stage import part_of
from edgeannot.vision.data import Annotation, FloatArray, UInt8Array
from edgeannot.vision.news import News, Picture

__all__ = ["BestPictures"]

_MARGIN: Final = 0.25
"""Of the box's side, so that the surroundings tell where it is."""
_MOST_SIDE: Final = 512
_MOST_TRACKS: Final = 64
"""Objects whose pictures are kept, 0.8 MB each at most; the one that was seen longest ago goes first."""
_LOOKED_AT: Final = 96
"""Side in pixels at which sharpness is compared, so that size does not count twice."""
_SHARP: Final = 200.0
"""Variance of the Laplacian at which half of the quality is there (Pech-Pacheco et al. 2000, "Diatom autofocusing in brightfield
microscopy")."""
_TELLING: Final = ("appeared", "left")
"""Events with a picture."""


@dataclass(frozen=True, slots=True)
class _Best:
    quality: float
    image: UInt8Array


class BestPictures:
    """The best pictures of the objects of one source, in this run. For one thread."""

    def __init__(self) -> None:
        self._best: dict[int, _Best] = {}

    def see(self, annotation: Annotation) -> Annotation:
        """Return the annotation with pictures in its events; keep what is better than before."""
        found = annotation.detections
        for row, track in enumerate([] if found.tracks is None else found.tracks.tolist()):
            if track >= 0:
                self._look(annotation, track, found.boxes[row], float(found.scores[row]))
        return replace(annotation, news=self.told(annotation.news)) if annotation.news is not None else annotation

    def told(self, news: News | None) -> News | None:
        """Return the news with the pictures of the objects that appeared and left; what has left is forgotten."""
        if news is None or not news.events:
            return news
        events = []
        for event in news.events:
            best = self._best.get(event.track_id) if event.kind in _TELLING else None
            events.append(event if best is None else replace(event, picture=Picture(best.image, best.quality)))
            if event.kind == "left":
                self._best.pop(event.track_id, None)
        return replace(news, events=tuple(events))

    def _look(self, annotation: Annotation, track: int, box: FloatArray, score: float) -> None:
        size_wh = annotation.frame.size_wh
        best = self._best.pop(track, None)
        if best is not None:
            self._best[track] = best  # seen last
        most = score * math.sqrt(max(float((box[2] - box[0]) * (box[3] - box[1])), 0.0)) * (0.5 if _is_cut_off(box, size_wh) else 1.0)
        if most <= (0.0 if best is None else best.quality):
            return
        image = _part(annotation, box, 0.0)
        quality = most * _sharpness(image)
        if best is None or quality > best.quality:
            self._best[track] = _Best(quality, _within(_part(annotation, box, _MARGIN)))
            if len(self._best) > _MOST_TRACKS:
                del self._best[next(iter(self._best))]


def _part(annotation: Annotation, box: FloatArray, margin: float) -> UInt8Array:
    return replace(annotation.frame, region=part_of(box, margin, annotation.frame.size_wh)).seen[0]


def _is_cut_off(box: FloatArray, size_wh: tuple[int, int]) -> bool:
    return bool(box[0] <= 1 or box[1] <= 1 or box[2] >= size_wh[0] - 1 or box[3] >= size_wh[1] - 1)


def _sharpness(image: UInt8Array) -> float:
    """Return how sharp a picture is, from 0 to 1."""
    gray = cv2.cvtColor(cv2.resize(image, (_LOOKED_AT, _LOOKED_AT), interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY)
    spread = float(cv2.Laplacian(gray, cv2.CV_32F).var())
    return 0.05 + 0.95 * spread / (spread + _SHARP)  # one without any structure is better than none


def _within(image: UInt8Array) -> UInt8Array:
    longest = max(image.shape[:2])
    if longest <= _MOST_SIDE:
        return image.copy()
    size_wh = max(1, image.shape[1] * _MOST_SIDE // longest), max(1, image.shape[0] * _MOST_SIDE // longest)
    return np.asarray(cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA), np.uint8)
