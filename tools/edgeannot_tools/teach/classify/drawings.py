"""Pictures of what was taught: the confusion matrix, and contact sheets. Drawn by OpenCV, so a board needs no plotting library."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from edgeannot.vision.data import IntArray, UInt8Array
from edgeannot.vision.decode import read_picture

__all__ = ["confusion_picture", "contact_sheet"]

_CELL_PX = 44
_NAME_PX, _LETTER_PX = 170, 8
"""Room for a name at most, and what a letter takes of it."""
_NAME_LETTERS = 20
_TITLE_PX = 34
_PICTURE_PX, _CAPTION_PX, _COLUMNS = 200, 52, 6
_GAP_PX = 6
"""Between two pictures, so that it is seen where one ends."""
_GROUND, _INK = (40, 40, 40), (235, 235, 235)
_RIGHT, _WRONG = np.array((70, 160, 60), np.float32), np.array((50, 60, 210), np.float32)
"""BGR of cells in which all pictures of a class are."""


def confusion_picture(matrix: IntArray, names: Sequence[str], title: str) -> bytes:
    """Return a PNG: a row for each class, a column for each answer, in each cell the number of pictures; darker where there are few."""
    count = len(names)
    room = min(_NAME_PX, 20 + _LETTER_PX * max(map(len, names)))
    side = room + count * _CELL_PX + 10
    canvas = np.full((_TITLE_PX + side, max(side, 460), 3), _GROUND, np.uint8)
    _write(canvas, f"{title}: a row a class, a column an answer", (8, 22), 0.5)
    top, left = _TITLE_PX + room, room
    upright = np.full((room, count * _CELL_PX, 3), _GROUND, np.uint8)
    turned = np.ascontiguousarray(np.rot90(upright, -1))
    for number, name in enumerate(names):
        middle = number * _CELL_PX + _CELL_PX // 2 + 5
        _write(canvas, name[:_NAME_LETTERS], (6, top + middle), 0.42)
        _write(turned, name[:_NAME_LETTERS], (6, middle), 0.42)
    canvas[_TITLE_PX : _TITLE_PX + room, left : left + count * _CELL_PX] = np.rot90(turned)
    sums = np.maximum(matrix.sum(axis=1), 1)
    for row, column in np.ndindex(count, count):
        share = float(matrix[row, column]) / float(sums[row])
        color = np.array(_GROUND, np.float32) * (1 - share) + (_RIGHT if row == column else _WRONG) * share
        y, x = top + row * _CELL_PX, left + column * _CELL_PX
        canvas[y : y + _CELL_PX - 2, x : x + _CELL_PX - 2] = np.clip(color + 12, 0, 255).astype(np.uint8)
        if matrix[row, column]:
            _write(canvas, str(int(matrix[row, column])), (x + 8, y + 27), 0.45)
    return _png(canvas)


def contact_sheet(items: Sequence[tuple[Path, Sequence[str]]], title: str) -> bytes:
    """Return a PNG with small pictures in rows, and up to three lines below each."""
    rows = max(1, -(-len(items) // _COLUMNS))
    height = _PICTURE_PX + _CAPTION_PX
    sheet = np.full((_TITLE_PX + rows * height, _COLUMNS * _PICTURE_PX, 3), _GROUND, np.uint8)
    _write(sheet, title if items else f"{title}: none", (8, 22), 0.5)
    for number, (path, lines) in enumerate(items):
        image = read_picture(path, min_side=_PICTURE_PX).image
        scale = (_PICTURE_PX - _GAP_PX) / max(image.shape[:2])
        inner = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        small = cv2.resize(image, inner, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        top, left = _TITLE_PX + number // _COLUMNS * height, number % _COLUMNS * _PICTURE_PX
        y, x = top + (_PICTURE_PX - inner[1]) // 2, left + (_PICTURE_PX - inner[0]) // 2
        sheet[y : y + inner[1], x : x + inner[0]] = small
        for line, text in enumerate(lines):
            _write(sheet, text[-27:] if line else text[:27], (left + 4, top + _PICTURE_PX + 14 + 16 * line), 0.4)
    return _png(sheet)


def _write(image: UInt8Array, text: str, at: tuple[int, int], size: float) -> None:
    # OpenCV's own letters are ASCII; other letters become question marks.
    plain = text.encode("ascii", "replace").decode()
    cv2.putText(image, plain, at, cv2.FONT_HERSHEY_SIMPLEX, size, _INK, 1, cv2.LINE_AA)


def _png(image: UInt8Array) -> bytes:
    encoded, data = cv2.imencode(".png", image)
    if not encoded:
        raise ValueError("OpenCV could not encode the picture as PNG")
    return data.tobytes()
