"""What is printed and drawn of a taught model."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console

from edgeannot.base.foreign import number_of
from edgeannot.vision.data import IntArray, UInt8Array
from edgeannot.vision.decode import read_picture
from edgeannot_tools.output import plain_table, print_note, write_whole
from edgeannot_tools.teach.classify.teaching import Taught

__all__ = ["print_taught", "write_report"]

_PAIRS = 5
_SHOWN = 30
"""Pictures on a contact sheet."""
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


def print_taught(taught: Taught, console: Console) -> None:
    """Print the accuracy with its interval, each class, the most confused pairs, the threshold, and the warnings."""
    names, learned = taught.seen.class_names, taught.learned
    matrix = taught.confusion
    title = f"{taught.card.name}: pictures that were not learned from"
    table = plain_table(title, words=["class"], numbers=["pictures", "right"])
    table.add_column("mistaken for")
    for number, name in enumerate(names):
        row = matrix[number].copy()
        right, count = int(row[number]), int(row.sum())
        row[number] = 0
        said = f"{names[int(row.argmax())]} ({row.max()})" if row.any() else ""
        table.add_row(name, str(int((taught.seen.classes == number).sum())), f"{right / count:.3f}" if count else "-", said)
    console.print(table)
    if learned.tested.any():
        low, high = taught.interval
        tested = int(learned.tested.sum())
        console.print(f"accuracy {taught.accuracy:.3f}, with 95 % confidence {low:.3f} to {high:.3f} ({number_of(tested, 'picture')})")
    for pair in taught.confused[:_PAIRS]:
        console.print(f"  {number_of(pair.count, 'picture')} of {names[pair.shown]} taken for {names[pair.said]}")
    if taught.card.input.resize == "crop":
        console.print("it looks at the middle of a long picture, as far as that is square, and sees nothing beside it", soft_wrap=True)
    refused = "" if learned.foreign_refused is None else f", {learned.foreign_refused:.0%} of the pictures of a class that it never saw"
    console.print(
        f'below {learned.threshold:g} a picture is "none of these": {1 - learned.kept:.0%} of the right answers{refused}', soft_wrap=True
    )
    wrong = _wrong(taught)
    if len(wrong):
        first = ", ".join(str(taught.seen.paths[row]) for row in wrong[:3])
        console.print(f"{number_of(len(wrong), 'label')} may be wrong, first: {first} (--relabel CLASS PICTURE moves one)", soft_wrap=True)
    for sentence in taught.warnings():
        print_note(console, sentence)


def _wrong(taught: Taught) -> list[int]:
    """Return rows of pictures that another class fits better than their own, the least likely label first."""
    return [row for row in taught.suspicious if not taught.right[row]]


def write_report(taught: Taught, folder: Path) -> None:
    """Write confusion.png, unsure.png, suspicious.png and suspicious.csv, which lists all pictures, the least likely label first.

    Raises InputError when the folder cannot be written.
    """
    names, seen, learned = taught.seen.class_names, taught.seen, taught.learned
    write_whole(folder / "confusion.png", confusion_picture(taught.confusion, names, taught.card.name))
    best = learned.probabilities.max(axis=1)
    unsure = [int(row) for row in np.argsort(best, kind="stable") if learned.tested[row]][:_SHOWN]
    wrong = _wrong(taught)[:_SHOWN]
    said = taught.said

    def lines(row: int) -> tuple[str, str, str]:
        own, answer = names[int(seen.classes[row])], names[int(said[row])]
        return own, f"said so, {best[row]:.2f}" if own == answer else f"said: {answer} {best[row]:.2f}", seen.paths[row].name

    for file, rows, title in (
        ("unsure.png", unsure, "the pictures it is least sure of"),
        ("suspicious.png", wrong, "labels that may be wrong, the least likely first"),
    ):
        write_whole(folder / file, contact_sheet([(seen.paths[row], lines(row)) for row in rows], f"{taught.card.name}: {title}"))
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(("file", "class", "said", "probability_of_class", "probability_of_said", "may_be_wrong"))
    for row in taught.suspicious:
        own = learned.probabilities[row, seen.classes[row]]
        own_name, answer = names[int(seen.classes[row])], names[int(said[row])]
        writer.writerow((seen.paths[row], own_name, answer, f"{own:.4f}", f"{best[row]:.4f}", "no" if own_name == answer else "yes"))
    write_whole(folder / "suspicious.csv", text.getvalue())
