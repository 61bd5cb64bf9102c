"""One quantization from pictures to files: made, compared with the float model, rescued where it lost too much, written or refused."""

from __future__ import annotations

import hashlib
import itertools
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from rich.console import Console

from edgeannot import __version__
from edgeannot.base.errors import InputError
from edgeannot.base.foreign import number_of
from edgeannot.library.modelstore import card_toml
from edgeannot.vision.cards import Measured, ModelCard
from edgeannot.vision.engine import Runtime
from edgeannot.vision.pipeline import Limits, load_pipeline
from edgeannot_tools.datasets import ReadOptions, load_dataset
from edgeannot_tools.datasets.pictures import read_class_set
from edgeannot_tools.evaluate.classifier_accuracy import Ranking, rank_classifiers
from edgeannot_tools.evaluate.measure import Result, evaluate_model, match_model
from edgeannot_tools.output import waiting, write_together
from edgeannot_tools.quantize.acceptance import AcceptanceResult, check_accuracy, check_agreement, check_top1, compare_models
from edgeannot_tools.quantize.calibration_set import CalibrationSet, more_views
from edgeannot_tools.quantize.equalize import Equalized, equalize_rectified, gate_silus
from edgeannot_tools.quantize.layer_sqnr import LayerSqnr, measure_sqnr
from edgeannot_tools.quantize.model import (
    FloatModel,
    PreparedModel,
    QuantizedModel,
    QuantizeOptions,
    float_beginning,
    input_tensors,
    make_card,
    prepare_equalized,
    prepare_model,
    quantize_model,
    quantize_model_weights,
)
from edgeannot_tools.quantize.report import print_accuracy, print_agreement, print_sqnr, print_top1, say

__all__ = [
    "AcceptanceCriteria",
    "Attempt",
    "QuantizeRequest",
    "Rescue",
    "accepted",
    "quantize_until_accepted",
    "quantize_weights",
    "write_model",
]

Rescue = Literal["auto", "float", "gates", "none"]
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
    """Labelled pictures: of a detector with boxes, of a classifier in a folder a class or a CSV file."""
    runtime: Runtime
    check: bool = True
    """Whether the two are compared; without, only the noise of the layers is looked at."""

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
    rescue: Rescue = "auto"
    """What is tried where int8 lost too much."""
    otherwise: str = "allow more (--max-drop), or write it all the same (--no-check)"
    """What the user can do, beside naming pictures, where that did not help."""

    def card(self, made: QuantizedModel, more: str) -> ModelCard:
        """Return the card of an int8 model; `more` is added to the command that made it, which is named without paths."""
        options = self.options
        flags = f"--input {options.input_type} --output {options.output_type} --clip-heads {options.clip:g}"
        flags += (" --float-ops" if options.float_ops else "") + ("" if options.refine else " --no-refine")
        command = f"edgeannot {__version__}: quantize {flags}{more}"
        return make_card(self.source, self.pictures, made, self.name, self.file, command)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One int8 model, what it lost, and whether that is little enough."""

    made: QuantizedModel
    card: ModelCard
    layers: list[LayerSqnr]
    result: AcceptanceResult | None
    """None where the models are not compared."""

    @property
    def is_good(self) -> bool:
        """Whether nothing has to be tried to save it."""
        return self.result.accepted if self.result is not None else float_beginning(self.made.prepared, self.layers) is None

    @property
    def output_db(self) -> float:
        """What is left of the signal at the worst output."""
        return min((layer.sqnr_db for layer in self.layers if layer.is_output), default=math.inf)

    @property
    def is_doubtful(self) -> bool:
        """Whether what was seen does not tell that the loss is within bounds."""
        return self.result is not None and not self.result.is_sure


def quantize_until_accepted(request: QuantizeRequest) -> Attempt:
    """Quantize, and where too much was lost try what may save the model. Raises InputError where nothing does."""
    attempts = list(_attempts(request))
    return _accepted(request, min(attempts, key=lambda a: (not a.is_good, a.result.drop if a.result else 0.0, -a.output_db)))


def _attempts(request: QuantizeRequest) -> Iterator[Attempt]:
    """Yield what was made in turn, up to the first that is good."""
    prepared = prepare_model(request.source, request.pictures, request.criteria.calibration_runtime)
    first = _attempt(request, prepared)
    yield first
    if first.is_good:
        if first.is_doubtful and request.rescue == "auto":  # what costs nothing at run time is tried
            yield from _with_equal_channels(request, prepared, first)
        return
    for rescue in RESCUES[request.rescue]:
        for attempt in rescue(request, prepared, first):
            yield attempt
            if attempt.is_good:
                return


def _attempt(request: QuantizeRequest, prepared: PreparedModel, float_tensors: frozenset[str] = frozenset(), how: str = "") -> Attempt:
    """Quantize once and compare. how: what was done to save the model, for the card."""
    started = time.monotonic()
    with waiting("quantizing"):
        made = quantize_model(prepared, request.options, float_tensors)
    say(request.console, _size_line(made, time.monotonic() - started))
    card = request.card(made, f", {how}" if how else "")
    if not request.criteria.check:
        return Attempt(made, card, _layers(request, made), None)
    return _compare(request, made, card)


Rescuer = Callable[[QuantizeRequest, PreparedModel, Attempt], Iterator[Attempt]]


def _with_float_beginning(request: QuantizeRequest, prepared: PreparedModel, first: Attempt) -> Iterator[Attempt]:
    """Keep the beginning of the network in float, up to the first layer that lost its signal, then up to the next."""
    attempt, last = first, -1
    while (beginning := float_beginning(prepared.graph, attempt.layers, last)) is not None:
        last, names = beginning
        how = f"the first {last + 1} operators in float"
        _say_again(request, attempt, how)
        attempt = _attempt(request, prepared, names, how)
        yield attempt


def _equalized(
    scale: Callable[..., Equalized | None], request: QuantizeRequest, prepared: PreparedModel, first: Attempt
) -> Iterator[Attempt]:
    runtime = request.criteria.calibration_runtime
    equalized = scale(prepared.graph, prepared.refiner.samples, runtime)
    if equalized is not None:
        how = f"the channels of {number_of(equalized.layers, 'layer')} scaled"
        how += f" through {number_of(equalized.gates, 'gate')}" if equalized.gates else ""
        _say_again(request, first, how)
        yield _attempt(request, prepare_equalized(prepared, equalized, request.pictures, runtime), how=how)


_with_gates = partial(_equalized, gate_silus)
"""Scale the channels of SiLUs that one step for all leaves too noisy."""
_with_equal_channels = partial(_equalized, equalize_rectified)
"""Scale the channels between rectifiers."""
RESCUES: dict[Rescue, tuple[Rescuer, ...]] = {
    "auto": (_with_equal_channels, _with_float_beginning, _with_gates),
    "float": (_with_float_beginning,),
    "gates": (_with_equal_channels, _with_gates),
    "none": (),
}


def _say_again(request: QuantizeRequest, attempt: Attempt, how: str) -> None:
    lost = "a layer lost its signal" if attempt.result is None else f"lost too much: {attempt.result.reason}"
    lost = f"not sure: {attempt.result.reason}" if attempt.result is not None and attempt.is_good else lost
    say(request.console, f"{lost}; again, with {how}")


def quantize_weights(request: QuantizeRequest) -> Attempt:
    """Store the weights as int8 and compare. Raises InputError where even that lost too much."""
    started = time.monotonic()
    made = quantize_model_weights(request.source)
    say(request.console, _size_line(made, time.monotonic() - started))
    card = make_card(request.source, None, made, request.name, request.file, f"edgeannot {__version__}: quantize --dynamic-range")
    if not request.criteria.check:
        return Attempt(made, card, [], None)
    return _accepted(request, _compare(request, made, card))


def _compare(request: QuantizeRequest, made: QuantizedModel, card: ModelCard) -> Attempt:
    """Compare with the float model, print both sides, and check the loss."""
    criteria, console = request.criteria, request.console
    with tempfile.TemporaryDirectory(prefix="edgeannot-quantize-") as folder:
        reference = _staged(request.source.card, request.source.graph.to_bytes(), "float.tflite", Path(folder), request.source)
        candidate = _staged(card, made.data, "int8.tflite", Path(folder), request.source)
        sizes = request.source.card.model_path.stat().st_size, len(made.data)
        result, measured = _compare_on(request, reference, candidate, sizes)
    layers = _layers(request, made)
    print_sqnr(layers, console)
    if result.warning:
        say(console, f"warning: {result.warning}")
    if result.accepted:
        say(console, accepted(result, criteria.max_drop))
    return Attempt(made, card.model_copy(update={"measured": measured}), layers, result)


def accepted(result: AcceptanceResult, max_drop: float) -> str:
    """Return why a model was accepted, one sentence."""
    return f"accepted: {result.reason} (loss {result.drop:.3f}, allowed {max_drop:g}); {result.certainty}"


def _layers(request: QuantizeRequest, made: QuantizedModel) -> list[LayerSqnr]:
    samples = itertools.islice(input_tensors(made.card, made.prepared, request.pictures), SQNR_SAMPLES)
    return measure_sqnr(made.prepared, made.graph, samples, request.criteria.calibration_runtime)


def _compare_on(
    request: QuantizeRequest, reference: ModelCard, candidate: ModelCard, sizes: tuple[int, int]
) -> tuple[AcceptanceResult, tuple[Measured, ...]]:
    """Return the result on labelled pictures, with the rows for the card, or on the calibration pictures. sizes: of both files in bytes."""
    criteria, console, cards = request.criteria, request.console, (reference, candidate)
    if criteria.data is None:
        limits = Limits() if reference.task == "detect" else Limits(min_score=0.0)
        float_pipeline, int8_pipeline = (load_pipeline(card, threads=THREADS, runtime=criteria.runtime, limits=limits) for card in cards)
        more = more_views(request.pictures.frames)
        agreement = compare_models(float_pipeline, int8_pipeline, request.pictures.frames, more, criteria.max_drop)
        print_agreement(agreement, *sizes, console)
        return check_agreement(agreement, criteria.max_drop), ()
    if reference.task == "classify":
        folders = read_class_set(criteria.data)
        first, second = rank_classifiers(cards, folders, threads=THREADS, runtime=criteria.runtime)
        print_top1(first, second, *sizes, console)
        return check_top1(first, second, criteria.max_drop), _rows(criteria.data, first, second)
    dataset = load_dataset(criteria.data, None, ReadOptions())
    match = match_model(reference, dataset)
    before, after = (evaluate_model(card, dataset, match, threads=THREADS, runtime=criteria.runtime, coco=False) for card in cards)
    print_accuracy(before, after, *sizes, console)
    return check_accuracy(before, after, criteria.max_drop), _rows(criteria.data, before, after)


def _accepted(request: QuantizeRequest, attempt: Attempt) -> Attempt:
    """Return the attempt. Raises InputError where it lost too much."""
    result = attempt.result
    if result is None or result.accepted:
        return attempt
    own = "calibrate with pictures of what the model is for (--images)"
    advice = own if request.pictures.bundled else "look at the worst layers above"
    raise InputError(
        f"the int8 model of {request.source.card.model_path.name} lost too much: {result.reason}, a loss of {result.drop:.3f} where "
        f"{request.criteria.max_drop:g} is allowed ({result.certainty}); nothing was written: {advice}, {request.otherwise}"
    )


def _rows(data: Path, before: Result | Ranking, after: Result | Ranking) -> tuple[Measured, ...]:
    """Return the rows for the card."""
    runs = ((before, "float32"), (after, "int8"))
    return tuple(run.measured(data.resolve().name).model_copy(update={"numbers": numbers}) for run, numbers in runs)


def _staged(card: ModelCard, data: bytes, file: str, folder: Path, source: FloatModel) -> ModelCard:
    """Return the card of a model that lies in `folder` for a while, with the names of the classes in itself."""
    (folder / file).write_bytes(data)
    labels = card.labels.model_copy(update={"file": None, "names": source.card.label_names()})
    update = {"labels": labels, "file": file, "sha256": hashlib.sha256(data).hexdigest()}
    return card.model_copy(update=update).in_folder(folder)


def write_model(attempt: Attempt, source: FloatModel, out: Path) -> None:
    """Write model, class names and card together, the card last, so that at no instant it stands there without its model."""
    names = source.card.label_names()
    file = f"{out.stem}{LABELS_END}" if names else None
    labels = attempt.card.labels.model_copy(update={"file": file, "names": ()})
    comments = [f"by convention: {assumption}" for assumption in source.assumptions]
    files = {out: attempt.made.data}
    if file is not None:
        files[out.with_name(file)] = "".join(f"{line}\n" for line in names).encode()
    files[out.with_suffix(".toml")] = card_toml(attempt.card.model_copy(update={"labels": labels}), comments).encode()
    write_together(files)


def _size_line(made: QuantizedModel, seconds: float) -> str:
    return f"quantized in {seconds:.1f} s, {len(made.data):,} bytes" + "".join(f"; {note}" for note in made.notes)
