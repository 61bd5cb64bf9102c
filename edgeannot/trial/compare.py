"""Whether the runs of a model are finite and alike, number by number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeannot.vision.data import RawTensor, TensorSpec

__all__ = ["Runs", "difference", "not_finite"]

Runs = Sequence[Sequence[NDArray[Any]]]
"""`runs[input][output]`, as stored."""

_NOISE = 0.02
"""Part of an output's range by which two runs may differ. All 28 files that were compared gave the same to the last bit, with any number of
threads and on both runtimes; sums in another order may cost some bits, and such a bit may turn a quantized step."""
_MOVED = 0.05
"""Part of the numbers that may be farther apart where a graph sorts its results: one result more or less changes a row."""


def not_finite(runs: Runs, specs: Sequence[TensorSpec]) -> int | None:
    """The first output in which a number of any run is not finite; None where all are. Whole numbers always are."""
    for position in range(len(specs)):
        if any(run[position].dtype.kind == "f" and not np.isfinite(run[position]).all() for run in runs):
            return position
    return None


def difference(first: Runs, other: Runs, specs: Sequence[TensorSpec], *, reorders: bool) -> tuple[int, str] | None:
    """The first output that differs by more than noise between two loads, and by how much in words; None where none does.

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
