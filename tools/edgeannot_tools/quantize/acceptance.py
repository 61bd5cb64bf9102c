"""Whether an int8 model may take its float model's place: what both find in the same pictures, and what that says of the loss.

Without labels the float model is the reference. Boxes near the score threshold come and go with any change of arithmetic, so the
check rests on the sure ones: a box well above the threshold in one model has to be in the other, at or above the threshold.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from edgeannot.vision.data import Detections, Frame
from edgeannot.vision.geometry import iou_matrix
from edgeannot.vision.heads.embed import Embed
from edgeannot.vision.pipeline import Pipeline, to_tensor
from edgeannot_tools.evaluate.bootstrap import Z, bootstrap_maps, margin
from edgeannot_tools.evaluate.classifier_accuracy import Ranking
from edgeannot_tools.evaluate.measure import Result
from edgeannot_tools.output import track

__all__ = [
    "AcceptanceResult",
    "BoxAgreement",
    "ClassAgreement",
    "VectorAgreement",
    "check_accuracy",
    "check_agreement",
    "check_top1",
    "compare_boxes",
    "compare_classes",
    "compare_models",
    "share_interval",
]

SAME_IOU = 0.5
"""Two boxes of one class that overlap by this much are the same object."""
SURE = 0.15
"""A box this far above the score threshold is sure; a class this far above the second is. Measured on YOLOv5n, YOLO26n, NanoDet and
SSD-MobileNet: with this margin, models that lost up to 0.02 of mAP50 change up to 2 % of their sure boxes; with 0.1, up to 4 %."""
LARGEST_SHIFT = 0.15
"""When scores move by more than this on average, the model needs thresholds of its own, whatever it finds."""
TOO_FEW = 10
"""With fewer sure boxes than this in all pictures, the check says little."""
MOST_VIEWS = 120
VIEWS_AT_A_TIME = 5
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class BoxAgreement:
    """How far an int8 detector finds what its float model finds. Counts are over all pictures, boxes at or above the threshold."""

    pictures: int
    reference: int
    """Boxes of the float model."""
    found: int
    """Boxes of the int8 model."""
    matched: int
    """Pairs of the two: one class, IoU >= 0.5."""
    mean_iou: float
    """Of the pairs; NaN without any."""
    score_shift: float
    """Mean absolute difference of the pairs' scores; NaN without any."""
    sure: int
    """Boxes of either model that are sure."""
    missing: int
    """Sure boxes of the float model without a partner."""
    invented: int
    """Sure boxes of the int8 model without a partner."""

    @property
    def drop(self) -> float:
        """The share of sure boxes without a partner, 0..1."""
        return (self.missing + self.invented) / self.sure if self.sure else 0.0

    @property
    def interval(self) -> Interval:
        """Where the drop lies with 95 % confidence; an object that both models find counts once, not twice."""
        return share_interval(self.drop, self.sure / 2)


@dataclass(frozen=True, slots=True)
class ClassAgreement:
    """How often an int8 classifier gives the class that its float model gives."""

    pictures: int
    same: int
    sure: int
    """Pictures on which the float model's best class is well above its second."""
    sure_same: int
    score_shift: float
    """Mean absolute difference of the best class's score."""

    @property
    def drop(self) -> float:
        """The share of sure pictures that changed class, 0..1."""
        return 1.0 - self.sure_same / self.sure if self.sure else 0.0

    @property
    def interval(self) -> Interval:
        """Where the drop lies with 95 % confidence."""
        return share_interval(self.drop, self.sure)


@dataclass(frozen=True, slots=True)
class VectorAgreement:
    """How near the vectors of an int8 embedding are to its float model's."""

    pictures: int
    mean_cosine: float
    worst_cosine: float

    @property
    def drop(self) -> float:
        """What the mean cosine lacks to 1."""
        return 1.0 - self.mean_cosine


@dataclass(frozen=True, slots=True)
class AcceptanceResult:
    """Whether the loss is within bounds, and why."""

    accepted: bool
    drop: float
    reason: str
    """What was counted, one clause."""
    certainty: str = ""
    """How sure that is, one clause."""
    is_sure: bool = True
    """Whether the interval of the loss lies on one side of what is allowed."""
    warning: str = ""
    """What makes the result less sure, one sentence; empty where nothing does."""


def compare_models(
    reference: Pipeline, int8: Pipeline, frames: Sequence[Frame], more: Iterable[Frame] = (), max_drop: float = 0.0
) -> BoxAgreement | ClassAgreement | VectorAgreement:
    """Run both models over the pictures and compare what they find, as the task of the card asks for.

    more: views that are looked at as well, as long as what was found does not tell on which side of `max_drop` the loss lies.
    """
    if reference.card.task == "embed":
        return _compare_vectors(reference, int8, frames)
    pairs = [(reference(frame).detections, int8(frame).detections) for frame in track(frames, "comparing", len(frames))]

    def found() -> BoxAgreement | ClassAgreement:
        return compare_classes(pairs) if reference.card.task == "classify" else compare_boxes(pairs, reference.min_score)

    for frame in track(itertools.islice(more, MOST_VIEWS), "comparing other views", MOST_VIEWS):
        if len(pairs) % VIEWS_AT_A_TIME == 0 and _is_decided(found().interval, max_drop):
            break
        pairs.append((reference(frame).detections, int8(frame).detections))
    return found()


def compare_boxes(pairs: Sequence[tuple[Detections, Detections]], min_score: float) -> BoxAgreement:
    """Compare the detections of a float and an int8 model, one pair a picture; both hold boxes of at least `min_score`."""
    ious: list[float] = []
    shifts: list[float] = []
    missing = invented = sure = 0
    threshold = min(min_score + SURE, 1.0)
    for wanted, found in pairs:
        partner = _partners(wanted, found)
        for row, other in partner.items():
            ious.append(float(iou_matrix(wanted.boxes[row : row + 1], found.boxes[other : other + 1])[0, 0]))
            shifts.append(abs(float(wanted.scores[row] - found.scores[other])))
        lonely = [row for row in range(len(found)) if row not in partner.values()]
        missing += sum(bool(wanted.scores[row] >= threshold) for row in range(len(wanted)) if row not in partner)
        invented += sum(bool(found.scores[row] >= threshold) for row in lonely)
        sure += int((wanted.scores >= threshold).sum() + (found.scores >= threshold).sum())
    return BoxAgreement(
        pictures=len(pairs),
        reference=sum(len(wanted) for wanted, _ in pairs),
        found=sum(len(found) for _, found in pairs),
        matched=len(ious),
        mean_iou=float(np.mean(ious)) if ious else float("nan"),
        score_shift=float(np.mean(shifts)) if shifts else float("nan"),
        sure=sure,
        missing=missing,
        invented=invented,
    )


def _partners(wanted: Detections, found: Detections) -> dict[int, int]:
    """Return row of `wanted` -> row of `found` for boxes of one object, the best overlaps first, each row once."""
    overlap = iou_matrix(wanted.boxes, found.boxes) * (wanted.classes[:, None] == found.classes[None, :])
    partner: dict[int, int] = {}
    for flat in np.argsort(-overlap, axis=None, kind="stable"):
        row, other = divmod(int(flat), len(found))
        if overlap[row, other] < SAME_IOU:
            break
        if row not in partner and other not in partner.values():
            partner[row] = other
    return partner


def compare_classes(pairs: Sequence[tuple[Detections, Detections]]) -> ClassAgreement:
    """Compare the classes of a float and an int8 classifier, one pair a picture, each best first; pictures without a class do not count."""
    same = sure = sure_same = 0
    shifts: list[float] = []
    for wanted, found in pairs:
        if not len(wanted):
            continue
        equal = len(found) > 0 and wanted.classes[0] == found.classes[0]
        second = float(wanted.scores[1]) if len(wanted) > 1 else 0.0
        is_sure = float(wanted.scores[0]) - second >= SURE
        same, sure, sure_same = same + equal, sure + is_sure, sure_same + (is_sure and equal)
        row = np.flatnonzero(found.classes == wanted.classes[0])
        shifts.append(abs(float(wanted.scores[0]) - (float(found.scores[row[0]]) if len(row) else 0.0)))
    return ClassAgreement(len(shifts), same, sure, sure_same, float(np.mean(shifts)) if shifts else float("nan"))


def _compare_vectors(reference: Pipeline, int8: Pipeline, frames: Sequence[Frame]) -> VectorAgreement:
    cosines = []
    for frame in track(frames, "comparing", len(frames)):
        a, b = _vector(reference, frame), _vector(int8, frame)
        cosines.append(float(a @ b / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-12)))
    return VectorAgreement(len(cosines), float(np.mean(cosines)), float(np.min(cosines)))


def _vector(pipeline: Pipeline, frame: Frame) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    head = pipeline.card.head
    if not isinstance(head, Embed):
        raise TypeError(f"wanted a head of the kind embed, found {head.kind}")
    return head.vector(pipeline.engine.run(to_tensor(pipeline.card, pipeline.engine)(frame.image)[0])).astype(np.float64)


def share_interval(share: float, total: float) -> Interval:
    """Return Wilson's 95 % interval of a share that was seen in `total` cases; (0, 1) for none.

    https://en.wikipedia.org/wiki/Binomial_proportion_confidence_interval

    >>> low, high = share_interval(0.05, 100)
    >>> round(low, 3), round(high, 3)
    (0.022, 0.112)
    """
    if total <= 0:
        return 0.0, 1.0
    middle = (share + Z**2 / (2 * total)) / (1 + Z**2 / total)
    reach = Z / (1 + Z**2 / total) * math.sqrt(share * (1 - share) / total + (Z / (2 * total)) ** 2)
    return max(0.0, middle - reach), min(1.0, middle + reach)


def _is_decided(interval: Interval, max_drop: float) -> bool:
    return interval[1] <= max_drop or interval[0] > max_drop


def _certainty(interval: Interval, max_drop: float) -> str:
    """Say how sure a verdict is."""
    words = f"with 95 % confidence the loss is {interval[0]:.3f} to {interval[1]:.3f}"
    if _is_decided(interval, max_drop):
        return f"sure: {words}"
    return f"not sure: {words}, and only more pictures, or labelled ones (--data), tell whether it is within {max_drop:g}"


def check_agreement(found: BoxAgreement | ClassAgreement | VectorAgreement, max_drop: float) -> AcceptanceResult:
    """Check an agreement. A loss is too large where the pictures show that it is, and not where a few boxes may be chance."""
    if isinstance(found, VectorAgreement):
        words = f"mean cosine to the float model's vectors {found.mean_cosine:.4f}"
        return AcceptanceResult(found.drop <= max_drop, found.drop, words, f"the worst is {found.worst_cosine:.4f}")
    if isinstance(found, ClassAgreement):
        changed, total, things = found.sure - found.sure_same, found.sure, "sure pictures changed class"
    else:
        changed, total, things = found.missing + found.invented, found.sure, "sure boxes are in one model only"
    warning, certainty = "", _certainty(found.interval, max_drop)
    if total < TOO_FEW:
        warning = f"the pictures show only {total} sure results, too few to judge by; name pictures of what the model is for (--images)"
    if found.score_shift > LARGEST_SHIFT:
        words = f"scores moved by {found.score_shift:.2f} on average, and {changed} of {total} {things}"
        return AcceptanceResult(False, found.drop, words, certainty, warning=warning)
    words, is_sure = f"{changed} of {total} {things}", _is_decided(found.interval, max_drop)
    return AcceptanceResult(found.interval[0] <= max_drop, found.drop, words, certainty, is_sure, warning)


def check_accuracy(reference: Result, int8: Result, max_drop: float) -> AcceptanceResult:
    """Check on a labelled set how much mAP50 is lost. The interval is a bootstrap's over the pictures, the same ones for both models."""
    before, after = reference.accuracy.map50, int8.accuracy.map50
    drawn = [bootstrap_maps([(item.truth, item.found) for item in result.compared], (0.5,)) for result in (reference, int8)]
    reach = margin(drawn[0][:, 0] - drawn[1][:, 0]) if len(reference.compared) > 1 else 1.0
    return _judged("mAP50", before, after, reach, max_drop)


def check_top1(reference: Ranking, int8: Ranking, max_drop: float) -> AcceptanceResult:
    """Check on pictures in a folder a class how much top-1 is lost. The interval is that of a paired difference."""
    changes = [float(a.rank < 1) - float(b.rank < 1) for a, b in zip(reference.answers, int8.answers, strict=True)]
    reach = Z * float(np.std(changes)) / math.sqrt(max(len(changes), 1)) if changes else 1.0
    return _judged("top-1", reference.top1, int8.top1, reach, max_drop)


def _judged(what: str, before: float, after: float, reach: float, max_drop: float) -> AcceptanceResult:
    drop = before - after
    certainty = _certainty((drop - reach, drop + reach), max_drop)
    return AcceptanceResult(drop <= max_drop, drop, f"{what} {before:.3f} in float, {after:.3f} in int8", certainty)
