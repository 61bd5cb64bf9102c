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


def _weights(version: int, data: int, weights: int, bias: int, axis: int | None) -> Rule:
    return Rule(version, Scales.WEIGHTS, weights=WeightSlots(data, weights, bias, axis))


_SIGMOID = Rule(2, Scales.FIXED, fixed=(1 / 256, -128))
_ONE_TO_ONE = Rule(2, Scales.FIXED, fixed=(1 / 128, 0))
_BY_NAMES = {
    Rule(2): """
        ADD SUB MUL SQUARED_DIFFERENCE BATCH_MATMUL MEAN SUM ABS RSQRT EXP RELU RELU6 LEAKY_RELU GELU
        ARG_MAX ARG_MIN EQUAL NOT_EQUAL LESS LESS_EQUAL GREATER GREATER_EQUAL""",
    Rule(1): "RELU_N1_TO_1 PRELU ELU HARD_SWISH SHAPE",
    # Choosing and moving numbers.
    Rule(2, Scales.SHARED): """
        MAX_POOL_2D AVERAGE_POOL_2D REDUCE_MAX REDUCE_MIN MAXIMUM MINIMUM RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR TRANSPOSE CONCATENATION
        PACK UNPACK SPLIT SPLIT_V SLICE STRIDED_SLICE GATHER GATHER_ND PAD PADV2 MIRROR_PAD SPACE_TO_DEPTH DEPTH_TO_SPACE
        SPACE_TO_BATCH_ND BATCH_TO_SPACE_ND TILE REVERSE_V2 SELECT TOPK_V2""",
    Rule(1, Scales.SHARED): "RESHAPE SQUEEZE EXPAND_DIMS SELECT_V2",
    Rule(3, Scales.SHARED): "BROADCAST_TO",
}
RULES: dict[int, Rule] = {
    Op.CONV_2D: _weights(3, 0, 1, 2, 0),
    Op.DEPTHWISE_CONV_2D: _weights(3, 0, 1, 2, 3),
    Op.FULLY_CONNECTED: _weights(4, 0, 1, 2, None),
    Op.TRANSPOSE_CONV: _weights(3, 2, 1, 3, 0),
    Op.LOGISTIC: _SIGMOID,
    Op.SOFTMAX: _SIGMOID,
    Op.LOG_SOFTMAX: Rule(2, Scales.FIXED, fixed=(16 / 256, 127)),
    Op.TANH: _ONE_TO_ONE,
    Op.L2_NORMALIZATION: _ONE_TO_ONE,
    **{getattr(Op, name): rule for rule, names in _BY_NAMES.items() for name in names.split()},
}
"""What is known of each operator; the kernels of both runtimes were run for every one of them."""
