"""Candidates to run and what is required of them, and how two compare: values and arithmetic, no decision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from edgeannot.choice.card_index import Accuracy, CardFacts
from edgeannot.choice.measurements import Sample

if TYPE_CHECKING:
    from edgeannot.vision.data import Profile  # numpy comes with it

__all__ = ["SAME_TIME", "Budget", "Candidate", "Requirements", "best_sample", "common", "dominates", "gain", "predict_ms"]

SAME_ACCURACY = 0.01
"""Accuracies of one network this close are equal: the sets that they come from are small."""
SAME_ACCURACY_OF_TWO = 0.05
"""The same for two networks. They err on different pictures, so of the fifty that the bundled ones are measured on each may be a
lucky draw."""
SAME_TIME = 0.03
"""Times this close are equal: two measurements of one network differ as much."""


@dataclass(frozen=True, slots=True)
class Budget:
    """The longest time for one picture, and who set it."""

    ms: float
    why: str
    """As in "200 ms a picture (max_ms)"."""
    asked: bool = False
    """Whether the user set it; else it is the profile's."""


@dataclass(frozen=True, slots=True)
class Requirements:
    """What the settings ask of a model, and what the board has for it."""

    profile: Profile
    budget: Budget
    task: str = "detect"
    labels: tuple[str, ...] = ()
    thread_counts: tuple[int, ...] = (1,)
    """Counts that may be used, ascending; the last is used where nothing was measured."""
    memory_bytes: int = 0
    """0: not known, no limit."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One card at one input size with what is known of it, and in the end why it won or lost."""

    facts: CardFacts
    size: int
    threads: int
    sample: Sample | None
    """The measurement at the best thread count; None: not measured."""
    predicted_ms: float | None
    """From the same model at other sizes; None where nothing of it was measured."""
    rejection: str = ""
    """Why it cannot be used at all; empty: it can."""
    explanation: str = ""
    noisy_sample: Sample | None = None
    """A measurement on a busy board, which is shown and decides nothing."""

    @property
    def name(self) -> str:
        """NAME or NAME@SIZE."""
        return self.facts.name_at(self.size)

    @property
    def shown(self) -> Sample | None:
        """The figures for a table: those that count, else those that do not."""
        return self.sample or self.noisy_sample

    @property
    def ms(self) -> float | None:
        """Milliseconds a picture, measured, where that counts."""
        return None if self.sample is None else self.sample.ms

    @property
    def expected_ms(self) -> float | None:
        """Milliseconds a picture, measured or predicted, on a busy board where there is nothing better; None: not known."""
        return self.shown.ms if self.shown else self.predicted_ms

    @property
    def accuracy(self) -> Accuracy | None:
        """The accuracy to show; comparisons look for a data set that both have."""
        return next(iter(self.accuracies()), None)

    def accuracies(self) -> list[Accuracy]:
        """Return its accuracies at this size, for the dtype that was measured, else int8; of the other where there is none."""
        rows = [row for row in self.facts.accuracies if row.size == self.size]
        dtype = self.shown.dtype if self.shown else "int8"
        return [row for row in rows if row.dtype == dtype] or rows


def best_sample(samples: Sequence[Sample], size: int, thread_counts: Sequence[int]) -> Sample | None:
    """Return the fastest sample of a size; of equally fast ones that with the fewest threads, as it leaves more for others."""
    found = [s for s in samples if s.size == size and s.threads in thread_counts]
    if not found:
        return None
    least = min(s.ms for s in found)
    return min((s for s in found if s.ms <= least * (1 + SAME_TIME)), key=lambda s: s.threads)


def predict_ms(facts: CardFacts, samples: Sequence[Sample], size: int, thread_counts: Sequence[int]) -> float | None:
    """Predict the milliseconds of a size from the model's other sizes: linear in the input's area, as the work of a network is.

    None where nothing was measured.
    """
    known = sorted(
        (facts.area(s.size), s.ms, s.stages.get("decode", 0.0)) for n in facts.sizes if (s := best_sample(samples, n, thread_counts))
    )
    if not known:
        return None
    area = facts.area(size)
    if len(known) == 1:
        ((other, ms, decode_ms),) = known
        return decode_ms + (ms - decode_ms) * area / other
    # Between its neighbours, or on from the two nearest.
    below, above = next(((a, b) for a, b in pairwise(known) if area <= b[0]), (known[-2], known[-1]))
    slope = max(0.0, (above[1] - below[1]) / (above[0] - below[0]))
    return max(below[1] + slope * (area - below[0]), 0.5 * known[0][1])


def gain(one: Candidate, other: Candidate) -> float | None:
    """Return how much more accurate `one` is, 0 where they are equal; None where that cannot be said."""
    difference = _difference(one, other)
    if difference is None or common(one, other) is None:
        return difference
    alike = SAME_ACCURACY if one.facts.network == other.facts.network else SAME_ACCURACY_OF_TWO
    return 0.0 if abs(difference) <= alike else difference


def dominates(one: Candidate, other: Candidate) -> bool:
    """Return whether `one` is no slower and no less accurate by the figures as they are, however close, and better in one of both.

    False where a time was not measured, or accuracies cannot be compared.
    """
    difference = _difference(one, other)
    if one.ms is None or other.ms is None or difference is None:
        return False
    return one.ms <= other.ms and difference >= 0 and (one.ms < other.ms or difference > 0)


def _difference(one: Candidate, other: Candidate) -> float | None:
    if (pair := common(one, other)) is not None:
        return pair[0].value - pair[1].value
    if one.facts.network == other.facts.network:
        return float(one.facts.area(one.size) - other.facts.area(other.size))
    return None


def common(one: Candidate, other: Candidate) -> tuple[Accuracy, Accuracy] | None:
    """Return their accuracies on a data set that both were measured on; None where there is none."""
    for mine in one.accuracies():
        for its in other.accuracies():
            if (mine.dataset, mine.measure) == (its.dataset, its.measure):
                return mine, its
    return None
