"""From vectors and classes to a head: cross-validation, the strength of the penalty, calibrated probabilities, "none of these".

Every figure comes from pictures that were not learned from: the set is cut into parts, and each part is answered by weights that were
learned from the others. The weights that are kept are then learned from all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from edgeannot.vision.data import FloatArray, IntArray
from edgeannot_tools.teach.classify.head import Expansion, Head
from edgeannot_tools.teach.classify.logistic import (
    FEATURE_LENGTH,
    Span,
    balanced_weights,
    fit_logistic,
    log_loss,
    log_softmax,
    normalized,
    spanned,
)
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
_NEIGHBOURS, _SHARPNESS = 25, 15.0
"""Of a picture, whose labels say whether its own is right; by how much a nearer one counts more."""
_WORKERS = min(4, len(os.sched_getaffinity(0)))
"""Fits at a time, each in one thread: numpy lets others run meanwhile, and one fit is too small for two."""
_BLOCK = 256
"""Pictures whose known classes are computed at a time."""
_MOST_LEFT_OUT = 5
"""Classes that are left out in turn, to see what pictures of no known class get."""


_Given = TypeVar("_Given")
_Made = TypeVar("_Made")


def _each(make: Callable[[_Given], _Made], given: Iterable[_Given]) -> list[_Made]:
    """Return what is made of each, in the same order, several at a time."""
    with ThreadPoolExecutor(_WORKERS) as pool:
        return list(pool.map(make, given))


@dataclass(frozen=True, slots=True)
class Learned:
    """A head and what the cross-validation says of it."""

    head: Head
    look: int
    """Which of the ways to bring a picture to the input the model uses, see `Seen.looks`."""
    probabilities: FloatArray
    """(N, K) of each picture, by weights that were not learned from it."""
    tested: NDArray[np.bool_]
    """(N,) bool: False for a picture whose class is in no other part, so that nothing could be learned of it."""
    trust: FloatArray
    """(N,) by which the pictures are ordered: the lower, the likelier is it that a picture's own label is wrong. -1 to 2."""
    c: float
    threshold: float
    """A best probability below it means "none of these"."""
    kept: float
    """Share of the right answers of the cross-validation that reach the threshold."""
    foreign_refused: float | None
    """Share of the pictures of a class that was left out that stay below the threshold; None with two classes."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """What is learned from with one expansion, in coordinates of the space that the rows span."""

    rows: FloatArray
    """(N, 2, S), of length FEATURE_LENGTH: the whole picture, and the mean of its views."""
    asked: FloatArray
    """(N, L, S) for each look the mean of the views that a model looks at when it runs, divided by the mean length of a vector."""
    span: Span | None
    """Of the rows as they were, of V numbers each; None: these are the coordinates."""
    scale: float
    """A file does not divide by a picture's length: it has the mean length in its weights."""

    @classmethod
    def of(cls, vectors: FloatArray, expansion: Expansion | None, views: int) -> _Kind:
        """Return it for (N, L, views, D) vectors. views: how many of them a model looks at."""
        blocks = [_means(vectors[begin : begin + _BLOCK], expansion, views) for begin in range(0, len(vectors), _BLOCK)]
        whole, mean, asked = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
        rows = np.stack([normalized(whole), normalized(mean)], axis=1)
        scale = FEATURE_LENGTH / max(float(np.linalg.norm(whole, axis=1).mean()), 1e-12)
        span, flat = spanned(rows.reshape(-1, rows.shape[2]))
        looked = asked.reshape(-1, asked.shape[2]) * np.float32(scale)
        looked = looked if span is None else span.coordinates(looked)
        return cls(flat.reshape(*rows.shape[:2], -1), looked.reshape(*asked.shape[:2], -1), span, scale)

    def folded(self, weights: FloatArray) -> FloatArray:
        """Return (V, K) weights of vectors as they are, for weights (S, K) of the rows."""
        return np.asarray((weights if self.span is None else self.span.weights(weights)) * np.float32(self.scale), np.float32)


def _means(vectors: FloatArray, expansion: Expansion | None, views: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return (n, V) of the whole picture and of the mean of all views, and (n, L, V) of the mean of the first `views` at each look."""
    wide = vectors if expansion is None else expansion(vectors)
    return wide[:, 0, 0], wide.mean(axis=(1, 2)), wide[:, :, :views].mean(axis=2)


@dataclass(frozen=True, slots=True)
class _Examples:
    """What is learned from: the same pictures with each expansion. What these say is averaged.

    Plain vectors are better for some sets and the known classes for others (see `expansions_for`), by more than the few pictures that
    are there can tell. The mean is near the better of both on all sets that were tried, and is still one layer.
    """

    kinds: tuple[_Kind, ...]
    classes: IntArray
    class_count: int

    def fit(self, chosen: IntArray, c: float, start: Sequence[FloatArray] | None = None) -> list[FloatArray]:
        """Return for each kind the weights that are learned from the chosen pictures. start: weights that are near, to save steps."""
        classes = np.repeat(self.classes[chosen], 2)
        balance = balanced_weights(classes, self.class_count)
        return [
            fit_logistic(
                kind.rows[chosen].reshape(len(classes), -1),
                classes,
                balance,
                class_count=self.class_count,
                c=c,
                start=None if start is None else start[number],
                tolerance=1e-2,
            )
            for number, kind in enumerate(self.kinds)
        ]

    def answers(self, chosen: IntArray, weights: Sequence[FloatArray]) -> FloatArray:
        """Return (n, L, K) logits of the chosen pictures at each look."""
        pairs = zip(self.kinds, weights, strict=True)
        return np.asarray(np.mean([kind.asked[chosen] @ matrix for kind, matrix in pairs], axis=0), np.float32)


def learn(
    vectors: FloatArray, classes: IntArray, class_count: int, groups: IntArray, expansion: Expansion | None, views: int = 1
) -> Learned:
    """Return the head for (N, L, V, D) real vectors of V views at each of L looks.

    groups: see `group_alike`. views: how many of the first views the model will look at when it runs, whose logits are averaged. The look
    and C are those of the least loss in the cross-validation, as the errors of some hundred pictures are too few to choose by.
    """
    parts = deal(groups, classes, _part_count(groups, classes))
    kinds = tuple(_each(lambda kind: _Kind.of(vectors, kind, views), [None] if expansion is None else [None, expansion]))
    examples = _Examples(kinds, classes, class_count)
    starts: dict[int, list[FloatArray]] = {}
    best = min(_tried(examples, parts, _FIRST_C, starts), key=lambda tried: tried.loss)
    for c in _OTHER_CS:
        best = min(best, _tried(examples, parts, c, starts)[best.look], key=lambda tried: tried.loss)
    probabilities = np.exp(log_softmax(best.logits / np.float32(best.temperature))).astype(np.float32)
    fitted = examples.fit(np.arange(len(classes)), best.c)
    threshold, kept, refused = _none_of_these(examples, best, probabilities, fitted)
    head = _head(examples, fitted, expansion, vectors.shape[-1], best.temperature)
    trust = probabilities[np.arange(len(classes)), classes] + _agreement(examples, groups)
    return Learned(head, best.look, probabilities, best.tested, trust, best.c, threshold, kept, refused)


def _head(examples: _Examples, fitted: Sequence[FloatArray], expansion: Expansion | None, size: int, temperature: float) -> Head:
    """Return one head that says the mean of what the kinds say, divided by the temperature. size: of a vector."""
    folded = [kind.folded(matrix) for kind, matrix in zip(examples.kinds, fitted, strict=True)]
    total = folded[-1].copy()
    if expansion is not None:
        total[:size] += folded[0]
    return Head(expansion, np.asarray(total / np.float32(len(folded) * temperature), np.float32))


def _agreement(examples: _Examples, groups: IntArray) -> FloatArray:
    """Return (N,) how much more the nearest pictures have a picture's own label than any other one, -1 to 1.

    Beside the probability of its own class by weights that were not learned from it (the self-confidence of Northcutt et al. 2021,
    https://arxiv.org/abs/1911.00068) it finds more wrong labels: it depends little on the other wrong ones. Pictures that are nearly the
    same do not count, as they are mislabelled together.
    """
    unit = examples.kinds[0].rows[:, 1] / np.float32(FEATURE_LENGTH)
    count = min(_NEIGHBOURS, len(unit) - 1)
    truth = np.eye(examples.class_count, dtype=np.float32)[examples.classes]
    found = []
    for begin in range(0, len(unit), _BLOCK):
        block = slice(begin, begin + _BLOCK)
        likeness = unit[block] @ unit.T
        likeness[groups[block, None] == groups] = -1
        nearest = np.argpartition(-likeness, count - 1, axis=1)[:, :count]
        weight = np.exp(_SHARPNESS * (np.take_along_axis(likeness, nearest, axis=1) - 1))
        votes = (weight[:, :, None] * truth[nearest]).sum(axis=1) / weight.sum(axis=1, keepdims=True)
        own = (votes * truth[block]).sum(axis=1)
        found.append(own - np.where(truth[block] > 0, -1, votes).max(axis=1))
    return np.asarray(np.concatenate(found), np.float32)


@dataclass(frozen=True, slots=True)
class _Tried:
    """One look and C in the cross-validation."""

    look: int
    c: float
    logits: FloatArray
    """(N, K), by weights that were not learned from the picture."""
    tested: NDArray[np.bool_]
    """(N,) whether there were such weights."""
    temperature: float
    loss: float
    """With that temperature."""


def _tried(examples: _Examples, parts: IntArray, c: float, starts: dict[int, list[FloatArray]]) -> list[_Tried]:
    """Return the outcome of the cross-validation for each look. starts: each part's weights, those of another C before and these after."""
    logits, tested = _cross_validate(examples, parts, c, starts)
    found = []
    for look in range(logits.shape[1]):
        own, truth = logits[tested, look], examples.classes[tested]
        temperature = _temperature(own, truth)
        loss = log_loss(own / np.float32(temperature), truth) if tested.any() else 0.0
        found.append(_Tried(look, c, logits[:, look], tested, temperature, loss))
    return found


def _part_count(groups: IntArray, classes: IntArray) -> int:
    """Return as many parts as the smallest class has different pictures, within bounds."""
    smallest = min(len(np.unique(groups[classes == number])) for number in np.unique(classes))
    return min(PARTS, max(2, smallest))


def _cross_validate(
    examples: _Examples, parts: IntArray, c: float, starts: dict[int, list[FloatArray]]
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Return (N, L, K) logits of pictures by weights that were not learned from them, and which pictures could be tested."""
    logits = np.zeros((len(parts), examples.kinds[0].asked.shape[1], examples.class_count), np.float32)
    tested = np.zeros(len(parts), bool)

    def one(part: int) -> None:
        held, others = np.nonzero(parts == part)[0], np.nonzero(parts != part)[0]
        if len(others):
            tested[held] = np.isin(examples.classes[held], examples.classes[others])
            starts[part] = examples.fit(others, c, starts.get(part))
            logits[held] = examples.answers(held, starts[part])

    _each(one, np.unique(parts).tolist())
    return logits, tested


def _temperature(logits: FloatArray, classes: IntArray) -> float:
    """Return what the logits are divided by so that the probabilities say how often they are right (Guo et al. 2017,
    https://arxiv.org/abs/1706.04599)."""
    if not len(logits):
        return 1.0
    return float(min(_TEMPERATURES, key=lambda temperature: log_loss(logits / np.float32(temperature), classes)))


def _none_of_these(
    examples: _Examples, tried: _Tried, probabilities: FloatArray, fitted: Sequence[FloatArray]
) -> tuple[float, float, float | None]:
    """Return the threshold, the share of right answers that reach it, and the share of foreign pictures that do not.

    Foreign are the pictures of one class to weights that were learned from the other classes alone, each class in turn. fitted: the
    weights of all classes, to begin at.
    """
    right = tried.tested & (probabilities.argmax(axis=1) == examples.classes)
    sure = probabilities[right].max(axis=1) if right.any() else np.ones(1, np.float32)
    threshold = round(float(np.clip(np.quantile(sure, 1 - _FOUND), _LOWEST, _HIGHEST)), 3)
    refused: float | None = None
    if examples.class_count > 2:

        def below(number: int) -> NDArray[np.bool_]:
            foreign = examples.classes == number
            others = examples.fit(np.nonzero(~foreign)[0], tried.c, fitted)
            logits = examples.answers(np.nonzero(foreign)[0], others)[:, tried.look] / np.float32(tried.temperature)
            return np.asarray(np.exp(log_softmax(np.delete(logits, number, axis=1))).max(axis=1) < threshold)

        refused = float(np.concatenate(_each(below, range(min(examples.class_count, _MOST_LEFT_OUT)))).mean())
    return threshold, float((sure >= threshold).mean()), refused
