"""From a float model with its card to an int8 model with a card of its own, in memory; `attempts` compares and writes it."""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgeannot.base.errors import InputError, ModelError
from edgeannot.card_inference import Hints, Proposal, propose
from edgeannot.vision.cards import Input, ModelCard, Provenance, read_card
from edgeannot.vision.data import TensorSpec, UInt8Array
from edgeannot.vision.engine import Engine
from edgeannot.vision.engine import Runtime as EngineRuntime
from edgeannot.vision.heads.dfl import Dfl
from edgeannot.vision.heads.split import Split
from edgeannot.vision.heads.ssd_anchors import SsdAnchors
from edgeannot.vision.heads.yolo_grid import YoloGrid
from edgeannot.vision.pipeline import Limits, Pipeline
from edgeannot.vision.preprocess import ToTensor
from edgeannot_tools.graph.edits import at_size, multiply_accumulates
from edgeannot_tools.graph.graph import Graph, Op
from edgeannot_tools.graph.interpreter import Runtime
from edgeannot_tools.output import track
from edgeannot_tools.quantize.calibrate import Calibration, calibrate, merged
from edgeannot_tools.quantize.calibration_set import CalibrationSet, tensors
from edgeannot_tools.quantize.equalize import Equalized
from edgeannot_tools.quantize.graph_quantizer import Recipe, prepare_graph, quantize_graph, quantize_graph_weights
from edgeannot_tools.quantize.layer_sqnr import LayerSqnr
from edgeannot_tools.quantize.refine import MOST_SAMPLES, Refiner
from edgeannot_tools.quantize.rules import RULES, Scales
from edgeannot_tools.quantize.split_outputs import separate_slices, split_card

__all__ = [
    "FloatModel",
    "PreparedModel",
    "QuantizeOptions",
    "QuantizedModel",
    "float_beginning",
    "input_tensors",
    "load_float_model",
    "make_card",
    "prepare_equalized",
    "prepare_model",
    "quantize_model",
    "quantize_model_weights",
]

LEAN = 0.25
"""How far: of 0, 0.25, 0.5, 0.75 and 1, tried on eight detectors with two calibration sets each, this lost least mAP50 at its worst."""
FLOOR_DB = 12.0
"""A layer whose noise is more than a sixteenth of its signal ruins what follows it (measured on YOLOX-nano's first depthwise layers)."""
LARGEST_BEGINNING = 0.25
"""Of the operators, which may stay in float to save a model."""


@dataclass(frozen=True, slots=True)
class FloatModel:
    """A float model, what is known of it, and what had to be assumed."""

    card: ModelCard
    graph: Graph
    """With float32 weights, whatever the file stores, and operators that int8 knows; it computes the same."""
    assumptions: tuple[str, ...] = ()

    def pipeline(self, runtime: EngineRuntime, limits: Limits, threads: int = 2) -> Pipeline:
        """Return the float model at work."""
        return Pipeline(self.card, Engine(self.graph.to_bytes(), threads, runtime, name=self.graph.where), limits=limits)


@dataclass(frozen=True, slots=True)
class QuantizeOptions:
    """What kind of int8 model is wanted."""

    input_type: Literal["uint8", "int8", "float32"] = "uint8"
    output_type: Literal["auto", "int8", "float32"] = "auto"
    clip: float = 8.0
    """Logits are clipped to this on both sides; 0: not at all."""
    float_ops: bool = False
    refine: bool = True
    """Whether weights are rounded together, a layer at a time, or each to the nearest step."""


@dataclass(frozen=True, slots=True)
class PreparedModel:
    """A model ready to be quantized, once or several times with other options."""

    card: ModelCard
    graph: Graph
    calibration: Calibration
    refiner: Refiner
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Tensors, by name, whose range is known beforehand."""


@dataclass(frozen=True, slots=True)
class QuantizedModel:
    """The result: the file's bytes and its card, which is complete but for its measurements."""

    data: bytes
    card: ModelCard
    prepared: Graph
    """The float graph as it was quantized."""
    graph: Graph
    notes: tuple[str, ...]


def load_float_model(model: Path, hints: Hints, photos: Sequence[UInt8Array], runtime: EngineRuntime) -> FloatModel:
    """Return the model with its card: the one given, the one beside the file, or one read off the graph as `edgeannot models add` does.

    Raises MissingError, CardError, ModelError, AmbiguousModelError or InputError.
    """
    path = model if model.suffix == ".toml" else model.with_suffix(".toml")
    if model.suffix == ".toml" or (path.is_file() and hints == Hints()):
        card = read_card(path)
        if model.suffix == ".toml" or card.model_path == model:
            card.verify_file()
            return FloatModel(card, prepare_graph(Graph.read(card.model_path)))
    graph = prepare_graph(Graph.read(model))
    proposal = _proposal(model, graph, hints, photos, runtime)
    card = proposal.card.model_copy(update={"sha256": hashlib.sha256(model.read_bytes()).hexdigest()})
    return FloatModel(card.in_folder(model.parent), graph, proposal.assumptions)


def _proposal(model: Path, graph: Graph, hints: Hints, photos: Sequence[UInt8Array], runtime: EngineRuntime) -> Proposal:
    """Return what `edgeannot models add` reads off the file, but run in plain float: not every kernel does stored int8 weights right."""
    with tempfile.TemporaryDirectory(prefix="edgeannot-quantize-") as folder:
        plain = Path(folder) / model.name
        plain.write_bytes(graph.to_bytes() + _appended(model))
        try:
            return propose(plain, hints, runtime=runtime, photos=photos)
        except ModelError as exc:
            exc.args = (str(exc).replace(str(plain), str(model)),)  # the user's file, not the copy
            raise


def _appended(model: Path) -> bytes:
    """Return the zip of label files and metadata that may lie behind a model."""
    try:
        with zipfile.ZipFile(model) as archive:
            start = min((info.header_offset for info in archive.infolist()), default=None)
    except zipfile.BadZipFile:
        return b""
    return b"" if start is None else model.read_bytes()[start:]


def prepare_model(source: FloatModel, pictures: CalibrationSet, runtime: Runtime | None = None) -> PreparedModel:
    """Take boxes and scores apart and run the float model over the pictures. Raises InputError for what cannot be quantized."""
    graph = prepare_graph(source.graph)
    card = _byte_steps(source.card)
    separate_slices(graph)
    return _prepared(split_card(graph, card), graph, pictures, runtime)


def prepare_equalized(
    prepared: PreparedModel, equalized: Equalized, pictures: CalibrationSet, runtime: Runtime | None = None
) -> PreparedModel:
    """Run the graph whose channels were scaled over the pictures, in the place of the one it was made of."""
    return replace(_prepared(prepared.card, equalized.graph, pictures, runtime), ranges=equalized.ranges)


def _prepared(card: ModelCard, graph: Graph, pictures: CalibrationSet, runtime: Runtime | None) -> PreparedModel:
    refiner = Refiner(graph, list(input_tensors(card, graph, pictures.some(MOST_SAMPLES))), runtime)
    return PreparedModel(card, graph, _leaning(_calibrate(graph, card, pictures, runtime)), refiner)


def quantize_model(prepared: PreparedModel, options: QuantizeOptions, float_tensors: Collection[str] = ()) -> QuantizedModel:
    """Quantize; the operators that give `float_tensors` stay in float. Raises InputError for what int8 cannot hold."""
    card, graph = prepared.card, prepared.graph
    logits = _logits(graph, card)
    recipe = Recipe(
        input_type=options.input_type,
        output_type=options.output_type,
        input_range=_input_range(card.input),
        head_ranges=dict.fromkeys(logits, (-options.clip, options.clip)) if options.clip > 0 else {},
        logits=frozenset(logits),
        keep_bounded=card.task == "detect",
        allow_float=options.float_ops,
        float_outputs=frozenset() if options.output_type == "int8" else _decoded_boxes(card),
        float_tensors=frozenset(float_tensors),
        ranges=prepared.ranges,
    )
    made = quantize_graph(graph, prepared.calibration, recipe, prepared.refiner if options.refine else None)
    foreign = prepared.refiner.foreign() if options.refine else ()
    notes = (f"{', '.join(foreign)}: run by the runtime, so another machine may round some weights otherwise",) if foreign else ()
    return QuantizedModel(made.graph.to_bytes(), card, graph, made.graph, made.notes + notes)


def float_beginning(prepared: Graph, layers: Sequence[LayerSqnr], beyond: int = -1) -> tuple[int, frozenset[str]] | None:
    """Return what to keep in float so that the signal reaches the rest of the network: (last operator's position, names of the results).

    That is everything up to the first layer behind `beyond` whose signal to noise falls below a floor. None where no layer does, or
    only one so far behind that a float network would be left.
    """
    weak = next((layer for layer in layers if layer.position > beyond and layer.sqnr_db < FLOOR_DB), None)
    if weak is None or weak.position > LARGEST_BEGINNING * len(prepared.operators):
        return None
    made = (tensor for operator in prepared.operators[: weak.position + 1] for tensor in operator.outputs)
    return weak.position, frozenset(prepared.name(tensor) for tensor in made)


def quantize_model_weights(source: FloatModel) -> QuantizedModel:
    """Return the model with int8 weights that computes in float."""
    graph = quantize_graph_weights(source.graph)
    return QuantizedModel(graph.to_bytes(), source.card, prepare_graph(source.graph), graph, ("weights in int8, arithmetic in float",))


def input_tensors(card: ModelCard, graph: Graph, pictures: CalibrationSet) -> Iterator[list[NDArray[Any]]]:
    """Return the pictures as the float graph takes them, one list a sample."""
    facts = card.input
    if len(graph.inputs) != 1:
        raise InputError(f"{graph.where}: wanted one input, a picture; found {len(graph.inputs)}")
    number = graph.inputs[0]
    spec = TensorSpec(graph.name(number), 0, graph.shape(number), np.dtype(np.float32), 0.0, 0)
    prepare_picture = ToTensor(spec, card.input_wh, facts.resize, facts.pad, facts.color, facts.layout, mean=facts.mean, std=facts.std)
    return tensors(pictures.frames, prepare_picture)


def _calibrate(prepared: Graph, card: ModelCard, pictures: CalibrationSet, runtime: Runtime | None) -> Calibration:
    parts = []
    for size in _sizes(card):
        sized, sized_card = prepared, card
        if size is not None:
            sized, sized_card = Graph.from_bytes(prepared.to_bytes(), prepared.where), card.at_size(size)
            at_size(sized, size)
        samples = list(input_tensors(sized_card, sized, pictures))
        parts.append(calibrate(sized, track(samples, "calibrating", len(samples)), runtime))
    return merged(parts)


def _leaning(calibration: Calibration) -> Calibration:
    """Return the calibration with every sample's extremes moved towards the widest of all, whose mean is then the range inside the network.

    The pictures of a user are few; the strongest things that the model will see are stronger than their mean.
    """
    lowest = {t: low + LEAN * (low.min() - low) for t, low in calibration.lowest.items()}
    highest = {t: high + LEAN * (high.max() - high) for t, high in calibration.highest.items()}
    return replace(calibration, lowest=lowest, highest=highest)


def _sizes(card: ModelCard) -> list[int | None]:
    """Return the input sizes to calibrate with, of those that the card lists the smallest, a middle one and the largest; None: its only
    one."""
    sizes = sorted(card.input.sizes)
    return [*dict.fromkeys((sizes[0], sizes[len(sizes) // 2], sizes[-1]))] if sizes else [None]


def _byte_steps(card: ModelCard) -> ModelCard:
    """Return the card with its mean moved to a whole byte, so that every byte is a whole number of steps from 0.

    Half a byte of brightness, at most, is what a network trained on (byte - 127.5) / 127.5 sees differently; in exchange a uint8
    input takes the camera's bytes as they are, and no byte is rounded.
    """
    facts = card.input
    if len(set(facts.mean)) != 1 or len(set(facts.std)) != 1:
        return card
    mean = (float(np.floor(facts.mean[0] + 0.5)),)
    return card.model_copy(update={"input": facts.model_copy(update={"mean": mean, "std": facts.std[:1]})})


def _input_range(facts: Input) -> tuple[float, float]:
    """Return the real values of the darkest and the brightest byte, over all channels."""
    mean, std = np.array(facts.mean), np.array(facts.std)
    ends = np.array([(0 - mean) / std, (255 - mean) / std])
    return float(ends.min()), float(ends.max())


def _decoded_boxes(card: ModelCard) -> frozenset[str]:
    """Outputs of box coordinates: a step of int8 would be a 256th of the picture, too coarse to place small things."""
    head = card.head
    return frozenset({head.boxes}) if isinstance(head, Split) and isinstance(head.boxes, str) else frozenset()


def _logits(graph: Graph, card: ModelCard) -> list[str]:
    """Return names of tensors that only a logistic function reads, in the graph or in the head: beyond some 8 it is 0 or 1."""
    head, refs = card.head, list[Any]()
    if isinstance(head, YoloGrid) and head.activation == "sigmoid":
        refs = [grid.output for grid in head.grids]
    elif isinstance(head, SsdAnchors | Dfl) and head.activation == "sigmoid":
        refs = list(head.scores)
    consumers = graph.consumers()
    names = [ref if isinstance(ref, str) else graph.name(graph.outputs[ref]) for ref in refs]
    inner = [graph.name(tensor) for tensor in range(len(graph.tensors)) if _only_logistic(graph, consumers, tensor)]
    return list(dict.fromkeys([*names, *inner]))


def _only_logistic(graph: Graph, consumers: dict[int, list[Any]], tensor: int) -> bool:
    """Tell whether all that reads the tensor is a logistic function, directly or behind operators that only move numbers."""
    readers = consumers.get(tensor, [])
    if not readers or tensor in graph.outputs or graph.is_constant(tensor):
        return False
    for operator in readers:
        rule = RULES.get(graph.code(operator))
        moves = rule is not None and rule.scales is Scales.SHARED and all(_only_logistic(graph, consumers, t) for t in operator.outputs)
        if graph.code(operator) != Op.LOGISTIC and not moves:
            return False
    return True


def make_card(source: FloatModel, pictures: CalibrationSet | None, made: QuantizedModel, name: str, file: str, command: str) -> ModelCard:
    """Return the card of the finished file."""
    origin = source.card.provenance
    float_file = source.card.model_path
    provenance = Provenance(
        source=origin.source or float_file.name,
        source_sha256=origin.source_sha256 or source.card.sha256,
        license=origin.license,
        made_by=f"{origin.made_by}; {command}" if origin.made_by else command,
        calibration=pictures.describe() if pictures is not None else "",
    )
    update = {"name": name, "file": file, "sha256": hashlib.sha256(made.data).hexdigest(), "provenance": provenance, "measured": ()}
    update["macs"] = made.card.macs or multiply_accumulates(made.prepared)
    return made.card.model_copy(update=update).in_folder(source.card.folder)
