"""Which pictures are nearly the same, and parts of a set that keep them together: or what is learned from would be tested with.

Two pictures are compared by a difference hash (Krawetz 2013, https://www.hackerfactor.com/blog/?/archives/529-Kind-of-Like-That.html)
and by the cosine of a network's vectors, also one with the mirror image of the other. The bounds were set on two labelled sets: nearly all
copies that were saved again, made smaller, brightened, shifted or cut by 10 % are found, and of 500 pictures of animals no two but one pair
from one scene.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeannot.vision.data import FloatArray, IntArray, UInt8Array

__all__ = ["HASH_BITS", "deal", "difference_hash", "group_alike"]

HASH_BITS = 64
_BOUNDS = ((6, 0.6), (16, 0.85), (20, 0.9))
"""Different bits of the hash at most, and cosine at least."""
_ROWS = 512
"""Compared with all others at a time, or pairs."""


def difference_hash(image: UInt8Array) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return (64,) bits that say where brightness rises to the right, and those of the mirror image. image: (H, W, 3) BGR."""
    small = cv2.resize(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), (9, 8), interpolation=cv2.INTER_AREA).astype(np.int16)
    return tuple((grid[:, 1:] > grid[:, :-1]).reshape(-1) for grid in (small, small[:, ::-1]))  # type: ignore[return-value] # two


def group_alike(hashes: NDArray[np.bool_], vectors: FloatArray) -> IntArray:
    """Return (N,) group numbers: pictures that are nearly the same, directly or by others, have one number, the lowest row among them.

    hashes: (N, 2, 64) of each picture and its mirror image. vectors: (N, 2, D) likewise.
    """
    count = len(hashes)
    length = np.maximum(np.linalg.norm(vectors, axis=2, keepdims=True), 1e-12)
    unit = vectors / length
    bits = hashes.astype(np.float32)
    leader = np.arange(count)

    def first_of(row: int) -> int:
        while leader[row] != row:
            row = int(leader[row])
        return row

    for begin in range(0, count, _ROWS):
        rows = slice(begin, begin + _ROWS)
        for other in (0, 1):
            a, b = bits[rows, 0], bits[:, other]
            different = a.sum(1)[:, None] + b.sum(1)[None] - 2 * (a @ b.T)
            # Few pairs have hashes that are so near; only these are compared in full, and once.
            close = different <= _BOUNDS[-1][0]
            pairs = np.argwhere(close if other else np.triu(close, begin + 1))
            for some in np.split(pairs, range(_ROWS, len(pairs), _ROWS)):
                cosine = np.einsum("nd,nd->n", unit[begin + some[:, 0], 0], unit[some[:, 1], other])
                bits_off = different[some[:, 0], some[:, 1]]
                near = np.any([(bits_off <= most) & (cosine >= least) for most, least in _BOUNDS], axis=0)
                for one, two in some[near].tolist():
                    first, second = sorted((first_of(begin + one), first_of(two)))
                    leader[second] = first
    return np.array([first_of(row) for row in range(count)], np.int64)


def deal(groups: IntArray, classes: Sequence[int] | IntArray, parts: int, seed: int = 0) -> IntArray:
    """Return (N,) numbers of parts, 0 to parts - 1: whole groups, and every class spread as evenly as its groups allow."""
    rng = np.random.default_rng(seed)
    members: dict[int, list[int]] = {}
    for row, group in enumerate(groups.tolist()):
        members.setdefault(group, []).append(row)
    class_of = {group: Counter(int(classes[row]) for row in rows).most_common(1)[0][0] for group, rows in members.items()}
    order = sorted(members, key=lambda group: (class_of[group], -len(members[group]), rng.random()))
    filled: Counter[tuple[int, int]] = Counter()
    total: Counter[int] = Counter()
    result = np.zeros(len(groups), np.int64)
    for group in order:
        own = class_of[group]
        part = min(range(parts), key=lambda number: (filled[number, own], total[number], number))
        result[members[group]] = part
        filled[part, own] += len(members[group])
        total[part] += len(members[group])
    return result
