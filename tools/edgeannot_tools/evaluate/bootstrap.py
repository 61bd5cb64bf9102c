"""How sure an accuracy is: by the bootstrap, which draws as many pictures as there are from the set, again and again, with repeats.

Efron: Bootstrap Methods: Another Look at the Jackknife, 1979, https://doi.org/10.1214/aos/1176344552
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgeannot.vision.data import Detections
from edgeannot_tools.evaluate.average_precision import IOU_THRESHOLDS, Floats, Truth, match_picture

__all__ = ["DRAWS", "Z", "bootstrap_maps", "margin"]

Z = 1.96
"""Standard deviations to either side that hold 95 % of a normal distribution."""
DRAWS = 200
"""Sets that are drawn: their standard deviation is then known to 5 %."""


def bootstrap_maps(
    pairs: Sequence[tuple[Truth, Detections]], thresholds: Sequence[float] = IOU_THRESHOLDS, draws: int = DRAWS, seed: int = 0
) -> Floats:
    """Return (draws, T) mean average precisions at each threshold, of sets drawn from the pictures.

    Calls with as many pictures and the same seed draw the same sets, so the difference of two models is one of pairs. A draw without
    any object is NaN.
    """
    rng = np.random.default_rng(seed)
    count = len(pairs)
    times = np.zeros((draws, count), np.int64)
    for row in times if count else ():
        row[:] = np.bincount(rng.integers(0, count, count), minlength=count)
    present = sorted({int(c) for truth, _ in pairs for c in truth.classes[~(truth.difficult | truth.crowd)]})
    total, classes = np.zeros((draws, len(thresholds))), np.zeros((draws, 1))
    for class_id in present:
        objects = np.array([((t.classes == class_id) & ~t.difficult & ~t.crowd).sum() for t, _ in pairs])
        drawn = times @ objects
        total += np.where(drawn[:, None] > 0, _aps(pairs, class_id, np.array(thresholds), times, drawn), 0)
        classes += drawn[:, None] > 0
    return np.divide(total, classes, out=np.full_like(total, np.nan), where=classes > 0)


def _aps(
    pairs: Sequence[tuple[Truth, Detections]], class_id: int, thresholds: Floats, times: NDArray[np.int64], objects: NDArray[np.int64]
) -> Floats:
    """Return (draws, T) average precisions of a class. times: (draws, pictures) how often each was drawn; objects: (draws,)."""
    found = [match_picture(truth, detections, class_id, thresholds) for truth, detections in pairs]
    order = np.argsort(-np.concatenate([f.scores for f in found]), kind="stable")
    picture = np.repeat(np.arange(len(found)), [len(f.scores) for f in found])[order]
    right = np.concatenate([f.right for f in found])[order]
    counted = ~np.concatenate([f.ignored for f in found])[order]
    aps = np.zeros((len(times), len(thresholds)))
    for draw, weights in enumerate(times[:, picture]):  # a detection of a picture that was drawn twice counts twice
        hits = np.cumsum(weights[:, None] * (right & counted), axis=0)
        precision = hits / np.maximum(np.cumsum(weights[:, None] * counted, axis=0), 1)
        envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
        aps[draw] = (np.diff(hits, axis=0, prepend=0) * envelope).sum(axis=0) / max(int(objects[draw]), 1)
    return aps


def margin(drawn: Floats) -> float:
    """Return half the width of the 95 % interval that the figures of the drawn sets (draws,) span; NaN for none."""
    known = drawn[~np.isnan(drawn)]
    return Z * float(known.std()) if len(known) else float("nan")
