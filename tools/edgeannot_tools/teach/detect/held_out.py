"""What the layers of a fold find in the pictures that they were not taught with, and from which score on it counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edgeannot.vision.data import Detections, Outputs, RawTensor, TensorSpec
from edgeannot.vision.geometry import areas, clip, nms, place
from edgeannot.vision.heads.yolo_grid import Grid, YoloGrid
from edgeannot_tools.evaluate.average_precision import Accuracy, Truth, evaluate_detections, match_picture
from edgeannot_tools.teach.detect.examples import Examples
from edgeannot_tools.teach.detect.fit import XY_SCALE, Layer
from edgeannot_tools.teach.detect.stored import float_numbers, store_layers

__all__ = ["BANDWIDTH", "IOU", "SMALL", "best_threshold", "detect", "head_of", "small_alone"]

IOU = 0.5
"""Boxes of one class that overlap more are one object."""
MIN_SCORE = 0.02
BANDWIDTH = 0.5
"""Of the smoothing, in logits: by about so much the score of an object differs between layers that were taught with other pictures."""
SMALL = 0.05
"""Of the picture's longer side: the root of the area of a small object is below. COCO's 32 pixels are that of its pictures of 640."""
LEAST, MOST = 0.05, 0.9
STEPS = 200


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
    for tap in sorted({layer.band.tap for layer in layers}):
        own, features = [layer for layer in layers if layer.band.tap == tap], examples.maps[tap][row]
        facts = backbone.taps[tap]
        values = (store_layers(own, facts).numbers(facts, features) if rounded else float_numbers(own, features))[None]
        outputs.append(RawTensor(values, TensorSpec(names[tap], len(outputs), values.shape, np.dtype(np.float32), 0.0, 0)))
    found = head_of(layers, names).decode(Outputs(outputs), (backbone.size, backbone.size), MIN_SCORE)
    found = found[nms(found.boxes, found.scores, found.classes, IOU)]
    fit, _ = place(size_wh, (backbone.size, backbone.size), backbone.resize)
    return Detections(clip(fit.to_frame(found.boxes), size_wh), found.scores, found.classes)


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


def best_threshold(pairs: Sequence[tuple[Truth, Detections]]) -> float:
    """Return the score with the best smoothed F1 at IoU 0.5 over all classes, between 0.05 and 0.9.

    A detection counts by how probable it is that its score, a little higher or lower in logits, reaches the threshold. The plain
    best F1 would lie just below the last object found, however far below it the first wrong detection is.
    """
    scores, right, objects = _judged(pairs)
    logits = np.log(np.clip(scores, 1e-4, 1 - 1e-4) / (1 - np.clip(scores, 1e-4, 1 - 1e-4)))
    places = np.linspace(np.log(LEAST / (1 - LEAST)), np.log(MOST / (1 - MOST)), STEPS)
    reached = 1 / (1 + np.exp(-np.clip((logits[None] - places[:, None]) / BANDWIDTH, -30, 30)))
    hits, found = reached @ right, reached.sum(axis=1)
    place = places[int(np.argmax(2 * hits / np.maximum(found + objects, 1)))]
    return float(1 / (1 + np.exp(-place)))


def _judged(pairs: Sequence[tuple[Truth, Detections]]) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Return scores (n,) of the detections that count, whether each is right (n,), and how many objects there are."""
    scores, right = [np.zeros(0)], [np.zeros(0)]
    for truth, found in pairs:
        for class_id in {*truth.classes.tolist(), *found.classes.tolist()}:
            matches = match_picture(truth, found, class_id, np.array([0.5]))
            counted = ~matches.ignored[:, 0]
            scores.append(matches.scores[counted])
            right.append(matches.right[counted, 0].astype(np.float64))
    objects = sum(int((~(truth.difficult | truth.crowd)).sum()) for truth, _ in pairs)
    return np.concatenate(scores), np.concatenate(right), objects
