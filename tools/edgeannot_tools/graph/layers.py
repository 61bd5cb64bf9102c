"""What TFLite's operators with sums compute, in numpy, with the same result on every processor.

A sum of floats depends on the order in which a library adds, and that on the processor. So the factors are rounded to whole steps
of a power of two first, few enough that every product and every sum is a whole number below 2^53: then any order gives the same
result. With 19 to 23 bits a factor, this is nearer to the true sum than float32 arithmetic, where channels are about as strong; of a
channel a thousand times weaker than the strongest, 60 dB are left.

A maker takes the graph and an operator and returns what computes it: arrays in (an empty one for an absent operand), arrays out. It
returns None for a form that is not known here. Semantics: https://ai.google.dev/edge/litert/models/ops_compatibility, and the kernels,
tensorflow/lite/kernels/internal/reference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeannot_tools.graph.graph import Graph, Op, Operator, schema

__all__ = ["LAYERS", "Array", "Kernel", "Maker", "Window", "activated", "in_steps", "option", "settled", "whole_bits"]

Array = NDArray[Any]
Kernel = Callable[[Sequence[Array]], list[Array]]
Maker = Callable[[Graph, Operator], Kernel | None]

EXACT_BITS = 52
"""Whole numbers of so many bits have room in float64, with a sign and one to spare."""
SETTLED_BITS = 18
"""What is kept of a function within -1..1 whose last bits differ from one library to the next."""
BLOCK_NUMBERS = 1 << 19
"""Of a convolution's patches at a time: 4 MB."""
Fused = schema.ActivationFunctionType


def option(operator: Operator, name: str, default: Any = 0) -> Any:
    """Return an operator's option; an absent table stands for defaults."""
    return default if operator.builtinOptions is None else getattr(operator.builtinOptions, name, default)


def whole_bits(terms: int) -> int:
    """Return how many bits each of two factors may have so that the sum of so many products is exact."""
    return (EXACT_BITS - max(terms - 1, 1).bit_length()) // 2


def in_steps(values: Array, bits: int, axes: tuple[int, ...] | None = None) -> tuple[NDArray[np.float64], Any]:
    """Return whole numbers up to 2^bits and the power of two that is their step, one for all or one along the axes that are not given."""
    sizes = np.abs(values)
    top = sizes.max(initial=0.0) if axes is None else sizes.max(axis=axes, keepdims=True, initial=0.0)
    step = np.ldexp(1.0, np.frexp(top)[1] - bits)
    return np.rint(np.asarray(values, np.float64) / step), step


def settled(values: NDArray[np.float64]) -> Array:
    """Return results within -1..1 with as many bits as every library agrees on, as float32. Writes over the given ones."""
    values *= 2.0**SETTLED_BITS
    np.rint(values, out=values)
    values *= 2.0**-SETTLED_BITS
    return values.astype(np.float32)


def activated(operator: Operator, values: Array) -> Array:
    """Return the result after the activation that is part of the operator; no float64."""
    kind = option(operator, "fusedActivationFunction")
    if kind == Fused.RELU:
        values = np.maximum(values, 0)
    elif kind == Fused.RELU6:
        values = np.clip(values, 0, 6)
    elif kind == Fused.RELU_N1_TO_1:
        values = np.clip(values, -1, 1)
    elif kind == Fused.TANH:
        values = settled(np.tanh(np.asarray(values, np.float64)))
    return np.asarray(values, np.float32) if values.dtype == np.float64 else values


@dataclass(frozen=True, slots=True)
class Window:
    """Where a kernel that slides over a map (N, H, W, C) reads: all pairs are (rows, columns)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    before: tuple[int, int]
    """Padding above and at the left."""
    size: tuple[int, int]
    """Of the result."""

    @classmethod
    def of(cls, operator: Operator, shape: Sequence[int], kernel: tuple[int, int]) -> Window:
        """Return the window of a convolution or pool over an input of this shape."""
        stride = (int(option(operator, "strideH", 1)), int(option(operator, "strideW", 1)))
        dilation = (max(1, int(option(operator, "dilationHFactor", 1))), max(1, int(option(operator, "dilationWFactor", 1))))
        same = option(operator, "padding") == schema.Padding.SAME
        before, size = [], []
        for length, taps, step, spread in zip(shape[1:3], kernel, stride, dilation, strict=True):
            reach = (taps - 1) * spread + 1
            out = -(-length // step) if same else (length - reach) // step + 1
            size.append(out)
            before.append(max((out - 1) * step + reach - length, 0) // 2 if same else 0)
        return cls(kernel, stride, dilation, (before[0], before[1]), (size[0], size[1]))

    def padded(self, values: Array, fill: float = 0.0) -> Array:
        """Return the map with all that the window reads outside of it."""
        amounts = [(0, 0)]
        for axis in range(2):
            reach = (self.size[axis] - 1) * self.stride[axis] + (self.kernel[axis] - 1) * self.dilation[axis] + 1
            amounts.append((self.before[axis], max(reach - self.before[axis] - values.shape[axis + 1], 0)))
        amounts.append((0, 0))
        return np.pad(values, amounts, constant_values=fill) if any(map(any, amounts)) else values

    def tap(self, padded: Array, row: int, column: int) -> Array:
        """Return what one place of the kernel reads: (N, rows, columns, C), a view."""
        parts = []
        for axis, place in enumerate((row, column)):
            first = place * self.dilation[axis]
            parts.append(slice(first, first + (self.size[axis] - 1) * self.stride[axis] + 1, self.stride[axis]))
        return padded[:, parts[0], parts[1]]

    def patches(self, padded: Array) -> Array:
        """Return all that the kernel reads: (N, rows, columns, kernel rows, kernel columns, C), a view."""
        n, rows, columns, channels = padded.strides
        shape = (padded.shape[0], *self.size, *self.kernel, padded.shape[3])
        strides = (n, rows * self.stride[0], columns * self.stride[1], rows * self.dilation[0], columns * self.dilation[1], channels)
        return np.lib.stride_tricks.as_strided(padded, shape, strides, writeable=False)


def _constant(graph: Graph, operator: Operator, slot: int) -> Array | None:
    """Return a constant operand in float64; None where there is none."""
    if slot >= len(operator.inputs) or operator.inputs[slot] < 0 or not graph.is_constant(operator.inputs[slot]):
        return None
    return graph.constant(operator.inputs[slot]).astype(np.float64)


def _is_computed(graph: Graph, operator: Operator, slot: int) -> bool:
    return slot < len(operator.inputs) and operator.inputs[slot] >= 0 and not graph.is_constant(operator.inputs[slot])


def _convolution(graph: Graph, operator: Operator) -> Kernel | None:
    weights, bias = _constant(graph, operator, 1), _constant(graph, operator, 2)
    if weights is None or _is_computed(graph, operator, 2):
        return None
    out, rows, columns, depth = weights.shape
    bits = whole_bits(rows * columns * depth)
    numbers, steps = in_steps(weights, bits, (1, 2, 3))
    steps = steps.reshape(-1)

    def run(inputs: Sequence[Array]) -> list[Array]:
        values = inputs[0]
        groups = values.shape[3] // depth
        matrices = numbers.reshape(groups, out // groups, -1).transpose(0, 2, 1)
        window = Window.of(operator, values.shape, (rows, columns))
        whole, step = in_steps(values, bits)
        patches = window.patches(window.padded(whole))
        made = np.empty((values.shape[0], *window.size, out), np.float32)
        block = max(1, BLOCK_NUMBERS // max(1, patches[0, 0].size))
        for sample in range(values.shape[0]):
            for first in range(0, window.size[0], block):
                part = patches[sample, first : first + block]
                sums = np.empty((*part.shape[:2], out))
                for group, matrix in enumerate(matrices):
                    read = part[..., group * depth : (group + 1) * depth].reshape(-1, matrix.shape[0])
                    sums[..., group * matrix.shape[1] : (group + 1) * matrix.shape[1]] = (read @ matrix).reshape(*part.shape[:2], -1)
                sums *= steps * step
                made[sample, first : first + block] = activated(operator, sums if bias is None else sums + bias)
        return [made]

    return run


def _depthwise(graph: Graph, operator: Operator) -> Kernel | None:
    weights, bias = _constant(graph, operator, 1), _constant(graph, operator, 2)
    if weights is None or _is_computed(graph, operator, 2):
        return None
    taps = weights[0].astype(np.float32)

    def run(inputs: Sequence[Array]) -> list[Array]:
        values = inputs[0]
        many = taps.shape[2] // values.shape[3]
        window = Window.of(operator, values.shape, (taps.shape[0], taps.shape[1]))
        padded = window.padded(values.repeat(many, axis=3) if many > 1 else values)
        sums = np.zeros((values.shape[0], *window.size, taps.shape[2]), np.float32)
        product = np.empty_like(sums)
        for row, column in np.ndindex(*window.kernel):
            np.multiply(window.tap(padded, row, column), taps[row, column], out=product)
            sums += product
        return [activated(operator, sums if bias is None else sums + bias.astype(np.float32))]

    return run


def _transpose_convolution(graph: Graph, operator: Operator) -> Kernel | None:
    shape, weights, bias = (_constant(graph, operator, slot) for slot in (0, 1, 3))
    if shape is None or weights is None or _is_computed(graph, operator, 3):
        return None
    out, rows, columns, depth = weights.shape
    size = (int(shape[1]), int(shape[2]))
    stride = (int(option(operator, "strideH", 1)), int(option(operator, "strideW", 1)))
    bits = whole_bits(rows * columns * depth)
    numbers, steps = in_steps(weights, bits, (1, 2, 3))

    def run(inputs: Sequence[Array]) -> list[Array]:
        values = inputs[2]
        whole, step = in_steps(values, bits)
        n, height, width, _ = values.shape
        reach = ((height - 1) * stride[0] + rows, (width - 1) * stride[1] + columns)
        same = option(operator, "padding") == schema.Padding.SAME
        top, left = (max(r - s, 0) // 2 if same else 0 for r, s in zip(reach, size, strict=True))
        sums = np.zeros((n, max(reach[0], top + size[0]), max(reach[1], left + size[1]), out))
        for row, column in np.ndindex(rows, columns):
            ends = (row + (height - 1) * stride[0] + 1, column + (width - 1) * stride[1] + 1)
            sums[:, row : ends[0] : stride[0], column : ends[1] : stride[1]] += whole @ numbers[:, row, column].T
        sums = sums[:, top : top + size[0], left : left + size[1]] * (steps.reshape(-1) * step)
        return [activated(operator, sums if bias is None else sums + bias)]

    return run


def _fully_connected(graph: Graph, operator: Operator) -> Kernel | None:
    weights, bias = _constant(graph, operator, 1), _constant(graph, operator, 2)
    if weights is None or _is_computed(graph, operator, 2) or option(operator, "weightsFormat"):
        return None
    bits = whole_bits(weights.shape[1])
    numbers, steps = in_steps(weights, bits, (1,))

    def run(inputs: Sequence[Array]) -> list[Array]:
        values = inputs[0]
        whole, step = in_steps(values.reshape(-1, weights.shape[1]), bits)
        sums = whole @ numbers.T * (steps.reshape(-1) * step)
        made = activated(operator, sums if bias is None else sums + bias)
        return [made.reshape(*values.shape[:-1], -1) if option(operator, "keepNumDims", False) else made]

    return run


def _batch_matmul(graph: Graph, operator: Operator) -> Kernel | None:
    def run(inputs: Sequence[Array]) -> list[Array]:
        left, right = inputs
        left = left.swapaxes(-1, -2) if option(operator, "adjX", False) else left
        right = right.swapaxes(-1, -2) if option(operator, "adjY", False) else right
        bits = whole_bits(left.shape[-1])
        (a, first), (b, second) = in_steps(left, bits), in_steps(right, bits)
        return [np.asarray(a @ b * (first * second), np.float32)]

    return run if graph.shape(operator.outputs[0]) else None


def _max_pool(_graph: Graph, operator: Operator) -> Kernel | None:
    def run(inputs: Sequence[Array]) -> list[Array]:
        values = inputs[0]
        window = _pool(operator, values)
        padded = window.padded(values, -math.inf)
        found = np.full((values.shape[0], *window.size, values.shape[3]), -math.inf, np.float32)
        for row, column in np.ndindex(*window.kernel):
            np.maximum(found, window.tap(padded, row, column), out=found)
        return [activated(operator, found)]

    return run


def _average_pool(_graph: Graph, operator: Operator) -> Kernel | None:
    def run(inputs: Sequence[Array]) -> list[Array]:
        values = inputs[0]
        window = _pool(operator, values)
        padded, inside = window.padded(values), window.padded(np.ones((1, *values.shape[1:3], 1), np.float32))
        sums = np.zeros((values.shape[0], *window.size, values.shape[3]), np.float32)
        count = np.zeros((1, *window.size, 1), np.float32)
        for row, column in np.ndindex(*window.kernel):
            sums += window.tap(padded, row, column)
            count += window.tap(inside, row, column)
        return [activated(operator, sums / count)]

    return run


def _pool(operator: Operator, values: Array) -> Window:
    return Window.of(operator, values.shape, (int(option(operator, "filterHeight", 1)), int(option(operator, "filterWidth", 1))))


def _reduced(kind: str) -> Maker:
    """Return the maker of a reduction over axes that a constant names."""

    def make(graph: Graph, operator: Operator) -> Kernel | None:
        named = _constant(graph, operator, 1)
        if named is None:
            return None
        axes = tuple({int(a) for a in named.ravel()})

        def run(inputs: Sequence[Array]) -> list[Array]:
            values = inputs[0]
            keep = bool(option(operator, "keepDims", False))
            if kind in ("max", "min"):
                return [np.asarray(getattr(values, kind)(axis=axes, keepdims=keep))]
            terms = math.prod(values.shape[a] for a in axes)
            whole, step = in_steps(values, EXACT_BITS - max(terms, 1).bit_length())
            sums = (whole.sum(axis=axes, keepdims=True) if keep else whole.sum(axis=axes)) * step
            return [np.asarray(sums / terms if kind == "mean" else sums, np.float32)]

        return run

    return make


LAYERS: dict[int, Maker] = {
    Op.CONV_2D: _convolution,
    Op.DEPTHWISE_CONV_2D: _depthwise,
    Op.TRANSPOSE_CONV: _transpose_convolution,
    Op.FULLY_CONNECTED: _fully_connected,
    Op.BATCH_MATMUL: _batch_matmul,
    Op.MAX_POOL_2D: _max_pool,
    Op.AVERAGE_POOL_2D: _average_pool,
    Op.MEAN: _reduced("mean"),
    Op.SUM: _reduced("sum"),
    Op.REDUCE_MAX: _reduced("max"),
    Op.REDUCE_MIN: _reduced("min"),
}
