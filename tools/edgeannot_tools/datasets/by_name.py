"""Sets of formats whose labels call a picture and a class by name: the files found, the names numbered."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgeannot.base.errors import InputError
from edgeannot.base.foreign import read_head, read_text
from edgeannot_tools.datasets.form import (
    LARGEST_BYTES,
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
from edgeannot_tools.datasets.pictures import PictureIndex, place_pictures, require_unique, size_of

__all__ = ["NamedPicture", "assemble", "csv_header", "csv_table", "numbered", "place", "write_class_file"]

LONGEST_HEADER = 10_000
"""Bytes of a CSV file that its first line is looked for in."""


@dataclass(frozen=True, slots=True)
class NamedPicture:
    """One picture as a label file tells of it."""

    where: str
    """The label file, and the place in it."""
    name: str
    """What the file calls it; folders that are nowhere here may stand in front."""
    size_wh: tuple[int, int] | None
    """As stated, in pixels; None where it is not."""
    objects: tuple[tuple[str, LabelledObject], ...] = ()
    """Class name and object, whose `class_id` says nothing yet."""
    split: str = ""
    """The folder of its split in a written set; see `split_named`."""


def assemble(
    found: Sequence[NamedPicture], path: Path, options: ReadOptions, problems: list[Problem], class_names: Sequence[str] = ()
) -> Reading:
    """Return the set of the pictures, with their files.

    class_names: those that the label file lists, in the order of their ids; a class file of the user's or beside the labels comes before
    them, and without any the names are numbered by the alphabet. Raises InputError where there is no class at all.
    """
    folder = path.parent if path.is_file() else path
    class_file = options.classes or (None if class_names else find_class_file([folder]))
    used = sorted({name for picture in found for name, _ in picture.objects})
    names = read_class_file(class_file) if class_file is not None else tuple(dict.fromkeys(class_names)) or tuple(used)
    if not names:
        raise InputError(f"{path}: no object names a class, and there is no class file; give one with --classes")
    index = PictureIndex.beside(folder, options.images, {picture.name.rpartition(".")[0] for picture in found})
    pictures = [whole for picture in found if (whole := _picture(picture, index, names, problems)) is not None]
    return Reading(Dataset(names, sorted_pictures(pictures)), tuple(problems))


def _picture(picture: NamedPicture, index: PictureIndex, names: Sequence[str], problems: list[Problem]) -> Picture | None:
    file = _file(picture, index)
    if file is None:
        problems.append(Problem("missing-picture", "error", picture.where, f"no picture {picture.name} in {index.folder}"))
    size = size_of(picture.where, file, picture.size_wh, problems)
    if size is None:
        return None
    things = numbered(picture.objects, names, picture.where, problems)
    return Picture(picture.name, size, things, file, split_named(picture.split))


def numbered(
    objects: Iterable[tuple[str, LabelledObject]], names: Sequence[str], where: str, problems: list[Problem]
) -> tuple[LabelledObject, ...]:
    """Return the objects with the ids of their classes; one of a class without a name goes to the problems."""
    objects, ids = tuple(objects), {name: class_id for class_id, name in enumerate(names)}
    unknown = [name for name, _ in objects if name not in ids]
    problems += [Problem("unknown-class", "error", where, f"class {name!r} is not in the class file") for name in unknown]
    return tuple(replace(thing, class_id=ids[name]) for name, thing in objects if name in ids)


def _file(picture: NamedPicture, index: PictureIndex) -> Path | None:
    """Return the picture's file, by as much of its name as there is here."""
    parts = picture.name.replace("\\", "/").split("/")
    tails = ["/".join(parts[start:]) for start in range(len(parts))]
    of_split = [f"{picture.split}/{tail}" for tail in tails] if picture.split else []
    return next((index.by_name[name] for name in (*of_split, *tails) if name in index.by_name), None)


def place(dataset: Dataset, folder: Path, options: WriteOptions) -> list[tuple[str, Picture, str]]:
    """Put the pictures into `images/[SPLIT/]`; each with its split's name and its path below the folder."""
    placed = dataset.placed()
    paths = [f"images/{split}/{picture.name}" if split else f"images/{picture.name}" for split, picture in placed]
    require_unique(((path, picture) for path, (_, picture) in zip(paths, placed, strict=True)), "picture")
    (folder / "images").mkdir()
    place_pictures(((picture, folder / path) for (_, picture), path in zip(placed, paths, strict=True)), options.pictures)
    return [(split, picture, path) for (split, picture), path in zip(placed, paths, strict=True)]


def csv_header(file: Path) -> list[str]:
    """Return the heads of a CSV file's columns; none where it is no text."""
    try:
        return next(_rows(read_head(file, LONGEST_HEADER).partition(b"\n")[0].decode("utf-8-sig")), [])
    except (UnicodeDecodeError, csv.Error):
        return []


def csv_table(file: Path) -> list[list[str]]:
    """Return the rows of a CSV file, its heads first. Raises InputError for what is no CSV."""
    try:
        return list(_rows(read_text(file, "the label file", max_bytes=LARGEST_BYTES)))
    except csv.Error as exc:
        raise InputError(f"{file} cannot be read as CSV ({exc})") from exc


def _rows(text: str) -> Iterator[list[str]]:
    """Yield the rows of a text, whose columns are separated by commas or, as spreadsheets of some countries do, by semicolons."""
    line = text.partition("\n")[0]
    rows = csv.reader(io.StringIO(text), delimiter=";" if line.count(";") > line.count(",") else ",")
    return ([cell.strip() for cell in row] for row in rows)


def write_class_file(dataset: Dataset, folder: Path) -> None:
    """Write classes.txt, which keeps the order of the classes where the format itself has no place for it."""
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in dataset.class_names), encoding="utf-8")
