"""The views of a picture that are learned from: the whole, its mirror image, the centre, and the mirror image of that."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeannot.vision.data import UInt8Array
from edgeannot.vision.engine import Engine
from edgeannot.vision.preprocess import ToTensor

__all__ = ["CENTRE", "VIEWS", "embed_views"]

VIEWS = 4
"""Of each picture; the first is the whole, which is what a model sees at run time."""
CENTRE = 0.85
"""Of the picture's sides that the centre shows, as in ImageNet's usual centre crop (224 of 256 pixels)."""


def embed_views(image: UInt8Array, to_tensor: ToTensor, engine: Engine) -> NDArray[Any]:
    """Return the (VIEWS, D) stored numbers of the embedding. image: (H, W, 3) BGR."""
    height, width = image.shape[:2]
    inner_wh = max(1, round(width * CENTRE)), max(1, round(height * CENTRE))
    left, top = (width - inner_wh[0]) // 2, (height - inner_wh[1]) // 2
    across = 2 if to_tensor.layout == "NHWC" else 3
    rows = []
    for part in (image, image[top : top + inner_wh[1], left : left + inner_wh[0]]):
        tensor, _ = to_tensor(part)
        views = (tensor, np.ascontiguousarray(np.flip(tensor, across)))
        rows += [engine.run(view)[0].values.reshape(-1) for view in views]
    return np.stack(rows)
