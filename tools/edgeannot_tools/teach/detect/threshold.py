"""From which score on a detection counts: where F1 is best, smoothed, as the scores of a few pictures are a sample."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgeannot.vision.data import Detections
from edgeannot_tools.evaluate.average_precision import Truth, match_picture

__all__ = ["BANDWIDTH", "best_threshold"]

BANDWIDTH = 0.5
"""Of the smoothing, in logits: by about so much the score of an object differs between layers that were taught with other pictures."""
LEAST, MOST = 0.05, 0.9
STEPS = 200


def best_threshold(pairs: Sequence[tuple[Truth, Detections]]) -> float:
    """Return the score with the best smoothed F1 at IoU 0.5 over all classes, between 0.05 and 0.9.

    A detection counts by how probable it is that its score, a little higher or lower in logits, reaches the threshold. The plain
    best F1 would lie just below the last object found, however far below it the first wrong detection is.
    """
    scores, right, objects = _judged(pairs)
    logits = np.log(np.clip(scores, 1e-4, 1 - 1e-4) / (1 - np.clip(scores, 1e-4, 1 - 1e-4)))
    places = np.linspace(np.log(LEAST / (1 - LEAST)), np.log(MOST / (1 - MOST)), STEPS)
    reached = 1 / (1 + np.exp(-np.clip((logits[None] - places[:, None]) / BANDWIDTH, -30, 30)))
    hits, found = reached @ right, reached.sum(axis=1)
    place = places[int(np.argmax(2 * hits / np.maximum(found + objects, 1)))]
    return float(1 / (1 + np.exp(-place)))


def _judged(pairs: Sequence[tuple[Truth, Detections]]) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Return scores (n,) of the detections that count, whether each is right (n,), and how many objects there are."""
    scores, right = [np.zeros(0)], [np.zeros(0)]
    for truth, found in pairs:
        for class_id in {*truth.classes.tolist(), *found.classes.tolist()}:
            matches = match_picture(truth, found, class_id, np.array([0.5]))
            counted = ~matches.ignored[:, 0]
            scores.append(matches.scores[counted])
            right.append(matches.right[counted, 0].astype(np.float64))
    objects = sum(int((~(truth.difficult | truth.crowd)).sum()) for truth, _ in pairs)
    return np.concatenate(scores), np.concatenate(right), objects
