"""A model on a labelled set: the daemon's own pipeline picture by picture, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np

from edgeannot.base.errors import FrameError, InputError
from edgeannot.trial.cards import prove_foreign
from edgeannot.vision.cards import ModelCard
from edgeannot.vision.data import Detections, Frame
from edgeannot.vision.decode import read_picture
from edgeannot.vision.engine import Runtime
from edgeannot.vision.geometry import nms
from edgeannot.vision.pipeline import Limits, Pipeline, load_pipeline
from edgeannot_tools.datasets import Dataset, Picture
from edgeannot_tools.evaluate.average_precision import Accuracy, CocoMetrics, Truth, coco_metrics, evaluate_detections
from edgeannot_tools.evaluate.bootstrap import bootstrap_maps, margin
from edgeannot_tools.evaluate.class_matching import ClassMatch, class_labels, match_classes
from edgeannot_tools.output import track

__all__ = [
    "MAX_DETECTIONS",
    "MIN_SCORE",
    "Compared",
    "Result",
    "Timing",
    "compare",
    "evaluate_model",
    "match_model",
    "measure",
    "read_frame",
]

MIN_SCORE = 0.02
"""Detections below this score are not asked for: they change average precision by less than a hundredth and cost time."""
MAX_DETECTIONS = 500


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds a picture, median over the set; decoding the file is not in it."""

    preprocess: float
    inference: float
    postprocess: float

    @property
    def total(self) -> float:
        """All three."""
        return self.preprocess + self.inference + self.postprocess


@dataclass(frozen=True, slots=True)
class Compared:
    """One picture with what was marked and what was found, both in the set's classes."""

    picture: Picture
    truth: Truth
    found: Detections


@dataclass(frozen=True, slots=True)
class Result:
    """One model's figures on one set."""

    model: str
    input_wh: tuple[int, int]
    numbers: Literal["int8", "float32"]
    """What the network calculates with."""
    runtime: str
    threads: int
    pictures: int
    accuracy: Accuracy
    coco: CocoMetrics | None
    timing: Timing
    match: ClassMatch
    compared: tuple[Compared, ...]
    left_out_objects: int
    """Objects of classes that the model does not know."""

    def margins(self) -> tuple[float, float]:
        """Return the margins of mAP50 and mAP50-95 (`bootstrap.margin`), computed anew at each call."""
        drawn = bootstrap_maps([(item.truth, item.found) for item in self.compared])
        return margin(drawn[:, 0]), margin(drawn.mean(axis=1))


def measure(pipeline: Pipeline, dataset: Dataset, match: ClassMatch, *, coco: bool = True) -> Result:
    """Run the pipeline over every picture of the set and compare. Raises InputError for a picture that cannot be read."""
    times: list[dict[str, float]] = []
    compared: list[Compared] = []
    pictures = [picture for picture in dataset.pictures if picture.path is not None]
    if not pictures:
        raise InputError("no picture of the set has a file; give their folder with --images")
    iou = pipeline.card.defaults.iou
    for number, picture in enumerate(track(pictures, pipeline.card.name, len(pictures))):
        annotation = pipeline(_frame(picture, number))
        times.append(dict(annotation.timing_ms))
        found = _in_set_classes(annotation.detections, annotation.labels, match, iou)
        compared.append(Compared(picture, _truth(picture, frozenset(match.set_class_of.values())), found))
    pairs = [(item.truth, item.found) for item in compared]
    return Result(
        model=pipeline.card.name,
        input_wh=pipeline.card.input_wh,
        numbers=pipeline.card.dtype,
        runtime=pipeline.engine.runtime,
        threads=pipeline.engine.threads,
        pictures=len(pictures),
        accuracy=evaluate_detections(pairs),
        coco=coco_metrics(pairs) if coco else None,
        timing=Timing(*(float(np.median([time[stage] for time in times])) for stage in ("preprocess", "inference", "postprocess"))),
        match=match,
        compared=tuple(compared),
        left_out_objects=sum(len(item.picture.objects) - len(item.truth.classes) for item in compared),
    )


def compare(detections: Sequence[Detections], pictures: Sequence[Picture]) -> Accuracy:
    """Return the accuracy of detections that are in the set's own classes, one a picture, in the same order."""
    classes = frozenset(thing.class_id for picture in pictures for thing in picture.objects)
    return evaluate_detections([(_truth(picture, classes), found) for picture, found in zip(pictures, detections, strict=True)])


def _frame(picture: Picture, number: int) -> Frame:
    """Return the picture as the daemon would get it. Raises InputError when it cannot be read, or is not of the size that its labels are
    for."""
    if picture.path is None:
        raise InputError(f"picture {picture.name} has no file")
    frame = read_frame(picture.path, number, "`edgeannot datasets check` finds all such pictures")
    height, width = frame.image.shape[:2]
    if (width, height) != picture.size_wh:
        wanted = "x".join(map(str, picture.size_wh))
        raise InputError(f"{picture.path}: the labels are for {wanted} pixels, the picture has {width}x{height}")
    return replace(frame, name=picture.name)


def read_frame(path: Path, number: int, advice: str) -> Frame:
    """Return a picture as the daemon would get it. Raises InputError, with the advice, when it cannot be read."""
    try:
        return Frame(read_picture(path).image, "evaluate", number, datetime.now(UTC), path.name, path)
    except FrameError as exc:
        raise InputError(f"{exc}; {advice}") from exc


def _in_set_classes(found: Detections, labels: Sequence[str], match: ClassMatch, iou: float) -> Detections:
    """Return the detections of classes that the set has, under the set's ids. Where labels merge, boxes of one object are one again."""
    rows = np.array([row for row, label in enumerate(labels) if label in match.set_class_of], np.int64)
    classes = np.array([match.set_class_of[labels[row]] for row in rows], np.int64)
    kept = replace(found[rows], classes=classes)
    return kept[nms(kept.boxes, kept.scores, kept.classes, iou)] if match.merged else kept


def _truth(picture: Picture, classes: frozenset[int]) -> Truth:
    things = [thing for thing in picture.objects if thing.class_id in classes]
    return Truth(
        np.array([thing.box for thing in things], np.float64).reshape(-1, 4),
        np.array([thing.class_id for thing in things], np.int64),
        np.array([thing.difficult for thing in things], bool),
        np.array([thing.crowd for thing in things], bool),
    )


def match_model(card: ModelCard, dataset: Dataset, mapping: Mapping[str, str] | None = None) -> ClassMatch:
    """Return which of the model's classes are which of the set's. Raises InputError where nothing can be measured."""
    if card.task != "detect":
        raise InputError(f"model {card.name} is there to {card.task}; what is measured are detectors and classifiers")
    match = match_classes(class_labels(card), dataset.class_names, mapping, card.labels.ignore)
    known = frozenset(match.set_class_of.values())
    things = (thing for picture in dataset.pictures for thing in picture.objects)
    if not any(thing.class_id in known and not (thing.difficult or thing.crowd) for thing in things):
        raise InputError(
            f"no object of a class that model {card.name} knows is marked in the set, so there is nothing to measure; "
            "give another set, or say with --class-map which classes belong together"
        )
    return match


def evaluate_model(
    card: ModelCard, dataset: Dataset, match: ClassMatch, *, threads: int = 1, runtime: Runtime = "auto", coco: bool = True
) -> Result:
    """Measure a detector on a set, with as many detections as average precision looks at."""
    prove_foreign(card, runtime)
    # FOMO's smallest score also says which cells are one object: only at its own do the boxes mean anything.
    min_score = card.defaults.min_score if card.head.kind == "fomo" else MIN_SCORE
    limits = Limits(min_score=min_score, max_detections=MAX_DETECTIONS)
    return measure(load_pipeline(card, threads=threads, runtime=runtime, limits=limits), dataset, match, coco=coco)
