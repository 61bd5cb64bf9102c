"""One quantization from pictures to files: made, compared with the float model, tried again where it lost too much, written or refused."""

from __future__ import annotations

import hashlib
import itertools
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from edgeannot import __version__
from edgeannot.base.errors import InputError
from edgeannot.library.modelstore import card_toml
from edgeannot.vision.cards import Measured, ModelCard
from edgeannot.vision.engine import Runtime
from edgeannot.vision.pipeline import Limits, load_pipeline
from edgeannot_tools.convert.conversion import write_together
from edgeannot_tools.datasets import ReadOptions, load_dataset
from edgeannot_tools.datasets.pictures import read_class_folders
from edgeannot_tools.evaluate.classifier_accuracy import Ranking
from edgeannot_tools.evaluate.command import evaluate_model, match_model, rank_classifiers
from edgeannot_tools.evaluate.measure import Result
from edgeannot_tools.quantize.acceptance import Agreement, Alike, SameClass, Verdict, compare_models, judge, judge_accuracy, judge_top1
from edgeannot_tools.quantize.calibration_set import CalibrationSet
from edgeannot_tools.quantize.job import (
    Made,
    Options,
    Source,
    described,
    float_beginning,
    input_tensors,
    make_dynamic,
    make_int8,
    prepare_source,
)
from edgeannot_tools.quantize.layer_sqnr import LayerNoise, measure_noise, worst

__all__ = [
    "Gate",
    "Task",
    "make_accepted",
    "make_accepted_dynamic",
    "print_accuracy",
    "print_agreement",
    "print_noise",
    "print_top1",
    "say",
    "write_made",
]

Numbers = Literal["float32", "int8"]
THREADS = 2
"""For comparing; figures are printed, not compared in time."""
NOISE_SAMPLES = 3
"""Pictures that the noise of single layers is measured on."""
LABELS_END = ".labels.txt"


@dataclass(frozen=True, slots=True)
class Gate:
    """How the result is judged."""

    max_drop: float
    data: Path | None
    """Labelled pictures: of a detector with boxes, of a classifier in a folder a class."""
    runtime: Runtime

    @property
    def calibrating(self) -> Literal["litert", "tflite-runtime"] | None:
        """The runtime as the calibration takes it."""
        return None if self.runtime == "auto" else self.runtime


@dataclass(frozen=True, slots=True)
class Task:
    """One call of the command."""

    gate: Gate
    source: Source
    pictures: CalibrationSet
    options: Options
    name: str
    file: str
    console: Console

    def card(self, made: Made, more: str) -> ModelCard:
        """The card of an int8 model; `more` is added to the command that made it, which is named without paths."""
        options = self.options
        flags = f"--input {options.input_type} --output {options.output_type} --clip-heads {options.clip:g}"
        command = f"edgeannot {__version__}: quantize {flags}{' --float-ops' if options.float_ops else ''}{more}"
        return described(self.source, self.pictures, made, self.name, self.file, command)


@dataclass(frozen=True, slots=True)
class Judged:
    """What a comparison gave."""

    verdict: Verdict
    layers: list[LayerNoise]
    measured: tuple[Measured, ...]
    """For the card."""


def make_accepted(task: Task, *, check: bool) -> tuple[Made, ModelCard]:
    """Quantize, judge, and where too much was lost try again with more of the beginning in float. Raises InputError at last."""
    started = time.monotonic()
    prepared = prepare_source(task.source, task.pictures, task.gate.calibrating)
    last, names = -1, frozenset[str]()
    while True:
        made = make_int8(prepared, task.options, names)
        _say_made(made, time.monotonic() - started, task.console)
        card = task.card(made, f", the first {last + 1} operators in float" if names else "")
        if not check:
            return made, card
        judged = _judged(task, made, card)
        if judged.verdict.passed:
            return made, card.model_copy(update={"measured": judged.measured})
        beginning = float_beginning(prepared.graph, judged.layers, last)
        if beginning is None:
            raise InputError(_refusal(task, judged.verdict))
        (last, names), started = beginning, time.monotonic()
        say(task.console, f"lost too much: {judged.verdict.reason}; again, with the first {last + 1} operators in float")


def make_accepted_dynamic(task: Task, *, check: bool) -> tuple[Made, ModelCard]:
    """Store the weights as int8 and judge. Raises InputError where even that lost too much."""
    started = time.monotonic()
    made = make_dynamic(task.source)
    _say_made(made, time.monotonic() - started, task.console)
    card = described(task.source, None, made, task.name, task.file, f"edgeannot {__version__}: quantize --dynamic-range")
    if not check:
        return made, card
    judged = _judged(task, made, card)
    if not judged.verdict.passed:
        raise InputError(_refusal(task, judged.verdict))
    return made, card.model_copy(update={"measured": judged.measured})


def _judged(task: Task, made: Made, card: ModelCard) -> Judged:
    """Compare with the float model, print both sides, and give the verdict."""
    gate, console = task.gate, task.console
    with tempfile.TemporaryDirectory(prefix="edgeannot-quantize-") as folder:
        reference = _staged(task.source.card, task.source.graph.to_bytes(), "float.tflite", Path(folder), task.source)
        candidate = _staged(card, made.data, "int8.tflite", Path(folder), task.source)
        sizes = task.source.card.model_path.stat().st_size, len(made.data)
        verdict, measured = _compared(task, reference, candidate, sizes)
    samples = itertools.islice(input_tensors(made.card, made.prepared, task.pictures), NOISE_SAMPLES)
    layers = measure_noise(made.prepared, made.graph, samples, gate.calibrating)
    print_noise(layers, console)
    if verdict.warning:
        say(console, f"warning: {verdict.warning}")
    if verdict.passed:
        say(console, f"accepted: {verdict.reason} (loss {verdict.drop:.3f}, allowed {gate.max_drop:g})")
    return Judged(verdict, layers, measured)


def _compared(task: Task, reference: ModelCard, candidate: ModelCard, sizes: tuple[int, int]) -> tuple[Verdict, tuple[Measured, ...]]:
    """The verdict on labelled pictures, with the rows for the card, or on the calibration pictures. sizes: of both files in bytes."""
    gate, console, cards = task.gate, task.console, (reference, candidate)
    if gate.data is None:
        limits = Limits() if reference.task == "detect" else Limits(min_score=0.0)
        float_pipeline, int8_pipeline = (load_pipeline(card, threads=THREADS, runtime=gate.runtime, limits=limits) for card in cards)
        agreement = compare_models(float_pipeline, int8_pipeline, task.pictures.frames)
        print_agreement(agreement, *sizes, console)
        return judge(agreement, gate.max_drop), ()
    if reference.task == "classify":
        folders = read_class_folders(gate.data)
        first, second = rank_classifiers(cards, folders, threads=THREADS, runtime=gate.runtime)
        print_top1(first, second, *sizes, console)
        rows = _row(gate, first, "float32", top1=first.top1), _row(gate, second, "int8", top1=second.top1)
        return judge_top1(first, second, gate.max_drop), rows
    dataset = load_dataset(gate.data, None, ReadOptions())
    match = match_model(reference, dataset)
    before, after = (evaluate_model(card, dataset, match, threads=THREADS, runtime=gate.runtime, coco=False) for card in cards)
    print_accuracy(before, after, *sizes, console)
    return judge_accuracy(before, after, gate.max_drop), (_box_row(gate, before, "float32"), _box_row(gate, after, "int8"))


def _refusal(task: Task, verdict: Verdict) -> str:
    own = "calibrate with pictures of what the model is for (--images)"
    advice = own if task.pictures.bundled else "look at the worst layers above"
    return (
        f"the int8 model of {task.source.card.model_path.name} lost too much: {verdict.reason}, a loss of {verdict.drop:.3f} where "
        f"{task.gate.max_drop:g} is allowed; nothing was written: {advice}, allow more (--max-drop), or write it all the same (--no-check)"
    )


def _box_row(gate: Gate, result: Result, numbers: Numbers) -> Measured:
    accuracy = result.accuracy
    return _row(gate, result, numbers, map50=accuracy.map50, map50_95=accuracy.map50_95, mean_iou=accuracy.mean_iou)


def _row(gate: Gate, result: Result | Ranking, numbers: Numbers, **figures: float) -> Measured:
    """A row for the card; a figure that does not exist is left out."""
    pictures = result.pictures if isinstance(result, Result) else len(result.answers)
    rounded: dict[str, Any] = {key: round(value, 4) for key, value in figures.items() if not math.isnan(value)}
    name = gate.data.resolve().name if gate.data is not None else ""
    return Measured(dataset=name, size=result.input_wh[0], numbers=numbers, pictures=pictures, **rounded)


def _staged(card: ModelCard, data: bytes, file: str, folder: Path, source: Source) -> ModelCard:
    """The card of a model that lies in `folder` for a while, with the names of the classes in itself."""
    (folder / file).write_bytes(data)
    labels = card.labels.model_copy(update={"file": None, "names": source.card.label_names()})
    update = {"labels": labels, "file": file, "sha256": hashlib.sha256(data).hexdigest()}
    return card.model_copy(update=update).in_folder(folder)


def write_made(made: Made, card: ModelCard, source: Source, out: Path) -> None:
    """Writes model, class names and card together, the card last, so that at no instant it stands there without its model."""
    names = source.card.label_names()
    file = f"{out.stem}{LABELS_END}" if names else None
    labels = card.labels.model_copy(update={"file": file, "names": ()})
    comments = [f"by convention: {assumption}" for assumption in source.assumptions]
    files = {out: made.data}
    if file is not None:
        files[out.with_name(file)] = "".join(f"{line}\n" for line in names).encode()
    files[out.with_suffix(".toml")] = card_toml(card.model_copy(update={"labels": labels}), comments).encode()
    write_together(files)


def say(console: Console, line: str) -> None:
    """Print a line as it is, however long."""
    console.print(line, soft_wrap=True)


def _say_made(made: Made, seconds: float, console: Console) -> None:
    say(console, f"quantized in {seconds:.1f} s, {len(made.data):,} bytes" + "".join(f"; {note}" for note in made.notes))


WORST = 5
"""Layers that are named."""
NAME_ROOM = 60
"""Characters of a tensor's name that are shown, from its end, where names differ."""


def print_accuracy(reference: Result, int8: Result, bytes_before: int, bytes_after: int, console: Console) -> None:
    """Both models on a labelled set."""
    table = _table(f"on {reference.pictures} labelled pictures", "float", "int8", "change")
    rows = (
        ("mAP50", reference.accuracy.map50, int8.accuracy.map50),
        ("mAP50-95", reference.accuracy.map50_95, int8.accuracy.map50_95),
        ("mean IoU of matches", reference.accuracy.mean_iou, int8.accuracy.mean_iou),
        ("best F1", reference.accuracy.f1, int8.accuracy.f1),
    )
    for name, before, after in rows:
        table.add_row(name, _number(before), _number(after), f"{after - before:+.3f}")
    table.add_row(f"ms a picture ({int8.runtime})", f"{reference.timing.inference:.1f}", f"{int8.timing.inference:.1f}", "")
    _add_size(table, bytes_before, bytes_after)
    console.print(table)


def print_top1(reference: Ranking, int8: Ranking, bytes_before: int, bytes_after: int, console: Console) -> None:
    """Both classifiers on pictures in a folder a class."""
    table = _table(f"on {len(reference.answers)} labelled pictures", "float", "int8", "change")
    for name, before, after in (("top-1", reference.top1, int8.top1), ("top-5", reference.top5, int8.top5)):
        table.add_row(name, _number(before), _number(after), f"{after - before:+.3f}")
    _add_size(table, bytes_before, bytes_after)
    console.print(table)


def print_agreement(found: Agreement | SameClass | Alike, bytes_before: int, bytes_after: int, console: Console) -> None:
    """What both models find in pictures without labels."""
    table = _table(f"on {found.pictures} pictures without labels", "float", "int8", "both")
    if isinstance(found, Agreement):
        table.add_row("boxes", str(found.reference), str(found.found), f"{found.matched} matched")
        table.add_row("sure boxes without a partner", str(found.missing), str(found.invented), f"of {found.sure}")
        table.add_row("mean IoU of matches", "", "", _number(found.mean_iou))
        table.add_row("mean score shift", "", "", _number(found.score_shift))
    elif isinstance(found, SameClass):
        table.add_row("same best class", "", "", f"{found.same} of {found.pictures}")
        table.add_row("same, where float is sure", "", "", f"{found.sure_same} of {found.sure}")
        table.add_row("mean score shift", "", "", _number(found.score_shift))
    else:
        table.add_row("cosine of the vectors", "", "", f"mean {found.mean_cosine:.4f}, worst {found.worst_cosine:.4f}")
    _add_size(table, bytes_before, bytes_after)
    console.print(table)


def print_noise(layers: Sequence[LayerNoise], console: Console) -> None:
    """The layers that add the most noise, and what is left of the signal at the outputs."""
    table = _table("signal to noise, int8 against float", "dB", "lost here, dB", "operator")
    for layer in worst(layers, WORST):
        table.add_row(_short(layer.tensor), f"{layer.snr_db:.1f}", f"{layer.lost_db:.1f}", f"{layer.operator}, number {layer.position}")
    for layer in layers:
        if layer.is_output:
            table.add_row(f"output {_short(layer.tensor)}", f"{layer.snr_db:.1f}", "", layer.operator)
    console.print(table)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="", box=None, pad_edge=False)
    table.add_column("")
    for column in columns:
        table.add_column(column, justify="left" if column == "operator" else "right")
    return table


def _add_size(table: Table, before: int, after: int) -> None:
    table.add_row("file, kB", f"{before / 1e3:,.0f}", f"{after / 1e3:,.0f}", f"{after / before:.0%}")


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _short(name: str) -> str:
    return name if len(name) <= NAME_ROOM else f"...{name[-NAME_ROOM:]}"
