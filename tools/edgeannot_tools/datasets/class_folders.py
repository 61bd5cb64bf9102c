"""Labelled sets for classifiers: one folder a class, its pictures inside, as most tools and published sets have them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeannot.base.errors import InputError, MissingError
from edgeannot_tools.datasets.pictures import PICTURE_SUFFIXES, list_files

__all__ = ["ClassFolders", "read_class_folders"]


@dataclass(frozen=True, slots=True)
class ClassFolders:
    """Pictures that each show one class."""

    class_names: tuple[str, ...]
    """The names of the folders, sorted."""
    pictures: tuple[tuple[Path, int], ...]
    """File and class id (a position in `class_names`), sorted by class and name."""


def read_class_folders(folder: Path, split: str | None = None) -> ClassFolders:
    """The pictures in FOLDER/CLASS/, at any depth below; with `split` those in FOLDER/SPLIT/CLASS/. Hidden and other files are left out.

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
        raise InputError(
            f"{root} has no subfolder with pictures; a classifier is measured with one subfolder a class, named like the class"
        )
    return ClassFolders(tuple(names), tuple(pictures))
