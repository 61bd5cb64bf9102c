"""Folds of a cross-validation: pictures that are nearly the same stay together, or what is learned from would be tested with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edgeannot.base.foreign import number_of
from edgeannot.vision.data import FloatArray, IntArray
from edgeannot_tools.datasets.checks import content_groups
from edgeannot_tools.teach.detect.examples import Examples
from edgeannot_tools.teach.detect.pictures import LabelledPicture
from edgeannot_tools.teach.near_duplicates import group_alike

__all__ = ["find_alike", "make_folds", "pooled"]

FOLDS = 5
ONE_SCENE = 0.5
"""Of the pictures with objects: where more are nearly the same, the set shows one scene, and all that differs is what matters."""


def pooled(examples: Examples, count: int) -> FloatArray:
    """Return (count, D) what the network says of each of the first pictures: the means of all maps, against those of these pictures."""
    parts = []
    for store in examples.maps:
        means = np.stack([store[row].reshape(-1, store.shape[3]).astype(np.float32).mean(axis=0) for row in examples.whole[:count]])
        off = means - means.mean(axis=0)
        parts.append(off / max(float(np.sqrt((off**2).mean())), 1e-6))
    return np.concatenate(parts, axis=1)


def find_alike(pictures: Sequence[LabelledPicture], hashes: NDArray[np.bool_], vectors: FloatArray) -> tuple[IntArray, tuple[str, ...]]:
    """Return (P,) group numbers, one for pictures that are nearly the same, and notes about them.

    hashes: (P, 2, 64), see `difference_hash`. vectors: (P, D) of `pooled`; a mirror image has nearly the same, as places are averaged away.
    Pictures of one scene, as a camera on the wall takes them, are told apart by what moved; then only copies stay together.
    """
    same = np.zeros(len(pictures), np.int64)
    rows = {id(item.picture): row for row, item in enumerate(pictures)}
    for group in content_groups([item.picture for item in pictures]):
        same[[rows[id(picture)] for picture in group]] = rows[id(group[0])]
    alike = group_alike(hashes, np.stack([vectors, vectors], axis=1))
    # A copy has the hash and the vectors of its original, unless all vectors are nothing.
    alike = np.minimum(alike, alike[same])
    shown = np.array([bool(item.picture.objects) for item in pictures])
    largest = max(Counter(alike[shown].tolist()).values(), default=0)
    if largest > ONE_SCENE * shown.sum():
        return same, (f"{largest} of {shown.sum()} pictures with objects show nearly the same: the figures hold for this scene alone",)
    twins = int(sum(count for count in Counter(alike[shown].tolist()).values() if count > 1))
    if twins:
        return alike, (f"{number_of(twins, 'picture')} are nearly the same as others: they stay in one fold each",)
    return alike, ()


def make_folds(pictures: Sequence[LabelledPicture], alike: IntArray, seed: int = 0) -> IntArray:
    """Return (P,) the fold of each picture, at most 5 of them. Groups of `alike` (P,) are in one fold, and classes are spread evenly."""
    groups = [np.flatnonzero(alike == number) for number in dict.fromkeys(alike.tolist())]
    kinds = [_kinds([pictures[row] for row in rows.tolist()]) for rows in groups]
    count = min(FOLDS, sum(kind != (-1,) for kind in kinds))
    result = np.zeros(len(pictures), np.int64)
    rng = np.random.default_rng(seed)
    filled: Mapping[int, Counter[int]] = {fold: Counter() for fold in range(count)}
    totals = Counter(kinds)
    for number in sorted(rng.permutation(len(groups)).tolist(), key=lambda n: totals[kinds[n]]):
        fold = min(filled, key=lambda f: (sum(filled[f][k] for k in kinds[number]), filled[f].total(), f))
        filled[fold].update({kind: len(groups[number]) for kind in kinds[number]})
        result[groups[number]] = fold
    return result


def _kinds(group: Sequence[LabelledPicture]) -> tuple[int, ...]:
    """Return the classes in a group; -1 for a group without objects."""
    return tuple(sorted({thing.class_id for item in group for thing in item.picture.objects})) or (-1,)
