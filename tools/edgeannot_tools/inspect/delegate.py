"""What an installed runtime makes of a model: which operators its default delegate (XNNPACK) takes, and the memory that it plans.

The runtime is asked in a process of its own: a damaged model may crash it, it writes on standard error past Python, and two runtimes
in one process get in each other's way.

The interpreter is loaded twice, with and without the default delegate. A delegate shows as operators beyond the file's own, and each
says which tensors it takes and gives. The operators between those are the ones that it replaced: going back from what the delegate
gives to what it takes meets exactly them, but for an operator whose results nobody reads.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from edgeannot.base.child import Child, Died, Refused, command_of, serve
from edgeannot.tflite.file import read_tflite
from edgeannot.tflite.schema import TYPE_BITS, Operator, SubGraph, Tensor, TFLiteModel
from edgeannot.trial.loads import memory_limit
from edgeannot.vision.engine import RUNTIMES, RuntimeName, load_runtime

__all__ = ["Peak", "RuntimeView", "ask_runtime", "peak_memory", "replaced_operators", "tensor_bytes"]

CHILD = command_of("edgeannot_tools.inspect.delegate", Path(__file__).resolve().parents[2])
TIMEOUT_S = 120.0
"""Far more than loading takes; a runtime that hangs on a damaged file shall not hang the tool."""
NO_PRIVATE_API = "this version of the runtime does not say which operators its delegate takes (it has no _get_ops_details)"


@dataclass(frozen=True, slots=True)
class RuntimeView:
    """One runtime on this machine and one model."""

    runtime: RuntimeName
    version: str
    refused: str = ""
    """Why the runtime does not load the model; empty: it does."""
    crashed: bool = False
    """The runtime did not refuse the model, but ended its process."""
    partitions: tuple[frozenset[int], ...] | None = None
    """The operators that each part of the delegate replaced, by their position in the file; None: the runtime does not say."""
    planned_bytes: int | None = None
    """Memory that the runtime gives to computed tensors and to the scratch space of its own kernels, as used by default. What the
    delegate allocates inside its parts is not in it."""
    planned_bytes_without_delegate: int | None = None
    """The same when every operator runs in the runtime's own kernels."""
    sized_in_a_run: int = 0
    """Tensors whose size the runtime knows only while it runs; their bytes are in neither figure."""
    note: str = ""
    """What could not be found out, and why."""

    @property
    def taken(self) -> frozenset[int]:
        """All operators that the delegate took."""
        return frozenset().union(*self.partitions or ())


def ask_runtime(model: TFLiteModel, path: Path, runtime: RuntimeName, *, command: Sequence[str] = CHILD) -> RuntimeView:
    """Return what the runtime makes of the model file at `path`. A runtime that cannot be used is a `refused`, not an error.

    command: the other process; see `edgeannot.base.child`.
    """
    version = _version(runtime)
    try:
        with Child(command, memory_bytes=memory_limit()) as child:
            answer = child.ask({"runtime": runtime, "path": str(path.resolve())}, TIMEOUT_S)["ran"]
    except Refused as exc:
        return RuntimeView(runtime, version, refused=str(exc))
    except Died as exc:
        advice = "; the file is damaged, or uses what it cannot do: copy it again, or convert it again" if exc.killed else ""
        return RuntimeView(runtime, version, refused=f"it {exc} while loading the model{advice}", crashed=True)
    partitions = None if answer["delegates"] is None else replaced_operators(model.graph, answer["delegates"])
    return RuntimeView(
        runtime,
        version,
        partitions=partitions,
        planned_bytes=answer["planned"],
        planned_bytes_without_delegate=answer["planned_plain"],
        sized_in_a_run=answer["unsized"],
        note=NO_PRIVATE_API if partitions is None else "",
    )


def replaced_operators(graph: SubGraph, delegates: Iterable[Sequence[Sequence[int]]]) -> tuple[frozenset[int], ...]:
    """Return the operators that each delegate node replaced, by position. delegates: (inputs, outputs) of each, as tensor numbers."""
    makers = {tensor: operator for operator in graph.operators for tensor in operator.outputs}
    parts = []
    for inputs, outputs in delegates:
        found: set[int] = set()
        waiting = list(outputs)
        while waiting:
            operator = makers.get(waiting.pop())
            if operator is None or operator.index in found:
                continue
            found.add(operator.index)
            waiting += set(operator.inputs) - set(inputs)
        parts.append(frozenset(found))
    return tuple(parts)


def _version(runtime: RuntimeName) -> str:
    try:
        return importlib.metadata.version(RUNTIMES[runtime][1])
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"


# -- in the other process --------------------------------------------------------------------------------------------------------


def main() -> None:
    """Answer requests until standard input ends."""
    serve(lambda request: _ask(request["runtime"], Path(request["path"])))


def _ask(runtime: RuntimeName, path: Path) -> dict[str, Any]:
    """Return the answer: {"refused": why}, or delegates as (inputs, outputs) and the planned bytes of both ways."""
    _, module = load_runtime(runtime)
    model = read_tflite(path)
    computed = [tensor.index for tensor in model.graph.tensors if not tensor.constant]
    known = len(model.graph.tensors)
    resolvers = getattr(module, "OpResolverType", None)
    answer: dict[str, Any] = {"delegates": None, "planned": None, "planned_plain": None, "unsized": 0}
    try:
        usual = _load(module, path)
        answer["planned"], _ = _planned_bytes(usual, computed, known)
        if resolvers is not None:
            plain = _load(module, path, experimental_op_resolver_type=resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
            answer["planned_plain"], answer["unsized"] = _planned_bytes(plain, computed, known)
    except (ValueError, RuntimeError, SystemError, MemoryError) as exc:
        return {"refused": _first_line(exc)}
    details = getattr(usual, "_get_ops_details", None)
    if details is not None:
        own = len(model.graph.operators)
        added = [node for node in details() if int(node["index"]) >= own]
        answer["delegates"] = [[_numbers(node["inputs"]), _numbers(node["outputs"])] for node in added]
    return {"ran": answer}


def _load(module: Any, path: Path, **options: Any) -> Any:
    interpreter = module.Interpreter(model_path=str(path), num_threads=1, **options)
    interpreter.allocate_tensors()
    return interpreter


def _planned_bytes(interpreter: Any, computed: Sequence[int], known: int) -> tuple[int, int]:
    """Bytes of memory that the runtime has given to tensors, and how many tensors have none.

    Places that several use one after the other count once.

    computed: the file's own tensors that are no constants. Numbers from `known` on are scratch tensors of kernels.
    """
    spans, without = [], 0
    scratch = [int(detail["index"]) for detail in interpreter.get_tensor_details() if int(detail["index"]) >= known]
    for number in (*computed, *scratch):
        try:
            values = interpreter.tensor(number)()
        except ValueError:  # it has no memory: it lives inside a delegate, or its size shows only in a run
            without += number < known
            continue
        start = values.__array_interface__["data"][0]
        spans.append((start, start + values.nbytes))
    total, end = 0, 0
    for start, stop in sorted(spans):
        total += max(0, stop - max(start, end))
        end = max(end, stop)
    return total, without


def _numbers(values: Iterable[Any]) -> list[int]:
    return [int(value) for value in values]


def _first_line(exc: BaseException) -> str:
    return next((line.strip() for line in str(exc).splitlines() if line.strip()), type(exc).__name__)


@dataclass(frozen=True, slots=True)
class Peak:
    """The moment when most bytes are alive. A graph without operators has its inputs and outputs alive, and no operator."""

    bytes: int
    operator: Operator | None
    tensors: tuple[Tensor, ...]
    """Those that are alive then, largest first."""


def tensor_bytes(tensor: Tensor) -> int:
    """Return the bytes of a tensor's values at the shape in the file; 0 for types without a fixed size (strings, resources)."""
    return -(-prod(tensor.shape) * TYPE_BITS.get(tensor.dtype, 0) // 8)


def peak_memory(model: TFLiteModel) -> Peak:
    """Return the largest sum of the bytes of tensors that are alive together while the graph runs; constants are not counted."""
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
    """Return the positions of the operators between which each computed tensor is alive: first and last, both included."""
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
