"""Teaching from beginning to end: pictures as the network sees them in, a model with its card and its figures out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgeannot.base.foreign import number_of
from edgeannot.tflite.file import parse_tflite
from edgeannot.vision.cards import Defaults, Labels, Measured, ModelCard, Provenance
from edgeannot.vision.data import IntArray
from edgeannot.vision.heads.classify import Classify
from edgeannot_tools.graph.macs import operator_costs
from edgeannot_tools.quantize.acceptance import share_interval
from edgeannot_tools.teach.classify.backbone import Backbone
from edgeannot_tools.teach.classify.examples import Seen
from edgeannot_tools.teach.classify.head import OUTPUT, expansion_for, taught_file
from edgeannot_tools.teach.classify.learning import Learned, learn
from edgeannot_tools.teach.classify.remembered import MADE_BY
from edgeannot_tools.teach.install import sha256

__all__ = ["FEW", "Pair", "Taught", "teach"]

FEW = 5
"""Different pictures a class; with fewer the figures say little."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Pictures of one class that were taken for another."""

    shown: int
    said: int
    count: int


@dataclass(frozen=True, slots=True)
class Taught:
    """What was learned, and how well."""

    seen: Seen
    learned: Learned
    model: bytes
    card: ModelCard
    comments: tuple[str, ...]

    @property
    def said(self) -> IntArray:
        """(N,) the class that each picture was taken for by weights that were not learned from it."""
        return np.asarray(self.learned.probabilities.argmax(axis=1), np.int64)

    @property
    def right(self) -> NDArray[np.bool_]:
        """(N,) bool: whether that is its own class."""
        return np.asarray(self.said == self.seen.classes)

    @property
    def accuracy(self) -> float:
        """Share of the pictures that could be tested whose class came first."""
        tested = self.learned.tested
        return float(self.right[tested].mean()) if tested.any() else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the accuracy. Pictures that are nearly the same count as one."""
        tested = self.learned.tested
        return share_interval(self.accuracy, len(np.unique(self.seen.groups[tested]))) if tested.any() else (0.0, 1.0)

    @property
    def confusion(self) -> IntArray:
        """(K, K) counts: row the class of the pictures, column what they were taken for."""
        count = len(self.seen.class_names)
        matrix = np.zeros((count, count), np.int64)
        tested = self.learned.tested
        np.add.at(matrix, (self.seen.classes[tested], self.said[tested]), 1)
        return matrix

    @property
    def confused(self) -> list[Pair]:
        """The pairs of classes that are mistaken for each other, the most frequent first."""
        matrix = self.confusion
        pairs = [Pair(int(i), int(j), int(matrix[i, j])) for i, j in zip(*np.nonzero(matrix), strict=True) if i != j]
        return sorted(pairs, key=lambda pair: (-pair.count, pair.shown, pair.said))

    @property
    def suspicious(self) -> list[int]:
        """Rows of the pictures that could be tested, the least likely label first."""
        return [int(row) for row in np.argsort(self.learned.trust, kind="stable") if self.learned.tested[row]]

    def warnings(self) -> list[str]:
        """Return what the figures cannot carry, one sentence each."""
        seen, found = self.seen, []
        for number, name in enumerate(seen.class_names):
            own = seen.classes == number
            different = len(np.unique(seen.groups[own]))
            if different < FEW:
                found.append(f"class {name!r} has {number_of(different, 'different picture')}: wanted {FEW} or more, better 30")
            if not self.learned.tested[own].all():
                found.append(f"class {name!r} cannot be tested: all of its pictures are nearly the same")
        if seen.copies:
            again, first = seen.copies[0]
            found.append(f"{number_of(len(seen.copies), 'copy', 'copies')} left out, such as {again}, which is {first}")
        found += _alike_in_two_classes(seen)
        counts = np.bincount(seen.classes, minlength=len(seen.class_names))
        if counts.max() >= 10 * counts.min():
            few, many = seen.class_names[int(counts.argmin())], seen.class_names[int(counts.argmax())]
            found.append(
                f"{many!r} has {counts.max()} pictures, {few!r} only {counts.min()}: they count alike, but {few!r} stays less sure"
            )
        return found


def _alike_in_two_classes(seen: Seen) -> list[str]:
    found = []
    for group in np.unique(seen.groups):
        rows = np.nonzero(seen.groups == group)[0]
        if len(classes := np.unique(seen.classes[rows])) > 1:
            one, other = (next(int(row) for row in rows if seen.classes[row] == number) for number in classes[:2])
            names = seen.class_names[int(classes[0])], seen.class_names[int(classes[1])]
            found.append(
                f"{seen.paths[one]} ({names[0]}) and {seen.paths[other]} ({names[1]}) are nearly the same picture: is one label wrong?"
            )
    return found


def teach(seen: Seen, backbone: Backbone, name: str, source: str, views: int = 1) -> Taught:
    """Teach these pictures, and return the model with its figures.

    name: of the new model. source: of the pictures, for the card. views: see `learn`.
    """
    expansion = expansion_for(backbone, seen.vectors[:, 0, 0])
    learned = learn(seen.vectors, seen.classes, len(seen.class_names), seen.groups, expansion, views)
    model = taught_file(backbone, learned.head, seen.vectors[:, learned.look].reshape(-1, seen.vectors.shape[-1]))
    card = _card(seen, learned, backbone, model, name, views)
    taught = Taught(
        seen, learned, model, card, (f"taught from {number_of(len(seen.paths), 'picture')} of {source} on {backbone.card.name}",)
    )
    if not learned.tested.any():
        return taught
    low, high = taught.interval
    figure = f"accuracy {taught.accuracy:.3f} ({low:.3f} to {high:.3f}) on pictures that were not learned from"
    row = Measured(
        dataset=f"{name}, cross-validated",
        size=backbone.card.input.width,
        numbers="float32" if backbone.quantization is None else "int8",
        pictures=int(learned.tested.sum()),
        top1=round(taught.accuracy, 4),
    )
    return replace(taught, card=card.model_copy(update={"measured": (row,)}), comments=(*taught.comments, figure))


def _card(seen: Seen, learned: Learned, backbone: Backbone, model: bytes, name: str, views: int) -> ModelCard:
    base = backbone.card
    pictures = number_of(len(seen.paths), "picture")
    return ModelCard(
        schema=1,
        name=name,
        description=f"{number_of(len(seen.class_names), 'class', 'classes')} taught from {pictures}, on {base.name}",
        file=f"{name}.tflite",
        sha256=sha256(model),
        task="classify",
        family=base.family,
        macs=sum(cost.macs for cost in operator_costs(parse_tflite(model))) * views,
        input=base.input.model_copy(update={"sizes": (), "views": views, "resize": seen.looks[learned.look]}),
        head=Classify(output=OUTPUT, activation="softmax", top_k=1),
        labels=Labels(names=seen.class_names, ignore=()),
        defaults=Defaults(min_score=learned.threshold),
        provenance=Provenance(
            source=f"{base.name} ({base.provenance.source})" if base.provenance.source else base.name,
            source_sha256=base.sha256,
            license=base.provenance.license,
            training=f"{pictures} of {number_of(len(seen.class_names), 'class', 'classes')}",
            made_by=MADE_BY,
        ),
    )
