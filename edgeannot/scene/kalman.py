"""A Kalman filter with constant velocity for one box: state centre x and y, aspect ratio, height, and their velocities.

Noise grows with the height of the box, with the weights of SORT's successors (Wojke, Bewley, Paulus 2017, arXiv:1703.07402), which
ByteTrack uses as they are. Time counts in pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edgeannot.vision.data import FloatArray

__all__ = ["Motion"]

_POSITION: Final = 1 / 20
_VELOCITY: Final = 1 / 160
_ASPECT: Final = 1e-2
_ASPECT_VELOCITY: Final = 1e-5
_MEASURED_ASPECT: Final = 1e-1

_Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Motion:
    """Where a box is and how it moves: mean (8,) and covariance (8, 8)."""

    mean: _Array
    covariance: _Array

    @classmethod
    def at(cls, box_xyxy: FloatArray) -> Motion:
        """Return the motion of a box that was seen once."""
        measured = _measured(box_xyxy)
        height = measured[3]
        position, velocity = 2 * _POSITION * height, 10 * _VELOCITY * height
        deviation = np.array([position, position, _ASPECT, position, velocity, velocity, _ASPECT_VELOCITY, velocity])
        return cls(np.concatenate([measured, np.zeros(4)]), np.diag(deviation**2))

    def after(self, pictures: float) -> Motion:
        """Return the motion so many pictures later."""
        move = np.eye(8)
        move[:4, 4:] = pictures * np.eye(4)
        height = self.mean[3]
        position, velocity = _POSITION * height, _VELOCITY * height
        deviation = np.array([position, position, _ASPECT, position, velocity, velocity, _ASPECT_VELOCITY, velocity])
        return Motion(move @ self.mean, move @ self.covariance @ move.T + max(pictures, 0.0) * np.diag(deviation**2))

    def seen(self, box_xyxy: FloatArray) -> Motion:
        """Return the motion after the box was measured there."""
        gain = np.linalg.solve(self._measured_covariance(), self.covariance[:4]).T
        mean = self.mean + gain @ (_measured(box_xyxy) - self.mean[:4])
        return Motion(mean, self.covariance - gain @ self.covariance[:4])

    def surprise(self, boxes_xyxy: FloatArray) -> _Array:
        """Return how far each box, (N, 4), is from what is expected, (N,): the squared Mahalanobis distance, of 4 degrees of freedom."""
        measured = np.array([_measured(box) for box in boxes_xyxy]).reshape(-1, 4)
        off = measured - self.mean[:4]
        distance: _Array = np.einsum("ni,in->n", off, np.linalg.solve(self._measured_covariance(), off.T))
        return distance

    def _measured_covariance(self) -> _Array:
        """Return the covariance (4, 4) of a box that is measured now."""
        position = _POSITION * self.mean[3]
        noise: _Array = np.diag(np.array([position, position, _MEASURED_ASPECT, position]) ** 2)
        return self.covariance[:4, :4] + noise

    def is_inside(self, size_wh: tuple[int, int]) -> bool:
        """Return whether the middle of the box is expected in the picture."""
        return all(0 <= middle <= size for middle, size in zip(self.mean[:2], size_wh, strict=True))

    def growing_no_more(self) -> Motion:
        """Return the motion without a change of height, which would run away while nothing is seen."""
        mean = self.mean.copy()
        mean[7] = 0.0
        return Motion(mean, self.covariance)

    @property
    def box(self) -> FloatArray:
        """Return the box, (4,) xyxy."""
        x, y, aspect, height = self.mean[:4]
        half_w, half_h = max(aspect * height, 0.0) / 2, max(height, 0.0) / 2
        return np.array([x - half_w, y - half_h, x + half_w, y + half_h], np.float32)


def _measured(box_xyxy: FloatArray) -> _Array:
    x1, y1, x2, y2 = (float(value) for value in box_xyxy)
    height = max(y2 - y1, 1e-3)
    return np.array([(x1 + x2) / 2, (y1 + y2) / 2, (x2 - x1) / height, height])
