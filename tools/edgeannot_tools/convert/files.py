"""From the files of a model by the route of their kind to a float graph, its class names and card, proven by a run, written together."""

from __future__ import annotations

import hashlib
import importlib
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from edgeannot.base.errors import CardError, InputError, MissingError, ModelError
from edgeannot.base.foreign import model_name
from edgeannot.base.places import SAMPLES
from edgeannot.card_inference import Hints, Proposal, propose, read_labels
from edgeannot.library.modelstore import card_toml
from edgeannot.tflite.file import parse_tflite
from edgeannot.tflite.schema import TYPE_BITS
from edgeannot.trial.loads import try_model
from edgeannot.vision.cards import CARD_SCHEMA, ModelCard, what_is_wrong
from edgeannot.vision.data import Frame, UInt8Array
from edgeannot.vision.decode import read_picture
from edgeannot.vision.engine import Engine
from edgeannot.vision.pipeline import Pipeline
from edgeannot_tools.graph.edits import at_size, fold_dequantize, multiply_accumulates, retarget_outputs
from edgeannot_tools.graph.graph import Graph, Op
from edgeannot_tools.output import write_together
from edgeannot_tools.quantize.split_outputs import split_card

__all__ = [
    "Converted",
    "Request",
    "convert_files",
    "convert_sources",
    "convert_tflite",
    "describe",
    "finish",
    "kind_of",
    "label_names",
    "last_line",
    "sized",
    "with_card",
]

POSTPROCESS = "TFLite_Detection_PostProcess"
"""The one custom operator that every runtime has."""
REASON_LENGTH = 400
CLASS_NAMES_HINT = "classes are reported by number; name them with --labels FILE, one name a line"


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked for, whatever the source."""

    size_wh: tuple[int, int] | None = None
    """Another input size than the source's."""
    masks: tuple[tuple[int, ...], ...] = ()
    """Darknet: the anchors' numbers of the last [yolo] section, or of each."""
    hints: Hints = field(default_factory=Hints)
    """What is known of the model beyond its file; of it, Darknet uses name and labels, whose cfg states the rest."""
    outputs: tuple[str, ...] = ()
    """Tensors, or nodes of the source's graph, that the network ends at; none: its own outputs."""
    split: bool = True
    """Whether a last join of boxes and scores is taken out."""
    onnx2tf: Path | None = None
    tensorflow: Path | None = None
    """The Python of the environment that has TensorFlow."""


@dataclass(frozen=True, slots=True)
class Converted:
    """A float graph with what is known of it. `card` has no facts of the file yet: `finish` adds them."""

    graph: Graph
    source: str
    """The file that was converted, for the card's provenance."""
    card: Mapping[str, Any] | None = None
    """A card's tables without name, file and sha256; None where the model's use is not known, and then `no_card` says why."""
    names: tuple[str, ...] = ()
    """Class names."""
    no_card: str = ""
    evidence: tuple[str, ...] = ()
    """Why the card says what it says; comments at its top."""
    notes: tuple[str, ...] = ()
    """What was done, one sentence each."""
    warnings: tuple[str, ...] = ()
    """What may be wrong, one sentence each."""

    def noting(self, *notes: str) -> Converted:
        """Return the same with more notes in front."""
        return replace(self, notes=(*notes, *self.notes))


def finish(converted: Converted, out: Path, name: str | None, made_by: str) -> tuple[dict[Path, bytes], ModelCard | None]:
    """Return the files to write for `out` (a .tflite), the card's last, and the card itself.

    The model has run once then, and where there is a card, its head has read the outputs. Raises ModelError or CardError when not.
    """
    _refuse_custom(converted.graph)
    data = converted.graph.to_bytes()
    files = {out: data}
    _run(data, converted.graph.where)
    if converted.card is None:
        return files, None
    given = dict(converted.card.get("provenance", {}))
    table: dict[str, Any] = {
        "schema": CARD_SCHEMA,
        "name": name or model_name(out.stem),
        "file": out.name,
        "sha256": hashlib.sha256(data).hexdigest(),
        "macs": multiply_accumulates(converted.graph),
        **converted.card,
        "labels": {**converted.card.get("labels", {}), "file": None, "names": converted.names},
        "provenance": {"source": converted.source, "made_by": made_by, **given},
    }
    try:
        card = ModelCard.model_validate(table)
    except ValidationError as exc:
        raise CardError(f"the card cannot be written: {what_is_wrong(exc)}") from exc
    width, height = card.input_wh
    Pipeline(card, Engine(data, name=str(out)))(Frame(np.full((height, width, 3), 114, np.uint8), "convert", 0, datetime.now(UTC), "grey"))
    if converted.names:
        labels = out.with_name(f"{out.stem}.labels.txt")
        files[labels] = "".join(f"{label}\n" for label in converted.names).encode()
        card = card.model_copy(update={"labels": card.labels.model_copy(update={"file": labels.name, "names": ()})})
    files[out.with_suffix(".toml")] = card_toml(card, converted.evidence).encode()
    return files, card


def _refuse_custom(graph: Graph) -> None:
    """Raise ModelError for operators that no TFLite runtime has: what a converter makes of operators that it does not know."""
    for operator in graph.operators:
        name = graph.code_name(operator)
        if graph.code(operator) == Op.CUSTOM and name != POSTPROCESS:
            raise ModelError(
                f"{graph.where}: TFLite has no operator for {name.removeprefix('ONNX_').removeprefix('Flex')} ({graph.place(operator)}); "
                "export the model without it, or cut it off there"
            )


def _run(data: bytes, where: str) -> None:
    """Raise ModelError where the model cannot run or gives no numbers, before anything is written: in a process of its own, as what was
    converted may be damaged.
    """
    inputs = parse_tflite(data, where).inputs
    if len(inputs) != 1 or inputs[0].dtype not in TYPE_BITS:
        raise ModelError(f"{where}: wanted one input, a picture; found {len(inputs)}")
    try_model(where, data, [np.zeros(inputs[0].shape, inputs[0].dtype)])


def last_line(output: str) -> str:
    """Return what a program said last."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1][:REASON_LENGTH] if lines else "it said nothing"


def label_names(path: Path, classes: int) -> tuple[str, ...]:
    """Return the class names in a file that the user gave. Raises MissingError, or InputError where they are not as many as the classes."""
    names = read_labels(path)
    if len(names) != classes:
        raise InputError(f"--labels: {path} has {len(names)} names, the model has {classes} classes; give the file that belongs to it")
    return names


PHOTO_SIDE = 640
FILE_FACTS = {"schema_", "name", "file", "sha256", "macs", "measured"}


def with_card(graph: Graph, source: Path, request: Request, *, names: Sequence[str] = (), model: Path | None = None) -> Converted:
    """Return a converted graph with its card, where its outputs are understood; then, if asked for, with boxes and scores taken apart.

    names: class names that came with the source, for when the user gave none. model: the .tflite to read instead of the graph, where
    the source is one and holds metadata. Raises InputError or MissingError for hints that do not fit, and for outputs that are not there.
    """
    if request.outputs:
        retarget_outputs(graph, request.outputs)
        model = None
    try:
        proposal = describe(graph, source.stem, request.hints, names, model)
    except ModelError as exc:  # CardError and AmbiguousModelError among them: the graph is right, its use is not known
        reason = str(exc).split(": ", 1)[-1]
        return Converted(graph, source.name, no_card=f"{reason} (`edgeannot models add` takes these options and more)")
    card, notes = proposal.card, []
    if request.split:
        before = len(graph.outputs)
        card = split_card(graph, card)
        if len(graph.outputs) > before:
            notes.append(f"boxes and scores are outputs of their own ({len(graph.outputs)}), so that each can have its own int8 step")
    found = card.label_names()
    if not found and card.task != "embed":
        notes.append(CLASS_NAMES_HINT)
    return Converted(
        graph,
        source=source.name,
        card=_table(card),
        names=found,
        evidence=(*proposal.evidence, *(f"by convention: {assumption}" for assumption in proposal.assumptions)),
        notes=tuple(notes),
        warnings=tuple(f"assumed, since the file does not say: {assumption}" for assumption in proposal.assumptions),
    )


def sized(graph: Graph, size_wh: tuple[int, int] | None) -> tuple[str, ...]:
    """Change a graph in place to an input of another size, and return the sentence that says so; none where it has the size.

    Raises InputError for a size that is no square, or that the graph does not allow.
    """
    if size_wh is None or graph.shape(graph.inputs[0])[1:3] == size_wh[::-1]:
        return ()
    width, height = size_wh
    if width != height:
        raise InputError(f"--size: this model can be changed to another square only, found {width}x{height}")
    at_size(graph, width)
    return (f"the input size was changed to {width}x{height}",)


def describe(graph: Graph, stem: str, hints: Hints, names: Sequence[str] = (), model: Path | None = None) -> Proposal:
    """Return the card that the graph's own numbers suggest; it is read from a temporary file. Raises what `propose` does."""
    with tempfile.TemporaryDirectory(prefix="edgeannot-convert-") as folder:
        path = model or Path(folder) / f"{stem or 'model'}.tflite"
        if model is None:
            path.write_bytes(graph.to_bytes())
        if names and hints.labels is None:
            listed = Path(folder) / "names.txt"
            listed.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
            hints = replace(hints, labels=listed)
        return propose(path, hints, photos=_photos())


def _photos() -> list[UInt8Array]:
    """Return two sample photos: real things in a picture make ranges surer than invented ones."""
    return [read_picture(path, min_side=PHOTO_SIDE).image for path in sorted(SAMPLES.glob("*.jpg"))[:2]]


def _table(card: ModelCard) -> dict[str, Any]:
    """Return the card without what depends on the file, and without the temporary file's name."""
    table = card.model_dump(exclude=FILE_FACTS)
    table["provenance"] = {"license": card.provenance.license}
    return table


HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
TFLITE_MAGIC = b"TFL3"
PICKLE_STARTS = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
KNOWN = (
    "a Darknet .cfg and .weights, an .onnx, a .keras or .h5, a SavedModel folder, the model.json of a TensorFlow.js graph model, "
    "a float .tflite, or the .pth of an EfficientNet-Lite"
)
ENDINGS = {".tflite": "tflite", ".h5": "keras", ".keras": "keras", ".onnx": "onnx", ".json": "tfjs"}
WITHOUT_OUTPUTS = {"darknet": "the heads that its cfg states", "torch": "its logits and its embedding"}
"""Kinds of source whose outputs are not for choosing, and what they end in."""


def convert_files(sources: Sequence[Path], out: Path, name: str, hints: Hints, made_by: str) -> tuple[str, ...]:
    """Write `out` (a .tflite), its card and its names, for `edgeannot models pull`; what was done and what may be wrong, a sentence each.

    Raises as `convert_sources` does, and CardError where the model's use is not understood.
    """
    converted = convert_sources(sources, Request(hints=hints))
    files, card = finish(converted, out, name, made_by)
    if card is None:
        raise CardError(f"no card can be written for {converted.source}: {converted.no_card}")
    write_together(files)
    return (*converted.notes, *converted.warnings)


def convert_sources(sources: Sequence[Path], request: Request) -> Converted:
    """Return the float graph of a model of any known kind, and what is known of it.

    Raises MissingError for what is not there, InputError for data that is wrong, ConfigError where a tool has to be installed, and
    ModelError for what no converter can do.
    """
    kinds = {kind_of(path) for path in sources}
    if len(kinds) != 1 or (len(sources) > 1 and kinds != {"darknet"}):
        raise InputError(f"wanted one model, found {len(sources)} files: {', '.join(path.name for path in sources)}; give {KNOWN}")
    kind = kinds.pop()
    if request.outputs and kind in WITHOUT_OUTPUTS:
        raise InputError(f"--outputs: a model of this kind ends in {WITHOUT_OUTPUTS[kind]}; leave the option out")
    if kind == "tflite":
        return convert_tflite(sources, request)
    route = importlib.import_module(f"edgeannot_tools.convert.{kind}_route")  # when it is needed: one of several
    convert: Callable[[Sequence[Path], Request], Converted] = getattr(route, f"convert_{kind}")
    return convert(sources, request)


def kind_of(path: Path) -> str:
    """darknet, onnx, keras, tfjs, tflite or torch, by content where that tells. Raises MissingError, or InputError for anything else."""
    if path.is_dir():
        if (path / "saved_model.pb").is_file():
            return "keras"
        if (path / "model.json").is_file():
            return "tfjs"
        raise InputError(f"{path} is a folder without saved_model.pb or model.json, so no SavedModel; give {KNOWN}")
    suffix = path.suffix.lower()
    if suffix in (".cfg", ".weights"):
        return "darknet"
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except FileNotFoundError as exc:
        raise MissingError(f"there is no file {path}") from exc
    except OSError as exc:
        raise MissingError(f"{path} cannot be read: {exc.strerror}") from exc
    kind = "tflite" if start[4:8] == TFLITE_MAGIC else "keras" if start.startswith(HDF5_MAGIC) else ENDINGS.get(suffix)
    if kind is None and (start.startswith(PICKLE_STARTS) or zipfile.is_zipfile(path)):
        kind = "torch"
    if kind is not None:
        return kind
    raise InputError(f"{path} is no model that can be converted; give {KNOWN}")


def convert_tflite(sources: Sequence[Path], request: Request) -> Converted:
    """Return the model with float32 weights. Raises MissingError, or InputError for a model that computes in integers."""
    (path,) = sources
    graph = Graph.read(path)
    folded = fold_dequantize(graph)
    for operator in graph.operators:
        if graph.code(operator) in (Op.QUANTIZE, Op.DEQUANTIZE, Op.FAKE_QUANT):
            raise InputError(f"{path} computes in integers already ({graph.place(operator)}); give the float model it was made of")
    integers = [t for t in graph.inputs + graph.outputs if graph.quantization(t) is not None]
    if integers:
        raise InputError(f"{path} computes in integers already (tensor {graph.name(integers[0])!r}); give the float model it was made of")
    resized = sized(graph, request.size_wh)
    what = f"{folded} constants in float16 or int8 were expanded to float32" if folded else "its numbers are float32 already"
    return with_card(graph, path, request, model=None if resized else path).noting(what, *resized)
