"""Makes the scores of all bands and classes of a taught detector mean the same, and chooses the score from which on they count.

Small objects, and classes with few examples, get lower scores than others that are found as surely, so one threshold would lose them. What
was found in held-out pictures tells how probable it is to be right, by logistic regression on the logits (Platt scaling). How the bands and
classes differ in that goes into the numbers of the layers, so a file and its card need nothing new.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeannot.vision.data import Detections, FloatArray, IntArray
from edgeannot.vision.geometry import nms, place
from edgeannot_tools.evaluate.average_precision import Truth, match_picture
from edgeannot_tools.teach.detect.examples import Examples
from edgeannot_tools.teach.detect.fit import Layer, decode_boxes
from edgeannot_tools.teach.detect.held_out import IOU, MIN_SCORE, numbers_of

__all__ = ["Judged", "best_threshold", "calibrated", "judge"]

Floats = NDArray[np.float64]

LEAST, MOST = 0.05, 0.9
"""Of a threshold."""
COMMON_SCALE, COMMON_OFFSET = 1.0, 5.0
BAND_SCALE, BAND_OFFSET, CLASS_OFFSET = 0.3, 1.0, 1.0
"""Standard deviations of the priors, of scales in logarithms: a few detections of a band or class say little beyond that."""
SLOPE = 3.0
"""Standard deviation of the priors of the two slopes by which a score becomes a probability."""
ITERATIONS, ENOUGH = 60, 1e-4
LONGEST = 2.0
"""Of a step of Newton's."""
STEPS = 341
"""Of the thresholds that are compared, a quarter of a hundredth from one to the next."""


@dataclass(frozen=True, slots=True)
class Judged:
    """N detections with the truth about them."""

    objectness: FloatArray
    """(N,) logits, as those of the class."""
    class_logits: FloatArray
    bands: IntArray
    """(N,) the number of the layer that found it."""
    classes: IntArray
    pictures: IntArray
    right: NDArray[np.bool_]

    def __getitem__(self, rows: NDArray[np.bool_]) -> Judged:
        """Return some of them."""
        return Judged(*(getattr(self, name)[rows] for name in self.__slots__))


def judge(examples: Examples, heads: Sequence[Sequence[Layer]], truths: Sequence[tuple[int, Truth, tuple[int, int]]]) -> Judged:
    """Return what is found in whole pictures. heads: the layers for each. truths: the number of each picture, its marks and its size."""
    parts = [_judged_one(examples, layers, *one) for layers, one in zip(heads, truths, strict=True)]
    columns = zip(*parts, strict=True) if parts else ([np.zeros(0)] for _ in Judged.__slots__)
    kinds = (np.float32, np.float32, np.int64, np.int64, np.int64, bool)
    return Judged(*(np.concatenate(list(column)).astype(kind) for column, kind in zip(columns, kinds, strict=True)))


def _judged_one(
    examples: Examples, layers: Sequence[Layer], picture: int, truth: Truth, size_wh: tuple[int, int]
) -> tuple[NDArray[np.generic], ...]:
    """Return the columns of `Judged` for one picture."""
    backbone, boxes, numbers, bands = examples.backbone, [], [], []
    for tap, own, values in numbers_of(examples, layers, examples.whole[picture]):
        cells_y, cells_x = np.divmod(np.arange(values.shape[0] * values.shape[1]), values.shape[1])
        for layer, found in zip(own, np.split(values.reshape(len(cells_x), -1), len(own), axis=1), strict=True):
            rows = np.flatnonzero(_logistic(found[:, 4]) * _logistic(found[:, 5:].max(axis=1)) >= MIN_SCORE)
            cells_xy = np.stack([cells_x[rows], cells_y[rows]], axis=1)
            boxes.append(decode_boxes(found[rows, :4], cells_xy, backbone.taps[tap].stride, layer.band.anchor_wh))
            numbers.append(found[rows, 4:])
            bands.append(np.full(len(rows), next(number for number, one in enumerate(layers) if one is layer)))
    logits, band, box = np.concatenate(numbers), np.concatenate(bands), np.concatenate(boxes)
    classes, best = logits[:, 1:].argmax(axis=1), logits[:, 1:].max(axis=1)
    fit, _ = place(size_wh, (backbone.size, backbone.size), backbone.resize)
    scores = np.asarray(_logistic(logits[:, 0]) * _logistic(best), np.float32)
    kept = nms(box, scores, classes, IOU)
    rows, right = _judged_rows(truth, Detections(fit.to_frame(box[kept]), scores[kept], classes[kept]))
    rows = kept[rows]
    return logits[rows, 0], best[rows], band[rows], classes[rows], np.full(len(rows), picture), right


def _judged_rows(truth: Truth, found: Detections) -> tuple[IntArray, NDArray[np.bool_]]:
    """Return the rows of the detections that count, and whether each is right, at IoU 0.5."""
    rows, right = [np.zeros(0, np.int64)], [np.zeros(0, bool)]
    for class_id in set(found.classes.tolist()):
        matches = match_picture(truth, found, class_id, np.array([0.5]))
        own = np.flatnonzero(found.classes == class_id)
        own = own[np.argsort(-found.scores[own].astype(np.float64), kind="stable")]
        counted = ~matches.ignored[:, 0]
        rows.append(own[counted])
        right.append(matches.right[counted, 0])
    return np.concatenate(rows), np.concatenate(right)


def calibrated(layers: Sequence[Layer], judged: Judged) -> tuple[Layer, ...]:
    """Return the layers with scores that tell alike how probable a detection is to be right, whatever its band and class.

    judged: detections by layers like these, uncalibrated. The scores in the middle stay where they are: probabilities would be further
    from one another, and beyond what an int8 output holds.
    """
    bands, classes = len(layers), len(layers[0].bias) - 5
    fitted = _fit(judged.objectness, judged.bands, bands, judged.right, (judged.class_logits, judged.classes, classes))
    log_scale, offset = fitted[:bands] - fitted[:bands].mean(), fitted[bands : 2 * bands]
    offset = (offset - offset.mean()) / np.exp(fitted[:bands].mean())
    moves = np.asarray(fitted[2 * bands :] if classes > 1 else np.zeros(classes), np.float32)  # the only class says nothing
    return tuple(layer.calibrated(float(np.exp(log_scale[band])), float(offset[band]), moves) for band, layer in enumerate(layers))


def best_threshold(pairs: Sequence[tuple[Truth, Detections]]) -> float:
    """Return the score with the best F1 to be expected at IoU 0.5 over all classes, between 0.05 and 0.9.

    Expected by how probable it is at each score to be right: the best F1 that was counted lies just below the last object found, however
    far below it the first wrong detection is. What is right with half the probability of the best F1 just pays (Lipton et al. 2014,
    https://arxiv.org/abs/1402.1892). The probability is fitted with a slope for low scores and one for high ones (beta calibration, Kull et
    al. 2017, https://proceedings.mlr.press/v54/kull17a.html): with one for both, the many lowest scores bend it in the middle, where
    scores that were right in 54 % of the pictures got 41 %, and the threshold came out too high.
    """
    scores, right = [np.zeros(0)], [np.zeros(0, bool)]
    for truth, found in pairs:
        rows, hits = _judged_rows(truth, found)
        scores.append(found.scores[rows].astype(np.float64))
        right.append(hits)
    clipped = np.clip(np.concatenate(scores), 1e-4, 1 - 1e-4)
    objects = sum(int((~(truth.difficult | truth.crowd)).sum()) for truth, _ in pairs)
    slopes = _beta_fit(_beta_terms(clipped), np.concatenate(right))
    sure = np.sort(_logistic(_beta_terms(clipped) @ slopes))[::-1]
    best = float((2 * np.cumsum(sure) / (np.arange(len(sure)) + 1 + objects)).max(initial=0.0))
    steps = np.linspace(LEAST, MOST, STEPS)
    too_low = np.flatnonzero(_logistic(_beta_terms(steps) @ slopes) < np.clip(best / 2, 1e-3, 0.5))
    return float(steps[min(too_low.max(initial=-1) + 1, STEPS - 1)])


def _beta_terms(scores: Floats) -> Floats:
    """Return (N, 3), whose product with the slopes is the logit of being right."""
    return np.stack([np.log(scores), -np.log(1 - scores), np.ones_like(scores)], axis=1)


def _beta_fit(terms: Floats, right: NDArray[np.bool_]) -> Floats:
    """Return the slopes at low and at high scores and the offset of the most probable fit, by Newton's method."""
    start = np.array([1.0, 1.0, 0.0])  # a score is its own probability
    slopes, spread = start, np.array([SLOPE, SLOPE, COMMON_OFFSET])
    for _ in range(ITERATIONS):
        sure = _logistic(terms @ slopes)
        gradient = terms.T @ (sure - right) + (slopes - start) / spread**2
        curvature = (terms * (sure * (1 - sure))[:, None]).T @ terms + np.diag(1 / spread**2)
        step = np.linalg.solve(curvature, gradient)
        slopes = slopes - step * min(1.0, LONGEST / max(np.abs(step).max(), 1e-9))
        if np.abs(step).max() < ENOUGH:
            break
    return np.asarray(slopes, np.float64)


def _fit(
    logits: NDArray[np.floating],
    bands: IntArray,
    count: int,
    right: NDArray[np.bool_],
    kinds: tuple[FloatArray, IntArray, int],
) -> Floats:
    """Return the scales of the bands in logarithms, their offsets, and the offsets of the classes, of the most probable fit.

    The probability of being right is s(scale x logit + offset) x s(class logit + class offset), with s the logistic function.
    kinds: (N,) class logits, (N,) classes and their number. By Fisher scoring with Levenberg's damping.
    """
    kind_logits, kind_of, count_kinds = kinds
    # Each band's two numbers are those of all and its own; the numbers of all come first.
    spread = np.array([COMMON_SCALE, COMMON_OFFSET, *[BAND_SCALE] * count, *[BAND_OFFSET] * count, *[CLASS_OFFSET] * count_kinds])
    own, all_rows = np.eye(count)[bands], np.ones((len(bands), 1))
    x, truth = np.asarray(logits, np.float64)[:, None], right.astype(np.float64)

    def at(values: Floats) -> tuple[float, Floats, Floats]:
        scale = np.exp(values[0] + own @ values[2 : 2 + count])[:, None]
        found = _logistic(scale[:, 0] * x[:, 0] + values[1] + own @ values[2 + count : 2 + 2 * count])
        slopes = (1 - found)[:, None] * np.concatenate([scale * x, all_rows, scale * x * own, own], axis=1)
        kind = _logistic(kind_logits + values[2 + 2 * count :][kind_of])
        slopes = np.concatenate([slopes, (1 - kind)[:, None] * np.eye(count_kinds)[kind_of]], axis=1)
        found = found * kind
        sure = np.clip(found, 1e-6, 1 - 1e-6)
        loss = -(truth * np.log(sure) + (1 - truth) * np.log(1 - sure)).sum() + ((values / spread) ** 2).sum() / 2
        gradient = slopes.T @ ((sure - truth) / (1 - sure)) + values / spread**2
        return float(loss), gradient, (slopes * (sure / (1 - sure))[:, None]).T @ slopes + np.diag(1 / spread**2)

    values, damping = np.zeros(len(spread)), 1e-2
    loss, gradient, curvature = at(values)
    for _ in range(ITERATIONS):
        step = np.linalg.solve(curvature + damping * np.diag(np.diag(curvature)), gradient)
        tried = at(values - step)
        if tried[0] > loss:
            damping *= 8
            continue
        values, damping = values - step, damping / 4
        loss, gradient, curvature = tried
        if np.abs(step).max() < ENOUGH:
            break
    return np.concatenate([values[0] + values[2 : 2 + count], values[1] + values[2 + count : 2 + 2 * count], values[2 + 2 * count :]])


def _logistic(x: NDArray[np.floating]) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -30.0, 30.0))), np.float64)
