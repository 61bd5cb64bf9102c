"""Labelled picture sets: read in one format, written in another, checked, split and counted.

One file a format; a format is a module with the functions of `Format` below. All read into and write from the one form of
`form.py`, so a new format costs two functions, not one for every pair.

Why not a library: globox 2.9, the best kept one at hand, writes every COCO object with `iscrowd` 0 and without its outline, drops
VOC's `difficult`, and says nothing of it; what is left, a few lines a format, is not worth a dependency.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from edgeannot.base.errors import InputError, MissingError
from edgeannot_tools.datasets import coco, cvat, darknet, labelstudio, openimages, table, voc, yolo
from edgeannot_tools.datasets.form import Dataset, LabelledObject, Picture, PictureMode, Problem, Reading, ReadOptions, WriteOptions
from edgeannot_tools.output import staged_folder

__all__ = [
    "FORMATS",
    "Dataset",
    "Format",
    "LabelledObject",
    "Picture",
    "PictureMode",
    "Problem",
    "ReadOptions",
    "Reading",
    "WriteOptions",
    "find_format",
    "load_dataset",
    "read_labels",
    "save_dataset",
]


class Format(Protocol):
    """What the module of a format provides."""

    def recognise(self, path: Path) -> bool:
        """Tell whether labels of this format are at the path, judged by names and the first lines."""

    def read(self, path: Path, options: ReadOptions) -> Reading:
        """Everything that can be used, and the problems. Raises InputError or MissingError when there is no set at all."""

    def write(self, dataset: Dataset, folder: Path, options: WriteOptions) -> None:
        """Fill an empty folder with labels and pictures."""

    def losses(self, dataset: Dataset) -> list[str]:
        """Return what of this set the format has no place for, one sentence each."""


FORMATS: dict[str, Format] = {
    "yolo": yolo,
    "darknet": darknet,
    "voc": voc,
    "coco": coco,
    "openimages": openimages,
    "csv": table,
    "labelstudio": labelstudio,
    "cvat": cvat,
}


def find_format(path: Path) -> str:
    """Return the format of the labels at the path. Raises MissingError for no path, InputError for none or several formats."""
    if not path.exists():
        raise MissingError(f"no labelled set at {path}: there is no such file or folder")
    found = [name for name, kind in FORMATS.items() if kind.recognise(path)]
    if not found:
        raise InputError(f"{path} holds no labels that are known here; known formats are: {', '.join(FORMATS)}")
    if len(found) > 1:
        raise InputError(
            f"{path} holds labels of several formats ({', '.join(found)}); say which with --format, or name the label file or folder itself"
        )
    return found[0]


def read_labels(path: Path, kind: str | None = None, options: ReadOptions | None = None) -> Reading:
    """Return the set at the path with its problems. Raises InputError when it holds no picture at all."""
    if kind is not None and kind not in FORMATS:
        raise InputError(f"no format {kind!r}; known formats are: {', '.join(FORMATS)}")
    if not path.exists():
        raise MissingError(f"no labelled set at {path}: there is no such file or folder")
    reading = FORMATS[kind or find_format(path)].read(path, options or ReadOptions())
    if not reading.dataset.pictures:
        first = f"; first problem: {reading.problems[0].where}: {reading.problems[0].message}" if reading.problems else ""
        raise InputError(f"{path} has no picture that can be used{first}")
    return reading


def load_dataset(path: Path, kind: str | None = None, options: ReadOptions | None = None) -> Dataset:
    """Return the set at the path, for work that needs it whole. Raises InputError when the reader had to leave anything out."""
    reading = read_labels(path, kind, options)
    if errors := reading.errors():
        more = f" ({len(errors)} such problems; `edgeannot datasets check` lists them)" if len(errors) > 1 else ""
        raise InputError(f"{errors[0].where}: {errors[0].message}{more}")
    return reading.dataset


def save_dataset(dataset: Dataset, folder: Path, kind: str, options: WriteOptions | None = None) -> list[str]:
    """Write the set into a new folder, all or nothing; what the format had no place for, one sentence each."""
    if kind not in FORMATS:
        raise InputError(f"no format {kind!r}; known formats are: {', '.join(FORMATS)}")
    with staged_folder(folder) as stage:
        FORMATS[kind].write(dataset, stage, options or WriteOptions())
    return FORMATS[kind].losses(dataset)
