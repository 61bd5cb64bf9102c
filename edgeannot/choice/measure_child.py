"""The child process of `measure`: load models, run them and print what each took, as asked line by line. It may die at any time.

A request names points (a model, NAME or NAME@SIZE, and threads), the models' folders, the runtime and how long to measure; or asks for the
micro-benchmark with so many threads. The answer is {"samples": [{...}, ...]}, {"micro": {...}} or {"refused": "why"}. A model is measured
as the pipeline that the daemon runs, from a JPEG file to boxes. Several points are interleaved, picture by picture.

The micro-benchmark is one second of real convolutions, int8 and float: a piece of a MobileNet (four depthwise and pointwise pairs of 128
channels at 28 x 28) with random weights, in two files that `make micro` writes.
"""

from __future__ import annotations

import ctypes
import os
import re
import statistics
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeannot.base.child import serve
from edgeannot.base.errors import EdgeannotError
from edgeannot.base.places import SAMPLES
from edgeannot.base.runtimes import Runtime
from edgeannot.choice.auto_profile import Micro
from edgeannot.choice.measurements import NOISY
from edgeannot.vision.cards import find_card
from edgeannot.vision.data import Frame
from edgeannot.vision.decode import configure_opencv, keep_freed_memory, read_picture
from edgeannot.vision.engine import Engine
from edgeannot.vision.pipeline import Pipeline, load_pipeline

__all__ = ["MODELS", "OPERATIONS", "STAGES", "Stopwatch", "main", "micro_benchmark", "samples", "stolen_ticks"]

PHOTO = SAMPLES / "scene.jpg"
"""800 x 1000 pixels with several objects, so that postprocessing has something to do."""
STAGES = ("decode", "preprocess", "inference", "postprocess")
_WINDOW_S = 0.2
"""Measurements are kept or dropped by windows of this length. A CPU quota is dealt out every 0.1 s, so a window has its pauses like any
other; the kernel counts steal in hundredths of a second, so shorter windows tell less."""
_RUNS = 3
"""Runs of a point at least, however slow it is."""
_PATIENCE = 3
"""Uncontended windows are waited for up to this many times the seconds asked for."""
SIDE, CHANNELS, PAIRS = 28, 128, 4
OPERATIONS = 2 * SIDE * SIDE * PAIRS * (9 * CHANNELS + CHANNELS * CHANNELS)
"""Multiplications and additions of one run of a network of the micro-benchmark."""
MODELS = Path(__file__).resolve().parent / "micro_models"


def main() -> None:
    """Answer requests until standard input ends."""
    configure_opencv()
    keep_freed_memory()
    serve(_answer)


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    if "micro" in request:
        return {"micro": asdict(micro_benchmark(request["micro"], request["runtime"]))}
    folders = [Path(folder) for folder in request["folders"]]
    points = [(find_card(point["model"], folders), point["threads"]) for point in request["points"]]
    _reset_peak()
    pipelines = [load_pipeline(card, threads=threads, runtime=request["runtime"]) for card, threads in points]
    return {"samples": samples(pipelines, request["seconds"], mean=request["mean"])}


@dataclass(frozen=True, slots=True)
class Stopwatch:
    """A moment from which on the time of the calling thread, and its waiting for a core, are counted."""

    started_s: float
    waited_s: float
    stolen: dict[int, int]

    @classmethod
    def start(cls) -> Stopwatch:
        """Start now."""
        return cls(time.perf_counter(), _waited_s(), _stolen_now())

    def seconds(self) -> float:
        """Return the seconds that have passed."""
        return time.perf_counter() - self.started_s

    def wait_share(self) -> float:
        """Return the share of the time, 0 to 1, in which the thread waited for a core that another program had, or in which the host
        gave a core to another guest: of the core with most steal, whichever the thread was on. 0 where the kernel does not count.
        """
        # A guest that moves to another host may find its count lower.
        ticks = max((0, *(ticks - self.stolen.get(cpu, ticks) for cpu, ticks in _stolen_now().items())))
        lost_s = _waited_s() - self.waited_s + ticks / os.sysconf("SC_CLK_TCK")
        return min(1.0, max(0.0, lost_s / max(self.seconds(), 1e-9)))


def stolen_ticks(stat: str) -> dict[int, int]:
    """Return core -> ticks that the host of a virtual machine kept it from running: "steal" in /proc/stat (proc_stat(5))."""
    return {int(found[1]): int(found[2]) for found in re.finditer(r"^cpu(\d+)(?: \d+){7} (\d+)", stat, re.MULTILINE)}


def _stolen_now() -> dict[int, int]:
    try:
        found = stolen_ticks(Path("/proc/stat").read_text())
        return {cpu: found[cpu] for cpu in os.sched_getaffinity(0) if cpu in found}
    except (OSError, ValueError):
        return {}


def _waited_s() -> float:
    """Return the seconds that this thread waited for a core (kernel: scheduler/sched-stats.rst); 0 where not counted."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


def samples(pipelines: Sequence[Pipeline], seconds: float, *, mean: bool) -> list[dict[str, Any]]:
    """Measure each pipeline for `seconds`; return the fields of its `measurements.Sample`, but for those that the request holds.

    They are interleaved, one picture each: a processor's speed drifts by a fifth within seconds, and so it drifts for all of them alike.
    Contended windows are left out as far as a little patience helps, but not with `mean`: under a quota the waiting is the figure. Memory
    and wait share are those of the whole process.
    """
    for pipeline in pipelines:
        _run(pipeline)  # the first run packs weights and touches memory for the first time
    chosen = _measure(pipelines, seconds * len(pipelines), pick=not mean)
    rows = [row for window in chosen for row in window.rows]
    wait_share = sum(window.wait_share * window.seconds for window in chosen) / sum(window.seconds for window in chosen)
    shared = {"peak_bytes": _peak_bytes(), "wait_share": round(wait_share, 3), "runs": len(rows)}
    return [
        {**_figures([row[i] for row in rows], mean=mean), **shared, "dtype": pipeline.card.dtype} for i, pipeline in enumerate(pipelines)
    ]


def _figures(rows: Sequence[dict[str, float]], *, mean: bool) -> dict[str, Any]:
    totals = [row["total"] for row in rows]
    return {
        "ms": round(statistics.fmean(totals) if mean else statistics.median(totals), 3),
        "p95_ms": _p95(totals),
        "stages": {stage: round(statistics.median(row[stage] for row in rows), 3) for stage in STAGES},
        "p95_stages": {stage: _p95([row[stage] for row in rows]) for stage in STAGES},
        "cpu_ms": round(statistics.fmean(row["cpu"] for row in rows), 3),
    }


def _p95(values: Sequence[float]) -> float:
    """Return the value that 95 of 100 do not exceed; the largest of fewer than 20."""
    return round(sorted(values)[min(len(values) - 1, int(0.95 * len(values)))], 3)


@dataclass(frozen=True, slots=True)
class _Window:
    """Some rounds in a row: of each, what each pipeline took, stage times, "total" and "cpu" in ms."""

    rows: list[list[dict[str, float]]]
    seconds: float
    wait_share: float


def _measure(pipelines: Sequence[Pipeline], seconds: float, *, pick: bool) -> list[_Window]:
    """Return windows of so many seconds together. pick: those with the smallest wait share; more are made while too few are uncontended."""
    stopwatch, windows = Stopwatch.start(), list[_Window]()
    while True:
        windows.append(_window(pipelines, min(_WINDOW_S, seconds / 2)))
        if pick:
            windows.sort(key=lambda window: window.wait_share)
        chosen = _first(windows, seconds)
        if chosen and (not pick or chosen[-1].wait_share <= NOISY or stopwatch.seconds() > _PATIENCE * seconds):
            return chosen


def _window(pipelines: Sequence[Pipeline], seconds: float) -> _Window:
    stopwatch, rows = Stopwatch.start(), list[list[dict[str, float]]]()
    while not rows or stopwatch.seconds() < seconds:
        rows.append([_run(pipeline) for pipeline in pipelines])
    return _Window(rows, stopwatch.seconds(), stopwatch.wait_share())


def _first(windows: Sequence[_Window], seconds: float) -> list[_Window]:
    """Return the first that make up so many seconds, and rounds enough; empty where all do not."""
    for count in range(1, len(windows) + 1):
        if sum(w.seconds for w in windows[:count]) >= seconds and sum(len(w.rows) for w in windows[:count]) >= _RUNS:
            return list(windows[:count])
    return []


def _run(pipeline: Pipeline) -> dict[str, float]:
    start, cpu_s = time.perf_counter(), time.process_time()
    image = read_picture(PHOTO).image
    decode_ms = (time.perf_counter() - start) * 1e3
    timing_ms = pipeline(Frame(image, "measure", 0, datetime.now(UTC), "measure", decode_ms=decode_ms)).timing_ms
    return {**timing_ms, "cpu": (time.process_time() - cpu_s) * 1e3}


def _reset_peak() -> None:
    """Give back the memory of the model before, and have the high-water mark counted anew (proc(5), clear_refs), where that works."""
    with suppress(OSError, AttributeError):  # another C library has no malloc_trim
        ctypes.CDLL(None).malloc_trim(0)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_bytes() -> int:
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0


def micro_benchmark(threads: int = 1, runtime: Runtime = "auto", budget_s: float = 1.0) -> Micro:
    """Measure the speed in int8 and float32, in about `budget_s`. The best window counts; a dtype that the runtime refuses is 0."""
    stopwatch = Stopwatch.start()
    int8, float32 = (_gops(MODELS / name, threads, runtime, budget_s / 2) for name in ("int8.tflite", "float.tflite"))
    return Micro(int8, float32, threads, stopwatch.seconds(), stopwatch.wait_share())


def _gops(model: Path, threads: int, runtime: Runtime, budget_s: float) -> float:
    try:
        engine = Engine(model, threads=threads, runtime=runtime)
        tensor = np.ones(engine.input.shape, engine.input.dtype)
        engine.run(tensor)  # the first run unpacks weights and wakes the threads
        until, windows = time.perf_counter() + budget_s, [_gops_of_window(engine, tensor)]
        while time.perf_counter() < until:
            windows.append(_gops_of_window(engine, tensor))
    except EdgeannotError:
        return 0.0
    return max(windows)


def _gops_of_window(engine: Engine, tensor: NDArray[Any]) -> float:
    """Return giga-operations a second over one window, or over one run where that takes longer."""
    runs, started = 0, time.perf_counter()
    while True:
        engine.run(tensor)
        runs += 1
        seconds = time.perf_counter() - started
        if seconds >= _WINDOW_S:
            return OPERATIONS * runs / seconds / 1e9
