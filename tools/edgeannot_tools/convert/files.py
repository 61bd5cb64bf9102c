"""Finds the converter for a model: darknet, onnx, keras, tfjs, tflite or torch. The others are modules of their own; TFLite's is here."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from edgeannot.base.errors import CardError, InputError, MissingError
from edgeannot.card_inference import Hints
from edgeannot_tools.convert.conversion import Converted, Request, finish, sized, with_card
from edgeannot_tools.graph.edits import fold_dequantize
from edgeannot_tools.graph.graph import Graph, Op
from edgeannot_tools.output import write_together

__all__ = ["convert_files", "convert_sources", "convert_tflite", "kind_of"]

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
    return _route(kind)(sources, request)


def _route(kind: str) -> Callable[[Sequence[Path], Request], Converted]:
    """Return the function for a kind; imported when it is needed."""
    if kind == "darknet":
        from edgeannot_tools.convert.darknet_route import convert_darknet as route  # noqa: PLC0415 - one route of several
    elif kind == "onnx":
        from edgeannot_tools.convert.onnx_route import convert_onnx as route  # noqa: PLC0415 - as above
    elif kind == "keras":
        from edgeannot_tools.convert.keras_route import convert_keras as route  # noqa: PLC0415 - as above
    elif kind == "tfjs":
        from edgeannot_tools.convert.tfjs_route import convert_tfjs as route  # noqa: PLC0415 - as above
    elif kind == "tflite":
        route = convert_tflite
    else:
        from edgeannot_tools.convert.torch_route import convert_torch as route  # noqa: PLC0415 - as above
    return route


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
