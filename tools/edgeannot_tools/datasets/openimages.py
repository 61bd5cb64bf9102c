"""OpenImages: one CSV row an object, https://storage.googleapis.com/openimages/web/download_v7.html#df-boxes

Coordinates are relative to the picture. Spreadsheets of some countries write them with a decimal comma ("0,358") or separate the columns by
semicolons: both are read. `LabelName` is a name, or an identifier like /m/01yrx that `class-descriptions*.csv` beside the file names.

The format has no row for a picture without objects; a picture in the picture folder that no row names is read as one.
Written: `SPLIT-annotations-bbox.csv`, `class-descriptions-boxable.csv` (which keeps the class ids), `images/[SPLIT/]`.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeannot.base.errors import InputError
from edgeannot_tools.datasets.by_name import csv_header, csv_table, place
from edgeannot_tools.datasets.form import (
    UNASSIGNED,
    Box,
    Dataset,
    LabelledObject,
    Picture,
    Problem,
    Reading,
    ReadOptions,
    WriteOptions,
    find_class_file,
    read_class_file,
    sorted_pictures,
    split_named,
)
from edgeannot_tools.datasets.pictures import PICTURE_SUFFIXES, PictureIndex, files_at, require_unique, size_of
from edgeannot_tools.datasets.yolo import flag_losses
from edgeannot_tools.datasets.yolo_text import relative

__all__ = ["losses", "read", "recognise", "write"]

_COLUMNS = (
    *("ImageID", "Source", "LabelName", "Confidence", "XMin", "XMax", "YMin", "YMax"),
    *("IsOccluded", "IsTruncated", "IsGroupOf", "IsDepiction", "IsInside"),
)
_SIDES = ("XMin", "YMin", "XMax", "YMax")
_NEEDED = frozenset({"ImageID", "LabelName", *_SIDES})
_FLAGS = {"IsOccluded": "occluded", "IsTruncated": "truncated", "IsGroupOf": "crowd"}
_YES = frozenset({"1", "true"})
_DESCRIPTIONS = "class-descriptions-boxable.csv"
_SUFFIX = "annotations-bbox"


def recognise(path: Path) -> bool:
    """Tell whether the path is, or holds, a CSV file with OpenImages' columns."""
    return bool(_csv_files(path))


def read(path: Path, options: ReadOptions) -> Reading:
    """Return the set in a CSV file, or in all such files of a folder, each a split."""
    files = _csv_files(path)
    if not files:
        raise InputError(f"{path}: no CSV file with the columns {', '.join(sorted(_NEEDED))} there")
    folder = files[0].parent
    descriptions = _descriptions(folder)
    rows = {file: _rows(file) for file in files}
    used = sorted({descriptions.get(row["LabelName"], row["LabelName"]) for table in rows.values() for row in table if row["LabelName"]})
    class_file = options.classes or (None if descriptions else find_class_file([folder]))
    names = read_class_file(class_file) if class_file else tuple(dict.fromkeys(descriptions.values())) or tuple(used)
    if not names:
        raise InputError(f"{path}: no row names a class, and there is no class file; give one with --classes")
    problems: list[Problem] = []
    pictures: list[Picture] = []
    class_ids = {name: number for number, name in enumerate(names)}
    for file, table in rows.items():
        split = split_named(_split_of(file)) if len(files) > 1 or _SUFFIX in file.stem else ""
        pictures += _pictures(_Table(file, table, split, class_ids, descriptions), options, problems)
    mids = {name: mid for mid, name in descriptions.items()}
    return Reading(Dataset(names, sorted_pictures(pictures), {"openimages": mids}), tuple(problems))


@dataclass(frozen=True, slots=True)
class _Table:
    file: Path
    rows: list[dict[str, str]]
    split: str
    class_ids: Mapping[str, int]
    descriptions: Mapping[str, str]


def _csv_files(path: Path) -> list[Path]:
    return [file for file in files_at(path, ".csv") if set(csv_header(file)) >= _NEEDED]


def _rows(file: Path) -> list[dict[str, str]]:
    header, *rows = csv_table(file)
    return [dict.fromkeys(header, "") | dict(zip(header, row, strict=False)) for row in rows if row]


def _descriptions(folder: Path) -> dict[str, str]:
    """Identifier -> name, from the first `class-descriptions*.csv`; with or without a header line."""
    file = next(iter(sorted(folder.glob("class-descriptions*.csv"))), None)
    if file is None:
        return {}
    with file.open(encoding="utf-8-sig", newline="") as stream:
        pairs = [(row[0].strip(), row[1].strip()) for row in csv.reader(stream) if len(row) >= 2]
    return dict(pair for pair in pairs if pair != ("LabelName", "DisplayName"))


def _split_of(file: Path) -> str:
    """train-annotations-bbox.csv -> train; validation-annotations-bbox.csv -> val."""
    name = file.stem.partition(f"{_SUFFIX}")[0].rstrip("-_") if _SUFFIX in file.stem else file.stem
    return {"validation": "val", "oidv6-train": "train"}.get(name, name)


def _pictures(table: _Table, options: ReadOptions, problems: list[Problem]) -> list[Picture]:
    by_image: dict[str, list[tuple[int, dict[str, str]]]] = {}
    for number, row in enumerate(table.rows, 2):
        by_image.setdefault(row["ImageID"], []).append((number, row))
    index = _index(table, options, by_image)
    found: dict[Path, Picture] = {}
    for image, rows in by_image.items():
        file = index.by_name.get(image) or next(iter(index.find(_without_suffix(image))), None)
        if file is None:
            problems.append(Problem("missing-picture", "error", f"{table.file}:{rows[0][0]}", f"no picture {image} in {index.folder}"))
            continue
        size = size_of("", file, None, problems)
        if size is None:
            continue
        things = [thing for number, row in rows if (thing := _object(row, size, table, f"{table.file}:{number}", problems)) is not None]
        earlier = found[file].objects if file in found else ()
        found[file] = Picture(index.name_of(file), size, (*earlier, *things), file, table.split)
    for name, file in index.by_name.items():
        if file not in found and (size := size_of("", file, None, problems)) is not None:
            found[file] = Picture(name, size, (), file, table.split)
    return list(found.values())


def _index(table: _Table, options: ReadOptions, images: Iterable[str]) -> PictureIndex:
    stems = {_without_suffix(image) for image in images}
    given = options.images or table.file.parent / "images"
    of_split = given / (table.split or UNASSIGNED)
    if of_split.is_dir() and _SUFFIX in table.file.stem:
        return PictureIndex.of(of_split)
    return PictureIndex.beside(table.file.parent, options.images, stems)


def _without_suffix(image: str) -> str:
    stem, dot, suffix = image.rpartition(".")
    return stem if dot and f".{suffix.lower()}" in PICTURE_SUFFIXES else image


def _object(row: Mapping[str, str], size_wh: tuple[int, int], table: _Table, where: str, problems: list[Problem]) -> LabelledObject | None:
    name = table.descriptions.get(row["LabelName"], row["LabelName"])
    class_id = table.class_ids.get(name)
    if class_id is None:
        problems.append(Problem("unknown-class", "error", where, f"class {name!r} is not one of the classes"))
        return None
    try:
        sides = [float(row.get(side, "").replace(",", ".")) for side in _SIDES]
    except ValueError:
        sides = [math.nan]
    if not all(map(math.isfinite, sides)):
        problems.append(
            Problem("bad-line", "error", where, f"wanted numbers in {', '.join(_SIDES)}, found {[row.get(side, '') for side in _SIDES]}")
        )
        return None
    if max(map(abs, sides)) > 2:
        problems.append(Problem("not-relative", "error", where, f"wanted numbers between 0 and 1, found {sides}: these look like pixels"))
        return None
    width, height = size_wh
    box: Box = (sides[0] * width, sides[1] * height, sides[2] * width, sides[3] * height)
    flags = {flag: row.get(column, "").lower() in _YES for column, flag in _FLAGS.items()}
    extra = {"openimages": {column: row[column] for column in _COLUMNS if column not in _NEEDED and row.get(column)}}
    return LabelledObject(class_id, box, extra=extra, **flags)


def write(dataset: Dataset, folder: Path, options: WriteOptions) -> None:
    """Write the CSV of each split, the class descriptions and images/ into the folder."""
    placed = dataset.placed()
    require_unique(((f"{split}/{picture.stem}", picture) for split, picture in placed), "ImageID")
    place(dataset, folder, options)
    mids: Mapping[str, str] = dataset.extra.get("openimages", {})
    for split in dict.fromkeys(split for split, _ in placed):
        rows = [_row(picture, thing, dataset.class_names, mids) for of, picture in placed if of == split for thing in picture.objects]
        _write_csv(folder / (f"{split}-{_SUFFIX}.csv" if split else f"{_SUFFIX}.csv"), [_COLUMNS, *rows])
    _write_csv(folder / _DESCRIPTIONS, [(mids.get(name, name), name) for name in dataset.class_names])


def losses(dataset: Dataset) -> list[str]:
    """Return what this format has no place for, one sentence each."""
    return flag_losses(dataset, "OpenImages", kept=_FLAGS.values())


def _row(picture: Picture, thing: LabelledObject, names: tuple[str, ...], mids: Mapping[str, str]) -> list[str]:
    width, height = picture.size_wh
    came_with: Mapping[str, str] = thing.extra.get("openimages", {})
    values = {"ImageID": picture.stem, "LabelName": mids.get(names[thing.class_id], names[thing.class_id])}
    values |= {side: relative(value / size) for side, value, size in zip(_SIDES, thing.box, (width, height, width, height), strict=True)}
    for column, flag in _FLAGS.items():
        said = came_with.get(column, "")  # "-1" means: not known
        values[column] = "1" if getattr(thing, flag) else said if said.lower() not in _YES else "0"
    return [values.get(column, came_with.get(column, "")) for column in _COLUMNS]


def _write_csv(path: Path, rows: Iterable[Iterable[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(rows)
