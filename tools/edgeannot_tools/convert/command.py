"""`edgeannot convert`: convert a model of another framework to a float TFLite file with a card."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from edgeannot.base.errors import CardError, InputError
from edgeannot.cli.model_options import ModelOptions, with_model_options
from edgeannot.vision.cards import ModelCard
from edgeannot_tools.convert.files import Converted, Request, convert_sources, finish
from edgeannot_tools.convert.tfjs_route import MODEL_FILE
from edgeannot_tools.output import Command, require_writable, write_together

__all__ = ["convert_app"]

convert_app = typer.Typer(
    name="convert",
    add_completion=False,
    rich_markup_mode=None,
    help="Convert a Darknet, ONNX, Keras, TensorFlow.js or float TFLite model to float TFLite.",
)


@convert_app.command(cls=Command)
@with_model_options
def convert(
    sources: Annotated[list[Path], typer.Argument(metavar="SOURCE", help="The model; for Darknet the cfg, the weights, or both.")],
    *,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE.tflite", help="Output file; by default SOURCE's name in this folder.")
    ] = None,
    size: Annotated[str | None, typer.Option(metavar="N|WxH", help="Another input size in pixels.")] = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Name of the model in the card; by default the file's name.")] = None,
    card: Annotated[
        bool | None,
        typer.Option("--card/--no-card", help="Require a card, or write none; by default one is written if the model is recognized."),
    ] = None,
    mask: Annotated[
        list[str] | None,
        typer.Option(metavar="1,2,3", help="Darknet: anchors of the last [yolo] section; give it once per section for all."),
    ] = None,
    outputs: Annotated[
        str | None, typer.Option(metavar="NAME,NAME", help="Nodes or tensors to end at; by default the model's own outputs.")
    ] = None,
    keep_join: Annotated[bool, typer.Option("--keep-join", help="Keep boxes and scores in one output.")] = False,
    onnx2tf: Annotated[
        Path | None, typer.Option(metavar="PATH", help="The onnx2tf command to use; by default the one on the PATH.")
    ] = None,
    tensorflow: Annotated[
        Path | None, typer.Option(metavar="PYTHON", help="The Python interpreter with TensorFlow; by default this one.")
    ] = None,
    model_options: ModelOptions,
) -> None:
    """Convert a model to float TFLite with a card, ready for `edgeannot run --model FILE.toml` and for `edgeannot quantize`.

    \b
    Darknet   .cfg and .weights: written directly; the card comes from the cfg
    ONNX      .onnx: through onnx2tf 2.6 or later, here or in another environment
              (--onnx2tf)
    Keras     .keras, .h5, SavedModel folder: through TensorFlow, here or in
              another environment (--tensorflow)
    TFLite    float16 or int8 weights: expanded to float32, for `edgeannot
              quantize`
    TF.js     model.json of a graph model, with the weights beside it: written
              directly
    PyTorch   .pth: the state of an EfficientNet-Lite; others through ONNX

    Facts that a cfg does not state are inferred from the graph, as by `edgeannot models add`; the options --labels to --box-units
    state them. Nothing is written unless the result runs.
    """
    started = time.monotonic()
    request = Request(
        size_wh=_size(size),
        masks=tuple(_mask(text) for text in mask or ()),
        hints=model_options.hints(),
        outputs=tuple(filter(None, (word.strip() for word in (outputs or "").split(",")))),
        split=not keep_join,
        onnx2tf=onnx2tf,
        tensorflow=tensorflow,
    )
    target = _target(out, sources)
    converted = convert_sources(sources, request)
    if card is False:
        converted = replace(converted, card=None, no_card="")
    elif card and converted.card is None:
        raise CardError(f"no card can be written for {converted.source}: {converted.no_card}")
    made_by = _command(
        sources, {"--size": [size] if size else [], "--mask": mask or [], "--outputs": [outputs] if outputs else []}, model_options
    )
    files, written_card = finish(converted, target, name, made_by)
    write_together(files)
    _report(converted, files, written_card, time.monotonic() - started)


def _size(text: str | None) -> tuple[int, int] | None:
    """`416` or `416x320`, width before height."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)(?:[xX](\d+))?", text.strip())
    if not match or not int(match[1]) or match[2] == "0":
        raise typer.BadParameter(f"wanted N or WxH in pixels like 416 or 416x320; found {text!r}", param_hint="--size")
    return int(match[1]), int(match[2] or match[1])


def _mask(text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"\s*\d+\s*(,\s*\d+\s*)*", text):
        raise typer.BadParameter(f"wanted numbers of anchors like 1,2,3; found {text!r}", param_hint="--mask")
    return tuple(int(part) for part in text.split(","))


def _target(out: Path | None, sources: Sequence[Path]) -> Path:
    """Return the file to write. Raises InputError where it is a source or cannot be written."""
    source = sources[0].resolve()
    stem = source.parent.name if source.name == MODEL_FILE else source.stem  # a TensorFlow.js model is known by its folder
    if out is None or out.is_dir():
        ending = "-float" if sources[0].suffix.lower() == ".tflite" else ""
        out = (out or Path()) / f"{stem}{ending}.tflite"
    if out.suffix.lower() != ".tflite":
        raise typer.BadParameter(f"wanted a name that ends in .tflite; found {str(out)!r}", param_hint="--out")
    if any(source.resolve() == out.resolve() for source in sources):
        raise InputError(f"--out {out} is the source itself; give another name")
    require_writable(out)
    return out


def _command(sources: Sequence[Path], own: Mapping[str, Sequence[str]], model_options: ModelOptions) -> str:
    """Return the command, for the card: how the file was made, without the folders of this machine."""
    words = [word for flag, texts in own.items() for text in texts for word in (flag, text)]
    return shlex.join(["edgeannot", "convert", *(path.resolve().name for path in sources), *words, *model_options.words()])


def _report(converted: Converted, files: dict[Path, bytes], card: ModelCard | None, seconds: float) -> None:
    """Print the result, notes, and the next steps."""
    for warning in converted.warnings:
        typer.echo(f"warning: {warning}", err=True)
    for note in converted.notes:
        typer.echo(note)
    for path, data in files.items():
        typer.echo(f"wrote {path} ({_bytes(len(data))})")
    model = next(iter(files))
    graph = converted.graph
    inputs = ", ".join(f"{graph.name(t)} {graph.shape(t)}" for t in graph.inputs)
    outputs = ", ".join(f"{graph.name(t)} {graph.shape(t)}" for t in graph.outputs)
    typer.echo(f"float32, input {inputs}, output {outputs}; {seconds:.1f} s")
    if card is not None:
        typer.echo(f"card: {card.task}, {card.head.kind}, {card.input.width}x{card.input.height} {card.input.color}")
        typer.echo(f"try it:  edgeannot run --model {shlex.quote(str(model.with_suffix('.toml')))} --watch PICTURES --once")
    elif converted.no_card:
        typer.echo(f"no card was written: {converted.no_card}", err=True)
    small = shlex.quote(str(model.with_stem(f"{model.stem}-int8")))
    typer.echo(f"next:    edgeannot quantize {shlex.quote(str(model))} --images PICTURES -o {small}")


def _bytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{count / 1e3:.1f} kB"
