"""The pictures to learn from: read, embedded, and compared with each other."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeannot.base.errors import FrameError, InputError
from edgeannot.base.foreign import read_bytes
from edgeannot.vision.data import FloatArray, IntArray
from edgeannot.vision.decode import PictureLimits, decode
from edgeannot.vision.engine import Engine, load_runtime
from edgeannot.vision.pipeline import to_tensor
from edgeannot.vision.runtimes import Runtime
from edgeannot.vision.views import CENTRE, MOST_VIEWS, view_tensors
from edgeannot_tools.datasets.classes import read_class_set
from edgeannot_tools.datasets.pictures import ClassFolders
from edgeannot_tools.teach.classify.backbone import Backbone
from edgeannot_tools.teach.feature_cache import FeatureCache
from edgeannot_tools.teach.near_duplicates import difference_hash, group_alike
from edgeannot_tools.terminal import track

__all__ = ["Seen", "checked", "collect_examples", "default_threads", "read_examples"]

_FEWEST = 2
"""Pictures a class: one to learn from, one to test with."""
_MOST_THREADS = 4
_LIMITS = PictureLimits()
_VERSION = 1
"""Of what an entry in the cache holds."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Pictures as the network sees them; N of them, copies left out."""

    class_names: tuple[str, ...]
    paths: tuple[Path, ...]
    classes: IntArray
    """(N,)."""
    vectors: FloatArray
    """(N, MOST_VIEWS, D), real numbers; the first is the whole picture."""
    groups: IntArray
    """(N,): pictures with one number are nearly the same."""
    copies: tuple[tuple[Path, Path], ...]
    """Files that were left out, each with the one of the same class whose content it has."""


def default_threads() -> int:
    """Return as many threads as there are cores for this process, at most 4."""
    return min(_MOST_THREADS, len(os.sched_getaffinity(0)))


def read_examples(path: Path) -> ClassFolders:
    """Return pictures and classes, as `checked`. Raises MissingError, InputError."""
    return checked(read_class_set(path), str(path))


def checked(examples: ClassFolders, where: str) -> ClassFolders:
    """Return them. Raises InputError where nothing can be learned of them: one class, or a class with one picture."""
    names = examples.class_names
    if len(names) < 2:
        only = f"one class, {names[0]!r}" if names else "no class"
        raise InputError(
            f"{where} has {only}, and there is nothing to tell it from; "
            "add a second one, for example `other` with pictures of what else may be seen"
        )
    counts = np.bincount([class_id for _, class_id in examples.pictures], minlength=len(names))
    if counts.min() < _FEWEST:
        few = names[int(counts.argmin())]
        raise InputError(f"{where}: the class {few!r} has one picture, wanted at least {_FEWEST}: one to learn from and one to test with")
    return examples


def collect_examples(examples: ClassFolders, backbone: Backbone, cache: Path, threads: int, runtime: Runtime) -> Seen:
    """Return the pictures as the network sees them. What was seen before comes from the cache.

    Raises InputError for a picture that cannot be read, and for one that is in two classes.
    """
    digests = [_digest(path) for path, _ in track(examples.pictures, "reading pictures", len(examples.pictures))]
    kept, copies = _without_copies(examples, digests)
    look = _Look(backbone, cache, threads, runtime)
    found = [look(examples.pictures[number][0], digests[number]) for number in track(kept, "looking at pictures", len(kept))]
    vectors = backbone.real(np.stack([stored for stored, _ in found]))
    return Seen(
        examples.class_names,
        tuple(examples.pictures[number][0] for number in kept),
        np.array([examples.pictures[number][1] for number in kept], np.int64),
        vectors,
        group_alike(np.stack([bits for _, bits in found]), vectors[:, :2]),
        tuple(copies),
    )


class _Look:
    """Call it with a picture's file and digest: the stored numbers of its views (MOST_VIEWS, D), and its hashes (2, 64).

    The network is loaded when a picture is not in the cache.
    """

    def __init__(self, backbone: Backbone, cache: Path, threads: int, runtime: Runtime) -> None:
        self._backbone = backbone
        self._engine: Engine | None = None
        self._threads, self._runtime = threads, runtime
        maker = (_VERSION, backbone.digest, load_runtime(runtime)[0], MOST_VIEWS, CENTRE)
        self._cache = FeatureCache(cache, hashlib.sha256(repr(maker).encode()).hexdigest())

    def __call__(self, path: Path, digest: str) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Raises InputError for a picture that cannot be read."""
        entry = self._cache.get(digest)
        if entry is None or entry.keys() != {"vectors", "hashes"}:
            entry = self._made(path)
            self._cache.put(digest, entry)
        return entry["vectors"], entry["hashes"]

    def _made(self, path: Path) -> dict[str, NDArray[Any]]:
        if self._engine is None:
            self._engine = self._backbone.engine(self._threads, self._runtime)
        try:
            image = decode(_content(path), _LIMITS).image
        except FrameError as exc:
            raise InputError(f"the picture {path} cannot be learned from: {exc}; replace it or take it out") from exc
        tensors, _ = view_tensors(image, to_tensor(self._backbone.card, self._engine), MOST_VIEWS)
        vectors = np.stack([self._engine.run(tensor)[0].values.reshape(-1) for tensor in tensors])
        return {"vectors": vectors, "hashes": np.stack(difference_hash(image))}


def _content(path: Path) -> bytes:
    return read_bytes(path, "the picture", max_bytes=_LIMITS.max_file_bytes)


def _digest(path: Path) -> str:
    return hashlib.sha256(_content(path)).hexdigest()


def _without_copies(examples: ClassFolders, digests: Sequence[str]) -> tuple[list[int], list[tuple[Path, Path]]]:
    """Return positions of the pictures without those that are there again, and the latter. Raises InputError for one in two classes."""
    first: dict[str, int] = {}
    copies = []
    for number, digest in enumerate(digests):
        if (same := first.setdefault(digest, number)) == number:
            continue
        (one, one_class), (other, other_class) = examples.pictures[same], examples.pictures[number]
        if one_class != other_class:
            names = examples.class_names[one_class], examples.class_names[other_class]
            raise InputError(f"the same picture is in the classes {names[0]!r} and {names[1]!r}: {one} and {other}; remove the wrong one")
        copies.append((other, one))
    return sorted(first.values()), copies
