"""Tells class scores from the numbers beside them (masks, keypoints, angles), and probabilities from percentages and logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgeannot.base.errors import ModelError
from edgeannot.card_inference.facts import FOLLOWS, Out, grid_fit
from edgeannot.card_inference.interpretation import Known
from edgeannot.tflite.trace import Piece

__all__ = [
    "BODY_POINTS",
    "PROBABILITY_MAKERS",
    "BesideClasses",
    "activation_of",
    "add_up",
    "beside_classes",
    "is_angle",
    "keypoints_behind",
    "made_scores",
    "named_scores",
    "score_activation_of",
]

Numbers = NDArray[np.float32]

SLACK = 0.01
"""Quantized probabilities may end a step beyond 0 and 1."""
PROBABILITY_MAKERS = frozenset(("LOGISTIC", "SOFTMAX", "HARD_SIGMOID"))
"""Operators out of which probabilities come, and no distances."""
LOWEST_LOGIT, HIGHEST_LOGIT = -200.0, 60.0
"""Seen are -40 to 15 in float, and an int8 range of 90. Coordinates in pixels go higher."""
A_LOGIT_OF_NOTHING = -1.0
"""A detector's logits go well below this: most places hold nothing (bias -4.6 before training, as RetinaNet initialises it)."""
COARSE_SCORE = 0.1
"""A step with which probabilities are of no use."""


def _span(numbers: Numbers) -> tuple[float, float]:
    return float(numbers.min(initial=0)), float(numbers.max(initial=0))


def add_up(numbers: Numbers, step: float = 0.0) -> bool:
    """Tell whether the last axis of numbers (..., C) holds shares of 1, as a softmax gives. step: of stored numbers, 0 for floats."""
    slack = max(0.05, 2 * step)
    return bool(numbers.min() >= -slack and np.all(np.abs(numbers.sum(axis=-1) - 1) < slack))


def activation_of(known: Known, numbers: Numbers, made_by: str, step: float = 0.0) -> tuple[Literal["none", "sigmoid"], str]:
    """Return what is still to be done to scores, and why.

    made_by: the operator's name, "" where it is not known. step: of stored numbers, 0 for floats. Raises AmbiguousModelError for numbers
    that are neither probabilities nor logits.
    """
    hint = known.hints.extra.get("head.activation")
    if isinstance(hint, str):
        return "sigmoid" if hint == "sigmoid" else "none", f"scores take the activation {hint}, as given"
    return _activation(known, numbers, made_by, step, ["none", "sigmoid"])


def score_activation_of(
    known: Known, numbers: Numbers, made_by: str, step: float = 0.0
) -> tuple[Literal["none", "sigmoid", "percent"], str]:
    """As `activation_of`, for heads that also read percentages."""
    hint = known.hints.extra.get("head.activation")
    if hint == "percent":
        return hint, "scores are percentages, as given"
    if hint is not None:
        return activation_of(known, numbers, made_by, step)
    low, high = _span(numbers)
    if low >= -1 and 10 <= high <= 101 + max(step, 1) and float(np.median(numbers)) < 10:
        return "percent", f"scores reach from {low:.3g} to {high:.3g} in a sample run, and most are small: percentages"
    if step > COARSE_SCORE and -step <= low and high <= 1 + step:
        raise ModelError(
            f"model {known.facts.path}: its scores move in steps of {step:.3g}, too coarse for probabilities; quantize it with boxes and "
            "scores in outputs of their own, or with float outputs; if they are percentages, choose with --set head.activation=percent"
        )
    return _activation(known, numbers, made_by, step, ["none", "sigmoid", "percent"])


def _activation(
    known: Known, numbers: Numbers, made_by: str, step: float, choices: Sequence[str]
) -> tuple[Literal["none", "sigmoid"], str]:
    low, high = _span(numbers)
    inside = bool(_inside(np.array([low, high]), step).all())
    if made_by in PROBABILITY_MAKERS and inside:
        return "none", f"scores are made by {made_by}: probabilities already"
    if inside and made_by in {"CONV_2D", "FULLY_CONNECTED", "ADD", "DEPTHWISE_CONV_2D"} and high - low < 1e-3:
        return "sigmoid", f"scores are made by {made_by}: logits, so a sigmoid follows"
    if inside:
        return "none", f"scores stay within {low:.3g} to {high:.3g} in a sample run: probabilities already"
    # A detector's logits are below -1 at the places without objects, and no farther out than networks give.
    if LOWEST_LOGIT <= low <= A_LOGIT_OF_NOTHING and high <= HIGHEST_LOGIT and float(np.mean(numbers < 0)) >= 0.25:
        return "sigmoid", f"scores reach from {low:.3g} to {high:.3g} in a sample run: logits, so a sigmoid follows"
    raise known.ambiguous(
        f"what stands for scores reaches from {low:.3g} to {high:.3g} in a sample run, which is like neither probabilities nor logits",
        [f"--set head.activation={choice}" for choice in choices],
    )


def made_scores(out: Out) -> bool:
    """Tell whether an output comes out of a sigmoid or softmax."""
    return out.made_by in {"LOGISTIC", "SOFTMAX"}


def named_scores(known: Known, out: Out) -> bool:
    """Tell whether the file calls an output scores: by the tensor's name, the signature's or the metadata's."""
    signed = [name for signature in known.facts.model.signatures for name, index in signature.outputs.items() if index == out.tensor.index]
    stated = [tensor.name for tensor in known.facts.metadata.outputs[out.position : out.position + 1]]
    called = " ".join((out.tensor.name, *signed, *stated)).lower()
    return any(word in called for word in ("class", "score", "conf", "prob"))


def _inside(numbers: NDArray[np.floating], step: float = 0.0) -> NDArray[np.bool_]:
    """Tell which numbers may be probabilities."""
    slack = max(SLACK, step)
    return (numbers >= -slack) & (numbers <= 1 + slack)


def is_angle(numbers: Numbers, step: float = 0.0) -> bool:
    """Tell whether numbers may be the angles of an oriented box, -pi/4 to 3 pi / 4, and are no probabilities.

    That is the range of Ultralytics' OBB head, (sigmoid(x) - 0.25) * pi.
    """
    low, high = _span(numbers)
    slack = 0.02 + step
    return -pi / 4 - slack <= low and high <= 3 * pi / 4 + slack and not _inside(np.array([low, high]), step).all()


def keypoints_behind(numbers: Numbers, orders: Sequence[NDArray[np.float32]]) -> tuple[int, int] | None:
    """Return how many keypoints the last of the columns (pictures, N, C) are, and numbers a point; None where they are none.

    orders: cell centres (N, 2) in each order that candidates may have. Decoded keypoints follow their cells, as boxes do: x, y, and
    perhaps a visibility.
    """

    def follows(column: int, axis: int) -> bool:
        return any(grid_fit(numbers[..., column], centres[:, axis]).correlation >= FOLLOWS for centres in orders)

    columns = numbers.shape[2]
    first = next((c for c in range(columns) if follows(c, 0)), columns)
    for each in (3, 2):
        points, rest = divmod(columns - first, each)
        if points and not rest and all(follows(c, 0) and follows(c + 1, 1) for c in range(first, columns, each)):
            return points, each
    return None


@dataclass(frozen=True, slots=True)
class BesideClasses:
    """The numbers of a candidate behind its class scores."""

    count: int = 0
    """Those that are not used."""
    rotated: bool = False
    """Whether one more stands before them, the angle of the box."""
    why: str = ""
    points: int = 0
    """How many keypoints the unused numbers are."""

    @property
    def total(self) -> int:
        """Numbers that are no class scores."""
        return self.count + int(self.rotated)


def beside_classes(
    known: Known, out: Out, numbers: Numbers, orders: Sequence[NDArray[np.float32]], made: Sequence[Piece], *, objectness: bool
) -> BesideClasses:
    """Return which of the numbers (pictures, N, C) of decoded candidates are no class scores: said, by the graph, or by a sample run.

    orders: as for `keypoints_behind`. made: what the columns are joined from. objectness: whether one stands before the class scores.
    Raises AmbiguousModelError where some are no scores and their number is not certain.
    """
    if (said := _said(known, out, numbers.shape[2])) is not None:
        return said
    behind = numbers[..., 4:]
    if (points := keypoints_behind(behind, orders)) is not None and points[0] * points[1] < behind.shape[2]:
        count = points[0] * points[1]
        says = f"the last {count} numbers of a candidate follow the cells: {points[0]} keypoints of {points[1]} numbers, which are not used"
        return BesideClasses(count, why=says, points=points[0])
    probable = [bool(_inside(np.array(_span(behind[..., c])), out.step).all()) for c in range(behind.shape[2])]
    if all(probable) or not probable[0]:
        return BesideClasses()
    scores = probable.index(False)
    if scores == len(probable) - 1 and is_angle(behind[..., -1], out.step):
        says = "the last number of a candidate is an angle: the upright boxes around the rotated ones are given"
        return BesideClasses(rotated=True, why=says)
    fitting = [_scores_joined(made), *(n + int(objectness) for n in sorted(known.class_counts()))]
    if (sure := next((n for n in fitting if 0 < n <= scores), 0)) > 0:
        count = len(probable) - sure
        return BesideClasses(count, why=f"the last {count} numbers of a candidate are no probabilities (masks, perhaps), and not used")
    low, high = _span(behind[..., scores:])
    raise known.ambiguous(
        f"{out} has {len(probable)} numbers after the box, of which the first {scores} may be class scores; "
        f"those behind reach from {low:.3g} to {high:.3g}, as masks, keypoints or angles do",
        ["--labels FILE with the names of the classes", f"--set head.extra_columns={len(probable) - scores}"],
    )


def _scores_joined(made: Sequence[Piece]) -> int:
    """Return how many columns behind the box the graph makes by a sigmoid or softmax, before it joins others to them; 0: not known."""
    left, count = 4, 0
    for piece in made:
        left -= piece.width
        if left < 0 and piece.made_by not in PROBABILITY_MAKERS:
            return count
        count += piece.width if left < 0 else 0
    return 0


def _said(known: Known, out: Out, columns: int) -> BesideClasses | None:
    """Return what the user, the exporter or a second output says."""
    given = {key: known.hints.extra.get(f"head.{key}") for key in ("extra_columns", "rotated")}
    if isinstance(given["extra_columns"], int) or isinstance(given["rotated"], bool):
        count, rotated = int(given["extra_columns"] or 0), bool(given["rotated"])
        return BesideClasses(count, rotated, f"the last {count + rotated} numbers of a candidate are no class scores, as given")
    exporter = known.facts.metadata.exporter
    if exporter and exporter.task == "obb":
        return BesideClasses(rotated=True, why=f"{exporter.file} says task 'obb': the upright boxes around rotated ones are given")
    if exporter and exporter.keypoints:
        count = int(np.prod(exporter.keypoints))
        return BesideClasses(
            count, why=f"{exporter.file} says that the last {count} numbers of a candidate are keypoints, which are not used"
        )
    if known.names and columns - 4 - len(known.names) == BODY:
        return BesideClasses(
            BODY, points=BODY_POINTS, why=f"the labels leave {BODY} numbers of a candidate for the 17 points of a body, which are not used"
        )
    for other in known.facts.outputs:
        shape = known.run.shape(other.position)
        if other is not out and len(shape) == 4 and max(shape[1:]) >= 8:
            maps = sorted(shape[1:])
            if maps[1] * 4 == known.facts.picture.width or maps[2] * 4 == known.facts.picture.width:
                count = int(shape[3] if shape[1] * 4 == known.facts.picture.height else shape[1])
                return BesideClasses(count, why=f"the last {count} numbers of a candidate belong to the masks of {other}, and are not used")
    return None


BODY_POINTS = 17
"""Keypoints of COCO's persons."""
BODY = 3 * BODY_POINTS
"""Their numbers, each with a visibility."""
