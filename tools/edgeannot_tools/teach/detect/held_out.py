"""What the layers of a fold find in the pictures that they were not taught with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeannot.vision.data import Detections, Outputs, RawTensor, TensorSpec
from edgeannot.vision.geometry import clip, nms, place
from edgeannot.vision.heads.yolo_grid import Grid, YoloGrid
from edgeannot_tools.teach.detect.examples import Examples
from edgeannot_tools.teach.detect.fit import XY_SCALE, Layer
from edgeannot_tools.teach.detect.stored import float_numbers, store_layers

__all__ = ["IOU", "detect", "head_of"]

IOU = 0.5
"""Boxes of one class that overlap more are one object."""
MIN_SCORE = 0.02


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
