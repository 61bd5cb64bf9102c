"""Works out the parts of a TensorFlow graph that depend on no picture: shapes and the constants that are made of them.

Operators are those of TensorFlow's raw operations, https://www.tensorflow.org/api_docs/python/tf/raw_ops
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeannot_tools.convert.tfjs.files import Node

__all__ = ["MAX_NUMBERS", "computed", "has_rule", "strided_bounds"]

MAX_NUMBERS = 1 << 28
"""Of one tensor; four times a picture of 8192 x 8192 pixels."""
Array = NDArray[Any]


def has_rule(op: str) -> bool:
    """Tell whether constants of this operator are worked out."""
    return op in RULES


def computed(node: Node, inputs: Sequence[Array]) -> list[Array]:
    """Return what an operator gives for constants. Raises ValueError, IndexError or TypeError for inputs that do not fit it."""
    found = RULES[node.op](node, inputs)
    return [np.asarray(array) for array in (found if isinstance(found, list) else [found])]


def strided_bounds(node: Node, shape: Sequence[int], begin: Array, end: Array, strides: Array) -> tuple[list[slice], list[int]]:
    """Return the slice of each axis that a StridedSlice takes, and the axes that it drops. Raises ValueError for rarer masks."""
    if node.integer("ellipsis_mask") or node.integer("new_axis_mask"):
        raise ValueError("a slice with an ellipsis or a new axis is not known here")
    masks = {name: node.integer(f"{name}_mask") for name in ("begin", "end", "shrink_axis")}
    slices, dropped = [], []
    for axis, length in enumerate(shape):
        if axis >= begin.size:
            slices.append(slice(0, length, 1))
            continue
        first, last, step = int(begin.ravel()[axis]), int(end.ravel()[axis]), int(strides.ravel()[axis])
        if masks["shrink_axis"] >> axis & 1:
            first += length if first < 0 else 0
            slices.append(slice(first, first + 1, 1))
            dropped.append(axis)
        else:
            wanted = slice(None if masks["begin"] >> axis & 1 else first, None if masks["end"] >> axis & 1 else last, step)
            start, stop, step = wanted.indices(length)
            slices.append(slice(start, None if stop < 0 else stop, step))
    return slices, dropped


def _bounded(shape: Iterable[int]) -> tuple[int, ...]:
    """Return a shape that fits into memory. Raises ValueError."""
    sizes = tuple(int(size) for size in shape)
    if any(size < 0 for size in sizes) or prod(sizes) > MAX_NUMBERS:
        raise ValueError(f"wanted a shape of at most {MAX_NUMBERS} numbers, found {sizes}")
    return sizes


def _axis(node: Node, name: str = "axis") -> int:
    return node.integer(name)


def _cast(node: Node, inputs: Sequence[Array]) -> Array:
    types = {1: np.float32, 3: np.int32, 9: np.int64, 10: np.bool_}
    return inputs[0].astype(types.get(node.data_type("DstT"), np.float32))


def _divide(_: Node, inputs: Sequence[Array]) -> Array:
    a, b = inputs
    whole = a.dtype.kind in "iu" and b.dtype.kind in "iu"
    return np.trunc(a / b).astype(a.dtype) if whole else a / b


def _sparse_to_dense(_: Node, inputs: Sequence[Array]) -> Array:
    places, sizes, values, default = inputs
    dense = np.full(_bounded(sizes.ravel()), default.ravel()[0] if default.size else 0, values.dtype)
    dense[tuple(places.reshape(-1, dense.ndim).astype(np.int64).T)] = values
    return dense


def _strided_slice(node: Node, inputs: Sequence[Array]) -> Array:
    slices, dropped = strided_bounds(node, inputs[0].shape, *inputs[1:4])
    return inputs[0][tuple(slices)].squeeze(tuple(dropped))


def _slice(_: Node, inputs: Sequence[Array]) -> Array:
    array, begin, size = inputs
    places = zip(begin.ravel().tolist(), size.ravel().tolist(), strict=True)
    return array[tuple(slice(first, None if count < 0 else first + count) for first, count in places)]


def _squeeze(node: Node, inputs: Sequence[Array]) -> Array:
    axes = node.integers("squeeze_dims") or node.integers("axis")
    return inputs[0].squeeze(axes or None)


def _gather(_: Node, inputs: Sequence[Array]) -> Array:
    return np.take(inputs[0], inputs[1].astype(np.int64), axis=int(inputs[2]) if len(inputs) > 2 else 0)


def _range(_: Node, inputs: Sequence[Array]) -> Array:
    start, limit, step = (float(array.item()) for array in inputs)
    _bounded([max(0, int(np.ceil((limit - start) / step)))])
    return np.arange(start, limit, step).astype(inputs[0].dtype)


def _tile(_: Node, inputs: Sequence[Array]) -> Array:
    array, times = inputs
    _bounded([length * int(count) for length, count in zip(array.shape, times.ravel(), strict=True)])
    return np.tile(array, tuple(times.ravel()))


def _reduced(function: Callable[..., Any]) -> Callable[[Node, Sequence[Array]], Array]:
    def reduce(node: Node, inputs: Sequence[Array]) -> Array:
        axes = tuple(int(axis) for axis in inputs[1].ravel())
        return np.asarray(function(inputs[0], axis=axes, keepdims=node.flag("keep_dims")), inputs[0].dtype)

    return reduce


def _by_numpy(function: Callable[..., Any]) -> Callable[[Node, Sequence[Array]], Array]:
    def apply(_: Node, inputs: Sequence[Array]) -> Array:
        _bounded(np.broadcast_shapes(*(array.shape for array in inputs)))
        return np.asarray(function(*inputs))

    return apply


RULES: dict[str, Callable[[Node, Sequence[Array]], Array | list[Array]]] = {
    "Add": _by_numpy(np.add),
    "AddV2": _by_numpy(np.add),
    "Sub": _by_numpy(np.subtract),
    "Mul": _by_numpy(np.multiply),
    "Maximum": _by_numpy(np.maximum),
    "Minimum": _by_numpy(np.minimum),
    "FloorDiv": _by_numpy(np.floor_divide),
    "FloorMod": _by_numpy(np.mod),
    "Neg": _by_numpy(np.negative),
    "Exp": _by_numpy(np.exp),
    "Sqrt": _by_numpy(np.sqrt),
    "Rsqrt": _by_numpy(lambda x: 1 / np.sqrt(x)),
    "Floor": _by_numpy(np.floor),
    "Ceil": _by_numpy(np.ceil),
    "RealDiv": _divide,
    "Div": _divide,
    "Cast": _cast,
    "Prod": _reduced(np.prod),
    "Sum": _reduced(np.sum),
    "Max": _reduced(np.max),
    "Min": _reduced(np.min),
    "Shape": lambda _, inputs: np.array(inputs[0].shape, np.int32),
    "Size": lambda _, inputs: np.array(inputs[0].size, np.int32),
    "Reshape": lambda _, inputs: inputs[0].reshape(tuple(int(n) for n in inputs[1].ravel())),
    "ExpandDims": lambda _, inputs: np.expand_dims(inputs[0], int(inputs[1].item())),
    "Squeeze": _squeeze,
    "Transpose": lambda _, inputs: inputs[0].transpose(tuple(int(n) for n in inputs[1].ravel())),
    "Pack": lambda node, inputs: np.stack(inputs, _axis(node)),
    "Unpack": lambda node, inputs: list(np.moveaxis(inputs[0], _axis(node), 0)),
    "ConcatV2": lambda _, inputs: np.concatenate(inputs[:-1], int(inputs[-1].item())),
    "Slice": _slice,
    "StridedSlice": _strided_slice,
    "GatherV2": _gather,
    "Range": _range,
    "Fill": lambda _, inputs: np.broadcast_to(inputs[1].reshape(()), _bounded(inputs[0].ravel())).copy(),
    "Tile": _tile,
    "SparseToDense": _sparse_to_dense,
}
"""What each operator gives for constants."""
