"""A model on a labelled set: which class of it is which of the set's, the daemon's own pipeline picture by picture, and what came of it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edgeannot.base.errors import FrameError, InputError
from edgeannot.base.foreign import parse_toml, read_text
from edgeannot.trial.cards import prove_foreign
from edgeannot.vision.cards import Measured, ModelCard
from edgeannot.vision.data import Detections, Frame
from edgeannot.vision.decode import read_picture
from edgeannot.vision.engine import Runtime
from edgeannot.vision.geometry import nms
from edgeannot.vision.pipeline import Limits, Pipeline, load_pipeline
from edgeannot_tools.datasets import Dataset, Picture
from edgeannot_tools.evaluate.average_precision import Accuracy, CocoMetrics, Truth, coco_metrics, evaluate_detections
from edgeannot_tools.evaluate.bootstrap import bootstrap_maps, margin
from edgeannot_tools.output import track

__all__ = [
    "MAX_DETECTIONS",
    "MIN_SCORE",
    "ClassMatch",
    "Compared",
    "Result",
    "Run",
    "Timing",
    "class_labels",
    "common_classes",
    "compare",
    "evaluate_model",
    "facts_of_run",
    "match_classes",
    "match_model",
    "measure",
    "read_frame",
    "read_mapping",
    "with_synonyms",
]


@dataclass(frozen=True, slots=True)
class ClassMatch:
    """Which classes meet, and which are left out of the comparison."""

    set_class_of: Mapping[str, int]
    """Label of the model -> class id of the set."""
    only_model: tuple[str, ...]
    """Labels that the set does not mark: detections of them are left out."""
    only_set: tuple[str, ...]
    """Classes that the model does not know: objects of them are left out."""
    merged: bool
    """Several labels of the model stand for one class of the set."""
    not_common: tuple[str, ...] = ()
    """Labels that the set does mark, but that are left out because another model does not know them."""


def match_classes(
    model_labels: Sequence[str], set_names: Sequence[str], mapping: Mapping[str, str] | None = None, ignore: Collection[str] = ()
) -> ClassMatch:
    """Match by name; upper and lower case, spaces, "-" and "_" make no difference. `mapping` (model's name -> set's name) goes first.

    Several labels may stand for one class of the set (Man, Woman -> person). ignore: labels of the model that stand for no object.
    Raises InputError when the mapping names what neither side has, or when nothing matches.
    """
    mapping = mapping or {}
    by_name = {_plain(name): number for number, name in enumerate(set_names)}
    labels = [label for label in dict.fromkeys(model_labels) if label not in ignore]
    for label, name in mapping.items():
        if label not in labels:
            raise InputError(f"the mapping names the model's class {label!r}, which it does not have; it has: {', '.join(labels)}")
        if name and _plain(name) not in by_name:
            raise InputError(f"the mapping names the set's class {name!r}, which it does not have; it has: {', '.join(set_names)}")
    wanted = {label: mapping.get(label, label) for label in labels}
    met = {label: by_name[_plain(name)] for label, name in wanted.items() if name and _plain(name) in by_name}
    if not met:
        ours, theirs = _some(labels), _some(set_names)
        raise InputError(
            f"no class of the model ({ours}) is called like one of the set ({theirs}); say which belong together with --class-map"
        )
    return ClassMatch(
        met,
        tuple(label for label in labels if label not in met),
        tuple(name for number, name in enumerate(set_names) if number not in met.values()),
        len(set(met.values())) < len(met),
    )


def with_synonyms(labels: Sequence[str], set_names: Sequence[str], mapping: Mapping[str, str]) -> dict[str, str]:
    """Return the mapping (model's label -> set's name), and for labels that are lists of synonyms, as ImageNet's, the one that the set has.

    >>> with_synonyms(["killer whale, killer, orca", "tiger, Panthera tigris"], ["orca", "lion"], {})
    {'killer whale, killer, orca': 'orca'}
    """
    by_name = {_plain(name): name for name in set_names}
    lists = {label: [_plain(part) for part in label.split(",")] for label in labels if "," in label}
    found = {label: next((by_name[part] for part in parts if part in by_name), None) for label, parts in lists.items()}
    return {label: name for label, name in found.items() if name is not None} | dict(mapping)


def common_classes(matches: Sequence[ClassMatch], set_names: Sequence[str]) -> list[ClassMatch]:
    """Return the matches cut down to the classes of the set that every model knows. Raises InputError when there is none."""
    shared = frozenset.intersection(*(frozenset(match.set_class_of.values()) for match in matches))
    if not shared:
        raise InputError("the models have no class of the set in common; leave --common away, or measure them one by one")
    return [
        replace(
            match,
            set_class_of={label: number for label, number in match.set_class_of.items() if number in shared},
            only_set=tuple(name for number, name in enumerate(set_names) if number not in shared),
            not_common=tuple(label for label, number in match.set_class_of.items() if number not in shared),
        )
        for match in matches
    ]


def _plain(name: str) -> str:
    return "".join(name.casefold().split()).replace("_", "").replace("-", "")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")


def read_mapping(path: Path) -> dict[str, str]:
    """Return the table [classes] of a TOML file: `"model's name" = "set's name"`; an empty name leaves the class out.

    Raises MissingError or InputError.
    """
    table = parse_toml(read_text(path, "the class mapping"), f"the class mapping {path}")
    classes = table.get("classes")
    if not isinstance(classes, dict) or not all(isinstance(name, str) for name in classes.values()):
        raise InputError(f'the class mapping {path}: wanted a table [classes] with lines like `"Man" = "person"`, found {sorted(table)}')
    return classes


def class_labels(card: ModelCard) -> tuple[str, ...]:
    """Return the labels of the model's classes, in the order of their ids."""
    names = card.label_names()[max(0, card.labels.offset) :]
    if not names:
        raise InputError(f"model {card.name} has no class names, so they cannot be matched with the set's; add labels to its card")
    return names


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One model that has run over one set."""

    model: str
    input_wh: tuple[int, int]
    numbers: Literal["int8", "float32"]
    """What the network calculates with."""
    runtime: str
    threads: int
    timing: Timing
    match: ClassMatch

    def row(self, dataset: str, pictures: int, **figures: float) -> Measured:
        """Return the row for the model's card; a figure that does not exist is left out."""
        rounded: dict[str, Any] = {key: round(value, 4) for key, value in figures.items() if not math.isnan(value)}
        return Measured(dataset=dataset, size=self.input_wh[0], numbers=self.numbers, pictures=pictures, **rounded)


def facts_of_run(pipeline: Pipeline, times: Sequence[Mapping[str, float]], match: ClassMatch) -> dict[str, Any]:
    """Return the fields of `Run`. times: milliseconds of each stage, a picture each."""
    return {
        "model": pipeline.card.name,
        "input_wh": pipeline.card.input_wh,
        "numbers": pipeline.card.dtype,
        "runtime": pipeline.engine.runtime,
        "threads": pipeline.engine.threads,
        "timing": Timing(*(float(np.median([time[stage] for time in times])) for stage in ("preprocess", "inference", "postprocess"))),
        "match": match,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Result(Run):
    """One detector's figures on one set."""

    accuracy: Accuracy
    coco: CocoMetrics | None
    compared: tuple[Compared, ...]
    left_out_objects: int
    """Objects of classes that the model does not know."""

    @property
    def pictures(self) -> int:
        """How many were looked at."""
        return len(self.compared)

    def margins(self) -> tuple[float, float]:
        """Return the margins of mAP50 and mAP50-95 (`bootstrap.margin`), computed anew at each call."""
        drawn = bootstrap_maps([(item.truth, item.found) for item in self.compared])
        return margin(drawn[:, 0]), margin(drawn.mean(axis=1))

    def measured(self, dataset: str) -> Measured:
        """Return the row for the card."""
        figures = {name: getattr(self.accuracy, name) for name in ("map50", "map50_95", "mean_iou")}
        margins = dict(zip(("map50_margin", "map50_95_margin"), self.margins(), strict=True))
        return self.row(dataset, self.pictures, **figures, **margins)


def measure(pipeline: Pipeline, dataset: Dataset, match: ClassMatch, *, coco: bool = True) -> Result:
    """Run the pipeline over every picture of the set and compare. Raises InputError for a picture that cannot be read."""
    times, compared = [], []
    pictures = [picture for picture in dataset.pictures if picture.path is not None]
    if not pictures:
        raise InputError("no picture of the set has a file; give their folder with --images")
    iou = pipeline.card.defaults.iou
    for number, picture in enumerate(track(pictures, pipeline.card.name, len(pictures))):
        annotation = pipeline(_frame(picture, number))
        times.append(annotation.timing_ms)
        found = _in_set_classes(annotation.detections, annotation.labels, match, iou)
        compared.append(Compared(picture, _truth(picture, frozenset(match.set_class_of.values())), found))
    pairs = [(item.truth, item.found) for item in compared]
    return Result(
        **facts_of_run(pipeline, times, match),
        accuracy=evaluate_detections(pairs),
        coco=coco_metrics(pairs) if coco else None,
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
