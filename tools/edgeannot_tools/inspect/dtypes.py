"""What a TFLite network calculates with and what its weights are stored as, in words."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from edgeannot.tflite.schema import Operator, SubGraph, TFLiteModel
from edgeannot_tools.graph.macs import EXPANDS, WEIGHT_SLOTS, stored_weights

__all__ = ["INTEGERS", "Dtypes", "is_float_work", "read_dtypes"]

INTEGERS = frozenset(("int8", "uint8", "int16"))
BORDERS = frozenset(("QUANTIZE", "DEQUANTIZE"))
KINDS = {
    "integer": "full integer",
    "dynamic-range": "int8 weights, float32 activations that each layer rounds to int8 as it runs (dynamic range)",
    "weight-only": "integer weights that are expanded to float32, calculated in float32 (weight-only)",
    "float16": "float16 weights that are expanded to float32, calculated in float32",
    "float32": "float32",
    "none": "no layer with weights",
}
"""What the kinds are called for people."""


@dataclass(frozen=True, slots=True)
class Dtypes:
    """How a network is quantized."""

    kind: str
    """A key of KINDS, of most layers with weights."""
    layers: dict[str, int]
    """How many layers with weights are of which kind."""
    activations: str
    """The type of what most of those layers give: int8, uint8, int16, float32."""
    weights: str
    """The stored type of most of their weights; empty where there are none."""
    per_channel: int
    """How many of those layers have a scale for each channel of their weights."""
    float_operators: tuple[Operator, ...]
    """Operators of an integer network that calculate in float32."""

    def __str__(self) -> str:
        """In one line.

        >>> str(Dtypes("integer", {"integer": 3}, "int8", "int8", 3, ()))
        'full integer, int8 activations, int8 weights (per channel)'
        """
        total = sum(self.layers.values())
        text = KINDS[self.kind]
        if self.kind == "integer":
            text += f", {self.activations} activations, {self.weights} weights"
        if self.kind in {"integer", "weight-only", "dynamic-range"}:
            how = "per channel" if self.per_channel == total else "per tensor" if not self.per_channel else "some per channel"
            text += f" ({how})"
        if self.float_operators:
            names = Counter(operator.custom_name or operator.name for operator in self.float_operators)
            text = text.replace("full integer", "integer") + f", in float32: {', '.join(f'{n} {name}' for name, n in names.most_common())}"
        others = [f"{count} {kind}" for kind, count in self.layers.items() if kind != self.kind]
        return text + (f"; of {total} layers with weights: {', '.join(others)}" if others else "")


def read_dtypes(model: TFLiteModel) -> Dtypes:
    """Return how the graph that runs is quantized."""
    graph = model.graph
    kinds: Counter[str] = Counter()
    activations: Counter[str] = Counter()
    weights: Counter[str] = Counter()
    per_channel = 0
    for operator in graph.operators:
        stored = stored_weights(graph, operator)
        if operator.name not in WEIGHT_SLOTS or operator.name == "PRELU" or not stored:
            continue
        kinds[_kind(graph, operator, stored[0].dtype)] += 1
        activations[graph.tensors[operator.outputs[0]].dtype] += 1
        weights[stored[0].dtype] += 1
        per_channel += len(stored[0].scales) > 1
    kind = kinds.most_common(1)[0][0] if kinds else "none"
    return Dtypes(
        kind=kind,
        layers=dict(kinds.most_common()),
        activations=_most(activations),
        weights=_most(weights),
        per_channel=per_channel,
        float_operators=tuple(op for op in graph.operators if is_float_work(graph, op)) if kind == "integer" else (),
    )


def is_float_work(graph: SubGraph, operator: Operator) -> bool:
    """Tell whether an operator calculates in float32; turning numbers into and out of integers is not calculating."""
    return operator.name not in BORDERS and any(graph.tensors[i].dtype == "float32" for i in operator.outputs)


def _kind(graph: SubGraph, operator: Operator, stored: str) -> str:
    if graph.tensors[operator.outputs[0]].dtype in INTEGERS:
        return "integer"
    if stored == "float16":
        return "float16"
    if stored not in INTEGERS | {"int4"}:
        return "float32"
    before = graph.producer(operator.inputs[WEIGHT_SLOTS[operator.name][0]])
    return "weight-only" if before is not None and before.name in EXPANDS else "dynamic-range"


def _most(counts: Counter[str]) -> str:
    return counts.most_common(1)[0][0] if counts else ""
