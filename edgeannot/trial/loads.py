"""Tries a model file in a child process: loaded several times, with one thread and with several, each time on the same inputs.

What is looked at is every number of every run. Files are known whose outputs change from load to load, since they read memory that
nobody wrote: the loads after the first find that memory filled with a pattern. A file may also kill the runtime, or never come to an end.
"""

from __future__ import annotations

import os
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from edgeannot.base.child import Child, Died, Refused, command_of, scratch
from edgeannot.base.errors import ModelError, ShortageError
from edgeannot.base.foreign import printable
from edgeannot.base.kernel import free_memory_bytes
from edgeannot.base.runtimes import Runtime, RuntimeName
from edgeannot.tflite.schema import SubGraph
from edgeannot.vision.data import RawTensor, TensorSpec
from edgeannot.vision.engine import checked_runtime

__all__ = ["Ran", "UntriedError", "difference", "memory_limit", "not_finite", "sorts_results", "try_model"]

CHILD = command_of("edgeannot.trial.trial_child")
_LIMIT_S = 90.0
"""How long all of it may take: a service that starts has 180 s. The first load with its runs may have it all; others follow while there is
time for one that takes three times as long."""
_LEAST_BYTES, _MOST_BYTES = 256 << 20, (2 << 30) - 1
_MOST_THREADS = 4


class UntriedError(ModelError):
    """The model could not be tried, which says nothing of the model: no process could be started, or the program is to stop."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What a model gave."""

    runtime: RuntimeName
    input: TensorSpec
    """What the runtime says of the input."""
    outputs: tuple[TensorSpec, ...]
    """What it says of the outputs."""
    values: tuple[tuple[NDArray[Any], ...], ...]
    """`values[input][output]` as stored, in the shapes that the run gave."""


def try_model(
    name: str,
    model: Path | bytes,
    inputs: Sequence[NDArray[Any]],
    runtime: Runtime = "auto",
    *,
    reorders: bool = False,
    limit_s: float = _LIMIT_S,
    command: Sequence[str] = CHILD,
    stopped: Callable[[], bool] = lambda: False,
) -> Ran:
    """Return what the model gives for the inputs, each of exactly its input's shape and type; the same whenever it is loaded.

    name: what errors call it. reorders: whether the graph sorts its results, so that they may change places by rounding alone. stopped:
    asked a few times a second; True ends the trial. Raises ModelError where the runtime refuses the model or dies of it, where a number is
    not finite, or where the numbers change from load to load; ShortageError where memory or time ran out; UntriedError where it could not
    be tried; ConfigError without a runtime.
    """
    used = checked_runtime(runtime)  # by its own name: a child may have another idea of `auto`
    first: _Load | None = None
    until = time.monotonic() + limit_s
    with scratch() as given, scratch() as got, scratch() as copy:
        np.savez(given, *inputs)
        given.flush()
        if isinstance(model, bytes):
            copy.write(model)
            copy.flush()
        path = f"/proc/self/fd/{copy.fileno()}" if isinstance(model, bytes) else str(model)
        request = {"model": path, "runtime": used, "inputs": given.fileno(), "outputs": got.fileno()}
        try:
            with Child(command, memory_bytes=memory_limit(), stopped=stopped, files=(given, got, copy)) as child:
                for threads, fill in _loads():
                    left_s = until - time.monotonic()
                    if first is not None and left_s < 3 * first.seconds:
                        break
                    load = _loaded(child, {**request, "threads": threads, "fill": fill}, got, first, left_s)
                    if first is None:
                        _refuse_not_finite(name, load, used)
                        _refuse_changes(name, load.values[:1], load.values[-1:], load.outputs, used, "run", reorders=reorders)
                        first = load
                    elif load.digest != first.digest:
                        _refuse_changes(name, first.values, load.values, first.outputs, used, "load", reorders=reorders)
        except Refused as exc:
            raise ModelError(f"{name}: {_own_words(str(exc), path)}") from exc
        except Died as exc:
            raise _dead(name, used, exc) from exc
        except (KeyError, TypeError, ValueError, OSError, EOFError, zipfile.BadZipFile) as exc:  # memory that the file has damaged
            raise ModelError(f"{name}: the runtime {used} gave nothing that can be read after it ran the file; convert it again") from exc
    assert first is not None  # noqa: S101 - there are loads
    return Ran(used, first.input, first.outputs, first.values[:-1])


@dataclass(frozen=True, slots=True)
class _Load:
    """One load of the file, and what came of its runs; the last run has the first input again."""

    digest: str
    seconds: float
    input: TensorSpec
    outputs: tuple[TensorSpec, ...]
    values: tuple[tuple[NDArray[Any], ...], ...]


def _loads() -> list[tuple[int, int | None]]:
    """Return thread count and fill byte of each load: 0xFF in four bytes is no number, 0x3F in four is 0.75."""
    several = max(2, min(_MOST_THREADS, len(os.sched_getaffinity(0))))
    return [(1, None), (several, 0xFF), (1, 0x3F), (several, None)]


def memory_limit() -> int:
    """Return the memory limit of a trial process in bytes: the free memory, within bounds."""
    free = free_memory_bytes()
    return _MOST_BYTES if free is None else min(max(free, _LEAST_BYTES), _MOST_BYTES)


def _loaded(child: Child, request: dict[str, Any], got: IO[bytes], first: _Load | None, each_s: float) -> _Load:
    """Load and run the model once in the child. Raises Died, Refused, and the errors of values that are not the child's."""
    answer = child.ask({**request, "digest": first.digest if first else ""}, each_s)["ran"]
    digest, seconds = str(answer["digest"]), float(answer["seconds"])
    if first is not None and digest == first.digest:
        return _Load(digest, seconds, first.input, first.outputs, first.values)
    outputs = tuple(_spec(words) for words in answer["outputs"])
    return _Load(digest, seconds, _spec(answer["input"]), outputs, _stored(got, len(outputs)))


def _spec(words: dict[str, Any]) -> TensorSpec:
    return TensorSpec(**{**words, "shape": tuple(words["shape"]), "dtype": np.dtype(words["dtype"])})


def _stored(got: IO[bytes], outputs: int) -> tuple[tuple[NDArray[Any], ...], ...]:
    got.seek(0)
    with np.load(got, allow_pickle=False) as stored:
        values = [stored[name] for name in stored.files]
    return tuple(tuple(values[at : at + outputs]) for at in range(0, len(values), outputs))


def _refuse_not_finite(name: str, load: _Load, used: RuntimeName) -> None:
    if (position := not_finite(load.values, load.outputs)) is not None:
        raise ModelError(
            f"{name}: {_output(load.outputs[position])} holds numbers that are not finite when {used} runs it; "
            "try the other runtime, or convert it again"
        )


def _refuse_changes(
    name: str, before: Runs, now: Runs, outputs: Sequence[TensorSpec], used: RuntimeName, what: str, *, reorders: bool
) -> None:
    changes = difference(before, now, outputs, reorders=reorders)
    if changes is not None:
        position, words = changes
        raise ModelError(
            f"{name}: {_output(outputs[position])} is not the same each time for the same picture when {used} runs it ({words} from one "
            f"{what} to the next), so its results mean nothing; try the other runtime, or convert it again with weights of another kind"
        )


def _output(spec: TensorSpec) -> str:
    return f"output {spec.index} {printable(spec.name)!r} {spec.shape} {spec.dtype}"


def _own_words(refusal: str, path: str) -> str:
    """Return the child's message without its name for the file."""
    return printable(refusal.removeprefix(f"{path}: "))


def _dead(name: str, used: RuntimeName, death: Died) -> ModelError:
    words = printable(death)
    if death.passing:
        return UntriedError(f"{name}: it was not tried: the process of its own {words}")
    advice = "it may be too large for this board"
    if death.lasting:
        advice = "the file is damaged, or uses what this runtime cannot do: copy it again, convert it again, or try the other runtime"
    elif death.killed:  # by the kernel, or by itself where it was given no memory
        advice += ", or other programs take its memory: free some and try again; else the file is damaged"
    kind = ModelError if death.lasting else ShortageError
    return kind(f"{name}: the runtime {used} {words} when it was tried in a process of its own; {advice}")


Runs = Sequence[Sequence[NDArray[Any]]]
"""`runs[input][output]`, as stored."""

_NOISE = 0.02
"""Part of an output's range by which two runs may differ. All 27 files that were compared gave the same to the last bit, with any number of
threads and on both runtimes; sums in another order may cost some bits, and such a bit may turn a quantized step."""
_MOVED = 0.05
"""Part of the numbers that may be farther apart where a graph sorts its results: one result more or less changes a row."""


def not_finite(runs: Runs, specs: Sequence[TensorSpec]) -> int | None:
    """Return the first output in which a number of any run is not finite; None where all are. Whole numbers always are."""
    for position in range(len(specs)):
        if any(run[position].dtype.kind == "f" and not np.isfinite(run[position]).all() for run in runs):
            return position
    return None


def difference(first: Runs, other: Runs, specs: Sequence[TensorSpec], *, reorders: bool) -> tuple[int, str] | None:
    """Return the first output that differs by more than noise between two loads, and by how much in words; None where none does.

    reorders: whether the graph sorts its results, so that rows may have changed places.
    """
    for position, spec in enumerate(specs):
        for before, now in zip(first, other, strict=True):
            if words := _how_different(before[position], now[position], spec, reorders=reorders):
                return position, words
    return None


def _how_different(before: NDArray[Any], now: NDArray[Any], spec: TensorSpec, *, reorders: bool) -> str:
    """In words; empty where it is noise."""
    if before.shape != now.shape:
        return f"shape {before.shape} and {now.shape}"
    a, b = (RawTensor(values, spec).real().astype(np.float64).reshape(-1) for values in (before, now))
    if not np.isfinite(b).all():
        return "numbers that are not finite"
    if not a.size:
        return ""
    span = max(a.max(), b.max()) - min(a.min(), b.min())
    step = spec.scale if spec.quantized else 0.0
    bound = max(_NOISE * span, step)
    if reorders and np.mean(np.abs(np.sort(a) - np.sort(b)) > bound) <= _MOVED:
        return ""
    largest = float(np.abs(a - b).max())
    return f"off by {largest:.3g} in a range of {span:.3g}" if largest > bound else ""


_SORTING = frozenset(("TOPK_V2", "NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5", "TFLite_Detection_PostProcess"))


def sorts_results(graph: SubGraph) -> bool:
    """Return whether an operator of it picks or orders rows by their scores."""
    return any((operator.custom_name or operator.name) in _SORTING for operator in graph.operators)
