"""Which pictures are held out together in a cross-validation, and what the layers find in those that they were not taught with.

Pictures that are nearly the same stay in one fold, or what is learned from would be tested with.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edgeannot.base.foreign import number_of
from edgeannot.vision.data import Detections, FloatArray, IntArray, Outputs, RawTensor, TensorSpec
from edgeannot.vision.geometry import areas, clip, nms, place
from edgeannot.vision.heads.yolo_grid import Grid, YoloGrid
from edgeannot_tools.datasets.checks import content_groups
from edgeannot_tools.evaluate.average_precision import Accuracy, Truth, evaluate_detections
from edgeannot_tools.teach.detect.examples import Examples
from edgeannot_tools.teach.detect.fit import XY_SCALE, Layer
from edgeannot_tools.teach.detect.pictures import LabelledPicture
from edgeannot_tools.teach.detect.stored import float_numbers, store_layers
from edgeannot_tools.teach.near_duplicates import group_alike

__all__ = ["IOU", "MIN_SCORE", "SMALL", "detect", "find_alike", "head_of", "make_folds", "numbers_of", "pooled", "small_alone"]

IOU = 0.5
"""Boxes of one class that overlap more are one object."""
MIN_SCORE = 0.02
SMALL = 0.05
"""Of the picture's longer side: the root of the area of a small object is below. COCO's 32 pixels are that of its pictures of 640."""
FOLDS = 5
ONE_SCENE = 0.5
"""Of the pictures with objects: where more are nearly the same, the set shows one scene, and all that differs is what matters."""


def pooled(examples: Examples, count: int) -> FloatArray:
    """Return (count, D) what the network says of each of the first pictures: the means of all maps, against those of these pictures."""
    parts = []
    for store in examples.maps:
        means = np.stack([store[row].reshape(-1, store.shape[3]).astype(np.float32).mean(axis=0) for row in examples.whole[:count]])
        off = means - means.mean(axis=0)
        parts.append(off / max(float(np.sqrt((off**2).mean())), 1e-6))
    return np.concatenate(parts, axis=1)


def find_alike(pictures: Sequence[LabelledPicture], hashes: NDArray[np.bool_], vectors: FloatArray) -> tuple[IntArray, tuple[str, ...]]:
    """Return (P,) group numbers, one for pictures that are nearly the same, and notes about them.

    hashes: (P, 2, 64), see `difference_hash`. vectors: (P, D) of `pooled`; a mirror image has nearly the same, as places are averaged away.
    Pictures of one scene, as a camera on the wall takes them, are told apart by what moved; then only copies stay together.
    """
    same = np.zeros(len(pictures), np.int64)
    rows = {id(item.picture): row for row, item in enumerate(pictures)}
    for group in content_groups([item.picture for item in pictures]):
        same[[rows[id(picture)] for picture in group]] = rows[id(group[0])]
    alike = group_alike(hashes, np.stack([vectors, vectors], axis=1))
    # A copy has the hash and the vectors of its original, unless all vectors are nothing.
    alike = np.minimum(alike, alike[same])
    shown = np.array([bool(item.picture.objects) for item in pictures])
    largest = max(Counter(alike[shown].tolist()).values(), default=0)
    if largest > ONE_SCENE * shown.sum():
        return same, (f"{largest} of {shown.sum()} pictures with objects show nearly the same: the figures hold for this scene alone",)
    twins = int(sum(count for count in Counter(alike[shown].tolist()).values() if count > 1))
    if twins:
        return alike, (f"{number_of(twins, 'picture')} are nearly the same as others: they stay in one fold each",)
    return alike, ()


def make_folds(pictures: Sequence[LabelledPicture], alike: IntArray, seed: int = 0) -> IntArray:
    """Return (P,) the fold of each picture, at most 5 of them. Groups of `alike` (P,) are in one fold, and classes are spread evenly."""
    groups = [np.flatnonzero(alike == number) for number in dict.fromkeys(alike.tolist())]
    kinds = [_kinds([pictures[row] for row in rows.tolist()]) for rows in groups]
    count = min(FOLDS, sum(kind != (-1,) for kind in kinds))
    result = np.zeros(len(pictures), np.int64)
    rng = np.random.default_rng(seed)
    filled: Mapping[int, Counter[int]] = {fold: Counter() for fold in range(count)}
    totals = Counter(kinds)
    for number in sorted(rng.permutation(len(groups)).tolist(), key=lambda n: totals[kinds[n]]):
        fold = min(filled, key=lambda f: (sum(filled[f][k] for k in kinds[number]), filled[f].total(), f))
        filled[fold].update({kind: len(groups[number]) for kind in kinds[number]})
        result[groups[number]] = fold
    return result


def _kinds(group: Sequence[LabelledPicture]) -> tuple[int, ...]:
    """Return the classes in a group; -1 for a group without objects."""
    return tuple(sorted({thing.class_id for item in group for thing in item.picture.objects})) or (-1,)


def head_of(layers: Sequence[Layer], tensors: Sequence[str]) -> YoloGrid:
    """Return the head of a taught model. tensors: the name of each tap's output, by the tap's number."""
    taps = sorted({layer.band.tap for layer in layers})
    anchors = {tap: tuple(layer.band.anchor_wh for layer in layers if layer.band.tap == tap) for tap in taps}
    return YoloGrid(grids=tuple(Grid(output=tensors[tap], anchors=anchors[tap]) for tap in taps), xy_scale=XY_SCALE)


def detect(examples: Examples, layers: Sequence[Layer], picture: int, size_wh: tuple[int, int], *, rounded: bool = True) -> Detections:
    """Return what the layers find in a whole picture, in its pixels. rounded: as the int8 file; else in float behind the int8 features."""
    backbone, row = examples.backbone, examples.whole[picture]
    names = [str(tap) for tap in range(len(backbone.taps))]
    outputs: list[RawTensor] = []
    for tap, _, values in numbers_of(examples, layers, row, rounded=rounded):
        outputs.append(RawTensor(values[None], TensorSpec(names[tap], len(outputs), (1, *values.shape), np.dtype(np.float32), 0.0, 0)))
    found = head_of(layers, names).decode(Outputs(outputs), (backbone.size, backbone.size), MIN_SCORE)
    found = found[nms(found.boxes, found.scores, found.classes, IOU)]
    fit, _ = place(size_wh, (backbone.size, backbone.size), backbone.resize)
    return Detections(clip(fit.to_frame(found.boxes), size_wh), found.scores, found.classes)


def numbers_of(
    examples: Examples, layers: Sequence[Layer], row: int, *, rounded: bool = True
) -> Iterator[tuple[int, list[Layer], FloatArray]]:
    """Yield each map's number, its layers, and what they give for a view (h, w, layers x (5 + classes)). rounded: see `detect`."""
    for tap in sorted({layer.band.tap for layer in layers}):
        own, features = [layer for layer in layers if layer.band.tap == tap], examples.map(tap).cells(slice(row, row + 1))[0]
        facts = examples.backbone.taps[tap]
        yield tap, own, store_layers(own, facts).numbers(facts, features) if rounded else float_numbers(own, features)


def small_alone(pairs: Sequence[tuple[Truth, Detections]], sizes_wh: Sequence[tuple[int, int]]) -> Accuracy:
    """Return how well the small objects are found. sizes_wh: of each picture.

    Larger objects do not count, nor does what was found in their place.
    """
    kept = []
    for (truth, found), size_wh in zip(pairs, sizes_wh, strict=True):
        largest = (SMALL * max(size_wh)) ** 2
        large = areas(truth.boxes.astype(np.float32)) >= largest
        # With twice the area a box overlaps no small object by half.
        kept.append((replace(truth, difficult=truth.difficult | large), found[areas(found.boxes) < 2 * largest]))
    return evaluate_detections(kept)
