"""What the recipes of bundled models have in common: the finished model, and the pictures that its scales are taken from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeannot.vision.data import TensorSpec, UInt8Array
from edgeannot.vision.preprocess import ToTensor
from edgeannot_maintain.sources import PHOTOS
from edgeannot_tools.quantize.calibration_set import calibration_views

__all__ = ["BOX_OFFSETS", "CALIBRATION", "LOGITS", "MADE_BY", "Built", "at_sizes", "samples"]

CALIBRATION = f"{len(PHOTOS)} free photos ({', '.join(photo.name for photo in PHOTOS)}), whole, in parts and in scenes of four"
MADE_BY = "python -m edgeannot_maintain.bundle"
LOGITS = (-8.0, 8.0)
"""Beyond, a logistic function is 0 or 1 as far as any threshold can tell."""
BOX_OFFSETS = (-12.0, 12.0)
"""Of an SSD: 1.2 anchors to the side, or e^2.4 times as large; anchors that fit their object stay well within."""


@dataclass(frozen=True, slots=True)
class Built:
    """One finished model: the file, the card without file facts, and the labels line by line."""

    name: str
    model: bytes
    card: dict[str, Any]
    labels: tuple[str, ...]


def samples(photos: Sequence[UInt8Array], size: int, facts: dict[str, Any]) -> Iterator[list[NDArray[Any]]]:
    """Return calibration views as float input tensors, as the card's [input] table says; letterboxed whole photos come last."""
    spec = TensorSpec("image", 0, (1, size, size, 3), np.dtype(np.float32), 0.0, 0)
    wanted = {key: facts[key] for key in ("resize", "color")}
    to_tensor = ToTensor(spec, (size, size), mean=tuple(facts["mean"]), std=tuple(facts["std"]), **wanted)
    for view in calibration_views(photos, (size, size)):
        yield [to_tensor(view)[0]]
    if facts["resize"] != "stretch":
        for photo in photos:
            yield [to_tensor(photo)[0]]


def at_sizes(sizes: Sequence[int]) -> str:
    """Return what the card says of the calibration of one file for several sizes."""
    return f"{CALIBRATION}, at {', '.join(map(str, sizes))} pixels"
