"""Writes docs/quantizers.md: what converting and quantizing real networks costs, here and with two other quantizers, in one run.

    EDGEANNOT_TEST_DATA=DATA .venv/bin/python -m benchmarks.quantizers \
        --second-python .venv-tflite/bin/python --litert-quantizer .venv-lq/bin/python --onnx2tf onnx-env/bin/onnx2tf

The second Python has tflite-runtime, the third litert-quantizer; without them their columns and rows are left out. Every quantizer gets
the same float graph (weights in float32, boxes and scores apart) and the same calibration pictures, which are never those that
accuracy is measured on. Times are medians over rounds in which the files of one network take turns. YOLOX needs the command onnx2tf
(`--onnx2tf`), and is left out without.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.networks import NETWORKS, Network, Places, child_seconds
from benchmarks.quantizers.others import QuantizerError, litert_own, litert_quantizer
from benchmarks.quantizers.page import CALIBRATION_PICTURES, ROUNDS, Row, page, table_line
from edgeannot.base.errors import EdgeannotError
from edgeannot.library.modelstore import card_toml
from edgeannot.vision.cards import ModelCard, read_card
from edgeannot.vision.pipeline import Limits, load_pipeline
from edgeannot_tools.datasets import load_dataset
from edgeannot_tools.evaluate.measure import MAX_DETECTIONS, MIN_SCORE, match_model, measure
from edgeannot_tools.graph.graph import Graph
from edgeannot_tools.output import write_whole
from edgeannot_tools.quantize.acceptance import BoxAgreement, VectorAgreement, compare_models
from edgeannot_tools.quantize.calibration_set import read_set
from edgeannot_tools.quantize.model import FloatModel, PreparedModel, input_tensors, prepare_model

ROOT = Path(__file__).resolve().parents[2]
ACCEPTED_LOSS = 0.02
QUANTIZE = """
import atexit, pathlib, sys
status = pathlib.Path(sys.argv.pop(1))
atexit.register(lambda: status.write_text(pathlib.Path("/proc/self/status").read_text()))
from edgeannot.cli.start import main
main()
"""
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
    pictures = places.data / network.calibration
    folder = Path(tempfile.mkdtemp(dir=places.work))
    card = _write_float(source, folder)
    judge_one = _judge(network, source, places)
    rows = [Row("float", source.card.model_path.stat().st_size, judge_one(None).words, 0.0, convert_s)]
    files: list[Path | None] = [card.with_suffix(".tflite")]
    for row, file in _ours(network, places, card, pictures, judge_one):
        rows.append(row)
        files.append(file)
    calibration = read_set(str(pictures), CALIBRATION_PICTURES)
    prepared = prepare_model(source, calibration)
    samples = list(input_tensors(prepared.card, prepared.graph, calibration))
    others: dict[str, Callable[[bytes], bytes]] = {"LiteRT's own": lambda graph: _litert(graph, samples)}
    if (python := places.litert_quantizer) is not None:
        others["litert-quantizer"] = lambda graph: litert_quantizer(python, graph, samples)
    for name, quantizer in others.items():
        row, file = _other(name, quantizer, prepared, source, folder, judge_one)
        rows.append(row)
        files.append(file)
    return _timed(rows, files, places)


def _write_float(source: FloatModel, folder: Path) -> Path:
    """The float graph in a file with its card, whose path is returned: the same for every quantizer."""
    return _with_card(source.card, source, folder / "float.tflite", source.graph.to_bytes())


def _with_card(card: ModelCard, source: FloatModel, file: Path, data: bytes) -> Path:
    """Write a model with a card that holds the names of the classes; return the card's path."""
    file.write_bytes(data)
    labels = card.labels.model_copy(update={"file": None, "names": source.card.label_names()})
    update = {"name": file.stem, "file": file.name, "sha256": hashlib.sha256(data).hexdigest(), "labels": labels}
    path = file.with_suffix(".toml")
    path.write_text(card_toml(card.model_copy(update=update)), encoding="utf-8")
    return path


def _ours(network: Network, places: Places, card: Path, pictures: Path, judge_one: Judge) -> Iterator[tuple[Row, Path | None]]:
    """What `edgeannot quantize` makes without a rescue; where that lost too much, with each rescue."""
    folder = card.parent
    first, seconds, peak = _quantized(card, folder / "edgeannot.tflite", pictures, "--no-check", "--rescue", "none")
    found = judge_one(first)
    if found.accepted:
        yield Row("edgeannot", first.model_path.stat().st_size, found.words, found.drop, seconds, peak), first.model_path
        return
    lost = f"all in int8 lost {found.drop:.3f} ({found.words})"
    labelled = [] if network.labelled is None else ["--data", str(places.data / "detection" / network.labelled)]
    for rescue in ("auto", "gates"):
        flags = ("--rescue", rescue, "--max-drop", str(ACCEPTED_LOSS), *labelled)
        name = "edgeannot" if rescue == "auto" else f"edgeannot --rescue {rescue}"
        try:
            saved, seconds, peak = _quantized(card, folder / f"{rescue}.tflite", pictures, *flags)
        except QuantizerError as exc:
            yield Row(name, first.model_path.stat().st_size, found.words, found.drop, note=str(exc)), first.model_path
            continue
        then = judge_one(saved)
        how = saved.provenance.made_by.rpartition("quantize ")[2].partition(", ")[2]
        note = f"{how}, because {lost}" if how else lost
        yield Row(name, saved.model_path.stat().st_size, then.words, then.drop, seconds, peak, note=note), saved.model_path
        if "operators in float" not in how:
            return


def _quantized(card: Path, out: Path, pictures: Path, *flags: str) -> tuple[ModelCard, float, float]:
    """Run the command; return the card, and the processor time and most memory that it took. Raises QuantizerError with its last line."""
    started, status = child_seconds(), out.with_suffix(".status")
    command = [sys.executable, "-c", QUANTIZE, str(status), "quantize", str(card), "-o", str(out), "--images", str(pictures)]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--limit", str(CALIBRATION_PICTURES), *flags], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise QuantizerError((done.stderr or done.stdout).strip().splitlines()[-1])
    peak = next(int(line.split()[1]) / 1e3 for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
    return read_card(out.with_suffix(".toml")), child_seconds() - started, peak


def _other(
    name: str, quantizer: Callable[[bytes], bytes], prepared: PreparedModel, source: FloatModel, folder: Path, judge_one: Judge
) -> tuple[Row, Path | None]:
    """Another quantizer's row, and its file where it made one."""
    started = child_seconds()
    try:
        data = quantizer(_named(prepared.graph).to_bytes())
    except QuantizerError as exc:
        return Row(name, note=f"fails: {exc}"), None
    seconds = child_seconds() - started
    file = folder / f"{''.join(c for c in name.lower() if c.isalnum())}.tflite"
    try:
        found = judge_one(read_card(_with_card(prepared.card, source, file, data)))
    except EdgeannotError as exc:
        return Row(name, len(data), "not usable", math.nan, seconds, note=str(exc)), file
    return Row(name, len(data), found.words, found.drop, seconds), file


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


@dataclass(frozen=True, slots=True)
class Found:
    """What measuring one model gave."""

    words: str
    drop: float = 0.0
    accepted: bool = True


Judge = Callable[[ModelCard | None], Found]


def _judge(network: Network, source: FloatModel, places: Places) -> Judge:
    """A function that measures one int8 model by its card (None: the float model) and gives its accuracy in words and its loss."""
    labelled = network.labelled is not None
    dataset = load_dataset(places.data / "detection" / network.labelled) if network.labelled is not None else None
    frames = () if labelled else read_set(str(places.data / network.pictures), 50).frames
    task = source.card.task
    limits = Limits(min_score=MIN_SCORE, max_detections=MAX_DETECTIONS) if labelled else Limits(min_score=None if task == "detect" else 0.0)
    reference = source.pipeline("auto", limits)
    match = match_model(source.card, dataset) if dataset is not None else None
    result = measure(reference, dataset, match, coco=False) if dataset is not None and match is not None else None

    def judge_one(card: ModelCard | None) -> Found:
        if card is None:
            return Found(f"mAP50 {result.accuracy.map50:.3f}" if result is not None else "reference")
        pipeline = load_pipeline(card, threads=2, limits=limits)
        if result is not None and dataset is not None and match is not None:
            found = measure(pipeline, dataset, match, coco=False)
            drop = result.accuracy.map50 - found.accuracy.map50
            return Found(f"mAP50 {found.accuracy.map50:.3f}", drop, drop <= ACCEPTED_LOSS)
        agreement = compare_models(reference, pipeline, frames)
        return Found(_words(agreement), agreement.drop, agreement.drop <= ACCEPTED_LOSS)

    return judge_one


def _words(found: Any) -> str:
    if isinstance(found, BoxAgreement):
        return f"{found.matched} of {found.reference} boxes, IoU {found.mean_iou:.2f}"
    if isinstance(found, VectorAgreement):
        return f"cosine {found.mean_cosine:.3f}"
    return f"top-1 same {found.same} of {found.pictures}"


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
    parser.add_argument("--onnx2tf", help="the command onnx2tf, for the networks in ONNX")
    parser.add_argument("--only", action="append", default=[], help="only networks whose name holds this (may be repeated)")
    parser.add_argument("-o", "--out", type=Path, default=ROOT / "docs" / "quantizers.md")
    options = parser.parse_args()
    if options.data is None or not (options.data / "MANIFEST.tsv").is_file():
        parser.error("the test data is not there; name it with --data or EDGEANNOT_TEST_DATA")
    started = time.monotonic()
    groups: list[tuple[Network, list[Row]]] = []
    with tempfile.TemporaryDirectory(prefix="edgeannot-quantizers-") as work:
        places = Places(options.data, options.cache, Path(work), options.second_python, options.litert_quantizer, options.onnx2tf)
        for network in NETWORKS:
            if network.needs_onnx2tf and places.onnx2tf is None:
                continue
            if not options.only or any(part.lower() in network.name.lower() for part in options.only):
                rows = rows_of(network, places)
                groups.append((network, rows))
                for row in rows:
                    print(table_line(network.name, row), row.note, flush=True)
    before = options.out.read_text(encoding="utf-8") if options.out.is_file() else ""
    write_whole(options.out, page(groups, places, time.monotonic() - started, before))
    print(f"wrote {options.out} in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
