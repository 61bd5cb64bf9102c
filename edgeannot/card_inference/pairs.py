"""Reads detectors with boxes in one output and class scores in another: decoded pairs, raw SSD with anchors, BlazeFace and kin."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgeannot.base.errors import ModelError
from edgeannot.card_inference.boxes import BoxFacts, Side, candidate_cells, cell_orders, decoded_boxes, free_boxes, query_boxes
from edgeannot.card_inference.facts import Picture
from edgeannot.card_inference.interpretation import Assumption, Convention, Interpretation, Known
from edgeannot.card_inference.scores import add_up, keypoints_behind, made_scores, score_activation_of
from edgeannot.card_inference.ssd import boxes_first, names_allow_background, raw_ssd, ssd_with_anchors
from edgeannot.tflite.detector_metadata import DETECTOR_METADATA
from edgeannot.tflite.trace import depends_on_input, mostly_silu
from edgeannot.vision.heads._anchors import AnchorRule, OctaveAnchors, ScaledAnchors, find_layers, make_anchors
from edgeannot.vision.heads._published import published_anchors
from edgeannot.vision.heads.split import Split
from edgeannot.vision.heads.ssd_anchors import SsdAnchors

__all__ = ["read_by_metadata", "read_pairs"]

MOST = 0.5
SMALLEST = 16
"""Fewer candidates than this are no detector's."""


def read_pairs(known: Known) -> list[Interpretation]:
    """Interpret boxes and scores over the same N candidates, and perhaps anchors or objectness as well."""
    sides = _sides(known)
    if sides is None or len(sides) not in {2, 3}:
        return []
    anchors = [side for side in sides if side.width == 4 and _is_anchors(known, side)]
    rest = [side for side in sides if side not in anchors]
    if len(anchors) == 1 and len(rest) == 2 and (found := _roles(known, rest)):
        return [ssd_with_anchors(known, found[0], found[1], anchors[0])]
    if anchors or len(sides) == 3 or not (found := _roles(known, sides)):
        return _with_objectness(known, sides) if len(sides) == 3 and not anchors else []
    boxes, scores = found
    facts = _box_facts(known, boxes)
    if facts is not None and facts.queries:
        return [_of_queries(known, boxes, scores, facts)]
    return [_split(known, boxes, scores, facts)] if facts is not None else raw_ssd(known, boxes, scores)


def read_by_metadata(known: Known) -> list[Interpretation]:
    """Interpret raw boxes and scores as the notes of MediaPipe's model maker inside the file say. Raises ModelError."""
    noted, sides = known.facts.metadata.detector, _sides(known)
    if noted is None or sides is None or len(sides) != 2 or any(side.layout == "columns" for side in sides):
        return []
    numbers, classes, count = noted.numbers, noted.classes, len(noted.anchors)
    if sides[0].numbers.shape[1] != count or sorted(side.width for side in sides) != sorted((numbers, classes)):
        return []
    boxes, scores = _alike(known, sides) if numbers == classes else sorted(sides, key=lambda side: side.width != numbers)
    rule = _rule_of(noted.anchors, known.facts.picture)
    if rule is None:
        raise ModelError(f"model {known.facts.path}: the {count} anchors in its {DETECTOR_METADATA} lie on no grids of cells")
    background = 0 if known.names and names_allow_background(known, classes) else None
    head = SsdAnchors(
        boxes=(boxes.out.ref,),
        scores=(scores.out.ref,),
        activation="sigmoid" if noted.sigmoid else "none",
        background=background,
        scaled=rule if isinstance(rule, ScaledAnchors) else None,
        octaves=rule if isinstance(rule, OctaveAnchors) else None,
        layers=rule if isinstance(rule, tuple) else (),
        scales=noted.scales_yxhw,
        exponential=noted.exponential,
        extra_columns=numbers - 4,
    )
    column = "no background column" if background is None else "column 0 is the background"
    evidence = (
        f"the {DETECTOR_METADATA} in the file says how {boxes.out} and {scores.out} become boxes, as MediaPipe reads it",
        f"the rule in the card makes its {count} anchors",
        f"scores {'go through a sigmoid' if noted.sigmoid else 'are probabilities already'}, it says; {column}",
    )
    return [Interpretation(head, Convention.SSD, evidence, classes=classes, background=background, scores_settled=True)]


def _rule_of(anchors: NDArray[np.float32], picture: Picture) -> AnchorRule | None:
    """Return a rule that makes these anchors, a published one where it does; None where they lie on no grids of cells."""
    published = published_anchors(picture.size_wh, len(anchors))
    rule = published and (published.octaves or published.scaled)
    if rule and np.allclose(make_anchors(rule, picture.size_wh), anchors, atol=1e-5):
        return rule
    return find_layers(anchors, picture.size_wh)


def _sides(known: Known) -> list[Side] | None:
    """Return all outputs as rows over one N, or None where they have none in common."""
    shapes = []
    for out in known.facts.outputs:
        shape = known.run.shape(out.position)
        inner = shape[1:] if len(shape) > 1 and shape[0] == 1 else shape
        inner = (inner[0], inner[2]) if len(inner) == 3 and inner[1] == 1 else inner
        inner = (*inner, 1) if len(inner) == 1 else inner
        if len(inner) != 2:
            return None
        shapes.append(inner)
    common = set.intersection(*map(set, shapes))
    if not common or max(common) < SMALLEST:
        return None
    count = max(common)
    sides = []
    for out, shape in zip(known.facts.outputs, shapes, strict=True):
        numbers = known.run.of(out.position)
        numbers = numbers.reshape(len(numbers), *shape)
        sides.append(Side(out, numbers) if shape[0] == count else Side(out, numbers.transpose(0, 2, 1), "columns"))
    return sides


def _is_anchors(known: Known, side: Side) -> bool:
    """Tell whether an output does not change with the picture."""
    return not depends_on_input(known.facts.graph, side.out.tensor.index) or known.run.constant(side.out.position)


def _roles(known: Known, sides: list[Side]) -> tuple[Side, Side] | None:
    """Return boxes and scores of two outputs. Where both have four columns, the one that is not probabilities holds the boxes."""
    fours = [side for side in sides if side.width == 4]
    if len(fours) == 2:
        return _alike(known, fours)
    if len(fours) == 1:
        return fours[0], next(side for side in sides if side is not fours[0])
    wide, narrow = sorted(sides, key=lambda side: -side.width)
    blaze = wide.width > 4 and wide.width % 2 == 0 and narrow.width == 1
    return (wide, narrow) if blaze else None


def _alike(known: Known, sides: list[Side]) -> tuple[Side, Side]:
    """Tell boxes from four class scores of the same shape: by decoded boxes, an activation, or a name."""
    of = {side.out.position: side for side in sides}
    [(boxes, scores)] = boxes_first(
        known,
        [(sides[0].out, sides[1].out)],
        lambda out: query_boxes(known, of[out.position].numbers) is None,  # first: DETR's boxes come out of a sigmoid, its scores do not
        made_scores,
        lambda out: _box_facts(known, of[out.position]) is None,
    )
    return of[boxes.position], of[scores.position]


def _box_facts(known: Known, side: Side) -> BoxFacts | None:
    """Return what the boxes are when they are decoded."""
    if side.width != 4:
        return None
    cells = candidate_cells(known.facts, side.numbers.shape[1])
    found = decoded_boxes(known, side.numbers, cells) if cells is not None else None
    queries = query_boxes(known, side.numbers, by_order=True) if cells is None else None
    return found or queries or free_boxes(side.numbers, known.facts.picture.width)


def _split(known: Known, boxes: Side, scores: Side, facts: BoxFacts, objectness: Side | None = None) -> Interpretation:
    made_by = scores.out.made_by
    activation, why = score_activation_of(known, scores.numbers, made_by, scores.out.step)
    head = Split(
        boxes=boxes.out.ref,
        scores=scores.out.ref,
        objectness=None if objectness is None else objectness.out.ref,
        box_layout=boxes.layout,
        score_layout=scores.layout,
        box_units=known.hints.box_units or facts.units,
        box_form=facts.form,
        activation=activation,
    )
    evidence = [f"{boxes.out} holds boxes, {scores.out} {scores.width} class scores for each", facts.evidence, why]
    if objectness is not None:
        evidence.append(f"{objectness.out} holds an objectness for each")
    cells = candidate_cells(known.facts, boxes.numbers.shape[1])
    named = cells is None and len(known.names) == scores.width - 1
    background = 0 if named or (made_by == "SOFTMAX" and names_allow_background(known, scores.width)) else None
    # Three anchors a cell in two outputs are the TensorFlow ports of YOLOv3 and v4, which stretch as Darknet does; or YOLOv5, cut.
    port = cells is not None and cells.anchors == 3 and not mostly_silu(known.facts.graph)
    convention = Convention.SSD if cells is None else Convention.DARKNET if port else Convention.ULTRALYTICS
    return Interpretation(head, convention, tuple(evidence), classes=scores.width, background=background)


Y_FIRST_FORMS: dict[str, Literal["cycxhw", "yxyx"]] = {"cxcywh": "cycxhw", "xyxy": "yxyx"}


def _of_queries(known: Known, boxes: Side, scores: Side, facts: BoxFacts) -> Interpretation:
    """Interpret boxes and class scores of a transformer's queries: DETR's softmax with a column for no object, else a sigmoid a class."""
    activation, background, why = _query_scores(known, scores)
    # TensorFlow's own DETR counts no object as class 0 and writes y first; Facebook's and all that came of it count it last, x first.
    y_first = background == 0
    form = Y_FIRST_FORMS[facts.form] if y_first else facts.form
    head = Split(
        boxes=boxes.out.ref,
        scores=scores.out.ref,
        box_layout=boxes.layout,
        score_layout=scores.layout,
        box_units=known.hints.box_units or facts.units,
        box_form=form,
        activation=activation,
        background=background,
        suppressed=True,
    )
    evidence = (
        f"{boxes.out} holds boxes, {scores.out} {scores.width} class scores for each",
        facts.evidence,
        why,
        "a query stands for an object, so overlapping boxes stay",
    )
    who = "TensorFlow's DETR" if y_first else "DETR" if background is not None else "DETR's kin"
    other = facts.form if y_first else Y_FIRST_FORMS[facts.form]
    assumptions = [Assumption.QUERY_ORDER.of(first="y" if y_first else "x", who=who, other=other)]
    if background is not None:
        end = scores.width - 1 if y_first else 0
        assumptions.append(Assumption.NO_OBJECT.of(column=background, columns=scores.width, who=who, other=end))
    elif activation == "sigmoid":
        assumptions.append(Assumption.CLASS_SIGMOIDS.of())
    uncounted = background == scores.width - 1 and len(known.names) != scores.width
    return Interpretation(
        head,
        Convention.RT_DETR if background is None else Convention.DETR,
        evidence,
        classes=scores.width - int(uncounted),
        background=0 if y_first else None,
        assumptions=tuple(assumptions),
    )


def _query_scores(known: Known, scores: Side) -> tuple[Literal["none", "sigmoid", "percent", "softmax"], int | None, str]:
    """Return activation, the column for no object, and why. Raises AmbiguousModelError where labels and numbers say different things."""
    numbers, columns = scores.numbers, scores.width
    said, column = known.hints.extra.get("head.activation"), known.hints.extra.get("head.background")
    wins = numbers.argmax(axis=2)
    end = max((columns - 1, 0), key=lambda c: float(np.mean(wins == c)))
    shares = columns > 1 and add_up(numbers)
    logits = bool(numbers.min() < -0.05)
    clear = logits and columns > 1 and float(np.mean((wins == end) & (numbers[..., end] > 0))) > MOST
    one_more = logits and columns - 1 in known.class_counts()
    if isinstance(column, int) or said == "softmax" or shares or (said is None and (clear or one_more)):
        if not (isinstance(column, int) or said or shares or clear) and float(np.mean(numbers.max(axis=2) < 0)) > MOST:
            raise known.ambiguous(
                f"{scores.out} has {columns} columns for {columns - 1} labels, so one may stand for no object; "
                "but in a sample run most queries have no number above 0, as where each class has a sigmoid",
                ["--set head.activation=softmax", "--set head.activation=sigmoid and --labels FILE with a line for each column"],
            )
        background = column if isinstance(column, int) else end if shares or clear else columns - 1
        how = "add up to 1" if shares else f"are greatest in column {end} for most queries" if clear else "have one column more than labels"
        why = f"class scores {how}: a softmax, column {background} stands for no object"
        return "none" if shares else "softmax", background, why
    activation, why = score_activation_of(known, numbers, scores.out.made_by, scores.out.step)
    return activation, None, why


def _with_objectness(known: Known, sides: list[Side]) -> list[Interpretation]:
    """Interpret boxes, objectness and class scores."""
    facts = [_box_facts(known, side) for side in sides]
    boxes = [(side, fact) for side, fact in zip(sides, facts, strict=True) if fact is not None]
    ones = [side for side in sides if side.width == 1]
    rest = [side for side, fact in zip(sides, facts, strict=True) if fact is None and side.width != 1]
    if not len(boxes) == len(ones) == len(rest) == 1:
        return []
    (box, fact), one, other = boxes[0], ones[0], rest[0]
    cells = candidate_cells(known.facts, box.numbers.shape[1])
    if cells is not None and keypoints_behind(other.numbers, cell_orders(known, cells)) is not None:
        found = _split(known, box, one, fact)
        return [replace(found, evidence=(*found.evidence, f"{other.out} follows the cells: keypoints, which are not used"))]
    return [_split(known, box, other, fact, one)]
