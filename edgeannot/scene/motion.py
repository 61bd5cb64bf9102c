"""The motion gate: a cheap difference on a small gray picture decides whether the model sees a frame.

The small picture is compared with the last one that the model saw. Light that changes as a whole is taken out (gain and offset by
medians), slow changes move into the reference, and each cell has its own usual difference, so that leaves in the wind close their own
cells only. What is left counts where several cells side by side have changed.
"""

from __future__ import annotations

from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeannot.scene.motion_options import MotionOptions
from edgeannot.vision.data import FloatArray, UInt8Array

__all__ = ["MotionGate"]

_CELLS: Final = 128
"""Cells along the longer side: an object of a fortieth of it covers three."""
_PRESAMPLE: Final = 4
"""Pixels a cell and axis that are looked at; a mean of sixteen halves the noise twice."""
_NEIGHBOURS: Final = 4
"""Changed cells among nine (a cell and those round it) that make one that counts."""
_FOLLOW: Final = 0.05
"""Part of a difference that moves into the reference with each picture, where it is small."""
_LEARN: Final = 0.02
"""The same for a cell's usual difference."""
_USUAL: Final = 3.0
"""How many times its usual difference a cell has to differ."""
_SIGMA: Final = 1.4826
"""From the median of absolute differences to the standard deviation of noise."""


class MotionGate:
    """Decides for one source's pictures, in their order. For one thread; read the counts from any."""

    def __init__(self, options: MotionOptions) -> None:
        self._options = options
        self._faint = 4.0 + 12.0 * (1.0 - options.sensitivity)
        self._noises = 4.0 + 6.0 * (1.0 - options.sensitivity)
        self._least = 1.0 + 10.0 * (1.0 - options.sensitivity)
        self._reference: FloatArray | None = None
        self._usual: FloatArray | None = None
        self._counts: NDArray[np.bool_] | None = None
        self._seen_at = 0.0
        self._changed_at: float | None = None
        self.looked = 0
        """Pictures that were compared."""
        self.saved = 0
        """Of these, pictures that the model need not see."""

    def figures(self) -> dict[str, int]:
        """Return the counts for telemetry."""
        return {"looked": self.looked, "saved": self.saved}

    def opens(self, image: UInt8Array, at_s: float) -> bool:
        """Return whether the model is to see this picture. image: (H, W, 3) BGR. at_s: when it was taken, in seconds."""
        self.looked += 1
        cells = _cells(image)
        if self._reference is None or self._reference.shape != cells.shape:
            self._begin(cells)
            opens = True
        else:
            if self._changed(cells):
                self._changed_at = at_s
            held = self._changed_at is not None and 0.0 <= at_s - self._changed_at <= self._options.hold_s
            opens = held or abs(at_s - self._seen_at) >= self._options.heartbeat_s
        if opens:
            self._reference, self._seen_at = cells, at_s
        else:
            self.saved += 1
        return opens

    def _begin(self, cells: FloatArray) -> None:
        self._usual = np.zeros_like(cells)
        height, width = cells.shape
        ignored = np.zeros((height, width), np.uint8)
        for polygon in self._options.ignore:
            corners = np.array(polygon, np.float64) * (width, height)
            cv2.fillPoly(ignored, [np.round(corners).astype(np.int32)], 1)
        self._counts = ignored == 0

    def _changed(self, cells: FloatArray) -> bool:
        """Return whether something has changed; take small changes into the reference."""
        reference, usual, counts = self._reference, self._usual, self._counts
        assert reference is not None and usual is not None and counts is not None  # noqa: S101, PT018 - `_begin` made them
        difference = np.abs(cells - _as_lit(reference, cells))
        noise = _SIGMA * float(np.median(difference))
        limit = np.maximum(max(self._faint, self._noises * noise), _USUAL * usual)
        changed = (difference > limit) & counts
        small = ~changed
        reference = reference + np.where(small, _FOLLOW, 0.0).astype(np.float32) * (cells - reference)
        self._reference = reference
        self._usual = usual + _LEARN * (np.minimum(difference, 2.0 * limit) - usual)
        beside: Any = cv2.boxFilter(changed.astype(np.float32), -1, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT)
        return bool(np.count_nonzero((beside >= _NEIGHBOURS) & changed) >= self._least)


def _as_lit(reference: FloatArray, cells: FloatArray) -> FloatArray:
    """Return the reference in the light of the present picture: scaled and shifted so that medians agree."""
    ratios = (cells + 8.0) / (reference + 8.0)  # a dark cell's ratio is noise
    gain = float(np.clip(np.median(ratios), 0.5, 2.0))
    lit = (reference + 8.0) * gain - 8.0
    return np.asarray(lit + np.median(cells - lit), np.float32)


def _cells(image: UInt8Array) -> FloatArray:
    """Return the picture as a small gray one, (h, w) float32 in 0..255."""
    height, width = image.shape[:2]
    scale = _CELLS / max(height, width)
    size_wh = max(1, round(width * scale)), max(1, round(height * scale))
    step = max(1, int(max(height, width) / (_CELLS * _PRESAMPLE)))
    some = np.ascontiguousarray(image[::step, ::step])
    small = cv2.resize(some, size_wh, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), np.float32)
