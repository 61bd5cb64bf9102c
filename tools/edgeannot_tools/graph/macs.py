"""What each operator of a TFLite graph costs: multiply-accumulates of one run, and the weights that it holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from edgeannot.tflite.schema import Operator, SubGraph, Tensor, TFLiteModel

__all__ = ["WEIGHT_SLOTS", "Cost", "operator_costs", "operator_macs", "stored_weights", "total_parameters"]

WEIGHT_SLOTS: dict[str, tuple[int, ...]] = {
    "CONV_2D": (1, 2),
    "DEPTHWISE_CONV_2D": (1, 2),
    "FULLY_CONNECTED": (1, 2),
    "TRANSPOSE_CONV": (1, 3),
    "CONV_3D": (1, 2),
    "BATCH_MATMUL": (1, 0),
    "PRELU": (1,),
}
"""Operators that hold what a training learns -> the inputs that are weights and biases, the weights first."""

EXPANDS = frozenset(("DEQUANTIZE", "DENSIFY"))
"""Operators that turn a constant as it is stored into one that is calculated with."""


@dataclass(frozen=True, slots=True)
class Cost:
    """One operator's share. An operator without weights or products has zeros."""

    operator: Operator
    macs: int
    parameters: int
    """Numbers in its weights and biases."""
    weight_bytes: int
    """What they take in the file."""


def operator_macs(name: str, inputs: Sequence[Sequence[int]], output: Sequence[int], *, transposed_left: bool = False) -> int:
    """Return the multiply-accumulates of one operator for the shapes of its inputs and of its first output; 0 for kinds without products.

    With P(s) for the product of a shape's numbers, and kh, kw for a filter's height and width:

    * CONV_2D: P(output) * kh * kw * Cin/groups; filters are (Cout, kh, kw, Cin/groups), so a grouped one counts by itself
    * DEPTHWISE_CONV_2D: P(output) * kh * kw; filters are (1, kh, kw, Cout)
    * TRANSPOSE_CONV: P(data) * kh * kw * Cout; filters are (Cout, kh, kw, Cin); what falls over the border is counted as well
    * CONV_3D: P(output) * kd * kh * kw * Cin/groups; filters are (kd, kh, kw, Cin/groups, Cout)
    * FULLY_CONNECTED: P(output) * inputs of one output; weights are (outputs, inputs)
    * BATCH_MATMUL: P(output) * columns of the left matrix (its rows where `transposed_left`)

    Biases, activations, pooling, resizing and elementwise arithmetic are not counted, as in the figures that papers give.

    >>> operator_macs("CONV_2D", [(1, 224, 224, 3), (32, 3, 3, 3)], (1, 112, 112, 32))
    10838016
    """
    if name in {"CONV_2D", "FULLY_CONNECTED"}:
        return prod(output) * prod(inputs[1][1:])
    if name == "DEPTHWISE_CONV_2D":
        return prod(output) * prod(inputs[1][1:3])
    if name == "TRANSPOSE_CONV":
        return prod(inputs[2]) * prod(inputs[1][:3])
    if name == "CONV_3D":
        return prod(output) * prod(inputs[1][:4])
    if name == "BATCH_MATMUL":
        return prod(output) * inputs[0][-2 if transposed_left else -1]
    return 0


def operator_costs(model: TFLiteModel) -> tuple[Cost, ...]:
    """Return the cost of every operator of the graph that runs, in its order."""
    graph = model.graph
    costs = []
    for operator in graph.operators:
        weights = stored_weights(graph, operator)
        costs.append(
            Cost(
                operator=operator,
                macs=_macs(graph, operator),
                parameters=sum(prod(tensor.shape) for tensor in weights),
                weight_bytes=sum(tensor.data_size for tensor in weights),
            )
        )
    return tuple(costs)


def total_parameters(model: TFLiteModel) -> int:
    """Return numbers in all weights and biases of the graph that runs; what several operators share counts once."""
    graph = model.graph
    shared = {tensor.buffer: prod(tensor.shape) for operator in graph.operators for tensor in stored_weights(graph, operator)}
    return sum(shared.values())


def stored_weights(graph: SubGraph, operator: Operator) -> list[Tensor]:
    """Return the constants that an operator's weights and biases are stored in, the weights first, looked up behind DEQUANTIZE.

    Empty for an operator of another kind, and for a product of two computed tensors.
    """
    found = []
    for slot in WEIGHT_SLOTS.get(operator.name, ()):
        number = operator.inputs[slot] if slot < len(operator.inputs) else -1
        while number >= 0 and not graph.tensors[number].constant:
            before = graph.producer(number)
            number = before.inputs[0] if before is not None and before.name in EXPANDS else -1
        if number >= 0:
            found.append(graph.tensors[number])
    return found


def _macs(graph: SubGraph, operator: Operator) -> int:
    if operator.name not in WEIGHT_SLOTS or not operator.outputs:
        return 0
    inputs = [graph.tensors[i].shape if i >= 0 else () for i in operator.inputs]
    transposed = operator.name == "BATCH_MATMUL" and bool(operator.option(0, "b"))  # table BatchMatMulOptions: adj_x, adj_y
    return operator_macs(operator.name, inputs, graph.tensors[operator.outputs[0]].shape, transposed_left=transposed)
