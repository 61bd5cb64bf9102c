"""The operators of a TensorFlow graph that calculate, as layers of a TFLite network: for each what it gives for what it gets.

Only those that convolutional detectors and classifiers are made of; https://www.tensorflow.org/api_docs/python/tf/raw_ops
Each raises ValueError, IndexError or TypeError where its inputs or attributes do not fit it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edgeannot_tools.convert.tfjs.files import Node
from edgeannot_tools.convert.tfjs.values import (
    CHANNELS_FIRST,
    Array,
    Convolution,
    Given,
    Layer,
    Maker,
    Order,
    Padded,
    Picture,
    Sum,
    Tensor,
    Value,
    as_constant,
    as_value,
    order_of,
    straight,
)
from edgeannot_tools.graph.graph import Op
from edgeannot_tools.graph.writer import Activation, Pads

__all__ = ["LAYERS"]

ACTIVATIONS: dict[str, Activation] = {"Relu": "relu", "Relu6": "relu6", "Sigmoid": "logistic", "Tanh": "tanh"}
UNARY = {"Exp": Op.EXP, "Sqrt": Op.SQRT, "Rsqrt": Op.RSQRT, "Neg": Op.NEG, "Abs": Op.ABS, "Square": Op.SQUARE, "Elu": Op.ELU}
BINARY = {
    "Add": Op.ADD,
    "AddV2": Op.ADD,
    "Sub": Op.SUB,
    "Mul": Op.MUL,
    "RealDiv": Op.DIV,
    "Div": Op.DIV,
    "Maximum": Op.MAXIMUM,
    "Minimum": Op.MINIMUM,
    "SquaredDifference": Op.SQUARED_DIFFERENCE,
    "Prelu": Op.PRELU,
}
TURNS = (Op.ADD, Op.MUL, Op.MAXIMUM, Op.MINIMUM)
"""Operators whose operands may change places."""


def convolution(maker: Maker, node: Node, inputs: Sequence[Given]) -> Value:
    """Return a convolution, depthwise or not, with what was fused into it."""
    depthwise = "Depthwise" in node.op
    weights = as_constant(inputs[1]).astype(np.float64)
    kernel_h, kernel_w, channels, out = weights.shape
    order = order_of(node)
    x, pads = _padding(node, as_value(inputs[0]), order)
    number = maker.ordered(x, order, node.name).number
    dilation = _one(node, "dilations", order) if node.integers("dilations") else 1
    kernels = weights.reshape(kernel_h, kernel_w, channels * out, 1) if depthwise else weights.swapaxes(2, 3)
    value: Value = Convolution(
        name=f"{node.name}/product" if node.texts("fused_ops") else node.name,
        x=number,
        weights=kernels.transpose(2, 3, 0, 1),
        bias=np.zeros(kernels.shape[2]),
        stride=_one(node, "strides", order),
        pads=pads,
        groups=channels if depthwise else maker.net.shape(number)[3] // channels,
        dilation=dilation,
        order=order,
    )
    return _fused(maker, node, value, inputs[2:])


def _padding(node: Node, x: Value, order: Order) -> tuple[Value, Pads | None]:
    """Return the input and the padding of a convolution or pooling, with the zeros that were put around the input before."""
    how = node.text("padding", "VALID")
    if how == "SAME":
        return x, None
    pads: Pads = (0, 0, 0, 0)
    if how == "EXPLICIT":
        amounts = node.integers("explicit_paddings")
        rows, columns = (4, 6) if order == CHANNELS_FIRST else (2, 4)
        pads = (amounts[rows], amounts[rows + 1], amounts[columns], amounts[columns + 1])
    elif how != "VALID":
        raise ValueError(f"the padding {how!r} is not known")
    if isinstance(x, Padded) and x.order == order and "Pool" not in node.op:
        top, bottom, left, right = x.pads
        return x.source, (pads[0] + top, pads[1] + bottom, pads[2] + left, pads[3] + right)
    return x, pads


def _fused(maker: Maker, node: Node, value: Value, rest: Sequence[Given]) -> Value:
    """Return a layer with what was put into it: a bias, then an activation."""
    inner = replace(node, name=f"{node.name}/product")
    for fused in node.texts("fused_ops"):
        if fused == "BiasAdd":
            value = affine(maker, inner, value, shift=as_constant(rest[0]))
            rest = rest[1:]
        elif fused == "Prelu":
            value = binary(maker, replace(node, op="Prelu"), [value, rest[0]])
        elif fused in ACTIVATIONS or fused in ("LeakyRelu", "Elu"):
            value = activation(maker, replace(node, op=fused), [value])
        else:
            raise ValueError(f"the fused operator {fused!r} is not known")
    return value


def dense(maker: Maker, node: Node, inputs: Sequence[Given]) -> Value:
    """Return a product with a matrix of weights."""
    x = maker.ordered(as_value(inputs[0]), straight(2), node.name)
    weights = as_constant(inputs[1]).astype(np.float64)
    if node.flag("transpose_a"):
        raise ValueError("a left matrix that is transposed is not known here")
    if not node.flag("transpose_b"):
        weights = weights.T
    if weights.ndim != 2 or weights.shape[1] != maker.net.shape(x.number)[1]:
        raise ValueError(f"weights of shape {weights.shape} do not fit {maker.net.shape(x.number)}")
    name = f"{node.name}/product" if node.texts("fused_ops") else node.name
    value = Convolution(name, x.number, weights[:, :, None, None], np.zeros(len(weights)), 1, None, 1, 1, straight(2))
    return _fused(maker, node, value, inputs[2:])


def affine(maker: Maker, node: Node, value: Value, factor: Array | None = None, shift: Array | None = None) -> Value:
    """Return value * factor + shift, as part of the layer before where there is one that takes it."""
    if factor is not None:
        value = _times(maker, node, value, factor)
    return value if shift is None else _plus(maker, node, value, shift)


def _times(maker: Maker, node: Node, value: Value, factor: Array) -> Value:
    channels = maker.per_channel(factor, value)
    if channels is None or not isinstance(value, Convolution | Picture):
        return _with_constant(maker, node, Op.MUL, value, factor)
    if isinstance(value, Picture):
        return replace(value, factor=_short(value.factor * channels), offset=_short(value.offset * channels), scaled=True)
    value.weights, value.bias = value.weights * channels[:, None, None, None], value.bias * channels
    value.name = node.name
    return value


def _plus(maker: Maker, node: Node, value: Value, shift: Array) -> Value:
    channels = maker.per_channel(shift, value)
    if channels is None or not isinstance(value, Convolution | Picture | Sum):
        return _with_constant(maker, node, Op.ADD, value, shift)
    if isinstance(value, Picture):
        return replace(value, offset=_short(value.offset + channels), scaled=True)
    if isinstance(value, Sum):
        value.constant = value.constant + channels
    else:
        value.bias = value.bias + channels
    value.name = node.name
    return value


def _with_constant(maker: Maker, node: Node, code: int, value: Value, constant: Array, *, first: bool = False) -> Tensor:
    """Return an operator with a constant operand, or with it as the first one."""
    tensor = maker.settle(value)
    if constant.ndim > len(tensor.order):
        raise ValueError(f"a constant of shape {constant.shape} has more axes than the tensor that it meets")
    spread = maker.spread(constant, tensor.order)
    number = maker.net.constant(f"{node.name}/constant", spread if spread.size > 1 else spread.reshape(()), np.float32)
    operands = (number, tensor.number) if first else (tensor.number, number)
    return Tensor(maker.net.elementwise(code, node.name, *operands), tensor.order)


def batch_norm(maker: Maker, node: Node, inputs: Sequence[Given]) -> Value:
    """Return the value normalised by the statistics of the training."""
    scale, offset, mean, variance = (as_constant(given).astype(np.float64) for given in inputs[1:5])
    if node.flag("is_training", default=False):
        raise ValueError("it is in training; export the model for inference")
    factor = scale / np.sqrt(variance + node.number("epsilon", 1e-4))
    return affine(maker, node, as_value(inputs[0]), _channels(node, factor), _channels(node, offset - mean * factor))


def bias(maker: Maker, node: Node, inputs: Sequence[Given]) -> Value:
    """Return the value with one number a channel added."""
    return affine(maker, node, as_value(inputs[0]), shift=_channels(node, as_constant(inputs[1])))


def binary(maker: Maker, node: Node, inputs: Sequence[Given]) -> Value:
    """Return what an operator of two operands gives."""
    a, b = inputs
    code = BINARY[node.op]
    if isinstance(a, np.ndarray):
        if code not in TURNS:
            return _from_constant(maker, node, a, as_value(b))
        a, b = b, a
    value = as_value(a)
    return _and_constant(maker, node, value, b) if isinstance(b, np.ndarray) else _of_two(maker, node, value, b)


def _from_constant(maker: Maker, node: Node, constant: Array, value: Value) -> Value:
    """Return a difference or quotient whose first operand is a constant."""
    if node.op == "Sub":
        return affine(maker, node, value, np.array(-1.0), constant)
    return _with_constant(maker, node, BINARY[node.op], value, constant, first=True)


def _and_constant(maker: Maker, node: Node, value: Value, constant: Array) -> Value:
    """Return a sum, product and so on whose second operand is a constant."""
    code, real = BINARY[node.op], constant.astype(np.float64)
    if code in (Op.MUL, Op.DIV):
        return affine(maker, node, value, real if code == Op.MUL else 1 / real)
    if code in (Op.ADD, Op.SUB):
        return affine(maker, node, value, shift=real if code == Op.ADD else -real)
    return _with_constant(maker, node, code, value, constant)


def _of_two(maker: Maker, node: Node, a: Value, b: Value) -> Value:
    """Return what an operator makes of two values; the smaller is repeated."""
    code = BINARY[node.op]
    if code == Op.ADD and maker.shape(a) == maker.shape(b):
        return total(maker, node, [a, b])
    x, y = maker.settle(a), maker.settle(b)
    if len(x.order) == len(y.order):
        y = maker.ordered(y, x.order, node.name)
    else:
        x, y = (maker.ordered(tensor, straight(len(tensor.order)), node.name) for tensor in (x, y))
    order = max(x.order, y.order, key=len)
    return Tensor(maker.net.elementwise(code, node.name, x.number, y.number), order)


def total(maker: Maker, node: Node, inputs: Sequence[Given]) -> Value:
    """Return the sum of several values, in which those of the sums before are merged."""
    values = [given for given in inputs if not isinstance(given, np.ndarray)]
    order = next((value.order for value in values if not isinstance(value, Picture | Padded)), values[0].order)
    if len({maker.shape(value) for value in values}) != 1:
        raise ValueError("what is added differs in shape")
    parts: list[Tensor | Convolution] = []
    constant = np.zeros(1)
    for value in values:
        if value.order == order and isinstance(value, Sum):
            parts += value.parts
            constant = constant + value.constant
        elif value.order == order and isinstance(value, Convolution):
            parts.append(value)
        else:
            parts.append(maker.ordered(value, order, node.name))
    total: Value = Sum(node.name, parts, order, constant) if len(parts) > 1 else parts[0]
    for given in inputs:
        if isinstance(given, np.ndarray):
            total = affine(maker, node, total, shift=given)
    return total


def clip(maker: Maker, node: Node, inputs: Sequence[Given]) -> Value:
    """Return the value between two bounds."""
    lowest, highest = as_constant(inputs[1]), as_constant(inputs[2])
    above = _with_constant(maker, replace(node, name=f"{node.name}/above"), Op.MAXIMUM, as_value(inputs[0]), lowest)
    return _with_constant(maker, node, Op.MINIMUM, above, highest)


def activation(maker: Maker, node: Node, inputs: Sequence[Given]) -> Value:
    """Return an activation, as part of the layer before where TFLite can."""
    value = as_value(inputs[0])
    if node.op in ACTIVATIONS:
        return maker.settle(value, ACTIVATIONS[node.op], node.name)
    tensor = maker.settle(value)
    if node.op == "LeakyRelu":
        slope = node.number("alpha", node.number("leakyrelu_alpha", 0.2))
        return Tensor(maker.net.leaky_relu(node.name, tensor.number, slope), tensor.order)
    return Tensor(maker.net.elementwise(UNARY[node.op], node.name, tensor.number), tensor.order)


def softmax(maker: Maker, node: Node, inputs: Sequence[Given]) -> Value:
    """Return the softmax over the last axis."""
    tensor = maker.settle(as_value(inputs[0]))
    last = len(tensor.order) - 1
    if tensor.order[-1] != last:
        tensor = maker.ordered(tensor, straight(last + 1), node.name)
    return Tensor(maker.net.softmax(node.name, tensor.number), tensor.order)


def pool(maker: Maker, node: Node, inputs: Sequence[Given]) -> Value:
    """Return the largest number or the mean of each window."""
    order = order_of(node)
    x, pads = _padding(node, as_value(inputs[0]), order)
    number = maker.ordered(x, order, node.name).number
    kernel, stride = _one(node, "ksize", order), _one(node, "strides", order)
    if node.op == "MaxPool":
        return Tensor(maker.net.max_pool(node.name, number, kernel, stride, pads), order)
    if pads is not None and any(pads):
        raise ValueError("a mean over windows with explicit padding is not known here")
    return Tensor(maker.net.average_pool(node.name, number, kernel, stride, same=pads is None), order)


def mean(maker: Maker, node: Node, inputs: Sequence[Given]) -> Value:
    """Return the mean over some axes."""
    tensor = maker.settle(as_value(inputs[0]))
    rank = len(tensor.order)
    axes = sorted({int(axis) % rank for axis in as_constant(inputs[1]).ravel()})
    keep = node.flag("keep_dims")
    number = maker.net.mean(node.name, tensor.number, sorted(tensor.order[axis] for axis in axes), keep_dims=keep)
    if keep:
        return Tensor(number, tensor.order)
    left = [place for axis, place in enumerate(tensor.order) if axis not in axes]
    return Tensor(number, tuple(sorted(left).index(place) for place in left))


def _one(node: Node, name: str, order: Order) -> int:
    """Return a number that is the same for height and width."""
    numbers = node.integers(name)
    rows, columns = numbers[2:4] if order == CHANNELS_FIRST else numbers[1:3]
    if rows != columns or rows < 1:
        raise ValueError(f"wanted {name} that are equal for height and width and above 0, found {rows} and {columns}")
    return rows


def _channels(node: Node, numbers: Array) -> Array:
    """Return one number a channel in the shape that meets the node's layout."""
    return numbers[:, None, None] if order_of(node) == CHANNELS_FIRST else numbers


def _short(numbers: Array) -> Array:
    """Return one number where all are the same."""
    return numbers[:1] if (numbers == numbers[0]).all() else numbers


LAYERS: dict[str, Layer] = {
    **dict.fromkeys(("Conv2D", "_FusedConv2D", "FusedConv2D"), convolution),
    **dict.fromkeys(("DepthwiseConv2dNative", "DepthwiseConv2d", "FusedDepthwiseConv2dNative"), convolution),
    **dict.fromkeys(("MatMul", "_FusedMatMul"), dense),
    **dict.fromkeys(("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"), batch_norm),
    **dict.fromkeys(BINARY, binary),
    **dict.fromkeys((*ACTIVATIONS, "LeakyRelu", *UNARY), activation),
    **dict.fromkeys(("MaxPool", "AvgPool"), pool),
    "AddN": total,
    "BiasAdd": bias,
    "ClipByValue": clip,
    "Mean": mean,
    "Softmax": softmax,
}
"""By TensorFlow's names."""
