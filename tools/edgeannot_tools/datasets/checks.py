"""What breaks training, found before it does: in the labels, the pictures, and between them."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from edgeannot.base.errors import FrameError
from edgeannot_tools.datasets.form import Box, Dataset, LabelledObject, Picture, Problem, Reading
from edgeannot_tools.progress import track

__all__ = ["check", "content_groups"]

_ROUNDING_PX = 0.02
"""Relative coordinates with six decimals are this exact in a picture 20,000 pixels wide."""
_RELATIVE_ROUNDING = 1e-6
_TINY_PX = 2.0
_ENOUGH_PX = 64
"""To find out whether a JPEG can be decoded it need not be decoded larger than this."""


def check(reading: Reading, *, decode: bool = True) -> list[Problem]:
    """Every problem of a set that was read: those that its reader met, then boxes, classes, pictures. Errors come first.

    decode: read every picture to its end, which finds the ones that are cut off; without it only their headers are looked at.
    """
    data = reading.dataset
    found = list(reading.problems)
    for picture in data.pictures:
        found += _box_problems(picture, data.class_names)
    found += _off_by_one(data)
    found += _class_problems(data)
    found += _name_problems(data.pictures)
    found += _copy_problems(data.pictures)
    if decode:
        found += _decode_problems(data.pictures)
    return sorted(found, key=lambda problem: (problem.severity != "error", problem.kind, problem.where))


def _where(picture: Picture, number: int, class_name: str) -> str:
    return f"{picture.path or picture.name}, object {number} ({class_name})"


def _box_problems(picture: Picture, class_names: tuple[str, ...]) -> Iterator[Problem]:
    seen: set[tuple[int, Box]] = set()
    for number, thing in enumerate(picture.objects, 1):
        where = _where(picture, number, class_names[thing.class_id])
        width, height = thing.size_wh
        box = ", ".join(f"{value:g}" for value in thing.box)
        if width < 0 or height < 0:
            yield Problem("inside-out", "error", where, f"the box {box} ends before it begins; swap its corners or remove it")
        elif width == 0 or height == 0:
            yield Problem("zero-area", "error", where, f"the box {box} has no area; remove it")
        elif min(width, height) < _TINY_PX:
            yield Problem("tiny", "warning", where, f"the box {box} is less than {_TINY_PX:g} pixels wide or high")
        if _overhang(thing, picture.size_wh) > 0:
            size = f"{picture.size_wh[0]}x{picture.size_wh[1]}"
            yield Problem("outside", "error", where, f"the box {box} reaches outside of the picture ({size}); clip it or remove it")
        if (thing.class_id, thing.box) in seen:
            yield Problem("repeated-box", "error", where, f"the box {box} is there twice; remove one")
        seen.add((thing.class_id, thing.box))


def _overhang(thing: LabelledObject, size_wh: tuple[int, int]) -> float:
    """By how many pixels a box reaches over its picture's edge, rounding forgiven; 0 for a box inside."""
    x1, y1, x2, y2 = thing.box
    width, height = size_wh
    over = max(-x1, -y1, x2 - width, y2 - height)
    return over if over > max(_ROUNDING_PX, max(size_wh) * _RELATIVE_ROUNDING) else 0.0


def _off_by_one(data: Dataset) -> Iterator[Problem]:
    """VOC counts pixels from 1. A file that counts from 0 shows by boxes that begin at -1 once the one is taken off."""
    from_zero = [picture for picture in data.pictures if "voc" in picture.extra and any(-1.0 in thing.box[:2] for thing in picture.objects)]
    if from_zero:
        where = str(from_zero[0].path or from_zero[0].name)
        more = f" and {len(from_zero) - 1} more" if len(from_zero) > 1 else ""
        yield Problem(
            "off-by-one",
            "error",
            f"{where}{more}",
            "a box begins at pixel 0, but Pascal VOC counts from 1: these files seem to count from 0; read them with --voc-origin 0",
        )


def _class_problems(data: Dataset) -> Iterator[Problem]:
    used = Counter(thing.class_id for picture in data.pictures for thing in picture.objects)
    for number, name in enumerate(data.class_names):
        if not used[number]:
            yield Problem("unused-class", "warning", f"class {name}", "no object of this class is marked anywhere")
    alike: dict[str, list[str]] = defaultdict(list)
    for name in data.class_names:
        alike["".join(name.casefold().split()).replace("_", "").replace("-", "")].append(name)
    for names in alike.values():
        if len(names) > 1:
            yield Problem("alike-classes", "warning", f"class {names[0]}", f"the names {', '.join(map(repr, names))} may mean one class")


def _name_problems(pictures: Iterable[Picture]) -> Iterator[Problem]:
    by_stem: dict[tuple[str, str], list[Picture]] = defaultdict(list)
    for picture in pictures:
        by_stem[picture.split, picture.stem].append(picture)
    for same in by_stem.values():
        if len(same) > 1:
            names = ", ".join(picture.name for picture in same)
            message = f"{names} share the name of their label file: only one can have labels; rename them"
            yield Problem("same-name", "error", str(same[0].path or same[0].name), message)


def content_groups(pictures: Iterable[Picture]) -> list[list[Picture]]:
    """Pictures grouped by the bytes of their files, in order of first appearance; one without a file is alone."""
    items = list(pictures)
    sizes = Counter(picture.path.stat().st_size for picture in items if picture.path is not None)
    groups: dict[object, list[Picture]] = {}
    for picture in track(items, "comparing pictures", len(items)):
        # Files of different lengths differ: only those of one length are read.
        alone = picture.path is None or sizes[picture.path.stat().st_size] == 1
        key: object = id(picture) if alone or picture.path is None else _digest(picture.path)
        groups.setdefault(key, []).append(picture)
    return list(groups.values())


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _copy_problems(pictures: Iterable[Picture]) -> Iterator[Problem]:
    for group in content_groups(pictures):
        if len(group) == 1:
            continue
        names = ", ".join(str(picture.path or picture.name) for picture in group[1:4])
        splits = sorted({picture.split or "no split" for picture in group})
        where = str(group[0].path or group[0].name)
        if len(splits) > 1:
            message = f"the same picture is in {' and '.join(splits)} ({names}): what is trained on would be tested with"
            yield Problem("leak", "error", where, message)
        elif len({tuple(sorted((thing.class_id, thing.box) for thing in picture.objects)) for picture in group}) > 1:
            yield Problem("contradiction", "error", where, f"the same picture has other labels as {names}; keep one")
        else:
            yield Problem("copy", "warning", where, f"the same picture is there again as {names}")


def _decode_problems(pictures: Iterable[Picture]) -> Iterator[Problem]:
    """Pictures that cannot be read to their end: judged by the daemon's own reader, which does not let gray bars pass as it is."""
    from edgeannot.vision.decode import read_picture  # noqa: PLC0415 - OpenCV: conversions and counts do without it

    items = list(pictures)
    for picture in track(items, "reading pictures", len(items)):
        if picture.path is None:
            continue
        try:
            read_picture(picture.path, min_side=_ENOUGH_PX)
        except FrameError as exc:
            yield Problem(
                "unreadable-picture", "error", str(picture.path), f"{_without(str(exc), picture.path)}; replace or remove the picture"
            )


def _without(message: str, path: Path) -> str:
    return message.removeprefix(f"{path}: ")
