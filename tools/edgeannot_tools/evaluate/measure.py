"""A model on a labelled set: the daemon's own pipeline picture by picture, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np

from edgeannot.base.errors import FrameError, InputError
from edgeannot.tflite.file import read_tflite
from edgeannot.vision.data import Detections, Frame
from edgeannot.vision.decode import read_picture
from edgeannot.vision.geometry import nms
from edgeannot.vision.pipeline import Pipeline
from edgeannot_tools.datasets import Dataset, Picture
from edgeannot_tools.evaluate.average_precision import Accuracy, CocoMetrics, Truth, coco_metrics, evaluate_detections
from edgeannot_tools.evaluate.class_matching import ClassMatch
from edgeannot_tools.terminal import track

__all__ = ["MAX_DETECTIONS", "MIN_SCORE", "Compared", "Result", "Timing", "compare", "dtype_of", "measure"]

MIN_SCORE = 0.02
"""Detections below this score are not asked for: they change average precision by less than a hundredth and cost time."""
MAX_DETECTIONS = 500
_CONVOLUTIONS = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"})


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
        numbers=dtype_of(pipeline.card.model_path),
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


def dtype_of(model: Path) -> Literal["int8", "float32"]:
    """What most convolutions of a .tflite file calculate with; weights that are only stored as int8 do not count."""
    graph = read_tflite(model).subgraphs[0]
    made = [graph.tensors[operator.outputs[0]].dtype for operator in graph.operators if operator.name in _CONVOLUTIONS]
    return "int8" if 2 * sum(dtype in {"int8", "uint8", "int16"} for dtype in made) > len(made) else "float32"


def compare(detections: Sequence[Detections], pictures: Sequence[Picture]) -> Accuracy:
    """The accuracy of detections that are in the set's own classes, one a picture, in the same order."""
    classes = frozenset(thing.class_id for picture in pictures for thing in picture.objects)
    return evaluate_detections([(_truth(picture, classes), found) for picture, found in zip(pictures, detections, strict=True)])


def _frame(picture: Picture, number: int) -> Frame:
    """The picture as the daemon would get it. Raises InputError when it cannot be read."""
    if picture.path is None:
        raise InputError(f"picture {picture.name} has no file")
    try:
        image = read_picture(picture.path).image
    except FrameError as exc:
        raise InputError(f"{exc}; `edgeannot datasets check` finds all such pictures") from exc
    found = (image.shape[1], image.shape[0])
    if found != picture.size_wh:
        raise InputError(
            f"{picture.path}: the labels are for {picture.size_wh[0]}x{picture.size_wh[1]} pixels, the picture has {found[0]}x{found[1]}"
        )
    return Frame(image, "evaluate", number, datetime.now(UTC), picture.name, picture.path)


def _in_set_classes(found: Detections, labels: Sequence[str], match: ClassMatch, iou: float) -> Detections:
    """The detections of classes that the set has, under the set's ids. Where labels merge, boxes of one object are one again."""
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
