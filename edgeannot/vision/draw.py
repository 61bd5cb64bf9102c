"""Drawing what was found: boxes and labels. OpenCV only."""

from __future__ import annotations

import colorsys
import math
from collections import Counter
from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np

from edgeannot.vision.data import Annotation, Detections, UInt8Array
from edgeannot.vision.plates import plates, put

__all__ = ["annotated_jpeg", "class_color", "draw", "fitted_wh", "jpeg"]

_SHADES: Final = ((0, 0.0), (255, 0.45), (0, 0.35), (255, 0.22))
"""Towards which brightness, and how far."""
_JPEG_MAX_SIDE: Final = 65_500
"""Pixels; libjpeg's own limit, a little below that of the format."""
_GOLDEN: Final = 0.6180339887498949
"""Steps of this part of the colour circle never come back near an earlier one soon."""


def draw(image: UInt8Array, detections: Detections, labels: Sequence[str] | None) -> UInt8Array:
    """Return a new BGR picture with a box for each detection, the best on top, and labels where there is room; `image` stays as it is.

    Lines and letters grow with the picture. `plates` says where labels are; None: boxes alone. Objects of one class have shades of its
    colour, tracked ones a colour each.
    """
    canvas = image.copy()
    _draw_on(canvas, detections, labels)
    return canvas


def _draw_on(canvas: UInt8Array, detections: Detections, labels: Sequence[str] | None) -> None:
    height, width = canvas.shape[:2]
    thickness = max(1, round(math.sqrt(width * height) / 300))
    colors = _shades(detections)
    for row in reversed(range(len(detections))):
        _box(canvas, detections.boxes[row].tolist(), colors[row], thickness)
    for plate, color in zip(plates(detections, labels, (width, height)), colors, strict=True) if labels is not None else ():
        if plate is not None:
            x1, y1, x2, y2 = plate.place
            cv2.rectangle(canvas, (x1, y1), (x2 - 1, y2 - 1), color, cv2.FILLED)
            put(canvas, plate, _readable_on(color))


def annotated_jpeg(annotation: Annotation, quality: int = 90, max_side: int | None = None, *, labelled: bool = True) -> bytes:
    """Draw the detections, with their labels or without, and return a JPEG; first made smaller than `max_side` and what it can have."""
    image, found = annotation.frame.image, annotation.detections
    canvas = _within(image, max_side or _JPEG_MAX_SIDE)
    if canvas is image:
        canvas = image.copy()
    size_wh, whole = canvas.shape[1::-1], annotation.frame.size_wh
    if size_wh != whole:
        scale = np.array([size_wh[0] / whole[0], size_wh[1] / whole[1]] * 2, np.float32)
        found = Detections(found.boxes * scale, found.scores, found.classes, found.tracks)
    _draw_on(canvas, found, annotation.shown_labels if labelled else None)
    return jpeg(canvas, quality)


def jpeg(image: UInt8Array, quality: int = 90) -> bytes:
    """Return a picture, (H, W, 3) uint8 BGR, as JPEG; first made smaller than what a JPEG can have."""
    encoded, data = cv2.imencode(".jpg", _within(image, _JPEG_MAX_SIDE), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not encoded:
        raise ValueError(f"OpenCV cannot make a JPEG of a picture of shape {image.shape}")
    return data.tobytes()


def fitted_wh(size_wh: tuple[int, int], max_side: int) -> tuple[int, int]:
    """Return the width and height of a picture once it is within max_side, and within what a JPEG can have."""
    (width, height), max_side = size_wh, min(max_side, _JPEG_MAX_SIDE)
    longest = max(width, height)
    return size_wh if longest <= max_side else (max(1, width * max_side // longest), max(1, height * max_side // longest))


def _within(image: UInt8Array, max_side: int) -> UInt8Array:
    size_wh = fitted_wh((image.shape[1], image.shape[0]), max_side)
    if size_wh == image.shape[1::-1]:
        return image
    half = max(image.shape[:2]) >= 2 * max(size_wh)  # below that, means of areas look the same and take five times as long
    return np.asarray(cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA if half else cv2.INTER_LINEAR), np.uint8)


def class_color(class_id: int) -> tuple[int, int, int]:
    """Return a strong BGR colour for a class: the same for ever, and unlike that of the classes near it."""
    hue = (0.08 + class_id * _GOLDEN) % 1.0
    lightness = (0.50, 0.62, 0.42)[class_id % 3]
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, 0.9)
    return round(blue * 255), round(green * 255), round(red * 255)


def _box(canvas: UInt8Array, box_xyxy: Sequence[float], color: tuple[int, int, int], thickness: int) -> None:
    """Draw a frame whose outer edge is the box, kept inside the picture, on a thin dark line that shows it on any ground."""
    height, width = canvas.shape[:2]
    inset = thickness // 2
    x1, y1, x2, y2 = box_xyxy
    near = min(max(round(x1) + inset, inset), width - 1), min(max(round(y1) + inset, inset), height - 1)
    far = max(min(round(x2) - 1 - inset, width - 1 - inset), near[0]), max(min(round(y2) - 1 - inset, height - 1 - inset), near[1])
    if thickness > 1:
        cv2.rectangle(canvas, near, far, (20, 20, 20), thickness + 2)
    cv2.rectangle(canvas, near, far, color, thickness)


def _shades(found: Detections) -> list[tuple[int, int, int]]:
    """Return a colour for each object: a tracked one's own in all pictures; else its class's, lighter and darker for further ones."""
    seen: Counter[int] = Counter()
    colors = []
    tracks = [-1] * len(found) if found.tracks is None else found.tracks.tolist()
    for class_id, track in zip(found.classes.tolist(), tracks, strict=True):
        if track >= 0:
            colors.append(class_color(track))
            continue
        toward, share = _SHADES[seen[class_id] % len(_SHADES)]
        seen[class_id] += 1
        blue, green, red = (round(part + (toward - part) * share) for part in class_color(class_id))
        colors.append((blue, green, red))
    return colors


def _readable_on(color: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return black on a light colour, white on a dark one (ITU-R BT.601 luma)."""
    blue, green, red = color
    return (0, 0, 0) if 0.114 * blue + 0.587 * green + 0.299 * red > 120 else (255, 255, 255)
