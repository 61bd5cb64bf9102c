"""Writes docs/quantizers.md: what converting and quantizing real networks costs, here and with two other quantizers, in one run.

    EDGEANNOT_TEST_DATA=DATA .venv/bin/python -m benchmarks.quantizers \
        --second-python .venv-tflite/bin/python --litert-quantizer .venv-lq/bin/python

The second Python has tflite-runtime, the third litert-quantizer; without them their columns and rows are left out. Every quantizer gets
the same float graph (weights in float32, boxes and scores apart) and the same calibration pictures, which are never those that
accuracy is measured on. Times are medians over rounds in which the files of one network take turns.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.networks import NETWORKS, Network, Places
from benchmarks.other_quantizers import QuantizerError, litert_own, litert_quantizer
from benchmarks.quantizers_page import CALIBRATION_PICTURES, ROUNDS, Row, page, table_line
from edgeannot.base.errors import EdgeannotError
from edgeannot.vision.cards import ModelCard
from edgeannot.vision.engine import Engine
from edgeannot.vision.pipeline import Limits, Pipeline
from edgeannot_tools.datasets import load_dataset
from edgeannot_tools.evaluate.measure import MAX_DETECTIONS, MIN_SCORE, match_model, measure
from edgeannot_tools.graph.graph import Graph
from edgeannot_tools.output import write_whole
from edgeannot_tools.quantize.acceptance import BoxAgreement, VectorAgreement, check_accuracy, check_agreement, compare_models
from edgeannot_tools.quantize.calibration_set import read_set
from edgeannot_tools.quantize.layer_sqnr import measure_sqnr, worst_layers
from edgeannot_tools.quantize.model import (
    FloatModel,
    PreparedModel,
    QuantizedModel,
    QuantizeOptions,
    float_beginning,
    input_tensors,
    make_card,
    prepare_model,
    quantize_model,
)

ROOT = Path(__file__).resolve().parent.parent
SQNR_SAMPLES = 3
ACCEPTED_LOSS = 0.02
TIMER = """
import importlib, json, statistics, sys, time
import numpy as np
package, rounds, *files = sys.argv[1:]
interpreters = []
for file in files:
    i = importlib.import_module(package + ".interpreter").Interpreter(model_path=file, num_threads=1)
    i.allocate_tensors()
    d = i.get_input_details()[0]
    i.set_tensor(d["index"], (np.random.default_rng(0).random(d["shape"]) * (1 if d["dtype"] == np.float32 else 120)).astype(d["dtype"]))
    i.invoke()
    interpreters.append(i)
times = [[] for _ in files]
for _ in range(int(rounds)):
    for i, t in zip(interpreters, times):
        start = time.perf_counter()
        i.invoke()
        t.append((time.perf_counter() - start) * 1e3)
print(json.dumps([statistics.median(t) for t in times]))
"""


def rows_of(network: Network, places: Places) -> list[Row]:
    """All files of one network, measured."""
    source, convert_s = network.make(places)
    pictures = read_set(str(places.data / network.calibration), CALIBRATION_PICTURES)
    folder = Path(tempfile.mkdtemp(dir=places.work))
    judge_one = _judge(network, source, places)
    rows = [Row("float", source.card.model_path.stat().st_size, judge_one(None).words, 0.0, convert_s)]
    files: list[Path | None] = [_written(folder / "float.tflite", source.graph.to_bytes())]
    started = time.perf_counter()
    prepared = prepare_model(source, pictures)
    made = quantize_model(prepared, QuantizeOptions())
    seconds = time.perf_counter() - started
    samples = list(input_tensors(prepared.card, prepared.graph, pictures))
    made, found, note = _best(prepared, made, samples, judge_one)
    files.append(_written(folder / "edgeannot.tflite", made.data))
    rows.append(Row("edgeannot", len(made.data), found.words, found.drop, seconds, note=note))
    others: dict[str, Callable[[bytes], bytes]] = {"LiteRT's own": lambda graph: _litert(graph, samples)}
    if (python := places.litert_quantizer) is not None:
        others["litert-quantizer"] = lambda graph: litert_quantizer(python, graph, samples)
    for name, quantizer in others.items():
        row, data = _other(name, quantizer, prepared, made, judge_one)
        rows.append(row)
        files.append(None if data is None else _written(folder / f"{name}.tflite", data))
    return _timed(rows, files, places)


def _other(
    name: str, quantizer: Callable[[bytes], bytes], prepared: PreparedModel, made: QuantizedModel, judge_one: Judge
) -> tuple[Row, bytes | None]:
    """Another quantizer's row, and its file where it made one."""
    started = time.perf_counter()
    try:
        data = quantizer(_named(prepared.graph).to_bytes())
    except QuantizerError as exc:
        return Row(name, note=f"fails: {exc}"), None
    seconds = time.perf_counter() - started
    try:
        found = judge_one(replace(made, data=data, card=prepared.card))
    except EdgeannotError as exc:
        return Row(name, len(data), "not usable", math.nan, seconds, note=str(exc)), data
    return Row(name, len(data), found.words, found.drop, seconds), data


def _litert(graph: bytes, samples: Sequence[Any]) -> bytes:
    """LiteRT's own quantizer cannot give int8 behind an operator that stays in float."""
    try:
        return litert_own(graph, samples)
    except QuantizerError as exc:
        if "output type" not in str(exc):
            raise
        return litert_own(graph, samples, output_type="float32")


def _named(graph: Graph) -> Graph:
    """The graph with every tensor's name its own, on which litert-quantizer insists."""
    copy = Graph.from_bytes(graph.to_bytes(), graph.where)
    seen: set[str] = set()
    for number, tensor in enumerate(copy.tensors):
        if tensor.name in seen:
            tensor.name = f"{tensor.name}/{number}"
        seen.add(tensor.name)
    return copy


def _written(file: Path, data: bytes) -> Path:
    file.write_bytes(data)
    return file


@dataclass(frozen=True, slots=True)
class Found:
    """What measuring one model gave."""

    words: str
    drop: float = 0.0
    accepted: bool = True


Judge = Callable[[QuantizedModel | None], Found]


def _judge(network: Network, source: FloatModel, places: Places) -> Judge:
    """A function that measures one int8 model (None: the float model) and gives its accuracy in words and its loss."""
    labelled = network.labelled is not None
    dataset = load_dataset(places.data / "detection" / network.labelled) if network.labelled is not None else None
    frames = () if labelled else read_set(str(places.data / network.pictures), 50).frames
    task = source.card.task
    limits = Limits(min_score=MIN_SCORE, max_detections=MAX_DETECTIONS) if labelled else Limits(min_score=None if task == "detect" else 0.0)
    reference = source.pipeline("auto", limits)
    match = match_model(source.card, dataset) if dataset is not None else None
    result = measure(reference, dataset, match, coco=False) if dataset is not None and match is not None else None

    def judge_one(made: QuantizedModel | None) -> Found:
        if made is None:
            return Found(f"mAP50 {result.accuracy.map50:.3f}" if result is not None else "reference")
        card = _card(made, source, places)
        pipeline = Pipeline(card, Engine(made.data, 2), limits=limits)
        if result is not None and dataset is not None and match is not None:
            found = measure(pipeline, dataset, match, coco=False)
            loss = check_accuracy(result, found, ACCEPTED_LOSS)
            return Found(f"mAP50 {found.accuracy.map50:.3f}", loss.drop, loss.accepted)
        agreement = compare_models(reference, pipeline, frames)
        loss = check_agreement(agreement, ACCEPTED_LOSS)
        return Found(_words(agreement), loss.drop, loss.accepted)

    return judge_one


def _card(made: QuantizedModel, source: FloatModel, places: Places) -> ModelCard:
    """The card beside its file, which `measure` looks into."""
    file = places.work / "candidate.tflite"
    file.write_bytes(made.data)
    card = make_card(source, None, made, "candidate", file.name, "")
    card = card.model_copy(update={"labels": card.labels.model_copy(update={"file": None, "names": source.card.label_names()})})
    return card.in_folder(places.work)


def _words(found: Any) -> str:
    if isinstance(found, BoxAgreement):
        return f"{found.matched} of {found.reference} boxes, IoU {found.mean_iou:.2f}"
    if isinstance(found, VectorAgreement):
        return f"cosine {found.mean_cosine:.3f}"
    return f"top-1 same {found.same} of {found.pictures}"


def _best(prepared: PreparedModel, made: QuantizedModel, samples: Sequence[Any], judge_one: Judge) -> tuple[QuantizedModel, Found, str]:
    """What `edgeannot quantize` ends with: the model, or one whose beginning stays in float where int8 lost too much; and a note."""
    first = found = judge_one(made)
    last = -1
    while not found.accepted:
        layers = measure_sqnr(prepared.graph, made.graph, samples[:SQNR_SAMPLES])
        beginning = float_beginning(prepared.graph, layers, last)
        if beginning is None:
            weak = ", ".join(
                f"{layer.tensor.split(';')[0]} ({layer.operator}, {layer.sqnr_db:.0f} dB)" for layer in worst_layers(layers, 3)
            )
            return made, found, f"{_beginning_note(first, last, prepared)}loses most in {weak}"
        last, names = beginning
        made = quantize_model(prepared, QuantizeOptions(), names)
        found = judge_one(made)
    return made, found, _beginning_note(first, last, prepared).removesuffix("; ")


def _beginning_note(first: Found, last: int, prepared: PreparedModel) -> str:
    if last < 0:
        return ""
    total = len(prepared.graph.operators)
    return f"the first {last + 1} of {total} operators stay in float, because all in int8 lost {first.drop:.3f} ({first.words}); "


def _timed(rows: list[Row], files: Sequence[Path | None], places: Places) -> list[Row]:
    """The rows with one-thread milliseconds on both runtimes."""
    there = [i for i, file in enumerate(files) if file is not None]
    columns: list[dict[int, float]] = []
    for python, package in ((sys.executable, "ai_edge_litert"), (places.second_python, "tflite_runtime")):
        column: dict[int, float] = {}
        if python is not None:
            column = _median_ms(python, package, {i: str(files[i]) for i in there})
        columns.append(column)
    return [replace(row, ms=(columns[0].get(i), columns[1].get(i))) for i, row in enumerate(rows)]


def _median_ms(python: str, package: str, files: dict[int, str]) -> dict[int, float]:
    """By number of the row; files that the runtime refuses are left out."""
    runs = [dict(files), *({i: file} for i, file in files.items())]
    for attempt in runs[:1]:
        done = subprocess.run([python, "-c", TIMER, package, str(ROUNDS), *attempt.values()], capture_output=True, text=True, check=False)
        if not done.returncode:
            return dict(zip(attempt, json.loads(done.stdout.splitlines()[-1]), strict=True))
    found: dict[int, float] = {}
    for i, file in files.items():
        done = subprocess.run([python, "-c", TIMER, package, str(ROUNDS), file], capture_output=True, text=True, check=False)
        if not done.returncode:
            found[i] = json.loads(done.stdout.splitlines()[-1])[0]
    return found


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Write the table of quantized networks.")
    parser.add_argument(
        "--data", type=Path, default=os.environ.get("EDGEANNOT_TEST_DATA"), help="the test data; EDGEANNOT_TEST_DATA otherwise"
    )
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache" / "models", help="where packages of the registries are kept")
    parser.add_argument("--second-python", help="a Python with tflite-runtime")
    parser.add_argument("--litert-quantizer", help="a Python with litert-quantizer")
    parser.add_argument("--only", action="append", default=[], help="only networks whose name holds this (may be repeated)")
    parser.add_argument("-o", "--out", type=Path, default=ROOT / "docs" / "quantizers.md")
    options = parser.parse_args()
    if options.data is None or not (options.data / "MANIFEST.tsv").is_file():
        parser.error("the test data is not there; name it with --data or EDGEANNOT_TEST_DATA")
    started = time.monotonic()
    groups: list[tuple[Network, list[Row]]] = []
    with tempfile.TemporaryDirectory(prefix="edgeannot-quantizers-") as work:
        places = Places(options.data, options.cache, Path(work), options.second_python, options.litert_quantizer)
        for network in NETWORKS:
            if not options.only or any(part.lower() in network.name.lower() for part in options.only):
                rows = rows_of(network, places)
                groups.append((network, rows))
                for row in rows:
                    print(table_line(network.name, row), row.note, flush=True)
    write_whole(options.out, page(groups, places, time.monotonic() - started))
    print(f"wrote {options.out} in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
