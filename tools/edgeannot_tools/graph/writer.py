"""Writes a float TFLite network layer by layer, channels last (NHWC), without a framework.

`Net` adds one layer a call and gives the number of its output tensor, whose shape it has worked out. Weights come in the layout
of Darknet and PyTorch, (out, in/groups, kh, kw), and are turned into TFLite's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgeannot.base.errors import InputError
from edgeannot_tools.graph.edits import set_signature
from edgeannot_tools.graph.graph import Graph, Op, schema

__all__ = ["ACTIVATIONS", "LEAKY_SLOPE", "Activation", "Net", "Pads"]

Activation = Literal["linear", "relu", "relu6", "leaky", "logistic", "swish", "mish", "tanh", "hard_swish"]
ACTIVATIONS: tuple[str, ...] = ("linear", "relu", "relu6", "leaky", "logistic", "swish", "mish", "tanh", "hard_swish")
LEAKY_SLOPE = 0.1
"""Darknet's slope below zero."""

Interpolation = Literal["bilinear", "nearest"]
Pads = tuple[int, int, int, int]
"""Rows above and below, columns left and right."""

RESIZES = {
    "bilinear": (Op.RESIZE_BILINEAR, schema.ResizeBilinearOptionsT),
    "nearest": (Op.RESIZE_NEAREST_NEIGHBOR, schema.ResizeNearestNeighborOptionsT),
}
Fused = schema.ActivationFunctionType
FUSED = {"relu": Fused.RELU, "relu6": Fused.RELU6}
"""Activations that TFLite's layers apply themselves."""
ELEMENTWISE_OPTIONS = {
    Op.ADD: schema.AddOptionsT,
    Op.SUB: schema.SubOptionsT,
    Op.MUL: schema.MulOptionsT,
    Op.DIV: schema.DivOptionsT,
    Op.MAXIMUM: schema.MaximumMinimumOptionsT,
    Op.MINIMUM: schema.MaximumMinimumOptionsT,
    Op.SQUARED_DIFFERENCE: schema.SquaredDifferenceOptionsT,
    Op.EXP: schema.ExpOptionsT,
    Op.NEG: schema.NegOptionsT,
    Op.ABS: schema.AbsOptionsT,
}
"""The tables that elementwise operators have; the others have none."""


def same_padding(length: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """Return the (before, after) padding along one axis that TFLite's SAME stands for; the odd one goes after."""
    reach = (kernel - 1) * dilation + 1
    out = -(-length // stride)
    total = max((out - 1) * stride + reach - length, 0)
    return total // 2, total - total // 2


class Net:
    """A float network in the making; `graph` is finished by `outputs`."""

    def __init__(self) -> None:
        self.graph = Graph()

    def shape(self, x: int) -> tuple[int, ...]:
        """Return the shape of a tensor made here."""
        return self.graph.shape(x)

    def input(self, name: str, shape: Sequence[int]) -> int:
        """Return an input of the network, float32."""
        x = self.graph.add_tensor(name, shape)
        self.graph.inputs.append(x)
        return x

    def outputs(self, tensors: Sequence[int]) -> Graph:
        """Name the outputs and return the finished graph."""
        self.graph.sub.outputs = list(tensors)
        set_signature(self.graph)
        return self.graph

    # -- layers with weights -------------------------------------------------------------------------------------------------

    def conv(
        self,
        name: str,
        x: int,
        weights: NDArray[np.float32],
        bias: NDArray[np.float32],
        *,
        stride: int = 1,
        pads: Pads | None = None,
        groups: int = 1,
        dilation: int = 1,
        activation: Activation = "linear",
    ) -> int:
        """Return a convolution, depthwise where every input channel is a group. weights: (out, in/groups, kh, kw); bias: (out,).

        `pads` None stands for TFLite's SAME. Zeros that SAME would put elsewhere get an operator of their own: with stride 2,
        Darknet and PyTorch pad before and after, TFLite only after, and the picture would shift by a pixel.
        """
        channels = self.shape(x)[3]
        out, per_group, kernel_h, kernel_w = weights.shape
        if per_group * groups != channels:
            raise InputError(f"layer {name}: weights for {per_group} x {groups} channels, but the input has {channels}")
        size = self.conv_size(x, (kernel_h, kernel_w), stride, pads, dilation)
        _require(min(size) > 0, name, "a kernel of {}x{} does not fit into {}x{}".format(kernel_h, kernel_w, *self.shape(x)[1:3]))
        padding = schema.Padding.SAME
        if pads is not None and pads != self._same_pads(x, (kernel_h, kernel_w), stride, dilation):
            padding = schema.Padding.VALID
            if any(pads):
                x = self.pad(f"{name}_pad", x, pads)
        depthwise = groups == channels and groups > 1
        options = _options(
            schema.DepthwiseConv2DOptionsT if depthwise else schema.Conv2DOptionsT,
            padding=padding,
            strideH=stride,
            strideW=stride,
            dilationHFactor=dilation,
            dilationWFactor=dilation,
            fusedActivationFunction=FUSED.get(activation, Fused.NONE),
            **({"depthMultiplier": out // channels} if depthwise else {}),
        )
        stored = (weights.reshape(1, out, kernel_h, kernel_w) if depthwise else weights).transpose(0, 2, 3, 1)
        operands = [x, self.constant(f"{name}_w", stored, np.float32), self.constant(f"{name}_b", bias, np.float32)]
        y = self._op(Op.DEPTHWISE_CONV_2D if depthwise else Op.CONV_2D, operands, name, (1, *size, out), options)
        return y if activation in FUSED else self.activation(name, y, activation)

    def conv_size(self, x: int, kernel_hw: tuple[int, int], stride: int, pads: Pads | None, dilation: int) -> tuple[int, int]:
        """Return the height and width that `conv` gives."""
        _, height, width, _ = self.shape(x)
        if pads is not None:
            height, width = height + pads[0] + pads[1], width + pads[2] + pads[3]
        return _out_size((height, width), kernel_hw, stride, dilation, same=pads is None)

    def _same_pads(self, x: int, kernel_hw: tuple[int, int], stride: int, dilation: int) -> Pads:
        _, height, width, _ = self.shape(x)
        rows, columns = (same_padding(length, k, stride, dilation) for length, k in zip((height, width), kernel_hw, strict=True))
        return (*rows, *columns)

    def fully_connected(self, name: str, x: int, weights: NDArray[np.float32], bias: NDArray[np.float32]) -> int:
        """Return a dense layer on (N, in). weights: (out, in); bias: (out,)."""
        options = schema.FullyConnectedOptionsT()
        operands = [x, self.constant(f"{name}_w", weights, np.float32), self.constant(f"{name}_b", bias, np.float32)]
        return self._op(Op.FULLY_CONNECTED, operands, name, (self.shape(x)[0], weights.shape[0]), options)

    # -- layers without weights ----------------------------------------------------------------------------------------------

    def activation(self, name: str, x: int, kind: str) -> int:
        """Return an elementwise activation with an operator of its own. Raises InputError for an unknown one."""
        shape = self.shape(x)
        if kind == "linear":
            return x
        if kind == "leaky":
            return self.leaky_relu(f"{name}_leaky", x, LEAKY_SLOPE)
        if kind == "swish":
            return self.mul(f"{name}_swish", x, self.activation(name, x, "logistic"))
        if kind == "mish":
            return self._mish(name, x)
        plain = {"relu": Op.RELU, "relu6": Op.RELU6, "logistic": Op.LOGISTIC, "tanh": Op.TANH, "hard_swish": Op.HARD_SWISH}
        if kind not in plain:
            raise InputError(f"layer {name}: activation {kind!r} is not supported; known are: {', '.join(ACTIVATIONS)}")
        options = schema.HardSwishOptionsT() if kind == "hard_swish" else None
        return self._op(plain[kind], [x], f"{name}_{kind}", shape, options)

    def leaky_relu(self, name: str, x: int, slope: float) -> int:
        """Return x, times `slope` below zero."""
        return self._op(Op.LEAKY_RELU, [x], name, self.shape(x), _options(schema.LeakyReluOptionsT, alpha=slope))

    def elementwise(self, code: int, name: str, *operands: int) -> int:
        """Return an operator that takes its operands number by number, the smaller repeated. Raises InputError where shapes do not meet."""
        shapes = [self.shape(x) for x in operands]
        try:
            shape = np.broadcast_shapes(*shapes)
        except ValueError as exc:
            raise InputError(f"layer {name}: the shapes {' and '.join(map(str, shapes))} do not fit each other") from exc
        options = ELEMENTWISE_OPTIONS.get(code)
        return self._op(code, operands, name, shape, None if options is None else options())

    def _mish(self, name: str, x: int) -> int:
        """Return x * tanh(ln(1 + e^x)) as x - 2x / (e (e + 2) + 2), e = exp(x): where e overflows, the quotient is 0 and x is right."""
        two = self.constant(f"{name}_two", np.array(2), np.float32)
        e = self.elementwise(Op.EXP, f"{name}_exp", x)
        below = self.add(f"{name}_below", self.mul(f"{name}_square", e, self.add(f"{name}_sum", e, two)), two)
        quotient = self.elementwise(Op.DIV, f"{name}_div", self.mul(f"{name}_double", x, two), below)
        return self.elementwise(Op.SUB, f"{name}_mish", x, quotient)

    def add(self, name: str, a: int, b: int, activation: str = "linear") -> int:
        """Elementwise sum; `b` may have fewer dimensions."""
        options = _options(schema.AddOptionsT, fusedActivationFunction=FUSED.get(activation, Fused.NONE))
        y = self._op(Op.ADD, [a, b], name, self.shape(a), options)
        return y if activation in FUSED else self.activation(name, y, activation)

    def mul(self, name: str, a: int, b: int) -> int:
        """Elementwise product; `b` may be smaller and is repeated then."""
        return self._op(Op.MUL, [a, b], name, self.shape(a), schema.MulOptionsT())

    def pad(self, name: str, x: int, pads: Pads, channels: int = 0) -> int:
        """Zeros around the picture, and `channels` zero channels behind the others."""
        n, height, width, depth = self.shape(x)
        top, bottom, left, right = pads
        amounts = self.constant(f"{name}_amounts", np.array([[0, 0], [top, bottom], [left, right], [0, channels]]), np.int32)
        size = (n, height + top + bottom, width + left + right, depth + channels)
        return self._op(Op.PAD, [x, amounts], name, size, schema.PadOptionsT())

    def max_pool(self, name: str, x: int, kernel: int, stride: int, pads: Pads | None = None) -> int:
        """Maximum over windows; `pads` None stands for SAME. What is padded counts as less than any number."""
        same = pads is None or pads == self._same_pads(x, (kernel, kernel), stride, 1)
        if pads is not None and any(pads) and not same:
            x = self.pad_value(f"{name}_pad", x, ((0, 0), pads[:2], pads[2:], (0, 0)), float(np.finfo(np.float32).min))
        return self._pool(Op.MAX_POOL_2D, name, x, kernel, stride, same=same)

    def average_pool(self, name: str, x: int, kernel: int, stride: int, *, same: bool) -> int:
        """Mean over windows; with `same` those at the edges count what lies inside only."""
        return self._pool(Op.AVERAGE_POOL_2D, name, x, kernel, stride, same=same)

    def _pool(self, code: int, name: str, x: int, kernel: int, stride: int, *, same: bool) -> int:
        n, height, width, depth = self.shape(x)
        size = _out_size((height, width), (kernel, kernel), stride, 1, same=same)
        _require(min(size) > 0, name, f"a window of {kernel}x{kernel} does not fit into {height}x{width}")
        padding = schema.Padding.SAME if same else schema.Padding.VALID
        facts = {"padding": padding, "strideH": stride, "strideW": stride, "filterHeight": kernel, "filterWidth": kernel}
        return self._op(code, [x], name, (n, *size, depth), _options(schema.Pool2DOptionsT, **facts))

    def pad_value(self, name: str, x: int, amounts: Sequence[Sequence[int]], value: float) -> int:
        """Return the tensor with a value before and behind each axis, (before, after) for each."""
        places = self.constant(f"{name}_amounts", np.array(amounts), np.int32)
        filled = self.constant(f"{name}_value", np.array([value]), np.float32)
        size = [length + sum(pair) for length, pair in zip(self.shape(x), amounts, strict=True)]
        return self._op(Op.PADV2, [x, places, filled], name, size, schema.PadV2OptionsT())

    def mean_hw(self, name: str, x: int, *, keep_dims: bool = True) -> int:
        """Mean over height and width: (N, 1, 1, C), or (N, C) without `keep_dims`."""
        return self.mean(name, x, (1, 2), keep_dims=keep_dims)

    def mean(self, name: str, x: int, axes: Sequence[int], *, keep_dims: bool = True) -> int:
        """Mean over axes, which stay with a length of 1 or go."""
        constant = self.constant(f"{name}_axes", np.array(axes), np.int32)
        sizes = [1 if axis in axes else length for axis, length in enumerate(self.shape(x)) if keep_dims or axis not in axes]
        return self._op(Op.MEAN, [x, constant], name, sizes, _options(schema.ReducerOptionsT, keepDims=keep_dims))

    def resize_nearest(self, name: str, x: int, factor: int) -> int:
        """Return each pixel repeated `factor` times along both axes."""
        _, height, width, _ = self.shape(x)
        return self.resize(name, x, "nearest", (height * factor, width * factor))

    def resize(
        self, name: str, x: int, how: Interpolation, size_hw: tuple[int, int], *, half_pixels: bool = False, corners: bool = False
    ) -> int:
        """Return the picture in another size. half_pixels: a pixel's place is its centre, else its upper left corner.

        corners: the centres of the corners stay where they were (`align_corners`), which does not go together with half pixels.
        """
        n, _, _, depth = self.shape(x)
        size = self.constant(f"{name}_size", np.array(size_hw), np.int32)
        code, kind = RESIZES[how]
        options = _options(kind, halfPixelCenters=half_pixels, alignCorners=corners)
        # Version 3 is the first whose kernels know half pixels.
        return self._op(code, [x, size], name, (n, *size_hw, depth), options, version=3 if half_pixels else 1)

    def concat(self, name: str, tensors: Sequence[int], axis: int = 3) -> int:
        """Return the tensors one behind the other along an axis. Raises InputError where their other sizes differ."""
        shapes = [self.shape(x) for x in tensors]
        others = {shape[:axis] + shape[axis + 1 :] for shape in shapes}
        _require(len(others) == 1, name, f"cannot join tensors of the shapes {', '.join(map(str, shapes))}")
        size = list(shapes[0])
        size[axis] = sum(shape[axis] for shape in shapes)
        return self._op(Op.CONCATENATION, list(tensors), name, size, _options(schema.ConcatenationOptionsT, axis=axis))

    def slice_channels(self, name: str, x: int, first: int, count: int) -> int:
        """`count` channels from number `first` on."""
        return self.slice(name, x, (0, 0, 0, first), (*self.shape(x)[:3], count))

    def slice(self, name: str, x: int, begin: Sequence[int], size: Sequence[int]) -> int:
        """Return `size` numbers of each axis from `begin` on."""
        # -1 stands for "to the end", so that the constants do not depend on the axes that are taken whole.
        extent = [-1 if length == have else length for length, have in zip(size, self.shape(x), strict=True)]
        constants = [self.constant(f"{name}_begin", np.array(begin), np.int32), self.constant(f"{name}_extent", np.array(extent), np.int32)]
        return self._op(Op.SLICE, [x, *constants], name, size, schema.SliceOptionsT())

    def transpose(self, name: str, x: int, order: Sequence[int]) -> int:
        """Return the axes in another order."""
        axes = self.constant(f"{name}_order", np.array(order), np.int32)
        return self._op(Op.TRANSPOSE, [x, axes], name, [self.shape(x)[a] for a in order], schema.TransposeOptionsT())

    def reshape(self, name: str, x: int, shape: Sequence[int]) -> int:
        """Return the same numbers in another shape."""
        size = self.constant(f"{name}_shape", np.array(shape), np.int32)
        return self._op(Op.RESHAPE, [x, size], name, shape, _options(schema.ReshapeOptionsT, newShape=[int(n) for n in shape]))

    def space_to_depth(self, name: str, x: int, block: int) -> int:
        """Blocks of pixels as channels, row first: channel = (row * block + column) * depth + old channel."""
        n, height, width, depth = self.shape(x)
        size = (n, height // block, width // block, depth * block * block)
        return self._op(Op.SPACE_TO_DEPTH, [x], name, size, _options(schema.SpaceToDepthOptionsT, blockSize=block))

    def softmax(self, name: str, x: int) -> int:
        """Softmax over the last axis."""
        return self._op(Op.SOFTMAX, [x], name, self.shape(x), _options(schema.SoftmaxOptionsT, beta=1.0))

    def constant(self, name: str, values: NDArray[Any], dtype: Any) -> int:
        """Return a constant tensor."""
        return self.graph.add_constant(name, np.ascontiguousarray(values, dtype).reshape(values.shape))

    def _op(self, code: int, operands: Sequence[int], name: str, shape: Sequence[int], options: Any = None, *, version: int = 1) -> int:
        y = self.graph.add_tensor(name, shape)
        self.graph.add_operator(code, operands, [y], options, version=version)
        return y


def _options(kind: Any, **fields: Any) -> Any:
    """Return an operator's table of options with these fields."""
    made = kind()
    vars(made).update(fields)
    return made


def _out_size(size: tuple[int, int], kernel: tuple[int, int], stride: int, dilation: int, *, same: bool) -> tuple[int, int]:
    if same:
        return -(-size[0] // stride), -(-size[1] // stride)
    rows, columns = ((n - (k - 1) * dilation - 1) // stride + 1 for n, k in zip(size, kernel, strict=True))
    return rows, columns


def _require(condition: bool, name: str, problem: str) -> None:
    if not condition:
        raise InputError(f"layer {name}: {problem}")
