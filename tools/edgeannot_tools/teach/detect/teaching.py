"""From a labelled set to a taught model in memory, with what a cross-validation says of it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgeannot.base.foreign import number_of
from edgeannot.vision.cards import Defaults, Labels, Measured, ModelCard, Provenance
from edgeannot.vision.data import Detections, IntArray
from edgeannot.vision.engine import Runtime
from edgeannot.vision.heads import Head
from edgeannot.vision.heads.joined import Joined
from edgeannot_tools.evaluate.average_precision import Accuracy, Truth, evaluate_detections, find_misses
from edgeannot_tools.graph.blas import one_thread
from edgeannot_tools.graph.edits import multiply_accumulates, retarget_outputs
from edgeannot_tools.graph.graph import Graph, Op, schema
from edgeannot_tools.teach.detect.backbone import Backbone, Tap, kept_labels, sized_graph
from edgeannot_tools.teach.detect.bands import Band, choose_maps, size_bins, sizes_of, stride_bands
from edgeannot_tools.teach.detect.calibration import best_threshold, calibrated, judge
from edgeannot_tools.teach.detect.examples import Examples, make_examples, views_for
from edgeannot_tools.teach.detect.fit import Layer, fit_layers
from edgeannot_tools.teach.detect.held_out import IOU, detect, find_alike, head_of, make_folds, pooled, small_alone
from edgeannot_tools.teach.detect.pictures import LabelledPicture, TeachingSet
from edgeannot_tools.teach.detect.stored import OUTPUT_SCALE, StoredLayer, store_layers
from edgeannot_tools.teach.detect.views import PAD, whole_boxes

__all__ = ["Alarms", "Taught", "fitted", "make_graph", "make_model", "teach", "teach_examples"]

SPREAD = 4.0
"""Largest (95 %) over smallest (5 %) size of the objects, from which on size bins are tried."""
GAIN = 0.01
"""Of mAP50, which bins have to bring: fewer numbers a cell are quicker."""


@dataclass(frozen=True, slots=True)
class Alarms:
    """Pictures in which something was found though nothing is there."""

    pictures: int
    """In which nothing is to be found."""
    alarmed: int
    """Of these, with a detection that reaches the threshold."""


@dataclass(frozen=True, slots=True)
class Taught:
    """A model in memory with the figures of its cross-validation: each picture was judged by layers that had not seen it."""

    backbone: Backbone
    layers: tuple[Layer, ...]
    bins: bool
    """Whether the objects are in size bins, not one band a map."""
    found: tuple[Detections, ...]
    """In each picture, in its pixels."""
    folds: IntArray
    accuracy: Accuracy
    small: Accuracy
    """Of the small objects alone, see `small_alone`."""
    min_score: float
    """The threshold of the card."""
    precision: float
    """Share of the detections from it on that are right."""
    recall: float
    """Share of the objects that are found from it on."""
    alarms: Alarms
    notes: tuple[str, ...] = ()
    """What is odd about the pictures, one sentence each."""
    views: int = 0
    """Changed ones of each picture with objects."""
    features_s: float = 0.0
    fit_s: float = 0.0


def teach(
    to_teach: TeachingSet,
    backbone: Backbone,
    *,
    views: int | None = None,
    seed: int = 0,
    threads: int = 2,
    runtime: Runtime = "auto",
    scratch: Path | None = None,
) -> Taught:
    """Teach new last layers on the backbone. views: changed views of each picture. Raises InputError for a picture that cannot be read."""
    backbone = fitted(backbone, to_teach.pictures)
    views = views_for(backbone, to_teach.pictures) if views is None else views
    started = time.perf_counter()
    examples = make_examples(backbone, to_teach.pictures, views, seed=seed, threads=threads, runtime=runtime, scratch=scratch)
    features_s = time.perf_counter() - started
    return replace(teach_examples(to_teach, examples, seed=seed), features_s=features_s, views=views)


def fitted(backbone: Backbone, pictures: Sequence[LabelledPicture]) -> Backbone:
    """Return the backbone with the maps that the objects in these pictures need."""
    shown = [whole_boxes(item.marked(), item.picture.size_wh, backbone.size, backbone.resize) for item in pictures]
    return choose_maps(backbone, np.concatenate(shown))


def teach_examples(to_teach: TeachingSet, examples: Examples, *, seed: int = 0, bins: bool | None = None) -> Taught:
    """Fit new last layers to the features of a set, divided into bands in the way that the cross-validation finds best.

    bins: whether in size bins, or in one band a map; None: the better of both where the sizes differ widely.
    """
    with one_thread():  # two are slower on a busy machine, and hardly quicker on an idle one
        return _taught(to_teach, examples, seed, bins)


def _taught(to_teach: TeachingSet, examples: Examples, seed: int, bins: bool | None) -> Taught:
    pictures, classes = to_teach.pictures, len(to_teach.labels)
    started = time.perf_counter()
    seen = sum(item.made is None for item in pictures)  # those that are made come last
    alike, notes = find_alike(pictures[:seen], examples.hashes[:seen], pooled(examples, seen))
    folds = make_folds(pictures, np.concatenate([alike, np.arange(seen, len(pictures))]), seed)
    best: Taught | None = None
    for in_bins, bands in _plans(examples, bins):
        layers, found, accuracy = _cross_validated(examples, pictures, bands, classes, folds, seed)
        # Bins come second, and have to be better.
        if best is None or accuracy.map50 > best.accuracy.map50 + GAIN:
            threshold = best_threshold(_pairs(pictures, found))
            alarms, at = _alarms(pictures, found, threshold), _at(threshold, pictures, found)
            small = small_alone(_pairs(pictures, found), [item.picture.size_wh for item in pictures if item.made is None])
            best = Taught(examples.backbone, layers, in_bins, found, folds, accuracy, small, threshold, *at, alarms, notes)
    assert best is not None  # noqa: S101 - there is always the first plan
    return replace(best, fit_s=time.perf_counter() - started)


def _plans(examples: Examples, bins: bool | None) -> list[tuple[bool, tuple[Band, ...]]]:
    """Return the ways to divide the objects that are tried: whether they are size bins, with the bands. bins: see `teach_examples`."""
    boxes = examples.boxes()
    small, large = np.quantile(sizes_of(examples.boxes(examples.whole)), (0.05, 0.95))
    tried = ([False, True] if large > SPREAD * small else [False]) if bins is None else [bins]
    return [(one, size_bins(examples.backbone, boxes) if one else stride_bands(examples.backbone, boxes)) for one in tried]


def _cross_validated(
    examples: Examples, pictures: Sequence[LabelledPicture], bands: Sequence[Band], classes: int, folds: IntArray, seed: int
) -> tuple[tuple[Layer, ...], tuple[Detections, ...], Accuracy]:
    """Return the layers taught with all pictures, what the others find in the pictures that they were not taught with, and how well."""
    heads = fit_layers(examples, bands, classes, folds, seed=seed)
    seen = [number for number, item in enumerate(pictures) if item.made is None]
    judged = judge(examples, [heads[folds[n]] for n in seen], [(n, pictures[n].truth(), pictures[n].picture.size_wh) for n in seen])
    # A fold's layers know nothing of its own pictures in this, too; the last, which are taught with all, are calibrated by all.
    heads = tuple(calibrated(layers, judged[folds[judged.pictures] != fold]) for fold, layers in enumerate(heads))
    found = tuple(
        detect(examples, heads[fold], number, item.picture.size_wh) if item.made is None else Detections.empty()
        for number, (fold, item) in enumerate(zip(folds, pictures, strict=True))
    )
    return heads[-1], found, evaluate_detections(_pairs(pictures, found))


def _pairs(pictures: Sequence[LabelledPicture], found: Sequence[Detections]) -> list[tuple[Truth, Detections]]:
    """Return what is marked and what was found. Pictures that were made are no evidence of anything, and left out."""
    return [(item.truth(), one) for item, one in zip(pictures, found, strict=True) if item.made is None]


def _at(threshold: float, pictures: Sequence[LabelledPicture], found: Sequence[Detections]) -> tuple[float, float]:
    """Return precision and recall from a score on."""
    misses = [find_misses(truth, one, threshold) for truth, one in _pairs(pictures, found)]
    missed, wrong = sum(len(rows) for rows, _ in misses), sum(len(rows) for _, rows in misses)
    objects = sum(len(item.marked().boxes) for item in pictures)
    right = objects - missed
    return right / max(right + wrong, 1), right / max(objects, 1)


def _alarms(pictures: Sequence[LabelledPicture], found: Sequence[Detections], threshold: float) -> Alarms:
    """Return how often something is found in pictures without objects."""
    empty = [one for item, one in zip(pictures, found, strict=True) if not item.picture.objects and item.made is None]
    return Alarms(len(empty), sum(bool((one.scores >= threshold).any()) for one in empty))


def make_model(taught: Taught, to_teach: TeachingSet, name: str, made_by: str, dataset: str) -> tuple[bytes, ModelCard]:
    """Return the file and its card, with the threshold and the figures of the cross-validation."""
    base = taught.backbone.card
    # One threshold serves all classes of the file: kept ones have it already, the taught ones are moved to it.
    threshold = base.defaults.min_score if taught.backbone.kept else taught.min_score
    layers = [layer.with_threshold(taught.min_score, threshold) for layer in taught.layers]
    graph = make_graph(taught.backbone, layers)
    labelled = sum(not item.background for item in to_teach.pictures)
    made = sum(item.made is not None for item in to_teach.pictures)
    background = len(to_teach.pictures) - labelled - made
    origin = Provenance(
        source=f"{base.name}; {base.provenance.source}" if base.provenance.source else base.name,
        source_sha256=base.sha256,
        license=base.provenance.license,
        training=f"last layers on {dataset}: {labelled} pictures"
        + (f" and {background} of background" if background else "")
        + (f", {made} made ones" if made else ""),
        made_by=made_by,
        calibration=base.provenance.calibration,
    )
    card = make_card(taught.backbone, layers, graph, name, to_teach.labels, origin)
    folds = int(taught.folds.max()) + 1
    row = Measured(
        dataset=f"{dataset}, each picture by layers that had not seen it ({folds} folds)",
        size=taught.backbone.size,
        numbers="int8",
        pictures=labelled + background,
        map50=round(taught.accuracy.map50, 4),
        map50_95=round(taught.accuracy.map50_95, 4),
        mean_iou=None if np.isnan(taught.accuracy.mean_iou) else round(taught.accuracy.mean_iou, 4),
    )
    defaults = card.defaults.model_copy(update={"min_score": round(threshold, 3)})
    return graph.to_bytes(), card.model_copy(update={"defaults": defaults, "measured": (row,)})


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


def _source(graph: Graph, name: str, tap: Tap) -> int:
    """Return the map that the layer reads: the tap's own, with the coarser one beside it where the tap has one."""
    own = graph.find(tap.tensor)
    if not tap.context:
        return own
    shape, coarse = graph.shape(own), graph.find(tap.context)
    channels, scheme = graph.shape(coarse)[3], (tap.scale, tap.zero_point)
    under = graph.add_tensor(f"{name}/context", (*shape[:3], channels), np.int8)
    joined = graph.add_tensor(f"{name}/joined", (*shape[:3], shape[3] + channels), np.int8)
    graph.set_quantization(under, *scheme)
    graph.set_quantization(joined, *scheme)
    size = graph.add_constant(f"{name}/size", np.array(shape[1:3], np.int32))
    graph.add_operator(Op.RESIZE_NEAREST_NEIGHBOR, [coarse, size], [under], schema.ResizeNearestNeighborOptionsT(), version=2)
    options = schema.ConcatenationOptionsT()
    options.axis = 3
    graph.add_operator(Op.CONCATENATION, [own, under], [joined], options, version=2)
    return joined


def _output(tap: int) -> str:
    return f"taught{tap}"


def _add_layer(graph: Graph, name: str, tap: Tap, layer: StoredLayer) -> None:
    """Add the layer of one map, with an output of this name."""
    source, count = _source(graph, name, tap), len(layer.bias)
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
