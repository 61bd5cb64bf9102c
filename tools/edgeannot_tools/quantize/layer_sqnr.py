"""Where a quantized network loses its signal: the ratio of signal to noise of every layer, int8 against float on the same pictures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeannot_tools.graph.graph import Graph, Op, Operator, Type
from edgeannot_tools.graph.interpreter import Runtime, open_interpreter
from edgeannot_tools.quantize.calibrate import activation_behind, padded_for_maximum

__all__ = ["LayerSqnr", "measure_sqnr", "paired_tensors", "worst_layers"]

EXACT_DB = 120.0
"""What is reported for a tensor without any error: float32 itself is no better."""


CHOOSING = frozenset({Op.TOPK_V2, Op.ARG_MAX, Op.ARG_MIN, Op.NON_MAX_SUPPRESSION_V4, Op.NON_MAX_SUPPRESSION_V5, Op.CUSTOM})
"""Operators that pick rows; SSD's post-processing is a custom one."""


@dataclass(frozen=True, slots=True)
class LayerSqnr:
    """One operator's result."""

    operator: str
    """Its kind, such as "CONV_2D"."""
    tensor: str
    """The name of its result in the file."""
    position: int
    """Of the operator in the float graph, from 0."""
    sqnr_db: float
    """10 log10(sum of squares of the float values / sum of squares of the differences), over all samples."""
    lost_db: float
    """How much less that is than for the worst of its inputs: what this layer itself adds. The input of the graph counts as exact."""
    is_output: bool


def measure_sqnr(
    prepared: Graph, int8: Graph, samples: Iterable[Sequence[NDArray[Any]]], runtime: Runtime | None = None
) -> list[LayerSqnr]:
    """Return the noise of every layer whose result is in both graphs, in the order of execution.

    `prepared` is the float graph that `int8` was made of (tensors are paired by name); samples are as `calibrate` takes them.
    """
    pairs = paired_tensors(prepared, int8)
    reference = open_interpreter(_watching(prepared, pairs.keys()), runtime, every_tensor=True)
    quantized = open_interpreter(_watching(int8, pairs.values()), runtime, every_tensor=True)
    signal = dict.fromkeys(pairs, 0.0)
    noise = dict.fromkeys(pairs, 0.0)
    for sample in samples:
        for slot, array in enumerate(sample):
            reference.set_tensor(prepared.inputs[slot], array)
            quantized.set_tensor(int8.inputs[slot], _stored(int8, int8.inputs[slot], array))
        reference.invoke()
        quantized.invoke()
        for tensor, twin in pairs.items():
            wanted, found = _real(prepared, reference, tensor), _real(int8, quantized, twin)
            signal[tensor] += float(np.square(wanted).sum())
            noise[tensor] += float(np.square(wanted - found).sum())
    ratio = {tensor: _decibel(signal[tensor], noise[tensor]) for tensor in pairs}
    return list(_layers(prepared, ratio))


def worst_layers(layers: Iterable[LayerSqnr], count: int) -> list[LayerSqnr]:
    """Return the layers that add the most noise themselves, worst first."""
    return sorted(layers, key=lambda layer: (-layer.lost_db, layer.position))[:count]


def _layers(graph: Graph, ratio: dict[int, float]) -> Iterable[LayerSqnr]:
    """Return the layers with what each adds. A result that is not compared passes on what its operator was given."""
    known: dict[int, float] = {}
    readers = graph.consumers()
    chosen: set[int] = set()
    padded = padded_for_maximum(graph)
    for position, operator in enumerate(graph.operators):
        before = min((known[t] for t in operator.inputs if t in known), default=EXACT_DB)
        if graph.code(operator) in CHOOSING or chosen & set(operator.inputs):
            # Which rows were chosen, and in which order, may differ without any harm: behind this, rows cannot be compared.
            chosen |= set(operator.outputs)
            continue
        for tensor in operator.outputs:
            if tensor not in ratio or tensor in padded or _is_inner(graph, tensor, readers):
                known[tensor] = before
                continue
            known[tensor] = ratio[tensor]
            lost = max(0.0, before - ratio[tensor])
            yield LayerSqnr(graph.code_name(operator), graph.name(tensor), position, ratio[tensor], lost, tensor in graph.outputs)


def _is_inner(graph: Graph, tensor: int, readers: dict[int, list[Operator]]) -> bool:
    """Tell whether only an activation reads the tensor, or it is the gate of x * logistic(x).

    What int8 clips there on purpose, the far negative numbers before a swish say, is no loss; the result of the activation counts.
    """
    behind = readers.get(tensor, [])
    if activation_behind(graph, tensor, readers) is not None:
        return True
    gates = [operator for operator in graph.operators if tensor in operator.outputs and graph.code(operator) == Op.LOGISTIC]
    return bool(gates) and len(behind) == 1 and graph.code(behind[0]) == Op.MUL and gates[0].inputs[0] in behind[0].inputs


def paired_tensors(prepared: Graph, int8: Graph) -> dict[int, int]:
    """Return by float tensor the int8 graph's tensor of the same meaning, for computed ones whose name is unique."""
    numbers: dict[str, int] = {}
    twice: set[str] = set()
    for number in range(len(int8.tensors)):
        if not int8.is_constant(number):
            twice |= {int8.name(number)} & numbers.keys()
            numbers[int8.name(number)] = number
    found: dict[int, int] = {}
    names = [prepared.name(t) for t in range(len(prepared.tensors))]
    made = {t for operator in prepared.operators for t in operator.outputs}
    for tensor in sorted(made):
        name = names[tensor]
        twin = numbers.get(f"{name}/int8", numbers.get(name))
        if twin is None or name in twice or names.count(name) > 1 or prepared.tensors[tensor].type != Type.FLOAT32:
            continue
        if int8.shape(twin) == prepared.shape(tensor) and twin not in int8.inputs:
            found[tensor] = twin
    return found


def _watching(graph: Graph, tensors: Iterable[int]) -> bytes:
    """Return the model with these tensors as outputs, so that no kernel reuses their memory."""
    copy = Graph.from_bytes(graph.to_bytes(), graph.where)
    copy.sub.outputs = [t for t in tensors if t not in copy.inputs]
    copy.model.signatureDefs = None
    return copy.to_bytes()


def _stored(graph: Graph, tensor: int, real: NDArray[Any]) -> NDArray[Any]:
    scheme, dtype = graph.quantization(tensor), graph.dtype(tensor)
    if scheme is None:
        return real.astype(dtype)
    limits = np.iinfo(dtype)
    steps = np.round(real / scheme.scale[0]) + scheme.zero_point[0]
    stored: NDArray[Any] = np.clip(steps, limits.min, limits.max).astype(dtype)
    return stored


def _real(graph: Graph, interpreter: Any, tensor: int) -> NDArray[np.float64]:
    values = interpreter.get_tensor(tensor)
    scheme = graph.quantization(tensor)
    real = np.asarray(values if scheme is None else scheme.real(values), np.float64)
    # The lowest float stands for "no number" in padding before a maximum; its square would drown everything.
    return np.where(np.abs(real) < 1e30, real, 0.0)


def _decibel(signal: float, noise: float) -> float:
    if noise <= 0.0:
        return EXACT_DB
    return min(EXACT_DB, 10.0 * math.log10(signal / noise)) if signal > 0.0 else 0.0
