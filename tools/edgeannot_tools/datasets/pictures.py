"""Picture files: where they are, how large they are, how they get into a written set; and those of a classifier with their classes."""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagesize

from edgeannot.base.errors import InputError, MissingError
from edgeannot.base.foreign import class_name, read_text, shorten
from edgeannot_tools.datasets.form import LARGEST_BYTES, Picture, PictureMode, Problem
from edgeannot_tools.output import track

__all__ = [
    "PICTURE_SUFFIXES",
    "ClassFolders",
    "PictureIndex",
    "files_at",
    "list_files",
    "listed_paths",
    "picture_folders",
    "place_pictures",
    "read_class_folders",
    "read_class_set",
    "read_size",
    "require_unique",
    "size_of",
]

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".webp", ".tif", ".tiff"})
_BESIDE = ("images", "JPEGImages", "Images", "imgs", "img", "pictures", "data", "obj_train_data")
"""Names under which the pictures of a set usually lie."""


def list_files(folder: Path, suffixes: Iterable[str]) -> list[Path]:
    """Files below the folder with one of the suffixes (lower case, any case on disk), sorted; hidden ones are left out."""
    wanted = frozenset(suffixes)
    found = []
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(root, name) for name in names if not name.startswith(".") and Path(name).suffix.lower() in wanted]
    return sorted(found)


def files_at(path: Path, suffix: str) -> list[Path]:
    """Return the file at the path, or those in the folder, where they end so."""
    return sorted(path.glob(f"*{suffix}")) if path.is_dir() else [path] if path.suffix.lower() == suffix else []


def picture_folders(labels: Path) -> Iterator[Path]:
    """Folders in which the pictures of a label folder may lie, likeliest first."""
    for base in (labels, *labels.parents[:2]):
        yield from (base / name for name in _BESIDE if (base / name).is_dir())
    yield labels


@dataclass(frozen=True, slots=True)
class PictureIndex:
    """The pictures of one folder, found by the name that a label file uses for them."""

    folder: Path
    by_name: Mapping[str, Path]
    """Path below the folder, with "/"."""
    by_stem: Mapping[str, tuple[Path, ...]]
    """The same without extension, and the bare stem."""

    @classmethod
    def of(cls, folder: Path) -> PictureIndex:
        """Return the index of a folder and everything below it."""
        by_name: dict[str, Path] = {}
        by_stem: dict[str, list[Path]] = {}
        for path in list_files(folder, PICTURE_SUFFIXES):
            relative = path.relative_to(folder)
            by_name[relative.as_posix()] = path
            for key in {relative.with_suffix("").as_posix(), relative.stem}:
                by_stem.setdefault(key, []).append(path)
        return cls(folder, by_name, {key: tuple(paths) for key, paths in by_stem.items()})

    @classmethod
    def beside(cls, labels: Path, given: Path | None, stems: Iterable[str]) -> PictureIndex:
        """Return the index of the given folder, or of the one beside the labels that holds most of the stems."""
        if given is not None:
            if not given.is_dir():
                raise InputError(f"the picture folder {given} is not there; give --images an existing folder")
            return cls.of(given)
        wanted = set(stems)
        best, best_hits = cls(labels, {}, {}), 0
        for folder in dict.fromkeys(picture_folders(labels)):
            index = cls.of(folder)
            hits = sum(bool(index.find(stem)) for stem in wanted) if wanted else len(index.by_name)
            if hits > best_hits:
                best, best_hits = index, hits
            if wanted and hits == len(wanted):
                break
        return best

    def find(self, stem: str) -> tuple[Path, ...]:
        """Return the pictures for a label file's path without extension; more than one means that they cannot be told apart.

        Leading folders of the label's path (`labels/`) need not be there on the picture's side.
        """
        while stem not in self.by_stem and "/" in stem:
            stem = stem.partition("/")[2]
        return self.by_stem.get(stem, ())

    def name_of(self, path: Path) -> str:
        """Return the picture's path below the folder, with "/"."""
        return path.relative_to(self.folder).as_posix()


def listed_paths(file: Path) -> list[str]:
    """Return the paths in a list of pictures, one a line; those of a list that was made on Windows with "/"."""
    text = read_text(file, "the list of pictures", max_bytes=LARGEST_BYTES)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return [line if "/" in line else line.replace("\\", "/") for line in lines]


def read_size(path: Path) -> tuple[int, int] | Problem:
    """Return width and height of the upright picture from its header alone, or why they cannot be told."""
    if not path.is_file():  # a pipe would hold the program
        return Problem("unreadable-picture", "error", str(path), "wanted a picture, found no file; replace or remove it")
    try:
        width, height = imagesize.get(path, exif_rotation=True)
    except Exception as exc:  # noqa: BLE001 - the header parsers raise whatever a broken file provokes
        return Problem("unreadable-picture", "error", str(path), f"the picture's header cannot be read ({exc}); replace or remove the file")
    if width <= 0 or height <= 0:
        return Problem("unreadable-picture", "error", str(path), "the file does not begin like a picture; replace or remove it")
    return int(width), int(height)


def _wrong_size(where: str, stated_wh: tuple[object, object], real_wh: tuple[int, int]) -> Problem:
    """Return the problem of labels for a picture of another size; sides that are swapped have a usual cause."""
    turned = stated_wh == real_wh[::-1]
    hint = "; it was labelled without the turn that its EXIF note asks for" if turned else "; it was resized after it was labelled"
    message = f"the labels are for {stated_wh[0]}x{stated_wh[1]} pixels, the picture has {real_wh[0]}x{real_wh[1]}{hint}"
    return Problem("wrong-size", "error", where, message)


def size_of(where: str, path: Path | None, stated_wh: tuple[Any, Any] | None, problems: list[Problem]) -> tuple[Any, Any] | None:
    """Return the size of a labelled picture: of its file, or as stated where it has none; None where it is not known.

    What is wrong with the file, or with the size that is stated at `where`, goes to the problems.
    """
    if path is None:
        return stated_wh
    real = read_size(path)
    if isinstance(real, Problem):
        problems.append(real)
        return None
    if stated_wh is not None and stated_wh != real:
        problems.append(_wrong_size(where, stated_wh, real))
    return real


def require_unique(written: Iterable[tuple[str, Picture]], what: str) -> None:
    """Raise InputError when two pictures would be written to one file. written: the file's name for each picture."""
    seen: dict[str, Picture] = {}
    for name, picture in written:
        if (other := seen.setdefault(name, picture)) is not picture:
            one, two = (each.path or each.name for each in (other, picture))
            raise InputError(f"{one} and {two} would both be written as {what} {name!r}; rename one of them")


def place_pictures(pictures: Iterable[tuple[Picture, Path]], mode: PictureMode) -> None:
    """Put each picture's file at its path. Raises InputError for a picture without a file, or when links are not possible."""
    if mode == PictureMode.NONE:
        return
    items = list(pictures)
    for picture, target in track(items, "pictures", len(items)):
        if picture.path is None:
            raise InputError(f"picture {picture.name} has no file; give --images, or write the labels alone with --pictures none")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            if mode == PictureMode.COPY:
                shutil.copy2(picture.path, target)
            elif mode == PictureMode.HARDLINK:
                os.link(picture.path.resolve(), target)
            else:
                target.symlink_to(picture.path.resolve())
        except OSError as exc:
            raise InputError(f"picture {picture.path} cannot be put at {target} by {mode} ({exc.strerror}); try --pictures copy") from exc


@dataclass(frozen=True, slots=True)
class ClassFolders:
    """Pictures that each show one class."""

    class_names: tuple[str, ...]
    """The names of the folders, sorted."""
    pictures: tuple[tuple[Path, int], ...]
    """File and class id (a position in `class_names`), sorted by class and name."""


def read_class_folders(folder: Path, split: str | None = None) -> ClassFolders:
    """Return the pictures in FOLDER/CLASS/, at any depth below; with `split` those in FOLDER/SPLIT/CLASS/. Hidden and other files are left
    out.

    Raises MissingError for no such folder, InputError where no subfolder holds a picture.
    """
    root = folder / split if split else folder
    if not root.is_dir():
        raise MissingError(f"no labelled set at {root}: wanted a folder with one subfolder a class")
    names: list[str] = []
    pictures: list[tuple[Path, int]] = []
    for place in sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")):
        files = list_files(place, PICTURE_SUFFIXES)
        if files:
            pictures += [(file, len(names)) for file in files]
            names.append(place.name)
    if not pictures:
        raise InputError(f"{root} has no subfolder with pictures; wanted one subfolder a class, named like the class")
    return ClassFolders(tuple(names), tuple(pictures))


_PICTURE = ("file", "filename", "path", "image", "picture", "name")
_CLASS = ("class", "label", "category", "species")
"""Headers that are known; without such a header the first two columns count."""


def read_class_set(path: Path, split: str | None = None) -> ClassFolders:
    """Return the pictures and classes of a folder with one subfolder a class, or of a CSV file.

    A picture's path in a CSV file is relative to the file's folder. Raises MissingError and InputError.
    """
    if path.suffix.lower() != ".csv" or path.is_dir():
        return read_class_folders(path, split)
    if split is not None:
        raise InputError(f"{path} is a CSV file, which has no split {split!r}; give a CSV file of that split alone")
    rows = _rows(path)
    names = tuple(sorted({name for _, name in rows}))
    return ClassFolders(names, tuple(sorted((file, names.index(name)) for file, name in rows)))


def _rows(path: Path) -> list[tuple[Path, str]]:
    """Return picture and class of each row. Raises MissingError for a picture that is not there, InputError for a row without one."""
    text = read_text(path, "the table of pictures and classes", max_bytes=LARGEST_BYTES)
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    table = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text), delimiter=delimiter)]
    table = [row for row in table if any(row)]
    header = [cell.casefold() for cell in table[0]] if table else []
    picture = next((header.index(name) for name in _PICTURE if name in header), None)
    kind = next((header.index(name) for name in _CLASS if name in header), None)
    if picture is None or kind is None:
        picture, kind, body = 0, 1, table
    else:
        body = table[1:]
    if not body:
        raise InputError(f"{path} has no row with a picture and its class; wanted lines like `cats/one.jpg,cat`")
    rows = []
    for row in body:
        if len(row) <= max(picture, kind) or not row[picture] or not row[kind]:
            raise InputError(f"{path}: wanted a picture and its class in each row, found {shorten(delimiter.join(row))}")
        file = path.parent / row[picture]
        if not file.is_file():
            raise MissingError(f"{path} names the picture {shorten(row[picture])}, which is not at {file}; correct the path")
        rows.append((file, class_name(row[kind])))
    return rows
