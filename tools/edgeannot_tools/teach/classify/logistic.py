"""Multinomial logistic regression in numpy: the last layer of a taught classifier.

The loss is that of scikit-learn's LogisticRegression, `sum of weight x cross-entropy + |W|^2 / (2 C)`, minimized by L-BFGS (Nocedal and
Wright, Numerical Optimization, 2006, algorithms 7.4 and 3.1). It is convex, so the start only decides how long it takes.

There is no bias. Features are vectors of length 4; without a bias the order of the classes does not depend on a vector's length, so a
network that leaves the division by the length out names the same class.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeannot.vision.data import FloatArray, IntArray

__all__ = ["FEATURE_LENGTH", "Span", "balanced_weights", "fit_logistic", "log_loss", "log_softmax", "normalized", "spanned"]

FEATURE_LENGTH = 4.0
"""Of every feature vector. With it the best C is near 10 for the pictures and networks that were tried."""

_MEMORY = 10
"""Steps that L-BFGS remembers."""
_MAX_STEPS = 300
_DESCENT = 1e-4
"""Share of the linear decrease that a step must reach (Armijo)."""
_SHORTEST = 1e-6
"""Of a step, before the search gives up: the numbers are float32."""
_SMALL = 32
"""Rows of half a matrix that is inverted as a whole."""


def normalized(features: NDArray[Any]) -> FloatArray:
    """Return rows of length `FEATURE_LENGTH`; a row of zeros stays. features: (N, D)."""
    rows = np.asarray(features, np.float32)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows * (FEATURE_LENGTH / np.maximum(length, 1e-12)), np.float32)


@dataclass(frozen=True, slots=True)
class Span:
    """An orthonormal basis of what rows span; its vectors, (N, D), are the rows turned: they are never needed themselves."""

    rows: FloatArray
    """(N, D)"""
    turn: FloatArray
    """(N, N)"""

    def coordinates(self, vectors: FloatArray) -> FloatArray:
        """Return (n, N) of vectors (n, D); what is outside of the span is lost."""
        return np.asarray((vectors @ self.rows.T) @ self.turn.T, np.float32)

    def weights(self, inside: FloatArray) -> FloatArray:
        """Return (D, K) for weights (N, K) of the coordinates."""
        return np.asarray(self.rows.T @ (self.turn.T @ inside), np.float32)


def spanned(rows: FloatArray) -> tuple[Span | None, FloatArray]:
    """Return what the rows (N, D) span, and the rows' coordinates in it (N, N); with D rows or more None, and the rows.

    The weights of the least loss are sums of the rows, so fitting in these coordinates gives the same, in less time: some hundred
    pictures span little of some thousand numbers. By Cholesky's factor of the rows' products, a tenth of the time of their eigenvectors;
    what is added to the diagonal keeps it there where a row is a sum of others, and changes a row by less than a thousandth.
    """
    count = len(rows)
    if count >= rows.shape[1]:
        return None, rows
    products = (rows @ rows.T).astype(np.float64)
    inside = np.linalg.cholesky(products + np.eye(count) * max(1e-6 * float(np.trace(products)) / max(count, 1), 1e-12))
    return Span(rows, _inverse(inside).astype(np.float32)), inside.astype(np.float32)


def _inverse(lower: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the inverse of a lower triangular matrix, by halves: a fifth of the time of numpy's, which knows nothing of the zeros."""
    half = len(lower) // 2
    if half < _SMALL:
        return np.linalg.inv(lower)
    first, last = _inverse(lower[:half, :half]), _inverse(lower[half:, half:])
    below = -last @ (lower[half:, :half] @ first)
    return np.block([[first, np.zeros((half, len(last)))], [below, last]])


def balanced_weights(classes: IntArray, class_count: int) -> FloatArray:
    """Return (N,) weights with mean 1 that give every class the same sum, so that a class with few pictures counts as much."""
    counts = np.maximum(np.bincount(classes, minlength=class_count), 1)
    present = max(1, int((np.bincount(classes, minlength=class_count) > 0).sum()))
    return np.asarray(len(classes) / (present * counts[classes]), np.float32)


def log_softmax(logits: NDArray[Any]) -> NDArray[Any]:
    """Return logarithms of the probabilities along the last axis, without overflow."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    result: NDArray[Any] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


def log_loss(logits: NDArray[Any], classes: IntArray) -> float:
    """Return the mean cross-entropy in nats. logits: (N, K), classes: (N,)."""
    return float(-log_softmax(logits)[np.arange(len(classes)), classes].mean())


def fit_logistic(
    features: FloatArray,
    classes: IntArray,
    weights: FloatArray,
    *,
    class_count: int,
    c: float,
    start: FloatArray | None = None,
    tolerance: float = 1e-3,
) -> FloatArray:
    """Return the weights (D, K) of the least loss, with one column a class.

    features: (N, D). classes: (N,), 0 to K - 1. weights: (N,) of the rows. c: the inverse of the penalty on the weights. start: weights to
    begin at. tolerance: of the gradient's length, as a share of its length at zero weights.
    """
    truth = np.zeros((len(classes), class_count), np.float32)
    truth[np.arange(len(classes)), classes] = 1
    shape = (features.shape[1], class_count)

    def value_and_gradient(flat: FloatArray) -> tuple[float, FloatArray]:
        matrix = flat.reshape(shape)
        logs = log_softmax(features @ matrix)
        value = -float(weights @ (logs * truth).sum(axis=1)) + float(flat @ flat) / (2 * c)
        slope = features.T @ ((np.exp(logs) - truth) * weights[:, None]) + matrix / np.float32(c)
        return value, slope.reshape(-1)

    zero = np.zeros(shape[0] * shape[1], np.float32)
    enough = tolerance * float(np.linalg.norm(features.T @ ((1 / class_count - truth) * weights[:, None])))
    flat = zero if start is None else start.reshape(-1).copy()
    value, gradient = value_and_gradient(flat)
    history: deque[tuple[FloatArray, FloatArray, float]] = deque(maxlen=_MEMORY)
    for _ in range(_MAX_STEPS):
        if float(np.linalg.norm(gradient)) <= enough:
            break
        direction = _direction(gradient, history)
        slope = float(gradient @ direction)
        length = 1.0 if history else min(1.0, 1.0 / max(float(np.linalg.norm(gradient)), 1e-12))
        while True:
            moved = flat + np.float32(length) * direction
            new_value, new_gradient = value_and_gradient(moved)
            if new_value <= value + _DESCENT * length * slope or length < _SHORTEST:
                break
            length /= 2
        if length < _SHORTEST:
            break
        step, change = moved - flat, new_gradient - gradient
        curvature = float(step @ change)
        if curvature > 0:
            history.append((step, change, curvature))
        flat, value, gradient = moved, new_value, new_gradient
    return flat.reshape(shape)


def _direction(gradient: FloatArray, history: deque[tuple[FloatArray, FloatArray, float]]) -> FloatArray:
    """Return the direction of the next step: minus the gradient times the estimate of the inverse Hessian (two loops, algorithm 7.4)."""
    direction = -gradient
    factors = []
    for step, change, curvature in reversed(history):
        factor = np.float32(float(step @ direction) / curvature)
        direction = direction - factor * change
        factors.append(factor)
    if history:
        _, change, curvature = history[-1]
        direction = direction * np.float32(curvature / float(change @ change))
    for (step, change, curvature), factor in zip(history, reversed(factors), strict=True):
        direction = direction + (factor - np.float32(float(change @ direction) / curvature)) * step
    return direction
