"""What is in a set: objects and pictures by class and split, sizes of pictures and objects."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from edgeannot_tools.datasets.form import Dataset, LabelledObject, Picture

__all__ = ["ClassStats", "DatasetStats", "count"]

_SMALL, _LARGE = 32.0**2, 96.0**2
"""Areas in pixels between which COCO calls an object of medium size, https://cocodataset.org/#detection-eval"""


@dataclass(frozen=True, slots=True)
class ClassStats:
    """One class: how often, and how large (median side of its boxes relative to the picture's)."""

    name: str
    objects: int
    pictures: int
    by_split: dict[str, int]
    """Objects by split."""
    median_width: float
    median_height: float


@dataclass(frozen=True, slots=True)
class DatasetStats:
    """The whole set."""

    pictures: int
    by_split: dict[str, int]
    """Pictures by split; the key of pictures in no split is empty."""
    without_objects: int
    objects: int
    small: int
    """Objects below 32 x 32 pixels, COCO's measure."""
    medium: int
    large: int
    """Objects of 96 x 96 pixels and more."""
    difficult: int
    crowd: int
    picture_sizes: dict[str, int]
    """The most frequent sizes, "640x480" -> pictures."""
    classes: tuple[ClassStats, ...]


def count(dataset: Dataset) -> DatasetStats:
    """Count the set."""
    things = [thing for picture in dataset.pictures for thing in picture.objects]
    areas = np.array([max(0.0, thing.size_wh[0]) * max(0.0, thing.size_wh[1]) for thing in things])
    sizes = Counter(f"{picture.size_wh[0]}x{picture.size_wh[1]}" for picture in dataset.pictures)
    return DatasetStats(
        pictures=len(dataset.pictures),
        by_split=dict(Counter(picture.split for picture in dataset.pictures)),
        without_objects=sum(not picture.objects for picture in dataset.pictures),
        objects=len(things),
        small=int((areas < _SMALL).sum()),
        medium=int(((areas >= _SMALL) & (areas < _LARGE)).sum()),
        large=int((areas >= _LARGE).sum()),
        difficult=sum(thing.difficult for thing in things),
        crowd=sum(thing.crowd for thing in things),
        picture_sizes=dict(sizes.most_common(10)),
        classes=_class_stats(dataset),
    )


def _class_stats(dataset: Dataset) -> tuple[ClassStats, ...]:
    hits: list[list[tuple[Picture, LabelledObject]]] = [[] for _ in dataset.class_names]
    for picture in dataset.pictures:
        for thing in picture.objects:
            hits[thing.class_id].append((picture, thing))
    return tuple(_one_class(name, of_class) for name, of_class in zip(dataset.class_names, hits, strict=True))


def _one_class(name: str, hits: list[tuple[Picture, LabelledObject]]) -> ClassStats:
    widths = [thing.size_wh[0] / picture.size_wh[0] for picture, thing in hits]
    heights = [thing.size_wh[1] / picture.size_wh[1] for picture, thing in hits]
    return ClassStats(
        name=name,
        objects=len(hits),
        pictures=len({id(picture) for picture, _ in hits}),
        by_split=dict(Counter(picture.split for picture, _ in hits)),
        median_width=round(float(np.median(widths)), 4) if widths else 0.0,
        median_height=round(float(np.median(heights)), 4) if heights else 0.0,
    )
