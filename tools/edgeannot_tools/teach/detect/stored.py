"""The taught layers of one map as an int8 convolution stores and computes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeannot.vision.data import FloatArray
from edgeannot_tools.quantize.scales import scale_for
from edgeannot_tools.teach.detect.backbone import Tap
from edgeannot_tools.teach.detect.fit import Layer

__all__ = ["OUTPUT_SCALE", "StoredLayer", "float_numbers", "store_layers"]

LOGITS = (-6.0, 4.0)
"""What an output map holds: a wider range would place boxes in coarser steps."""
OUTPUT_SCALE = scale_for(*LOGITS, exact=True)
MOST = 127
"""Of a stored weight."""
SMALLEST_STEP = 1e-9
"""Of a column without any number."""
LARGEST_BIAS = 1 << 24
"""Of a stored bias: float32 holds it exactly, and a sum stays below 32 bits."""


@dataclass(frozen=True, slots=True)
class StoredLayer:
    """One 1 x 1 convolution. real weight = weights * step; real bias = bias * step * the tap's scale."""

    weights: NDArray[np.int8]
    """(C, n)"""
    bias: NDArray[np.int32]
    """(n,)"""
    step: FloatArray
    """(n,)"""

    def numbers(self, tap: Tap, features: NDArray[np.int8]) -> FloatArray:
        """Return the output (..., n) for features (..., C) of the tap, as the file gives it."""
        # float32 holds these sums of whole numbers to a thousandth of a step of the output.
        sums = (features.astype(np.float32) - np.float32(tap.zero_point)) @ self.weights.astype(np.float32) + self.bias
        scale, zero = OUTPUT_SCALE
        stored = np.clip(np.rint(sums * (self.step * np.float32(tap.scale) / np.float32(scale))) + zero, -128, 127)
        return np.asarray((stored - zero) * scale, np.float32)


def store_layers(layers: Sequence[Layer], tap: Tap) -> StoredLayer:
    """Return the layers of one map, the tap's, side by side in the order of their bands."""
    weights = np.concatenate([layer.weights for layer in layers], axis=1)
    bias = np.concatenate([layer.bias for layer in layers])
    # stored @ w + b = (stored - zero) * scale @ (w / scale) + (b + zero * sum(w))
    real, shift = weights / tap.scale, bias + tap.zero_point * weights.sum(axis=0)
    # A column of zeros, as the only class has, still needs a step in which its bias is a 32-bit number.
    step = np.maximum(np.abs(real).max(axis=0) / MOST, np.abs(shift) / (tap.scale * LARGEST_BIAS))
    step = np.maximum(step, SMALLEST_STEP).astype(np.float32)
    stored = np.clip(np.rint(real / step), -MOST, MOST).astype(np.int8)
    return StoredLayer(stored, np.rint(shift / (step * np.float32(tap.scale))).astype(np.int32), step)


def float_numbers(layers: Sequence[Layer], features: NDArray[np.int8]) -> FloatArray:
    """Return what the layers give without rounding of weights and output, to compare with."""
    return np.concatenate([features.astype(np.float32) @ layer.weights + layer.bias for layer in layers], axis=-1)
