"""The pictures that int8 ranges are taken from: the user's own, or a few that ship with the package; and the tensors made of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from glob import iglob
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np

from edgeannot.base.errors import FrameError, InputError, MissingError
from edgeannot.base.places import SAMPLES
from edgeannot.vision.data import Frame, UInt8Array
from edgeannot.vision.decode import read_picture
from edgeannot.vision.preprocess import ToTensor
from edgeannot_tools.output import track

__all__ = ["CalibrationSet", "calibration_views", "find_pictures", "more_views", "read_set", "scene", "tensors"]

T = TypeVar("T")
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
"""Files in a folder that are taken for pictures; a glob pattern is taken at its word."""
FEW = 16
"""With fewer pictures than this, parts of them and scenes of four are added, so that objects of more sizes are seen.

With 24 pictures of VOC they made no difference to what was found: NanoDet-m had mAP50 .460 without and .456 with them on 50 pictures of
COCO, EfficientNet-Lite0 gave float's best class on 197 and 196 of 200 pictures. The latter's scores came nearer to float's (.023 away
without, .015 with; NanoDet-m's .032 and .031). Calibrating took four times as long."""
SCENE_BRIGHTNESS = (0, 40, -40, 0)
"""What the four parts of a scene get added."""
MIN_SIDE = 640
"""Large photos are decoded at reduced size down to this; no input is much larger."""


@dataclass(frozen=True, slots=True)
class CalibrationSet:
    """Decoded pictures, where they are from, and a hash that names exactly them."""

    frames: tuple[Frame, ...]
    found: int
    """How many there were; `frames` may be a part of them."""
    where: str
    sha256: str
    """Of the pictures' own sha256, in order, one a line."""
    bundled: bool

    def some(self, count: int) -> CalibrationSet:
        """Return the set with at most so many of its pictures, evenly chosen."""
        return replace(self, frames=tuple(_some(self.frames, count)))

    def describe(self) -> str:
        """For the card: "24 pictures of porch/, sha256 0123456789abcdef"."""
        of = f" of {self.found}" if self.found > len(self.frames) else ""
        return f"{len(self.frames)}{of} pictures from {self.where}, sha256 {self.sha256[:16]}"


def find_pictures(where: str) -> list[Path]:
    """Return the picture files in a folder and the folders in it, or those that a glob pattern finds, in the order of their names.

    Raises MissingError where nothing is there and InputError where there is no picture among it.
    """
    folder = Path(where)
    if folder.is_dir():
        found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        if not found:
            raise InputError(f"--images: {where} has no pictures ({', '.join(sorted(SUFFIXES))}); name a folder of your camera's pictures")
        return found
    paths = [folder] if folder.is_file() else [Path(name) for name in sorted(iglob(where, recursive=True))]  # noqa: PTH207 - a pattern may be absolute, which Path.glob refuses
    found = [path for path in paths if path.is_file()]
    if not found:
        raise MissingError(f"--images: there is no folder {where}, and no file of that pattern")
    return found


def _some(items: Sequence[T], count: int) -> list[T]:
    """Return at most so many, evenly chosen."""
    most = min(count, len(items))
    return [items[i * len(items) // most] for i in range(most)]


def read_set(where: str | None, limit: int) -> CalibrationSet:
    """Return the pictures there (None: the bundled ones), at most `limit`, evenly chosen. Raises InputError for one that cannot be read."""
    paths = find_pictures(where) if where is not None else sorted(SAMPLES.glob("*.jpg"))
    if not paths:
        raise MissingError("the photos that ship with edgeannot are not there; name your own with --images")
    chosen, frames, digest = _some(paths, limit), [], hashlib.sha256()
    for number, path in enumerate(track(chosen, "reading pictures", len(chosen))):
        try:
            image = read_picture(path, min_side=MIN_SIDE, whole=True).image
        except FrameError as exc:
            raise InputError(f"--images: {exc}; remove it or name other pictures") from exc
        digest.update(f"{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
        frames.append(Frame(image, "calibration", number, datetime.now(UTC), path.name, path, name=path.name))
    name = (Path(where).name or where) if where is not None else "edgeannot's samples"
    return CalibrationSet(tuple(frames), len(paths), name, digest.hexdigest(), where is None)


def tensors(frames: Sequence[Frame], to_tensor: ToTensor) -> Iterator[list[Any]]:
    """Input tensors of the pictures, and of parts and scenes of them where they are few; one list a sample, as `calibrate` takes it."""
    for frame in frames:
        yield [to_tensor(frame.image)[0]]
    if len(frames) < FEW:
        images: list[UInt8Array] = [frame.image for frame in frames]
        for view in calibration_views(images, to_tensor.size_wh):
            yield [to_tensor(view)[0]]


def calibration_views(photos: Sequence[UInt8Array], size_wh: tuple[int, int]) -> Iterator[UInt8Array]:
    """Views (H, W, 3) BGR of the model's input size: each photo whole, in two mirrored parts, and in scenes of four.

    The scenes put several objects, small and of other brightness, side by side, which few free photos do.
    """
    width, height = size_wh
    for image in photos:
        rows, columns = image.shape[0], image.shape[1]
        mirrored = image[:, ::-1]
        yield _resized(image, size_wh)
        yield _resized(mirrored[: rows * 3 // 4, : columns * 3 // 4], size_wh)
        yield _resized(mirrored[rows // 4 :, columns // 4 :], size_wh)
    for first in range(len(photos)):
        yield scene([photos[(first + quarter) % len(photos)] for quarter in range(4)], (width, height), SCENE_BRIGHTNESS)


def more_views(frames: Sequence[Frame]) -> Iterator[Frame]:
    """Yield other views of pictures, in their own resolution: mirrored, in parts, darker, brighter, and in scenes of four."""
    changes: tuple[Callable[[UInt8Array], UInt8Array], ...] = (
        lambda image: image[:, ::-1],
        lambda image: image[: image.shape[0] * 3 // 4, image.shape[1] // 4 :],
        lambda image: image[image.shape[0] // 4 :, : image.shape[1] * 3 // 4],
        lambda image: np.asarray(cv2.convertScaleAbs(image, alpha=0.6), np.uint8),
        lambda image: np.asarray(cv2.convertScaleAbs(image, alpha=1.3), np.uint8),
        lambda image: image[image.shape[0] // 4 :, ::-1][:, : image.shape[1] * 3 // 4],
    )
    for change in changes:
        for frame in frames:
            yield replace(frame, image=np.ascontiguousarray(change(frame.image)))
    for first, frame in enumerate(frames):
        four = [frames[(first + quarter) % len(frames)].image for quarter in range(4)]
        yield replace(frame, image=scene(four, frame.size_wh, SCENE_BRIGHTNESS))


def scene(photos: Sequence[UInt8Array], size_wh: tuple[int, int], brightness: Sequence[int] = (0, 0, 0, 0)) -> UInt8Array:
    """Four photos as one (H, W, 3) picture, two above and two below; `brightness` is added to each."""
    width, height = size_wh
    canvas = np.zeros((height, width, 3), np.uint8)
    for quarter, photo in enumerate(photos):
        part = _resized(photo, (width // 2, height // 2))
        top, left = quarter // 2 * (height // 2), quarter % 2 * (width // 2)
        brighter = np.clip(part.astype(np.int16) + brightness[quarter], 0, 255).astype(np.uint8)
        canvas[top : top + height // 2, left : left + width // 2] = brighter
    return canvas


def _resized(image: UInt8Array, size_wh: tuple[int, int]) -> UInt8Array:
    return np.asarray(cv2.resize(image, size_wh), np.uint8)
