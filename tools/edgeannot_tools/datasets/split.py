"""Splitting a set into training, validation and test parts: the same for the same seed, every class in its share, no picture in two.

The classes are spread by iterative stratification (Sechidis, Tsoumakas, Vlahavas: On the Stratification of Multi-Label Data, 2011,
https://doi.org/10.1007/978-3-642-23808-6_10): the rarest class is dealt out first, each time to the part that still lacks most of it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from edgeannot.base.errors import InputError
from edgeannot_tools.datasets.checks import content_groups
from edgeannot_tools.datasets.form import Dataset, Picture, sorted_pictures

__all__ = ["split_dataset"]

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
    """The set with every picture in one of the parts; earlier splits are forgotten.

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
    """A part with a small share may have got nothing: it takes the last picture of the fullest part."""
    for groups in dealt.values():
        if not groups:
            groups.append(max(dealt.values(), key=len).pop())
