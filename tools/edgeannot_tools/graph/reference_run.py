"""Runs a float graph layer by layer over all samples at once, in numpy, with the same numbers on every processor and runtime.

Operators that `layers` and `elementwise` do not know run as a model of one operator in the installed runtime; behind these the
numbers are as good, but may differ in their last bits from one machine to the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgeannot_tools.graph.edits import collect_garbage
from edgeannot_tools.graph.elementwise import ELEMENTWISE
from edgeannot_tools.graph.graph import Graph, Operator
from edgeannot_tools.graph.interpreter import Runtime, open_interpreter
from edgeannot_tools.graph.layers import LAYERS, Array, Kernel

__all__ = ["Step", "foreign_kinds", "largest_state", "run_layers"]

KERNELS = LAYERS | ELEMENTWISE
ABSENT: Array = np.empty(0, np.float32)


@dataclass(frozen=True, slots=True)
class Step:
    """One operator that has just run."""

    position: int
    operator: Operator
    values: Mapping[int, Sequence[Array]]
    """Tensor number -> one array a sample, for its computed inputs and its outputs; valid until the next step."""


def run_layers(graph: Graph, samples: Sequence[Sequence[Array]], runtime: Runtime | None = None, last: int | None = None) -> Iterator[Step]:
    """Yield each operator of a float graph once it has run over all samples, up to position `last`; None runs all.

    samples: one array a graph input each. Maps are float32, and go as soon as no later operator reads them.
    """
    operators = graph.operators if last is None else graph.operators[: last + 1]
    reader = {t: position for position, operator in enumerate(operators) for t in operator.inputs if t >= 0}
    values: dict[int, list[Array]] = {t: [np.asarray(s[i]) for s in samples] for i, t in enumerate(graph.inputs) if t in reader}
    for position, operator in enumerate(operators):
        kernel = _kernel(graph, operator) or _one_operator(graph, operator, runtime)
        fixed = {t: graph.constant(t) for t in operator.inputs if t >= 0 and t not in values}
        outputs: list[list[Array]] = [[] for _ in operator.outputs]
        for sample in range(len(samples)):
            given = [ABSENT if t < 0 else fixed[t] if t in fixed else values[t][sample] for t in operator.inputs]
            for made, array in zip(outputs, kernel(given), strict=True):
                made.append(array)
        values.update(zip(operator.outputs, outputs, strict=True))
        yield Step(position, operator, values)
        for tensor in {*operator.inputs, *operator.outputs}:
            if reader.get(tensor, -1) <= position:
                values.pop(tensor, None)


def foreign_kinds(graph: Graph, last: int | None = None) -> tuple[str, ...]:
    """Return the kinds of operators, up to position `last`, that only the runtime can run."""
    operators = graph.operators if last is None else graph.operators[: last + 1]
    return tuple(dict.fromkeys(graph.code_name(o) for o in operators if _kernel(graph, o) is None))


def largest_state(graph: Graph) -> int:
    """Return the bytes of maps that a run over one sample holds at its fullest."""
    reader = {t: position for position, operator in enumerate(graph.operators) for t in operator.inputs if t >= 0}
    size = {t: 4 * int(np.prod(graph.shape(t), dtype=np.int64)) for t in range(len(graph.tensors)) if not graph.is_constant(t)}
    live = {t: size[t] for t in graph.inputs}
    most = 0
    for position, operator in enumerate(graph.operators):
        live.update({t: size[t] for t in operator.outputs})
        most = max(most, sum(live.values()))
        live = {t: n for t, n in live.items() if reader.get(t, -1) > position}
    return most


def _kernel(graph: Graph, operator: Operator) -> Kernel | None:
    maker = KERNELS.get(graph.code(operator))
    return None if maker is None else maker(graph, operator)


def _one_operator(graph: Graph, operator: Operator, runtime: Runtime | None) -> Kernel:
    """Return what runs an operator as a model of its own."""
    position = next(i for i, o in enumerate(graph.operators) if o is operator)
    alone = Graph.from_bytes(graph.to_bytes(), graph.where)
    only = alone.operators[position]
    alone.sub.operators = [only]
    slots = [slot for slot, t in enumerate(only.inputs) if t >= 0 and not graph.is_constant(t) and t not in only.inputs[:slot]]
    alone.sub.inputs, alone.sub.outputs = [only.inputs[slot] for slot in slots], list(only.outputs)
    collect_garbage(alone)
    interpreter = open_interpreter(alone.to_bytes(), runtime, every_tensor=True, threads=1)
    into, out = ([d["index"] for d in details] for details in (interpreter.get_input_details(), interpreter.get_output_details()))

    def run(inputs: Sequence[Array]) -> list[Array]:
        for index, slot in zip(into, slots, strict=True):
            interpreter.set_tensor(index, inputs[slot])
        interpreter.invoke()
        return [np.array(interpreter.get_tensor(index)) for index in out]

    return run
