"""The operators of a TensorFlow graph that move numbers around, as layers of a TFLite network: for each what it gives for what it gets.

https://www.tensorflow.org/api_docs/python/tf/raw_ops
Each raises ValueError, IndexError or TypeError where its inputs or attributes do not fit it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np

from edgeannot_tools.convert.tfjs.constants import strided_bounds
from edgeannot_tools.convert.tfjs.files import Node
from edgeannot_tools.convert.tfjs.values import (
    CHANNELS_LAST,
    Convolution,
    Given,
    Layer,
    Maker,
    Order,
    Padded,
    Picture,
    Tensor,
    Value,
    as_constant,
    as_value,
    order_of,
    straight,
    to_stored,
)
from edgeannot_tools.graph.writer import Interpolation

__all__ = ["SHAPES"]

LOWEST = float(np.finfo(np.float32).min)
FLOATS = (0, 1, 2, 19)
"""TensorFlow's numbers for number types: none stated, float, double, half."""


def pad(maker: Maker, node: Node, inputs: Sequence[Given]) -> Value:
    """Return the value with numbers around it; zeros around a picture wait for the convolution behind."""
    value, amounts = as_value(inputs[0]), as_constant(inputs[1]).reshape(-1, 2)
    # The lowest float32, which pads before a maximum, is minus infinity where weights are stored as float16.
    fill = max(float(as_constant(inputs[2]).item()), LOWEST) if len(inputs) > 2 else 0.0
    if (amounts < 0).any():
        raise ValueError("padding below 0 is not known here")
    if not amounts.any():
        return value
    tensor = maker.settle(value)
    stored = amounts[np.argsort(tensor.order)]
    if fill == 0 and len(stored) == len(CHANNELS_LAST) and not stored[[0, 3]].any():
        top, bottom, left, right = (int(amount) for amount in stored[1:3].ravel())
        return Padded(node.name, tensor, (top, bottom, left, right))
    return Tensor(maker.net.pad_value(node.name, tensor.number, stored.tolist(), fill), tensor.order)


def concat(maker: Maker, node: Node, inputs: Sequence[Given]) -> Value:
    """Return values one behind the other along an axis."""
    *parts, last = inputs
    position = int(as_constant(last).item())
    order = next(given.order for given in parts if not isinstance(given, np.ndarray))  # constants alone were joined before
    axis = order[position % len(order)]
    numbers = []
    for i, given in enumerate(parts):
        if isinstance(given, np.ndarray):
            numbers.append(maker.net.constant(f"{node.name}/constant{i}", maker.spread(given, order), np.float32))
        else:
            numbers.append(maker.ordered(given, order, node.name).number)
    return Tensor(numbers[0] if len(numbers) == 1 else maker.net.concat(node.name, numbers, axis), order)


def transpose(_maker: Maker, _: Node, inputs: Sequence[Given]) -> Value:
    """Return the value with its axes in another order, which moves nothing."""
    value = as_value(inputs[0])
    axes = [int(axis) % len(value.order) for axis in as_constant(inputs[1]).ravel()]
    if sorted(axes) != list(range(len(value.order))):
        raise ValueError(f"wanted each axis once, found {axes}")
    order = tuple(value.order[axis] for axis in axes)
    if isinstance(value, Padded):
        return replace(value, source=Tensor(value.source.number, order))
    if isinstance(value, Picture):
        return replace(value, order=order, shape=tuple(value.shape[axis] for axis in axes))
    return replace(value, order=order)


def reshape(maker: Maker, node: Node, inputs: Sequence[Given]) -> Value:
    """Return the same numbers in another shape."""
    value = as_value(inputs[0])
    shape = maker.shape(value)
    sizes = [int(size) for size in as_constant(inputs[1]).ravel()]
    if sizes.count(-1) == 1:
        sizes[sizes.index(-1)] = prod(shape) // -prod(sizes)
    if prod(sizes) != prod(shape):
        raise ValueError(f"{shape} numbers do not fit into the shape {tuple(sizes)}")
    return _shaped(maker, node, value, tuple(sizes))


def _shaped(maker: Maker, node: Node, value: Value, sizes: tuple[int, ...]) -> Value:
    shape = maker.shape(value)
    if sizes == shape:
        return value
    tensor = maker.settle(value)
    joined = _joined(shape, sizes, tensor.order)
    order = straight(len(sizes)) if joined is None else joined
    if joined is None:
        tensor = maker.ordered(tensor, straight(len(shape)), node.name)
    return Tensor(maker.net.reshape(node.name, tensor.number, to_stored(sizes, order)), order)


def squeeze(maker: Maker, node: Node, inputs: Sequence[Given]) -> Value:
    """Return the value without axes of length 1."""
    value = as_value(inputs[0])
    shape = maker.shape(value)
    axes = [axis % len(shape) for axis in node.integers("squeeze_dims") or node.integers("axis")]
    gone = axes or [axis for axis, size in enumerate(shape) if size == 1]
    if any(shape[axis] != 1 for axis in gone):
        raise ValueError(f"wanted axes of length 1, found {shape}")
    return _shaped(maker, node, value, tuple(size for axis, size in enumerate(shape) if axis not in gone))


def expand(maker: Maker, node: Node, inputs: Sequence[Given]) -> Value:
    """Return the value with one more axis of length 1."""
    value = as_value(inputs[0])
    shape = maker.shape(value)
    axis = int(as_constant(inputs[1]).item()) % (len(shape) + 1)
    return _shaped(maker, node, value, (*shape[:axis], 1, *shape[axis:]))


def cut(maker: Maker, node: Node, value: Value, slices: Sequence[tuple[int, int]], name: str = "") -> Value:
    """Return (start, stop) of each axis."""
    shape = maker.shape(value)
    if all(place == (0, size) for place, size in zip(slices, shape, strict=True)):
        return value
    if any(not 0 <= start < stop <= size for (start, stop), size in zip(slices, shape, strict=True)):
        raise ValueError(f"wanted parts of {shape}, found {list(slices)}")
    tensor = maker.settle(value)
    begin = to_stored([start for start, _ in slices], tensor.order)
    size = to_stored([stop - start for start, stop in slices], tensor.order)
    return Tensor(maker.net.slice(name or node.name, tensor.number, begin, size), tensor.order)


def cut_slice(maker: Maker, node: Node, inputs: Sequence[Given]) -> Value:
    """Return a part of each axis."""
    value = as_value(inputs[0])
    shape = maker.shape(value)
    begin, size = (as_constant(given).ravel().tolist() for given in inputs[1:3])
    places = zip(begin, size, shape, strict=True)
    return cut(maker, node, value, [(start, length if count < 0 else start + count) for start, count, length in places])


def strided_slice(maker: Maker, node: Node, inputs: Sequence[Given]) -> Value:
    """Return a part of each axis, of which some are dropped."""
    value = as_value(inputs[0])
    shape = maker.shape(value)
    slices, dropped = strided_bounds(node, shape, *(as_constant(given) for given in inputs[1:4]))
    if any(part.step != 1 for part in slices):
        raise ValueError("a slice with steps other than 1 is not known here")
    part = cut(maker, node, value, [(part.start, part.stop) for part in slices])
    left = tuple(size for axis, size in enumerate(maker.shape(part)) if axis not in dropped)
    return _shaped(maker, replace(node, name=f"{node.name}/shape"), part, left) if dropped else part


def split(maker: Maker, node: Node, inputs: Sequence[Given]) -> list[Value]:
    """Split (axis, value) into equal parts, or SplitV (value, sizes, axis)."""
    equal = node.op == "Split"
    value = as_value(inputs[1] if equal else inputs[0])
    shape = maker.shape(value)
    axis = int(as_constant(inputs[0] if equal else inputs[2]).item()) % len(shape)
    count = node.integer("num_split", 1)
    sizes = [shape[axis] // count] * count if equal else [int(size) for size in as_constant(inputs[1]).ravel()]
    if sizes.count(-1) == 1:
        sizes[sizes.index(-1)] = shape[axis] - sum(sizes) - 1
    if sum(sizes) != shape[axis] or min(sizes) < 1:
        raise ValueError(f"{shape[axis]} numbers cannot be split into {sizes}")
    bounds = np.cumsum([0, *sizes]).tolist()
    if isinstance(value, Convolution) and value.groups == 1 and value.order[axis] == len(value.order) - 1:
        return [_part(value, f"{node.name}{_nth(i)}", *bounds[i : i + 2]) for i in range(len(sizes))]
    value = maker.settle(value)
    whole = [(0, size) for size in shape]
    parts = [[*whole[:axis], (bounds[i], bounds[i + 1]), *whole[axis + 1 :]] for i in range(len(sizes))]
    return [cut(maker, node, value, part, f"{node.name}{_nth(i)}") for i, part in enumerate(parts)]


def unpack(maker: Maker, node: Node, inputs: Sequence[Given]) -> list[Value]:
    """Return the parts along an axis, without it."""
    value: Value = maker.settle(as_value(inputs[0]))
    shape = maker.shape(value)
    axis = node.integer("axis") % len(shape)
    whole = [(0, size) for size in shape]
    rest = (*shape[:axis], *shape[axis + 1 :])
    found: list[Value] = []
    for i in range(shape[axis]):
        part = cut(maker, node, value, [*whole[:axis], (i, i + 1), *whole[axis + 1 :]], f"{node.name}/part{i}")
        found.append(_shaped(maker, replace(node, name=f"{node.name}{_nth(i)}"), part, rest))
    return found


def pack(maker: Maker, node: Node, inputs: Sequence[Given]) -> Value:
    """Return values along a new axis."""
    values = [as_value(given) for given in inputs]
    shape = maker.shape(values[0])
    axis = node.integer("axis") % (len(shape) + 1)
    wide = (*shape[:axis], 1, *shape[axis:])
    parts = [_shaped(maker, replace(node, name=f"{node.name}/part{i}"), value, wide) for i, value in enumerate(values)]
    return concat(maker, node, [*parts, np.array(axis)])


def resize(maker: Maker, node: Node, inputs: Sequence[Given]) -> Value:
    """Return the picture in another size."""
    rows, columns = (int(size) for size in as_constant(inputs[1]).ravel())
    x = maker.ordered(as_value(inputs[0]), CHANNELS_LAST, node.name)
    half, corners = node.flag("half_pixel_centers"), node.flag("align_corners")
    if min(rows, columns) < 1 or (half and corners):
        raise ValueError(f"wanted a size above 0 and one rule for the pixels' places, found {rows}x{columns}")
    how: Interpolation = "bilinear" if node.op == "ResizeBilinear" else "nearest"
    return Tensor(maker.net.resize(node.name, x.number, how, (rows, columns), half_pixels=half, corners=corners), x.order)


def space_to_depth(maker: Maker, node: Node, inputs: Sequence[Given]) -> Value:
    """Return blocks of pixels as channels."""
    x = maker.ordered(as_value(inputs[0]), order_of(node), node.name)
    return Tensor(maker.net.space_to_depth(node.name, x.number, node.integer("block_size", 2)), x.order)


def cast(_: Maker, node: Node, inputs: Sequence[Given]) -> Value:
    """Return the value, which stays a float."""
    if node.data_type("DstT") not in FLOATS:
        raise ValueError("numbers that depend on the picture stay floats here")
    return as_value(inputs[0])


def _part(value: Convolution, name: str, start: int, stop: int) -> Convolution:
    """Return the convolution that gives some of another's channels."""
    return replace(value, name=name, weights=value.weights[start:stop], bias=value.bias[start:stop])


def _nth(number: int) -> str:
    return f":{number}" if number else ""


def _joined(shape: tuple[int, ...], sizes: tuple[int, ...], order: Order) -> Order | None:
    """Return the order after a reshape that joins neighbouring axes which are neighbours in the network too; None for any other."""
    gone = len(shape) - len(sizes)
    for first in range(len(sizes)) if gone > 0 else ():
        last = first + gone
        places = order[first : last + 1]
        merged = (*shape[:first], prod(shape[first : last + 1]), *shape[last + 1 :])
        if merged == sizes and list(places) == list(range(places[0], places[0] + gone + 1)):
            left = [*order[:first], places[0], *order[last + 1 :]]
            return tuple(sorted(left).index(place) for place in left)
    return None


SHAPES: dict[str, Layer] = {
    **dict.fromkeys(("Pad", "PadV2"), pad),
    **dict.fromkeys(("ResizeBilinear", "ResizeNearestNeighbor"), resize),
    **dict.fromkeys(("Split", "SplitV"), split),
    "Cast": cast,
    "ConcatV2": concat,
    "ExpandDims": expand,
    "Pack": pack,
    "Reshape": reshape,
    "Slice": cut_slice,
    "SpaceToDepth": space_to_depth,
    "Squeeze": squeeze,
    "StridedSlice": strided_slice,
    "Transpose": transpose,
    "Unpack": unpack,
}
"""By TensorFlow's names."""
