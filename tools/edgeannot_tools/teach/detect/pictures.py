"""A labelled set as it is taught from: read, refused or noted where it cannot carry that, and its pictures with their boxes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgeannot.base.errors import FrameError, InputError, MissingError
from edgeannot.base.foreign import number_of
from edgeannot.vision.data import UInt8Array
from edgeannot.vision.decode import read_picture
from edgeannot_tools.datasets import Dataset, LabelledObject, Picture, ReadOptions, load_dataset
from edgeannot_tools.datasets.checks import check, content_groups
from edgeannot_tools.datasets.form import Reading
from edgeannot_tools.datasets.pictures import PICTURE_SUFFIXES, list_files, read_size
from edgeannot_tools.evaluate.average_precision import Truth
from edgeannot_tools.teach.detect.made_background import SIZE_WH, made_background
from edgeannot_tools.teach.detect.views import Boxes

__all__ = ["LabelledPicture", "TeachingSet", "read_teaching_set", "teaching_set"]

UNUSABLE = frozenset({"inside-out", "zero-area", "off-by-one"})
"""Problems of boxes that say nothing of where the object is."""
INSIDE = 0.5
"""Of a box that reaches over the picture's edge; one with less inside is a mistake."""
FEW_PICTURES = 5
"""Of one class: fewer say little of how good a model is."""


@dataclass(frozen=True, slots=True)
class LabelledPicture:
    """One picture with what is marked in it, in the classes of the taught model; without a mark it is background."""

    picture: Picture
    background: bool = False
    """Whether it came from the folder of pictures in which nothing is to be found, or is made."""
    made: int | None = None
    """The number of a picture that is made on the spot; None: it has a file."""

    @property
    def path(self) -> Path:
        """The file."""
        if self.picture.path is None:
            raise InputError(f"picture {self.picture.name} has no file; give the folder of the pictures with --images")
        return self.picture.path

    def load(self) -> tuple[UInt8Array, Boxes]:
        """Return the pixels (H, W, 3) BGR with the marks. Raises InputError where the file cannot be read or has another size."""
        if self.made is not None:
            return made_background(self.made), self.marked()
        try:
            image = read_picture(self.path).image
        except FrameError as exc:
            raise InputError(f"{exc}; replace or remove the picture") from exc
        height, width = image.shape[:2]
        if (width, height) != self.picture.size_wh:
            wanted = "x".join(map(str, self.picture.size_wh))
            raise InputError(f"{self.path}: the labels are for {wanted} pixels, the picture has {width}x{height}; label it again")
        return image, self.marked()

    def marked(self) -> Boxes:
        """Return the marks in pixels of the picture."""
        truth = self.truth()
        unsure = truth.crowd | truth.difficult
        boxes = truth.boxes.astype(np.float32)
        return Boxes(boxes[~unsure], truth.classes[~unsure], boxes[unsure])

    def truth(self) -> Truth:
        """Return the marks to compare detections with."""
        things = self.picture.objects
        flags = np.array([(thing.difficult, thing.crowd) for thing in things], bool).reshape(-1, 2)
        return Truth(self.picture.boxes(), self.picture.class_ids(), flags[:, 0], flags[:, 1])


@dataclass(frozen=True, slots=True)
class TeachingSet:
    """What a detector is taught with."""

    labels: tuple[str, ...]
    pictures: tuple[LabelledPicture, ...]
    """Those with marks first come in the order of the set, then the background."""
    notes: tuple[str, ...]
    """What is odd about the set, one sentence each."""


def read_teaching_set(
    path: Path,
    kind: str | None = None,
    options: ReadOptions | None = None,
    *,
    split: str | None = None,
    background: Path | None = None,
    made: int = 0,
) -> TeachingSet:
    """Return a labelled set in any format that `datasets` reads, with the pictures of a folder in which nothing is to be found.

    made: pictures of the background at least: as many as the folder lacks are made on the spot.
    Raises MissingError for no such path, and InputError, one sentence, for a set that nothing can be taught with.
    """
    dataset = load_dataset(path, kind, options)
    if split is not None:
        dataset = replace(dataset, pictures=tuple(picture for picture in dataset.pictures if picture.split == split))
        if not dataset.pictures:
            raise InputError(f"{path} has no pictures in a split {split!r}; leave --split away, or name one that is there")
    given = _background(background) if background is not None else ()
    return teaching_set(dataset, [LabelledPicture(picture, background=True) for picture in given] + made_pictures(made - len(given)))


def made_pictures(count: int) -> list[LabelledPicture]:
    """Return so many pictures without objects that are made when they are loaded; none for a negative count."""
    return [LabelledPicture(Picture(f"made-{number}", SIZE_WH, ()), background=True, made=number) for number in range(count)]


def teaching_set(dataset: Dataset, background: Sequence[LabelledPicture] = ()) -> TeachingSet:
    """Return the set to teach with. Raises InputError where nothing can be taught with it."""
    problems = check(Reading(dataset), decode=False)
    for problem in problems:
        if problem.kind in UNUSABLE:
            raise InputError(f"{problem.where}: {problem.message}")
    used = sorted({thing.class_id for picture in dataset.pictures for thing in picture.objects if not thing.crowd})
    if not used:
        raise InputError("no object is marked in any picture of the set; mark at least two pictures, then teach with them")
    new_id = {old: new for new, old in enumerate(used)}
    labels = tuple(dataset.class_names[old] for old in used)
    notes = [f"{problem.where}: {problem.message}" for problem in problems if problem.kind in ("contradiction", "copy", "alike-classes")]
    clipped = 0
    pictures = []
    for picture in dataset.pictures:
        marked = [thing for thing in picture.objects if thing.class_id in new_id]
        things = [_inside(thing, picture) for thing in marked]
        clipped += sum(thing is not old for thing, old in zip(things, marked, strict=True))
        unique = {(new_id[thing.class_id], thing.box): thing for thing in things}
        objects = tuple(replace(thing, class_id=class_id) for (class_id, _), thing in unique.items())
        pictures.append(LabelledPicture(replace(picture, objects=objects)))
    if clipped:
        notes.append(f"clipped to their pictures: {number_of(clipped, 'box', 'boxes')}")
    groups = content_groups([item.picture for item in pictures if item.picture.objects])
    if len(groups) < 2:
        raise InputError("only one picture has objects; a detector needs at least two different ones, so that it can be tried on another")
    shown = Counter(class_id for group in groups for class_id in {thing.class_id for thing in group[0].objects})
    few = [f"{labels[class_id]} ({count})" for class_id, count in sorted(shown.items()) if count < FEW_PICTURES]
    if few:
        notes.append(f"few pictures: {', '.join(few)}; with fewer than {FEW_PICTURES} of a class the figures say little")
    return TeachingSet(labels, (*pictures, *background), tuple(notes))


def _inside(thing: LabelledObject, picture: Picture) -> LabelledObject:
    """Return the object with its box clipped to the picture. Raises InputError for a box that is mostly outside."""
    (x1, y1, x2, y2), (width, height) = thing.box, picture.size_wh
    box = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
    if box == thing.box:
        return thing
    area, left = (x2 - x1) * (y2 - y1), max(box[2] - box[0], 0) * max(box[3] - box[1], 0)
    if left < INSIDE * area:
        shown = ", ".join(f"{value:g}" for value in thing.box)
        raise InputError(f"{picture.path or picture.name}: the box {shown} lies outside of the picture ({width}x{height}); correct it")
    return replace(thing, box=box)


def _background(folder: Path) -> tuple[Picture, ...]:
    """Return the pictures in a folder, at any depth. Raises MissingError for no folder, InputError for none in it."""
    if not folder.is_dir():
        raise MissingError(f"there is no folder of background pictures at {folder}")
    pictures = []
    for path in list_files(folder, PICTURE_SUFFIXES):
        size = read_size(path)
        if not isinstance(size, tuple):
            raise InputError(f"{size.where}: {size.message}")
        pictures.append(Picture(path.relative_to(folder).as_posix(), size, (), path))
    if not pictures:
        raise InputError(f"{folder} has no pictures; give --background a folder of pictures without the objects")
    return tuple(pictures)
