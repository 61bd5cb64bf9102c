"""Several views of one picture for a classifier: the whole, its mirror image, the centre, and the mirror image of that.

Their numbers are averaged, as in the multi-crop tests of Krizhevsky et al. 2012 (section 4.1, "ImageNet Classification with Deep
Convolutional Neural Networks"). It takes as many runs of the network.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeannot.vision.data import Fit, Frame, Outputs, RawTensor, UInt8Array
from edgeannot.vision.preprocess import ToTensor

__all__ = ["CENTRE", "MOST_VIEWS", "Preparation", "Prepared", "mean_of", "view_tensors"]

MOST_VIEWS = 4
CENTRE = 0.85
"""Of the picture's sides that the centre shows, as in ImageNet's usual centre crop (224 of 256 pixels)."""


def view_tensors(image: UInt8Array, to_tensor: ToTensor, count: int) -> tuple[list[NDArray[Any]], Fit]:
    """Return the input tensors of the first `count` views, and the Fit of the whole picture.

    image: (H, W, 3) BGR. count: 1, 2 or 4.
    """
    whole, fit = to_tensor(image)
    if count == 1:
        return [whole], fit
    tensors = [whole, _mirrored(whole, to_tensor)]
    if count == MOST_VIEWS:
        centre, _ = to_tensor(_centre(image))
        tensors += [centre, _mirrored(centre, to_tensor)]
    return tensors, fit


@dataclass(frozen=True, slots=True)
class Prepared:
    """A frame with its input tensors."""

    frame: Frame
    tensors: Sequence[NDArray[Any]]
    """One a view; not to be written to."""
    fit: Fit
    by: Preparation
    took_ms: float


@dataclass(frozen=True, slots=True)
class Preparation:
    """A function from frames to input tensors, for any thread. Those of two models that want the same are equal."""

    to_tensor: ToTensor
    views: int

    def __call__(self, frame: Frame) -> Prepared:
        """Return the frame with the tensors of what the model is to see."""
        start = time.perf_counter()
        tensors, fit = view_tensors(frame.seen[0], self.to_tensor, self.views)
        return Prepared(frame, tensors, fit, self, (time.perf_counter() - start) * 1e3)

    @property
    def nbytes(self) -> int:
        """The size of the tensors of one frame."""
        return self.views * math.prod(self.to_tensor.spec.shape) * self.to_tensor.spec.dtype.itemsize


def mean_of(runs: Iterable[Outputs]) -> Outputs:
    """Return the mean of each output as real numbers; of one run what it gave, as it is stored."""
    several = list(runs)
    if len(several) == 1:
        return several[0]
    means = []
    for same in zip(*(outputs.tensors for outputs in several), strict=True):
        spec = replace(same[0].spec, dtype=np.dtype(np.float32), scale=0.0, zero_point=0)
        total = np.sum([tensor.real() for tensor in same], axis=0)
        means.append(RawTensor(np.asarray(total / np.float32(len(several)), np.float32), spec))
    return Outputs(means)


def _centre(image: UInt8Array) -> UInt8Array:
    height, width = image.shape[:2]
    inner_wh = max(1, round(width * CENTRE)), max(1, round(height * CENTRE))
    left, top = (width - inner_wh[0]) // 2, (height - inner_wh[1]) // 2
    return image[top : top + inner_wh[1], left : left + inner_wh[0]]


def _mirrored(tensor: NDArray[Any], to_tensor: ToTensor) -> NDArray[Any]:
    """Return the tensor of the mirror image, made without resizing again."""
    return np.ascontiguousarray(np.flip(tensor, 2 if to_tensor.layout == "NHWC" else 3))
