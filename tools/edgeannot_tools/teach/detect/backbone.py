"""A bundled or added detector cut before its box layers: its feature maps, of whatever the daemon's preprocessing feeds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from edgeannot.base.errors import InputError
from edgeannot.tflite.file import at_size
from edgeannot.vision.cards import ModelCard
from edgeannot.vision.data import TensorRef, UInt8Array
from edgeannot.vision.engine import Engine, Runtime
from edgeannot.vision.geometry import Resize
from edgeannot.vision.heads.dfl import Dfl
from edgeannot.vision.heads.ssd_anchors import SsdAnchors
from edgeannot.vision.heads.yolo_grid import YoloGrid
from edgeannot.vision.preprocess import ToTensor
from edgeannot_tools.graph.edits import retarget_outputs
from edgeannot_tools.graph.graph import Graph, Op, Operator
from edgeannot_tools.teach.detect.views import PAD

__all__ = ["Backbone", "Tap", "find_taps", "kept_classes", "kept_labels", "load_backbone", "open_engine", "sized_graph", "with_finer_map"]

STRIDES = (8, 16, 32, 64)
"""Maps with larger ones have too few cells to say where an object is. Others mean that the cells do not divide the input evenly."""


@dataclass(frozen=True, slots=True)
class Tap:
    """One feature map of a detector, as its box branch reads it."""

    tensor: str
    """The map's name in the file."""
    stride: int
    """Pixels of the input a cell; the last cells may reach over its edge."""
    channels: int
    scale: float
    zero_point: int
    context: str = ""
    """The name of the next coarser map, which sees more of the surroundings and is read beside this one; empty: there is none."""


@dataclass(frozen=True, slots=True)
class Backbone:
    """A detector at one input size, and where it is tapped."""

    card: ModelCard
    size: int
    taps: tuple[Tap, ...]
    """By stride, the finest first."""
    kept: int = 0
    """How many of its own classes the taught model reports, too; 0: it reports what was taught alone."""
    finer: bool = False
    """Whether the first tap is a map from before the box branches, see `with_finer_map`."""

    @property
    def resize(self) -> Resize:
        """How a picture is laid on the input: letterboxed, but as the detector itself wants it where its classes are kept."""
        return self.card.input.resize if self.kept else "letterbox"

    @property
    def name(self) -> str:
        """The detector's name with the size."""
        return f"{self.card.name.partition('@')[0]}@{self.size}"

    def cells(self, tap: int) -> int:
        """Return how many cells a side of the tap's map has."""
        return -(-self.size // self.taps[tap].stride)

    def context(self, tap: int) -> int | None:
        """Return the number of the tap that is read beside this one; None: there is none."""
        return next((number for number, one in enumerate(self.taps) if one.tensor == self.taps[tap].context), None)


def load_backbone(card: ModelCard, size: int | None = None, *, keep: bool = False) -> Backbone:
    """Return the detector at a square input of `size` pixels; None: its own, or the nearest that its strides divide.

    keep: report its own classes, too. Raises InputError where it cannot be tapped there, or its classes cannot be kept, CardError or
    ModelError where its file cannot be used.
    """
    card.verify_file()
    sizes = (size,) if size is not None else (card.input.width, max(1, round(card.input.width / STRIDES[-1])) * STRIDES[-1])
    for one in sizes:
        taps = find_taps(sized_graph(card, one), card, one, uneven=keep)
        if taps:
            return Backbone(card, one, taps, kept_classes(card, one) if keep else 0)
    advice = f"give a size that {STRIDES[-1]} divides" if size is not None and size % STRIDES[-1] else "choose a bundled detector"
    raise InputError(f"{card.name} has no int8 feature maps whose cells divide {sizes[-1]} pixels evenly; {advice} as --backbone")


def with_finer_map(backbone: Backbone) -> Backbone:
    """Return the backbone tapped once more, where its finest map still had twice as many cells a side; as it is where that cannot be used.

    Small objects have cells of their own there, though what the network says of them is less. No coarser map is read beside it: that has
    more numbers than these few objects can teach (mAP50 of three sizes with it .69, without .71).
    """
    graph, finest = sized_graph(backbone.card, backbone.size), backbone.taps[0]
    stride, producers, tensor = finest.stride // 2, graph.producers(), graph.find(finest.tensor)
    if stride not in STRIDES:
        return backbone
    while tensor in producers and graph.shape(tensor)[1] != -(-backbone.size // stride):
        tensor = producers[tensor].inputs[0]
    scheme = graph.quantization(tensor)
    if tensor not in producers or scheme is None or graph.dtype(tensor) != np.int8:
        return backbone
    tap = Tap(graph.name(tensor), stride, graph.shape(tensor)[3], float(scheme.scale[0]), int(scheme.zero_point[0]))
    return replace(backbone, taps=(tap, *backbone.taps), finer=True)


def kept_classes(card: ModelCard, size: int) -> int:
    """Return how many classes the detector has. Raises InputError where they cannot be reported at this size, or have no names."""
    if card.input.resize == "crop":
        raise InputError(f"--keep: {card.name} sees only the middle of a picture; leave --keep away, or choose a bundled detector")
    sizes = (card.input.width, *card.input.sizes)
    if not min(sizes) <= size <= max(sizes):
        raise InputError(
            f"--keep: the classes of {card.name} are found at sizes from {min(sizes)} to {max(sizes)}, not at {size}; "
            "give a size between them as --backbone NAME@SIZE"
        )
    classes = card.head.check(Engine(sized_graph(card, size).to_bytes(), 1, name=card.name).outputs, (size, size))
    if classes is None or len(card.label_names()) < classes + card.labels.offset:
        raise InputError(f"--keep: the classes of {card.name} have no names; leave --keep away, or choose a bundled detector")
    return classes


def kept_labels(backbone: Backbone) -> tuple[str, ...]:
    """Return the names of the detector's own classes that are kept, by class id."""
    offset = backbone.card.labels.offset
    return backbone.card.label_names()[offset : offset + backbone.kept]


def sized_graph(card: ModelCard, size: int) -> Graph:
    """Return the detector's graph for a square input of `size` pixels."""
    data = card.model_path.read_bytes()
    same = Graph.from_bytes(data, card.name)
    if same.shape(same.inputs[0])[1:3] == (size, size):
        return same
    return Graph.from_bytes(at_size(data, size), card.name)


def find_taps(graph: Graph, card: ModelCard, size: int, *, uneven: bool = False) -> tuple[Tap, ...]:
    """Return the maps that the box branches begin with, as far as they are int8 and their cells divide the input evenly.

    uneven: also those whose last cells reach over the input's edge, as SSD's do at 300 pixels; boxes are not placed as well there.

    A depthwise layer that only a box layer reads belongs to the branch: it was trained to place the old classes.
    """
    producers, consumers = graph.producers(), graph.consumers()
    taps = []
    for ref in _box_outputs(card):
        output = graph.find(ref) if isinstance(ref, str) else graph.outputs[ref]
        layer = _layer_behind(graph, producers, output)
        if layer is None:
            continue
        tensor = layer.inputs[0]
        before = producers.get(tensor)
        if before is not None and graph.code(before) == Op.DEPTHWISE_CONV_2D and len(consumers[tensor]) == 1:
            tensor = before.inputs[0]
        scheme, shape = graph.quantization(tensor), graph.shape(tensor)
        stride = next((one for one in STRIDES if -(-size // one) == shape[1] and (uneven or size % one == 0)), None)
        if scheme is None or graph.dtype(tensor) != np.int8 or stride is None:
            continue
        step, zero = float(scheme.scale[0]), int(scheme.zero_point[0])
        taps.append(Tap(graph.name(tensor), stride, shape[3], step, zero))
    return _with_contexts(sorted(taps, key=lambda tap: tap.stride))


def _with_contexts(taps: Sequence[Tap]) -> tuple[Tap, ...]:
    """Return the taps, the finest first, each with the next one beside it where the file can join the two as they are stored.

    Networks that join their maps themselves store them at scales of their own, and need no more of it.
    """
    pairs = zip_longest(taps, taps[1:])
    return tuple(replace(tap, context=after.tensor) if after is not None and _alike(tap, after) else tap for tap, after in pairs)


def _alike(tap: Tap, after: Tap) -> bool:
    """Tell whether a map's numbers mean the same as those of the next, which has half as many cells a side."""
    return after.stride == 2 * tap.stride and (after.scale, after.zero_point) == (tap.scale, tap.zero_point)


def _box_outputs(card: ModelCard) -> tuple[TensorRef, ...]:
    """Return the outputs that hold the boxes, one a map."""
    head = card.head
    if isinstance(head, YoloGrid):
        return tuple(grid.output for grid in head.grids)
    if isinstance(head, Dfl | SsdAnchors):
        return tuple(head.boxes)
    raise InputError(f"{card.name} has a head of kind {head.kind}, whose feature maps are not known here; choose a bundled detector")


def _layer_behind(graph: Graph, producers: dict[int, Operator], tensor: int) -> Operator | None:
    """Return the convolution that gives the tensor, through operators that only change its form."""
    operator = producers.get(tensor)
    while operator is not None and graph.code(operator) in (Op.RESHAPE, Op.DEQUANTIZE, Op.QUANTIZE):
        operator = producers.get(operator.inputs[0])
    return operator if operator is not None and graph.code(operator) == Op.CONV_2D else None


def open_engine(backbone: Backbone, runtime: Runtime = "auto") -> tuple[Engine, ToTensor]:
    """Return the network up to its taps, for one thread, with the preprocessing of the taught model's card."""
    graph = sized_graph(backbone.card, backbone.size)
    retarget_outputs(graph, dict.fromkeys(tap.tensor for tap in backbone.taps))
    engine = Engine(graph.to_bytes(), 1, runtime, name=backbone.name)
    facts = backbone.card.input
    size_wh = (backbone.size, backbone.size)
    return engine, ToTensor(engine.input, size_wh, "stretch", PAD, facts.color, facts.layout, mean=facts.mean, std=facts.std)


def features(backbone: Backbone, opened: tuple[Engine, ToTensor], image: UInt8Array) -> list[NDArray[np.int8]]:
    """Return the maps (h, w, C) of a view, one a tap, as they are stored."""
    engine, to_tensor = opened
    outputs = engine.run(to_tensor(image)[0])
    return [outputs[tap.tensor].values[0] for tap in backbone.taps]
