"""The range of a tensor that leaves the least error behind the activation which reads it.

An int8 step is the range over 255. What a leaky rectifier shrinks to a tenth needs not be stored as finely as the rest, and what a
rectifier cuts off needs not be stored at all: a narrower range makes the steps finer where it counts. On YOLOv3-tiny that is worth
2 dB in every layer. The step's error is taken as uniform noise (step^2 / 12), what lies outside the range as clipped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edgeannot_tools.graph.graph import Graph, Op, Operator

__all__ = ["SATURATION", "activation_behind", "best_range", "logistic", "swish"]

Values = NDArray[np.float64]
Function = Callable[[Values], Values]

BINS = 512
LOWER_SHARES = np.linspace(1, 0.05, 39)
UPPER_SHARES = np.linspace(1, 0.2, 33)
"""Candidates, as shares of the smallest and largest value seen."""
REARRANGED = frozenset({Op.TRANSPOSE, Op.RESHAPE, Op.SQUEEZE, Op.EXPAND_DIMS})
"""Operators that give each number of their input once, in another place; exporters put them between layer and activation."""
SATURATION = 8.0
"""A logistic function is within 0.0004 of its limits beyond this."""


def activation_behind(graph: Graph, tensor: int, consumers: Mapping[int, Sequence[Operator]]) -> Function | None:
    """The elementwise function through which alone a tensor is used, directly or after a transposition, or None.

    x * logistic(x), which is two operators, counts as one.
    """
    readers = consumers.get(tensor, ())
    while len(readers) == 1 and graph.code(readers[0]) in REARRANGED and tensor not in graph.outputs:
        tensor = readers[0].outputs[0]
        readers = consumers.get(tensor, ())
    if tensor in graph.outputs:
        return None
    codes = sorted(graph.code(reader) for reader in readers)
    if codes == sorted((Op.LOGISTIC, Op.MUL)):
        gate = next(reader for reader in readers if graph.code(reader) == Op.LOGISTIC)
        product = next(reader for reader in readers if graph.code(reader) == Op.MUL)
        return swish if set(product.inputs) == {tensor, *gate.outputs} else None
    return _function(graph, readers[0]) if len(readers) == 1 else None


def _function(graph: Graph, operator: Operator) -> Function | None:
    code = graph.code(operator)
    if code == Op.LEAKY_RELU:
        slope = float(operator.builtinOptions.alpha)
        return lambda x: np.where(x < 0, slope * x, x)
    plain: dict[int, Function] = {
        Op.RELU: lambda x: np.maximum(x, 0),
        Op.RELU6: lambda x: np.clip(x, 0, 6),
        Op.RELU_N1_TO_1: lambda x: np.clip(x, -1, 1),
        Op.HARD_SWISH: lambda x: x * np.clip(x + 3, 0, 6) / 6,
        Op.LOGISTIC: logistic,
        Op.TANH: np.tanh,
        Op.ELU: lambda x: np.where(x < 0, np.expm1(np.minimum(x, 0)), x),
    }
    return plain.get(code)


def logistic(x: Values) -> Values:
    """1 / (1 + e^-x)."""
    return 1 / (1 + np.exp(-np.clip(x, -60, 60)))


def swish(x: Values) -> Values:
    """x * logistic(x)."""
    return x * logistic(x)


def best_range(values: NDArray[np.float32], lowest: float, highest: float, function: Function) -> tuple[float, float]:
    """The range within `lowest`..`highest` (both seen) that leaves the smallest mean square error in `function(values)`.

    values: (N,) some of the tensor's numbers. 0 is always inside.
    """
    lowest, highest = min(lowest, 0.0), max(highest, 0.0)
    if highest - lowest < 1e-9 or not values.size:
        return lowest, highest
    counts, edges = np.histogram(values, BINS, (lowest, highest))
    centres = (edges[1:] + edges[:-1]) / 2
    weights = counts / counts.sum()
    half = (highest - lowest) / BINS / 2
    wanted = function(centres)
    slopes = (function(centres + half) - function(centres - half)) / (2 * half)
    lows = lowest * (LOWER_SHARES if lowest < 0 else np.ones(1))
    highs = highest * (UPPER_SHARES if highest > 0 else np.ones(1))
    # Bins before `first` lie below the range, those from `last` on above it.
    first, last = np.searchsorted(centres, lows), np.searchsorted(centres, highs, side="right")
    rounded = _before(weights * slopes**2)
    steps = (highs[None] - lows[:, None]) / 255
    error = steps**2 / 12 * (rounded[last][None] - rounded[first][:, None])
    below, above = (_square_error(weights, wanted, function(edge)) for edge in (lows, highs))
    error += below[np.arange(lows.size), first][:, None]
    error += (above[:, -1] - above[np.arange(highs.size), last])[None]
    low, high = np.unravel_index(int(error.argmin()), error.shape)
    return float(lows[low]), float(highs[high])


def _before(terms: Values) -> Values:
    """Sums of the terms before each position, and of all of them: (..., N) -> (..., N + 1)."""
    return np.concatenate([np.zeros((*terms.shape[:-1], 1)), np.cumsum(terms, axis=-1)], axis=-1)


def _square_error(weights: Values, wanted: Values, given: Values) -> Values:
    """(E, N + 1): the weighted square error of the first n bins where each of E values is given in place of the wanted ones."""
    return _before(weights * (wanted[None] - given[:, None]) ** 2)
