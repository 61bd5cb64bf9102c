"""`edgeannot quantize`: quantize a float model to int8, compare both, and write a card if little is lost; for `models pull`, too."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from edgeannot.base.errors import InputError, MissingError
from edgeannot.base.foreign import model_name
from edgeannot.card_inference import Hints
from edgeannot.choice.auto_runtime import find_runtime
from edgeannot.cli.model_options import ModelOptions, with_model_options
from edgeannot.vision.engine import Runtime, load_runtime
from edgeannot_tools.output import Command, open_console, require_writable
from edgeannot_tools.quantize.attempts import (
    AcceptanceCriteria,
    QuantizeRequest,
    Rescue,
    accepted,
    quantize_until_accepted,
    quantize_weights,
    write_model,
)
from edgeannot_tools.quantize.calibration_set import CalibrationSet, read_set
from edgeannot_tools.quantize.model import FloatModel, QuantizeOptions, load_float_model
from edgeannot_tools.quantize.report import say

__all__ = ["quantize_app", "quantize_file"]

MOST_PICTURES = 100
MAX_DROP = 0.02

quantize_app = typer.Typer(name="quantize", add_completion=False, rich_markup_mode=None, help="Quantize a float model to int8.")


@quantize_app.command(cls=Command)
@with_model_options
def quantize(
    model: Annotated[Path, typer.Argument(metavar="MODEL.tflite|CARD.toml", help="The float model; a card beside it is used.")],
    *,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="OUT.tflite", help="Output file of the int8 model; its card is written beside it.")
    ],
    images: Annotated[
        str | None,
        typer.Option(metavar="FOLDER|GLOB", help="Calibration pictures like those the model will see; by default a few bundled photos."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="Maximum number of calibration pictures.")] = MOST_PICTURES,
    input_type: Annotated[
        Literal["uint8", "int8", "float"], typer.Option("--input", metavar="uint8|int8|float", help="Type of the input.")
    ] = "uint8",
    output_type: Annotated[
        Literal["auto", "int8", "float"],
        typer.Option("--output", metavar="auto|int8|float", help="Type of the outputs; auto: int8 if its resolution is sufficient."),
    ] = "auto",
    dynamic: Annotated[
        bool, typer.Option("--dynamic-range", help="Quantize the weights only and compute in float; needs no pictures.")
    ] = False,
    clip_heads: Annotated[
        float, typer.Option(min=0, metavar="X", help="Clip logits to -X..X for finer quantization steps; 0: no clipping.")
    ] = 8.0,
    float_ops: Annotated[bool, typer.Option("--float-ops", help="Keep operators without int8 kernel in float.")] = False,
    refine: Annotated[
        bool, typer.Option("--refine/--no-refine", help="Round the weights of a layer together, or each to the nearest step.")
    ] = True,
    max_drop: Annotated[
        float, typer.Option(min=0, max=1, metavar="0..1", help="Accepted loss: of mAP50 with --data, otherwise of confident results.")
    ] = MAX_DROP,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="SET",
            help="Labelled set for the comparison: YOLO, VOC, COCO, OpenImages, or for a classifier one folder per class or a CSV.",
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Compare with the float model, and reject a result with too much loss.")
    ] = True,
    rescue: Annotated[
        Rescue,
        typer.Option(
            metavar="auto|float|gates|none",
            help="What is tried where int8 lost too much: the beginning in float, gates (all stays int8), each, or nothing.",
        ),
    ] = "auto",
    runtime: Annotated[Runtime, typer.Option(metavar="auto|litert|tflite-runtime", help="TFLite runtime to use.")] = "auto",
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Name of the model in the card; by default the name of OUT.")] = None,
    model_options: ModelOptions,
) -> None:
    """Quantize a float model to int8, show the loss, and write the model with a card unless the loss is too large.

    If there is no card beside the model, its facts are inferred from the graph, as by `edgeannot models add`; the options from
    --labels on state them.
    """
    console = open_console()
    runtime = find_runtime(runtime=runtime)
    load_runtime(runtime)
    options = QuantizeOptions(
        input_type="float32" if input_type == "float" else input_type,
        output_type="float32" if output_type == "float" else output_type,
        clip=clip_heads,
        float_ops=float_ops,
        refine=refine,
    )
    hints = model_options.hints()
    _check_paths(model, out)
    if data is not None and not data.exists():
        raise MissingError(f"--data: there is no labelled set at {data}")
    criteria = AcceptanceCriteria(max_drop, data, runtime, check)
    pictures = read_set(images, limit)
    source = load_float_model(model, hints, [frame.image for frame in pictures.frames[:2]], runtime)
    _say_source(source, console)
    if data is not None and source.card.task == "embed":
        raise InputError(f"--data: {source.card.name} outputs vectors, for which there are no labels; omit --data")
    if not dynamic:
        _say_pictures(pictures, console)
    request = QuantizeRequest(criteria, source, pictures, options, name or model_name(out.stem), out.name, console, rescue)
    write_model(quantize_weights(request) if dynamic else quantize_until_accepted(request), source, out)
    say(console, f"wrote {out} and {out.with_suffix('.toml').name}")
    say(console, f"next: edgeannot models add {shlex.quote(str(out))} --try PHOTO")


def quantize_file(card: Path, out: Path, name: str, images: str | None, runtime: Runtime) -> tuple[str, ...]:
    """Write the int8 model of a float model's card as the command does by default; what came of it, a sentence each.

    images: as `--images`. The comparison is printed, and nothing is written where the int8 model lost too much. Raises as `read_set`,
    `load_float_model` and `quantize_until_accepted` do.
    """
    console = open_console()
    pictures = read_set(images, MOST_PICTURES)
    _say_pictures(pictures, console)
    criteria = AcceptanceCriteria(MAX_DROP, None, runtime)
    source = load_float_model(card, Hints(), (), runtime)
    by_hand = "or make it by hand with `edgeannot convert` and `edgeannot quantize`, which can be told to allow more"
    request = QuantizeRequest(criteria, source, pictures, QuantizeOptions(), name, out.name, console, otherwise=by_hand)
    attempt = quantize_until_accepted(request)
    write_model(attempt, source, out)
    compared = () if attempt.result is None else (accepted(attempt.result, MAX_DROP),)
    return (f"quantized to int8, calibrated with {pictures.describe()}", *attempt.made.notes, *compared)


def _check_paths(model: Path, out: Path) -> None:
    if not model.is_file():
        raise MissingError(f"there is no model {model}")
    if out.suffix != ".tflite":
        raise typer.BadParameter(f"--out: wanted a name that ends in .tflite, found {out}")
    if out.with_suffix("").resolve() == model.with_suffix("").resolve():
        raise typer.BadParameter(f"--out: {out} is the float model itself, or would replace its card; give another name")
    require_writable(out)


def _say_source(source: FloatModel, console: Console) -> None:
    card = source.card
    size = f"{card.input.width}x{card.input.height} {card.input.color}, {card.input.resize}"
    say(console, f"{card.model_path}: {card.task}, {card.head.kind}, {size}")
    for assumption in source.assumptions:
        say(console, f"  assumed (not stated in the file): {assumption}")


def _say_pictures(pictures: CalibrationSet, console: Console) -> None:
    if pictures.bundled:
        say(
            console,
            f"warning: calibrating with the {len(pictures.frames)} photos that ship with edgeannot; "
            "pictures of your own camera (--images) give better numbers",
        )
    else:
        say(console, f"calibrating with {pictures.describe()}")
