"""Reads detectors with boxes in one output and class scores in another: decoded pairs, raw SSD with anchors, BlazeFace and kin."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgeannot.base.errors import ModelError
from edgeannot.card_inference.boxes import BoxFacts, candidate_cells, decoded_boxes, free_boxes, query_boxes
from edgeannot.card_inference.facts import Out
from edgeannot.card_inference.interpretation import (
    DARKNET,
    MEDIAPIPE,
    PALM,
    RT_DETR,
    SSD,
    ULTRALYTICS,
    AmbiguousModelError,
    Interpretation,
    Known,
    is_background,
)
from edgeannot.card_inference.priors import blaze_priors, ssd_priors
from edgeannot.card_inference.scores import activation_of
from edgeannot.tflite.trace import depends_on_input, maker, mostly_silu
from edgeannot.vision.data import TensorRef
from edgeannot.vision.heads._anchors import OctaveAnchors, ScaledAnchors
from edgeannot.vision.heads.split import Split
from edgeannot.vision.heads.ssd_anchors import SsdAnchors

__all__ = ["read_pairs"]

SMALLEST = 16
"""Fewer candidates than this are no detector's."""


@dataclass(frozen=True, slots=True)
class _Side:
    """An output as N rows of numbers. `columns` says whether it is stored the other way round."""

    out: Out
    numbers: NDArray[np.float32]
    """(pictures, N, numbers a row)."""
    columns: bool

    @property
    def width(self) -> int:
        return int(self.numbers.shape[2])


def read_pairs(known: Known) -> list[Interpretation]:
    """Boxes and scores over the same N candidates, and perhaps anchors or objectness as well."""
    sides = _sides(known)
    if sides is None or len(sides) not in {2, 3}:
        return []
    anchors = [side for side in sides if side.width == 4 and _is_anchors(known, side)]
    rest = [side for side in sides if side not in anchors]
    if len(anchors) == 1 and len(rest) == 2 and (found := _roles(known, rest)):
        return [_with_anchor_output(known, found[0], found[1], anchors[0])]
    if anchors or len(sides) == 3 or not (found := _roles(known, sides)):
        return _with_objectness(known, sides) if len(sides) == 3 and not anchors else []
    boxes, scores = found
    facts = _box_facts(known, boxes)
    return [_split(known, boxes, scores, facts)] if facts is not None else _raw(known, boxes, scores)


def _sides(known: Known) -> list[_Side] | None:
    """All outputs as rows over one N, or None where they have none in common."""
    shapes = []
    for out in known.facts.outputs:
        shape = known.run.shape(out.position)
        inner = shape[1:] if len(shape) > 1 and shape[0] == 1 else shape
        inner = (inner[0], inner[2]) if len(inner) == 3 and inner[1] == 1 else inner
        inner = (*inner, 1) if len(inner) == 1 else inner
        if len(inner) != 2:
            return None
        shapes.append(inner)
    common = set(shapes[0])
    for shape in shapes:
        common &= set(shape)
    if not common or max(common) < SMALLEST:
        return None
    count = max(common)
    sides = []
    for out, shape in zip(known.facts.outputs, shapes, strict=True):
        numbers = known.run.of(out.position)
        numbers = numbers.reshape(len(numbers), *shape)
        columns = shape[0] != count
        sides.append(_Side(out, numbers.transpose(0, 2, 1) if columns else numbers, columns))
    return sides


def _is_anchors(known: Known, side: _Side) -> bool:
    """Whether an output does not change with the picture."""
    return not depends_on_input(known.facts.graph, side.out.tensor.index) or known.run.constant(side.out.position)


def _roles(known: Known, sides: list[_Side]) -> tuple[_Side, _Side] | None:
    """Boxes and scores of two outputs. Where both have four columns, the one that is not probabilities holds the boxes."""
    fours = [side for side in sides if side.width == 4]
    if len(fours) == 2:
        return _alike(known, fours)
    if len(fours) == 1:
        return fours[0], next(side for side in sides if side is not fours[0])
    wide, narrow = sorted(sides, key=lambda side: -side.width)
    blaze = wide.width > 4 and wide.width % 2 == 0 and narrow.width == 1
    return (wide, narrow) if blaze else None


def _alike(known: Known, sides: list[_Side]) -> tuple[_Side, _Side]:
    """Boxes and four class scores have the same shape: decoded boxes, an activation, or a name tells them apart."""
    for role in ("head.boxes", "head.scores"):
        hint = known.hints.extra.get(role)
        hint = hint[0] if isinstance(hint, list) and hint else hint
        named = [side for side in sides if hint is not None and hint in {side.out.ref, side.out.position}]
        if named:
            rest = next(side for side in sides if side is not named[0])
            return (named[0], rest) if role == "head.boxes" else (rest, named[0])
    tests: tuple[Callable[[_Side], bool], ...] = (
        lambda side: _made_by(known, side) in {"LOGISTIC", "SOFTMAX"},
        lambda side: _box_facts(known, side) is None,
        lambda side: any(word in side.out.tensor.name.lower() for word in ("class", "score", "conf", "prob")),
    )
    for is_scores in tests:
        found = [side for side in sides if is_scores(side)]
        if len(found) == 1:
            return next(side for side in sides if side is not found[0]), found[0]
    raise AmbiguousModelError(
        f"model {known.facts.path}: {sides[0].out} and {sides[1].out} look alike: one holds boxes, the other four class scores",
        ["--set head.boxes=... and --set head.scores=..."],
    )


def _box_facts(known: Known, side: _Side) -> BoxFacts | None:
    """What the boxes are when they are decoded."""
    if side.width != 4:
        return None
    cells = candidate_cells(known.facts, side.numbers.shape[1])
    found = decoded_boxes(known, side.numbers, cells) if cells is not None else None
    queries = query_boxes(known, side.numbers) if cells is None else None
    return found or queries or free_boxes(side.numbers, known.facts.picture.width)


def _made_by(known: Known, side: _Side) -> str:
    operator = maker(known.facts.graph, side.out.tensor.index)
    if operator is not None and operator.name == "CONCATENATION":
        operator = side.out.makers[0] if side.out.makers else None
    return "" if operator is None else operator.custom_name or operator.name


def _layout(side: _Side) -> Literal["rows", "columns"]:
    return "columns" if side.columns else "rows"


def _split(known: Known, boxes: _Side, scores: _Side, facts: BoxFacts, objectness: _Side | None = None) -> Interpretation:
    made_by = _made_by(known, scores)
    activation, why = activation_of(scores.numbers, made_by)
    head = Split(
        boxes=boxes.out.ref,
        scores=scores.out.ref,
        objectness=None if objectness is None else objectness.out.ref,
        box_layout=_layout(boxes),
        score_layout=_layout(scores),
        box_units=known.hints.box_units or facts.units,
        box_form=facts.form,
        activation=activation,
    )
    evidence = [f"{boxes.out} holds boxes, {scores.out} {scores.width} class scores for each", facts.evidence, why]
    if objectness is not None:
        evidence.append(f"{objectness.out} holds an objectness for each")
    cells = candidate_cells(known.facts, boxes.numbers.shape[1])
    queries = cells is None and query_boxes(known, boxes.numbers) is not None
    named = cells is None and not queries and len(known.names) == scores.width - 1
    background = 0 if named or (made_by == "SOFTMAX" and _names_allow_background(known, scores.width)) else None
    assumptions: tuple[str, ...] = ()
    if queries:
        convention = RT_DETR
        if activation == "sigmoid":
            assumptions = ("each class has a sigmoid of its own, as in RT-DETR; the softmax of the first DETR is not known here",)
    elif cells is None:
        convention = SSD
    else:
        # Three anchors a cell in two outputs are the TensorFlow ports of YOLOv3 and v4, which stretch as Darknet does; or YOLOv5, cut.
        convention = DARKNET if cells.anchors == 3 and not mostly_silu(known.facts.graph) else ULTRALYTICS
    return Interpretation(head, convention, tuple(evidence), classes=scores.width, background=background, assumptions=assumptions)


def _with_objectness(known: Known, sides: list[_Side]) -> list[Interpretation]:
    """Boxes, objectness and class scores."""
    boxes = [side for side in sides if side.width == 4 and _box_facts(known, side) is not None]
    ones = [side for side in sides if side.width == 1]
    rest = [side for side in sides if side not in boxes and side not in ones]
    if len(boxes) != 1 or len(ones) != 1 or len(rest) != 1:
        return []
    facts = _box_facts(known, boxes[0])
    return [] if facts is None else [_split(known, boxes[0], rest[0], facts, ones[0])]


def _names_allow_background(known: Known, columns: int) -> bool:
    """Whether the labels, if there are any, leave room for a background column."""
    return not known.names or len(known.names) == columns - 1 or (len(known.names) == columns and is_background(known.names[0]))


def _score_facts(known: Known, scores: _Side) -> tuple[Literal["none", "sigmoid", "softmax"], int | None, str]:
    """Activation, background column, and why, for raw SSD scores."""
    made_by = _made_by(known, scores)
    sums, columns = scores.numbers.sum(axis=2), scores.width
    if columns > 1 and bool(np.all(np.abs(sums - 1) < 0.05)):
        return (
            "none",
            0 if _names_allow_background(known, columns) else None,
            f"the {columns} scores of a box add up to 1: a softmax, column 0 is the background",
        )
    activation, why = activation_of(scores.numbers, made_by)
    named = bool(known.names) and len(known.names) == columns and not is_background(known.names[0])
    if columns == 1 or named or not _names_allow_background(known, columns):
        return activation, None, f"{why}; no background column"
    return activation, 0, f"{why}; column 0 of {columns} is the background, as in TensorFlow's SSD"


def _anchor_form(anchors: NDArray[np.float32]) -> Literal["xyxy", "yxyx", "cxcywh", "cycxhw"]:
    """How anchors (N, 4) are written. They run row by row, so x changes at each step and y only at the end of a row."""
    first, second, third, fourth = anchors.T.astype(np.float64)
    corners = float(np.mean((third > first) & (fourth > second))) > 0.98
    one, other = ((first + third) / 2, (second + fourth) / 2) if corners else (first, second)
    x_first = np.abs(np.diff(one)).mean() > np.abs(np.diff(other)).mean()
    if corners:
        return "xyxy" if x_first else "yxyx"
    return "cxcywh" if x_first else "cycxhw"


def _with_anchor_output(known: Known, boxes: _Side, scores: _Side, anchors: _Side) -> Interpretation:
    """Raw offsets with the anchors themselves as an output that never changes."""
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
    assumption = (
        "offsets are of corners, as the anchors are (else --set head.code=xywh)"
        if corners
        else "offsets are of centre and size, divided by 10, 10, 5, 5"
    )
    return Interpretation(head, SSD, evidence, classes=scores.width, background=background, assumptions=(assumption,))


def _raw(known: Known, boxes: _Side, scores: _Side) -> list[Interpretation]:
    """Raw offsets whose anchors are not in the file: known where a published rule gives exactly this many."""
    picture, count = known.facts.picture, int(boxes.numbers.shape[1])
    if picture.width != picture.height:
        size_priors = blaze = None
    else:
        size_priors, blaze = ssd_priors(picture.width, count), blaze_priors(picture.width, count)
    activation, background, why = _score_facts(known, scores)
    if scores.width == 1 and blaze is not None:
        done = _made_by(known, scores) == "LOGISTIC"
        head = _blaze_head(known, boxes.out.ref, scores.out.ref, boxes.width, blaze.rule, "none" if done else "sigmoid")
        evidence = (
            f"{boxes.out} holds {count} boxes of {boxes.width} numbers ({boxes.width - 4} of them keypoints), {scores.out} one score each",
            f"{count} are the anchors of {blaze.who} at {picture.width} px",
            "scores are made by LOGISTIC: probabilities already" if done else "scores go through a sigmoid in that family",
        )
        palm = boxes.width == 18  # seven points of a hand; faces have six, bodies four
        return [Interpretation(head, PALM if palm else MEDIAPIPE, evidence, classes=1)]
    given = [key for key in known.hints.extra if re.match(r"head\.(scaled|octaves|layers)\b", key)]
    if boxes.width == 4 and given:
        head = SsdAnchors(boxes=(boxes.out.ref,), scores=(scores.out.ref,), activation=activation, background=background)
        evidence = (f"{boxes.out} holds raw offsets, {scores.out} {scores.width} scores", f"anchors by {given[0]}, as given", why)
        return [Interpretation(head, SSD, evidence, classes=scores.width, background=background)]
    if boxes.width != 4 or size_priors is None:
        raise AmbiguousModelError(
            f"model {known.facts.path}: {boxes.out} holds raw offsets from {count} anchors, "
            f"which the file does not hold and no published rule for {picture.width} px gives",
            ["--set head.scaled=... with the rule of its training configuration (see the model card reference)"],
        )
    rule = size_priors.rule
    head = SsdAnchors(
        boxes=(boxes.out.ref,),
        scores=(scores.out.ref,),
        activation=activation,
        background=background,
        scaled=rule if isinstance(rule, ScaledAnchors) else None,
        octaves=rule if isinstance(rule, OctaveAnchors) else None,
    )
    evidence = (
        f"{boxes.out} holds raw offsets (in a sample run they are no boxes), {scores.out} {scores.width} scores",
        f"{count} are the anchors of {size_priors.who} at {picture.width} px, offsets divided by 10, 10, 5, 5",
        why,
    )
    return [Interpretation(head, SSD, evidence, classes=scores.width, background=background)]


def _blaze_head(
    known: Known,
    boxes: TensorRef,
    scores: TensorRef,
    width: int,
    rule: ScaledAnchors | OctaveAnchors,
    activation: Literal["none", "sigmoid"],
) -> SsdAnchors:
    picture = known.facts.picture
    w, h = float(picture.width), float(picture.height)
    return SsdAnchors(
        boxes=(boxes,),
        scores=(scores,),
        activation=activation,
        scaled=rule if isinstance(rule, ScaledAnchors) else None,
        code="xywh",
        scales=(w, h, w, h),
        exponential=False,
        extra_columns=width - 4,
    )
