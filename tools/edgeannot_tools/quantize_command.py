"""`edgeannot quantize`: a float model becomes int8, is compared with what it was, and gets a card when it is still good."""

from __future__ import annotations

import itertools
import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from edgeannot import __version__
from edgeannot.cards import Measured, ModelCard
from edgeannot.engine import Runtime, load_runtime
from edgeannot.errors import ConfigError, InputError, MissingError
from edgeannot.inspect import RANGES, Wishes, parse_anchors, parse_range, read_cfg
from edgeannot.modelstore import card_toml
from edgeannot.pipeline import Limits, load_pipeline
from edgeannot_tools.calibration_set import CalibrationSet, read_set
from edgeannot_tools.datasets import Dataset, ReadOptions, load_dataset
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
    find_source,
    float_beginning,
    input_tensors,
    make_dynamic,
    make_int8,
    prepare_source,
)
from edgeannot_tools.quantize_report import print_accuracy, print_agreement, print_noise

__all__ = ["quantize_app"]

THREADS = 2
"""For comparing; figures are printed, not compared in time."""
NOISE_SAMPLES = 3
"""Pictures that the noise of single layers is measured on."""
LABELS_END = ".labels.txt"

quantize_app = typer.Typer(name="quantize", add_completion=False, rich_markup_mode=None, help="Quantize a float model to int8.")


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


@quantize_app.command()
def quantize(
    model: Annotated[Path, typer.Argument(metavar="MODEL.tflite|CARD.toml", help="The float model; a card beside it is read.")],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="OUT.tflite", help="Where the int8 model goes; its card goes beside it.")],
    images: Annotated[
        str | None, typer.Option(metavar="FOLDER|GLOB", help="Pictures like those the model will see; a few bundled photos otherwise.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="Use at most so many of the pictures.")] = 100,
    input_type: Annotated[str, typer.Option("--input", metavar="uint8|int8|float", help="What the model is fed with.")] = "uint8",
    output_type: Annotated[
        str, typer.Option("--output", metavar="auto|int8|float", help="What it answers with; auto: int8 where that is fine enough.")
    ] = "auto",
    dynamic: Annotated[
        bool, typer.Option("--dynamic-range", help="Only store the weights as int8 and compute in float; needs no pictures.")
    ] = False,
    clip_heads: Annotated[
        float, typer.Option(min=0, metavar="X", help="Clip logits to -X..X, which makes their steps finer; 0: do not.")
    ] = 8.0,
    float_ops: Annotated[bool, typer.Option("--float-ops", help="Leave operators that int8 does not know in float.")] = False,
    max_drop: Annotated[
        float, typer.Option(min=0, max=1, help="Loss that is accepted: of mAP50 with --data, otherwise of sure results.")
    ] = 0.02,
    data: Annotated[Path | None, typer.Option(metavar="SET", help="Labelled pictures to judge by: YOLO, VOC, COCO, OpenImages.")] = None,
    check: Annotated[bool, typer.Option("--check/--no-check", help="Compare with the float model, and refuse what lost too much.")] = True,
    runtime: Annotated[str, typer.Option(metavar="auto|litert|tflite-runtime", help="Which runtime calibrates and compares.")] = "auto",
    name: Annotated[str | None, typer.Option(metavar="NAME", help="What the card calls it; by default the name of OUT.")] = None,
    labels: Annotated[Path | None, typer.Option(metavar="FILE", help="Without a card: class names, one a line.")] = None,
    label_offset: Annotated[int | None, typer.Option(metavar="N", help="Without a card: line of class 0, counted from 0.")] = None,
    head: Annotated[str | None, typer.Option(metavar="KIND", help="Without a card: how outputs are read.")] = None,
    input_range: Annotated[str | None, typer.Option(metavar="RANGE", help=f"Without a card: {', '.join(RANGES)}, or MEAN/STD.")] = None,
    color: Annotated[str | None, typer.Option(metavar="RGB|BGR", help="Without a card: colour order.")] = None,
    resize: Annotated[str | None, typer.Option(metavar="HOW", help="Without a card: stretch, letterbox or letterbox-top-left.")] = None,
    anchors: Annotated[str | None, typer.Option(metavar="'W,H ...'|NAME", help="Without a card: anchors of YOLO grids.")] = None,
    cfg: Annotated[Path | None, typer.Option(metavar="FILE", help="Without a card: Darknet cfg to take the anchors from.")] = None,
    box_units: Annotated[str | None, typer.Option(metavar="normalized|pixels", help="Without a card: what box numbers count.")] = None,
) -> None:
    """Turn a float model into int8, show what that cost, and write it with a card unless it lost too much."""
    console = Console() if Console().is_terminal else Console(width=160)
    used = _runtime(runtime)
    load_runtime(used)
    options = Options(
        input_type=_word("--input", input_type, {"uint8": "uint8", "int8": "int8", "float": "float32"}),
        output_type=_word("--output", output_type, {"auto": "auto", "int8": "int8", "float": "float32"}),
        clip=clip_heads,
        float_ops=float_ops,
    )
    wishes = Wishes(
        head=head,
        labels=labels,
        label_offset=label_offset,
        input_range=None if input_range is None else parse_range(input_range, RANGES),
        color=None if color is None else _word("--color", color.upper(), _same("RGB", "BGR", "GRAY")),
        resize=None if resize is None else _word("--resize", resize, _same("stretch", "letterbox", "letterbox-top-left")),
        anchors=None if anchors is None else parse_anchors(anchors),
        cfg=() if cfg is None else read_cfg(cfg),
        box_units=None if box_units is None else _word("--box-units", box_units, _same("normalized", "pixels")),
    )
    _check_paths(model, out)
    gate = Gate(max_drop, load_dataset(data, None, ReadOptions()) if data is not None else None, data.name if data else "", used)
    pictures = read_set(images, limit)
    source = find_source(model, wishes, [frame.image for frame in pictures.frames[:2]], used)
    _say_source(source, console)
    if gate.data is not None and source.card.task != "detect":
        raise InputError(f"--data: labelled sets judge detectors, {source.card.name} is there to {source.card.task}; leave it away")
    if not dynamic:
        _say_pictures(pictures, console)
    task = Task(gate, source, pictures, options, name or _card_name(out), out.name, console)
    _write(*(_make_dynamic(task, check=check) if dynamic else _make_int8(task, check=check)), source, out)
    _say(console, f"wrote {out} and {out.with_suffix('.toml').name}")


def _make_int8(task: Task, *, check: bool) -> tuple[Made, ModelCard]:
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
        _say(task.console, f"lost too much: {judged.verdict.reason}; again, with the first {last + 1} operators in float")


def _make_dynamic(task: Task, *, check: bool) -> tuple[Made, ModelCard]:
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
        _say(console, f"warning: {verdict.warning}")
    if verdict.passed:
        _say(console, f"accepted: {verdict.reason} (loss {verdict.drop:.3f}, allowed {gate.max_drop:g})")
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


def _write(made: Made, card: ModelCard, source: Source, out: Path) -> None:
    """Writes model, class names and card, the card last, so that at no instant it stands there without its model."""
    names = source.card.label_names()
    file = f"{out.stem}{LABELS_END}" if names else None
    labels = card.labels.model_copy(update={"file": file, "names": ()})
    write_whole(out, made.data)
    if file is not None:
        write_whole(out.with_name(file), "".join(f"{line}\n" for line in names))
    comments = [f"by convention: {doubt}" for doubt in source.doubts]
    write_whole(out.with_suffix(".toml"), card_toml(card.model_copy(update={"labels": labels}), comments))


def _check_paths(model: Path, out: Path) -> None:
    if not model.is_file():
        raise MissingError(f"there is no model {model}")
    if out.suffix != ".tflite":
        raise InputError(f"--out: wanted a name that ends in .tflite, found {out}")
    if out.with_suffix("").resolve() == model.with_suffix("").resolve():
        raise InputError(f"--out: {out} is the float model itself, or would replace its card; give another name")


def _card_name(out: Path) -> str:
    """A card's name from a file's: lower case, digits, dots, dashes."""
    name = re.sub(r"[^a-z0-9._-]+", "-", out.stem.lower()).strip("-._")
    return name or "model"


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def _say_made(made: Made, seconds: float, console: Console) -> None:
    _say(console, f"quantized in {seconds:.1f} s, {len(made.data):,} bytes" + "".join(f"; {note}" for note in made.notes))


def _say_source(source: Source, console: Console) -> None:
    card = source.card
    size = f"{card.input.width}x{card.input.height} {card.input.color}, {card.input.resize}"
    _say(console, f"{card.model_path}: {card.task}, {card.head.kind}, {size}")
    for doubt in source.doubts:
        _say(console, f"  assumed, since the file does not say: {doubt}")


def _say_pictures(pictures: CalibrationSet, console: Console) -> None:
    if pictures.bundled:
        _say(
            console,
            f"warning: calibrating with the {len(pictures.frames)} photos that ship with edgeannot; "
            "pictures of your own camera (--images) give better numbers",
        )
    else:
        _say(console, f"calibrating with {pictures.describe()}")


def _same(*words: str) -> dict[str, str]:
    return {word: word for word in words}


def _word(flag: str, value: str, words: dict[str, str]) -> Any:
    """What a word stands for. Raises ConfigError for an unknown one."""
    if value not in words:
        raise ConfigError(f"{flag}: wanted one of {', '.join(words)}; found {value!r}")
    return words[value]


def _runtime(name: str) -> Runtime:
    runtime: Runtime = _word("--runtime", name, _same("auto", "litert", "tflite-runtime"))
    return runtime
