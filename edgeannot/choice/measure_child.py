"""The child process of `measure`: loads models and runs them, as asked line by line, and prints what each took. It may die at any time.

A request names points (a model, NAME or NAME@SIZE, and threads), the models' folders, the runtime and how long to measure; or asks for the
micro-benchmark with so many threads. The answer is {"samples": [{...}, ...]}, {"micro": {...}} or {"refused": "why"}. What is measured of a
model is the pipeline as the daemon runs it, from a JPEG file to boxes. Several points take turns, picture by picture.
"""

from __future__ import annotations

import ctypes
import functools
import re
import statistics
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgeannot.base.child import serve
from edgeannot.base.places import SAMPLES
from edgeannot.choice.contention import Since
from edgeannot.choice.micro import micro_benchmark
from edgeannot.tflite.file import read_tflite
from edgeannot.vision.cards import find_card
from edgeannot.vision.data import Frame
from edgeannot.vision.decode import configure_opencv, read_picture
from edgeannot.vision.pipeline import Pipeline, load_pipeline

__all__ = ["PHOTO", "STAGES", "keep_freed_memory", "main", "numbers_of", "samples"]

PHOTO = SAMPLES / "scene.jpg"
"""800 x 1000 pixels with several things in it, so that postprocessing has something to do."""

STAGES = ("decode", "preprocess", "inference", "postprocess")
_CONVOLUTIONS = {"CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED"}
_LONG_S = 0.5
"""A run this long is warm by itself, and a few of them say enough."""
_SPELL_S, _SHORT_SPELL_S = 0.25, 0.1
_CALM = 0.1
"""A spell that waited for no larger share of it was not disturbed: less cannot be told, as the kernel counts what a host steals in
hundredths of a second."""
_PATIENCE = 3
"""Calm is waited for up to this many times the seconds asked for."""
_MOST_SECONDS = 8
"""Measuring ends after this many times the seconds asked for, with two runs at least, however few were done."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""glibc, malloc.h; its documentation: mallopt(3)."""
_KEPT_BYTES = 32 * 2**20
"""Room for a picture of 11 megapixels; glibc takes no more for M_MMAP_THRESHOLD, and on 32 bits not even this."""


def main() -> None:
    """Answer requests until standard input ends."""
    configure_opencv()
    keep_freed_memory()
    serve(_answer)


def keep_freed_memory() -> None:
    """Have the C library keep what a picture's memory was for the next picture, as it is in the daemon.

    There, the next picture is decoded before the last one is freed, so the heap stays as large as it is. Here, one is freed before the
    next, and whether the heap is then given back to the kernel hangs on what happens to lie above it: 1,200 page faults a picture of
    0.8 megapixels, 3 of 23 ms, with one model and not with another. Where the C library has no such setting, nothing is changed.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        if mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES):  # setting the other one alone would have every picture mapped anew
            mallopt(_M_TRIM_THRESHOLD, 2 * _KEPT_BYTES)


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    if "micro" in request:
        return {"micro": asdict(micro_benchmark(request["micro"], request["runtime"]))}
    folders = [Path(folder) for folder in request["folders"]]
    points = [(find_card(point["model"], folders), point["threads"]) for point in request["points"]]
    _reset_peak()
    pipelines = [load_pipeline(card, threads=threads, runtime=request["runtime"]) for card, threads in points]
    return {"samples": samples(pipelines, request["seconds"], request["runs"], mean=request["mean"])}


def samples(pipelines: Sequence[Pipeline], seconds: float, runs: int, *, mean: bool) -> list[dict[str, Any]]:
    """The fields of a `measurements.Sample` for each pipeline, but for those that the request holds; `seconds` for each.

    They take turns, one picture each: a processor's speed drifts by a fifth within seconds, and so it drifts for all of them alike. What
    others disturb is left out as far as a little patience helps, but not with `mean`: under a quota the waiting is the figure. Memory
    and waiting are those of the whole process.
    """
    for pipeline in pipelines:
        _warm_up(pipeline)
    chosen = _rounds(pipelines, seconds * len(pipelines), runs, pick=not mean)
    rows = [row for spell in chosen for row in spell.rows]
    waited = sum(spell.waited * spell.seconds for spell in chosen) / sum(spell.seconds for spell in chosen)
    shared = {"peak_bytes": _peak_bytes(), "waited": round(waited, 3), "runs": len(rows)}
    return [
        {**_figures([row[i] for row in rows], mean=mean), **shared, "numbers": numbers_of(pipeline.card.model_path)}
        for i, pipeline in enumerate(pipelines)
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
    """The value that 95 of 100 do not exceed; the largest of fewer than 20."""
    return round(sorted(values)[min(len(values) - 1, int(0.95 * len(values)))], 3)


def _warm_up(pipeline: Pipeline) -> None:
    start = time.perf_counter()
    _run(pipeline)
    if time.perf_counter() - start < _LONG_S:
        _run(pipeline)  # the first run packs weights and touches memory for the first time


@dataclass(frozen=True, slots=True)
class _Spell:
    """Some rounds in a row: of each, what each pipeline took, stage times, "total" and "cpu" in ms."""

    rows: list[list[dict[str, float]]]
    seconds: float
    waited: float


def _rounds(pipelines: Sequence[Pipeline], seconds: float, runs: int, *, pick: bool) -> list[_Spell]:
    """The spells that count, of so many seconds and rounds together. With `pick` the calmest ones, and more of them are made for a while
    when too few were calm.
    """
    start, spells = time.perf_counter(), list[_Spell]()
    while True:
        spells.append(_spell(pipelines, max(_SHORT_SPELL_S, min(_SPELL_S, seconds / 2))))
        elapsed = time.perf_counter() - start
        if pick:
            spells.sort(key=lambda spell: spell.waited)
        chosen = _first(spells, seconds, runs)
        if chosen and (not pick or chosen[-1].waited <= _CALM or elapsed > _PATIENCE * seconds):
            return chosen
        if elapsed > _MOST_SECONDS * seconds and sum(len(spell.rows) for spell in spells) >= 2:
            return spells


def _spell(pipelines: Sequence[Pipeline], seconds: float) -> _Spell:
    since, rows = Since.now(), list[list[dict[str, float]]]()
    while not rows or since.seconds() < seconds:
        rows.append([_run(pipeline) for pipeline in pipelines])
    return _Spell(rows, since.seconds(), since.waited())


def _first(spells: Sequence[_Spell], seconds: float, runs: int) -> list[_Spell]:
    """The first that make up so many seconds and rounds; empty where all do not."""
    for count in range(1, len(spells) + 1):
        if sum(s.seconds for s in spells[:count]) >= seconds and sum(len(s.rows) for s in spells[:count]) >= runs:
            return list(spells[:count])
    return []


def _run(pipeline: Pipeline) -> dict[str, float]:
    start, cpu_s = time.perf_counter(), time.process_time()
    image = read_picture(PHOTO).image
    decode_ms = (time.perf_counter() - start) * 1e3
    timing_ms = pipeline(Frame(image, "measure", 0, datetime.now(UTC), "measure", decode_ms=decode_ms)).timing_ms
    return {**timing_ms, "cpu": (time.process_time() - cpu_s) * 1e3}


@functools.cache
def numbers_of(model: Path) -> str:
    """What most layers with weights calculate with, int8 or float32; weights that are only stored as int8 do not count."""
    graph = read_tflite(model).graph
    made = [graph.tensors[operator.outputs[0]].dtype for operator in graph.operators if operator.name in _CONVOLUTIONS]
    return "int8" if 2 * sum(dtype in {"int8", "uint8", "int16"} for dtype in made) > len(made) else "float32"


def _reset_peak() -> None:
    """Give back what the model before this one held, and have the high-water mark counted anew (proc(5), clear_refs), where that works."""
    with suppress(OSError, AttributeError):  # another C library has no malloc_trim
        ctypes.CDLL(None).malloc_trim(0)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_bytes() -> int:
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0
