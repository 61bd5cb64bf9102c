"""A classifier on a labelled set: the daemon's own pipeline picture by picture, and how often the right class came first.

Top-1 and top-5 are those of ImageNet's challenge (Russakovsky et al. 2015, https://arxiv.org/abs/1409.0575): a picture counts when its
class is the best one, or among the five best, of all classes that the model knows.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgeannot.base.errors import InputError
from edgeannot.trial.cards import prove_foreign
from edgeannot.vision.cards import Measured, ModelCard
from edgeannot.vision.engine import Runtime
from edgeannot.vision.heads.classify import Classify
from edgeannot.vision.pipeline import Limits, Pipeline, load_pipeline
from edgeannot_tools.datasets.pictures import ClassFolders
from edgeannot_tools.evaluate.bootstrap import Z
from edgeannot_tools.evaluate.measure import (
    ClassMatch,
    Run,
    class_labels,
    common_classes,
    facts_of_run,
    match_classes,
    read_frame,
    with_synonyms,
)
from edgeannot_tools.output import track

__all__ = ["Answer", "ClassRow", "Ranking", "class_rows", "classifier_pipeline", "measure_classifier", "rank_classifiers"]

TOP = 5
UNKNOWN = -1
"""The class id of a label that the set does not have."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One picture, what it shows, and what the model said."""

    path: Path
    class_id: int
    labels: tuple[str, ...]
    """The model's best labels, the best first."""
    score: float
    """Of the best one."""
    rank: int
    """The place of the first label that stands for the picture's class, from 0, among all labels of the model."""
    rank_in_set: int
    """The same among the labels that stand for classes of the set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking(Run):
    """One classifier's figures on one set."""

    answers: tuple[Answer, ...]
    left_out: int
    """Pictures of classes that the model does not know."""

    @property
    def pictures(self) -> int:
        """How many were looked at."""
        return len(self.answers)

    @property
    def top1(self) -> float:
        """Share of the pictures whose class came first."""
        return _share([answer.rank < 1 for answer in self.answers])

    @property
    def top1_margin(self) -> float:
        """How far the 95 % interval of `top1` reaches to either side, as that of a mean over the pictures."""
        right = [answer.rank < 1 for answer in self.answers]
        return Z * float(np.std(right)) / math.sqrt(len(right)) if right else float("nan")

    @property
    def top5(self) -> float:
        """Share of the pictures whose class was among the first five."""
        return _share([answer.rank < TOP for answer in self.answers])

    @property
    def top1_in_set(self) -> float:
        """As `top1`, when the model may only choose among the classes of the set."""
        return _share([answer.rank_in_set < 1 for answer in self.answers])

    def measured(self, dataset: str) -> Measured:
        """Return the row for the card."""
        return self.row(dataset, self.pictures, top1=self.top1, top1_margin=self.top1_margin)


@dataclass(frozen=True, slots=True)
class ClassRow:
    """One class of the set."""

    class_id: int
    pictures: int
    top1: float
    top5: float
    mistaken_for: str
    """The label that came first most often where the class did not; empty where it always did."""


def classifier_pipeline(card: ModelCard, *, threads: int = 1, runtime: Runtime = "auto") -> Pipeline:
    """Return the daemon's pipeline, but with every class in its answer. Raises InputError for a model that is no classifier."""
    if not isinstance(card.head, Classify):
        raise InputError(f"model {card.name} is there to {card.task}, only classifiers give one class a picture")
    prove_foreign(card, runtime)
    everything = 1 << 30
    whole = card.model_copy(update={"head": replace(card.head, top_k=everything)})
    return load_pipeline(whole, threads=threads, runtime=runtime, limits=Limits(min_score=0.0, max_detections=everything))


def measure_classifier(pipeline: Pipeline, folders: ClassFolders, match: ClassMatch) -> Ranking:
    """Run the pipeline over every picture whose class the model knows. Raises InputError for a picture that cannot be read."""
    known = frozenset(match.set_class_of.values())
    pictures = [(path, class_id) for path, class_id in folders.pictures if class_id in known]
    times, answers = [], []
    for number, (path, class_id) in enumerate(track(pictures, pipeline.card.name, len(pictures))):
        annotation = pipeline(read_frame(path, number, "remove or replace that file"))
        times.append(annotation.timing_ms)
        classes = [match.set_class_of.get(label, UNKNOWN) for label in annotation.labels]
        answers.append(
            Answer(
                path=path,
                class_id=class_id,
                labels=annotation.labels[:TOP],
                score=float(annotation.detections.scores[0]) if len(annotation.labels) else 0.0,
                rank=_rank(classes, class_id),
                rank_in_set=_rank([found for found in classes if found != UNKNOWN], class_id),
            )
        )
    left_out = len(folders.pictures) - len(pictures)
    return Ranking(**facts_of_run(pipeline, times, match), answers=tuple(answers), left_out=left_out)


def class_rows(ranking: Ranking) -> list[ClassRow]:
    """Return the figures of each class that has pictures, in the order of their ids."""
    rows = []
    for class_id in sorted({answer.class_id for answer in ranking.answers}):
        own = [answer for answer in ranking.answers if answer.class_id == class_id]
        wrong = Counter(answer.labels[0] for answer in own if answer.rank and answer.labels)
        mistaken = min(wrong, key=lambda label: (-wrong[label], label), default="")
        rows.append(ClassRow(class_id, len(own), _share([a.rank < 1 for a in own]), _share([a.rank < TOP for a in own]), mistaken))
    return rows


def _rank(classes: Sequence[int], class_id: int) -> int:
    return classes.index(class_id) if class_id in classes else len(classes) + TOP


def _share(hits: Sequence[bool]) -> float:
    return sum(hits) / len(hits) if hits else float("nan")


def rank_classifiers(
    cards: Sequence[ModelCard],
    folders: ClassFolders,
    mapping: Mapping[str, str] | None = None,
    *,
    common: bool = False,
    threads: int = 1,
    runtime: Runtime = "auto",
) -> list[Ranking]:
    """Measure classifiers on one set. Raises InputError where no class of a model is called like one of the set."""
    matches = []
    for card in cards:
        labels = class_labels(card)
        named = with_synonyms(labels, folders.class_names, mapping or {})
        matches.append(match_classes(labels, folders.class_names, named, card.labels.ignore))
    if common:
        matches = common_classes(matches, folders.class_names)
    return [
        measure_classifier(classifier_pipeline(card, threads=threads, runtime=runtime), folders, match)
        for card, match in zip(cards, matches, strict=True)
    ]
