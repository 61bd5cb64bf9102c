"""Anchor boxes (priors) of SSD-like heads, made from the few numbers that a training configuration states."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgeannot.base.errors import CardError
from edgeannot.base.foreign import shorten
from edgeannot.vision.data import FloatArray
from edgeannot.vision.heads._tensors import CardTable

__all__ = ["AnchorLayer", "AnchorRule", "OctaveAnchors", "ScaledAnchors", "find_layers", "make_anchors"]

MAX_LEVEL = 14
MAX_STRIDE = 1 << MAX_LEVEL
MAX_LAYERS = 64
"""And boxes a cell, where they are found."""
MAX_ANCHORS = 1 << 20
"""Of one layer. EfficientDet-D7 has 0.3 million in its largest, 17 MB of memory for a million."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaledAnchors(CardTable):
    """The rule of the SSD paper (section 2.2): box scales spread evenly over the layers, several aspect ratios at each cell.

    As in `ssd_anchor_generator` of the TensorFlow Object Detection API and in MediaPipe's `SsdAnchorsCalculator`. Layers that
    follow each other with one stride share their cells, as there. https://arxiv.org/abs/1512.02325
    """

    strides: tuple[int, ...]
    """Pixels from cell to cell, one a layer; a layer has ceil(input / stride) cells on each axis, spread evenly over the input."""
    min_scale: float = 0.2
    """Box size of the first layer, as a share of the input."""
    max_scale: float = 0.95
    """Box size of the last layer."""
    scales: tuple[float, ...] = ()
    """The scales themselves, one a layer, where they are not evenly spread."""
    aspect_ratios: tuple[float, ...] = (1.0, 2.0, 0.5, 3.0, 1 / 3)
    """Width over height, in the order of the model's outputs."""
    interpolated_aspect_ratio: float = 1.0
    """Shape of one more box a cell, of a size between this layer's and the next one's; 0: no such box."""
    reduce_lowest: bool = False
    """Only three boxes a cell in the first layer: scale 0.1 square, and the layer's scale with ratios 2 and 1/2."""
    unit_size: bool = False
    """All boxes are as large as the input, only their centres differ (BlazeFace, MediaPipe's `fixed_anchor_size`)."""
    offset: float = 0.5
    """Where in its cell a box's centre is, 0..1."""
    reference_size: int = 0
    """Shorter side in pixels of the input that the scales are shares of, so that a box has the same pixels at every input size; 0: the
    scales are shares of whatever the input is."""

    def __post_init__(self) -> None:
        _check(0 <= self.reference_size <= MAX_STRIDE, f"a reference size from 0 to {MAX_STRIDE} pixels", self.reference_size)
        _check(
            len(self.strides) <= MAX_LAYERS and all(0 < s <= MAX_STRIDE for s in self.strides),
            f"strides from 1 to {MAX_STRIDE}",
            self.strides,
        )
        _check(len(self.scales) in (0, len(self.strides)), "as many scales as strides", self.scales)
        _check(min(self.min_scale, self.max_scale, *self.scales) >= 0, "scales of at least 0", self.scales)
        _check_ratios(self.aspect_ratios)
        _check(self.interpolated_aspect_ratio >= 0, "an interpolated aspect ratio of at least 0", self.interpolated_aspect_ratio)


@dataclass(frozen=True, slots=True, kw_only=True)
class OctaveAnchors(CardTable):
    """The rule of RetinaNet, of the FPN variants of SSD and of EfficientDet: sizes are fractions of an octave of the stride.

    As it stands, `multiscale_grid_anchor_generator` of the TensorFlow Object Detection API; EfficientDet (the AutoML repository
    and MediaPipe) has `even = true`, `order = "scales"`, `scales_per_octave = 3`. https://arxiv.org/abs/1708.02002, section 4
    """

    min_level: int = 3
    """Level l has a stride of 2^l pixels."""
    max_level: int = 7
    anchor_scale: float = 4.0
    """Size of a level's smallest box, in strides."""
    aspect_ratios: tuple[float, ...] = (1.0, 2.0, 0.5)
    """Width over height."""
    scales_per_octave: int = 2
    order: Literal["ratios", "scales"] = "ratios"
    """What changes slowest among the boxes of a cell."""
    even: bool = False
    """Cells spread evenly over the input, so that a stride is input / cells. If not, steps of 2^l pixels, boxes in the centre of
    their cells on an axis that 2^l divides and at the near edge on another."""

    def __post_init__(self) -> None:
        levels = (self.min_level, self.max_level)
        _check(0 <= self.min_level <= self.max_level <= MAX_LEVEL, f"levels from 0 to {MAX_LEVEL}", levels)
        _check(0 < self.scales_per_octave <= MAX_LAYERS, f"1 to {MAX_LAYERS} scales an octave", self.scales_per_octave)
        _check_ratios(self.aspect_ratios)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorLayer(CardTable):
    """One layer whose box sizes are listed: for priors that follow another rule (`min_sizes` of Caffe and PyTorch SSDs)."""

    stride: int
    """Pixels from cell to cell; ceil(input / stride) cells on each axis."""
    sizes: tuple[tuple[float, float], ...]
    """Width and height of the boxes of a cell in input pixels, in the order of the model's outputs."""
    even: bool = False
    """Cells spread evenly over the input, so that they are input / cells wide; if not, steps of `stride` pixels."""
    offset: float = 0.5
    """Where in its cell a box's centre is, 0..1."""

    def __post_init__(self) -> None:
        _check(0 < self.stride <= MAX_STRIDE, f"a stride from 1 to {MAX_STRIDE}", self.stride)
        _check(0 <= self.offset <= 1, "an offset from 0 to 1", self.offset)


def _check(right: bool, wanted: str, found: object) -> None:
    if not right:
        raise ValueError(f"wanted {wanted}, found {shorten(found)}")


def _check_ratios(ratios: tuple[float, ...]) -> None:
    _check(len(ratios) <= MAX_LAYERS and all(ratio > 0 for ratio in ratios), f"at most {MAX_LAYERS} aspect ratios above 0", ratios)


AnchorRule = ScaledAnchors | OctaveAnchors | tuple[AnchorLayer, ...]


@lru_cache(maxsize=8)
def make_anchors(rule: AnchorRule, input_wh: tuple[int, int]) -> FloatArray:
    """Return (N, 4) cxcywh in shares of the input, layer by layer, cells row by row, boxes of a cell in the rule's order. Read only."""
    if isinstance(rule, ScaledAnchors):
        parts = _scaled(rule, input_wh)
    elif isinstance(rule, OctaveAnchors):
        parts = [_octaves(rule, level, input_wh) for level in range(rule.min_level, rule.max_level + 1)]
    else:
        parts = [_listed(layer, input_wh) for layer in rule]
    anchors = np.concatenate([np.zeros((0, 4), np.float32), *parts])
    anchors.flags.writeable = False
    return anchors


def _scaled(rule: ScaledAnchors, input_wh: tuple[int, int]) -> list[FloatArray]:
    count = len(rule.strides)
    steps = range(count)
    spread = (
        [rule.min_scale + (rule.max_scale - rule.min_scale) * i / (count - 1) for i in steps]
        if count > 1
        else [(rule.min_scale + rule.max_scale) / 2]
    )
    scales = [*(rule.scales or spread), 1.0]
    # A scale is a share of the input's shorter side, so that a square anchor is square in pixels too.
    shorter = rule.reference_size or min(input_wh)
    parts: list[FloatArray] = []
    sizes: list[tuple[float, float]] = []
    for i, stride in enumerate(rule.strides):
        sizes += [
            (1.0, 1.0) if rule.unit_size else (w * shorter / input_wh[0], h * shorter / input_wh[1]) for w, h in _sizes(rule, i, scales)
        ]
        if i + 1 < count and rule.strides[i + 1] == stride:
            continue  # the next layer has the same cells and adds its boxes to each of them
        cells_wh = _cells_wh(stride, input_wh)
        parts.append(_tile(cells_wh, (1 / cells_wh[0], 1 / cells_wh[1]), rule.offset, rule.offset, sizes))
        sizes = []
    return parts


def _sizes(rule: ScaledAnchors, layer: int, scales: list[float]) -> list[tuple[float, float]]:
    """Return width and height of a layer's boxes before any stretch."""
    scale = scales[layer]
    if layer == 0 and rule.reduce_lowest:
        shapes = [(0.1, 1.0), (scale, 2.0), (scale, 0.5)]
    else:
        shapes = [(scale, ratio) for ratio in rule.aspect_ratios]
        if rule.interpolated_aspect_ratio > 0:
            shapes.append((math.sqrt(scale * scales[layer + 1]), rule.interpolated_aspect_ratio))
    return [(size * math.sqrt(ratio), size / math.sqrt(ratio)) for size, ratio in shapes]


def _octaves(rule: OctaveAnchors, level: int, input_wh: tuple[int, int]) -> FloatArray:
    cells_wh = _cells_wh(2**level, input_wh)
    steps = [side / cells if rule.even else 2.0**level for side, cells in zip(input_wh, cells_wh, strict=True)]
    offset_x, offset_y = (0.5 if rule.even or side % 2**level == 0 else 0.0 for side in input_wh)
    scales = [rule.anchor_scale * 2 ** (i / rule.scales_per_octave) for i in range(rule.scales_per_octave)]
    if rule.order == "ratios":
        shapes = [(scale, ratio) for ratio in rule.aspect_ratios for scale in scales]
    else:
        shapes = [(scale, ratio) for scale in scales for ratio in rule.aspect_ratios]
    step_xy = (steps[0] / input_wh[0], steps[1] / input_wh[1])
    sizes = [(scale * math.sqrt(ratio) * step_xy[0], scale / math.sqrt(ratio) * step_xy[1]) for scale, ratio in shapes]
    return _tile(cells_wh, step_xy, offset_x, offset_y, sizes)


def _listed(layer: AnchorLayer, input_wh: tuple[int, int]) -> FloatArray:
    sizes = [(w / input_wh[0], h / input_wh[1]) for w, h in layer.sizes]
    cells_wh = _cells_wh(layer.stride, input_wh)
    step_xy = (1 / cells_wh[0], 1 / cells_wh[1]) if layer.even else (layer.stride / input_wh[0], layer.stride / input_wh[1])
    return _tile(cells_wh, step_xy, layer.offset, layer.offset, sizes)


def _cells_wh(stride: int, input_wh: tuple[int, int]) -> tuple[int, int]:
    return math.ceil(input_wh[0] / stride), math.ceil(input_wh[1] / stride)


def _tile(
    cells_wh: tuple[int, int], step_xy: tuple[float, float], offset_x: float, offset_y: float, sizes: list[tuple[float, float]]
) -> FloatArray:
    """Return every size at every cell, cells row by row."""
    count = cells_wh[0] * cells_wh[1] * len(sizes)
    if count > MAX_ANCHORS:
        raise CardError(f"head.anchors: wanted at most {MAX_ANCHORS} anchors a layer, found {count}")
    anchors = np.empty((cells_wh[1], cells_wh[0], len(sizes), 4), np.float32)
    anchors[..., 0] = ((np.arange(cells_wh[0]) + offset_x) * step_xy[0])[None, :, None]
    anchors[..., 1] = ((np.arange(cells_wh[1]) + offset_y) * step_xy[1])[:, None, None]
    anchors[..., 2:] = np.array(sizes, np.float32).reshape(-1, 2)
    return anchors.reshape(-1, 4)


SAME_PLACE = 1e-4
"""Shares of the input: cells are further apart, and what a file stores for one place differs by less."""
SAME_SIZE = 1e-5
"""Of a box, relative."""


def find_layers(anchors: FloatArray, input_wh: tuple[int, int]) -> tuple[AnchorLayer, ...] | None:
    """Return layers that make exactly these anchors, (N, 4) cxcywh in shares of the input; None where they lie on no grids of cells."""
    cells = _runs(np.abs(np.diff(anchors[:, :2], axis=0)).max(axis=1) > SAME_PLACE, anchors)
    if not cells:
        return None
    rows = np.array([cell[0, 1] for cell in cells])
    # A layer's cells go down the picture row by row; where the next one is higher up, the next layer begins.
    starts = [0, *(np.flatnonzero(np.diff(rows) < -SAME_PLACE) + 1), len(cells)]
    if len(starts) > MAX_LAYERS:
        return None
    layers = []
    for start, end in itertools.pairwise(starts):
        layer = _layer_of(cells[start:end], input_wh)
        if layer is None:
            return None
        layers.append(layer)
    return tuple(layers)


def _runs(breaks: NDArray[np.bool_], rows: FloatArray) -> list[FloatArray]:
    """Return the rows in the runs that `breaks`, one between each two rows, leave together."""
    return np.split(rows, np.flatnonzero(breaks) + 1) if len(rows) else []


def _layer_of(cells: list[FloatArray], input_wh: tuple[int, int]) -> AnchorLayer | None:
    """Return the layer whose cells these are, each with its boxes; None where they are none's."""
    if len({len(cell) for cell in cells}) != 1 or len(cells[0]) > MAX_LAYERS:
        return None
    boxes = np.stack(cells)  # (cells, boxes a cell, 4)
    columns = int(np.argmax(np.append(np.diff(boxes[:, 0, 1]) > SAME_PLACE, True))) + 1
    if len(cells) % columns:
        return None
    cells_wh = (columns, len(cells) // columns)
    sizes = tuple((round(float(w) * input_wh[0], 4), round(float(h) * input_wh[1], 4)) for w, h in np.median(boxes[..., 2:], axis=0))
    centre_x = float(boxes[0, 0, 0])
    apart = [(boxes[-1, 0, axis] - boxes[0, 0, axis]) * side for axis, side in enumerate(input_wh)]
    apart = [distance / (n - 1) for distance, n in zip(apart, cells_wh, strict=True) if n > 1]
    whole = round(float(apart[0])) if apart else max(input_wh)
    # Where cells are spread evenly, their distance does not tell the stride: any that gives so many cells does.
    strides = [whole, *(1 << level for level in range(MAX_LEVEL + 1)), *(-(-side // n) for side, n in zip(input_wh, cells_wh, strict=True))]
    for stride in dict.fromkeys(stride for stride in strides if 0 < stride <= MAX_STRIDE and _cells_wh(stride, input_wh) == cells_wh):
        for even, step in ((False, stride / input_wh[0]), (True, 1 / columns)):
            offset = round(centre_x / step, 4)
            if not 0 <= offset <= 1:
                continue
            layer = AnchorLayer(stride=stride, sizes=sizes, even=even, offset=offset)
            made = _listed(layer, input_wh)
            found = boxes.reshape(-1, 4)
            near = np.abs(made[:, :2] - found[:, :2]) < SAME_PLACE
            alike = np.abs(made[:, 2:] - found[:, 2:]) <= SAME_SIZE * found[:, 2:] + 1e-4 / np.array(input_wh)
            if near.all() and alike.all():
                return layer
    return None
