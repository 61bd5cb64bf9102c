"""Views of a labelled picture on the network's square input: the one that the daemon sees, and changed ones to learn from.

A view is BGR bytes with its boxes in pixels of the input. The unchanged view is the daemon's letterbox (or stretched, where the
backbone's own classes are kept); the others are as
often a part of the picture as the whole with a wide margin.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeannot.vision.data import FloatArray, IntArray, UInt8Array
from edgeannot.vision.geometry import Resize, areas, clip, place

__all__ = ["PAD", "ZOOM", "Boxes", "View", "changed_view", "whole_boxes", "whole_view"]

PAD = 114
"""The byte around a picture, in views as in the card of the taught model."""
ZOOM = (0.6, 1.6)
"""Of the scale with which the whole picture just fits; drawn log-uniformly."""
ASPECT = 0.15
"""Width over height changes by up to the exponential of twice this."""
CONTRAST = (0.75, 1.25)
BRIGHTNESS = 25.0
"""Bytes, in both directions."""
SATURATION = (0.6, 1.4)
VISIBLE = 0.35
"""An object of which less is left in the view is not taught there."""
GRAY = np.full((3, 3), 1 / 3)
"""Every channel becomes the mean of all."""


@dataclass(frozen=True, slots=True)
class Boxes:
    """What is marked in a view, in pixels of the input."""

    boxes: FloatArray
    """(N, 4) xyxy; a box may reach over the view's edge, where the object does."""
    classes: IntArray
    """(N,)"""
    unsure: FloatArray
    """(M, 4) xyxy: crowds and what is hard to see. Cells in them are taught neither as object nor as background."""

    def moved(self, scale_xy: tuple[float, float], shift_xy: tuple[float, float]) -> Boxes:
        """Return the boxes scaled, then shifted."""
        scale, shift = np.array(scale_xy * 2, np.float32), np.array(shift_xy * 2, np.float32)
        return Boxes(self.boxes * scale + shift, self.classes, self.unsure * scale + shift)

    def flipped(self, size: int) -> Boxes:
        """Return the boxes of the view seen in a mirror."""
        return Boxes(_mirrored(self.boxes, size), self.classes, _mirrored(self.unsure, size))

    def visible(self, size: int) -> Boxes:
        """Return the boxes of which enough lies in the view."""
        kept = areas(clip(self.boxes, (size, size))) > VISIBLE * areas(self.boxes)
        return Boxes(self.boxes[kept], self.classes[kept], self.unsure)


@dataclass(frozen=True, slots=True)
class View:
    """Pixels for the network, with what is marked in them."""

    image: UInt8Array
    """(S, S, 3) BGR."""
    marked: Boxes


def whole_view(image_bgr: UInt8Array, marked: Boxes, size: int, resize: Resize = "letterbox") -> View:
    """Return the picture as the daemon lays it on the input, not cropped. marked: in pixels of the picture."""
    height, width = image_bgr.shape[:2]
    fit, inner_wh = place((width, height), (size, size), resize)
    left, top = fit.pad_xy
    canvas = np.full((size, size, 3), PAD, np.uint8)
    canvas[top : top + inner_wh[1], left : left + inner_wh[0]] = cv2.resize(image_bgr, inner_wh, interpolation=cv2.INTER_LINEAR)
    return View(canvas, marked.moved(fit.scale_xy, fit.pad_xy))


def whole_boxes(marked: Boxes, size_wh: tuple[int, int], size: int, resize: Resize = "letterbox") -> FloatArray:
    """Return (N, 4) the boxes of a picture of this size as `whole_view` shows them."""
    fit, _ = place(size_wh, (size, size), resize)
    return marked.moved(fit.scale_xy, fit.pad_xy).boxes


def changed_view(image_bgr: UInt8Array, marked: Boxes, size: int, rng: np.random.Generator, resize: Resize = "letterbox") -> View:
    """Return the picture at a random scale, shape and place, perhaps mirrored, in another light."""
    height, width = image_bgr.shape[:2]
    fit, _ = place((width, height), (size, size), resize)
    zoom = float(np.exp(rng.uniform(*np.log(ZOOM))))
    aspect = float(np.exp(rng.uniform(-ASPECT, ASPECT)))
    scale_xy = (fit.scale_xy[0] * zoom * aspect, fit.scale_xy[1] * zoom / aspect)
    room = np.array([size - width * scale_xy[0], size - height * scale_xy[1]])
    x, y = rng.uniform(np.minimum(room, 0), np.maximum(room, 0))
    matrix = np.array([[scale_xy[0], 0, x], [0, scale_xy[1], y]])
    pixels = cv2.warpAffine(image_bgr, matrix, (size, size), flags=cv2.INTER_LINEAR, borderValue=(PAD,) * 3)
    marked = marked.moved(scale_xy, (float(x), float(y)))
    if rng.random() < 0.5:
        pixels, marked = cv2.flip(pixels, 1), marked.flipped(size)
    return View(cv2.transform(pixels, _light(rng)).reshape(size, size, 3).astype(np.uint8), marked.visible(size))


def _light(rng: np.random.Generator) -> NDArray[np.float64]:
    """Return (3, 4): contrast about the pad's gray, brightness, then saturation, as one product of a pixel's channels."""
    contrast, brightness, saturation = rng.uniform(*CONTRAST), rng.uniform(-BRIGHTNESS, BRIGHTNESS), rng.uniform(*SATURATION)
    colours = contrast * (saturation * np.eye(3) + (1 - saturation) * GRAY)
    return np.asarray(np.c_[colours, np.full(3, PAD * (1 - contrast) + brightness)])


def _mirrored(boxes: FloatArray, size: int) -> FloatArray:
    return np.stack([size - boxes[:, 2], boxes[:, 1], size - boxes[:, 0], boxes[:, 3]], axis=1).astype(np.float32)
