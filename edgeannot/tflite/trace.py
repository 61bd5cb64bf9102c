"""Where an output's numbers come from: a walk back through the operators that only move numbers, to the ones that make them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeannot.tflite.schema import Operator, SubGraph, Tensor, TFLiteModel

__all__ = [
    "Piece",
    "constant_values",
    "depends_on_input",
    "first_layer_size",
    "input_affine",
    "maker",
    "makers",
    "mostly_silu",
    "pieces",
]

MOVES = frozenset(["RESHAPE", "TRANSPOSE", "SQUEEZE", "EXPAND_DIMS", "QUANTIZE", "DEQUANTIZE", "CAST"])
"""Operators that change the form of a tensor and nothing else."""
CUTS = frozenset(["STRIDED_SLICE", "SLICE", "SPLIT", "SPLIT_V", "GATHER"])
"""Operators that take a part of a tensor."""
MAX_STEPS = 64

TYPES = frozenset(("float32", "float16", "float64", "int8", "uint8", "int16", "int32", "int64"))
"""Of constants that are read."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Neighbouring columns of an output that one operator made. `maker` is None for an input or a constant."""

    width: int
    maker: Operator | None

    @property
    def made_by(self) -> str:
        """The maker's name, "" for none."""
        return "" if self.maker is None else self.maker.custom_name or self.maker.name


def maker(graph: SubGraph, tensor: int, *, through_cuts: bool = True) -> Operator | None:
    """Return the operator that made a tensor's numbers, past all that only move or cut them."""
    passing = MOVES | CUTS if through_cuts else MOVES
    for _ in range(MAX_STEPS):
        operator = graph.producer(tensor)
        if operator is None or operator.name not in passing:
            return operator
        source = operator.inputs[1:2] if operator.name == "SPLIT" else operator.inputs[:1]
        if not source:
            return None
        tensor = source[0]
    return None


def makers(graph: SubGraph, tensor: int) -> list[Operator]:
    """As `maker`, but past concatenations as well: the operators that made any part of the tensor."""
    found: list[Operator] = []
    waiting, seen = [tensor], set()
    while waiting:
        operator = maker(graph, waiting.pop())
        if operator is None or operator.index in seen:
            continue
        seen.add(operator.index)
        if operator.name in {"CONCATENATION", "PACK"}:
            waiting.extend(i for i in operator.inputs if i >= 0)
        else:
            found.append(operator)
    return found


def pieces(graph: SubGraph, tensor: int, columns: int) -> list[Piece]:
    """Return what an output's `columns` columns are joined from, in order; one piece where they are not joined.

    Joins along the other axis (the strides of a detector) are followed into their first part, since all parts are made alike.
    """
    for _ in range(MAX_STEPS):
        operator = graph.producer(tensor)
        if operator is None or not operator.inputs:
            return [Piece(columns, None)]
        if operator.name in MOVES:
            tensor = operator.inputs[0]
        elif operator.name == "CONCATENATION":
            widths = _widths(graph, operator, columns)
            if widths is None:
                tensor = operator.inputs[0]
            else:
                return [piece for i, width in zip(operator.inputs, widths, strict=True) for piece in pieces(graph, i, width)]
        else:
            return [Piece(columns, maker(graph, tensor))]
    return [Piece(columns, None)]


def _widths(graph: SubGraph, join: Operator, columns: int) -> list[int] | None:
    """Return how the columns are spread over the inputs of a CONCATENATION; None where it joins along another axis."""
    shape = graph.tensors[join.outputs[0]].shape
    axis = join.option(0) % len(shape) if shape else 0
    if not shape or shape[axis] != columns:
        return None
    parts = [graph.tensors[i].shape for i in join.inputs]
    if any(len(part) != len(shape) for part in parts):
        return None
    widths = [part[axis] for part in parts]
    return widths if sum(widths) == columns else None


def mostly_silu(graph: SubGraph) -> int:
    """Return how many sigmoids there are, where they are the activations of the network's layers (SiLU, as in YOLOv5 and later); else 0."""
    names = [op.name for op in graph.operators]
    sigmoids = names.count("LOGISTIC") + names.count("HARD_SWISH")
    return sigmoids if sigmoids > max(names.count("CONV_2D"), 1) / 2 and "LEAKY_RELU" not in names else 0


def depends_on_input(graph: SubGraph, tensor: int) -> bool:
    """Tell whether any path leads from the graph's input to the tensor."""
    by_output = {out: op for op in graph.operators for out in op.outputs}
    waiting, seen = [tensor], set()
    while waiting:
        index = waiting.pop()
        if index in graph.inputs:
            return True
        if index in by_output and index not in seen:
            waiting.extend(i for i in by_output[index].inputs if i >= 0)
        seen.add(index)
    return False


def constant_values(model: TFLiteModel, tensor: Tensor) -> NDArray[np.float64] | None:
    """Return the real values of a constant, also behind a DEQUANTIZE (float16 weights); None for what is not constant."""
    producer = model.graph.producer(tensor.index)
    if producer is not None and producer.name == "DEQUANTIZE":
        tensor = model.graph.tensors[producer.inputs[0]]
    if not tensor.constant or tensor.dtype not in TYPES:
        return None
    try:
        values = np.frombuffer(model.constant(tensor), np.dtype(tensor.dtype).newbyteorder("<")).astype(np.float64).reshape(tensor.shape)
        if not tensor.scales or tensor.scales == (0.0,):
            return values
        spread = [-1 if axis == tensor.axis else 1 for axis in range(values.ndim)] if len(tensor.scales) > 1 else [1] * values.ndim
        zero_points = np.array(tensor.zero_points or (0,), np.float64).reshape(spread)
        real: NDArray[np.float64] = (values - zero_points) * np.array(tensor.scales, np.float64).reshape(spread)
    except ValueError:  # a constant whose bytes do not fill its shape
        return None
    return real


def first_layer_size(model: TFLiteModel) -> float | None:
    """Return the median over the first convolution's filters of the root of their summed squares; None without such a layer."""
    first = next((op for op in model.graph.operators if op.name == "CONV_2D"), None)
    weights = None if first is None or len(first.inputs) < 2 else constant_values(model, model.graph.tensors[first.inputs[1]])
    if weights is None or weights.ndim != 4:
        return None
    return float(np.median(np.sqrt((weights**2).sum(axis=(1, 2, 3)))))


def input_affine(model: TFLiteModel) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return `(factor, offset)` a channel, where the graph itself starts with `x * factor + offset`; None where it does not."""
    graph, tensor = model.graph, model.inputs[0].index
    factor, offset, found = np.ones(1), np.zeros(1), False
    for _ in range(MAX_STEPS):
        users = graph.consumers(tensor)
        if len(users) != 1 or not users[0].outputs:
            break
        step = users[0]
        # A cut that leaves the shape as it is turns the order of the channels.
        turns = step.name in CUTS | {"REVERSE_V2"} and graph.tensors[step.outputs[0]].shape == graph.tensors[tensor].shape
        if step.name in MOVES or turns:
            tensor = step.outputs[0]
            continue
        if step.name not in {"MUL", "SUB", "ADD", "DIV"} or len(step.inputs) != 2:
            break
        first = step.inputs[0] == tensor
        other = constant_values(model, graph.tensors[step.inputs[1 if first else 0]])
        if other is None or other.size not in {1, 3} or (not first and step.name in {"SUB", "DIV"}):
            break
        numbers = other.reshape(-1)
        if step.name == "MUL":
            factor, offset = factor * numbers, offset * numbers
        elif step.name == "DIV":
            factor, offset = factor / numbers, offset / numbers
        else:
            offset = offset + (numbers if step.name == "ADD" else -numbers)
        tensor, found = step.outputs[0], True
    return (factor, offset) if found else None
