"""Average precision in numpy: the curves of Pascal VOC, by all points or by eleven, per class and as the mean over the classes present.

A detection belongs to the object of its class that it overlaps most; it is right when the overlap reaches the threshold and no better
detection took the object before. An object marked difficult, and a crowd that holds most of the detection, count neither way.
Everingham et al.: The Pascal Visual Object Classes (VOC) Challenge, 2010, https://doi.org/10.1007/s11263-009-0275-4, section 4.2

COCO's own metrics come from faster-coco-eval. The curves by all points stay ours: the figures in cards and docs are theirs, and COCO's
101 points, its second choice of an object and its want of difficult objects move them by up to a hundredth.
"""

from __future__ import annotations

import contextlib
import io
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeannot.base.errors import ConfigError, install
from edgeannot.vision.data import Detections

__all__ = [
    "IOU_THRESHOLDS",
    "Accuracy",
    "ClassAccuracy",
    "CocoMetrics",
    "Matches",
    "Truth",
    "average_precision",
    "coco_metrics",
    "evaluate_detections",
    "find_misses",
    "match_picture",
    "precision_recall",
]

IOU_THRESHOLDS: tuple[float, ...] = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""0.50, 0.55, ..., 0.95: the overlaps that COCO averages over."""

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Truth:
    """What a person marked in one picture."""

    boxes: Floats
    """(N, 4) xyxy in the space of the detections."""
    classes: NDArray[np.int64]
    """(N,)"""
    difficult: Bools
    """(N,) neither asked for nor counted as wrong."""
    crowd: Bools
    """(N,) the box holds many objects; any number of detections inside is neither right nor wrong."""

    @classmethod
    def of(cls, boxes: Iterable[Sequence[float]], classes: Iterable[int]) -> Truth:
        """Make a truth of ordinary objects."""
        ids = np.array(list(classes), np.int64)
        return cls(np.array(list(boxes), np.float64).reshape(-1, 4), ids, np.zeros(len(ids), bool), np.zeros(len(ids), bool))


@dataclass(frozen=True, slots=True)
class ClassAccuracy:
    """One class that is present: its objects and average precisions."""

    class_id: int
    objects: int
    ap50: float
    ap50_95: float


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How well detections agree with what was marked. Means are over the classes present; NaN where there is none."""

    map50: float
    map50_95: float
    classes: tuple[ClassAccuracy, ...]
    best_score: float
    """The score from which on detections are best taken: the one with the highest F1 over all classes at IoU 0.5."""
    f1: float
    precision: float
    recall: float
    mean_iou: float
    """Of the right detections at that score (IoU >= 0.5)."""
    objects: int
    detections: int


@dataclass(frozen=True, slots=True)
class Matches:
    """Detections of one class, in one picture or all. right, ignored: (N, T) for each threshold; iou with the object chosen."""

    scores: Floats
    right: Bools
    ignored: Bools
    iou: Floats
    chosen: NDArray[np.int64]
    """(N,) row among the picture's objects of the class (crowds aside) that the detection overlaps most; -1: there is none."""
    objects: int


def average_precision(recall: Floats, precision: Floats, points: int | None = None) -> float:
    """Return the area under a precision-recall curve, best score first. points: None for the area by all points, 11 for VOC 2007's rule.

    >>> average_precision(np.array([0.5, 0.5, 1.0]), np.array([1.0, 0.5, 0.6667])).__round__(4)
    0.8334
    """
    if not len(recall):
        return 0.0
    # The best precision at this recall or a higher one.
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    if points is None:
        return float(np.sum(np.diff(recall, prepend=0.0) * envelope))
    levels = np.linspace(0, 1, points)
    reached = np.searchsorted(recall, levels - 1e-12)  # recall 0.1 is 0.1 however it was added up
    return float(np.mean([envelope[index] if index < len(envelope) else 0.0 for index in reached]))


def precision_recall(scores: Floats, right: Bools, objects: int) -> tuple[Floats, Floats]:
    """Return recall and precision after each detection, best score first; of equal scores the earlier one comes first."""
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(right[order])
    return hits / max(objects, 1), hits / np.arange(1, len(hits) + 1)


def evaluate_detections(pairs: Sequence[tuple[Truth, Detections]], thresholds: Sequence[float] = IOU_THRESHOLDS) -> Accuracy:
    """Compare the detections of each picture with its truth. The first threshold should be 0.5: F1 and mean IoU are taken there."""
    present = sorted({int(c) for truth, _ in pairs for c in truth.classes[~(truth.difficult | truth.crowd)]})
    # A large set has many classes but each picture few: only the pictures that a class is in are judged for it.
    of_class: defaultdict[int, list[tuple[Truth, Detections]]] = defaultdict(list)
    for pair in pairs:
        for class_id in {*pair[0].classes.tolist(), *pair[1].classes.tolist()}:
            of_class[class_id].append(pair)
    matches = {class_id: _match_class(of_class[class_id], class_id, np.array(thresholds)) for class_id in sorted({*present, *of_class})}
    aps = np.array([_class_aps(matches[class_id]) for class_id in present]).reshape(-1, len(thresholds))
    classes = tuple(ClassAccuracy(c, matches[c].objects, float(ap[0]), float(ap.mean())) for c, ap in zip(present, aps, strict=True))
    best = _best_f1(list(matches.values()))
    return Accuracy(
        map50=float(aps[:, 0].mean()) if present else float("nan"),
        map50_95=float(aps.mean()) if present else float("nan"),
        classes=classes,
        best_score=best[0],
        f1=best[1],
        precision=best[2],
        recall=best[3],
        mean_iou=_mean_iou(list(matches.values()), best[0]),
        objects=sum(match.objects for match in matches.values()),
        detections=sum(len(detections) for _, detections in pairs),
    )


def find_misses(truth: Truth, detections: Detections, score: float, iou: float = 0.5) -> tuple[list[int], list[int]]:
    """Return rows of the truth that no detection from `score` on found, and rows of such detections that are wrong."""
    missed: list[int] = []
    wrong: list[int] = []
    rows = np.flatnonzero(detections.scores >= score)
    kept = detections[rows]
    for class_id in sorted({*truth.classes.tolist(), *kept.classes.tolist()}):
        matches = match_picture(truth, kept, class_id, np.array([iou]))
        of_class = rows[kept.classes == class_id]
        ordered = of_class[np.argsort(-detections.scores[of_class].astype(np.float64), kind="stable")]
        wrong += [
            int(row)
            for row, right, ignored in zip(ordered, matches.right[:, 0], matches.ignored[:, 0], strict=True)
            if not right and not ignored
        ]
        objects = np.flatnonzero((truth.classes == class_id) & ~truth.crowd)
        found = {int(objects[chosen]) for chosen, right in zip(matches.chosen, matches.right[:, 0], strict=True) if right}
        missed += [int(row) for row in objects if int(row) not in found and not truth.difficult[row]]
    return missed, wrong


def _match_class(pairs: Sequence[tuple[Truth, Detections]], class_id: int, thresholds: Floats) -> Matches:
    """Match every detection of a class in every picture."""
    parts = [match_picture(truth, detections, class_id, thresholds) for truth, detections in pairs]
    objects = sum(int(((truth.classes == class_id) & ~truth.difficult & ~truth.crowd).sum()) for truth, _ in pairs)
    names = ("scores", "right", "ignored", "iou", "chosen")
    return Matches(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names}, objects=objects)


def match_picture(truth: Truth, detections: Detections, class_id: int, thresholds: Floats) -> Matches:
    """Match the detections of a class in one picture, best score first. `objects` is 0: it is counted over all pictures."""
    of_class = detections.classes == class_id
    scores = detections.scores[of_class].astype(np.float64)
    order = np.argsort(-scores, kind="stable")
    boxes, scores = detections.boxes[of_class][order].astype(np.float64), scores[order]
    wanted = (truth.classes == class_id) & ~truth.crowd
    crowds = truth.boxes[(truth.classes == class_id) & truth.crowd]
    right = np.zeros((len(scores), len(thresholds)), bool)
    ignored = np.zeros_like(right)
    if not len(scores) or not (wanted.any() or len(crowds)):  # most of a detector's unsure boxes; they need no arithmetic
        return Matches(scores, right, ignored, np.zeros(len(scores)), np.full(len(scores), -1, np.int64), 0)
    overlaps = _overlaps(boxes, truth.boxes[wanted])
    chosen = overlaps.argmax(axis=1) if overlaps.size else np.full(len(scores), -1, np.int64)
    iou = overlaps.max(axis=1, initial=0.0)
    difficult = truth.difficult[wanted]
    taken = np.zeros((int(wanted.sum()), len(thresholds)), bool)
    for row in np.flatnonzero(iou >= thresholds[0]):
        reaches = iou[row] >= thresholds
        if difficult[chosen[row]]:
            ignored[row] = reaches
        else:
            right[row] = reaches & ~taken[chosen[row]]
            taken[chosen[row]] |= reaches
    if len(crowds):
        inside_crowd = _overlaps(boxes, crowds, over_first=True).max(axis=1, initial=0.0)
        ignored |= ~right & (inside_crowd[:, None] >= thresholds)
    return Matches(scores, right, ignored, iou, chosen, 0)


def _overlaps(a: Floats, b: Floats, *, over_first: bool = False) -> Floats:
    """Return (N, M) intersection over union, or over the area of `a`; 0 for boxes without area."""
    corner = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    shared = np.prod(np.maximum(corner, 0), axis=2)
    area_a, area_b = np.prod(a[:, 2:] - a[:, :2], axis=1), np.prod(b[:, 2:] - b[:, :2], axis=1)
    whole = np.broadcast_to(area_a[:, None], shared.shape) if over_first else area_a[:, None] + area_b[None, :] - shared
    overlaps: Floats = np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)
    return overlaps


def _class_aps(matches: Matches) -> list[float]:
    """Return the average precision at each threshold."""
    aps = []
    for column in range(matches.right.shape[1]):
        counted = ~matches.ignored[:, column]
        recall, precision = precision_recall(matches.scores[counted], matches.right[counted, column], matches.objects)
        aps.append(average_precision(recall, precision))
    return aps


def _best_f1(matches: Sequence[Matches]) -> tuple[float, float, float, float]:
    """Return (score, F1, precision, recall) where F1 over all detections of all classes is highest; zeros where nothing was found."""
    objects = sum(match.objects for match in matches)
    scores = np.concatenate([match.scores[~match.ignored[:, 0]] for match in matches]) if matches else np.zeros(0)
    right = np.concatenate([match.right[~match.ignored[:, 0], 0] for match in matches]) if matches else np.zeros(0, bool)
    if not len(scores) or not objects:
        return 0.0, 0.0, 0.0, 0.0
    recall, precision = precision_recall(scores, right, objects)
    f1 = 2 * recall * precision / np.maximum(recall + precision, 1e-12)
    ordered = -np.sort(-scores, kind="stable")
    # A threshold takes all detections of one score or none: only the last of each score can be chosen.
    last = np.append(ordered[1:] != ordered[:-1], True)
    best = int(np.argmax(np.where(last, f1, -1)))
    return float(ordered[best]), float(f1[best]), float(precision[best]), float(recall[best])


def _mean_iou(matches: Sequence[Matches], score: float) -> float:
    values = [match.iou[match.right[:, 0] & (match.scores >= score)] for match in matches]
    joined = np.concatenate(values) if values else np.zeros(0)
    return float(joined.mean()) if len(joined) else float("nan")


@dataclass(frozen=True, slots=True)
class CocoMetrics:
    """https://cocodataset.org/#detection-eval: 101-point average precisions, at most 100 detections a picture; -1: no such object."""

    ap: float
    """Over IoU 0.50 to 0.95."""
    ap50: float
    ap75: float
    ap_small: float
    ap_medium: float
    ap_large: float
    ar100: float
    """Recall with 100 detections a picture, over IoU 0.50 to 0.95."""


def coco_metrics(pairs: Sequence[tuple[Truth, Detections]]) -> CocoMetrics:
    """Return the metrics over all pictures. Raises ConfigError when faster-coco-eval is not installed."""
    try:
        from faster_coco_eval import COCO, COCOeval_faster  # noqa: PLC0415 - the tools run without it
    except ImportError as exc:
        raise ConfigError(f"COCO's metrics need the Python package faster-coco-eval: {install('tools')}") from exc
    class_ids = sorted({int(c) for truth, _ in pairs for c in truth.classes})
    detections = [row for number, (_, found) in enumerate(pairs, 1) for row in _results(number, found[np.isin(found.classes, class_ids)])]
    if not detections:
        nothing = 0.0 if any((~(truth.difficult | truth.crowd)).any() for truth, _ in pairs) else -1.0
        return CocoMetrics(*[nothing] * 7)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(
            {
                "images": [{"id": number} for number in range(1, len(pairs) + 1)],
                "categories": [{"id": class_id + 1, "name": str(class_id)} for class_id in class_ids],
                "annotations": _annotations([truth for truth, _ in pairs]),
            }
        )
        run = COCOeval_faster(truth, truth.loadRes(detections), "bbox")
        run.run()
    ap, ap50, ap75, small, medium, large = (float(value) for value in run.stats[:6])
    return CocoMetrics(ap, ap50, ap75, small, medium, large, float(run.stats[8]))


def _annotations(truths: Sequence[Truth]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for number, truth in enumerate(truths, 1):
        for box, class_id, difficult, crowd in zip(truth.boxes, truth.classes, truth.difficult, truth.crowd, strict=True):
            # COCO knows no difficult objects; what is ignored there is a crowd.
            row = {"image_id": number, "category_id": int(class_id) + 1, "bbox": _xywh(box), "iscrowd": int(difficult or crowd)}
            rows.append({"id": len(rows) + 1, "area": float((box[2] - box[0]) * (box[3] - box[1])), **row})
    return rows


def _results(number: int, found: Detections) -> list[dict[str, object]]:
    return [
        {"image_id": number, "category_id": int(class_id) + 1, "bbox": _xywh(box), "score": float(score)}
        for box, class_id, score in zip(found.boxes.astype(np.float64), found.classes, found.scores, strict=True)
    ]


def _xywh(box: np.ndarray[tuple[int], np.dtype[np.float64]]) -> list[float]:
    return [float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])]
