"""Sets for classifiers: one subfolder a class, or a CSV file with a picture and its class a row."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from edgeannot.base.errors import InputError, MissingError
from edgeannot.base.foreign import class_name, read_text, shorten
from edgeannot_tools.datasets.pictures import ClassFolders, read_class_folders

__all__ = ["read_class_set"]

_PICTURE = ("file", "filename", "path", "image", "picture", "name")
_CLASS = ("class", "label", "category", "species")
"""Headers that are known; without such a header the first two columns count."""
_MOST_BYTES = 64 * 2**20


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
    text = read_text(path, "the table of pictures and classes", max_bytes=_MOST_BYTES).removeprefix("\ufeff")
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
