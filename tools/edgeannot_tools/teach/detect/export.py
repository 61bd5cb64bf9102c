"""The taught layers as int8 convolutions in the detector's own file, and the card of that file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from edgeannot.base.foreign import number_of
from edgeannot.vision.cards import Defaults, Labels, ModelCard, Provenance
from edgeannot.vision.heads import Head
from edgeannot.vision.heads.joined import Joined
from edgeannot_tools.graph.edits import multiply_accumulates, retarget_outputs
from edgeannot_tools.graph.graph import Graph, Op, schema
from edgeannot_tools.teach.detect.backbone import Backbone, Tap, kept_labels, sized_graph
from edgeannot_tools.teach.detect.fit import Layer
from edgeannot_tools.teach.detect.held_out import IOU, head_of
from edgeannot_tools.teach.detect.stored import OUTPUT_SCALE, StoredLayer, store_layers
from edgeannot_tools.teach.detect.views import PAD

__all__ = ["make_card", "make_graph"]


def make_graph(backbone: Backbone, layers: Sequence[Layer]) -> Graph:
    """Return the detector with the taught layers behind its feature maps.

    What only served its own boxes and classes is gone, or, where they are kept, comes first in the old order.
    """
    graph = sized_graph(backbone.card, backbone.size)
    taps = sorted({layer.band.tap for layer in layers})
    for tap in taps:
        own = [layer for layer in layers if layer.band.tap == tap]
        _add_layer(graph, _output(tap), backbone.taps[tap], store_layers(own, backbone.taps[tap]))
    old = [graph.name(output) for output in graph.outputs] if backbone.kept else []
    retarget_outputs(graph, [*old, *(_output(tap) for tap in taps)])
    return graph


def make_card(backbone: Backbone, layers: Sequence[Layer], graph: Graph, name: str, labels: Sequence[str], origin: Provenance) -> ModelCard:
    """Return the card of the taught file. origin: where it comes from, beside what the detector's card says of itself."""
    facts, size = backbone.card.input, backbone.size
    tensors = [_output(tap) for tap in range(len(backbone.taps))]
    head: Head = head_of(layers, tensors)
    defaults, named, kept, pad = Defaults(iou=IOU), Labels(names=tuple(labels)), "", PAD
    if backbone.kept:
        head = Joined(parts=(backbone.card.head, head), first_ids=(0, backbone.kept))
        named = Labels(names=(*kept_labels(backbone), *labels), ignore=backbone.card.labels.ignore)
        defaults, kept, pad = backbone.card.defaults, f"; and its own {number_of(backbone.kept, 'class', 'classes')}", facts.pad
    return ModelCard(
        schema=1,
        name=name,
        file=f"{name}.tflite",
        sha256=hashlib.sha256(graph.to_bytes()).hexdigest(),
        description=f"taught on {backbone.name}: {', '.join(labels[:8])}{', ...' if len(labels) > 8 else ''}{kept}",
        task="detect",
        family=backbone.card.family,
        macs=multiply_accumulates(graph),
        input=facts.model_copy(update={"width": size, "height": size, "sizes": (), "resize": backbone.resize, "pad": pad}),
        head=head,
        labels=named,
        defaults=defaults,
        provenance=origin,
    )


def _output(tap: int) -> str:
    return f"taught{tap}"


def _add_layer(graph: Graph, name: str, tap: Tap, layer: StoredLayer) -> None:
    """Add the layer of one map, with an output of this name."""
    source, count = graph.find(tap.tensor), len(layer.bias)
    kernel = graph.add_constant(f"{name}/weights", np.ascontiguousarray(layer.weights.T).reshape(count, 1, 1, -1))
    bias = graph.add_constant(f"{name}/bias", layer.bias)
    output = graph.add_tensor(name, (*graph.shape(source)[:3], count), np.int8)
    graph.set_quantization(kernel, layer.step, np.zeros(count, np.int64))
    graph.set_quantization(bias, layer.step * np.float32(tap.scale), np.zeros(count, np.int64))
    graph.set_quantization(output, *OUTPUT_SCALE)
    options = schema.Conv2DOptionsT()
    options.padding, options.strideH, options.strideW = schema.Padding.SAME, 1, 1
    options.dilationHFactor = options.dilationWFactor = 1
    graph.add_operator(Op.CONV_2D, [source, kernel, bias], [output], options, version=3)
