"""Interprets raw SSDs, whose boxes are offsets from anchors: TensorFlow's, BlazeFace and kin, joined or layer by layer."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgeannot.base.errors import ModelError
from edgeannot.card_inference.boxes import Side
from edgeannot.card_inference.facts import Out
from edgeannot.card_inference.interpretation import (
    Assumed,
    Assumption,
    Convention,
    Interpretation,
    Known,
    is_background,
)
from edgeannot.card_inference.scores import activation_of, add_up, made_scores, named_scores
from edgeannot.vision.heads._published import BlazeKind, PublishedAnchors, blaze_kinds, published_anchors
from edgeannot.vision.heads.ssd_anchors import SsdAnchors

__all__ = ["boxes_first", "names_allow_background", "raw_ssd", "read_blaze_layers", "read_layers", "ssd_with_anchors"]

Pair = tuple[Out, Out]
"""Boxes and scores."""

ANCHORS_BY_HAND = (
    "--set head.scaled=RULE, --set head.octaves=RULE or --set head.layers=LIST by the configuration it was trained with, and with "
    "--set head.code=xywh if that is not TensorFlow's (docs/models.md, Anchors by hand)"
)


def names_allow_background(known: Known, columns: int) -> bool:
    """Tell whether the labels, if there are any, leave room for a background column."""
    return not known.names or len(known.names) == columns - 1 or (len(known.names) == columns and is_background(known.names[0]))


def _score_facts(
    known: Known, scores: Side, *, background_first: bool = True
) -> tuple[Literal["none", "sigmoid", "softmax"], int | None, str]:
    """Return activation, background column, and why, for raw SSD scores.

    background_first: whether the family has a background column where no names say otherwise.
    """
    columns = scores.width
    if columns > 1 and add_up(scores.numbers):
        background = 0 if names_allow_background(known, columns) else None
        return "none", background, f"the {columns} scores of a box add up to 1: a softmax, column 0 is the background"
    activation, why = activation_of(known, scores.numbers, scores.out.made_by)
    named = bool(known.names) and len(known.names) == columns and not is_background(known.names[0])
    unsaid = not known.names and not background_first
    if columns == 1 or named or unsaid or not names_allow_background(known, columns):
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
    assumption = Assumption.CORNER_OFFSETS.of() if corners else _centre_offsets(head)
    return Interpretation(head, Convention.SSD, evidence, classes=scores.width, background=background, assumptions=(assumption,))


def _centre_offsets(head: SsdAnchors) -> Assumed:
    first, other = ("y first", "xywh") if head.code == "yxhw" else ("x first", "yxhw")
    return Assumption.CENTRE_OFFSETS.of(code=first, other=other)


def _offsets(head: SsdAnchors, anchors: PublishedAnchors) -> tuple[Assumed, ...]:
    if set(anchors.scales) != {1.0}:
        return (_centre_offsets(head),)
    if anchors.octaves is None:
        return ()
    scale = anchors.octaves.anchor_scale
    return (Assumption.NINE_BOXES.of(who=anchors.who, strides=f"{scale:g}", other=7 - int(scale)),)


def _given(known: Known, published: PublishedAnchors | None) -> list[str]:
    """Return the options that give a rule of their own, not those that change a field of the published one."""
    kept = "" if published is None else f"head.{'octaves' if published.octaves else 'scaled'}."
    options = [key for key in known.hints.extra if re.match(r"head\.(scaled|octaves|layers)\b", key)]
    return [key for key in options if not kept or not key.startswith(kept)]


def raw_ssd(known: Known, boxes: Side, scores: Side) -> list[Interpretation]:
    """Interpret raw offsets whose anchors are not in the file: known where a published rule gives exactly this many."""
    picture, count = known.facts.picture, int(boxes.numbers.shape[1])
    blaze = next((kind for kind in blaze_kinds(picture.size_wh) if kind.rows == count), None)
    if scores.width == 1 and blaze is not None:
        return [_blaze(known, (boxes.out,), (scores.out,), boxes.width, blaze)]
    anchors = published_anchors(picture.size_wh, count)
    given = _given(known, anchors)
    if given:  # the family stays what it is by the number of boxes
        anchors = replace(anchors or PublishedAnchors(""), scaled=None, octaves=None)
    if boxes.width != 4 or anchors is None:
        noted = "; ".join(known.facts.metadata.notes)
        raise known.ambiguous(
            f"{boxes.out} holds raw offsets from {count} anchors, "
            f"which the file does not hold{f' ({noted})' if noted else ''} and no published rule for {picture.width} px gives",
            [ANCHORS_BY_HAND],
        )
    says = f"{boxes.out} holds raw offsets (in a sample run they are no boxes), {scores.out} {scores.width} scores"
    whose = f"anchors by {given[0]}, as given" if given else f"{count} are the anchors of {anchors.who} at {picture.width} px"
    return [_by_rule(known, [(boxes.out, scores.out)], scores, anchors, says, whose)]


def _by_rule(known: Known, pairs: Sequence[Pair], scores: Side, anchors: PublishedAnchors, *evidence: str) -> Interpretation:
    """Interpret pairs of offsets and scores, in all `scores`, by the rule of their anchors."""
    activation, background, why = _score_facts(known, scores, background_first=anchors.background)
    head = SsdAnchors(
        boxes=tuple(out.ref for out, _ in pairs),
        scores=tuple(out.ref for _, out in pairs),
        activation=activation,
        background=background,
        scaled=anchors.scaled,
        octaves=anchors.octaves,
        scales=anchors.scales,
    )
    offsets = _offsets(head, anchors)
    return Interpretation(head, Convention.SSD, (*evidence, why), classes=scores.width, background=background, assumptions=offsets)


def _blaze(known: Known, boxes: tuple[Out, ...], scores: tuple[Out, ...], width: int, kind: BlazeKind) -> Interpretation:
    """Interpret boxes of `width` numbers and one score each, joined or layer by layer, from fine to coarse."""
    picture = known.facts.picture
    done = all(out.made_by == "LOGISTIC" for out in scores)
    below_zero = min(known.run.span(out.position)[0] + out.step for out in scores) < 0
    w, h = float(picture.width), float(picture.height)
    head = SsdAnchors(
        boxes=tuple(out.ref for out in boxes),
        scores=tuple(out.ref for out in scores),
        activation="none" if done else "sigmoid",
        scaled=kind.rule,
        code="xywh",
        scales=(w, h, w, h),
        exponential=False,
        extra_columns=width - 4,
    )
    boxes_are, scores_are = (" and ".join(map(str, outs)) for outs in (boxes, scores))
    evidence = (
        f"{kind.rows} boxes of {width} numbers ({width - 4} of them keypoints): {boxes_are}; one score each: {scores_are}",
        f"{kind.rows} are the anchors of {kind.who} at {picture.width} px",
        "scores are made by LOGISTIC: probabilities already" if done else "scores are logits, which go through a sigmoid in that family",
    )
    thing = {16: "face", 18: "palm", 12: "person"}.get(width, "")  # with six, seven and four points
    convention = Convention.PALM if thing == "palm" else Convention.MEDIAPIPE
    return Interpretation(head, convention, evidence, classes=1, thing=thing, scores_settled=below_zero)


def read_blaze_layers(known: Known) -> list[Interpretation]:
    """Interpret BlazeFace and its kin before their layers are joined: boxes and scores (1, n, ...) or (1, h, w, ...), in any order."""
    for kind in blaze_kinds(known.facts.picture.size_wh):
        if len(kind.layers) > 1 and len(known.facts.outputs) == 2 * len(kind.layers):
            pairs = [pair for layer in kind.layers if (pair := _blaze_pair(known, *layer)) is not None]
            widths = {width for _, _, width in pairs}
            if len(pairs) == len(kind.layers) and len(widths) == 1:
                boxes, scores = tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs)
                return [_blaze(known, boxes, scores, widths.pop(), kind)]
    return []


def _blaze_pair(known: Known, side: int, per_cell: int) -> tuple[Out, Out, int] | None:
    """Return the boxes and the scores of a layer of `side` x `side` cells, and how many numbers a box has."""
    found = []
    for out in known.facts.outputs:
        shape = known.run.shape(out.position)
        if len(shape) == 3 and shape[:2] == (1, side * side * per_cell):
            found.append((shape[2], out))
        elif len(shape) == 4 and shape[:3] == (1, side, side) and shape[3] % per_cell == 0:
            found.append((shape[3] // per_cell, out))
    if len(found) != 2:
        return None
    (one, scores), (width, boxes) = sorted(found, key=lambda pair: pair[0])
    return (boxes, scores, width) if one == 1 and width > 4 and width % 2 == 0 else None


FEWEST = 4
"""Layers; SSDs have five or six."""


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
        anchors = published_anchors(known.facts.picture.size_wh, rows) if len(pairs) == len(cells) else None
        if anchors is not None:
            pairs = boxes_first(known, pairs, made_scores) if columns == 4 else pairs
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


def boxes_first(known: Known, pairs: list[Pair], *tests: Callable[[Out], bool]) -> list[Pair]:
    """Return the two outputs of each layer with the boxes first, where scores are as many: as given, as one of the tests tells scores, or
    by a name.

    Raises AmbiguousModelError where nothing tells.
    """
    hints = (known.hints.extra.get(f"head.{role}") for role in ("boxes", "scores"))
    boxes, scores = (hint if isinstance(hint, list) else [hint] for hint in hints)
    ways: tuple[Callable[[Out], bool], ...] = (
        lambda out: out.ref not in boxes and out.position not in boxes,
        lambda out: out.ref in scores or out.position in scores,
        *tests,
        lambda out: named_scores(known, out),
    )
    for is_scores in ways:
        if all(is_scores(one) != is_scores(other) for one, other in pairs):
            return [(other, one) if is_scores(one) else (one, other) for one, other in pairs]
    what = f"{pairs[0][0]} and {pairs[0][1]}" if len(pairs) == 1 else f"the two outputs of each of its {len(pairs)} layers"
    ones, others = (",".join(str(out.position) for out in outs) for outs in zip(*pairs, strict=True))
    ones, others = (ones, others) if len(pairs) == 1 else (f"[{ones}]", f"[{others}]")
    raise known.ambiguous(
        f"{what} look alike: one holds boxes, the other four class scores",
        [f"--set head.boxes={one} --set head.scores={other}" for one, other in ((ones, others), (others, ones))],
    )


def _layered(known: Known, pairs: list[Pair], columns: int, anchors: PublishedAnchors) -> Interpretation:
    scores = np.concatenate([known.run.of(pair[1].position).reshape(len(known.run.values), -1, columns) for pair in pairs], axis=1)
    says = f"{len(pairs)} pairs of outputs hold offsets and {columns} scores for maps that get smaller: an SSD before its layers are joined"
    whose = f"together they have the anchors of {anchors.who} at {known.facts.picture.width} px"
    return _by_rule(known, pairs, Side(pairs[0][1], scores), anchors, says, whose)
