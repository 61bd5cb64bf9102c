"""Drawing what was found: boxes, and labels that can be read on any picture. OpenCV only."""

from __future__ import annotations

import colorsys
import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeannot.vision.data import Annotation, Detections, UInt8Array

__all__ = ["annotated_jpeg", "class_color", "draw"]

Rectangle = tuple[int, int, int, int]
"""x1, y1, x2, y2 in whole pixels, far edges exclusive."""

_FONT: Final = cv2.FONT_HERSHEY_SIMPLEX
_FONT_HEIGHT: Final = 22
"""Pixels of a capital letter of that font at scale 1."""
_JPEG_MAX_SIDE: Final = 65_500
"""Pixels; libjpeg's own limit, a little below that of the format."""
_GOLDEN: Final = 0.6180339887498949
"""Steps of this part of the colour circle never come back near an earlier one soon."""


def draw(image: UInt8Array, detections: Detections, labels: Sequence[str]) -> UInt8Array:
    """Return a new BGR picture with a box and a label for each detection, the best on top; `image` stays as it is.

    Lines and letters grow with the picture. A label sits on its box, or near where there is no room, and is moved and shrunk so
    that it stays in the picture.
    """
    canvas = image.copy()
    height, width = canvas.shape[:2]
    thickness = max(1, round(math.sqrt(width * height) / 300))
    for row in reversed(range(len(detections))):
        _box(canvas, detections.boxes[row].tolist(), class_color(int(detections.classes[row])), thickness)
    taken: list[Rectangle] = []
    plates = []
    for row in range(len(detections)):  # the best choose their place first, and are drawn last
        plate = _plate(f"{_ascii(labels[row])} {detections.scores[row]:.2f}", detections.boxes[row].tolist(), (width, height), taken)
        taken.append(plate.place)
        plates.append((plate, class_color(int(detections.classes[row]))))
    for plate, color in reversed(plates):
        _write(canvas, plate, color)
    return canvas


def annotated_jpeg(annotation: Annotation, quality: int = 90, max_side: int | None = None) -> bytes:
    """Draw the detections on the frame and return it as JPEG; first made smaller than `max_side` and what a JPEG can have."""
    image, found = annotation.frame.image, annotation.detections
    height, width = image.shape[:2]
    longest = max(height, width)
    max_side = min(max_side or _JPEG_MAX_SIDE, _JPEG_MAX_SIDE)
    size_wh = width, height
    if longest > max_side:
        size_wh = max(1, width * max_side // longest), max(1, height * max_side // longest)
        image = _bytes(cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA))
    whole = annotation.frame.size_wh
    if size_wh != whole:
        scale = np.array([size_wh[0] / whole[0], size_wh[1] / whole[1]] * 2, np.float32)
        found = Detections(found.boxes * scale, found.scores, found.classes, found.tracks)
    encoded, jpeg = cv2.imencode(".jpg", draw(image, found, annotation.labels), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not encoded:
        raise ValueError(f"OpenCV cannot make a JPEG of a picture of shape {image.shape}")
    return jpeg.tobytes()


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


@dataclass(frozen=True, slots=True)
class _Plate:
    """A label with the ground that it stands on."""

    text: str
    place: Rectangle
    origin: tuple[int, int]
    """Left end of the text's base line."""
    scale: float
    stroke: int


def _plate(text: str, box_xyxy: Sequence[float], size_wh: tuple[int, int], taken: Sequence[Rectangle]) -> _Plate:
    """Return a label's place: on the box, over a label that is there, inside or below; the first where it covers no other label."""
    scale = _text_scale(text, size_wh)
    stroke = _stroke(scale)
    (text_width, text_height), baseline = cv2.getTextSize(text, _FONT, scale, stroke)
    pad = max(2, round(text_height * 0.3))
    width, height = text_width + 2 * pad, text_height + baseline + pad
    left = min(max(round(box_xyxy[0]), 0), max(size_wh[0] - width, 0))
    on_box = left, round(box_xyxy[1]) - height, left + width, round(box_xyxy[1])
    over = min((other[1] for other in taken if _overlap(on_box, other)), default=on_box[1])
    tops = [top for top in (on_box[1], over - height, on_box[3], round(box_xyxy[3])) if 0 <= top <= size_wh[1] - height]
    places = [(left, top, left + width, top + height) for top in tops or [min(max(on_box[3], 0), max(size_wh[1] - height, 0))]]
    place = next((place for place in places if not any(_overlap(place, other) for other in taken)), places[0])
    return _Plate(text, place, (left + pad, place[1] + pad // 2 + text_height + max(1, pad // 4)), scale, stroke)


def _write(canvas: UInt8Array, plate: _Plate, color: tuple[int, int, int]) -> None:
    x1, y1, x2, y2 = plate.place
    cv2.rectangle(canvas, (x1, y1), (x2 - 1, y2 - 1), color, cv2.FILLED)
    cv2.putText(canvas, plate.text, plate.origin, _FONT, plate.scale, _readable_on(color), plate.stroke, cv2.LINE_AA)


def _overlap(one: Rectangle, other: Rectangle) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _text_scale(text: str, size_wh: tuple[int, int]) -> float:
    """Return the font's scale: letters of about a 45th of the picture, 9 pixels at least, no wider than the picture."""
    scale = max(9.0, math.sqrt(size_wh[0] * size_wh[1]) / 45) / _FONT_HEIGHT
    (text_width, _), _ = cv2.getTextSize(text, _FONT, scale, _stroke(scale))
    return float(scale * min(1.0, 0.9 * size_wh[0] / text_width))


def _stroke(scale: float) -> int:
    return max(1, round(scale * 1.6))


def _readable_on(color: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return black on a light colour, white on a dark one (ITU-R BT.601 luma)."""
    blue, green, red = color
    return (0, 0, 0) if 0.114 * blue + 0.587 * green + 0.299 * red > 120 else (255, 255, 255)


def _ascii(text: str) -> str:
    """Return the label in the characters that the font has: accents are taken off, what is left over becomes "?"."""
    base = (c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in base)


def _bytes(image: NDArray[np.generic]) -> UInt8Array:
    return np.asarray(image, np.uint8)
