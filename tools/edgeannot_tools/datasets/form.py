"""The one form that every label format is read into and written from.

Boxes are x1, y1, x2, y2 in pixels of the upright picture (EXIF orientation applied), counted from the top left corner of the
picture with the far edges exclusive: the whole of a 640 x 480 picture is (0, 0, 640, 480). They are kept as 64-bit floats,
so that a format's own numbers come back from them (to 1e-9 px for pixel formats, 1e-10 for relative ones).

What only one format knows travels in `extra` under that format's name, so that reading and writing the same format
loses nothing and the others need not know of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgeannot.base.errors import InputError
from edgeannot.base.foreign import read_text

__all__ = [
    "CLASS_FILES",
    "LARGEST_BYTES",
    "UNASSIGNED",
    "Box",
    "Dataset",
    "LabelledObject",
    "Picture",
    "PictureMode",
    "Problem",
    "ReadOptions",
    "Reading",
    "WriteOptions",
    "find_class_file",
    "read_class_file",
    "sorted_pictures",
    "split_named",
]

Box = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels, far edges exclusive."""

LARGEST_BYTES = 1 << 28
"""Of a file that tells of many pictures; of a larger one nothing is read."""

UNASSIGNED = "unassigned"
"""What the split of a picture is called in files when other pictures of the set have a split and it has none."""


@dataclass(frozen=True, slots=True)
class LabelledObject:
    """One object that somebody marked in a picture."""

    class_id: int
    """Index into the data set's class names."""
    box: Box
    difficult: bool = False
    """Pascal VOC: hard to see; evaluation neither asks for it nor counts it as wrong."""
    crowd: bool = False
    """COCO `iscrowd`, OpenImages `IsGroupOf`: the box holds many objects of the class."""
    truncated: bool = False
    """The object goes on outside the picture."""
    occluded: bool = False
    """Something stands in front of it."""
    extra: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def size_wh(self) -> tuple[float, float]:
        """Width and height of the box in pixels; negative where its corners are swapped."""
        return self.box[2] - self.box[0], self.box[3] - self.box[1]


def _inner_parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".", "..")]


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture with its objects; without any it is a picture in which nothing is to be found."""

    name: str
    """File name with extension, with its folders below the picture folder, separated by "/"."""
    size_wh: tuple[int, int]
    """Of the upright picture, in pixels."""
    objects: tuple[LabelledObject, ...] = ()
    path: Path | None = None
    """Where the file is; None where the labels name a picture that is not there."""
    split: str = ""
    """"train", "val", "test", ...; empty where the set is not split."""
    extra: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        # Labels may call their picture `/data/a.jpg` or `../a.jpg`, and a split `../b`: a written set stays in its folder all the same.
        object.__setattr__(self, "name", "/".join(_inner_parts(self.name)))
        object.__setattr__(self, "split", "_".join(_inner_parts(self.split)))

    @property
    def stem(self) -> str:
        """The name without its extension, which is what label files share with it."""
        head, dot, tail = self.name.rpartition(".")
        return head if dot and "/" not in tail else self.name

    def boxes(self) -> NDArray[np.float64]:
        """Return the boxes as (N, 4) float64 xyxy pixels."""
        return np.array([thing.box for thing in self.objects], np.float64).reshape(-1, 4)

    def class_ids(self) -> NDArray[np.int64]:
        """Return the class ids as (N,) int64."""
        return np.array([thing.class_id for thing in self.objects], np.int64)


@dataclass(frozen=True, slots=True)
class Dataset:
    """A labelled set: class names in the order of their ids, and pictures."""

    class_names: tuple[str, ...]
    pictures: tuple[Picture, ...]
    extra: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def splits(self) -> tuple[str, ...]:
        """Return the names of the splits in order of first appearance; ("",) for a set that is not split."""
        return tuple(dict.fromkeys(picture.split for picture in self.pictures))

    def placed(self) -> tuple[tuple[str, Picture], ...]:
        """Return each picture with the name of its split in a written set: empty throughout for a set that is not split."""
        rest = UNASSIGNED if self.splits() != ("",) else ""
        return tuple((picture.split or rest, picture) for picture in self.pictures)

    def object_count(self) -> int:
        """Return how many objects are marked in all pictures."""
        return sum(len(picture.objects) for picture in self.pictures)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that breaks training or evaluation ("error"), or that a person should look at ("warning")."""

    kind: str
    """A short stable word for counting, e.g. "outside"."""
    severity: Literal["error", "warning"]
    where: str
    """The file, with the line or the object where there is one."""
    message: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader found: the set as far as it can be used, and what had to be left out or looks wrong."""

    dataset: Dataset
    problems: tuple[Problem, ...] = ()

    def errors(self) -> tuple[Problem, ...]:
        """Return the problems that make the labels unusable as they are."""
        return tuple(problem for problem in self.problems if problem.severity == "error")


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What a reader cannot know by looking."""

    images: Path | None = None
    """The folder of the pictures; None: looked for beside the labels."""
    classes: Path | None = None
    """A text file with one class name a line; None: looked for beside the labels."""
    voc_origin: Literal[0, 1] = 1
    """Pascal VOC counts pixels from 1 with inclusive ends; many tools write edges counted from 0 into the same tags."""


class PictureMode(StrEnum):
    """How the picture files get into a written set."""

    COPY = "copy"
    HARDLINK = "hardlink"
    SYMLINK = "symlink"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """How a writer puts pictures and pixels."""

    pictures: PictureMode = PictureMode.COPY
    whole_pixels: bool = False
    """Pascal VOC: round to whole pixels, for trainers that read nothing else."""


def split_named(name: str) -> str:
    """Return the split that a written set calls by this name."""
    return "" if name == UNASSIGNED else name


def sorted_pictures(pictures: Iterable[Picture]) -> tuple[Picture, ...]:
    """Return the pictures by split and name, so that a set reads the same whatever order the disk gives."""
    return tuple(sorted(pictures, key=lambda picture: (picture.split, picture.name)))


CLASS_FILES = ("classes.txt", "obj.names", "_darknet.labels", "classes.names", "labels.txt", "names.txt")
"""File names that mean a class list, in the order in which they are believed; other *.names files come last."""


def read_class_file(path: Path) -> tuple[str, ...]:
    """Return the names, blank lines at the end left out. Raises InputError for a blank or repeated name, MissingError for no file."""
    names = [line.strip() for line in read_text(path, "the class file").rstrip().splitlines()]
    known: set[str] = set()
    for number, name in enumerate(names, 1):
        if not name:
            raise InputError(f"{path}, line {number}: the line is blank, but each line is the name of a class; remove it or name the class")
        if name in known:
            raise InputError(f"{path}, line {number}: class {name!r} is there twice; every class needs a name of its own")
        known.add(name)
    return tuple(names)


def find_class_file(folders: list[Path]) -> Path | None:
    """Return the class file in the first of the folders that has one.

    Raises InputError when a folder has several that differ and none of a usual name: which is meant is not for us to guess.
    """
    for folder in folders:
        usual = [folder / name for name in CLASS_FILES if (folder / name).is_file()]
        if usual:
            return usual[0]
        others = sorted(folder.glob("*.names"))
        if len({path.read_bytes() for path in others}) > 1:
            raise InputError(f"{folder} has several class files ({', '.join(path.name for path in others)}); say which with --classes")
        if others:
            return others[0]
    return None
