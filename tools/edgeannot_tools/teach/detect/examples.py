"""The feature maps of many views of the labelled pictures: all that the taught layers are fitted on."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import local
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeannot.vision.data import IntArray
from edgeannot.vision.engine import Runtime
from edgeannot_tools.output import track
from edgeannot_tools.teach.detect.backbone import Backbone, features, open_engine
from edgeannot_tools.teach.detect.pictures import LabelledPicture
from edgeannot_tools.teach.detect.views import Boxes, changed_view, whole_view
from edgeannot_tools.teach.near_duplicates import HASH_BITS, difference_hash

__all__ = ["MOST_VIEWS", "Examples", "make_examples", "views_for"]

VIEWS, MOST_VIEWS = 24, 48
"""Changed views of each picture of a small set; of a very small one as many more as make 240, up to 48."""
FEW = 240
FEWEST_VIEWS = 2
EMPTY_VIEWS = 3
"""Of a picture without objects, at most: all of its cells are background in each. A made one has none: it is changed enough."""
MOST_BYTES = 160 << 20
"""Of features in memory, so that all of it fits into 512 MB beside a daemon. A large set has fewer views of each picture, which it needs
less: with 30 pictures 12 views are as good as 24."""


@dataclass(frozen=True, slots=True)
class Map:
    """What is read of N views at one tap: its own features, and beside them those of the coarser map that lies under each cell."""

    own: NDArray[np.int8]
    """(N, h, w, C)"""
    context: NDArray[np.int8] | None
    """(N, h', w', C'); None: there is none."""

    @property
    def channels(self) -> int:
        """How many numbers a cell has."""
        return int(self.own.shape[3] + (0 if self.context is None else self.context.shape[3]))

    def cells(self, views: IntArray | slice) -> NDArray[np.int8]:
        """Return (n, h, w, channels) of some views."""
        own = self.own[views]
        if self.context is None:
            return own
        under = _under(own.shape[1], self.context.shape[1])
        return np.concatenate([own, self.context[views][:, under][:, :, under]], axis=3)

    def at(self, view: IntArray, y: IntArray, x: IntArray) -> NDArray[np.int8]:
        """Return (n, channels) of single cells."""
        own = self.own[view, y, x]
        if self.context is None:
            return own
        under = _under(self.own.shape[1], self.context.shape[1])
        return np.concatenate([own, self.context[view, under[y], under[x]]], axis=1)


def _under(fine: int, coarse: int) -> IntArray:
    """Return (fine,) which row of a map of so many cells a side lies under each of a finer map's, as RESIZE_NEAREST_NEIGHBOR finds it."""
    return np.arange(fine) * coarse // fine


@dataclass(frozen=True, slots=True)
class Examples:
    """N views with their features. The first view of each picture is the whole one, as the daemon sees it."""

    backbone: Backbone
    maps: tuple[NDArray[np.int8], ...]
    """One a tap, (N, h, w, C) as the network stores them."""
    picture: IntArray
    """(N,) which picture a view shows."""
    whole: IntArray
    """(P,) the row of each picture's whole view."""
    marked: tuple[Boxes, ...]
    hashes: NDArray[np.bool_]
    """(P, 2, 64) of each picture and its mirror image, see `difference_hash`."""

    def map(self, tap: int) -> Map:
        """Return what is read at a tap."""
        context = self.backbone.context(tap)
        return Map(self.maps[tap], None if context is None else self.maps[context])

    def boxes(self, rows: Iterable[int] | None = None) -> NDArray[np.float32]:
        """Return the marked boxes of some views, or of all, (M, 4) xyxy in pixels of the input."""
        return np.concatenate([self.marked[row].boxes for row in (range(len(self.marked)) if rows is None else rows)])


def views_for(backbone: Backbone, pictures: Sequence[LabelledPicture]) -> int:
    """Return how many changed views of each picture are made: 24, or up to 48 of few pictures, as far as the memory for features goes."""
    one = sum(backbone.cells(i) ** 2 * tap.channels for i, tap in enumerate(backbone.taps))
    shown = sum(bool(item.picture.objects) for item in pictures)
    room = MOST_BYTES // one - sum(1 + _changed(item, EMPTY_VIEWS) for item in pictures if not item.picture.objects)
    return int(np.clip(room // max(shown, 1) - 1, FEWEST_VIEWS, np.clip(FEW // max(shown, 1), VIEWS, MOST_VIEWS)))


def make_examples(
    backbone: Backbone,
    pictures: Sequence[LabelledPicture],
    views: int,
    *,
    seed: int = 0,
    threads: int = 2,
    runtime: Runtime = "auto",
    scratch: Path | None = None,
) -> Examples:
    """Run the network on the whole view and on `views` changed ones of each picture; the same seed gives the same views.

    Each thread has a network of its own, as one small network has too little work for two. scratch: the folder for a file without a
    name that holds what is too much for memory; by default the system's for such files.
    """
    counts = np.array([1 + _changed(item, views) for item in pictures])
    whole, rows = np.cumsum(counts) - counts, int(counts.sum())
    shapes = [(rows, backbone.cells(i), backbone.cells(i), tap.channels) for i, tap in enumerate(backbone.taps)]
    maps = _stores(shapes, scratch)
    opened: Any = local()

    hashes = np.zeros((len(pictures), 2, HASH_BITS), bool)

    def run(number: int) -> list[Boxes]:
        if not hasattr(opened, "engine"):
            opened.engine = open_engine(backbone, runtime)
        picture = pictures[number]
        image, marked = picture.load()
        hashes[number] = difference_hash(image)
        found = []
        for view in range(int(counts[number])):
            rng = np.random.default_rng((seed, number, view))
            lay = backbone.size, backbone.resize
            shown = changed_view(image, marked, backbone.size, rng, backbone.resize) if view else whole_view(image, marked, *lay)
            for store, values in zip(maps, features(backbone, opened.engine, shown.image), strict=True):
                store[whole[number] + view] = values
            found.append(shown.marked)
        return found

    with ThreadPoolExecutor(threads) as pool:
        marked = [boxes for found in track(pool.map(run, range(len(pictures))), "features", len(pictures)) for boxes in found]
    return Examples(backbone, maps, np.repeat(np.arange(len(pictures)), counts), whole, tuple(marked), hashes)


def _changed(item: LabelledPicture, views: int) -> int:
    """Return how many changed views of a picture are made, where there are `views` of one with objects."""
    if item.picture.objects:
        return views
    return 0 if item.made is not None else min(views, EMPTY_VIEWS)


def _stores(shapes: Sequence[tuple[int, ...]], scratch: Path | None) -> tuple[NDArray[np.int8], ...]:
    """Return room for features: in memory, and the largest on the disk where it is too much. It is freed however the program ends."""
    found: dict[int, NDArray[np.int8]] = {}
    left = MOST_BYTES
    for number in sorted(range(len(shapes)), key=lambda number: int(np.prod(shapes[number], dtype=np.int64))):
        left -= int(np.prod(shapes[number], dtype=np.int64))
        if left >= 0:
            found[number] = np.empty(shapes[number], np.int8)
            continue
        with tempfile.TemporaryFile(dir=scratch) as file:
            found[number] = np.asarray(np.memmap(file, np.int8, "w+", shape=shapes[number]))
    return tuple(found[number] for number in range(len(shapes)))
