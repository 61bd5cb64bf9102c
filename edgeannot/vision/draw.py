"""Drawing what was found: boxes, and labels that can be read on any picture and hide little of it. OpenCV only.

Labels are placed as maps place theirs: a few candidate places an object, the best object first, no two on each other (the greedy way of
Christensen, Marks and Shieber, "An empirical study of algorithms for point-feature label placement", 1995).
"""

from __future__ import annotations

import colorsys
import math
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeannot.vision.data import Annotation, Detections, UInt8Array

__all__ = ["Plate", "annotated_jpeg", "class_color", "draw", "plates"]

Rectangle = tuple[int, int, int, int]
"""x1, y1, x2, y2 in whole pixels, far edges exclusive."""

_FONT: Final = cv2.FONT_HERSHEY_SIMPLEX
_FONT_HEIGHT: Final = 22
"""Pixels of a capital letter of that font at scale 1."""
_FACE_LETTER: Final = 0.72
"""Height of a capital letter of OpenCV's font of all scripts, as a share of its size."""
_SHADES: Final = ((0, 0.0), (255, 0.45), (0, 0.35), (255, 0.22))
"""Towards which brightness, and how far."""
_JPEG_MAX_SIDE: Final = 65_500
"""Pixels; libjpeg's own limit, a little below that of the format."""
_GOLDEN: Final = 0.6180339887498949
"""Steps of this part of the colour circle never come back near an earlier one soon."""


def draw(image: UInt8Array, detections: Detections, labels: Sequence[str]) -> UInt8Array:
    """Return a new BGR picture with a box for each detection, the best on top, and labels where there is room; `image` stays as it is.

    Lines and letters grow with the picture. `plates` says where labels are. Objects of one class have shades of its colour.
    """
    canvas = image.copy()
    height, width = canvas.shape[:2]
    thickness = max(1, round(math.sqrt(width * height) / 300))
    colors = _shades(detections.classes.tolist())
    for row in reversed(range(len(detections))):
        _box(canvas, detections.boxes[row].tolist(), colors[row], thickness)
    for plate, color in zip(plates(detections, labels, (width, height)), colors, strict=True):
        if plate is not None:
            x1, y1, x2, y2 = plate.place
            cv2.rectangle(canvas, (x1, y1), (x2 - 1, y2 - 1), color, cv2.FILLED)
            _put(canvas, plate, _readable_on(color))
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
class Plate:
    """A label with the ground that it stands on."""

    text: str
    place: Rectangle
    origin: tuple[int, int]
    """Left end of the text's base line."""
    letter: int
    """Height of a capital letter in pixels."""


def plates(detections: Detections, labels: Sequence[str], size_wh: tuple[int, int]) -> list[Plate | None]:
    """Return the label of each detection as it is drawn on a picture of this size; None where there is no room for one.

    Labels lie inside the picture and never on each other. All of them together hide at most a quarter of any object and of the picture.
    The best choose first. A label stands on its box, below, beside or inside of it, where it hides least; where it would hide more than
    a little of an object, it becomes smaller, loses its score, or is left out.
    """
    boxes = np.clip(detections.boxes.astype(np.float64), 0, [*size_wh, *size_wh]).round()
    areas = np.maximum(_areas(boxes), 1)
    hidden = np.zeros(len(boxes))
    left = MOST_HIDDEN * size_wh[0] * size_wh[1]
    taken = np.zeros((0, 4))
    found: list[Plate | None] = []
    for row, box in enumerate(boxes):
        best: tuple[float, Plate, NDArray[np.float64]] | None = None
        for text, letter in _forms(labels[row], float(detections.scores[row]), size_wh):
            width, height, pad, above = _ground(text, letter)
            if width * height > min(left, MOST_OF_PICTURE * size_wh[0] * size_wh[1]):
                continue
            places = _places(box, width, height, size_wh)
            places = places[~(_common(places, taken) > 0).any(axis=1)]
            hides = _common(places, boxes) / areas
            allowed = (hidden + hides <= MOST_HIDDEN).all(axis=1)
            if not allowed.any():
                continue
            places, hides = places[allowed], hides[allowed]
            costs = hides.sum(axis=1) + BESIDE * (hides * areas > 0).any(axis=1)
            choice = int(np.argmin(costs.round(2)))
            if best is None or costs[choice] < best[0]:
                x1, y1, x2, y2 = (int(n) for n in places[choice])
                best = float(costs[choice]), Plate(text, (x1, y1, x2, y2), (x1 + pad, y1 + above), letter), hides[choice]
            if hides[choice].sum() <= LITTLE_HIDDEN:
                break
        found.append(None if best is None else best[1])
        if best is not None:
            taken = np.vstack([taken, best[1].place])
            hidden += best[2]
            left -= _areas(taken[-1:])[0]
    return found


MOST_HIDDEN: Final = 0.25
"""Share of an object's box, and of the picture, that labels may hide."""
LITTLE_HIDDEN: Final = 0.05
"""The same, for which a label is not made smaller."""
BESIDE: Final = 0.03
"""What a place beside all objects may hide more than one on any of them."""
MOST_OF_PICTURE: Final = 0.12
"""Share of the picture that one label may take."""
SMALLEST_LETTER: Final = 7
"""Height of a capital letter in pixels: smaller ones cannot be read."""
MOST_ROWS: Final = 8
"""Labels below each other inside of a box."""


def _forms(label: str, score: float, size_wh: tuple[int, int]) -> Iterator[tuple[str, int]]:
    """Yield text and height of its letters, the best first: a 45th of the picture, then smaller, without the score, and both."""
    side = math.sqrt(size_wh[0] * size_wh[1])
    letter = max(SMALLEST_LETTER, min(9, round(side / 12)), round(side / 45))
    small = max(SMALLEST_LETTER, round(letter * 0.75))
    name = _drawable(label)
    for text in (f"{name} {score:.2f}", name):
        for size in (letter, small):
            yield _cut(text, size, size_wh[0]), size


def _cut(text: str, letter: int, width: int) -> str:
    """Return a text that is not wider than the picture: its beginning, with dots."""
    needed = _ground(text, letter)[0]
    while needed > width and len(text) > 3:
        text = text[: max(1, (len(text) - 2) * width // needed)] + ".."
        needed = _ground(text, letter)[0]
    return text


def _ground(text: str, letter: int) -> tuple[int, int, int, int]:
    """Return width and height of a label's ground, and where its text begins: columns from the left, the base line from above."""
    pad = max(2, letter // 3)
    below = math.ceil(letter * 0.42) + 1  # the tails of g and q
    return _text_width(text, letter) + 2 * pad, letter + pad + below, pad, letter + pad


def _places(box: NDArray[np.float64], width: int, height: int, size_wh: tuple[int, int]) -> NDArray[np.float64]:
    """Return places (N, 4) for a label in the picture, those that look best first: on the box, inside, below, beside it."""
    x1, y1, x2, y2 = (round(float(n)) for n in box)
    lefts = [min(max(left, 0), max(size_wh[0] - width, 0)) for left in (x1, x2 - width, (x1 + x2 - width) // 2)]
    rows = max(1, min((y2 - y1) // height, MOST_ROWS))
    tops = [*((left, y1 - height) for left in lefts), *((left, y1 + row * height) for left in lefts[:2] for row in range(rows))]
    tops += [*((left, y2) for left in lefts), (x2, y1), (x1 - width, y1), (x2, y2 - height), (x1 - width, y2 - height)]
    corners = np.array(tops, np.float64)
    inside = (corners >= 0).all(axis=1) & (corners[:, 0] + width <= size_wh[0]) & (corners[:, 1] + height <= size_wh[1])
    corners = corners[inside]
    return np.concatenate([corners, corners + np.array([width, height])], axis=1)


def _areas(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))


def _common(some: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the area (len(some), len(others)) that each of some has in common with each of others."""
    near = np.maximum(some[:, None, :2], others[None, :, :2])
    far = np.minimum(some[:, None, 2:], others[None, :, 2:])
    return np.asarray(np.maximum(far - near, 0).prod(axis=2))


# -- letters ---------------------------------------------------------------------------------------------------------------------


@cache
def _face() -> Any:
    """Return OpenCV's own font of all scripts, which OpenCV has from 5.0 on; None without it. Its first use takes some 50 ms."""
    face = cv2.FontFace("uni") if hasattr(cv2, "FontFace") else None
    return face if face is not None and face.getName() == "uni" else None


def _text_width(text: str, letter: int) -> int:
    if (face := _face()) is not None:
        return int(cv2.getTextSize((0, 0), text, (0, 0), face, round(letter / _FACE_LETTER))[2])
    scale = letter / _FONT_HEIGHT
    return int(cv2.getTextSize(text, _FONT, scale, _stroke(scale))[0][0])


def _put(canvas: UInt8Array, plate: Plate, color: tuple[int, int, int]) -> None:
    if (face := _face()) is not None:
        cv2.putText(canvas, plate.text, plate.origin, color, face, round(plate.letter / _FACE_LETTER))
    else:
        scale = plate.letter / _FONT_HEIGHT
        cv2.putText(canvas, plate.text, plate.origin, _FONT, scale, color, _stroke(scale), cv2.LINE_AA)


def _stroke(scale: float) -> int:
    return max(1, round(scale * 1.6))


def _drawable(text: str) -> str:
    """Return the label in characters that the font has. Without OpenCV's font of all scripts accents are taken off."""
    if _face() is None:
        text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return "".join(c if c.isprintable() and (c.isascii() or _face() is not None) else "?" for c in text)


# -- colours ---------------------------------------------------------------------------------------------------------------------


def _shades(classes: Sequence[int]) -> list[tuple[int, int, int]]:
    """Return a colour for each object: that of its class, and for further ones of the class lighter and darker ones in turn."""
    seen: Counter[int] = Counter()
    colors = []
    for class_id in classes:
        toward, share = _SHADES[seen[class_id] % len(_SHADES)]
        seen[class_id] += 1
        blue, green, red = (round(part + (toward - part) * share) for part in class_color(class_id))
        colors.append((blue, green, red))
    return colors


def _readable_on(color: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return black on a light colour, white on a dark one (ITU-R BT.601 luma)."""
    blue, green, red = color
    return (0, 0, 0) if 0.114 * blue + 0.587 * green + 0.299 * red > 120 else (255, 255, 255)


def _bytes(image: NDArray[np.generic]) -> UInt8Array:
    return np.asarray(image, np.uint8)
