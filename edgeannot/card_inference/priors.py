"""Anchors of published SSD-like models by input size and number of boxes: used with a statement where the file holds none."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from edgeannot.vision.heads._anchors import OctaveAnchors, ScaledAnchors

__all__ = ["Priors", "blaze_priors", "ssd_priors"]


@dataclass(frozen=True, slots=True)
class Priors:
    """A rule that gives exactly the number of boxes wanted, and whose it is."""

    who: str
    rule: ScaledAnchors | OctaveAnchors


def _cells(size: int, strides: tuple[int, ...]) -> list[int]:
    return [ceil(size / stride) ** 2 for stride in strides]


def blaze_priors(size: int, count: int) -> Priors | None:
    """BlazeFace kin (MediaPipe): unit-sized anchors, two a cell and layer, layers of one stride sharing their cells."""
    kinds = (
        ("BlazeFace front / short range, palm detection", (8, 16, 16, 16), 2),
        ("BlazeFace back", (16, 32, 32, 32), 2),
        ("BlazeFace full range", (4,), 1),
        ("BlazePose detection", (8, 16, 32, 32, 32), 2),
    )
    for who, strides, per_layer in kinds:
        if sum(_cells(size, strides)) * per_layer == count:
            rule = ScaledAnchors(
                strides=strides,
                min_scale=0.1484375,
                max_scale=0.75,
                aspect_ratios=(1.0,),
                interpolated_aspect_ratio=1.0 if per_layer == 2 else 0.0,
                unit_size=True,
            )
            return Priors(who, rule)
    return None


def ssd_priors(size: int, count: int) -> Priors | None:
    """TensorFlow's SSD (six layers from stride 16) and its FPN variants (levels 3 to 7)."""
    classic = _cells(size, (16, 32, 64, 128, 256, 512))
    if 3 * classic[0] + 6 * sum(classic[1:]) == count:
        return Priors("TensorFlow's SSD-MobileNet", ScaledAnchors(strides=(16, 32, 64, 128, 256, 512), reduce_lowest=True))
    if 6 * sum(classic) == count:
        return Priors("TensorFlow's SSD with six boxes in every layer", ScaledAnchors(strides=(16, 32, 64, 128, 256, 512)))
    if sum(_cells(size, (8, 16, 32, 64, 128))) * 6 == count:
        return Priors("TensorFlow's SSD-FPN", OctaveAnchors())
    return None
