"""CSV: a row an object, as TensorFlow's object detection examples and many spreadsheets have it.

Columns `filename,width,height,class,xmin,ymin,xmax,ymax`, in any order and with the usual other names; pixels counted from 0, far edges
exclusive. A row without a class is a picture without objects. Written besides: `score` where a model found the objects, `split` where the
set is split, `images/[SPLIT/]`, and `classes.txt`, which keeps the class ids.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from edgeannot.base.errors import InputError
from edgeannot.base.foreign import as_float, as_int, one_line
from edgeannot_tools.datasets.by_name import NamedPicture, assemble, csv_header, csv_table, place, write_class_file
from edgeannot_tools.datasets.form import Box, Dataset, LabelledObject, Problem, Reading, ReadOptions, WriteOptions
from edgeannot_tools.datasets.pictures import files_at
from edgeannot_tools.datasets.yolo import flag_losses

__all__ = ["losses", "read", "recognise", "write"]

_NAMES: Mapping[str, tuple[str, ...]] = {
    "filename": ("filename", "file_name", "image", "image_path", "image_name", "path", "file"),
    "class": ("class", "label", "class_name", "label_name", "name", "category"),
    "xmin": ("xmin", "x_min", "x1", "left"),
    "ymin": ("ymin", "y_min", "y1", "top"),
    "xmax": ("xmax", "x_max", "x2", "right"),
    "ymax": ("ymax", "y_max", "y2", "bottom"),
    "width": ("width", "image_width", "img_width"),
    "height": ("height", "image_height", "img_height"),
    "split": ("split", "subset", "set"),
}
_SIDES = ("xmin", "ymin", "xmax", "ymax")
_FILE = "annotations.csv"


def recognise(path: Path) -> bool:
    """Tell whether the path is, or holds, a CSV file with these columns."""
    return bool(_files(path))


def read(path: Path, options: ReadOptions) -> Reading:
    """Return the set in a CSV file, or in all such files of a folder. Raises InputError where there is none."""
    files = _files(path)
    if not files:
        raise InputError(f"{path}: no CSV file with the columns filename, class, {', '.join(_SIDES)} there")
    problems: list[Problem] = []
    found = [picture for file in files for picture in _pictures(file, problems)]
    return assemble(found, files[0], options, problems)


def write(dataset: Dataset, folder: Path, options: WriteOptions) -> None:
    """Write annotations.csv, classes.txt and images/ into the folder."""
    text = io.StringIO()
    placed = place(dataset, folder, options)
    scored = any("score" in thing.extra for _, picture, _ in placed for thing in picture.objects)
    more = [*(["score"] if scored else []), *(["split"] if any(split for split, _, _ in placed) else [])]
    rows = csv.DictWriter(text, ["filename", "width", "height", "class", *_SIDES, *more], extrasaction="ignore", lineterminator="\n")
    rows.writeheader()
    for split, picture, _ in placed:
        facts = {"filename": picture.name, "width": picture.size_wh[0], "height": picture.size_wh[1], "split": split}
        for thing in picture.objects:
            sides = dict(zip(_SIDES, (f"{side:.9f}".rstrip("0").rstrip(".") for side in thing.box), strict=True))
            rows.writerow({**facts, "class": dataset.class_names[thing.class_id], **sides, "score": thing.extra.get("score", "")})
        if not picture.objects:
            rows.writerow(facts)
    (folder / _FILE).write_text(text.getvalue(), encoding="utf-8")
    write_class_file(dataset, folder)


def losses(dataset: Dataset) -> list[str]:
    """Return what this format has no place for, one sentence each."""
    return flag_losses(dataset, "CSV")


def _files(path: Path) -> list[Path]:
    return [file for file in files_at(path, ".csv") if _columns(csv_header(file))]


def _columns(header: Sequence[str]) -> dict[str, int]:
    """Return which column has which value; empty where a needed one is missing."""
    heads = [head.casefold() for head in header]
    found = {
        key: place for key, names in _NAMES.items() if (place := next((heads.index(n) for n in names if n in heads), None)) is not None
    }
    return found if {"filename", "class", *_SIDES} <= found.keys() else {}


def _pictures(file: Path, problems: list[Problem]) -> list[NamedPicture]:
    header, *rows = csv_table(file)
    columns = _columns(header)
    pictures: dict[tuple[str, str], NamedPicture] = {}
    objects: dict[tuple[str, str], list[tuple[str, LabelledObject]]] = {}
    for number, row in enumerate(rows, 2):
        cells = {key: row[place] if place < len(row) else "" for key, place in columns.items()}
        if not any(cells.values()):
            continue
        where = f"{file}, line {number}"
        if not cells["filename"]:
            problems.append(Problem("bad-line", "error", where, "the row names no picture"))
            continue
        size = as_int(cells.get("width", "")), as_int(cells.get("height", ""))
        split = one_line(cells.get("split", ""))
        key = split, cells["filename"]
        stated = (size[0], size[1]) if size[0] and size[1] else None
        pictures.setdefault(key, NamedPicture(where, one_line(cells["filename"]), stated, split=split))
        if cells["class"] and (box := _box(cells)) is None:
            sides = [cells[side] for side in _SIDES]
            problems.append(Problem("bad-line", "error", where, f"wanted numbers of pixels in {', '.join(_SIDES)}, found {sides!r:.80}"))
        elif cells["class"] and box is not None:
            objects.setdefault(key, []).append((one_line(cells["class"]), LabelledObject(0, box)))
    return [replace(picture, objects=tuple(objects.get(key, ()))) for key, picture in pictures.items()]


def _box(cells: Mapping[str, str]) -> Box | None:
    x1, y1, x2, y2 = (as_float(cells[side]) for side in _SIDES)
    return None if x1 is None or y1 is None or x2 is None or y2 is None else (x1, y1, x2, y2)
