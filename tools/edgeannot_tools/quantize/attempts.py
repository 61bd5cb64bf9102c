"""One quantization from pictures to files: made, compared with the float model, tried again where it lost too much, written or refused"""

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
from edgeannot_tools.datasets import ReadOptions, load_dataset
from edgeannot_tools.datasets.pictures import read_class_folders
from edgeannot_tools.evaluate.classifier_accuracy import Ranking, rank_classifiers
from edgeannot_tools.evaluate.measure import Result, evaluate_model, match_model
from edgeannot_tools.output import write_together
from edgeannot_tools.quantize.acceptance import (
    AcceptanceResult,
    BoxAgreement,
    ClassAgreement,
    VectorAgreement,
    check_accuracy,
    check_agreement,
    check_top1,
    compare_models,
)
from edgeannot_tools.quantize.calibration_set import CalibrationSet
from edgeannot_tools.quantize.layer_sqnr import LayerSqnr, measure_sqnr, worst_layers
from edgeannot_tools.quantize.model import (
    FloatModel,
    QuantizedModel,
    QuantizeOptions,
    float_beginning,
    input_tensors,
    make_card,
    prepare_model,
    quantize_model,
    quantize_model_weights,
)

__all__ = [
    "AcceptanceCriteria",
    "QuantizeRequest",
    "print_accuracy",
    "print_agreement",
    "print_sqnr",
    "print_top1",
    "quantize_until_accepted",
    "quantize_weights",
    "say",
    "write_model",
]

Dtype = Literal["float32", "int8"]
THREADS = 2
"""For comparing; figures are printed, not compared in time."""
SQNR_SAMPLES = 3
"""Pictures that the noise of single layers is measured on."""
LABELS_END = ".labels.txt"


@dataclass(frozen=True, slots=True)
class AcceptanceCriteria:
    """What an int8 model has to keep of its float model."""

    max_drop: float
    data: Path | None
    """Labelled pictures: of a detector with boxes, of a classifier in a folder a class."""
    runtime: Runtime

    @property
    def calibration_runtime(self) -> Literal["litert", "tflite-runtime"] | None:
        """The runtime as the calibration takes it."""
        return None if self.runtime == "auto" else self.runtime


@dataclass(frozen=True, slots=True)
class QuantizeRequest:
    """One call of the command."""

    criteria: AcceptanceCriteria
    source: FloatModel
    pictures: CalibrationSet
    options: QuantizeOptions
    name: str
    file: str
    console: Console

    def card(self, made: QuantizedModel, more: str) -> ModelCard:
        """Return the card of an int8 model; `more` is added to the command that made it, which is named without paths."""
        options = self.options
        flags = f"--input {options.input_type} --output {options.output_type} --clip-heads {options.clip:g}"
        flags += (" --float-ops" if options.float_ops else "") + ("" if options.refine else " --no-refine")
        command = f"edgeannot {__version__}: quantize {flags}{more}"
        return make_card(self.source, self.pictures, made, self.name, self.file, command)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a comparison gave."""

    result: AcceptanceResult
    layers: list[LayerSqnr]
    measured: tuple[Measured, ...]
    """For the card."""


def quantize_until_accepted(request: QuantizeRequest, *, check: bool) -> tuple[QuantizedModel, ModelCard]:
    """Quantize, compare, and where too much was lost try again with more of the beginning in float. Raises InputError at last."""
    started = time.monotonic()
    prepared = prepare_model(request.source, request.pictures, request.criteria.calibration_runtime)
    last, names = -1, frozenset[str]()
    while True:
        made = quantize_model(prepared, request.options, names)
        _say_made(made, time.monotonic() - started, request.console)
        card = request.card(made, f", the first {last + 1} operators in float" if names else "")
        if not check:
            return made, card
        comparison = _compare(request, made, card)
        if comparison.result.accepted:
            return made, card.model_copy(update={"measured": comparison.measured})
        beginning = float_beginning(prepared.graph, comparison.layers, last)
        if beginning is None:
            raise InputError(_refusal(request, comparison.result))
        (last, names), started = beginning, time.monotonic()
        say(request.console, f"lost too much: {comparison.result.reason}; again, with the first {last + 1} operators in float")


def quantize_weights(request: QuantizeRequest, *, check: bool) -> tuple[QuantizedModel, ModelCard]:
    """Store the weights as int8 and compare. Raises InputError where even that lost too much."""
    started = time.monotonic()
    made = quantize_model_weights(request.source)
    _say_made(made, time.monotonic() - started, request.console)
    card = make_card(request.source, None, made, request.name, request.file, f"edgeannot {__version__}: quantize --dynamic-range")
    if not check:
        return made, card
    comparison = _compare(request, made, card)
    if not comparison.result.accepted:
        raise InputError(_refusal(request, comparison.result))
    return made, card.model_copy(update={"measured": comparison.measured})


def _compare(request: QuantizeRequest, made: QuantizedModel, card: ModelCard) -> Comparison:
    """Compare with the float model, print both sides, and check the loss."""
    criteria, console = request.criteria, request.console
    with tempfile.TemporaryDirectory(prefix="edgeannot-quantize-") as folder:
        reference = _staged(request.source.card, request.source.graph.to_bytes(), "float.tflite", Path(folder), request.source)
        candidate = _staged(card, made.data, "int8.tflite", Path(folder), request.source)
        sizes = request.source.card.model_path.stat().st_size, len(made.data)
        result, measured = _compare_on(request, reference, candidate, sizes)
    samples = itertools.islice(input_tensors(made.card, made.prepared, request.pictures), SQNR_SAMPLES)
    layers = measure_sqnr(made.prepared, made.graph, samples, criteria.calibration_runtime)
    print_sqnr(layers, console)
    if result.warning:
        say(console, f"warning: {result.warning}")
    if result.accepted:
        say(console, f"accepted: {result.reason} (loss {result.drop:.3f}, allowed {criteria.max_drop:g})")
    return Comparison(result, layers, measured)


def _compare_on(
    request: QuantizeRequest, reference: ModelCard, candidate: ModelCard, sizes: tuple[int, int]
) -> tuple[AcceptanceResult, tuple[Measured, ...]]:
    """Return the result on labelled pictures, with the rows for the card, or on the calibration pictures. sizes: of both files in bytes."""
    criteria, console, cards = request.criteria, request.console, (reference, candidate)
    if criteria.data is None:
        limits = Limits() if reference.task == "detect" else Limits(min_score=0.0)
        float_pipeline, int8_pipeline = (load_pipeline(card, threads=THREADS, runtime=criteria.runtime, limits=limits) for card in cards)
        agreement = compare_models(float_pipeline, int8_pipeline, request.pictures.frames)
        print_agreement(agreement, *sizes, console)
        return check_agreement(agreement, criteria.max_drop), ()
    if reference.task == "classify":
        folders = read_class_folders(criteria.data)
        first, second = rank_classifiers(cards, folders, threads=THREADS, runtime=criteria.runtime)
        print_top1(first, second, *sizes, console)
        rows = _row(criteria, first, "float32", top1=first.top1), _row(criteria, second, "int8", top1=second.top1)
        return check_top1(first, second, criteria.max_drop), rows
    dataset = load_dataset(criteria.data, None, ReadOptions())
    match = match_model(reference, dataset)
    before, after = (evaluate_model(card, dataset, match, threads=THREADS, runtime=criteria.runtime, coco=False) for card in cards)
    print_accuracy(before, after, *sizes, console)
    return check_accuracy(before, after, criteria.max_drop), (_box_row(criteria, before, "float32"), _box_row(criteria, after, "int8"))


def _refusal(request: QuantizeRequest, result: AcceptanceResult) -> str:
    own = "calibrate with pictures of what the model is for (--images)"
    advice = own if request.pictures.bundled else "look at the worst layers above"
    return (
        f"the int8 model of {request.source.card.model_path.name} lost too much: {result.reason}, a loss of {result.drop:.3f} where "
        f"{request.criteria.max_drop:g} is allowed; nothing was written: {advice}, allow more (--max-drop), "
        "or write it all the same (--no-check)"
    )


def _box_row(criteria: AcceptanceCriteria, result: Result, dtype: Dtype) -> Measured:
    accuracy = result.accuracy
    return _row(criteria, result, dtype, map50=accuracy.map50, map50_95=accuracy.map50_95, mean_iou=accuracy.mean_iou)


def _row(criteria: AcceptanceCriteria, result: Result | Ranking, dtype: Dtype, **figures: float) -> Measured:
    """Return a row for the card; a figure that does not exist is left out."""
    pictures = result.pictures if isinstance(result, Result) else len(result.answers)
    rounded: dict[str, Any] = {key: round(value, 4) for key, value in figures.items() if not math.isnan(value)}
    name = criteria.data.resolve().name if criteria.data is not None else ""
    return Measured(dataset=name, size=result.input_wh[0], numbers=dtype, pictures=pictures, **rounded)


def _staged(card: ModelCard, data: bytes, file: str, folder: Path, source: FloatModel) -> ModelCard:
    """Return the card of a model that lies in `folder` for a while, with the names of the classes in itself."""
    (folder / file).write_bytes(data)
    labels = card.labels.model_copy(update={"file": None, "names": source.card.label_names()})
    update = {"labels": labels, "file": file, "sha256": hashlib.sha256(data).hexdigest()}
    return card.model_copy(update=update).in_folder(folder)


def write_model(made: QuantizedModel, card: ModelCard, source: FloatModel, out: Path) -> None:
    """Write model, class names and card together, the card last, so that at no instant it stands there without its model."""
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


def _say_made(made: QuantizedModel, seconds: float, console: Console) -> None:
    say(console, f"quantized in {seconds:.1f} s, {len(made.data):,} bytes" + "".join(f"; {note}" for note in made.notes))


WORST = 5
"""Layers that are named."""
NAME_ROOM = 60
"""Characters of a tensor's name that are shown, from its end, where names differ."""


def print_accuracy(reference: Result, int8: Result, bytes_before: int, bytes_after: int, console: Console) -> None:
    """Print both models on a labelled set."""
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
    """Print both classifiers on pictures in a folder a class."""
    table = _table(f"on {len(reference.answers)} labelled pictures", "float", "int8", "change")
    for name, before, after in (("top-1", reference.top1, int8.top1), ("top-5", reference.top5, int8.top5)):
        table.add_row(name, _number(before), _number(after), f"{after - before:+.3f}")
    _add_size(table, bytes_before, bytes_after)
    console.print(table)


def print_agreement(found: BoxAgreement | ClassAgreement | VectorAgreement, bytes_before: int, bytes_after: int, console: Console) -> None:
    """Print what both models find in pictures without labels."""
    table = _table(f"on {found.pictures} pictures without labels", "float", "int8", "both")
    if isinstance(found, BoxAgreement):
        table.add_row("boxes", str(found.reference), str(found.found), f"{found.matched} matched")
        table.add_row("sure boxes without a partner", str(found.missing), str(found.invented), f"of {found.sure}")
        table.add_row("mean IoU of matches", "", "", _number(found.mean_iou))
        table.add_row("mean score shift", "", "", _number(found.score_shift))
    elif isinstance(found, ClassAgreement):
        table.add_row("same best class", "", "", f"{found.same} of {found.pictures}")
        table.add_row("same, where float is sure", "", "", f"{found.sure_same} of {found.sure}")
        table.add_row("mean score shift", "", "", _number(found.score_shift))
    else:
        table.add_row("cosine of the vectors", "", "", f"mean {found.mean_cosine:.4f}, worst {found.worst_cosine:.4f}")
    _add_size(table, bytes_before, bytes_after)
    console.print(table)


def print_sqnr(layers: Sequence[LayerSqnr], console: Console) -> None:
    """Print the layers that add the most noise, and what is left of the signal at the outputs."""
    table = _table("signal to noise, int8 against float", "dB", "lost here, dB", "operator")
    for layer in worst_layers(layers, WORST):
        table.add_row(_short(layer.tensor), f"{layer.sqnr_db:.1f}", f"{layer.lost_db:.1f}", f"{layer.operator}, number {layer.position}")
    for layer in layers:
        if layer.is_output:
            table.add_row(f"output {_short(layer.tensor)}", f"{layer.sqnr_db:.1f}", "", layer.operator)
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
