"""What TFLite's operators without sums compute, in numpy: arithmetic, activations, moves and resizing. See `layers` for the form.

Additions, products, quotients and roots are prescribed to the last bit by IEEE 754; of functions such as the exponential only as
many bits are kept as all libraries agree on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edgeannot_tools.graph.graph import Graph, Op, Operator
from edgeannot_tools.graph.layers import Array, Kernel, Maker, activated, option, settled

__all__ = ["ELEMENTWISE"]

FARTHEST = 87.0
"""e to this power still has room in float32."""


def _each(function: Callable[..., Array]) -> Maker:
    """Return the maker of an operator that applies a function to its operands, number by number, and then its own activation."""

    def make(_graph: Graph, operator: Operator) -> Kernel:
        return lambda inputs: [activated(operator, function(*inputs))]

    return make


def _logistic(x: Array) -> Array:
    powers = np.negative(x, dtype=np.float64)
    np.clip(powers, -FARTHEST, FARTHEST, out=powers)
    np.exp(powers, out=powers)
    powers += 1
    return settled(np.reciprocal(powers, out=powers))


def _exp(x: Array) -> Array:
    """Return the exponential with the bits that every library agrees on."""
    mantissa, exponent = np.frexp(np.exp(np.clip(x.astype(np.float64), -FARTHEST, FARTHEST)))
    return np.ldexp(settled(mantissa), exponent)


def _hard_swish(x: Array) -> Array:
    return x * np.clip(x + np.float32(3), 0, 6) * np.float32(1 / 6)


def _elu(x: Array) -> Array:
    return np.where(x < 0, settled(np.expm1(np.minimum(x.astype(np.float64), 0))), x)


def _leaky_relu(_graph: Graph, operator: Operator) -> Kernel:
    slope = np.float32(option(operator, "alpha", 0.0))

    def run(inputs: Sequence[Array]) -> list[Array]:
        x = inputs[0]
        return [np.where(x < 0, x * slope, x)]

    return run


def _softmax(_graph: Graph, operator: Operator) -> Kernel:
    beta = float(option(operator, "beta", 1.0))

    def run(inputs: Sequence[Array]) -> list[Array]:
        x = inputs[0].astype(np.float64) * beta
        powers = _exp(x - x.max(axis=-1, keepdims=True)).astype(np.float64)
        return [settled(powers / powers.sum(axis=-1, keepdims=True))]

    return run


# -- moves ---------------------------------------------------------------------------------------------------------------------------


def _reshape(graph: Graph, operator: Operator) -> Kernel:
    """Return what gives numbers another shape: the one that is stated or computed, else that of the result."""
    shape = graph.shape(operator.outputs[0])
    stated = graph.code(operator) == Op.RESHAPE and len(operator.inputs) > 1 and operator.inputs[1] >= 0

    def run(inputs: Sequence[Array]) -> list[Array]:
        return [inputs[0].reshape([int(n) for n in inputs[1].ravel()] if stated else shape)]

    return run


def _fixed(graph: Graph, operator: Operator, slot: int) -> list[int] | None:
    """Return a constant operand of whole numbers; None where it is computed or absent."""
    if slot >= len(operator.inputs) or operator.inputs[slot] < 0 or not graph.is_constant(operator.inputs[slot]):
        return None
    return [int(n) for n in graph.constant(operator.inputs[slot]).ravel()]


def _transpose(graph: Graph, operator: Operator) -> Kernel | None:
    order = _fixed(graph, operator, 1)
    return None if order is None else lambda inputs: [np.ascontiguousarray(inputs[0].transpose(order))]


def _concatenation(_graph: Graph, operator: Operator) -> Kernel:
    axis = int(option(operator, "axis"))
    return lambda inputs: [activated(operator, np.concatenate(inputs, axis))]


def _pack(_graph: Graph, operator: Operator) -> Kernel:
    axis = int(option(operator, "axis"))
    return lambda inputs: [np.stack(inputs, axis)]


def _unpack(_graph: Graph, operator: Operator) -> Kernel:
    axis = int(option(operator, "axis"))

    def run(inputs: Sequence[Array]) -> list[Array]:
        x = inputs[0]
        return [x.take(number, axis) for number in range(x.shape[axis])]

    return run


def _split(graph: Graph, operator: Operator) -> Kernel | None:
    axis = _fixed(graph, operator, 0)
    count = len(operator.outputs)
    return None if axis is None else lambda inputs: [part.copy() for part in np.split(inputs[1], count, axis[0])]


def _split_v(graph: Graph, operator: Operator) -> Kernel | None:
    sizes, axis = _fixed(graph, operator, 1), _fixed(graph, operator, 2)
    if sizes is None or axis is None or min(sizes) < 0:
        return None
    ends = np.cumsum(sizes)[:-1].tolist()
    return lambda inputs: [part.copy() for part in np.split(inputs[0], ends, axis[0])]


def _slice(graph: Graph, operator: Operator) -> Kernel | None:
    begin, size = _fixed(graph, operator, 1), _fixed(graph, operator, 2)
    if begin is None or size is None:
        return None
    parts = tuple(slice(b, None if s < 0 else b + s) for b, s in zip(begin, size, strict=True))
    return lambda inputs: [inputs[0][parts].copy()]


def _strided_slice(graph: Graph, operator: Operator) -> Kernel | None:
    begin, end, strides = (_fixed(graph, operator, slot) for slot in (1, 2, 3))
    if begin is None or end is None or strides is None or any(option(operator, name) for name in ("ellipsisMask", "newAxisMask", "offset")):
        return None
    parts: list[Any] = []
    for axis, (first, last, stride) in enumerate(zip(begin, end, strides, strict=True)):
        if option(operator, "shrinkAxisMask") >> axis & 1:
            parts.append(first)
        else:
            open_begin, open_end = (option(operator, name) >> axis & 1 for name in ("beginMask", "endMask"))
            parts.append(slice(None if open_begin else first, None if open_end else last, stride))
    return lambda inputs: [np.array(inputs[0][tuple(parts)])]


def _gather(graph: Graph, operator: Operator) -> Kernel | None:
    axis = int(option(operator, "axis"))
    if option(operator, "batchDims") or _fixed(graph, operator, 1) is None:
        return None
    return lambda inputs: [np.take(inputs[0], inputs[1], axis)]


def _pad(graph: Graph, operator: Operator) -> Kernel | None:
    amounts = _fixed(graph, operator, 1)
    if amounts is None:
        return None
    pairs = list(zip(amounts[::2], amounts[1::2], strict=True))

    def run(inputs: Sequence[Array]) -> list[Array]:
        x = inputs[0]
        fill = x.dtype.type(0) if len(inputs) < 3 else inputs[2].ravel()[0]
        return [np.pad(x, pairs, constant_values=fill)]

    return run


def _mirror_pad(graph: Graph, operator: Operator) -> Kernel | None:
    amounts = _fixed(graph, operator, 1)
    if amounts is None:
        return None
    pairs = list(zip(amounts[::2], amounts[1::2], strict=True))
    mode: Any = "symmetric" if option(operator, "mode") else "reflect"
    return lambda inputs: [np.pad(inputs[0], pairs, mode)]


def _space_to_depth(_graph: Graph, operator: Operator) -> Kernel:
    block = int(option(operator, "blockSize", 1))

    def run(inputs: Sequence[Array]) -> list[Array]:
        x = inputs[0]
        n, height, width, depth = x.shape
        parts = x.reshape(n, height // block, block, width // block, block, depth).transpose(0, 1, 3, 2, 4, 5)
        return [parts.reshape(n, height // block, width // block, -1)]

    return run


def _depth_to_space(_graph: Graph, operator: Operator) -> Kernel:
    block = int(option(operator, "blockSize", 1))

    def run(inputs: Sequence[Array]) -> list[Array]:
        x = inputs[0]
        n, height, width, depth = x.shape
        parts = x.reshape(n, height, width, block, block, depth // block**2).transpose(0, 1, 3, 2, 4, 5)
        return [parts.reshape(n, height * block, width * block, -1)]

    return run


# -- resizing ------------------------------------------------------------------------------------------------------------------------


def _places(old: int, new: int, operator: Operator) -> Array:
    """Return where in the old rows each new one lies, in float32 as the kernels compute it."""
    align, half = option(operator, "alignCorners", False), option(operator, "halfPixelCenters", False)
    scale = np.float32(old - 1) / np.float32(new - 1) if align and new > 1 else np.float32(old) / np.float32(new)
    rows = np.arange(new, dtype=np.float32)
    places: Array = (rows + np.float32(0.5)) * scale - np.float32(0.5) if half else rows * scale
    return places


def _resize_bilinear(graph: Graph, operator: Operator) -> Kernel | None:
    size = _fixed(graph, operator, 1)

    def along(x: Array, axis: int, new: int) -> Array:
        places = _places(x.shape[axis], new, operator)
        lower = np.maximum(np.floor(places), 0).astype(int)
        upper = np.minimum(np.ceil(places), x.shape[axis] - 1).astype(int)
        shape = [1] * x.ndim
        shape[axis] = -1
        part = (places - lower.astype(np.float32)).reshape(shape)
        mixed: Array = x.take(lower, axis) * (np.float32(1) - part) + x.take(np.maximum(upper, 0), axis) * part
        return mixed

    return None if size is None else lambda inputs: [along(along(inputs[0], 1, size[0]), 2, size[1])]


def _resize_nearest(graph: Graph, operator: Operator) -> Kernel | None:
    found = _fixed(graph, operator, 1)
    if found is None:
        return None
    size = found
    align, half = option(operator, "alignCorners", False), option(operator, "halfPixelCenters", False)

    def rows(old: int, new: int) -> Array:
        scale = np.float32(old - 1) / np.float32(new - 1) if align and new > 1 else np.float32(old) / np.float32(new)
        places = (np.arange(new, dtype=np.float32) + np.float32(0.5 if half else 0)) * scale
        whole: Array = np.floor(places + np.float32(0.5)) if align else np.floor(places)
        clipped: Array = np.clip(whole.astype(int), 0, old - 1)
        return clipped

    def run(inputs: Sequence[Array]) -> list[Array]:
        x = inputs[0]
        return [x.take(rows(x.shape[1], size[0]), 1).take(rows(x.shape[2], size[1]), 2)]

    return run


ELEMENTWISE: dict[int, Maker] = {
    Op.ADD: _each(np.add),
    Op.SUB: _each(np.subtract),
    Op.MUL: _each(np.multiply),
    Op.DIV: _each(np.divide),
    Op.MAXIMUM: _each(np.maximum),
    Op.MINIMUM: _each(np.minimum),
    Op.SQUARED_DIFFERENCE: _each(lambda a, b: (a - b) * (a - b)),
    Op.SQUARE: _each(lambda x: x * x),
    Op.NEG: _each(np.negative),
    Op.ABS: _each(np.abs),
    Op.SQRT: _each(np.sqrt),
    Op.EXP: _each(_exp),
    Op.RELU: _each(lambda x: np.maximum(x, 0)),
    Op.RELU6: _each(lambda x: np.clip(x, 0, 6)),
    Op.RELU_N1_TO_1: _each(lambda x: np.clip(x, -1, 1)),
    Op.PRELU: _each(lambda x, slopes: np.where(x < 0, x * slopes, x)),
    Op.LEAKY_RELU: _leaky_relu,
    Op.HARD_SWISH: _each(_hard_swish),
    Op.ELU: _each(_elu),
    Op.LOGISTIC: _each(_logistic),
    Op.TANH: _each(lambda x: settled(np.tanh(x.astype(np.float64)))),
    Op.SOFTMAX: _softmax,
    Op.RESHAPE: _reshape,
    Op.SQUEEZE: _reshape,
    Op.EXPAND_DIMS: _reshape,
    Op.TRANSPOSE: _transpose,
    Op.CONCATENATION: _concatenation,
    Op.PACK: _pack,
    Op.UNPACK: _unpack,
    Op.SPLIT: _split,
    Op.SPLIT_V: _split_v,
    Op.SLICE: _slice,
    Op.STRIDED_SLICE: _strided_slice,
    Op.GATHER: _gather,
    Op.PAD: _pad,
    Op.PADV2: _pad,
    Op.MIRROR_PAD: _mirror_pad,
    Op.SPACE_TO_DEPTH: _space_to_depth,
    Op.DEPTH_TO_SPACE: _depth_to_space,
    Op.RESIZE_BILINEAR: _resize_bilinear,
    Op.RESIZE_NEAREST_NEIGHBOR: _resize_nearest,
}
