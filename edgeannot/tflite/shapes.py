"""Shape arithmetic of the operators that convolutional networks are made of: what another input size makes of every tensor.

Each rule is first applied to the file's own size and must give the file's own shapes; only then is it trusted for another.
An operator whose inputs keep their shape keeps its outputs, whatever it is (a classifier's dense layer after global pooling).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from edgeannot.tflite.schema import Operator, Tensor, TFLiteModel

__all__ = ["Unsizable", "image_axes", "shapes_at"]

Shape = tuple[int, ...]

_ELEMENTWISE = """
LOGISTIC RELU RELU6 RELU_N1_TO_1 RELU_0_TO_1 LEAKY_RELU TANH HARD_SWISH ELU GELU EXP NEG ABS SQRT RSQRT SQUARE LOG SIN COS ROUND FLOOR
CEIL SIGN CAST DEQUANTIZE QUANTIZE SOFTMAX LOG_SOFTMAX L2_NORMALIZATION LOCAL_RESPONSE_NORMALIZATION FAKE_QUANT
"""
SAME_SHAPE = frozenset(_ELEMENTWISE.split())
BROADCAST = frozenset(["ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "POW", "SQUARED_DIFFERENCE", "PRELU", "FLOOR_DIV", "FLOOR_MOD"])
REDUCE = frozenset(["MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD"])
MAX_INT32 = 2**31 - 1
RESIZE = frozenset(("RESIZE_NEAREST_NEIGHBOR", "RESIZE_BILINEAR"))


class Unsizable(ValueError):  # noqa: N818 - at_size turns it into a ModelError
    """The graph has no other input size, or not this one; the text says why."""


def image_axes(shape: Sequence[int]) -> tuple[int, int]:
    """Return which axes of a picture tensor are its height and width. Raises Unsizable for what is no picture of 1, 3 or 4 channels."""
    if len(shape) == 4 and shape[3] in {1, 3, 4}:
        return 1, 2
    if len(shape) == 4 and shape[1] in {1, 3, 4}:
        return 2, 3
    raise Unsizable(f"the input has shape {tuple(shape)}, which is no picture of 1 or 3 channels")


def shapes_at(model: TFLiteModel, size: int) -> tuple[list[Shape], dict[int, Shape]]:
    """Return every tensor's shape for a square input of `size` pixels, and the new int32 numbers of RESIZE constants by byte position."""
    if size <= 0:
        raise Unsizable("wanted a size above 0")
    if len(model.inputs) != 1:
        raise Unsizable(f"wanted a graph with one input, found {len(model.inputs)}")
    old = [tensor.shape for tensor in model.graph.tensors]
    new: list[Shape] = list(old)
    constants: dict[int, Shape] = {}
    image = model.inputs[0]
    if min(image.shape, default=0) <= 0:
        raise Unsizable(f"the input has shape {image.shape}, which states no size to start from")
    resized = list(image.shape)
    for axis in image_axes(image.shape):
        resized[axis] = size
    new[image.index] = tuple(resized)
    for operator in model.graph.operators:
        step = _Step(model, operator)
        try:
            _follow(step, old, new, constants)
        except Unsizable:
            raise
        except (ValueError, IndexError, ZeroDivisionError, struct.error) as exc:  # a file may state anything
            raise step.refuse("lacks an input, or has one whose shape or numbers do not fit its kind") from exc
    return new, constants


def _follow(step: _Step, old: list[Shape], new: list[Shape], constants: dict[int, Shape]) -> None:
    """Put the shapes that an operator gives into `new`, and the numbers that it needs into `constants`."""
    operator = step.op
    if all(new[i] == old[i] for i in operator.inputs if i >= 0):
        _claim(constants, step.kept_constants(), step)
        return
    if step.outputs(old) != [old[i] for i in operator.outputs]:
        raise Unsizable(f"operator {operator.index} ({operator.name}) gives shapes that this program cannot follow")
    _claim(constants, step.constants(old, new), step)
    for i, shape in zip(operator.outputs, step.outputs(new), strict=True):
        if min(shape, default=1) <= 0:
            raise Unsizable(f"nothing is left of the picture after operator {operator.index} ({operator.name})")
        if max(shape, default=1) > MAX_INT32:
            raise Unsizable(f"more is left of the picture after operator {operator.index} ({operator.name}) than a tensor may have")
        new[i] = shape


def _claim(constants: dict[int, Shape], wanted: dict[int, Shape], step: _Step) -> None:
    """Note what an operator needs of the size constants. Raises Unsizable where another needs something else of the same bytes."""
    for at, values in wanted.items():
        if constants.setdefault(at, values) != values:
            raise step.refuse("shares its constant size with an operator that needs another")
        step.size = values


class _Step:
    """One operator's rule, with its constants at hand."""

    def __init__(self, model: TFLiteModel, operator: Operator) -> None:
        self.model = model
        self.op = operator
        self.size: Shape | None = None
        """What a RESIZE is told to give; None: what the file says."""

    def refuse(self, why: str) -> Unsizable:
        """For a graph that has no other size."""
        return self.misfit(f"{why}, so this graph runs at its own size only")

    def misfit(self, why: str) -> Unsizable:
        """For a size that does not fit."""
        return Unsizable(f"operator {self.op.index} ({self.op.name}) {why}")

    def tensor(self, position: int) -> Tensor:
        return self.model.graph.tensors[self.op.inputs[position]]

    def integers(self, position: int) -> Shape:
        """Return the int32 or int64 numbers of a constant input."""
        tensor = self.tensor(position)
        data = bytes(self.model.constant(tensor))
        if not data or tensor.dtype not in {"int32", "int64"}:
            raise self.refuse(f"takes '{tensor.name}' from the graph instead of a constant")
        code, width = ("i", 4) if tensor.dtype == "int32" else ("q", 8)
        return struct.unpack(f"<{len(data) // width}{code}", data)

    def kept_constants(self) -> dict[int, Shape]:
        """Return the size numbers that this operator needs as they are."""
        if self.op.name not in RESIZE or not self.tensor(1).constant:
            return {}
        return {self.tensor(1).data_at: self.integers(1)}

    def constants(self, old: list[Shape], new: list[Shape]) -> dict[int, Shape]:
        """Return the numbers that this operator needs changed for the new shapes, by byte position."""
        if self.op.name not in RESIZE:
            return {}
        tensor = self.tensor(1)
        if tensor.dtype != "int32":
            raise self.refuse("has a size that is not int32")
        self._only_resizes(tensor)
        source, sized = old[self.op.inputs[0]], new[self.op.inputs[0]]
        wanted = []
        for axis, given in zip((1, 2), self.integers(1), strict=True):
            if given * sized[axis] % source[axis]:
                raise self.misfit(f"scales {source[axis]} pixels to {given}, which gives no whole number from {sized[axis]}")
            wanted.append(given * sized[axis] // source[axis])
        return {tensor.data_at: tuple(wanted)}

    def _only_resizes(self, size: Tensor) -> None:
        """Raise where the bytes of a size are also used for something else."""
        sharing = {t.index for t in self.model.graph.tensors if t.buffer == size.buffer}
        users = [op for op in self.model.graph.operators if sharing & set(op.inputs)]
        if self.model.buffer_users.get(size.buffer, 0) > len(sharing) or any(op.name not in RESIZE for op in users):
            raise self.refuse("shares its constant size with an operator of another kind")

    def outputs(self, shapes: list[Shape]) -> list[Shape]:
        """Return the output shapes for these tensor shapes."""
        name = self.op.name
        inputs = [shapes[i] if i >= 0 else () for i in self.op.inputs]
        if name in SAME_SHAPE:
            return [inputs[0]]
        if name in BROADCAST:
            return [self._broadcast(inputs[0], inputs[1])]
        if name in REDUCE:
            return [self._reduce(inputs[0])]
        if name not in RULES:
            raise self.refuse("depends on the size in a way that is not stored as a size")
        return RULES[name](self, inputs)

    def _broadcast(self, a: Shape, b: Shape) -> Shape:
        rank = max(len(a), len(b))
        a, b = (1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b
        if any(x != y and 1 not in {x, y} for x, y in zip(a, b, strict=True)):
            raise self.refuse(f"would meet shapes {a} and {b}")
        return tuple(max(x, y) for x, y in zip(a, b, strict=True))

    def _reduce(self, shape: Shape) -> Shape:
        axes = {axis % len(shape) for axis in self.integers(1)}
        if self.op.option(0, "b"):
            return tuple(1 if axis in axes else n for axis, n in enumerate(shape))
        return tuple(n for axis, n in enumerate(shape) if axis not in axes)

    def window(self, n: int, kernel: int, stride: int, dilation: int) -> int:
        """Return how often a window fits: padding SAME (0) rounds up, VALID (1) counts whole windows."""
        if stride <= 0:
            raise self.refuse("has a stride of 0")
        reach = (kernel - 1) * dilation + 1
        return -(-n // stride) if self.op.option(0, "b") == 0 else (n - reach + stride) // stride

    # Options tables start with: padding, stride_w, stride_h; what follows differs.
    def conv(self, inputs: list[Shape]) -> list[Shape]:
        (n, height, width, _), weights = inputs[0], inputs[1]
        first = 5 if self.op.name == "DEPTHWISE_CONV_2D" else 4
        channels = weights[3] if self.op.name == "DEPTHWISE_CONV_2D" else weights[0]
        dilation_w, dilation_h = self.op.option(first, default=1), self.op.option(first + 1, default=1)
        rows = self.window(height, weights[1], self.op.option(2), dilation_h)
        return [(n, rows, self.window(width, weights[2], self.op.option(1), dilation_w), channels)]

    def pool(self, inputs: list[Shape]) -> list[Shape]:
        n, height, width, channels = inputs[0]
        rows = self.window(height, self.op.option(4), self.op.option(2), 1)
        return [(n, rows, self.window(width, self.op.option(3), self.op.option(1), 1), channels)]

    def pad(self, inputs: list[Shape]) -> list[Shape]:
        amounts = self.integers(1)
        return [tuple(n + before + after for n, before, after in zip(inputs[0], amounts[::2], amounts[1::2], strict=True))]

    def concatenate(self, inputs: list[Shape]) -> list[Shape]:
        axis = self.op.option(0) % len(inputs[0])
        rest = {shape[:axis] + shape[axis + 1 :] for shape in inputs}
        if len(rest) != 1:
            raise self.misfit(f"would join shapes {inputs[0]} and {inputs[-1]}; choose a size that every stride divides")
        return [(*inputs[0][:axis], sum(shape[axis] for shape in inputs), *inputs[0][axis + 1 :])]

    def resize(self, inputs: list[Shape]) -> list[Shape]:
        height, width = self.size or self.integers(1)
        return [(inputs[0][0], height, width, inputs[0][3])]

    def space_to_depth(self, inputs: list[Shape]) -> list[Shape]:
        n, height, width, channels = inputs[0]
        block = self.op.option(0)
        if self.op.name == "DEPTH_TO_SPACE":
            return [(n, height * block, width * block, channels // (block * block))]
        if height % block or width % block:
            raise self.misfit(f"needs sides that {block} divides and would get {height}x{width}")
        return [(n, height // block, width // block, channels * block * block)]

    def split(self, inputs: list[Shape]) -> list[Shape]:
        axis = self.integers(0)[0] % len(inputs[1])
        parts = len(self.op.outputs)
        if inputs[1][axis] % parts:
            raise self.misfit(f"would split {inputs[1][axis]} into {parts} parts")
        return [(*inputs[1][:axis], inputs[1][axis] // parts, *inputs[1][axis + 1 :])] * parts

    def transpose(self, inputs: list[Shape]) -> list[Shape]:
        return [tuple(inputs[0][axis] for axis in self.integers(1))]

    def slice_(self, inputs: list[Shape]) -> list[Shape]:
        """Follow SLICE, where the axes that change are taken whole (begin 0, size -1 means the rest)."""
        source = self.tensor(0).shape
        taken = []
        for now, before, begin, size in zip(inputs[0], source, self.integers(1), self.integers(2), strict=True):
            if size < 0:
                taken.append(now - begin)
            elif now == before:
                taken.append(size)
            else:
                raise self.refuse("cuts a fixed part out of the picture")
        return [tuple(taken)]


_BY_NAMES: dict[Callable[[_Step, list[Shape]], list[Shape]], str] = {
    _Step.conv: "CONV_2D DEPTHWISE_CONV_2D",
    _Step.pool: "MAX_POOL_2D AVERAGE_POOL_2D L2_POOL_2D",
    _Step.pad: "PAD PADV2 MIRROR_PAD",
    _Step.concatenate: "CONCATENATION",
    _Step.resize: "RESIZE_NEAREST_NEIGHBOR RESIZE_BILINEAR",
    _Step.space_to_depth: "SPACE_TO_DEPTH DEPTH_TO_SPACE",
    _Step.split: "SPLIT",
    _Step.transpose: "TRANSPOSE",
    _Step.slice_: "SLICE",
}
RULES = {name: rule for rule, names in _BY_NAMES.items() for name in names.split()}
