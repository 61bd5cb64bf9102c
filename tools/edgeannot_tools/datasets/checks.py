"""What breaks training, found before it does: in the labels, the pictures, and between them."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgeannot.base.errors import FrameError, InputError
from edgeannot_tools.datasets.form import Box, Dataset, LabelledObject, Picture, Problem, Reading, sorted_pictures
from edgeannot_tools.output import track

__all__ = ["check", "content_groups", "split_dataset"]

_ROUNDING_PX = 0.02
"""Relative coordinates with six decimals are this exact in a picture 20,000 pixels wide."""
_RELATIVE_ROUNDING = 1e-6
_TINY_PX = 2.0
_NAMED = 20
"""Unused classes that are named: a set that a model annotated has all of the model's."""
_ENOUGH_PX = 64
"""To find out whether a JPEG can be decoded it need not be decoded larger than this."""


def check(reading: Reading, *, decode: bool = True) -> list[Problem]:
    """Return every problem of a set that was read: those that its reader met, then boxes, classes, pictures. Errors come first.

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


def _box_problems(picture: Picture, class_names: tuple[str, ...]) -> Iterator[Problem]:
    seen: set[tuple[int, Box]] = set()
    for number, thing in enumerate(picture.objects, 1):
        where = f"{picture.path or picture.name}, object {number} ({class_names[thing.class_id]})"
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
    unused = [name for number, name in enumerate(data.class_names) if not used[number]]
    if unused:
        of_all = f"{len(unused)} of {len(data.class_names)} {'is' if len(unused) == 1 else 'are'} not used"
        some = ", ".join(unused[:_NAMED]) + (", ..." if len(unused) > _NAMED else "")
        yield Problem("unused-class", "warning", "class names", f"{of_all}: {some}")
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
    """Return pictures grouped by the bytes of their files, in order of first appearance; one without a file is alone."""
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
    """Return pictures that cannot be read to their end: judged by the daemon's own reader, which does not let gray bars pass as it is."""
    from edgeannot.vision.decode import read_picture  # noqa: PLC0415 - OpenCV: conversions and counts do without it

    items = list(pictures)
    for picture in track(items, "reading pictures", len(items)):
        if picture.path is None:
            continue
        try:
            read_picture(picture.path, min_side=_ENOUGH_PX, whole=True)
        except FrameError as exc:
            why = str(exc).removeprefix(f"{picture.path}: ")
            yield Problem("unreadable-picture", "error", str(picture.path), f"{why}; replace or remove the picture")


_HALF = 0.5
"""Room for less than half a picture is none."""
_NO_OBJECT = -1
"""Pictures without objects are spread like a class of their own."""


@dataclass(frozen=True, slots=True)
class _Group:
    """Pictures that are copies of each other and must stay together."""

    pictures: tuple[Picture, ...]
    classes: frozenset[int]
    order: bytes
    """A number drawn from the seed and the name: it decides between equals, whatever order the pictures are read in."""


def split_dataset(dataset: Dataset, shares: Mapping[str, float], seed: int = 0) -> Dataset:
    """Return the set with every picture in one of the parts; earlier splits are forgotten.

    shares: part name -> share of the pictures, e.g. {"train": 0.8, "val": 0.2}; they must add up to 1. Copies of a picture
    stay in one part. Depends on the seed and the pictures' names and labels alone, not on the machine or the order of reading.
    Raises InputError for shares that do not add up, or more parts than different pictures.
    """
    parts = {name: share for name, share in shares.items() if share > 0}
    if any(share < 0 for share in shares.values()) or abs(sum(parts.values()) - 1) > 1e-6:
        raise InputError(f"the shares must be positive and add up to 1, found {', '.join(f'{n} {s:g}' for n, s in shares.items())}")
    groups = [_group(group, seed) for group in content_groups(dataset.pictures)]
    if len(groups) < len(parts):
        raise InputError(f"{len(groups)} different pictures cannot be split into {len(parts)} parts; name fewer parts or add pictures")
    chosen = _deal(sorted(groups, key=lambda group: group.order), parts)
    pictures = [replace(picture, split=part) for part, some in chosen.items() for group in some for picture in group.pictures]
    return replace(dataset, pictures=sorted_pictures(pictures))


def _group(pictures: Sequence[Picture], seed: int) -> _Group:
    name = min(f"{picture.split}/{picture.name}" for picture in pictures)
    classes = frozenset(thing.class_id for picture in pictures for thing in picture.objects) or frozenset({_NO_OBJECT})
    return _Group(tuple(pictures), classes, hashlib.sha256(f"{seed}:{name}".encode()).digest())


def _deal(groups: Sequence[_Group], parts: Mapping[str, float]) -> dict[str, list[_Group]]:
    """Deal the groups out: the rarest class first, each of its groups to the part that lacks most of that class."""
    counts = Counter(class_id for group in groups for class_id in group.classes)
    lacking = {part: {class_id: share * n for class_id, n in counts.items()} for part, share in parts.items()}
    room = {part: share * sum(len(group.pictures) for group in groups) for part, share in parts.items()}
    dealt: dict[str, list[_Group]] = {part: [] for part in parts}
    left = list(groups)
    while left:
        counts = Counter(class_id for group in left for class_id in group.classes)
        rarest = min(counts, key=lambda class_id: (counts[class_id], class_id))
        for group in [group for group in left if rarest in group.classes]:
            # A part that is full takes no more, or the small ones would go short of the many classes that are rare.
            part = max(parts, key=lambda name: (room[name] >= _HALF, lacking[name][rarest], room[name], name))
            dealt[part].append(group)
            room[part] -= len(group.pictures)
            for class_id in group.classes:
                lacking[part][class_id] -= 1
        left = [group for group in left if rarest not in group.classes]
    _fill_empty(dealt)
    return dealt


def _fill_empty(dealt: dict[str, list[_Group]]) -> None:
    """Give a part that got nothing, for its share is small, the last picture of the fullest part."""
    for groups in dealt.values():
        if not groups:
            groups.append(max(dealt.values(), key=len).pop())
