"""The picture that a model is tried on, when there is none of the user's."""

from __future__ import annotations

import numpy as np

from edgeannot.data import UInt8Array
from edgeannot.errors import FrameError
from edgeannot.picture import read_picture
from edgeannot.places import SAMPLES

__all__ = ["GREY", "sample_photo"]

GREY = 114
"""A byte that stands for nothing to see."""


def sample_photo() -> UInt8Array:
    """(H, W, 3) uint8 BGR: a street scene that ships with the package; where it cannot be read, an even grey."""
    try:
        return read_picture(SAMPLES / "scene.jpg", min_side=640).image
    except FrameError:
        return np.full((480, 640, 3), GREY, np.uint8)
