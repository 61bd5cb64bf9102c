"""Anchor rules of published SSD-like networks, found by the number of anchors that an input of their size has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from edgeannot.vision.heads._anchors import OctaveAnchors, ScaledAnchors

__all__ = ["BlazeKind", "PublishedAnchors", "blaze_kinds", "published_anchors"]

DIVIDED = (10.0, 10.0, 5.0, 5.0)
UNDIVIDED = (1.0, 1.0, 1.0, 1.0)
EFFICIENTDET_SIZES = {320: 3.0, 384: 3.0, 448: 3.0, 512: 4.0, 640: 4.0, 768: 4.0, 896: 4.0, 1024: 4.0, 1280: 4.0}
"""Input sizes of Lite0 to Lite4 and D0 to D6 with the size of their smallest box in strides (AutoML repository, `hparams_config.py`)."""


@dataclass(frozen=True, slots=True)
class PublishedAnchors:
    """A rule, and what goes with it in the networks of that family."""

    who: str
    scaled: ScaledAnchors | None = None
    octaves: OctaveAnchors | None = None
    scales: tuple[float, float, float, float] = DIVIDED
    """What the offsets are divided by."""
    background: bool = True
    """Whether the scores have a column for it, the first."""


def published_anchors(input_wh: tuple[int, int], count: int) -> PublishedAnchors | None:
    """Return the rule that gives `count` anchors; None where none of TensorFlow's SSDs, EfficientDet or MediaPipe's model maker does."""
    strides = (16, 32, 64, 128, 256, 512)
    classic, pyramid = _cells(input_wh, strides), _cells(input_wh, (8, 16, 32, 64, 128))
    if 6 * sum(classic) - 3 * sum(classic[:1]) == count:
        return PublishedAnchors("TensorFlow's SSD-MobileNet", ScaledAnchors(strides=strides, reduce_lowest=True))
    if 6 * sum(classic) == count:
        return PublishedAnchors("TensorFlow's SSD with six boxes in every layer", ScaledAnchors(strides=strides))
    if 6 * sum(pyramid) == count:
        return PublishedAnchors("TensorFlow's SSD-FPN", octaves=OctaveAnchors())
    if 9 * sum(pyramid) == count and (scale := EFFICIENTDET_SIZES.get(input_wh[0])):
        rule = OctaveAnchors(anchor_scale=scale, scales_per_octave=3, order="scales", even=True)
        return PublishedAnchors("EfficientDet", octaves=rule, scales=UNDIVIDED, background=False)
    for levels in (5, 4):
        if 9 * sum(pyramid[:levels]) == count:
            rule = OctaveAnchors(max_level=2 + levels, anchor_scale=3.0, aspect_ratios=(0.5, 1.0, 2.0), scales_per_octave=3, order="scales")
            return PublishedAnchors("MediaPipe's model maker", octaves=rule, scales=UNDIVIDED)
    return None


@dataclass(frozen=True, slots=True)
class BlazeKind:
    """A network of MediaPipe's BlazeFace family for an input's size: boxes as large as the input, one score each."""

    who: str
    rule: ScaledAnchors
    layers: tuple[tuple[int, int], ...]
    """Cells a side, and boxes a cell, from fine to coarse; layers of one stride share their cells and are one."""

    @property
    def rows(self) -> int:
        """How many boxes there are."""
        return sum(side * side * per_cell for side, per_cell in self.layers)


def blaze_kinds(input_wh: tuple[int, int]) -> Iterator[BlazeKind]:
    """Yield what each published kind would have at this size."""
    if input_wh[0] != input_wh[1]:
        return
    for who, strides, per_layer in (
        ("BlazeFace front / short range, palm detection", (8, 16, 16, 16), 2),
        ("BlazeFace back", (16, 32, 32, 32), 2),
        ("BlazeFace full range", (4,), 1),
        ("BlazePose detection", (8, 16, 32, 32, 32), 2),
    ):
        rule = ScaledAnchors(
            strides=strides,
            min_scale=0.1484375,
            max_scale=0.75,
            aspect_ratios=(1.0,),
            interpolated_aspect_ratio=1.0 if per_layer == 2 else 0.0,
            unit_size=True,
        )
        layers = Counter(ceil(input_wh[0] / stride) for stride in strides)
        yield BlazeKind(who, rule, tuple((side, per_layer * times) for side, times in layers.items()))


def _cells(input_wh: tuple[int, int], strides: tuple[int, ...]) -> list[int]:
    """Return the cells of each layer; none where the input is not square, as in no published rule."""
    return [ceil(input_wh[0] / stride) ** 2 for stride in strides] if input_wh[0] == input_wh[1] else []
