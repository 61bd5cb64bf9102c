"""Labelled pictures made on the spot: bright discs and dark bars on grey noise, which any detector's features tell apart."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from edgeannot_tools.datasets import Dataset, LabelledObject, Picture

__all__ = ["made_set", "write_picture"]

SIZE_WH = (160, 128)
SIDES = (40, 60)
"""Of the objects, in pixels, the second exclusive."""


def write_picture(path: Path, seed: int, things: int = 1, kinds: int = 1, sides: tuple[int, int] = SIDES) -> tuple[LabelledObject, ...]:
    """Write a picture with so many discs (class 0) and bars (class 1, where `kinds` is 2); gives its objects."""
    rng = np.random.default_rng(seed)
    image = rng.normal(120, 12, (SIZE_WH[1], SIZE_WH[0], 3)).clip(0, 255).astype(np.uint8)
    objects = []
    for number in range(things):
        kind = (seed + number) % kinds
        side = int(rng.integers(*sides))
        x, y = int(rng.integers(0, SIZE_WH[0] - side)), int(rng.integers(0, SIZE_WH[1] - side))
        if kind == 0:
            cv2.circle(image, (x + side // 2, y + side // 2), side // 2, (40, 60, 240), -1)
        else:
            cv2.rectangle(image, (x, y), (x + side - 1, y + side - 1), (200, 160, 20), -1)
        objects.append(LabelledObject(kind, (x, y, x + side, y + side)))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
    return tuple(objects)


def made_set(folder: Path, pictures: int = 8, kinds: int = 1, empty: int = 0, sides: tuple[int, int] = SIDES) -> Dataset:
    """Make a set in a folder: pictures with an object each, and some without any."""
    made = []
    for number in range(pictures + empty):
        path = folder / f"p{number}.png"
        objects = write_picture(path, number, int(number < pictures), kinds, sides)
        made.append(Picture(path.name, SIZE_WH, objects, path))
    return Dataset(("disc", "bar")[:kinds], tuple(made))
