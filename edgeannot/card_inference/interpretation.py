"""What a rule makes of a graph: a reading, with the reasons; and the error for when two readings fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from edgeannot.base.errors import ModelError
from edgeannot.card_inference.facts import Facts
from edgeannot.card_inference.hints import Wishes
from edgeannot.card_inference.trial import Trial
from edgeannot.vision.heads import AnyHead

__all__ = ["RANGES", "AmbiguousModelError", "Convention", "Known", "Reading"]

RANGES: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "0..1": ((0.0,), (255.0,)),
    "-1..1": ((127.5,), (127.5,)),
    "0..255": ((0.0,), (1.0,)),
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "nanodet": ((103.53, 116.28, 123.675), (57.375, 57.12, 58.395)),
}
"""Input ranges by the word that `--input-range` takes: mean and std in bytes, in the model's order of colours.

"imagenet" is torchvision's, for R, G, B; "nanodet" are the same numbers for B, G, R.
"""


class AmbiguousModelError(ModelError):
    """Two or more readings fit the file; `choices` are the flags that would settle it."""

    def __init__(self, message: str, choices: Sequence[str]) -> None:
        super().__init__(f"{message}; choose with {' or '.join(choices)}")
        self.choices = tuple(choices)


@dataclass(frozen=True, slots=True)
class Convention:
    """How pictures are prepared for a family of models, where the file itself does not say."""

    who: str
    """The family, as it is named in the evidence."""
    resize: Literal["stretch", "letterbox", "letterbox-top-left"]
    color: Literal["RGB", "BGR"]
    input_range: str
    """A key of RANGES."""


@dataclass(frozen=True, slots=True)
class Known:
    """All that a rule may look at."""

    facts: Facts
    trial: Trial
    wishes: Wishes
    names: tuple[str, ...]
    """Class names from the user or the file, empty where there are none."""

    def class_counts(self) -> set[int]:
        """How many classes the names may stand for: all lines, or one less where the first is a background."""
        lines = len(self.names)
        if not lines:
            return set()
        counts = {lines}
        if self.wishes.label_offset:
            counts.add(lines - self.wishes.label_offset)
        elif is_background(self.names[0]):
            counts.add(lines - 1)
        return counts


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to understand the outputs."""

    head: AnyHead
    task: Literal["detect", "classify", "embed"]
    family: Literal["yolo", "ssd", "mobilenet", "other"]
    convention: Convention
    because: tuple[str, ...]
    """Evidence, one sentence each."""
    classes: int | None = None
    """Columns of class scores, the background's included; None: the file does not tell."""
    background: int | None = None
    """Which of them stands for no object."""
    doubts: tuple[str, ...] = ()
    """What was settled by convention only, and the flag that changes it."""


def is_background(name: str) -> bool:
    """Whether a line of a label file stands for no object."""
    return name.strip().lower().strip("_") in {"???", "background", "-", "bg", "unlabeled", ""}
