"""Chooses scale and zero point for every tensor of a graph that is to become int8."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from edgeannot_tools.graph.graph import Graph, Op, Operator, Type, schema
from edgeannot_tools.graph.layers import option
from edgeannot_tools.quantize.calibrate import (
    NO_NUMBER,
    SATURATION,
    Calibration,
    activation_behind,
    best_range,
    logistic,
    padded_for_maximum,
)
from edgeannot_tools.quantize.rules import RULES, Scales

__all__ = ["Recipe", "ScaleZero", "choose_scales", "is_real", "scale_for", "touches_real"]

ScaleZero = tuple[float, int]
"""Scale and zero point of an int8 tensor."""

Range = tuple[float, float]
BOUNDED = frozenset({Op.RELU6, Op.RELU_N1_TO_1})
FUSED_BOUNDED = frozenset({schema.ActivationFunctionType.RELU6, schema.ActivationFunctionType.RELU_N1_TO_1})
SCALE_BITS = 7
"""Scales are rounded up to so many bits, so that float kernels of other runtimes and processors lead to the same file."""
SURE_LOGIT = 4.0
"""A score of 0.98. Calibration pictures need not show an object of every size that the network is so sure of: NanoDet-g's finest layer
was 0.61 at most on six photos, and whatever was surer got 0.61 in int8."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What kind of int8 model is wanted."""

    input_type: Literal["uint8", "int8", "float32"] = "uint8"
    """uint8 takes a camera's bytes as they are where `input_range` is made for that, such as 0..1 for byte / 255."""
    output_type: Literal["auto", "int8", "float32"] = "auto"
    """auto: int8, but float32 where an output needs it to keep its meaning."""
    input_range: tuple[float, float] | None = None
    """The real values of the lowest and the highest byte; None takes what calibration saw, which darker pictures make too narrow."""
    head_ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Outputs, by name, that are clipped to a range, which gives them a finer step: logits beyond 8 are as good as 8."""
    logits: frozenset[str] = frozenset()
    """Outputs, by name, that a logistic function makes scores of: their range reaches at least to `SURE_LOGIT`."""
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Tensors inside the network, by name, that reach no farther than this, whatever calibration saw."""
    keep_peaks: bool = False
    """Whether all of the largest values that calibration saw stay, also inside the network and where they are rare: what a detector is
    sure of has the strongest maps, and clipped ones make its scores lower."""
    keep_bounded: bool = False
    """Whether that holds for what a bounded rectifier (ReLU6) gives, and no other: its step is never coarse. SSDLite-MobileNetV2 kept
    97, 95 and 97 % of its sure boxes at 236, 300 and 364 pixels with this, 94, 96 and 95 % without, and 93 % at the first two with the
    peaks of all tensors."""
    allow_float: bool = False
    """Whether operators without int8 kernel may stay in float amid the network, at the cost of conversions."""
    float_tail: bool | None = None
    """Whether what follows the last weights (box decoding, softmax) stays in float; None: where it would lose its meaning in int8."""
    float_tensors: frozenset[str] = frozenset()
    """Operators that give these tensors stay in float: a way to keep the few layers that lose most."""
    float_outputs: frozenset[str] = frozenset()
    """Outputs, by name, for which alone it stays in float: decoded boxes need finer steps than the scores beside them."""


def is_real(graph: Graph, tensor: int) -> bool:
    """Tell whether a tensor is computed and holds real numbers, so that it is stored with a scale."""
    return tensor >= 0 and bool(graph.tensors[tensor].type == Type.FLOAT32) and not graph.is_constant(tensor)


def touches_real(graph: Graph, operator: Operator) -> bool:
    """Tell whether an operator reads or gives such a tensor."""
    return any(is_real(graph, t) for t in (*operator.inputs, *operator.outputs))


def scale_for(lowest: float, highest: float, *, exact: bool = False) -> ScaleZero:
    """Return the int8 scale and zero point for a range, widened to hold 0 (which padding and rectifiers need to be exact).

    >>> scale_for(0.0, 1.0, exact=True)
    (0.003921568859368563, -128)
    """
    lowest, highest = min(lowest, 0.0), max(highest, 0.0)
    scale = max((highest - lowest) / 255, 1e-9)
    if not exact:
        mantissa, exponent = math.frexp(scale)
        # The tiny amount taken off first keeps a number that is round already from being rounded up by float noise.
        scale = math.ldexp(math.ceil(mantissa * 2**SCALE_BITS - 1e-3) / 2**SCALE_BITS, exponent)
    scale = float(np.float32(scale))
    return scale, int(np.clip(round(-128 - lowest / scale), -128, 127))


def choose_scales(
    graph: Graph, calibration: Calibration, recipe: Recipe, *, float_positions: set[int], tail: set[int]
) -> tuple[dict[int, ScaleZero], set[tuple[int, int]]]:
    """Return a scale for every computed real-valued tensor, and the (operator, input slot) pairs that must be brought to another scale.

    float_positions: operators that stay in float. tail: those behind the last weights, whose tensors keep their widest range.
    """
    groups, requantized = _Groups(), set()
    padded = padded_for_maximum(graph)
    shared = []
    for position, operator in enumerate(graph.operators):
        if position in float_positions or not touches_real(graph, operator):
            continue
        rule = RULES[graph.code(operator)]
        if rule.fixed is not None:
            groups.fixed.update(dict.fromkeys(operator.outputs, rule.fixed))
        elif rule.scales is Scales.SHARED:
            shared.append((position, operator))
    # Operators with one input first: they hand a prescribed scale on to their output.
    for position, operator in sorted(shared, key=lambda item: (_count_real(graph, item[1]) > 1, item[0])):
        requantized |= {(position, slot) for slot in _join_shared(graph, groups, operator, padded)}
    members: dict[int, list[int]] = {}
    for tensor in range(len(graph.tensors)):
        if is_real(graph, tensor) and tensor in calibration:
            members.setdefault(groups.find(tensor), []).append(tensor)
    heads = frozenset(graph.outputs) | {t for i in tail for t in (*graph.operators[i].inputs, *graph.operators[i].outputs)}
    chooser = _Chooser(graph, calibration, recipe, heads, graph.consumers(), _bounded(graph))
    scales: dict[int, ScaleZero] = {}
    for root, tensors in members.items():
        scale = groups.fixed.get(root) or chooser.scale(tensors, groups.constants.get(root, (0.0, 0.0)))
        scales.update(dict.fromkeys(tensors, scale))
    return scales, requantized


def _bounded(graph: Graph) -> frozenset[int]:
    """Return the tensors that a rectifier with an upper bound gives, of its own or at the end of a layer."""
    found = (o for o in graph.operators if graph.code(o) in BOUNDED or option(o, "fusedActivationFunction") in FUSED_BOUNDED)
    return frozenset(t for operator in found for t in operator.outputs)


class _Groups:
    """Tensors that must share a scale, as a union-find forest. https://en.wikipedia.org/wiki/Disjoint-set_data_structure"""

    def __init__(self) -> None:
        self.parent: dict[int, int] = {}
        self.fixed: dict[int, ScaleZero] = {}
        self.constants: dict[int, tuple[float, float]] = {}

    def find(self, tensor: int) -> int:
        """Return the tensor that stands for the group."""
        while self.parent.setdefault(tensor, tensor) != tensor:
            self.parent[tensor] = self.parent[self.parent[tensor]]
            tensor = self.parent[tensor]
        return tensor

    def join(self, a: int, b: int) -> bool:
        """Make one group of two; False, and no change, where they have different prescribed scales, or one has and one has not."""
        a, b = self.find(a), self.find(b)
        if a == b:
            return True
        if self.fixed.get(a) != self.fixed.get(b):
            return False
        self.parent[b] = a
        low, high = self.constants.get(a, (0.0, 0.0)), self.constants.get(b, (0.0, 0.0))
        self.constants[a] = (min(low[0], high[0]), max(low[1], high[1]))
        return True


def _count_real(graph: Graph, operator: Operator) -> int:
    return sum(graph.tensors[t].type == Type.FLOAT32 for t in operator.inputs if t >= 0)


def _join_shared(graph: Graph, groups: _Groups, operator: Operator, padded: frozenset[int]) -> Iterator[int]:
    """Put an operator's inputs and outputs in one group; give the input slots whose prescribed scale forbids it.

    padded: tensors in which a constant counts only where it is larger than the numbers around it.
    """
    slots = [slot for slot, t in enumerate(operator.inputs) if is_real(graph, t)]
    real_outputs = [t for t in operator.outputs if is_real(graph, t)]
    inputs = [operator.inputs[slot] for slot in slots]
    constants = [t for t in operator.inputs if t >= 0 and graph.is_constant(t) and graph.tensors[t].type == Type.FLOAT32]
    prescribed = {groups.fixed.get(groups.find(t)) for t in inputs}
    output = real_outputs[0] if real_outputs else inputs[0]
    if len(prescribed) == 1 and not constants:
        scale = prescribed.pop()
        for tensor in real_outputs:
            if scale is not None and groups.find(tensor) not in groups.fixed:
                groups.fixed[groups.find(tensor)] = scale
    for slot, tensor in zip(slots, inputs, strict=True):
        if not groups.join(output, tensor):
            yield slot
    for tensor in real_outputs[1:]:
        groups.join(output, tensor)
    root = groups.find(output)
    low, high = groups.constants.get(root, (0.0, 0.0))
    for tensor in constants:
        values = graph.constant(tensor)
        finite = values[np.abs(values) < NO_NUMBER]
        if finite.size:
            low, high = low if output in padded else min(low, float(finite.min())), max(high, float(finite.max()))
    groups.constants[root] = (low, high)


@dataclass(frozen=True, slots=True)
class _Chooser:
    """Turns ranges into scales."""

    graph: Graph
    calibration: Calibration
    recipe: Recipe
    heads: frozenset[int]
    """Tensors by which results leave the network."""
    consumers: Mapping[int, Sequence[Operator]]
    bounded: frozenset[int]
    """Tensors that a bounded rectifier gives."""

    def scale(self, tensors: Sequence[int], constants: Range) -> ScaleZero:
        """Return one scale for the tensors of a group and the constants among its operands."""
        recipe = self.recipe
        if recipe.input_range is not None and set(tensors) & set(self.graph.inputs):
            return scale_for(*recipe.input_range, exact=True)
        ranges = [self.range(tensor) for tensor in tensors]
        lowest = min(constants[0], *(low for low, _ in ranges))
        highest = max(constants[1], *(high for _, high in ranges))
        names = [self.graph.name(tensor) for tensor in tensors]
        if any(name in recipe.logits and tensor in self.heads for name, tensor in zip(names, tensors, strict=True)):
            highest = max(highest, SURE_LOGIT)
        bounds = [recipe.head_ranges.get(n) for n, t in zip(names, tensors, strict=True) if t in self.heads] + [
            recipe.ranges.get(n) for n in names
        ]
        for bound in bounds:
            if bound is not None:
                lowest, highest = max(lowest, bound[0]), min(highest, bound[1])
        return scale_for(lowest, highest)

    def range(self, tensor: int) -> Range:
        """Return the range that a tensor is to be stored with, as far as it alone is concerned.

        Inside the network the usual extremes count, because single odd pictures would make every step coarser; before an
        activation, what is left of the numbers behind it. Where results leave the network the widest extremes do: the scores of
        rare, confident objects are exactly those.
        """
        function = activation_behind(self.graph, tensor, self.consumers)
        if tensor in self.heads:
            lowest, highest = self.calibration.widest(tensor)
            return (max(lowest, -SATURATION), min(highest, SATURATION)) if function is logistic else (lowest, highest)
        widest = self.calibration.widest(tensor)
        if function is not None:
            lowest, highest = best_range(self.calibration.values[tensor], *widest, function)
            return (lowest, widest[1]) if self.recipe.keep_peaks else (lowest, highest)
        if self.recipe.keep_peaks or (self.recipe.keep_bounded and tensor in self.bounded):
            return widest
        return self.calibration.usual(tensor)
