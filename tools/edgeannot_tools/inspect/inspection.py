"""All that can be said about one TFLite file: what is in it, what it calculates with and costs, and what the runtimes here make of it."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from edgeannot.base.errors import EdgeannotError, ModelError
from edgeannot.base.places import SAMPLES
from edgeannot.card_inference import propose
from edgeannot.tflite.file import read_tflite
from edgeannot.tflite.flatbuffer import Broken
from edgeannot.tflite.metadata import ModelMetadata, read_metadata
from edgeannot.tflite.schema import Operator, SubGraph, TFLiteModel
from edgeannot.vision.cards import ModelCard, read_card
from edgeannot.vision.decode import read_picture
from edgeannot.vision.engine import installed_runtimes
from edgeannot_tools.graph.macs import EXPANDS, WEIGHT_SLOTS, Cost, operator_costs, stored_weights, total_parameters
from edgeannot_tools.inspect.delegate import Peak, RuntimeView, ask_runtime, peak_memory
from edgeannot_tools.inspect.lints import INTEGERS, Finding, find, is_float_work

__all__ = ["Dtypes", "Inspection", "Suggestion", "inspect_file", "read_dtypes"]

KINDS = {
    "integer": "full integer",
    "dynamic-range": "int8 weights, float32 activations that each layer rounds to int8 as it runs (dynamic range)",
    "weight-only": "integer weights that are expanded to float32, calculated in float32 (weight-only)",
    "float16": "float16 weights that are expanded to float32, calculated in float32",
    "float32": "float32",
    "none": "no layer with weights",
}
"""What the kinds are called for people."""


@dataclass(frozen=True, slots=True)
class Dtypes:
    """How a network is quantized."""

    kind: str
    """A key of KINDS, of most layers with weights."""
    layers: dict[str, int]
    """How many layers with weights are of which kind."""
    activations: str
    """The type of what most of those layers give: int8, uint8, int16, float32."""
    weights: str
    """The stored type of most of their weights; empty where there are none."""
    per_channel: int
    """How many of those layers have a scale for each channel of their weights."""
    float_operators: tuple[Operator, ...]
    """Operators of an integer network that calculate in float32."""

    def __str__(self) -> str:
        """In one line.

        >>> str(Dtypes("integer", {"integer": 3}, "int8", "int8", 3, ()))
        'full integer, int8 activations, int8 weights (per channel)'
        """
        total = sum(self.layers.values())
        text = KINDS[self.kind]
        if self.kind == "integer":
            text += f", {self.activations} activations, {self.weights} weights"
        if self.kind in {"integer", "weight-only", "dynamic-range"}:
            how = "per channel" if self.per_channel == total else "per tensor" if not self.per_channel else "some per channel"
            text += f" ({how})"
        if self.float_operators:
            names = Counter(operator.custom_name or operator.name for operator in self.float_operators)
            text = text.replace("full integer", "integer") + f", in float32: {', '.join(f'{n} {name}' for name, n in names.most_common())}"
        others = [f"{count} {kind}" for kind, count in self.layers.items() if kind != self.kind]
        return text + (f"; of {total} layers with weights: {', '.join(others)}" if others else "")


def read_dtypes(model: TFLiteModel) -> Dtypes:
    """Return how the graph that runs is quantized."""
    graph = model.graph
    kinds: Counter[str] = Counter()
    activations: Counter[str] = Counter()
    weights: Counter[str] = Counter()
    per_channel = 0
    for operator in graph.operators:
        stored = stored_weights(graph, operator)
        if operator.name not in WEIGHT_SLOTS or operator.name == "PRELU" or not stored:
            continue
        kinds[_kind(graph, operator, stored[0].dtype)] += 1
        activations[graph.tensors[operator.outputs[0]].dtype] += 1
        weights[stored[0].dtype] += 1
        per_channel += len(stored[0].scales) > 1
    kind = kinds.most_common(1)[0][0] if kinds else "none"
    return Dtypes(
        kind=kind,
        layers=dict(kinds.most_common()),
        activations=_most(activations),
        weights=_most(weights),
        per_channel=per_channel,
        float_operators=tuple(op for op in graph.operators if is_float_work(graph, op)) if kind == "integer" else (),
    )


def _kind(graph: SubGraph, operator: Operator, stored: str) -> str:
    if graph.tensors[operator.outputs[0]].dtype in INTEGERS:
        return "integer"
    if stored == "float16":
        return "float16"
    if stored not in INTEGERS | {"int4"}:
        return "float32"
    before = graph.producer(operator.inputs[WEIGHT_SLOTS[operator.name][0]])
    return "weight-only" if before is not None and before.name in EXPANDS else "dynamic-range"


def _most(counts: Counter[str]) -> str:
    return counts.most_common(1)[0][0] if counts else ""


RANKS = {"CONV_2D": 4, "DEPTHWISE_CONV_2D": 4, "TRANSPOSE_CONV": 4, "CONV_3D": 5, "FULLY_CONNECTED": 2}
"""How many axes the weights of a layer have."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """The card that lies beside the file, or else the one that `edgeannot models add` would write."""

    card: ModelCard | None
    written: bool = False
    """The card is there already, and is of this very file."""
    assumptions: tuple[str, ...] = ()
    """What was settled by a family's convention only."""
    refused: str = ""
    """Why there is no card, or none without a choice of the user's."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """All that is known of one file."""

    path: Path
    sha256: str
    model: TFLiteModel
    metadata: ModelMetadata
    numbers: Dtypes
    costs: tuple[Cost, ...]
    """One for each operator, in their order."""
    parameters: int
    peak: Peak
    runtimes: tuple[RuntimeView, ...]
    """Those that are installed; empty where the file was only read."""
    suggestion: Suggestion | None
    """None where the file was only read."""
    findings: tuple[Finding, ...]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one run."""
        return sum(cost.macs for cost in self.costs)


def inspect_file(path: Path, *, run: bool = True) -> Inspection:
    """Look at the model at `path`; with `run` also through the eyes of every installed runtime.

    Raises MissingError where there is no file, ModelError where it is not a whole TFLite file. What a runtime refuses is no error.
    """
    model = read_tflite(path)
    sha256 = hashlib.sha256(model.raw).hexdigest()
    _refuse_broken_layers(model, path)
    numbers = read_dtypes(model)
    costs = operator_costs(model)
    views = tuple(ask_runtime(model, path, runtime) for runtime in installed_runtimes()) if run else ()
    return Inspection(
        path=path,
        sha256=sha256,
        model=model,
        metadata=read_metadata(model),
        numbers=numbers,
        costs=costs,
        parameters=total_parameters(model),
        peak=peak_memory(model),
        runtimes=views,
        suggestion=_suggestion(path, sha256, views) if run else None,
        findings=find(model, numbers, costs, views),
    )


def _refuse_broken_layers(model: TFLiteModel, path: Path) -> None:
    """Raise ModelError where a layer lacks what its kind must have: damage that the file's own structure does not show."""
    for operator in model.graph.operators:
        slots = WEIGHT_SLOTS.get(operator.name)
        if slots is None:
            continue
        needed = 3 if operator.name == "TRANSPOSE_CONV" else 2
        shapes = [model.graph.tensors[i].shape for i in operator.inputs[:needed] if i >= 0]
        try:
            operator.option(0, "b")
        except Broken:
            shapes = []
        ranks = [len(shape) for shape in shapes]
        wanted = RANKS.get(operator.name)
        if (
            len(ranks) < needed
            or not operator.outputs
            or (wanted and ranks[1] != wanted)
            or (operator.name == "BATCH_MATMUL" and ranks[0] < 2)
        ):
            raise ModelError(
                f"model {path}: operator {operator.index} ({operator.name}) lacks inputs, an output or a shape of its kind; "
                "the TFLite file is damaged, copy or download it again"
            )


def _suggestion(path: Path, sha256: str, views: tuple[RuntimeView, ...]) -> Suggestion:
    beside = path.with_suffix(".toml")
    if beside.is_file() and (card := read_card(beside)).sha256 == sha256:
        return Suggestion(card, written=True)
    if views and views[0].crashed:
        return Suggestion(None, refused=f"not tried, since {views[0].runtime} does not survive the file")
    samples = sorted(SAMPLES.glob("*.jpg"))[:2]
    try:
        proposal = propose(path, photos=[read_picture(sample, min_side=640).image for sample in samples])
    except EdgeannotError as exc:
        return Suggestion(None, refused=str(exc).removeprefix(f"model {path}: "))
    return Suggestion(proposal.card, assumptions=proposal.assumptions)
