"""How much memory the intermediate results of a graph need, from the file alone.

Every tensor is alive from the operator that writes it to the last one that reads it; what is alive together must be in memory
together. The runtime keeps the graph's inputs all the time, its outputs to the end, and what it expands from constants once (float16
or int8 weights behind DEQUANTIZE) from then on.

The figure is what a plan without any gap needs when each tensor has a place of its own. A runtime may stay a little below it (an
operator may write over its input) and needs more for the scratch space of its kernels, for gaps, and for what a delegate keeps
to itself. What an installed runtime really plans is in `delegate.RuntimeView`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from edgeannot.tflite.schema import TYPE_BITS, Operator, Tensor, TFLiteModel

__all__ = ["Peak", "peak_memory", "tensor_bytes"]


@dataclass(frozen=True, slots=True)
class Peak:
    """The moment when most bytes are alive. A graph without operators has its inputs and outputs alive, and no operator."""

    bytes: int
    operator: Operator | None
    tensors: tuple[Tensor, ...]
    """Those that are alive then, largest first."""


def tensor_bytes(tensor: Tensor) -> int:
    """The bytes of a tensor's values at the shape in the file; 0 for types without a fixed size (strings, resources)."""
    return -(-prod(tensor.shape) * TYPE_BITS.get(tensor.dtype, 0) // 8)


def peak_memory(model: TFLiteModel) -> Peak:
    """The largest sum of the bytes of tensors that are alive together while the graph runs; constants are not counted."""
    first, last = _lifetimes(model)
    tensors = model.graph.tensors
    if not model.graph.operators:
        alive = [tensors[i] for i in first]
        return Peak(sum(map(tensor_bytes, alive)), None, tuple(sorted(alive, key=tensor_bytes, reverse=True)))
    # Bytes come and go at single steps, so one pass over the changes finds the peak.
    change = [0] * (len(model.graph.operators) + 1)
    for i, begin in first.items():
        change[begin] += tensor_bytes(tensors[i])
        change[last[i] + 1] -= tensor_bytes(tensors[i])
    now = peak = peak_at = 0
    for step in range(len(model.graph.operators)):
        now += change[step]
        if now > peak:
            peak, peak_at = now, step
    alive = [tensors[i] for i in first if first[i] <= peak_at <= last[i]]
    return Peak(peak, model.graph.operators[peak_at], tuple(sorted(alive, key=tensor_bytes, reverse=True)))


def _lifetimes(model: TFLiteModel) -> tuple[dict[int, int], dict[int, int]]:
    """The positions of the operators between which each computed tensor is alive: first and last, both included."""
    graph = model.graph
    end = max(len(graph.operators) - 1, 0)
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for i in graph.inputs:
        first[i], last[i] = 0, end
    for step, operator in enumerate(graph.operators):
        for i in operator.inputs:
            if i in first:
                last[i] = max(last[i], step)
        once = all(graph.tensors[i].constant for i in operator.inputs if i >= 0)
        for i in operator.outputs:
            first.setdefault(i, step)
            last[i] = end if once else max(last.get(i, 0), step)
    for i in graph.outputs:
        if i in first:
            last[i] = end
    return first, last
