"""One second of real convolutions through the runtime, int8 and float: what the board does, whatever its flags say.

The network is a piece of a MobileNet (four depthwise and pointwise pairs of 128 channels at 28 x 28) with random weights, in two files
beside this one that `make micro` writes. To be called in a process of its own, as a runtime may die of an instruction that is not there.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeannot.base.errors import EdgeannotError
from edgeannot.choice.contention import Since
from edgeannot.choice.grade import Micro
from edgeannot.vision.engine import Engine
from edgeannot.vision.runtimes import Runtime

__all__ = ["MODELS", "OPERATIONS", "micro_benchmark"]

SIDE, CHANNELS, PAIRS = 28, 128, 4
OPERATIONS = 2 * SIDE * SIDE * PAIRS * (9 * CHANNELS + CHANNELS * CHANNELS)
"""Multiplications and additions of one run."""
_WINDOW_S = 0.2
MODELS = Path(__file__).resolve().parent / "micro_models"


def micro_benchmark(threads: int = 1, runtime: Runtime = "auto", budget_s: float = 1.0) -> Micro:
    """The speed in int8 and float32. Takes about `budget_s`, but each at least two runs, however slow.

    Of windows of 0.2 s the best counts: under a CPU quota, which the kernel deals out every 0.1 s, it has its pauses like any other, and
    a short visit of another program is not taken for the board's own speed. A kind that the runtime refuses is 0.
    """
    since = Since.now()
    int8, float32 = (_gops(MODELS / name, threads, runtime, budget_s / 2) for name in ("int8.tflite", "float.tflite"))
    return Micro(int8, float32, threads, since.seconds(), since.waited())


def _gops(model: Path, threads: int, runtime: Runtime, budget_s: float) -> float:
    try:
        engine = Engine(model, threads=threads, runtime=runtime)
        tensor = np.ones(engine.input.shape, engine.input.dtype)
        engine.run(tensor)  # the first run unpacks weights and wakes the threads
        until, windows = time.perf_counter() + budget_s, [_window(engine, tensor)]
        while time.perf_counter() < until:
            windows.append(_window(engine, tensor))
    except EdgeannotError:
        return 0.0
    return max(windows)


def _window(engine: Engine, tensor: NDArray[Any]) -> float:
    """Giga-operations a second over one window, or over one run where that takes longer."""
    runs, started = 0, time.perf_counter()
    while True:
        engine.run(tensor)
        runs += 1
        seconds = time.perf_counter() - started
        if seconds >= _WINDOW_S:
            return OPERATIONS * runs / seconds / 1e9
