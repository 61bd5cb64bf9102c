"""Runs a float model over sample pictures and notes, for every tensor in it, the smallest and largest value of each picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeannot.base.errors import InputError
from edgeannot_tools.graph.graph import Graph, Op, Operator, Type
from edgeannot_tools.graph.interpreter import Runtime, open_interpreter

__all__ = [
    "NO_NUMBER",
    "SATURATION",
    "Calibration",
    "activation_behind",
    "best_range",
    "calibrate",
    "logistic",
    "merged",
    "padded_for_maximum",
    "swish",
]

NO_NUMBER = 1e30
"""Values beyond this stand for infinity: ONNX exports pad with the lowest float before a maximum."""
VALUES_A_SAMPLE = 8192
VALUES_A_TENSOR = 1 << 18
"""What is kept of one tensor's numbers: enough for a histogram, and 1 MB. Fewer than some 100,000 cost accuracy."""
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Calibration:
    """The ranges of a graph's float tensors by their number: `lowest[t]` and `highest[t]` hold one value a sample."""

    lowest: dict[int, FloatArray]
    highest: dict[int, FloatArray]
    values: dict[int, NDArray[np.float32]]
    """Some of the numbers of tensors that only an activation reads, evenly drawn."""
    samples: int

    def widest(self, tensor: int) -> tuple[float, float]:
        """Return the smallest and the largest value in any sample."""
        return float(self.lowest[tensor].min()), float(self.highest[tensor].max())

    def usual(self, tensor: int) -> tuple[float, float]:
        """Return the mean over the samples of their smallest and of their largest value: what single odd samples do not stretch."""
        return float(self.lowest[tensor].mean()), float(self.highest[tensor].mean())

    def __contains__(self, tensor: int) -> bool:
        return tensor in self.lowest


def merged(parts: Sequence[Calibration]) -> Calibration:
    """Return several calibrations of one graph, at other input sizes for instance, as one."""
    if not parts:
        raise InputError("there is nothing to calibrate with: no sample was given")
    lowest = {t: np.concatenate([part.lowest[t] for part in parts]) for t in parts[0].lowest}
    highest = {t: np.concatenate([part.highest[t] for part in parts]) for t in parts[0].highest}
    values = {t: np.concatenate([part.values[t] for part in parts]) for t in parts[0].values}
    return Calibration(lowest, highest, values, sum(part.samples for part in parts))


def calibrate(graph: Graph, samples: Iterable[Sequence[NDArray[Any]]], runtime: Runtime | None = None) -> Calibration:
    """Return the ranges of all float tensors of a float graph over the samples; each sample has one array an input, as the graph takes it.

    Raises InputError where there is no sample, or where a sample does not fit the inputs or makes values that are not finite.
    """
    watched = [t for t in range(len(graph.tensors)) if graph.tensors[t].type == Type.FLOAT32 and not graph.is_constant(t)]
    interpreter = open_interpreter(_with_outputs(graph, watched), runtime, every_tensor=True)
    inputs = [detail["index"] for detail in interpreter.get_input_details()]
    lowest: dict[int, list[float]] = {t: [] for t in watched}
    highest: dict[int, list[float]] = {t: [] for t in watched}
    consumers = graph.consumers()
    drawn = {t: _Drawn() for t in watched if activation_behind(graph, t, consumers)}
    count = 0
    for sample in samples:
        for slot, (index, array) in enumerate(zip(inputs, sample, strict=True)):
            if array.shape != graph.shape(graph.inputs[slot]):
                wanted = graph.shape(graph.inputs[slot])
                raise InputError(f"{graph.where}: sample {count} has shape {array.shape}, the input wants {wanted}")
            interpreter.set_tensor(index, array)
        interpreter.invoke()
        count += 1
        for t in watched:
            low, high = _extremes(interpreter, t)
            if not np.isfinite(low + high):
                raise InputError(f"{graph.where}: tensor {graph.name(t)!r} gets values that are not finite; is the input range right?")
            lowest[t].append(low)
            highest[t].append(high)
            if t in drawn:
                drawn[t].add(interpreter.get_tensor(t))
    if not count:
        raise InputError("there is nothing to calibrate with: no sample was given")
    lows = {t: np.array(v) for t, v in lowest.items()}
    _leave_padding_out(graph, lows)
    return Calibration(lows, {t: np.array(v) for t, v in highest.items()}, {t: some.all() for t, some in drawn.items()}, count)


def padded_for_maximum(graph: Graph) -> frozenset[int]:
    """Return the tensors that hold constants beside computed numbers, and that only a maximum reads, directly or through moves.

    Of such a constant only one that is larger than the numbers around it is ever seen. A smaller one stands for minus infinity: it
    needs no place in the range, and may be stored as the lowest number there is.
    """
    consumers = graph.consumers()
    unseen: set[int] = set()
    for operator in reversed(graph.operators):
        for tensor in operator.outputs:
            readers = consumers.get(tensor, [])
            passed = all(graph.code(r) in MAXIMA or (graph.code(r) in MOVING and unseen.issuperset(r.outputs)) for r in readers)
            if readers and passed and tensor not in graph.outputs:
                unseen.add(tensor)
    padded: set[int] = set()
    for operator in graph.operators:
        if graph.code(operator) in MOVING and unseen.issuperset(operator.outputs):
            holds = any(t in padded or (t >= 0 and graph.is_constant(t) and graph.tensors[t].type == Type.FLOAT32) for t in operator.inputs)
            padded |= set(operator.outputs) if holds else set()
    return frozenset(padded)


def _leave_padding_out(graph: Graph, lowest: dict[int, FloatArray]) -> None:
    """Let the range of padded tensors begin where that of the numbers in them does."""
    padded = padded_for_maximum(graph)
    for operator in graph.operators:
        given = [lowest[t] for t in operator.inputs if t in lowest]
        for tensor in padded.intersection(operator.outputs):
            lowest[tensor] = np.maximum(lowest[tensor], np.min(given, axis=0)) if given else lowest[tensor]


def _with_outputs(graph: Graph, tensors: Sequence[int]) -> bytes:
    """Return the model with these tensors as its outputs.

    Reading intermediate tensors is not enough, even where the runtime is asked to preserve them: tflite-runtime 2.14 lets ADD
    write its result over an operand.
    """
    copy = Graph.from_bytes(graph.to_bytes(), graph.where)
    copy.sub.outputs = [t for t in tensors if t not in copy.inputs]
    copy.model.signatureDefs = None
    return copy.to_bytes()


class _Drawn:
    """Numbers evenly drawn from a tensor's values over all samples, within a fixed amount of memory."""

    def __init__(self) -> None:
        self.parts: list[NDArray[np.float32]] = []
        self.step = 1

    def add(self, values: NDArray[np.float32]) -> None:
        """Take some of a sample's numbers; when there are too many in all, every second of old and future ones goes."""
        flat = values.reshape(-1)
        # An odd stride meets all channels, whose number is even as a rule.
        self.parts.append(flat[:: (flat.size // VALUES_A_SAMPLE) | 1][:: self.step].copy())
        if sum(part.size for part in self.parts) > VALUES_A_TENSOR:
            self.parts = [np.concatenate(self.parts)[::2].copy()]
            self.step *= 2

    def all(self) -> NDArray[np.float32]:
        """Return what was drawn."""
        return np.concatenate(self.parts)


def _extremes(interpreter: Any, tensor: int) -> tuple[float, float]:
    """Return the smallest and largest value of a tensor after a run; 0 and 0 for one without elements or that nothing computes.

    Values that stand for infinity (padding before a maximum) are left out.
    """
    try:
        values = interpreter.get_tensor(tensor)
    except ValueError:  # not allocated: no operator writes it
        return 0.0, 0.0
    if not values.size:
        return 0.0, 0.0
    low, high = float(values.min()), float(values.max())
    if -NO_NUMBER < low <= high < NO_NUMBER or not np.isfinite(low + high):
        return low, high
    numbers = values[np.abs(values) < NO_NUMBER]
    return (float(numbers.min()), float(numbers.max())) if numbers.size else (0.0, 0.0)


Values = NDArray[np.float64]
Function = Callable[[Values], Values]

BINS = 512
LOWER_SHARES = np.linspace(1, 0.05, 39)
UPPER_SHARES = np.linspace(1, 0.2, 33)
"""Candidates, as shares of the smallest and largest value seen."""
MAXIMA = frozenset({Op.MAX_POOL_2D, Op.REDUCE_MAX})
REARRANGED = frozenset({Op.TRANSPOSE, Op.RESHAPE, Op.SQUEEZE, Op.EXPAND_DIMS})
"""Operators that give each number of their input once, in another place; exporters put them between layer and activation."""
MOVING = REARRANGED | {Op.PAD, Op.PADV2, Op.CONCATENATION, Op.PACK, Op.SLICE, Op.STRIDED_SLICE, Op.SPLIT, Op.SPLIT_V, Op.UNPACK}
"""Operators that give numbers of their inputs in another place, with others beside them or fewer."""
SATURATION = 8.0
"""A logistic function is within 0.0004 of its limits beyond this."""


def activation_behind(graph: Graph, tensor: int, consumers: Mapping[int, Sequence[Operator]]) -> Function | None:
    """Return the elementwise function through which alone a tensor is used, directly or after a transposition, or None.

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
        criteria = next(reader for reader in readers if graph.code(reader) == Op.LOGISTIC)
        product = next(reader for reader in readers if graph.code(reader) == Op.MUL)
        return swish if set(product.inputs) == {tensor, *criteria.outputs} else None
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
    """Return 1 / (1 + e^-x)."""
    return 1 / (1 + np.exp(-np.clip(x, -60, 60)))


def swish(x: Values) -> Values:
    """Return x * logistic(x)."""
    return x * logistic(x)


def best_range(values: NDArray[np.float32], lowest: float, highest: float, function: Function) -> tuple[float, float]:
    """Return the range within `lowest`..`highest` (both seen) that leaves the smallest mean square error in `function(values)`.

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
    """Return sums of the terms before each position, and of all of them: (..., N) -> (..., N + 1)."""
    return np.concatenate([np.zeros((*terms.shape[:-1], 1)), np.cumsum(terms, axis=-1)], axis=-1)


def _square_error(weights: Values, wanted: Values, given: Values) -> Values:
    """Return (E, N + 1): the weighted square error of the first n bins where each of E values is given in place of the wanted ones."""
    return _before(weights * (wanted[None] - given[:, None]) ** 2)
