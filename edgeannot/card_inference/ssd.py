"""Interprets raw SSDs, whose boxes are offsets from anchors: TensorFlow's, BlazeFace and kin, joined or layer by layer."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from math import ceil
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgeannot.base.errors import ModelError
from edgeannot.card_inference.boxes import Side
from edgeannot.card_inference.facts import Out, Picture
from edgeannot.card_inference.interpretation import (
    CENTRE_OFFSETS,
    CORNER_OFFSETS,
    MEDIAPIPE,
    PALM,
    SSD,
    AmbiguousModelError,
    Assumed,
    Interpretation,
    Known,
    is_background,
)
from edgeannot.card_inference.scores import activation_of
from edgeannot.vision.heads._anchors import OctaveAnchors, ScaledAnchors
from edgeannot.vision.heads.ssd_anchors import SsdAnchors

__all__ = ["names_allow_background", "raw_ssd", "read_layers", "ssd_with_anchors"]


ANCHORS_BY_HAND = (
    "--set head.scaled=RULE, --set head.octaves=RULE or --set head.layers=LIST by the configuration it was trained with, and with "
    "--set head.code=xywh if that is not TensorFlow's (docs/models.md, Anchors by hand)"
)


def names_allow_background(known: Known, columns: int) -> bool:
    """Tell whether the labels, if there are any, leave room for a background column."""
    return not known.names or len(known.names) == columns - 1 or (len(known.names) == columns and is_background(known.names[0]))


def _score_facts(known: Known, scores: Side) -> tuple[Literal["none", "sigmoid", "softmax"], int | None, str]:
    """Return activation, background column, and why, for raw SSD scores."""
    sums, columns = scores.numbers.sum(axis=2), scores.width
    if columns > 1 and bool(np.all(np.abs(sums - 1) < 0.05)):
        return (
            "none",
            0 if names_allow_background(known, columns) else None,
            f"the {columns} scores of a box add up to 1: a softmax, column 0 is the background",
        )
    activation, why = activation_of(known, scores.numbers, scores.out.made_by)
    named = bool(known.names) and len(known.names) == columns and not is_background(known.names[0])
    if columns == 1 or named or not names_allow_background(known, columns):
        return activation, None, f"{why}; no background column"
    return activation, 0, f"{why}; column 0 of {columns} is the background, as in TensorFlow's SSD"


def _anchor_form(anchors: NDArray[np.float32]) -> Literal["xyxy", "yxyx", "cxcywh", "cycxhw"]:
    """Return how anchors (N, 4) are written. They run row by row, so x changes at each step and y only at the end of a row."""
    first, second, third, fourth = anchors.T.astype(np.float64)
    corners = float(np.mean((third > first) & (fourth > second))) > 0.98
    one, other = ((first + third) / 2, (second + fourth) / 2) if corners else (first, second)
    x_first = np.abs(np.diff(one)).mean() > np.abs(np.diff(other)).mean()
    if corners:
        return "xyxy" if x_first else "yxyx"
    return "cxcywh" if x_first else "cycxhw"


def ssd_with_anchors(known: Known, boxes: Side, scores: Side, anchors: Side) -> Interpretation:
    """Interpret raw offsets with the anchors themselves as an output that never changes."""
    if float(np.abs(anchors.numbers).max()) > 4:
        raise ModelError(f"model {known.facts.path}: {anchors.out} holds anchors in pixels; wanted shares of the picture, 0 to 1")
    form = _anchor_form(anchors.numbers[0])
    corners = form in {"xyxy", "yxyx"}
    activation, background, why = _score_facts(known, scores)
    head = SsdAnchors(
        boxes=(boxes.out.ref,),
        scores=(scores.out.ref,),
        activation=activation,
        background=background,
        anchor_tensor=anchors.out.ref,
        anchor_form=form,
        code="corners" if corners else "yxhw" if form == "cycxhw" else "xywh",
        scales=(1.0, 1.0, 1.0, 1.0) if corners else (10.0, 10.0, 5.0, 5.0),
    )
    evidence = (
        f"{anchors.out} is the same for every picture: the anchors, {form}",
        f"{boxes.out} holds offsets from them, {scores.out} {scores.width} scores",
        why,
    )
    assumption = CORNER_OFFSETS.of() if corners else _centre_offsets(head)
    return Interpretation(head, SSD, evidence, classes=scores.width, background=background, assumptions=(assumption,))


def _centre_offsets(head: SsdAnchors) -> Assumed:
    first, other = ("y first", "xywh") if head.code == "yxhw" else ("x first", "yxhw")
    return CENTRE_OFFSETS.of(code=first, other=other)


def raw_ssd(known: Known, boxes: Side, scores: Side) -> list[Interpretation]:
    """Interpret raw offsets whose anchors are not in the file: known where a published rule gives exactly this many."""
    picture, count = known.facts.picture, int(boxes.numbers.shape[1])
    if scores.width == 1 and (blaze := _blaze_anchors(picture, count)) is not None:
        return [_blaze(picture, boxes, scores, blaze)]
    activation, background, why = _score_facts(known, scores)
    given = [key for key in known.hints.extra if re.match(r"head\.(scaled|octaves|layers)\b", key)]
    anchors = PublishedAnchors("") if given else _ssd_anchors(picture, count)
    if boxes.width != 4 or anchors is None:
        raise AmbiguousModelError(
            f"model {known.facts.path}: {boxes.out} holds raw offsets from {count} anchors, "
            f"which the file does not hold and no published rule for {picture.width} px gives",
            [ANCHORS_BY_HAND],
        )
    head = SsdAnchors(
        boxes=(boxes.out.ref,),
        scores=(scores.out.ref,),
        activation=activation,
        background=background,
        scaled=anchors.scaled,
        octaves=anchors.octaves,
    )
    evidence = (
        f"{boxes.out} holds raw offsets (in a sample run they are no boxes), {scores.out} {scores.width} scores",
        f"anchors by {given[0]}, as given" if given else f"{count} are {anchors.of(picture)}",
        why,
    )
    return [Interpretation(head, SSD, evidence, classes=scores.width, background=background, assumptions=(_centre_offsets(head),))]


def _blaze(picture: Picture, boxes: Side, scores: Side, anchors: PublishedAnchors) -> Interpretation:
    done = scores.out.made_by == "LOGISTIC"
    w, h = float(picture.width), float(picture.height)
    head = SsdAnchors(
        boxes=(boxes.out.ref,),
        scores=(scores.out.ref,),
        activation="none" if done else "sigmoid",
        scaled=anchors.scaled,
        code="xywh",
        scales=(w, h, w, h),
        exponential=False,
        extra_columns=boxes.width - 4,
    )
    count = boxes.numbers.shape[1]
    evidence = (
        f"{boxes.out} holds {count} boxes of {boxes.width} numbers ({boxes.width - 4} of them keypoints), {scores.out} one score each",
        f"{count} are the anchors of {anchors.who} at {picture.width} px",
        "scores are made by LOGISTIC: probabilities already" if done else "scores go through a sigmoid in that family",
    )
    palm = boxes.width == 18  # seven points of a hand; faces have six, bodies four
    thing = {16: "face", 18: "palm", 12: "person"}.get(boxes.width, "")
    return Interpretation(head, PALM if palm else MEDIAPIPE, evidence, classes=1, thing=thing)


FEWEST = 4
"""Layers; SSDs have five or six."""

Pair = tuple[Out, Out]


def read_layers(known: Known) -> list[Interpretation]:
    """Interpret boxes (1, h, w, 4 a) and scores (1, h, w, a C), or (1, n, 4) and (1, n, C), for at least four sizes of maps."""
    groups: dict[tuple[int, ...], list[Out]] = defaultdict(list)
    for out in known.facts.outputs:
        shape = known.run.shape(out.position)
        if len(shape) not in {3, 4} or shape[0] != 1:
            return []
        groups[shape[1:-1]].append(out)
    cells = sorted(groups, key=lambda size: -int(np.prod(size)))
    if len(cells) < FEWEST or any(len(group) != 2 for group in groups.values()):
        return []
    interpretations = []
    for columns in sorted({c for group in groups.values() for c in _column_counts(known, group)}):
        pairs = [pair for size in cells if (pair := _pair(known, groups[size], columns)) is not None]
        rows = sum(int(np.prod(known.run.shape(boxes.position))) // 4 for boxes, _ in pairs)
        anchors = _ssd_anchors(known.facts.picture, rows) if len(pairs) == len(cells) else None
        if anchors is not None:
            interpretations.append(_layered(known, pairs, columns, anchors))
    return interpretations


def _channels(known: Known, out: Out) -> int:
    return known.run.shape(out.position)[-1]


def _column_counts(known: Known, group: list[Out]) -> set[int]:
    """Return how many score columns a pair may have, whichever of the two holds the boxes."""
    a, b = (_channels(known, out) for out in group)
    return {scores // (boxes // 4) for boxes, scores in ((a, b), (b, a)) if boxes % 4 == 0 and scores % (boxes // 4) == 0}


def _pair(known: Known, group: list[Out], columns: int) -> Pair | None:
    """Return boxes and scores of a layer, when it can have so many score columns."""
    for boxes, scores in (group, group[::-1]):
        per_cell, rest = divmod(_channels(known, boxes), 4)
        if rest == 0 and per_cell * columns == _channels(known, scores):
            return boxes, scores
    return None


def _layered(known: Known, pairs: list[Pair], columns: int, anchors: PublishedAnchors) -> Interpretation:
    scores = np.concatenate([known.run.of(pair[1].position).reshape(len(known.run.values), -1, columns) for pair in pairs], axis=1)
    activation, why = activation_of(known, scores, pairs[0][1].made_by)
    named_all = len(known.names) == columns and not is_background(known.names[0])
    background = None if columns == 1 or named_all else 0
    head = SsdAnchors(
        boxes=tuple(pair[0].ref for pair in pairs),
        scores=tuple(pair[1].ref for pair in pairs),
        activation=activation,
        background=background,
        scaled=anchors.scaled,
        octaves=anchors.octaves,
    )
    evidence = (
        f"{len(pairs)} pairs of outputs hold offsets and {columns} scores for maps that get smaller: an SSD before its layers are joined",
        f"together they have {anchors.of(known.facts.picture)}",
        why,
    )
    return Interpretation(head, SSD, evidence, classes=columns, background=background, assumptions=(_centre_offsets(head),))


@dataclass(frozen=True, slots=True)
class PublishedAnchors:
    """A rule that gives exactly the number of anchors wanted, and whose it is."""

    who: str
    scaled: ScaledAnchors | None = None
    octaves: OctaveAnchors | None = None

    def of(self, picture: Picture) -> str:
        """Return a clause for the evidence."""
        return f"the anchors of {self.who} at {picture.width} px, offsets divided by 10, 10, 5, 5"


def _cells(picture: Picture, strides: tuple[int, ...]) -> list[int]:
    """Return the cells of each layer; none where the picture is not square, as in no published rule."""
    return [ceil(picture.width / stride) ** 2 for stride in strides] if picture.width == picture.height else []


def _blaze_anchors(picture: Picture, count: int) -> PublishedAnchors | None:
    """Return the rule of a BlazeFace kind (MediaPipe): boxes as large as the input; layers of one stride share their cells."""
    kinds = (
        ("BlazeFace front / short range, palm detection", (8, 16, 16, 16), 2),
        ("BlazeFace back", (16, 32, 32, 32), 2),
        ("BlazeFace full range", (4,), 1),
        ("BlazePose detection", (8, 16, 32, 32, 32), 2),
    )
    for who, strides, per_layer in kinds:
        if sum(_cells(picture, strides)) * per_layer == count:
            rule = ScaledAnchors(
                strides=strides,
                min_scale=0.1484375,
                max_scale=0.75,
                aspect_ratios=(1.0,),
                interpolated_aspect_ratio=1.0 if per_layer == 2 else 0.0,
                unit_size=True,
            )
            return PublishedAnchors(who, rule)
    return None


def _ssd_anchors(picture: Picture, count: int) -> PublishedAnchors | None:
    """Return the rule of TensorFlow's SSD (six layers from stride 16) or its FPN variants (levels 3 to 7)."""
    strides = (16, 32, 64, 128, 256, 512)
    classic = _cells(picture, strides)
    if 6 * sum(classic) - 3 * sum(classic[:1]) == count:
        return PublishedAnchors("TensorFlow's SSD-MobileNet", ScaledAnchors(strides=strides, reduce_lowest=True))
    if 6 * sum(classic) == count:
        return PublishedAnchors("TensorFlow's SSD with six boxes in every layer", ScaledAnchors(strides=strides))
    if 6 * sum(_cells(picture, (8, 16, 32, 64, 128))) == count:
        return PublishedAnchors("TensorFlow's SSD-FPN", octaves=OctaveAnchors())
    return None
