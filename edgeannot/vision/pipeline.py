"""Frame -> Annotation: the one composition of the stages, used alike by the daemon, the tools and the tests."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeannot.base.errors import CardError, ConfigError, ModelError, OutputError
from edgeannot.tflite.file import open_at_size
from edgeannot.vision.cards import ModelCard
from edgeannot.vision.data import Annotation, Detections, Fit, FloatArray, Frame, ModelFacts, Outputs, Profile, TensorSpec
from edgeannot.vision.engine import Engine, Runtime
from edgeannot.vision.geometry import clip, nms
from edgeannot.vision.heads import Head, reader_of
from edgeannot.vision.preprocess import ToTensor
from edgeannot.vision.views import Preparation, Prepared, mean_of

__all__ = [
    "Inferred",
    "Limits",
    "Pipeline",
    "check_card",
    "check_input",
    "load_engine",
    "load_pipeline",
    "refuse_certainty",
    "refuse_not_finite",
]


@dataclass(frozen=True, slots=True)
class Limits:
    """What is reported: None takes the card's default."""

    min_score: float | None = None
    iou: float | None = None
    max_detections: int | None = None
    labels: tuple[str, ...] = ()
    """Only these labels; empty: all."""


@dataclass(frozen=True, slots=True)
class Inferred:
    """A frame with what the network gave for it."""

    frame: Frame
    fit: Fit
    outputs: Outputs
    begun: float
    """When the model began with it, by `time.perf_counter`."""
    preprocess_ms: float
    inference_ms: float


class Pipeline:
    """A model made ready: call it with a Frame, get its Annotation. Owns the engine; for one thread at a time.

    A call is `preparation`, `infer` and `finish`. The first and the last may run on other threads while the network has another picture.
    """

    def __init__(self, card: ModelCard, engine: Engine, profile: Profile = "mid", limits: Limits | None = None) -> None:
        limits = limits or Limits()
        self._head = reader_of(card.head)
        classes = check_card(card, engine, self._head)
        self.card = card
        self.engine = engine
        self.facts = ModelFacts(card.name, card.sha256, card.family, profile)
        self.min_score = card.defaults.min_score if limits.min_score is None else limits.min_score
        self._iou = card.defaults.iou if limits.iou is None else limits.iou
        self._max = card.defaults.max_detections if limits.max_detections is None else limits.max_detections
        self.preparation = Preparation(to_tensor(card, engine), card.input.views)
        """Makes the input tensors; for any thread."""
        self._names = card.label_names()
        self._objects = _wanted_classes(card, self._names, classes, ())
        self.labels = limits.labels
        """What is asked for; empty: all."""
        self._wanted = _wanted_classes(card, self._names, classes, limits.labels)

    def __call__(self, seen: Frame | Prepared) -> Annotation:
        """Return what the model sees: boxes in frame pixels, clipped to it, best first. A frame that was not prepared for this model is
        prepared now.

        Raises OutputError, or ModelError where the runtime cannot run the model on it.
        """
        return self.finish(self.infer(seen))

    def infer(self, seen: Frame | Prepared) -> Inferred:
        """Run the network. Raises ModelError where the runtime cannot. Only this needs the engine; `finish` is for any thread."""
        begun = time.perf_counter()
        prepared = self._prepared(seen)
        start = time.perf_counter()
        outputs = mean_of(self.engine.run(tensor) for tensor in prepared.tensors)
        return Inferred(prepared.frame, prepared.fit, outputs, begun, prepared.took_ms, (time.perf_counter() - start) * 1e3)

    def finish(self, inferred: Inferred) -> Annotation:
        """Read the outputs of `infer`. Raises OutputError where they are implausible."""
        start = time.perf_counter()
        frame, outputs = inferred.frame, inferred.outputs
        refuse_not_finite(outputs, self._head)
        min_score = self.min_score if frame.min_score is None else frame.min_score
        found = self._head.decode(outputs, self.card.input_wh, min_score)
        refuse_certainty(found, self._head, outputs, self.card.input_wh)
        wanted = self._objects if frame.any_label else self._wanted
        if wanted is not None and len(found):
            found = found[np.isin(found.classes, wanted)]
        found = self._best(found)
        image, corner_xy = frame.seen
        boxes = clip(inferred.fit.to_frame(found.boxes), (image.shape[1], image.shape[0])) + np.array(corner_xy * 2, np.float32)
        found = Detections(clip(_in_whole(boxes, frame), frame.size_wh), found.scores, found.classes)
        labels = tuple(self.label(int(c)) for c in found.classes)
        timing = {
            "decode": frame.decode_ms,
            "preprocess": inferred.preprocess_ms,
            "inference": inferred.inference_ms,
            "postprocess": (time.perf_counter() - start) * 1e3,
        }
        timing["total"] = sum(timing.values())
        if frame.taken_at is not None:
            # perf_counter and monotonic are one clock on Linux
            timing["age"] = max((inferred.begun - frame.taken_at) * 1e3, 0.0)
        return Annotation(frame, found, labels, self.facts, timing)

    def _prepared(self, seen: Frame | Prepared) -> Prepared:
        if isinstance(seen, Frame):
            return self.preparation(seen)
        # The model, or its input size, may be another than when the frame was prepared.
        return seen if seen.by == self.preparation else self.preparation(seen.frame)

    def limited(self, limits: Limits) -> Pipeline:
        """Return the same model with other limits; both share the engine. Raises ConfigError for labels that the model does not know."""
        return Pipeline(self.card, self.engine, self.facts.profile, limits)

    def class_names(self) -> dict[int, str]:
        """Return class id -> label for every class that may be reported; empty where the card has no names."""
        ids = range(len(self._names) - self.card.labels.offset) if self._wanted is None else self._wanted.tolist()
        return {class_id: self.label(class_id) for class_id in ids if class_id + self.card.labels.offset >= 0} if self._names else {}

    def label(self, class_id: int) -> str:
        """Return the name of a class; its number where the card has no names."""
        line = class_id + self.card.labels.offset
        return self._names[line] if 0 <= line < len(self._names) else str(class_id)

    def _best(self, found: Detections) -> Detections:
        if self._head.suppress:
            kept = nms(found.boxes, found.scores, found.classes, self._iou, limit=self._max)
        else:
            kept = np.argsort(-found.scores, kind="stable")
        return found[kept[: self._max]]


def _in_whole(boxes: FloatArray, frame: Frame) -> FloatArray:
    """Return boxes (N, 4) in pixels of the decoded image as boxes in pixels of the whole picture: a large one may be decoded smaller."""
    if frame.whole_wh is None:
        return boxes
    height, width = frame.image.shape[:2]
    return boxes * np.array([frame.whole_wh[0] / width, frame.whole_wh[1] / height] * 2, np.float32)


def to_tensor(card: ModelCard, engine: Engine) -> ToTensor:
    """Return the preprocessing that the card states, for the engine's input tensor."""
    facts = card.input
    return ToTensor(engine.input, card.input_wh, facts.resize, facts.pad, facts.color, facts.layout, mean=facts.mean, std=facts.std)


def check_card(card: ModelCard, engine: Engine, head: Head) -> int | None:
    """Return the number of classes. head: `reader_of(card.head)`.

    Raises CardError when the card says something else than the tensors, with both values in it.
    """
    check_input(card, engine.input)
    classes = head.check(engine.outputs, card.input_wh)
    names = len(card.label_names())
    if classes is not None and names and names < classes + card.labels.offset:
        raise CardError(
            f"card {card.name}: the model has {classes} classes, the labels {names} lines with offset {card.labels.offset}; "
            "give the label file that belongs to this model, or correct labels.offset"
        )
    return classes


def check_input(card: ModelCard, spec: TensorSpec) -> None:
    """Raise CardError when the input tensor has another shape than the card says."""
    facts = card.input
    pixels = (facts.height, facts.width, facts.channels) if facts.layout == "NHWC" else (facts.channels, facts.height, facts.width)
    if spec.shape != (1, *pixels):
        raise CardError(
            f"card {card.name}: the input tensor has shape {spec.shape}, the card says {(1, *pixels)} ({facts.layout}); correct [input]"
        )


def load_engine(card: ModelCard, threads: int = 1, runtime: Runtime = "auto") -> Engine:
    """Return an engine for the card's model at the card's input size, its file verified against the card."""
    card.verify_file()
    if "@" in card.name:
        try:
            fd = open_at_size(card.model_path, card.input.width)
        except ModelError as exc:
            raise ModelError(f"{card.model_path}: {exc}") from exc
        try:
            name = f"{card.model_path} at {card.input.width}x{card.input.height}"
            return Engine(Path(f"/proc/self/fd/{fd}"), threads, runtime, name=name)
        finally:
            os.close(fd)  # the runtime has mapped it
    return Engine(card.model_path, threads, runtime)


def load_pipeline(
    card: ModelCard, *, threads: int = 1, runtime: Runtime = "auto", profile: Profile = "mid", limits: Limits | None = None
) -> Pipeline:
    """Return a pipeline for a card, from its files. Raises CardError, ModelError or ConfigError."""
    return Pipeline(card, load_engine(card, threads, runtime), profile, limits)


def _wanted_classes(
    card: ModelCard, names: Sequence[str], classes: int | None, labels: tuple[str, ...]
) -> np.ndarray[tuple[int], np.dtype[np.int64]] | None:
    """Return class ids that may be reported, or None for all: the labels asked for, less those that stand for no object."""
    ignored = set(card.labels.ignore)
    if labels and (unknown := sorted(set(labels) - set(names))):
        raise ConfigError(
            f"labels: the model {card.name} knows no {', '.join(map(repr, unknown))}; "
            f"it knows: {', '.join(n for n in names if n not in ignored)}"
        )
    if not labels and not ignored & set(names):
        return None
    count = classes if classes is not None else len(names) - card.labels.offset
    lines = ((c, c + card.labels.offset) for c in range(count))
    keep = [c for c, line in lines if 0 <= line < len(names) and names[line] not in ignored and (not labels or names[line] in labels)]
    return np.array(keep, np.int64)


_SURE = 0.995
_MANY_SLOTS = 16
"""Fewer may well be sure all together: a classifier of one class, a grid of a few cells."""
_MANY_OBJECTS = 100
"""The same where the graph itself has left out what overlaps and what is not used."""


def refuse_not_finite(outputs: Outputs, head: Head) -> None:
    """Raise OutputError where a score is not finite. A sum says so of all at once: 0.1 ms for the largest tables that are known."""
    for ref in head.score_outputs:
        values = outputs[ref].values
        if values.dtype.kind != "f":  # whole numbers always are
            continue
        with np.errstate(over="ignore", invalid="ignore"):
            may_not_be = not np.isfinite(values.sum(dtype=np.float32))
        if may_not_be and not np.isfinite(values).all():
            count = int(values.size - np.isfinite(values).sum())
            raise OutputError(f"the model gave {count} of {values.size} scores that are not finite")


def refuse_certainty(found: Detections, head: Head, outputs: Outputs, input_wh: tuple[int, int]) -> None:
    """Raise OutputError where every place that could hold an object is as good as sure to hold one. found: what `head` decoded."""
    many = _MANY_SLOTS if head.suppress else _MANY_OBJECTS
    if len(found) < many or found.scores.min() < _SURE:
        return
    slots = head.decode(outputs, input_wh, 0.0)  # rare: as a rule something is less sure
    if slots.scores.min() >= _SURE:
        raise OutputError(f"its outputs are implausible: an object of score {_SURE:g} or more at each of the {len(slots)} places")
