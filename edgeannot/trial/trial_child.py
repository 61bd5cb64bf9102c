"""The child process of `trial.loads`: loads a model afresh for each request, runs it on the inputs, and stores what came out.

A request is {"model": path, "runtime": ..., "threads": n, "fill": 0..255 or null, "inputs": fd, "outputs": fd, "digest": "" or of the first
load}. The answer is {"ran": {...}}; the outputs are written where the digest is another than the one given. It may die at any time.
Nothing is imported that the runtime does not need.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeannot.base.child import serve
from edgeannot.base.errors import ModelError
from edgeannot.vision.data import TensorSpec
from edgeannot.vision.engine import Engine

__all__ = ["main"]

_M_PERTURB = -6
"""glibc, malloc.h: memory is filled with a byte when it is given out, and with another when it is given back (mallopt(3))."""


def main() -> None:
    """Answer requests until standard input ends."""
    serve(_answer)


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    inputs = _read(request["inputs"])
    start = time.monotonic()
    try:
        with _filled(request["fill"]):
            engine = Engine(Path(request["model"]), request["threads"], request["runtime"])
            # The first input once more at the end: the same picture, the same numbers.
            runs = [[tensor.values for tensor in engine.run(_fitting(engine, values))] for values in (*inputs, *inputs[:1])]
    except MemoryError as exc:
        raise ModelError("the runtime needs more memory for it than there is") from exc
    seconds = time.monotonic() - start
    digest = _digest(runs)
    if digest != request["digest"]:
        _write(request["outputs"], runs)
    specs = {"input": _words(engine.input), "outputs": [_words(spec) for spec in engine.outputs]}
    return {"ran": {"digest": digest, "seconds": seconds, **specs}}


def _fitting(engine: Engine, values: NDArray[Any]) -> NDArray[Any]:
    """Return the values, when they are what the runtime wants as input: the file may say something else than the runtime makes of it."""
    wanted = engine.input
    if (values.shape, values.dtype) != (wanted.shape, wanted.dtype):
        raise ModelError(f"the runtime wants an input of shape {wanted.shape} and type {wanted.dtype}, found {values.shape} {values.dtype}")
    return values


@contextlib.contextmanager
def _filled(fill: int | None) -> Iterator[None]:
    """Have the C library fill memory that is given out with a byte, so that a file which reads what nobody wrote shows it.

    Fresh memory is zero, and a file that reads it looks sound until the memory was used before. Where the C library is another,
    nothing is changed, and loading several times has to show it.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if fill is None or mallopt is None:
        yield
        return
    mallopt(_M_PERTURB, 0x100 | fill ^ 0xFF)  # what is given out holds the complement of the byte; 0 would switch it off
    try:
        yield
    finally:
        mallopt(_M_PERTURB, 0)


def _digest(runs: Sequence[Sequence[NDArray[Any]]]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for values in (values for run in runs for values in run):
        digest.update(f"{values.shape} {values.dtype}".encode())
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def _words(spec: TensorSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "index": spec.index,
        "shape": spec.shape,
        "dtype": str(spec.dtype),
        "scale": spec.scale,
        "zero_point": spec.zero_point,
    }


def _read(number: int) -> list[NDArray[Any]]:
    with os.fdopen(os.dup(number), "rb") as file:
        file.seek(0)
        with np.load(file, allow_pickle=False) as stored:
            return [stored[name] for name in stored.files]


def _write(number: int, runs: Sequence[Sequence[NDArray[Any]]]) -> None:
    with os.fdopen(os.dup(number), "wb") as file:
        file.seek(0)
        file.truncate()
        np.savez(file, *(values for run in runs for values in run))
