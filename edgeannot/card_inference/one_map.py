"""Reads detectors whose one output is one map of cells without anchors: FOMO's map of classes, and FastestDet."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgeannot.base.errors import CardError
from edgeannot.card_inference.interpretation import Assumption, Convention, Interpretation, Known
from edgeannot.card_inference.maps import StrideMap, cell_numbers, stride_maps
from edgeannot.card_inference.scores import activation_of, add_up
from edgeannot.card_inference.ssd import names_allow_background
from edgeannot.tflite.trace import pieces
from edgeannot.vision.heads.fastestdet import FastestDet
from edgeannot.vision.heads.fomo import Fomo

__all__ = ["read_one_map"]

COARSE = 8
"""Cells of this many pixels and more are FOMO's; a map of the same form that is finer colours each pixel in (segmentation)."""
MOSTLY = 0.5
"""A map on which more cells than this share hold an object is hardly one of centres."""
SLACK = 0.05
"""Quantized numbers may be so far out."""


def read_one_map(known: Known) -> list[Interpretation]:
    """Interpret a single output that is a map of one stride, by what the graph made it of or by how its numbers add up."""
    if len(known.facts.outputs) != 1:
        return []
    ways = stride_maps(known, known.facts.outputs[0])
    found = next((found for item in ways for rule in (_fastestdet, _fomo) if (found := rule(known, item)) is not None), None)
    return [] if found is None else [found]


def _fomo(known: Known, item: StrideMap) -> Interpretation | None:
    """Interpret (1, h, w, C) shares of each cell: column 0 for the background, a column for each class."""
    asked = known.hints.head == "fomo"
    numbers, columns = cell_numbers(known, item), item.channels
    shares = columns > 1 and add_up(numbers, item.out.tensor.scale)
    if item.form not in {"hwc", "chw"} or numbers.shape[1] < 2 or not (asked or (shares and item.stride >= COARSE)):
        return None
    activation: Literal["none", "sigmoid", "softmax"]
    background = None
    if columns == 1:
        activation, why = activation_of(known, numbers, item.out.made_by, item.out.step)
    else:
        activation, why = ("none", "each cell's numbers add up to 1") if shares else ("softmax", "each cell's numbers are logits")
        background = _background(known, columns)
        _ask_about_areas(known, numbers, asked)
    head = Fomo(output=item.out.ref, layout=item.layout, background=background, activation=activation)
    cells = f"{columns} numbers for each cell of {item.stride}x{item.stride} pixels"
    evidence = (f"{item.out} has {cells}, and {why}: FOMO, where touching cells of one class are one object",)
    said = {Assumption.CELL_SCORE: known.hints.min_score, Assumption.SQUEEZED: known.hints.resize}
    assumptions = tuple(assumption.of() for assumption, hint in said.items() if hint is None)
    return Interpretation(head, Convention.FOMO, evidence, classes=columns, background=background, assumptions=assumptions)


def _background(known: Known, columns: int) -> int:
    """Return the background's column. Raises CardError where the labels leave no room for it."""
    if known.hints.label_offset is None and not names_allow_background(known, columns):
        raise CardError(
            f"the model has {columns} columns a cell, of which the first stands for the background as in every FOMO; "
            f"wanted {columns - 1} names, found {len(known.names)} lines, the first is {known.names[0]!r}; "
            "give the label file that belongs to this model (--labels)"
        )
    return 0


def _ask_about_areas(known: Known, numbers: NDArray[np.float32], asked: bool) -> None:
    """Raise AmbiguousModelError where most cells of a sample run belong to an object: areas, not centres."""
    share = float(np.mean(numbers.argmax(axis=-1) != 0))
    if share > MOSTLY and not asked:
        raise known.ambiguous(
            f"{known.facts.outputs[0]} has shares of classes for each cell, and {share:.0%} of the cells in a "
            "sample run are no background: a coarse segmentation, which is not known here, or FOMO, whose objects are a few cells",
            ["--head fomo"],
        )


def _fastestdet(known: Known, item: StrideMap) -> Interpretation | None:
    """Interpret 5 + C numbers a cell: an objectness, four box numbers of any sign, class scores that add up to 1."""
    classes = item.channels - 5
    if classes < 1 or item.form not in {"hwc", "chw", "nc", "cn"}:
        return None
    numbers = cell_numbers(known, item)
    made = pieces(known.facts.graph, item.out.tensor.index, item.channels)
    objectness, shares = numbers[..., 0], add_up(numbers[..., 5:], item.out.tensor.scale)
    inside = bool(objectness.min() >= 0 and objectness.max() <= 1 + SLACK)
    joined = [piece.width for piece in made] == [1, 4, classes] and (inside or made[0].made_by != "LOGISTIC")
    alike = inside and shares and bool(numbers[..., 1:5].min() < -SLACK)
    if not (joined or alike or known.hints.head == "fastestdet"):
        return None
    activation, why = activation_of(known, objectness, made[0].made_by if joined else "")
    head = FastestDet(
        output=item.out.ref,
        stride=item.stride,
        layout=item.layout,
        activation=activation,
        class_activation="none" if shares else "softmax",
    )
    how = "the graph joins them so" if joined else "the classes add up to 1" if shares else "as asked for"
    evidence = (f"{item.out} has an objectness, 4 box numbers and {classes} classes for stride {item.stride} ({how}): FastestDet", why)
    return Interpretation(head, Convention.FASTESTDET, evidence, classes=classes, assumptions=(Assumption.SCORE_POWERS.of(),))
