"""What a node of a TensorFlow graph gives, on its way into a TFLite network: a tensor there, or a layer that can still be changed.

A convolution waits for the product, sum and activation behind it, which become part of it. Tensors of the network have the channels
last; where the graph has them in another order, the value says which axis is where, and moving axes around costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeannot_tools.convert.tfjs.files import Node
from edgeannot_tools.graph.graph import Op
from edgeannot_tools.graph.writer import Activation, Net, Pads

__all__ = [
    "CHANNELS_FIRST",
    "CHANNELS_LAST",
    "Array",
    "Convolution",
    "Given",
    "Layer",
    "Maker",
    "Order",
    "Padded",
    "Picture",
    "Sum",
    "Tensor",
    "Value",
    "as_constant",
    "as_value",
    "order_of",
    "straight",
    "to_stored",
]

Order = tuple[int, ...]
"""Where each axis of TensorFlow's tensor lies in the network's tensor."""
CHANNELS_LAST: Order = (0, 1, 2, 3)
CHANNELS_FIRST: Order = (0, 3, 1, 2)
Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of the network."""

    number: int
    order: Order


@dataclass(frozen=True, slots=True)
class Picture:
    """The input, times `factor` plus `offset`, one number or one a channel: which the card can say instead of the graph."""

    shape: tuple[int, ...]
    order: Order
    factor: Array
    offset: Array
    scaled: bool
    """Whether the graph itself says which range the input has: it scales it, or takes bytes."""


@dataclass(slots=True)
class Convolution:
    """A convolution that is not yet in the network, or a dense layer on (N, in). weights: (out, in/groups, kh, kw); bias: (out,)."""

    name: str
    x: int
    weights: NDArray[np.float64]
    bias: NDArray[np.float64]
    stride: int
    pads: Pads | None
    groups: int
    dilation: int
    order: Order

    @property
    def is_dense(self) -> bool:
        """Whether it is a dense layer."""
        return len(self.order) == 2


@dataclass(slots=True)
class Sum:
    """Values of one shape and order that are added, and a constant that is added to each channel."""

    name: str
    parts: list[Tensor | Convolution]
    order: Order
    constant: NDArray[np.float64] = field(default_factory=lambda: np.zeros(1))


@dataclass(frozen=True, slots=True)
class Padded:
    """Zeros around a picture, which become part of the convolution behind. pads: rows above and below, columns left and right."""

    name: str
    source: Tensor
    pads: Pads

    @property
    def order(self) -> Order:
        """That of the picture."""
        return self.source.order


Value = Tensor | Picture | Convolution | Sum | Padded
Given = Value | Array
"""What a node reads: a value of the picture, or a constant."""


def as_value(given: Given) -> Value:
    """Return what depends on the picture. Raises TypeError for a constant."""
    if isinstance(given, np.ndarray):
        raise TypeError("a constant stands where a value of the picture was expected")
    return given


def as_constant(given: Given) -> Array:
    """Return a constant. Raises TypeError for what depends on the picture."""
    if not isinstance(given, np.ndarray):
        raise TypeError("what depends on the picture stands where a constant was expected")
    return given


def order_of(node: Node) -> Order:
    """Return the order of axes that a node's `data_format` states."""
    return CHANNELS_FIRST if node.text("data_format", "NHWC") == "NCHW" else CHANNELS_LAST


def straight(rank: int) -> Order:
    """Return the order in which all axes are where TensorFlow has them."""
    return tuple(range(rank))


def to_stored(values: Sequence[int], order: Order) -> list[int]:
    """Return numbers that are stated for each of TensorFlow's axes in the order of the network's."""
    stored = [0] * len(order)
    for value, place in zip(values, order, strict=True):
        stored[place] = int(value)
    return stored


class Maker:
    """Puts values into the network."""

    def __init__(self) -> None:
        self.net = Net()
        self.input: int | None = None
        self.picture: Picture | None = None

    def shape(self, value: Value) -> tuple[int, ...]:
        """Return the shape as TensorFlow has it."""
        if isinstance(value, Picture):
            return value.shape
        return tuple(self._stored_shape(value)[place] for place in value.order)

    def _stored_shape(self, value: Tensor | Convolution | Sum | Padded) -> tuple[int, ...]:
        if isinstance(value, Tensor):
            return self.net.shape(value.number)
        if isinstance(value, Sum):
            return self._stored_shape(value.parts[0])
        if isinstance(value, Padded):
            n, height, width, depth = self.net.shape(value.source.number)
            return n, height + sum(value.pads[:2]), width + sum(value.pads[2:]), depth
        if value.is_dense:
            return self.net.shape(value.x)[0], len(value.bias)
        kernel_h, kernel_w = value.weights.shape[2:]
        size = self.net.conv_size(value.x, (kernel_h, kernel_w), value.stride, value.pads, value.dilation)
        return 1, *size, len(value.bias)

    # -- into the network ----------------------------------------------------------------------------------------------------

    def settle(self, value: Value, activation: Activation = "linear", name: str = "") -> Tensor:
        """Return the tensor of a value, which is computed from here on; with the activation and under the name, where they are given."""
        if isinstance(value, Picture):
            tensor = Tensor(self._enter(value), value.order)
        elif isinstance(value, Padded):
            tensor = Tensor(self.net.pad(value.name, value.source.number, value.pads), value.order)
        elif isinstance(value, Convolution):
            return self._settle_convolution(value, activation, name)
        elif isinstance(value, Sum):
            return self._settle_sum(value, activation, name)
        else:
            tensor = value
        if activation == "linear":
            return tensor
        return Tensor(self._named(self.net.activation(name, tensor.number, activation), name), tensor.order)

    def _enter(self, picture: Picture) -> int:
        """Return the network's input; a second scaling of the same picture becomes operators."""
        if self.input is None:
            channels_last = to_stored(picture.shape, picture.order)
            self.input, self.picture = self.net.input("image", channels_last), picture
        known = self.picture
        if known is None or (np.array_equal(known.factor, picture.factor) and np.array_equal(known.offset, picture.offset)):
            return self.input
        factor = picture.factor / known.factor
        operands = {"factor": factor, "offset": picture.offset - known.offset * factor}
        constants = {role: self.net.constant(f"image_{role}", values, np.float32) for role, values in operands.items()}
        scaled = self.net.elementwise(Op.MUL, "image_scaled", self.input, constants["factor"])
        return self.net.elementwise(Op.ADD, "image_shifted", scaled, constants["offset"])

    def _settle_convolution(self, value: Convolution, activation: Activation, name: str) -> Tensor:
        weights, bias = value.weights.astype(np.float32), value.bias.astype(np.float32)
        if value.is_dense:
            number = self.net.fully_connected(value.name, value.x, weights[:, :, 0, 0], bias)
            return Tensor(self._named(self.net.activation(name, number, activation), name or value.name), value.order)
        number = self.net.conv(
            value.name,
            value.x,
            weights,
            bias,
            stride=value.stride,
            pads=value.pads,
            groups=value.groups,
            dilation=value.dilation,
            activation=activation,
        )
        return Tensor(self._named(number, name or value.name), value.order)

    def _settle_sum(self, value: Sum, activation: Activation, name: str) -> Tensor:
        constant = value.constant
        if constant.any():
            for part in value.parts:
                if isinstance(part, Convolution):
                    part.bias = part.bias + constant
                    constant = np.zeros(1)
                    break
        numbers = [self.settle(part).number for part in value.parts]
        if constant.any():
            numbers.append(self.net.constant(f"{value.name}_constant", constant, np.float32))
        total = numbers[0]
        for i, number in enumerate(numbers[1:], 1):
            last = i == len(numbers) - 1
            total = self.net.add(value.name if last else f"{value.name}_{i}", total, number, activation if last else "linear")
        return Tensor(self._named(total, name or value.name), value.order)

    def _named(self, number: int, name: str) -> int:
        """Give a tensor the name of the node that it stands for, as the file's user knows it."""
        if name:
            self.net.graph.tensors[number].name = name
        return number

    # -- order of axes -------------------------------------------------------------------------------------------------------

    def ordered(self, value: Value, order: Order, name: str) -> Tensor:
        """Return the tensor with its axes in this order, moved by an operator where they are not."""
        tensor = self.settle(value)
        if tensor.order == order:
            return tensor
        moved = [0] * len(order)
        for have, want in zip(tensor.order, order, strict=True):
            moved[want] = have
        return Tensor(self.net.transpose(f"{name}_moved", tensor.number, moved), order)

    def spread(self, constant: Array, order: Order) -> Array:
        """Return a constant as it meets a tensor of that order: with as many axes, in the order of the network."""
        full = constant.reshape((1,) * (len(order) - constant.ndim) + constant.shape)
        return full.transpose(np.argsort(order))

    def per_channel(self, constant: Array, value: Value) -> NDArray[np.float64] | None:
        """Return one number a channel, (C,); None where the constant differs along another axis, or is larger than the value."""
        rank = len(value.order)
        if constant.ndim > rank or rank < 2:
            return None
        spread = self.spread(constant, value.order)
        channels = to_stored(self.shape(value), value.order)[-1]
        if spread.shape[-1] not in (1, channels) or spread.size != spread.shape[-1]:
            return None
        return np.broadcast_to(spread.reshape(-1).astype(np.float64), channels).copy()


Layer = Callable[[Maker, Node, Sequence[Given]], Value | list[Value]]
"""Returns what a node gives for its inputs: one value, or one for each of its outputs."""
