"""Rounds a network's weights so that its layers' results change least, instead of each weight to the nearest step.

What rounding one weight loses, others of the same output can make good: of all weights in steps of s, those are wanted that minimise
(w - s q) H (w - s q)', where H holds the second moments of what the layer reads in the float network. Columns are rounded one after
the other, the strongest input first, and what each loses is carried to those that follow. This is GPTQ (Frantar et al.,
https://arxiv.org/abs/2210.17323), here in its equal form as Babai's nearest plane, which needs one factorisation and no inverse.
Then each weight is tried anew with the others fixed. What rounding changes in a layer's mean goes into the bias.

All is computed in float64 at fixed places of the samples, from numbers that every processor makes the same (`graph.layers`), so
that millions of decisions come out the same everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeannot_tools.graph.blas import one_thread
from edgeannot_tools.graph.edits import multiply_accumulates
from edgeannot_tools.graph.graph import Graph, Op, Operator
from edgeannot_tools.graph.interpreter import Runtime
from edgeannot_tools.graph.layers import Array, Window, whole_bits
from edgeannot_tools.graph.reference_run import foreign_kinds, largest_state, run_layers

__all__ = ["WEIGHT_LIMIT", "Refiner", "Rounded", "round_rows", "second_moments"]

WEIGHT_LIMIT = 127
"""Weights use -127..127, so that their zero point is 0 and products of two of them fit the kernels' 16-bit sums."""
PLACES = 300
"""Of a layer's result that are looked at in each sample."""
FEWER_PLACES = 100
"""Where an output has only the few weights of one channel."""
MOST_SAMPLES = 24
MOST_STATE = 400_000_000
"""Bytes of maps that a run may hold; large networks are run over fewer samples."""
MOST_WORK = 40e9
"""Multiply-accumulates of a run over all samples: some 20 seconds on one core of 2020."""
DAMPING = 0.01
"""Of the mean of H's diagonal, added to it: the samples do not show everything."""
PASSES = 3
LARGEST_FOR_PASSES = 1000
"""Weights an output; with more, trying each anew takes longer than it is worth."""
WIDEST = 2304
"""Weights an output that are rounded together; wider rows are taken in parts, to save time and memory."""
BLOCK = 64
"""Columns whose losses are carried on together."""
ROWS = 1024
"""Rows of inputs that are summed at a time."""
CHANNELS = 64
"""Channels of a depthwise layer that are looked at together."""
WEYL = 2654435769, 1640531527
"""2^32 / golden ratio, and an odd number unlike it: multiples of these, modulo 2^32, are spread evenly."""
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rounded:
    """One layer's weights as integers, in their shape in the file, and what its bias gets added, (outputs,) in real numbers."""

    stored: NDArray[np.int8]
    shift: Floats


class Refiner:
    """Rounds the weights of one prepared float graph, whose layers it looks at once for each set of scales."""

    def __init__(self, graph: Graph, samples: Sequence[Sequence[Array]], runtime: Runtime | None = None) -> None:
        """samples: what the graph was calibrated with; as many are used as `MOST_WORK` and `MOST_STATE` allow, evenly chosen."""
        self.graph, self.runtime = graph, runtime
        most = min(MOST_SAMPLES, MOST_STATE // max(largest_state(graph), 1), int(MOST_WORK // max(multiply_accumulates(graph), 1)))
        count = max(1, min(len(samples), most))
        self.samples = [samples[i * len(samples) // count] for i in range(count)] if samples else []
        self.known: dict[int, tuple[Floats, Rounded]] = {}

    def round(self, scales: Mapping[int, Floats]) -> dict[int, Rounded]:
        """Return the weights of the layers at these positions; scales: one step an output, or one for all, in real numbers."""
        missing = {p for p in scales if not self._knows(p, scales[p]) and _is_layer(self.graph, self.graph.operators[p])}
        if missing and self.samples:
            with one_thread():
                for step in run_layers(self.graph, self.samples, self.runtime, max(missing)):
                    if step.position in missing:
                        layer = _layer(self.graph, step.operator)
                        rounded = layer.rounded(step.values[layer.data], scales[step.position])
                        self.known[step.position] = scales[step.position], rounded
        return {p: self.known[p][1] for p in scales if self._knows(p, scales[p])}

    def _knows(self, position: int, scale: Floats) -> bool:
        return position in self.known and np.array_equal(self.known[position][0], scale)

    def foreign(self) -> tuple[str, ...]:
        """Return the kinds of operators before the last weights whose numbers come from the installed runtime."""
        last = max((p for p, o in enumerate(self.graph.operators) if _is_layer(self.graph, o)), default=-1)
        return foreign_kinds(self.graph, last)


@dataclass(frozen=True, slots=True)
class _Layer:
    """A layer as one or more products of a matrix of weights (rows, K) with what it reads (K)."""

    operator: Operator
    data: int
    """The tensor it reads."""
    weights: Floats
    has_bias: bool

    def rounded(self, maps: Sequence[Array], scale: Floats) -> Rounded:
        """Return the rounded weights, given what the layer reads in each sample."""
        raise NotImplementedError

    def _solve(self, rows: Array, weights: Floats, scale: Floats) -> tuple[Floats, Floats]:
        """Return integers (G, R, K) and how each output's mean changes (G, R, 1), of rows (G, N, K), weights (G, R, K) and scale (G, R)."""
        parts = []
        for columns in np.array_split(np.arange(weights.shape[2]), -(-weights.shape[2] // WIDEST)):
            part = slice(columns[0], columns[-1] + 1)
            products, mean = second_moments(rows[..., part])
            if self.has_bias:  # which takes the mean, so that only what varies counts
                products -= mean[:, :, None] * mean[:, None]
            steps = round_rows(weights[..., part], scale, products)
            parts.append((steps, (weights[..., part] - steps * scale[:, :, None]) @ mean[:, :, None]))
        return np.concatenate([steps for steps, _ in parts], axis=2), sum((change for _, change in parts), np.zeros(1))


class _Convolution(_Layer):
    def rounded(self, maps: Sequence[Array], scale: Floats) -> Rounded:
        outputs, height, width, depth = self.weights.shape
        groups = maps[0].shape[3] // depth
        each = outputs // groups
        stored, shift = np.empty((groups, each, height * width * depth)), np.empty((groups, each))
        for group in range(groups):
            channels = slice(group * depth, (group + 1) * depth)
            rows = np.concatenate([p.reshape(len(p), -1) for p in _patches(self.operator, maps, (height, width), channels)])
            part = slice(group * each, (group + 1) * each)
            weights = self.weights[part].reshape(1, each, -1)
            stored[group], found = (a[0] for a in self._solve(rows[None], weights, scale[part][None]))
            shift[group] = found[:, 0]
        return _finished(self, stored.reshape(self.weights.shape), shift.ravel())


class _Depthwise(_Layer):
    def rounded(self, maps: Sequence[Array], scale: Floats) -> Rounded:
        _, height, width, outputs = self.weights.shape
        channels = maps[0].shape[3]
        many, taps = outputs // channels, height * width
        matrices = self.weights.reshape(taps, channels, many).transpose(1, 2, 0)
        steps = scale.reshape(channels, many)
        stored, shift = np.empty_like(matrices), np.empty((channels, many))
        for first in range(0, channels, CHANNELS):
            part = slice(first, min(first + CHANNELS, channels))
            read = [
                p.reshape(len(p), taps, -1).transpose(2, 0, 1) for p in _patches(self.operator, maps, (height, width), part, FEWER_PLACES)
            ]
            stored[part], found = self._solve(np.concatenate(read, axis=1), matrices[part], steps[part])
            shift[part] = found[:, :, 0]
        return _finished(self, stored.transpose(2, 0, 1).reshape(self.weights.shape), shift.ravel())


class _Dense(_Layer):
    def rounded(self, maps: Sequence[Array], scale: Floats) -> Rounded:
        outputs, depth = self.weights.shape
        rows = np.concatenate([some[_places(len(some), number)] for number, some in enumerate(m.reshape(-1, depth) for m in maps)])
        stored, shift = self._solve(rows[None], self.weights[None], np.broadcast_to(scale, (1, outputs)))
        return _finished(self, stored[0], shift.ravel())


class _TransposeConvolution(_Layer):
    """Each place of its kernel is a product of its own with the same inputs; the mean differs between places, so the bias stays."""

    def rounded(self, maps: Sequence[Array], scale: Floats) -> Rounded:
        outputs, height, width, depth = self.weights.shape
        rows = np.concatenate([some[_places(len(some), number)] for number, some in enumerate(m.reshape(-1, depth) for m in maps)])
        products, _ = second_moments(rows[None])
        steps = np.repeat(np.broadcast_to(scale, (outputs,)), height * width)[None]
        stored = round_rows(self.weights.reshape(1, -1, depth), steps, products)
        return _finished(self, stored.reshape(self.weights.shape), np.zeros(outputs))


KINDS: dict[int, tuple[type[_Layer], int, int]] = {
    Op.CONV_2D: (_Convolution, 0, 2),
    Op.DEPTHWISE_CONV_2D: (_Depthwise, 0, 2),
    Op.FULLY_CONNECTED: (_Dense, 0, 2),
    Op.TRANSPOSE_CONV: (_TransposeConvolution, 2, 3),
}
"""How each operator that can be rounded works, and which of its inputs are what it reads and its bias; the weights are number 1."""


def _is_layer(graph: Graph, operator: Operator) -> bool:
    """Tell whether an operator has weights that can be rounded together."""
    kind = KINDS.get(graph.code(operator))
    return kind is not None and graph.is_constant(operator.inputs[1]) and not graph.is_constant(operator.inputs[kind[1]])


def _layer(graph: Graph, operator: Operator) -> _Layer:
    make, data, bias = KINDS[graph.code(operator)]
    has_bias = bias < len(operator.inputs) and operator.inputs[bias] >= 0
    return make(operator, operator.inputs[data], graph.constant(operator.inputs[1]).astype(np.float64), has_bias)


def _finished(layer: _Layer, stored: Floats, shift: Floats) -> Rounded:
    return Rounded(stored.astype(np.int8), shift if layer.has_bias else np.zeros_like(shift))


def _places(total: int, sample: int, most: int = PLACES) -> NDArray[np.int64]:
    """Return up to `most` of `total` places, spread evenly, others in each sample."""
    if total <= most:
        return np.arange(total)
    spread = (np.arange(1, most + 1, dtype=np.uint64) * WEYL[0] + sample * WEYL[1]) % 2**32
    return (spread * np.uint64(total) >> np.uint64(32)).astype(np.int64)


def _patches(operator: Operator, maps: Sequence[Array], kernel: tuple[int, int], channels: slice, most: int = PLACES) -> Iterator[Array]:
    """Yield what a convolution reads at some places of each sample: (places, kernel rows, kernel columns, channels) float32."""
    for number, values in enumerate(maps):
        window = Window.of(operator, values.shape, kernel)
        patches = window.patches(window.padded(values[..., channels]))
        places = _places(len(values) * window.size[0] * window.size[1], number, most)
        yield patches[np.unravel_index(places, (len(values), *window.size))]


def second_moments(rows: Array) -> tuple[Floats, Floats]:
    """Return the mean of x'x, (G, K, K), and of x, (G, K), over rows (G, N, K) float32; exact for rows rounded to some 19 bits."""
    groups, count, width = rows.shape
    products, sums, steps = np.empty((groups, width, width)), np.zeros((groups, width)), np.empty((groups, width))
    bits = whole_bits(count)
    for number, group in enumerate(rows):  # one at a time, so that what is made on the way stays in the processor's cache
        top = np.maximum(group.max(axis=0, initial=0.0), -group.min(axis=0, initial=0.0))
        step = np.ldexp(1.0, np.frexp(top)[1] - bits)
        whole = np.zeros((width, width))
        for first in range(0, count, ROWS):
            part = np.rint(group[first : first + ROWS] / step)
            whole += part.T @ part
            sums[number] += part.sum(axis=0)
        products[number], steps[number] = whole * step[:, None] * (step / count), step
    return products, sums * steps / count


def round_rows(weights: Floats, scale: Floats, moments: Floats) -> Floats:
    """Return integers q within -127..127 that make (w - s q) H (w - s q)' small for each row w.

    weights: (G, R, K), of which each group has second moments H of its own: moments (G, K, K). scale: (G, R), the rows' steps s.
    """
    diagonal = np.einsum("gkk->gk", moments)
    mean = diagonal.mean(axis=1)
    damped = moments.copy()
    np.einsum("gkk->gk", damped)[:] += np.where(mean > 0, DAMPING * mean, 1.0)[:, None]
    steps = _nearest_plane(weights, scale[:, :, None], damped)
    if weights.shape[2] <= LARGEST_FOR_PASSES:
        for _ in range(PASSES):
            if not _try_each(steps, weights, scale, damped):
                break
    return steps


def _to_steps(values: Floats) -> Floats:
    return np.clip(np.rint(values), -WEIGHT_LIMIT, WEIGHT_LIMIT)


def _nearest_plane(weights: Floats, scale: Floats, moments: Floats) -> Floats:
    """Round the columns one after the other, the strongest input first.

    With H = R R' and R upper triangular, the loss is |(w - s q) R|^2, and column j meets the losses of those before it as
    sum(loss_i R_ij) / R_jj: this is what it can make good.
    """
    order = np.argsort(-np.einsum("gkk->gk", moments), axis=1, kind="stable")
    sorted_moments = np.take_along_axis(np.take_along_axis(moments, order[:, :, None], 1), order[:, None], 2)
    upper = np.linalg.cholesky(sorted_moments[:, ::-1, ::-1])[:, ::-1, ::-1]
    wanted = np.take_along_axis(weights, order[:, None], 2)
    steps, lost, carried = np.empty_like(wanted), np.empty_like(wanted), np.zeros_like(wanted)
    width = wanted.shape[2]
    for first in range(0, width, BLOCK):
        end = min(first + BLOCK, width)
        for j in range(first, end):
            target = wanted[:, :, j] + carried[:, :, j] / upper[:, None, j, j]
            steps[:, :, j] = _to_steps(target / scale[:, :, 0])
            lost[:, :, j] = wanted[:, :, j] - steps[:, :, j] * scale[:, :, 0]
            carried[:, :, j + 1 : end] += lost[:, :, j, None] * upper[:, None, j, j + 1 : end]
        carried[:, :, end:] += lost[:, :, first:end] @ upper[:, first:end, end:]
    found = np.empty_like(steps)
    np.put_along_axis(found, np.broadcast_to(order[:, None], found.shape), steps, 2)
    return found


def _try_each(steps: Floats, weights: Floats, scale: Floats, moments: Floats) -> bool:
    """Set each weight in turn to its best step while the others stay, in place; tell whether any moved."""
    slope = (weights - steps * scale[:, :, None]) @ moments
    moved_any = False
    for j in range(weights.shape[2]):
        best = _to_steps(steps[:, :, j] + slope[:, :, j] / (moments[:, None, j, j] * scale))
        group, row = np.nonzero(best != steps[:, :, j])
        if group.size:
            change = (best - steps[:, :, j])[group, row] * scale[group, row]
            slope[group, row] -= change[:, None] * moments[group, j]
            steps[:, :, j] = best
            moved_any = True
    return moved_any
