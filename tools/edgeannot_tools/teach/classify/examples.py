"""The pictures to learn from: read, embedded, and compared with each other."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeannot.base import atomicfile
from edgeannot.base.errors import FrameError, InputError
from edgeannot.base.foreign import read_bytes
from edgeannot.base.runtimes import Runtime
from edgeannot.vision.data import FloatArray, IntArray, UInt8Array
from edgeannot.vision.decode import PictureLimits, decode
from edgeannot.vision.engine import Engine, load_runtime
from edgeannot.vision.geometry import Resize
from edgeannot.vision.pipeline import to_tensor
from edgeannot.vision.views import CENTRE, view_tensors
from edgeannot_tools.datasets.pictures import ClassFolders, read_class_set
from edgeannot_tools.output import track
from edgeannot_tools.teach.classify.backbone import Backbone
from edgeannot_tools.teach.near_duplicates import difference_hash, group_alike

__all__ = ["FeatureCache", "Seen", "checked", "collect_examples", "default_threads", "read_examples"]

_FEWEST = 2
"""Pictures a class: one to learn from, one to test with."""
_MOST_THREADS = 4
_SUM_BYTES = 16
_LARGEST_ENTRY = 64 * 2**20
"""Of an entry; a larger file is none of ours."""
_LIMITS = PictureLimits()
_VERSION = 2
"""Of what an entry in the cache holds."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Pictures as the network sees them; N of them, copies left out."""

    class_names: tuple[str, ...]
    paths: tuple[Path, ...]
    classes: IntArray
    """(N,)."""
    looks: tuple[Resize, ...]
    """The ways to bring a picture to the input that the model is chosen from: the whole, and its middle in its true proportions."""
    vectors: FloatArray
    """(N, L, V, D), real numbers: of each look its first V views (see `view_tensors`), the whole picture first."""
    groups: IntArray
    """(N,): pictures with one number are nearly the same."""
    copies: tuple[tuple[Path, Path], ...]
    """Files that were left out, each with the one of the same class whose content it has."""


def default_threads() -> int:
    """Return as many threads as there are cores for this process, at most 4."""
    return min(_MOST_THREADS, len(os.sched_getaffinity(0)))


def read_examples(path: Path) -> ClassFolders:
    """Return pictures and classes, as `checked`. Raises MissingError, InputError also for a folder of a class without pictures."""
    examples = checked(read_class_set(path), str(path))
    for place in sorted(path.iterdir()) if path.is_dir() else ():
        if place.is_dir() and not place.name.startswith(".") and place.name not in examples.class_names:
            raise InputError(f"{path}: the folder of the class {place.name!r} has no pictures; put some into it or remove it")
    return examples


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


def collect_examples(examples: ClassFolders, backbone: Backbone, cache: Path, threads: int, runtime: Runtime, views: int = 1) -> Seen:
    """Return the pictures as the network sees them. What was seen before comes from the cache.

    views: that the model will look at; no fewer than 2 are made.

    Raises InputError for a picture that cannot be read, and for one that is in two classes.
    """
    digests = [_digest(path) for path, _ in track(examples.pictures, "reading pictures", len(examples.pictures))]
    kept, copies = _without_copies(examples, digests)
    see = _See(backbone, cache, threads, runtime, max(views, 2))
    found = [see(examples.pictures[number][0], digests[number]) for number in track(kept, "looking at pictures", len(kept))]
    vectors = backbone.real(np.stack([stored for stored, _ in found]))
    return Seen(
        examples.class_names,
        tuple(examples.pictures[number][0] for number in kept),
        np.array([examples.pictures[number][1] for number in kept], np.int64),
        see.looks,
        vectors,
        group_alike(np.stack([bits for _, bits in found]), vectors[:, 0, :2]),
        tuple(copies),
    )


class _See:
    """Call it with a picture's file and digest: the stored numbers of its views (L, views, D), and its hashes (2, 64).

    The network is loaded when a picture is not in the cache. views: 2 or 4.
    """

    def __init__(self, backbone: Backbone, cache: Path, threads: int, runtime: Runtime, views: int) -> None:
        self._backbone = backbone
        self._engine: Engine | None = None
        self._threads, self._runtime = threads, runtime
        # A stretched picture is also looked at as its middle; a network that wants another form gets that alone.
        self.looks: tuple[Resize, ...] = ("stretch", "crop") if backbone.card.input.resize == "stretch" else (backbone.card.input.resize,)
        maker = (_VERSION, backbone.digest, load_runtime(runtime)[0], self.looks, CENTRE)
        pairs = range(0, views, 2)
        self._caches = {first: FeatureCache(cache, hashlib.sha256(repr((*maker, first)).encode()).hexdigest()) for first in pairs}

    def __call__(self, path: Path, digest: str) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Raises InputError for a picture that cannot be read."""
        image: UInt8Array | None = None
        entries = []
        for first, cache in self._caches.items():
            entry = cache.get(digest)
            if entry is None or entry.keys() != {"vectors", "hashes"}:
                image = _decoded(path) if image is None else image
                entry = {"vectors": self._vectors(image, first), "hashes": np.stack(difference_hash(image))}
                cache.put(digest, entry)
            entries.append(entry)
        return np.concatenate([entry["vectors"] for entry in entries], axis=1), entries[0]["hashes"]

    def _vectors(self, image: UInt8Array, first: int) -> NDArray[Any]:
        """Return (L, 2, D) of the views `first` and `first` + 1."""
        if self._engine is None:
            self._engine = self._backbone.engine(self._threads, self._runtime)
        rows: list[NDArray[Any]] = []
        for look in self.looks:
            tensors, fit = view_tensors(image, replace(to_tensor(self._backbone.card, self._engine), resize=look), first + 2)
            if rows and fit.cut_xy == (0, 0):  # nothing is cut off, so it is the first look again
                rows.append(rows[0])
            else:
                rows.append(np.stack([self._engine.run(tensor)[0].values.reshape(-1) for tensor in tensors[first:]]))
        return np.stack(rows)


def _decoded(path: Path) -> UInt8Array:
    try:
        return decode(_content(path), _LIMITS).image
    except FrameError as exc:
        raise InputError(f"the picture {path} cannot be learned from: {exc}; replace it or take it out") from exc


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


class FeatureCache:
    """What a network said of a picture, kept on the disk by the picture's content, so that teaching again takes no inference.

    A file an entry, written whole or not at all; a check sum finds an entry that a power cut has spoiled, which is then made anew.
    folder: is made when something is put in. maker: the digest of all else that the arrays depend on.
    """

    def __init__(self, folder: Path, maker: str) -> None:
        self._folder = folder / maker[:32]
        atomicfile.remove_leftovers(self._folder)

    def get(self, digest: str) -> dict[str, NDArray[Any]] | None:
        """Return what was put under this digest; None where nothing was, or where the entry is damaged."""
        try:
            with self._path(digest).open("rb") as file:
                data = file.read(_LARGEST_ENTRY)
        except OSError:
            return None
        body = data[_SUM_BYTES:]
        return _unpacked(body) if _check_sum(body) == data[:_SUM_BYTES] else None

    def put(self, digest: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keep the arrays. A disk that is full or may not be written costs only the time of making them again."""
        body = _packed(arrays)
        with contextlib.suppress(OSError):
            atomicfile.write(self._path(digest), _check_sum(body) + body)

    def _path(self, digest: str) -> Path:
        return self._folder / f"{digest}.features"


def _check_sum(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=_SUM_BYTES).digest()


def _packed(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return a line of JSON, name -> type and shape, and the numbers behind it. numpy's own archive takes 2 ms to read, this 0.05 ms."""
    facts = {name: (array.dtype.str, array.shape) for name, array in arrays.items()}
    return json.dumps(facts).encode() + b"\n" + b"".join(np.ascontiguousarray(array).tobytes() for array in arrays.values())


def _unpacked(body: bytes) -> dict[str, NDArray[Any]]:
    """Return what `_packed` has packed. The check sum has shown that it is that."""
    begin = body.index(b"\n") + 1
    arrays = {}
    for name, (kind, shape) in json.loads(body[:begin]).items():
        count = math.prod(shape)
        array = np.frombuffer(body, np.dtype(kind), count, begin).reshape(shape)
        arrays[name] = array
        begin += array.nbytes
    return arrays
