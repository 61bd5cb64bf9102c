"""A sheet of the worst misses: what a model overlooked (largest first) beside what it imagined (surest first), cut out of the pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

from edgeannot.vision.data import UInt8Array
from edgeannot.vision.decode import read_picture
from edgeannot.vision.geometry import iou_matrix
from edgeannot_tools.evaluate.average_precision import find_misses
from edgeannot_tools.evaluate.measure import Compared, Result
from edgeannot_tools.output import write_whole

__all__ = ["Miss", "save_sheet", "worst_misses"]

_TILE_WH = (300, 225)
_CAPTION_PX = 40
_COLUMNS = 4
_MARGIN = 0.6
"""How much of the box's own size is shown around it, on each side."""
_HIT, _NEAR = 0.5, 0.1
"""Overlaps from which on a box is on an object, and near it."""
_GREEN, _RED, _GRAY, _WHITE = (80, 220, 80), (60, 60, 240), (40, 40, 40), (235, 235, 235)
"""BGR: what was marked, what was found, the ground, letters."""


@dataclass(frozen=True, slots=True)
class Miss:
    """One thing that went wrong in a picture."""

    item: Compared
    box: tuple[float, float, float, float]
    caption: str
    weight: float
    """For an object that was overlooked its share of the picture, for an imagined one its score."""


def worst_misses(result: Result, class_names: Sequence[str], limit: int) -> list[Miss]:
    """Overlooked and imagined objects in turn, the worst of each first, at the score that suits the model best."""
    overlooked: list[Miss] = []
    imagined: list[Miss] = []
    for item in result.compared:
        width, height = item.picture.size_wh
        missed, wrong = find_misses(item.truth, item.found, result.accuracy.best_score)
        for row in missed:
            box = _corners(item.truth.boxes[row])
            share = (box[2] - box[0]) * (box[3] - box[1]) / (width * height)
            name = class_names[int(item.truth.classes[row])]
            overlooked.append(Miss(item, box, f"overlooked: {name} ({share:.0%} of picture)", share))
        for row in wrong:
            name, score = class_names[int(item.found.classes[row])], float(item.found.scores[row])
            why = _why(item, row, class_names)
            imagined.append(Miss(item, _corners(item.found.boxes[row]), f"wrong: {name} {score:.2f}{why}", score))
    ranked = (sorted(misses, key=lambda miss: -miss.weight) for misses in (overlooked, imagined))
    return [miss for miss in chain.from_iterable(zip_longest(*ranked)) if miss is not None][:limit]


def _corners(box: NDArray[Any]) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = (float(value) for value in box)
    return x1, y1, x2, y2


def _why(item: Compared, row: int, class_names: Sequence[str]) -> str:
    """What is marked where the model found something else, as far as that tells."""
    if not len(item.truth.boxes):
        return ""
    overlaps = iou_matrix(item.found.boxes[row : row + 1], item.truth.boxes.astype(np.float32))[0]
    same = item.truth.classes == item.found.classes[row]
    if overlaps[same].max(initial=0.0) >= _HIT:
        return ", found twice"
    if overlaps.max() >= _HIT:
        return f", marked as {class_names[int(item.truth.classes[int(overlaps.argmax())])]}"
    if overlaps[same].max(initial=0.0) >= _NEAR:
        return f", misplaced (IoU {overlaps[same].max():.2f})"
    return ""


def save_sheet(result: Result, class_names: Sequence[str], path: Path, limit: int = 24) -> int:
    """Write the sheet as a PNG; the number of misses on it. Green: marked by a person; red: found by the model."""
    misses = worst_misses(result, class_names, limit)
    tiles = [_tile(miss, result.accuracy.best_score) for miss in misses]
    width, height = _TILE_WH[0], _TILE_WH[1] + _CAPTION_PX
    rows = max(1, -(-len(tiles) // _COLUMNS))
    sheet = np.full((rows * height + 30, _COLUMNS * width, 3), _GRAY, np.uint8)
    accuracy = result.accuracy
    title = (
        f"{result.model}: the worst misses from score {accuracy.best_score:.2f} on (mAP50 {accuracy.map50:.3f}); green: marked, red: found"
    )
    _write(sheet, title if tiles else f"{result.model}: no misses", (8, 20), 0.5)
    for number, tile in enumerate(tiles):
        top, left = 30 + number // _COLUMNS * height, number % _COLUMNS * width
        sheet[top : top + height, left : left + width] = tile
    encoded, data = cv2.imencode(".png", sheet)
    if not encoded:
        raise ValueError("OpenCV could not encode the sheet as PNG")
    write_whole(path, data.tobytes())
    return len(tiles)


def _tile(miss: Miss, score: float) -> UInt8Array:
    """The part of the picture around the miss with every box in it, and what went wrong below."""
    path = miss.item.picture.path
    if path is None:
        raise ValueError(f"picture {miss.item.picture.name} has no file")
    image = read_picture(path).image
    left, top, right, bottom = _around(miss.box, miss.item.picture.size_wh)
    scale = min(_TILE_WH[0] / (right - left), _TILE_WH[1] / (bottom - top))
    inner = (max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale)))
    cut = cv2.resize(image[top:bottom, left:right], inner, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    found = miss.item.found[miss.item.found.scores >= score]
    for boxes, color in ((miss.item.truth.boxes, _GREEN), (found.boxes, _RED)):
        for box in boxes:
            _box(cut, [(float(box[i]) - (left, top)[i % 2]) * scale for i in range(4)], color, 1)
    own = _RED if miss.caption.startswith("wrong") else _GREEN
    _box(cut, [(miss.box[i] - (left, top)[i % 2]) * scale for i in range(4)], own, 3)
    tile = np.full((_TILE_WH[1] + _CAPTION_PX, _TILE_WH[0], 3), _GRAY, np.uint8)
    x, y = (_TILE_WH[0] - inner[0]) // 2, (_TILE_WH[1] - inner[1]) // 2
    tile[y : y + inner[1], x : x + inner[0]] = cut
    _write(tile, miss.caption, (4, _TILE_WH[1] + 15), 0.45)
    _write(tile, miss.item.picture.name[-44:], (4, _TILE_WH[1] + 33), 0.38)
    return tile


def _around(box: tuple[float, float, float, float], size_wh: tuple[int, int]) -> tuple[int, int, int, int]:
    """Whole pixels of the picture around a box: at least a tenth of the picture, at most all of it."""
    x1, y1, x2, y2 = box
    width, height = size_wh
    pad_x, pad_y = max((x2 - x1) * _MARGIN, width * 0.05), max((y2 - y1) * _MARGIN, height * 0.05)
    left, top = max(0, int(x1 - pad_x)), max(0, int(y1 - pad_y))
    return left, top, min(width, max(left + 1, int(x2 + pad_x) + 1)), min(height, max(top + 1, int(y2 + pad_y) + 1))


def _box(image: MatLike, box: Sequence[float], color: tuple[int, int, int], thickness: int) -> None:
    x1, y1, x2, y2 = (round(value) for value in box)
    cv2.rectangle(image, (x1, y1), (x2 - 1, y2 - 1), color, thickness, cv2.LINE_AA)


def _write(image: UInt8Array, text: str, at: tuple[int, int], size: float) -> None:
    # OpenCV's own letters are ASCII; other letters become question marks.
    plain = text.encode("ascii", "replace").decode()
    cv2.putText(image, plain, at, cv2.FONT_HERSHEY_SIMPLEX, size, _WHITE, 1, cv2.LINE_AA)
