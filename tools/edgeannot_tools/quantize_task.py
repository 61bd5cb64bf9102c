"""One quantization from pictures to files: made, compared with the float model, tried again where it lost too much, written or refused."""

from __future__ import annotations

import itertools
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console

from edgeannot import __version__
from edgeannot.cards import Measured, ModelCard
from edgeannot.engine import Runtime
from edgeannot.errors import InputError
from edgeannot.modelstore import card_toml
from edgeannot.pipeline import Limits, load_pipeline
from edgeannot_tools.calibration_set import CalibrationSet
from edgeannot_tools.datasets import Dataset
from edgeannot_tools.evaluate import match_model
from edgeannot_tools.gate import Verdict, compare_models, judge, judge_accuracy
from edgeannot_tools.layer_noise import LayerNoise, measure_noise
from edgeannot_tools.measure import MAX_DETECTIONS, MIN_SCORE, Result, measure
from edgeannot_tools.output import write_whole
from edgeannot_tools.quantize_job import (
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
from edgeannot_tools.quantize_report import print_accuracy, print_agreement, print_noise

__all__ = ["Gate", "Task", "make_accepted", "make_accepted_dynamic", "say", "write_made"]

THREADS = 2
"""For comparing; figures are printed, not compared in time."""
NOISE_SAMPLES = 3
"""Pictures that the noise of single layers is measured on."""
LABELS_END = ".labels.txt"


@dataclass(frozen=True, slots=True)
class Gate:
    """How the result is judged."""

    max_drop: float
    data: Dataset | None
    data_name: str
    runtime: Runtime

    @property
    def calibrating(self) -> Literal["litert", "tflite-runtime"] | None:
        """The runtime as the calibration takes it."""
        return None if self.runtime == "auto" else self.runtime

    def limits(self, card: ModelCard) -> Limits:
        """What is asked of both models: for average precision and classes also what is hardly there."""
        if self.data is not None:
            return Limits(min_score=MIN_SCORE, max_detections=MAX_DETECTIONS)
        return Limits() if card.task == "detect" else Limits(min_score=0.0)


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
    gate, source, console = task.gate, task.source, task.console
    sizes = source.card.model_path.stat().st_size, len(made.data)
    measured: tuple[Measured, ...] = ()
    with tempfile.TemporaryDirectory(prefix="edgeannot-quantize-") as folder:
        (Path(folder) / card.file).write_bytes(made.data)
        limits = gate.limits(card)
        int8 = load_pipeline(_staged(card, source, Path(folder)), threads=THREADS, runtime=gate.runtime, limits=limits)
        reference = source.pipeline(gate.runtime, limits, THREADS)
        if gate.data is None:
            found = compare_models(reference, int8, task.pictures.frames)
            print_agreement(found, *sizes, console)
            verdict = judge(found, gate.max_drop)
        else:
            match = match_model(source.card, gate.data)
            before, after = (measure(pipeline, gate.data, match, coco=False) for pipeline in (reference, int8))
            print_accuracy(before, after, *sizes, console)
            verdict = judge_accuracy(before, after, gate.max_drop)
            measured = _row(before, gate.data_name, "float32"), _row(after, gate.data_name, "int8")
    samples = itertools.islice(input_tensors(made.card, made.prepared, task.pictures), NOISE_SAMPLES)
    layers = measure_noise(made.prepared, made.graph, samples, gate.calibrating)
    print_noise(layers, console)
    if verdict.warning:
        say(console, f"warning: {verdict.warning}")
    if verdict.passed:
        say(console, f"accepted: {verdict.reason} (loss {verdict.drop:.3f}, allowed {gate.max_drop:g})")
    return Judged(verdict, layers, measured)


def _refusal(task: Task, verdict: Verdict) -> str:
    own = "calibrate with pictures of what the model is for (--images)"
    advice = own if task.pictures.bundled else "look at the worst layers above"
    return (
        f"the int8 model of {task.source.card.model_path.name} lost too much: {verdict.reason}, a loss of {verdict.drop:.3f} where "
        f"{task.gate.max_drop:g} is allowed; nothing was written: {advice}, allow more (--max-drop), or write it all the same (--no-check)"
    )


def _row(result: Result, dataset: str, numbers: Literal["float32", "int8"]) -> Measured:
    accuracy = result.accuracy
    return Measured(
        dataset=dataset,
        size=result.input_wh[0],
        numbers=numbers,
        pictures=result.pictures,
        map50=round(accuracy.map50, 4),
        map50_95=round(accuracy.map50_95, 4),
        mean_iou=round(accuracy.mean_iou, 4),
    )


def _staged(card: ModelCard, source: Source, folder: Path) -> ModelCard:
    """The card as it is while its model lies in `folder`, with the names of the classes in itself."""
    labels = card.labels.model_copy(update={"file": None, "names": source.card.label_names()})
    staged = card.model_copy(update={"labels": labels})
    staged._folder = folder
    return staged


def write_made(made: Made, card: ModelCard, source: Source, out: Path) -> None:
    """Writes model, class names and card, the card last, so that at no instant it stands there without its model."""
    names = source.card.label_names()
    file = f"{out.stem}{LABELS_END}" if names else None
    labels = card.labels.model_copy(update={"file": file, "names": ()})
    write_whole(out, made.data)
    if file is not None:
        write_whole(out.with_name(file), "".join(f"{line}\n" for line in names))
    comments = [f"by convention: {doubt}" for doubt in source.doubts]
    write_whole(out.with_suffix(".toml"), card_toml(card.model_copy(update={"labels": labels}), comments))


def say(console: Console, line: str) -> None:
    """Print a line as it is, however long."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def _say_made(made: Made, seconds: float, console: Console) -> None:
    say(console, f"quantized in {seconds:.1f} s, {len(made.data):,} bytes" + "".join(f"; {note}" for note in made.notes))
