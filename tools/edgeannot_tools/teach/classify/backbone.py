"""The network that describes a picture by a vector: an installed `embed` model, or a classifier without its last layer.

A classifier's last layer serves, too: what it finds of its own classes is more to learn from than the vector alone (`known_classes`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeannot.base.errors import InputError, ModelError
from edgeannot.base.places import bundled_folder
from edgeannot.base.runtimes import Runtime
from edgeannot.tflite.file import at_size
from edgeannot.trial.cards import prove_foreign
from edgeannot.vision.cards import ModelCard
from edgeannot.vision.data import FloatArray, TensorRef
from edgeannot.vision.engine import Engine
from edgeannot.vision.heads.classify import Classify
from edgeannot.vision.heads.embed import Embed
from edgeannot_tools.graph.edits import retarget_outputs
from edgeannot_tools.graph.graph import Graph, Op, Operator

__all__ = ["BUNDLED", "Backbone", "KnownClasses", "find_backbone"]

BUNDLED = "efficientnet-lite0"
"""The bundled network that is taught when nobody names another."""
BUNDLED_SIZE = 288
"""Its input side in pixels where none is asked for. It was trained at 224 on cut pictures, where objects are larger; whole pictures want
more pixels (Touvron et al. 2019, https://arxiv.org/abs/1906.06423)."""

_PASSED = frozenset((Op.SOFTMAX, Op.LOGISTIC, Op.RESHAPE, Op.SQUEEZE, Op.QUANTIZE, Op.DEQUANTIZE))
"""What may stand behind the layer that gives the classes their numbers."""


@dataclass(frozen=True, slots=True)
class KnownClasses:
    """The layer by which the network was trained: real numbers of its own classes, from a vector."""

    weights: FloatArray
    """(D, P) for vectors of D numbers and P classes."""
    bias: FloatArray
    """(P,)."""


@dataclass(frozen=True, slots=True)
class Backbone:
    """A network up to its embedding."""

    card: ModelCard
    model: bytes
    """The .tflite, whose one output is the vector: (1, D) or (1, 1, 1, D)."""
    quantization: tuple[float, int] | None
    """Scale and zero point of the vector; None for float numbers."""
    known_classes: KnownClasses | None
    """None for a network without such a layer."""

    @property
    def digest(self) -> str:
        """What tells this network, at this size and with this preprocessing, from all others."""
        facts = self.card.input.model_dump_json(exclude={"views"})
        return hashlib.sha256(self.model + facts.encode()).hexdigest()

    @property
    def bundled(self) -> bool:
        """Whether the network ships with this program."""
        return self.card.folder == bundled_folder()

    def real(self, stored: NDArray[Any]) -> FloatArray:
        """Return real numbers of the stored ones of the vector."""
        values = stored.astype(np.float32)
        return values if self.quantization is None else (values - np.float32(self.quantization[1])) * np.float32(self.quantization[0])

    def graph(self) -> Graph:
        """Return the graph, to add layers to."""
        return Graph.from_bytes(self.model, self.card.name)

    def engine(self, threads: int, runtime: Runtime) -> Engine:
        """Return the network, ready to run. A model of the user's own is tried first. Raises ModelError."""
        prove_foreign(self.card, runtime)
        return Engine(self.model, threads, runtime, name=f"{self.card.name} up to its embedding")


def find_backbone(card: ModelCard, size: int | None = None) -> Backbone:
    """Return the network of a card up to its embedding. size: of its square input in pixels; None: BUNDLED_SIZE or the card's.

    Raises InputError for a model without an embedding or one that has no such size, CardError for a changed file.
    """
    card.verify_file()
    if size is None and card.name == BUNDLED and card.folder == bundled_folder():
        size = BUNDLED_SIZE
    graph = _graph_of(card, size)
    head = card.head
    known: KnownClasses | None = None
    if isinstance(head, Embed):
        tensor = _output(graph, head.output)
    elif isinstance(head, Classify):
        layer = _last_layer(graph, _output(graph, head.output), card.name)
        tensor = _vector_before(graph, layer, card.name)
        known = _known_classes(graph, layer)
    else:
        raise InputError(
            f"model {card.name} is there to {card.task}; own classes are taught to a network that describes the whole picture: "
            f"name a classifier or an `embed` model, such as {BUNDLED}, with --backbone"
        )
    retarget_outputs(graph, [graph.name(tensor)])
    if size is not None:
        card = card.model_copy(update={"input": card.input.model_copy(update={"width": size, "height": size, "sizes": ()})})
    scheme = graph.quantization(graph.outputs[0])
    return Backbone(card, graph.to_bytes(), None if scheme is None else (float(scheme.scale[0]), int(scheme.zero_point[0])), known)


def _graph_of(card: ModelCard, size: int | None) -> Graph:
    if size is None and "@" not in card.name:
        return Graph.read(card.model_path)
    try:
        return Graph.from_bytes(at_size(card.model_path.read_bytes(), size or card.input.width), card.name)
    except ModelError as exc:
        raise InputError(f"model {card.name} cannot be taught at another size than its own: {exc}") from exc


def _output(graph: Graph, ref: TensorRef) -> int:
    return graph.find(ref) if isinstance(ref, str) else graph.outputs[ref]


def _last_layer(graph: Graph, tensor: int, name: str) -> Operator:
    """Return the layer with weights that makes the numbers of the classes."""
    producers = graph.producers()
    while (operator := producers.get(tensor)) is not None and graph.code(operator) in _PASSED:
        tensor = operator.inputs[0]
    if operator is None or graph.code(operator) not in (Op.FULLY_CONNECTED, Op.CONV_2D):
        what = f"they come from {graph.code_name(operator)}" if operator is not None else "nothing makes them"
        raise InputError(
            f"model {name} has no layer that makes its classes of one vector ({what}); "
            f"name another model with --backbone, such as {BUNDLED}"
        )
    return operator


def _vector_before(graph: Graph, layer: Operator, name: str) -> int:
    """Return the vector that a classifier's last layer reads."""
    vector = int(layer.inputs[0])
    producers = graph.producers()
    while (before := producers.get(vector)) is not None and graph.code(before) in (Op.RESHAPE, Op.SQUEEZE):
        vector = int(before.inputs[0])
    if max(graph.shape(vector), default=0) != int(np.prod(graph.shape(vector))):
        raise InputError(
            f"model {name} makes its classes of a map {graph.shape(vector)}, not of one vector; name another model with --backbone, "
            f"such as {BUNDLED}"
        )
    return vector


def _known_classes(graph: Graph, layer: Operator) -> KnownClasses | None:
    """Return the real numbers of a last layer; None where they are not in the file."""
    if len(layer.inputs) < 3 or not all(graph.is_constant(tensor) for tensor in layer.inputs[1:3]):
        return None
    weights, bias = (_real(graph, tensor) for tensor in layer.inputs[1:3])
    return KnownClasses(weights.reshape(len(bias), -1).T.copy(), bias)


def _real(graph: Graph, tensor: int) -> FloatArray:
    scheme, stored = graph.quantization(tensor), graph.constant(tensor)
    return scheme.real(stored) if scheme is not None else stored.astype(np.float32)
