"""Which cells of which map answer for which object: bands of sizes, and the cells around an object's centre."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgeannot.vision.data import FloatArray, IntArray
from edgeannot_tools.teach.detect.backbone import Backbone, with_finer_map
from edgeannot_tools.teach.detect.views import ZOOM, Boxes

__all__ = ["NOBODY", "UNSURE", "Band", "choose_maps", "owners", "size_bins", "sizes_of", "stride_bands"]

NOBODY, UNSURE = -1, -2
"""Owners of cells: background, and cells that are not taught."""
FROM_STRIDES, TO_STRIDES = 2.8, 5.0
"""A map answers for objects from so many of its strides to so many of the next map's."""
RADIUS_CELLS, RADIUS_SIDE = 1.5, 0.3
"""Cells within both of these of the centre are the object's."""
FINER = 0.375
"""Of these numbers of strides, between a map from before the box branches and the next: it sees less of an object, and is for the smallest.
Of objects of 10 to 75 pixels, AP50 of those of 12 was .69 on stride 8 and .43 on 16, of those of 30 pixels .49 and .59."""
FEW_SMALL = 0.1
"""Of the objects: where so many are for such a map, it is used."""
OBJECT_CELLS = 5.0
"""Strides a side of an object, for which a map suits best."""
BIN_STEP = 1.8
"""From one size bin to the next."""
BIN_OVERLAP = 0.6
"""Of a step: an object that is nearly in the next bin is taught there, too."""


@dataclass(frozen=True, slots=True)
class Band:
    """The objects that one anchor of one map answers for: those whose root of area in pixels of the input is in [lowest, highest)."""

    tap: int
    lowest: float
    highest: float
    anchor_wh: tuple[float, float]
    """Geometric means of their widths and heights, in pixels of the input."""

    def holds(self, sizes: FloatArray) -> NDArray[np.bool_]:
        """Return (N,) which of these sizes are in the band."""
        return (sizes >= self.lowest) & (sizes < self.highest)


def sizes_of(boxes: FloatArray) -> FloatArray:
    """Return (N,) roots of the boxes' areas."""
    return np.asarray(np.sqrt(np.maximum(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), 1)), np.float32)


def stride_bands(backbone: Backbone, boxes: FloatArray) -> tuple[Band, ...]:
    """Return one band a map, as far as some of the boxes (N, 4) are in it: for objects that are alike in size."""
    limits = _limits(backbone)
    lowest = [0.0, *(FROM_STRIDES * limit for limit in limits)]
    highest = [*(TO_STRIDES * limit for limit in limits), np.inf]
    return _with_anchors([(tap, low, high) for tap, (low, high) in enumerate(zip(lowest, highest, strict=True))], boxes)


def size_bins(backbone: Backbone, boxes: FloatArray) -> tuple[Band, ...]:
    """Return bands of equal steps over the sizes of the boxes (N, 4), each on the map that suits it: for widely different objects."""
    logs = np.log(sizes_of(boxes))
    low, high = np.quantile(logs, (0.03, 0.97))
    count = max(1, round((high - low) / np.log(BIN_STEP)) + int(high - low > 0.5))
    centres = np.linspace(low, high, 2 * count + 1)[1::2]
    reach = BIN_OVERLAP * (centres[1] - centres[0]) if count > 1 else np.inf
    found = []
    for number, centre in enumerate(centres):
        tap = _map_for(backbone, float(np.exp(centre)))
        lowest = 0.0 if number == 0 else float(np.exp(centre - reach))
        found.append((tap, lowest, np.inf if number == count - 1 else float(np.exp(centre + reach))))
    return _with_anchors(found, boxes)


def choose_maps(backbone: Backbone, boxes: FloatArray) -> Backbone:
    """Return the backbone with the maps that objects of these sizes need. boxes: (N, 4) in whole views."""
    finer = with_finer_map(backbone)
    small = float(np.quantile(sizes_of(boxes), FEW_SMALL))
    found = finer if finer.finer and _map_for(finer, small) == 0 else backbone
    zoomed = np.concatenate([boxes * np.float32(zoom) for zoom in (ZOOM[0], 1.0, ZOOM[1])])
    used = {band.tap for band in (*stride_bands(found, zoomed), *size_bins(found, zoomed))}
    read = sorted(used | {context for tap in used if (context := found.context(tap)) is not None})
    return replace(found, taps=tuple(found.taps[tap] for tap in read), finer=found.finer and read[0] == 0)


def _limits(backbone: Backbone) -> list[float]:
    """Return a length in pixels of the input for each two neighbouring maps; their common objects have some times that."""
    limits = [float(tap.stride) for tap in backbone.taps[1:]]
    return [2 * FINER * backbone.taps[0].stride, *limits[1:]] if backbone.finer and limits else limits


def _map_for(backbone: Backbone, size: float) -> int:
    """Return the map that suits objects of this size."""
    first, limits = int(backbone.finer), _limits(backbone)
    if backbone.finer and (not limits or size < np.sqrt(FROM_STRIDES * TO_STRIDES) * limits[0]):
        return 0
    strides = np.array([tap.stride for tap in backbone.taps[first:]])
    return first + int(np.argmin(np.abs(np.log(strides * OBJECT_CELLS / size))))


def _with_anchors(bands: Sequence[tuple[int, float, float]], boxes: FloatArray) -> tuple[Band, ...]:
    """Return the bands that hold a box, with their anchors."""
    sizes, sides = sizes_of(boxes), np.log(np.maximum(boxes[:, 2:] - boxes[:, :2], 2))
    made = []
    for tap, lowest, highest in bands:
        inside = (sizes >= lowest) & (sizes < highest)
        if inside.any():
            width, height = np.exp(sides[inside].mean(axis=0)).tolist()
            made.append(Band(tap, lowest, highest, (width, height)))
    return tuple(made)


def owners(band: Band, marked: Boxes, cells: int, stride: float) -> IntArray:
    """Return (cells, cells): the row of the object that each cell answers for, NOBODY or UNSURE. A smaller object goes first."""
    found = np.full((cells, cells), NOBODY, np.int64)
    middle = (np.arange(cells) + 0.5) * stride
    for x1, y1, x2, y2 in marked.unsure:
        found[np.ix_((middle >= y1) & (middle < y2), (middle >= x1) & (middle < x2))] = UNSURE
    sizes = sizes_of(marked.boxes)
    inside = np.flatnonzero(band.holds(sizes))
    for row in inside[np.argsort(-sizes[inside], kind="stable")]:
        box = marked.boxes[row] / stride
        centre, sides = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
        reach = np.minimum(RADIUS_CELLS, np.maximum(0.5, RADIUS_SIDE * sides))
        near = np.abs(middle[:, None] / stride - centre[None]) <= reach[None]
        found[np.ix_(near[:, 1], near[:, 0])] = row
        x, y = np.clip(centre.astype(int), 0, cells - 1)
        found[y, x] = row
    return found
