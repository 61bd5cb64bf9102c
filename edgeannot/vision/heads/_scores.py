"""From stored class numbers to scores: the threshold goes first and in the stored domain, so that few numbers become floats.

The logistic function rises with its argument and dequantization with the stored number, so the best class and the comparison
with a minimum score come out the same on the stored numbers as on the scores.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgeannot.vision.data import FloatArray, IntArray, RawTensor, TensorSpec

__all__ = [
    "Activation",
    "ScoreActivation",
    "activate",
    "best_classes",
    "best_columns",
    "best_scores",
    "joined_rows",
    "logit",
    "passing_rows",
    "rows_above",
    "sigmoid",
    "softmax",
    "stored_threshold",
    "take_rows",
    "usable_rows",
    "without_column",
]

Activation = Literal["none", "sigmoid"]
ScoreActivation = Literal["none", "sigmoid", "percent"]
"""percent: scores of 0 to 100."""

_MAX_EXPONENT = np.float32(80.0)
"""exp(80) is still a float32; beyond it a score is 0 or 1 anyway."""
_FEW = 64
"""Numbers with which Python is done sooner than numpy."""
_GARBAGE = np.float32(1e12)
"""No offset, logit or pixel is as large as this; its square is still a float32."""


def sigmoid(x: FloatArray) -> FloatArray:
    """Return the logistic function, without overflow."""
    powers = np.minimum(np.negative(x, dtype=np.float32), _MAX_EXPONENT)
    np.exp(powers, out=powers)
    powers += np.float32(1)
    return np.asarray(np.divide(np.float32(1), powers, out=powers), np.float32)


def softmax(x: FloatArray) -> FloatArray:
    """Return shares that add up to 1 along the last axis, without overflow. x: (..., C), finite, C >= 1."""
    powers = x - np.maximum.reduce(x, axis=-1, keepdims=True)
    np.exp(powers, out=powers)
    powers /= np.add.reduce(powers, axis=-1, keepdims=True)
    return np.asarray(powers, np.float32)


@lru_cache(maxsize=64)
def logit(score: float) -> float:
    """Return the argument at which the logistic function reaches `score`; minus infinity for 0 and, as float32 has it, 16.6 for 1."""
    if score <= 0.0:
        return -math.inf
    score = min(score, 1.0 - 2.0**-24)
    return math.log(score / (1.0 - score))


def activate(numbers: FloatArray, activation: ScoreActivation) -> FloatArray:
    """Return scores from real numbers."""
    if activation == "percent":
        return numbers / np.float32(100)
    return sigmoid(numbers) if activation == "sigmoid" else numbers


def stored_threshold(tensor: RawTensor, activation: Literal["none", "sigmoid", "softmax", "percent"], min_score: float) -> float:
    """Return the smallest stored number whose score is >= `min_score`."""
    if activation == "percent":
        return tensor.stored_at_least(100 * min_score)
    return tensor.stored_at_least(logit(min_score) if activation == "sigmoid" else min_score)


def passing_rows(stored: NDArray[Any], threshold: float) -> IntArray:
    """Return indices of the rows of (N, C) with a number >= `threshold`. A row whose greatest number is NaN does not pass."""
    count = stored.shape[1]
    if count == 0:
        return np.zeros(0, np.int64)
    if stored.strides[1] > stored.strides[0]:  # columns that lie one after the other are compared as a whole
        rows: IntArray = (stored.max(axis=1) >= threshold).nonzero()[0]
        return rows
    # A row's greatest number costs numpy 0.4 us, so the few that pass are found first.
    rows = (stored >= threshold).reshape(-1).nonzero()[0]
    if count > 1 and len(rows) <= _FEW:
        rows = np.array([*dict.fromkeys([number // count for number in rows.tolist()])], np.int64)
    elif count > 1:
        rows //= count
        first = np.empty(len(rows), bool)
        first[0] = True
        np.not_equal(rows[1:], rows[:-1], out=first[1:])
        rows = rows[first]
    return rows if stored.dtype.kind in "iu" or count == 1 else rows[stored[rows].max(axis=1) >= threshold]


def best_columns(stored: NDArray[Any]) -> IntArray:
    """Return the column of the greatest number of each row; of equal ones the first."""
    columns: IntArray = stored.argmax(axis=1).astype(np.int64, copy=False)
    return columns


def best_scores(numbers: FloatArray, activation: ScoreActivation) -> tuple[FloatArray, IntArray]:
    """Return score and column of the best class of each row of real numbers (n, C)."""
    return activate(np.maximum.reduce(numbers, axis=1), activation), best_columns(numbers)


def without_column(table: NDArray[Any], column: int | None) -> NDArray[Any]:
    """Return (N, C) without the column that stands for no object, if there is one; a view where it is the first or the last."""
    if column is None:
        return table
    if column == 0:
        return table[:, 1:]
    return table[:, :-1] if column == table.shape[1] - 1 else np.delete(table, column, axis=1)


def rows_above(table: RawTensor, background: int | None, min_score: float) -> IntArray:
    """Return rows of (N, C) that can pass a softmax: a share of s needs a number at least logit(s) above any other of its row."""
    if background is None:
        return np.arange(len(table.values), dtype=np.int64)
    wide = np.float32 if table.values.dtype.kind == "f" else np.int32
    with np.errstate(invalid="ignore", over="ignore"):  # rows that are not finite are dropped later
        above = without_column(table.values, background).max(axis=1).astype(wide) - table.values[:, background].astype(wide)
    return np.flatnonzero(above >= logit(min_score) / (table.spec.scale if table.spec.quantized else 1.0)).astype(np.int64)


def best_classes(
    numbers: FloatArray, activation: ScoreActivation | Literal["softmax"], background: int | None
) -> tuple[IntArray, FloatArray]:
    """Return class and score of the best column of each row (n, C), but for the background's; that one counts in a softmax."""
    foreground = without_column(softmax(numbers) if activation == "softmax" else numbers, background)
    best, classes = best_scores(foreground, "none" if activation == "softmax" else activation)
    if background is not None:
        classes += classes >= background
    return classes, best


def usable_rows(real: FloatArray) -> NDArray[np.bool_]:
    """Return (n,) whether all numbers of a row (n, C) are finite and of a size that the arithmetic of boxes survives."""
    return np.asarray((np.abs(real) < _GARBAGE).all(axis=1), np.bool_)


def _all_usable(real: FloatArray) -> bool:
    """Return the same of all rows at once, which is quicker. What is not a number is not less."""
    return not real.size or bool(np.maximum.reduce(real, axis=None) < _GARBAGE and np.minimum.reduce(real, axis=None) > -_GARBAGE)


def take_rows(table: NDArray[Any], rows: IntArray, spec: TensorSpec) -> tuple[IntArray, FloatArray]:
    """Return the real values of some rows of a stored table, (n, C) float32, and their indices, less those that are not usable."""
    real = RawTensor(table[rows], spec).real()
    if spec.usable or _all_usable(real):
        return rows, real
    usable = usable_rows(real)
    return rows[usable], real[usable]


def joined_rows(parts: Sequence[tuple[NDArray[Any], ...]], *, usable: bool) -> tuple[NDArray[Any], ...]:
    """Return the columns of all parts as one each, less the rows where a column of real numbers is not usable. parts: one or more, each
    with row numbers (n,) and tables of real values (n, C). usable: whether all rows are, by their tensors (`TensorSpec.usable`).

    What follows is then computed once, not for each output: on few rows numpy's calls are all that costs.
    """
    columns = tuple(map(np.concatenate, zip(*parts, strict=True))) if len(parts) > 1 else parts[0]
    if usable:
        return columns
    tables = [column for column in columns if column.dtype.kind == "f"]
    if all(map(_all_usable, tables)):
        return columns
    rows = np.logical_and.reduce([usable_rows(table) for table in tables])
    return tuple(column[rows] for column in columns)
