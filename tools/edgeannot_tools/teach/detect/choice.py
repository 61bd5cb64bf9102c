"""Which backbone at which input size: tried one after the other by cross-validation, as long as the time lasts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgeannot.vision.cards import ModelCard
from edgeannot_tools.teach.detect.backbone import Backbone
from edgeannot_tools.teach.detect.bands import sizes_of
from edgeannot_tools.teach.detect.pictures import TeachingSet
from edgeannot_tools.teach.detect.teaching import Taught

__all__ = ["Trial", "candidates", "has_small_objects", "teach_best"]

CANDIDATES = (("ssdlite-mobilenet-v2-coco", 320), ("ssdlite-mobilenet-v2-coco", 512), ("yolov3-tiny", 416), ("nanodet-g", 416))
"""Bundled detectors with input sizes, in the order in which they are tried: the first is best for most sets, and among the cheapest."""
FOR_SMALL = ("ssdlite-mobilenet-v2-coco", 640)
"""Tried third where many objects are small: in crowds of objects of 16 to 32 pixels in 640 it finds twice as many as at 320 pixels, at four
times the work for each picture."""
KEEPING = (("ssdlite-mobilenet-v2-coco", 300), *CANDIDATES[2:])
"""Where the classes of the backbone are kept: at sizes at which it finds them."""
SMALL = 0.1
"""Of the picture's longer side: where a tenth of the objects is smaller, finer maps and larger inputs are worth trying."""
GAIN = 0.02
"""Of the mean of mAP50 and mAP50-95, which a later candidate has to bring: some pictures more or less change it by as much."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One backbone that was tried, with the figures of its cross-validation."""

    name: str
    map50: float
    map50_95: float
    mean_iou: float
    seconds: float


def candidates(to_teach: TeachingSet, *, keep: bool) -> tuple[tuple[str, int], ...]:
    """Return the bundled detectors with input sizes to try, in this order. keep: whether their own classes are kept."""
    if keep:
        return KEEPING
    return (*CANDIDATES[:2], FOR_SMALL, *CANDIDATES[2:]) if has_small_objects(to_teach) else CANDIDATES


def has_small_objects(to_teach: TeachingSet) -> bool:
    """Tell whether many of the objects are small in their pictures."""
    sides = [sizes_of(item.marked().boxes) / max(item.picture.size_wh) for item in to_teach.pictures]
    return bool(np.quantile(np.concatenate(sides), 0.1) < SMALL)


def teach_best(
    cards: Sequence[tuple[ModelCard, int]],
    load: Callable[[ModelCard, int], Backbone],
    teach: Callable[[Backbone], Taught],
    within_s: float,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[Taught, tuple[Trial, ...]]:
    """Return what the best of the candidates was taught, and all that were tried: the first, and others that the time allows.

    The time of a candidate is estimated by its multiply-accumulates, from that of the ones before.
    """
    started = clock()
    best: Taught | None = None
    trials: list[Trial] = []
    spent = cost = 0.0
    for card, size in cards:
        work = card.macs * size**2 / card.input.width**2
        left = within_s - (clock() - started)
        if best is not None and (not cost or work * spent / cost > left):
            continue
        begun = clock()
        taught = teach(load(card, size))
        seconds = clock() - begun
        spent, cost = spent + seconds, cost + work
        accuracy = taught.accuracy
        trials.append(Trial(taught.backbone.name, accuracy.map50, accuracy.map50_95, accuracy.mean_iou, seconds))
        if best is None or _merit(taught) > _merit(best) + GAIN:
            best = taught
    if best is None:
        raise ValueError("no candidates")
    return best, tuple(trials)


def _merit(taught: Taught) -> float:
    return (taught.accuracy.map50 + taught.accuracy.map50_95) / 2
