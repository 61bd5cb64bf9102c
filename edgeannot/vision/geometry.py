"""Box arithmetic: letterbox placement, box formats, overlap, non-maximum suppression. Pure numpy, nothing else.

Boxes are (N, 4) float32. `xyxy` is left, top, right, bottom; `yxyx` swaps the axes; `cxcywh` is centre and size.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgeannot.vision.data import Fit, FloatArray, IntArray

__all__ = [
    "PAD",
    "Resize",
    "areas",
    "clip",
    "cxcywh_to_xyxy",
    "iou_matrix",
    "nms",
    "place",
    "xyxy_to_cxcywh",
    "yxyx_to_xyxy",
]

Resize = Literal["stretch", "letterbox", "letterbox-top-left", "crop"]
"""How a picture is brought to the model's input size: each axis by itself, or one scale for both and a pad around or after.

crop: the middle of it, as large as the input's proportions allow; the model sees nothing of what is beside it.
"""

PAD = 114
"""The byte that fills what a letterbox leaves free, unless a model's card says another: that of YOLOv5 and its kin."""

_CHUNK, _BLOCK = 1024, 64
"""Candidates among which `nms` looks for what is covered, and the best of them that it compares with each other and then with the rest: of
300 round few objects most are gone after the first block."""
_FEW = 32
"""Candidates that Python compares with those kept: with 17 kept of 32 as quick as numpy, with fewer quicker."""
_LATER = np.triu(np.ones((_BLOCK, _BLOCK), bool), k=1)


@lru_cache(maxsize=32)
def place(frame_wh: tuple[int, int], model_wh: tuple[int, int], resize: Resize) -> tuple[Fit, tuple[int, int]]:
    """Return how a picture of `frame_wh` lies on an input of `model_wh`, and the size there of what is seen of it, without the pad.

    An odd pad leaves its extra pixel to the right or below.

    >>> fit, inner_wh = place((640, 480), (320, 320), "letterbox")
    >>> fit.scale_xy, fit.pad_xy, inner_wh
    ((0.5, 0.5), (0, 40), (320, 240))
    """
    (frame_w, frame_h), (model_w, model_h) = frame_wh, model_wh
    if min(frame_w, frame_h, model_w, model_h) < 1:
        raise ValueError(f"wanted sizes of at least one pixel, found frame {frame_wh} and model {model_wh}")
    if resize == "stretch":
        return Fit(frame_wh, model_wh, (model_w / frame_w, model_h / frame_h), (0, 0)), model_wh
    if resize == "crop":
        # As much on either side, so that a pixel more may stay than the proportions ask for.
        cut_x = max((frame_w * model_h - frame_h * model_w) // (2 * model_h), 0)
        cut_y = max((frame_h * model_w - frame_w * model_h) // (2 * model_w), 0)
        scale_xy = (model_w / (frame_w - 2 * cut_x), model_h / (frame_h - 2 * cut_y))
        return Fit(frame_wh, model_wh, scale_xy, (0, 0), (cut_x, cut_y)), model_wh
    ratio = min(model_w / frame_w, model_h / frame_h)
    # A very long picture keeps at least one pixel on its short axis; rounding must not pass the input's edge.
    inner_w = min(max(int(frame_w * ratio + 0.5), 1), model_w)
    inner_h = min(max(int(frame_h * ratio + 0.5), 1), model_h)
    pad_xy = (0, 0) if resize == "letterbox-top-left" else ((model_w - inner_w) // 2, (model_h - inner_h) // 2)
    return Fit(frame_wh, model_wh, (inner_w / frame_w, inner_h / frame_h), pad_xy), (inner_w, inner_h)


def cxcywh_to_xyxy(boxes: FloatArray) -> FloatArray:
    """Return centre x, y, width, height as left, top, right, bottom."""
    centers, half = boxes[:, :2], boxes[:, 2:4] * np.float32(0.5)
    corners = np.empty((len(boxes), 4), half.dtype)
    np.subtract(centers, half, out=corners[:, :2])
    np.add(centers, half, out=corners[:, 2:])
    return corners


def xyxy_to_cxcywh(boxes: FloatArray) -> FloatArray:
    """Return left, top, right, bottom as centre x, y, width, height."""
    return np.concatenate([(boxes[:, :2] + boxes[:, 2:4]) * np.float32(0.5), boxes[:, 2:4] - boxes[:, :2]], axis=1)


def yxyx_to_xyxy(boxes: FloatArray) -> FloatArray:
    """Return top, left, bottom, right as left, top, right, bottom (and the other way round)."""
    return boxes[:, [1, 0, 3, 2]]


def clip(boxes_xyxy: FloatArray, size_wh: tuple[int, int]) -> FloatArray:
    """Return the parts of the boxes inside of a picture of that size; a box wholly outside becomes one without area on its edge."""
    inside = np.minimum(boxes_xyxy, np.array(size_wh * 2, np.float32))
    return np.maximum(inside, np.float32(0), out=inside)


def areas(boxes_xyxy: FloatArray) -> FloatArray:
    """Return (N,) areas; 0 where a box is inside out."""
    sides = np.maximum(boxes_xyxy[:, 2:4] - boxes_xyxy[:, :2], np.float32(0))
    return np.asarray(sides[:, 0] * sides[:, 1], np.float32)


def iou_matrix(a_xyxy: FloatArray, b_xyxy: FloatArray) -> FloatArray:
    """Return (N, M) intersection over union of N and M boxes; 0 for two boxes without area.

    >>> iou_matrix(np.array([[0, 0, 2, 2]], np.float32), np.array([[1, 0, 3, 2], [5, 5, 6, 6]], np.float32)).round(3).tolist()
    [[0.3330000042915344, 0.0]]
    """
    shared = _intersections(a_xyxy, b_xyxy)
    union = areas(a_xyxy)[:, None] + areas(b_xyxy)[None, :] - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0), np.float32)


def nms(boxes_xyxy: FloatArray, scores: FloatArray, classes: IntArray, iou: float, limit: int | None = None) -> IntArray:
    """Return kept row indices, best score first; of equal scores the earlier row counts as the better one.

    boxes: (N, 4) finite, in one pixel space; scores and classes: (N,). A box goes when it overlaps a kept, better box of its own
    class by *more* than `iou`. At most `limit` rows are kept, which saves time. N = 0 gives an empty array.
    Greedy suppression as in Felzenszwalb et al., https://doi.org/10.1109/TPAMI.2009.167, section 6.2
    """
    if len(scores) <= _FEW:
        return _suppress_few(boxes_xyxy, scores, classes, iou, limit)
    order = np.argsort(-scores, kind="stable").astype(np.int64)
    room = len(order) if limit is None else limit
    if len(order) <= _CHUNK or room <= _CHUNK // 4:
        return _suppress(boxes_xyxy, classes, order, iou, room)
    # Many candidates and many to keep: class by class, so that boxes of different classes are never compared.
    groups = [order[classes[order] == c] for c in np.unique(classes)]
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    kept = np.concatenate([_suppress(boxes_xyxy, classes, group, iou, room) for group in groups])
    return kept[np.argsort(rank[kept])][:room]


def _suppress_few(boxes: FloatArray, scores: FloatArray, classes: IntArray, iou: float, limit: int | None) -> IntArray:
    """Return what `nms` does, in Python, where calls of numpy would cost more than the arithmetic."""
    values, kinds, sides = scores.tolist(), classes.tolist(), boxes.tolist()
    kept: list[int] = []
    for row in sorted(range(len(values)), key=values.__getitem__, reverse=True):
        left, top, right, bottom = sides[row]
        for better in kept:
            if kinds[better] != kinds[row]:
                continue
            left_2, top_2, right_2, bottom_2 = sides[better]
            width, height = min(right, right_2) - max(left, left_2), min(bottom, bottom_2) - max(top, top_2)
            if width <= 0 or height <= 0:
                continue
            shared, one, other = width * height, (right - left) * (bottom - top), (right_2 - left_2) * (bottom_2 - top_2)
            if shared > iou * (one + other - shared):
                break
        else:
            kept.append(row)
    return np.array(kept[:limit], np.int64)


def _suppress(boxes: FloatArray, classes: IntArray, order: IntArray, iou: float, room: int) -> IntArray:
    """Return the first `room` rows of `order` that no earlier kept row covers."""
    boxes, classes = np.asfortranarray(boxes[order]), classes[order]
    kept: list[IntArray] = []
    for start in range(0, len(order), _CHUNK):
        left = np.arange(start, min(start + _CHUNK, len(order)))
        for better in kept:
            left = left[~_covers(boxes, classes, better, left, iou).any(axis=0)]
        while len(left) and room > 0:
            block, left = left[:_BLOCK], left[_BLOCK:]
            covers = _covers(boxes, classes, block, block, iou) & _LATER[: len(block), : len(block)]
            alive = np.ones(len(block), bool)
            # Only rows that cover a later one can change anything, so the loop is short where boxes lie apart.
            for row in np.flatnonzero(covers.any(axis=1)):
                if alive[row]:
                    alive &= ~covers[row]
            block = block[alive][:room]
            kept.append(block)
            room -= len(block)
            if len(left):
                left = left[~_covers(boxes, classes, block, left, iou).any(axis=0)]
    return order[np.concatenate(kept)] if kept else order[:0]


def _covers(boxes: FloatArray, classes: IntArray, better: IntArray, worse: IntArray, iou: float) -> NDArray[np.bool_]:
    """Return (N, M) whether a better row's box and a worse one's are of one class and overlap by more than `iou`."""
    a, b = np.asfortranarray(boxes[better]), np.asfortranarray(boxes[worse])
    shared = _intersections(a, b)
    union = areas(a)[:, None] + areas(b)[None, :]
    union -= shared
    union *= np.float32(iou)
    covered: NDArray[np.bool_] = shared > union
    covered &= classes[better][:, None] == classes[worse][None, :]
    return covered


def _intersections(a: FloatArray, b: FloatArray) -> NDArray[Any]:
    """Return (N, M) shared areas. Column by column, because numpy is several times faster on long rows than on pairs of numbers."""
    width = np.minimum(a[:, 2, None], b[None, :, 2]) - np.maximum(a[:, 0, None], b[None, :, 0])
    height = np.minimum(a[:, 3, None], b[None, :, 3]) - np.maximum(a[:, 1, None], b[None, :, 1])
    return np.asarray(np.maximum(width, 0, out=width) * np.maximum(height, 0, out=height))
