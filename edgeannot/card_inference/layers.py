"""Reads raw SSDs cut before their outputs are joined: a pair of boxes and scores for each layer of anchors."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from edgeannot.card_inference.facts import Out
from edgeannot.card_inference.interpretation import SSD, Interpretation, Known, is_background
from edgeannot.card_inference.priors import ssd_priors
from edgeannot.card_inference.scores import activation_of
from edgeannot.vision.heads._anchors import OctaveAnchors, ScaledAnchors
from edgeannot.vision.heads.ssd_anchors import SsdAnchors

__all__ = ["read_layers"]

FEWEST = 4
"""Layers; SSDs have five or six."""

Pair = tuple[Out, Out]


def read_layers(known: Known) -> list[Interpretation]:
    """Boxes (1, h, w, 4 a) and scores (1, h, w, a C), or (1, n, 4) and (1, n, C), for at least four sizes of maps."""
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
        pairs = [_pair(known, groups[size], columns) for size in cells]
        found = [pair for pair in pairs if pair is not None]
        rows = sum(_rows(known, pair[0]) for pair in found)
        priors = ssd_priors(known.facts.picture.width, rows) if len(found) == len(pairs) and _square(known) else None
        if priors is not None:
            interpretations.append(_reading(known, found, columns, priors.who, priors.rule))
    return interpretations


def _square(known: Known) -> bool:
    return known.facts.picture.width == known.facts.picture.height


def _channels(known: Known, out: Out) -> int:
    return known.run.shape(out.position)[-1]


def _rows(known: Known, boxes: Out) -> int:
    """How many boxes a box output holds."""
    return int(np.prod(known.run.shape(boxes.position))) // 4


def _column_counts(known: Known, group: list[Out]) -> set[int]:
    """How many score columns a pair may have, whichever of the two holds the boxes."""
    a, b = (_channels(known, out) for out in group)
    return {scores // (boxes // 4) for boxes, scores in ((a, b), (b, a)) if boxes % 4 == 0 and scores % (boxes // 4) == 0}


def _pair(known: Known, group: list[Out], columns: int) -> Pair | None:
    """Boxes and scores of a layer, when it can have so many score columns."""
    for boxes, scores in (group, group[::-1]):
        per_cell, rest = divmod(_channels(known, boxes), 4)
        if rest == 0 and per_cell * columns == _channels(known, scores):
            return boxes, scores
    return None


def _reading(known: Known, pairs: list[Pair], columns: int, who: str, rule: ScaledAnchors | OctaveAnchors) -> Interpretation:
    scores = np.concatenate([known.run.of(pair[1].position).reshape(len(known.run.values), -1, columns) for pair in pairs], axis=1)
    made_by = sorted(pairs[0][1].made_by)
    activation, why = activation_of(scores, made_by[0] if len(made_by) == 1 else "")
    named_all = len(known.names) == columns and not is_background(known.names[0])
    background = None if columns == 1 or named_all else 0
    head = SsdAnchors(
        boxes=tuple(pair[0].ref for pair in pairs),
        scores=tuple(pair[1].ref for pair in pairs),
        activation=activation,
        background=background,
        scaled=rule if isinstance(rule, ScaledAnchors) else None,
        octaves=rule if isinstance(rule, OctaveAnchors) else None,
    )
    evidence = (
        f"{len(pairs)} pairs of outputs hold offsets and {columns} scores for maps that get smaller: an SSD before its layers are joined",
        f"together they have the anchors of {who} at {known.facts.picture.width} px, offsets divided by 10, 10, 5, 5",
        why,
    )
    return Interpretation(head, SSD, evidence, classes=columns, background=background)
