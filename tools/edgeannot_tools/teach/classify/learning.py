"""From vectors and classes to a head: cross-validation, the strength of the penalty, calibrated probabilities, "none of these".

Every figure comes from pictures that were not learned from: the set is cut into parts, and each part is answered by weights that were
learned from the others. The weights that are kept are then learned from all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeannot.vision.data import FloatArray, IntArray
from edgeannot_tools.teach.classify.head import Expansion, Head
from edgeannot_tools.teach.classify.logistic import FEATURE_LENGTH, balanced_weights, fit_logistic, log_loss, log_softmax, normalized
from edgeannot_tools.teach.near_duplicates import deal

__all__ = ["PARTS", "Learned", "learn"]

PARTS = 5
"""Of the cross-validation, or as many as the smallest class has different pictures, at least 2."""
_FIRST_C, _OTHER_CS = 10.0, (3.0, 30.0)
_TEMPERATURES = np.geomspace(0.2, 5.0, 41)
_FOUND = 0.95
"""Of the right answers that must stay above the "none of these" threshold."""
_LOWEST, _HIGHEST = 0.2, 0.9
"""Of that threshold."""
_MOST_LEFT_OUT = 5
"""Classes that are left out in turn, to see what pictures of no known class get."""


@dataclass(frozen=True, slots=True)
class Learned:
    """A head and what the cross-validation says of it."""

    head: Head
    probabilities: FloatArray
    """(N, K) of each picture, by weights that were not learned from it."""
    tested: NDArray[np.bool_]
    """(N,) bool: False for a picture whose class is in no other part, so that nothing could be learned of it."""
    c: float
    threshold: float
    """A best probability below it means "none of these"."""
    kept: float
    """Share of the right answers of the cross-validation that reach the threshold."""
    foreign_refused: float | None
    """Share of the pictures of a class that was left out that stay below the threshold; None with two classes."""


@dataclass(frozen=True, slots=True)
class _Examples:
    """What is learned from."""

    rows: FloatArray
    """(N, 2, V), of length FEATURE_LENGTH: the whole picture, and the mean of its views."""
    asked: FloatArray
    """(N, V), the mean of the views that a model looks at when it runs, times `scale`."""
    scale: float
    """A file does not divide by a picture's length: it has the mean length in its weights."""
    classes: IntArray
    class_count: int

    @classmethod
    def of(cls, wide: FloatArray, classes: IntArray, class_count: int) -> _Examples:
        """Return the examples. wide: (N, 3, V), see `_means`."""
        rows = np.stack([normalized(wide[:, 0]), normalized(wide[:, 1])], axis=1)
        scale = FEATURE_LENGTH / max(float(np.linalg.norm(wide[:, 0], axis=1).mean()), 1e-12)
        return cls(rows, wide[:, 2] * np.float32(scale), scale, classes, class_count)

    def fit(self, chosen: IntArray, c: float) -> FloatArray:
        """Return weights that are learned from the chosen pictures."""
        repeats = self.rows.shape[1]
        classes = np.repeat(self.classes[chosen], repeats)
        rows = self.rows[chosen].reshape(len(classes), -1)
        weights = balanced_weights(classes, self.class_count)
        return fit_logistic(rows, classes, weights, class_count=self.class_count, c=c, tolerance=1e-2)


def learn(
    vectors: FloatArray, classes: IntArray, class_count: int, groups: IntArray, expansions: Sequence[Expansion | None], views: int = 1
) -> Learned:
    """Return the head for (N, MOST_VIEWS, D) real vectors.

    groups: see `group_alike`. expansions: to choose from; the choice of expansion and C is that of the least loss in the
    cross-validation, as the errors of some hundred pictures are too few to choose by. views: how many of the first views the model will
    look at when it runs, whose logits are averaged.
    """
    parts = deal(groups, classes, _part_count(groups, classes))
    kinds = zip(expansions, _expanded(vectors, expansions, views), strict=True)
    best = min(
        (_Tried.of(_Examples.of(wide, classes, class_count), parts, expansion, _FIRST_C) for expansion, wide in kinds),
        key=lambda tried: tried.loss,
    )
    for c in _OTHER_CS:
        best = min(best, _Tried.of(best.examples, parts, best.expansion, c), key=lambda tried: tried.loss)
    probabilities = np.exp(log_softmax(best.logits / np.float32(best.temperature))).astype(np.float32)
    weights = best.examples.fit(np.arange(len(classes)), best.c)
    threshold, kept, refused = _none_of_these(best, probabilities)
    folded = np.asarray(weights * np.float32(best.examples.scale / best.temperature), np.float32)
    return Learned(Head(best.expansion, folded), probabilities, best.tested, best.c, threshold, kept, refused)


def _expanded(vectors: FloatArray, expansions: Sequence[Expansion | None], views: int) -> Iterator[FloatArray]:
    """Yield `_means` of the vectors for each expansion."""
    plain = _means(vectors, views)
    above: FloatArray | None = None  # the same for all: they differ by their gain alone
    for expansion in expansions:
        if expansion is None:
            yield plain
            continue
        if above is None:
            above = _means(expansion.above(vectors), views)
        yield expansion.beside(plain, above)


def _means(of_views: FloatArray, views: int) -> FloatArray:
    """Return (N, 3, V) of (N, MOST_VIEWS, V): the whole picture, the mean of all views, and that of the first `views`."""
    return np.stack([of_views[:, 0], of_views.mean(axis=1), of_views[:, :views].mean(axis=1)], axis=1)


@dataclass(frozen=True, slots=True)
class _Tried:
    """One expansion and C in the cross-validation."""

    examples: _Examples
    expansion: Expansion | None
    c: float
    logits: FloatArray
    """(N, K), by weights that were not learned from the picture."""
    tested: NDArray[np.bool_]
    """(N,) whether there were such weights."""
    temperature: float
    loss: float
    """With that temperature."""

    @classmethod
    def of(cls, examples: _Examples, parts: IntArray, expansion: Expansion | None, c: float) -> _Tried:
        """Return the outcome of the cross-validation."""
        logits, tested = _cross_validate(examples, parts, c)
        temperature = _temperature(logits[tested], examples.classes[tested])
        loss = log_loss(logits[tested] / np.float32(temperature), examples.classes[tested]) if tested.any() else 0.0
        return cls(examples, expansion, c, logits, tested, temperature, loss)


def _part_count(groups: IntArray, classes: IntArray) -> int:
    """Return as many parts as the smallest class has different pictures, within bounds."""
    smallest = min(len(np.unique(groups[classes == number])) for number in np.unique(classes))
    return min(PARTS, max(2, smallest))


def _cross_validate(examples: _Examples, parts: IntArray, c: float) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Return the (N, K) logits of pictures by weights that were not learned from them, and which pictures could be tested."""
    logits = np.zeros((len(parts), examples.class_count), np.float32)
    tested = np.zeros(len(parts), bool)
    for part in np.unique(parts):
        held = parts == part
        others = np.nonzero(~held)[0]
        if len(others):
            tested |= held & np.isin(examples.classes, examples.classes[others])
            logits[held] = examples.asked[held] @ examples.fit(others, c)
    return logits, np.asarray(tested)


def _temperature(logits: FloatArray, classes: IntArray) -> float:
    """Return what the logits are divided by so that the probabilities say how often they are right (Guo et al. 2017,
    https://arxiv.org/abs/1706.04599)."""
    if not len(logits):
        return 1.0
    return float(min(_TEMPERATURES, key=lambda temperature: log_loss(logits / np.float32(temperature), classes)))


def _none_of_these(tried: _Tried, probabilities: FloatArray) -> tuple[float, float, float | None]:
    """Return the threshold, the share of right answers that reach it, and the share of foreign pictures that do not.

    Foreign are the pictures of one class to weights that were learned from the other classes alone, each class in turn.
    """
    examples = tried.examples
    right = tried.tested & (probabilities.argmax(axis=1) == examples.classes)
    sure = probabilities[right].max(axis=1) if right.any() else np.ones(1, np.float32)
    threshold = round(float(np.clip(np.quantile(sure, 1 - _FOUND), _LOWEST, _HIGHEST)), 3)
    refused: float | None = None
    if examples.class_count > 2:
        below = []
        for number in range(min(examples.class_count, _MOST_LEFT_OUT)):
            foreign = examples.classes == number
            weights = examples.fit(np.nonzero(~foreign)[0], tried.c)
            logits = np.delete(examples.asked[foreign] @ weights, number, axis=1) / np.float32(tried.temperature)
            below += (np.exp(log_softmax(logits)).max(axis=1) < threshold).tolist()
        refused = float(np.mean(below))
    return threshold, float((sure >= threshold).mean()), refused
