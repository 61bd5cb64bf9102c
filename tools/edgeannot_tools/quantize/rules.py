"""Which TFLite operators have int8 kernels on both runtimes, and what those kernels ask of scales and zero points.

The kernels' demands: https://ai.google.dev/edge/litert/models/quantization_spec. Operators that are not listed (DIV, POW, SQRT,
LOG, COS, custom ones, ...) have no int8 kernel in at least one of tflite-runtime 2.14 and LiteRT;
tests/tools/quantize/test_int8_rules.py runs every one that is listed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from edgeannot_tools.graph.graph import Op

__all__ = ["RULES", "Rule", "Scales", "WeightSlots"]


class Scales(Enum):
    """How the scales of an operator's inputs and outputs are bound."""

    FREE = auto()
    """Each tensor has its own."""
    SHARED = auto()
    """All real-valued inputs and outputs have one: the operator moves stored numbers around."""
    FIXED = auto()
    """The output's is prescribed."""
    WEIGHTS = auto()
    """Inputs and output have their own; weights are symmetric, the bias has input scale times weight scale."""


@dataclass(frozen=True, slots=True)
class WeightSlots:
    """Where an operator with weights has its operands, and along which axis each output channel's weights lie.

    axis None: the kernel of tflite-runtime 2.14 knows one scale for all weights only.
    """

    data: int
    weights: int
    bias: int
    axis: int | None


@dataclass(frozen=True, slots=True)
class Rule:
    """What is needed to run one kind of operator in int8. `version` is the first whose kernels take int8."""

    version: int
    scales: Scales = Scales.FREE
    fixed: tuple[float, int] | None = None
    weights: WeightSlots | None = None


def _free(version: int) -> Rule:
    return Rule(version)


def _shared(version: int) -> Rule:
    return Rule(version, Scales.SHARED)


def _fixed(version: int, scale: float, zero_point: int) -> Rule:
    return Rule(version, Scales.FIXED, fixed=(scale, zero_point))


def _weights(version: int, data: int, weights: int, bias: int, axis: int | None) -> Rule:
    return Rule(version, Scales.WEIGHTS, weights=WeightSlots(data, weights, bias, axis))


RULES: dict[int, Rule] = {
    Op.CONV_2D: _weights(3, 0, 1, 2, 0),
    Op.DEPTHWISE_CONV_2D: _weights(3, 0, 1, 2, 3),
    Op.FULLY_CONNECTED: _weights(4, 0, 1, 2, None),
    Op.TRANSPOSE_CONV: _weights(3, 2, 1, 3, 0),
    # Arithmetic.
    Op.ADD: _free(2),
    Op.SUB: _free(2),
    Op.MUL: _free(2),
    Op.SQUARED_DIFFERENCE: _free(2),
    Op.BATCH_MATMUL: _free(2),
    Op.MEAN: _free(2),
    Op.SUM: _free(2),
    Op.ABS: _free(2),
    Op.RSQRT: _free(2),
    Op.EXP: _free(2),
    # Activations.
    Op.RELU: _free(2),
    Op.RELU6: _free(2),
    Op.RELU_N1_TO_1: _free(1),
    Op.LEAKY_RELU: _free(2),
    Op.PRELU: _free(1),
    Op.ELU: _free(1),
    Op.HARD_SWISH: _free(1),
    Op.GELU: _free(2),
    Op.LOGISTIC: _fixed(2, 1 / 256, -128),
    Op.SOFTMAX: _fixed(2, 1 / 256, -128),
    Op.LOG_SOFTMAX: _fixed(2, 16 / 256, 127),
    Op.TANH: _fixed(2, 1 / 128, 0),
    Op.L2_NORMALIZATION: _fixed(2, 1 / 128, 0),
    # Choosing and moving numbers.
    Op.MAX_POOL_2D: _shared(2),
    Op.AVERAGE_POOL_2D: _shared(2),
    Op.REDUCE_MAX: _shared(2),
    Op.REDUCE_MIN: _shared(2),
    Op.MAXIMUM: _shared(2),
    Op.MINIMUM: _shared(2),
    Op.RESIZE_BILINEAR: _shared(2),
    Op.RESIZE_NEAREST_NEIGHBOR: _shared(2),
    Op.RESHAPE: _shared(1),
    Op.SQUEEZE: _shared(1),
    Op.EXPAND_DIMS: _shared(1),
    Op.TRANSPOSE: _shared(2),
    Op.CONCATENATION: _shared(2),
    Op.PACK: _shared(2),
    Op.UNPACK: _shared(2),
    Op.SPLIT: _shared(2),
    Op.SPLIT_V: _shared(2),
    Op.SLICE: _shared(2),
    Op.STRIDED_SLICE: _shared(2),
    Op.GATHER: _shared(2),
    Op.GATHER_ND: _shared(2),
    Op.PAD: _shared(2),
    Op.PADV2: _shared(2),
    Op.MIRROR_PAD: _shared(2),
    Op.SPACE_TO_DEPTH: _shared(2),
    Op.DEPTH_TO_SPACE: _shared(2),
    Op.SPACE_TO_BATCH_ND: _shared(2),
    Op.BATCH_TO_SPACE_ND: _shared(2),
    Op.TILE: _shared(2),
    Op.BROADCAST_TO: _shared(3),
    Op.REVERSE_V2: _shared(2),
    Op.SELECT: _shared(2),
    Op.SELECT_V2: _shared(1),
    Op.TOPK_V2: _shared(2),
    # Only the outcome of these is used, or only the shape.
    Op.ARG_MAX: _free(2),
    Op.ARG_MIN: _free(2),
    Op.EQUAL: _free(2),
    Op.NOT_EQUAL: _free(2),
    Op.LESS: _free(2),
    Op.LESS_EQUAL: _free(2),
    Op.GREATER: _free(2),
    Op.GREATER_EQUAL: _free(2),
    Op.SHAPE: _free(1),
}
"""What is known of each operator; the kernels of both runtimes were run for every one of them."""
