"""From decoded box numbers to detections in model pixels."""

from __future__ import annotations

from typing import Literal

import numpy as np

from edgeannot.vision.data import Detections, FloatArray, IntArray
from edgeannot.vision.geometry import cxcywh_to_xyxy, yxyx_to_xyxy

__all__ = ["BoxForm", "BoxUnits", "candidates", "concatenate", "safe_exp", "to_model_pixels", "upright"]

BoxForm = Literal["cxcywh", "xyxy", "yxyx", "cycxhw"]
BoxUnits = Literal["normalized", "pixels"]

_FAR = 1e6
"""Pixels; what lies farther out is as good as there, and areas stay well inside of float32."""
_FEW = 64
"""Candidates that Python looks through sooner than numpy."""


def safe_exp(x: FloatArray) -> FloatArray:
    """Return exp(x) for box sizes: an argument beyond 10 (22,026 anchors wide) counts as 10, so that garbage does not overflow."""
    powers = np.minimum(x, np.float32(10), dtype=np.float32)  # one far below 0 gives 0, which is no overflow
    return np.asarray(np.exp(powers, out=powers), np.float32)


def to_model_pixels(boxes: FloatArray, form: BoxForm, units: BoxUnits, input_wh: tuple[int, int]) -> FloatArray:
    """Return boxes (N, 4) of any form and unit as xyxy in model pixels."""
    if form in ("yxyx", "cycxhw"):
        boxes = yxyx_to_xyxy(boxes)
    if form in ("cxcywh", "cycxhw"):
        boxes = cxcywh_to_xyxy(boxes)
    return boxes * np.array(input_wh * 2, np.float32) if units == "normalized" else boxes


def upright(boxes_xyxy: FloatArray, angles: FloatArray) -> FloatArray:
    """Return the smallest upright boxes (N, 4) around boxes (N, 4) that are turned about their centres by angles (N,), in radians."""
    middle = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / np.float32(2)
    width, height = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).T
    cos, sin = np.abs(np.cos(angles)), np.abs(np.sin(angles))
    half = np.stack([width * cos + height * sin, width * sin + height * cos], axis=1) / np.float32(2)
    return np.concatenate([middle - half, middle + half], axis=1).astype(np.float32)


def candidates(boxes_xyxy: FloatArray, scores: FloatArray, classes: IntArray, min_score: float) -> Detections:
    """Return detections of the rows that reach `min_score`, less those whose box or score is not finite or whose box has no area.

    Scores end at 1: where a graph's own scores are quantized, the greatest stored number may stand for more.
    """
    if not len(scores):
        return Detections.empty()
    if len(scores) <= _FEW:  # as a rule nothing is to be changed, and Python sees that of few sooner than numpy
        least = float(np.float32(min_score))
        rows = zip(boxes_xyxy.tolist(), scores.tolist(), strict=True)
        if all(
            -_FAR <= left < right <= _FAR and -_FAR <= top < bottom <= _FAR and least <= score <= 1
            for (left, top, right, bottom), score in rows
        ):
            real = boxes_xyxy.astype(np.float32, copy=False), scores.astype(np.float32, copy=False)
            return Detections(*real, classes.astype(np.int64, copy=False))
    boxes = np.clip(boxes_xyxy, np.float32(-_FAR), np.float32(_FAR))
    keep = np.isfinite(boxes_xyxy).all(axis=1) & np.isfinite(scores) & (scores >= np.float32(min_score))
    keep &= (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return Detections(boxes[keep].astype(np.float32), np.minimum(scores[keep], 1).astype(np.float32), classes[keep].astype(np.int64))


def concatenate(parts: list[Detections]) -> Detections:
    """Return the rows of all parts, in order; none gives the empty Detections."""
    if not parts:
        return Detections.empty()
    if len(parts) == 1:
        return parts[0]
    return Detections(
        np.concatenate([p.boxes for p in parts]), np.concatenate([p.scores for p in parts]), np.concatenate([p.classes for p in parts])
    )
