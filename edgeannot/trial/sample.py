"""The picture that a model is tried on, when there is none of the user's."""

from __future__ import annotations

import numpy as np

from edgeannot.base.errors import FrameError
from edgeannot.base.places import SAMPLES
from edgeannot.vision.data import UInt8Array
from edgeannot.vision.decode import read_picture

__all__ = ["GREY", "sample_photo"]

GREY = 114
"""A byte that stands for nothing to see."""


def sample_photo() -> UInt8Array:
    """(H, W, 3) uint8 BGR: a street scene that ships with the package; where it cannot be read, an even grey."""
    try:
        return read_picture(SAMPLES / "scene.jpg", min_side=640).image
    except FrameError:
        return np.full((480, 640, 3), GREY, np.uint8)
