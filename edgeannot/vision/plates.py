"""Labels that can be read on any picture and hide little of it: where each stands, and its letters.

Labels are placed as maps place theirs: a few candidate places an object, the best object first, no two on each other (the greedy way of
Christensen, Marks and Shieber, "An empirical study of algorithms for point-feature label placement", 1995).
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from threading import Lock
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeannot.vision.data import Detections, UInt8Array

__all__ = ["Plate", "plates", "put"]

Rectangle = tuple[int, int, int, int]
"""x1, y1, x2, y2 in whole pixels, far edges exclusive."""

_FONT: Final = cv2.FONT_HERSHEY_SIMPLEX
_FONT_HEIGHT: Final = 22
"""Pixels of a capital letter of that font at scale 1."""
_FACE_LETTER: Final = 0.72
"""Height of a capital letter of OpenCV's font of all scripts, as a share of its size."""


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
    areas = np.maximum((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]), 1)
    may_hide = MOST_HIDDEN * areas
    corners = [(int(x1), int(y1), int(x2), int(y2)) for x1, y1, x2, y2 in boxes.tolist()]
    left = MOST_HIDDEN * size_wh[0] * size_wh[1]
    taken = np.zeros((len(boxes), 4))
    found: list[Plate | None] = []
    for row, box in enumerate(boxes):
        forms = _forms(labels[row], float(detections.scores[row]), size_wh)
        most = min(left, MOST_OF_PICTURE * size_wh[0] * size_wh[1])
        if (plate := _plain_choice(forms[0], row, corners, found, size_wh, most)) is not None:
            found.append(plate)
            taken[row] = plate.place
            left -= (plate.place[2] - plate.place[0]) * (plate.place[3] - plate.place[1])
            continue
        grounds = np.array([_ground(text, letter) for text, letter in forms])
        places, form = _places(box, grounds[:, 0], grounds[:, 1], size_wh)
        (width, height), sizes = grounds[:, :2].max(axis=0), grounds[form, 0] * grounds[form, 1]
        window = box + np.array([-width, -height, width, height])
        near, near_taken = np.flatnonzero(_meet(boxes, window)), taken[:row][_meet(taken[:row], window)]
        hides = _common(places, boxes[near])
        allowed = (hides <= may_hide[near]).all(axis=1) & (sizes <= most)
        if len(near_taken):
            allowed &= ~_common(places, near_taken).any(axis=1)
        if (choice := _choose(allowed, (hides / areas[near]).sum(axis=1), form)) is None:
            found.append(None)
            continue
        (text, letter), (_, _, pad, above) = forms[form[choice]], grounds[form[choice]].tolist()
        x1, y1, x2, y2 = map(int, places[choice])
        found.append(Plate(text, (x1, y1, x2, y2), (x1 + pad, y1 + above), letter))
        taken[row] = places[choice]
        may_hide[near] -= hides[choice]
        left -= sizes[choice]
    return found


def _plain_choice(
    form: tuple[str, int], row: int, boxes: Sequence[Rectangle], found: Sequence[Plate | None], size_wh: tuple[int, int], most: float
) -> Plate | None:
    """Return the label on the left end of its box, where nothing is: `_choose` would choose the same, with ten times the work."""
    width, height, pad, above = _ground(*form)
    left, bottom = min(max(boxes[row][0], 0), max(size_wh[0] - width, 0)), boxes[row][1]
    place = left, bottom - height, left + width, bottom
    if place[1] < 0 or place[2] > size_wh[0] or width * height > most or any(_overlap(place, box) for box in boxes):
        return None
    if any(other is not None and _overlap(place, other.place) for other in found):
        return None
    return Plate(form[0], place, (left + pad, place[1] + above), form[1])


def _overlap(one: Rectangle, other: Rectangle) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _choose(allowed: NDArray[np.bool_], shares: NDArray[np.float64], form: NDArray[np.int64]) -> int | None:
    """Return the number of the best place: of the first form that hides little somewhere, else the one that hides least.

    shares: of objects that each place hides, summed up. form: of each place, from the best form on.
    """
    numbers = np.flatnonzero(allowed)
    if not len(numbers):
        return None
    shares, form = shares[numbers], form[numbers]
    costs = shares + BESIDE * (shares > 0)
    little = shares <= LITTLE_HIDDEN
    if little.any():
        costs = np.where(form == form[np.argmax(little)], costs, np.inf)
    return int(numbers[np.argmin(np.minimum(costs * 100, 1e6).astype(np.int64))])  # where costs are alike, the first


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


def _forms(label: str, score: float, size_wh: tuple[int, int]) -> list[tuple[str, int]]:
    """Return texts with the height of their letters, the best first: a 45th of the picture, then smaller, without the score, and both."""
    side = math.sqrt(size_wh[0] * size_wh[1])
    letter = max(SMALLEST_LETTER, min(9, round(side / 12)), round(side / 45))
    small = max(SMALLEST_LETTER, round(letter * 0.75))
    name = _drawable(label)
    return [(_cut(text, size, size_wh[0]), size) for text in (f"{name} {score:.2f}", name) for size in (letter, small)]


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


_COLUMNS: Final = np.array([(1, 0, 0), (0, 1, -1), (0.5, 0.5, -0.5), (0, 1, 0), (1, 0, -1)])
"""Left ends of a label in x1, x2 of the box and the label's width: from its left, to its right, in its middle; behind it, before it."""
_ROWS: Final = np.array([(1, 0, -1), *((1, 0, row) for row in range(MOST_ROWS)), (0, 1, 0), (0, 1, -1)])
"""Upper ends in y1, y2 of the box and the label's height: on it, rows in it, below it, its last row."""
_INSIDE = [(0, 1 + row) for row in range(MOST_ROWS)]
_PLACES: Final = np.array([(0, 0), (1, 0), (2, 0), *_INSIDE, (1, 1), (0, -2), (1, -2), (2, -2), (3, 1), (4, 1), (3, -1), (4, -1)])
"""Columns and rows of places, those that look best first: on the box, inside, below, beside it."""


def _places(
    box: NDArray[np.float64], widths: NDArray[np.int64], heights: NDArray[np.int64], size_wh: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return places (N, 4) in the picture for labels of these sizes, and for each which of them; those of the first one first."""
    x1, y1, x2, y2 = box
    lefts = np.floor(_COLUMNS[:, :2] @ (x1, x2) + widths[:, None] * _COLUMNS[:, 2])
    lefts[:, :3] = np.clip(lefts[:, :3], 0, np.maximum(size_wh[0] - widths, 0)[:, None])
    tops = _ROWS[:, :2] @ (y1, y2) + heights[:, None] * _ROWS[:, 2]
    left, top = lefts[:, _PLACES[:, 0]], tops[:, _PLACES[:, 1]]
    right, bottom = left + widths[:, None], top + heights[:, None]
    fits = (left >= 0) & (top >= 0) & (right <= size_wh[0]) & (bottom <= size_wh[1])
    inside = (_PLACES[:, 1] > 1) & (_PLACES[:, 1] <= MOST_ROWS)
    fits &= ~inside | (bottom <= y2)
    return np.stack([left, top, right, bottom], axis=-1)[fits], np.nonzero(fits)[0]


def _meet(some: NDArray[np.float64], one: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which boxes have pixels in common with one."""
    x1, y1, x2, y2 = one
    return np.asarray((some[:, 0] < x2) & (some[:, 2] > x1) & (some[:, 1] < y2) & (some[:, 3] > y1))


def _common(some: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the area (len(some), len(others)) that each of some has in common with each of others."""
    width = np.minimum(some[:, 2:3], others[:, 2]) - np.maximum(some[:, 0:1], others[:, 0])
    height = np.minimum(some[:, 3:4], others[:, 3]) - np.maximum(some[:, 1:2], others[:, 1])
    return np.asarray(np.maximum(width, 0) * np.maximum(height, 0))


# -- letters ---------------------------------------------------------------------------------------------------------------------


_ONE_AT_A_TIME: Final = Lock()
"""A face keeps glyphs, and several threads draw: results, answers to commands."""


@cache
def _face() -> Any:
    """Return OpenCV's own font of all scripts, which OpenCV has from 5.0 on; None without it. Its first use takes some 50 ms."""
    face = cv2.FontFace("uni") if hasattr(cv2, "FontFace") else None
    return face if face is not None and face.getName() == "uni" else None


@lru_cache(maxsize=4096)
def _text_width(text: str, letter: int) -> int:
    if (face := _face()) is not None:
        with _ONE_AT_A_TIME:
            return int(cv2.getTextSize((0, 0), text, (0, 0), face, round(letter / _FACE_LETTER))[2])
    scale = letter / _FONT_HEIGHT
    return int(cv2.getTextSize(text, _FONT, scale, _stroke(scale))[0][0])


def put(canvas: UInt8Array, plate: Plate, color: tuple[int, int, int]) -> None:
    """Write the label's text, without its ground, into a BGR picture (H, W, 3)."""
    if (face := _face()) is not None:
        with _ONE_AT_A_TIME:
            cv2.putText(canvas, plate.text, plate.origin, color, face, round(plate.letter / _FACE_LETTER))
    else:
        scale = plate.letter / _FONT_HEIGHT
        cv2.putText(canvas, plate.text, plate.origin, _FONT, scale, color, _stroke(scale), cv2.LINE_AA)


def _stroke(scale: float) -> int:
    return max(1, round(scale * 1.6))


def _drawable(text: str) -> str:
    """Return the label in characters that the font has. Without OpenCV's font of all scripts accents are taken off."""
    if text.isascii() and text.isprintable():
        return text
    if _face() is None:
        text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return "".join(c if c.isprintable() and (c.isascii() or _face() is not None) else "?" for c in text)
