"""The models that may run: their few facts, what is required of them, and how two compare. No decision.

Reading and checking cards takes pydantic and numpy, tenths of a second on a good board and seconds on a weak one. So their facts are
kept in a small JSON file together with names, times and sizes of the files they came from, and read from the cards again only when one
of those changed. What is remembered was checked; the model that is chosen is checked again when it is loaded.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeannot.base.atomicfile import read_json, write_json
from edgeannot.base.places import bundled_folder
from edgeannot.choice.measurements import Sample

if TYPE_CHECKING:
    from edgeannot.base.errors import CardError
    from edgeannot.vision.cards import ModelCard
    from edgeannot.vision.data import Profile  # numpy comes with it

__all__ = [
    "SAME_TIME",
    "Accuracy",
    "Budget",
    "Candidate",
    "CardFacts",
    "Requirements",
    "best_sample",
    "common",
    "dominates",
    "facts_of",
    "gain",
    "predict_ms",
    "read_card_index",
]

_SCHEMA = 5
"""1 knew of the model file only when it was changed, 2 not which models are bundled, 3 had another name for dtype, 4 no margins."""


@dataclass(frozen=True, slots=True)
class Accuracy:
    """One measured accuracy of a card: comparable only with others of the same data set and measure."""

    dataset: str
    measure: str
    """mAP50 or top-1."""
    size: int
    dtype: str
    """int8 or float32."""
    value: float
    """0..1."""
    margin: float | None = None
    """How far its 95 % interval reaches to either side; None: the card does not say."""

    def as_dict(self) -> dict[str, Any]:
        """Return it for users' JSON, which calls the dtype as cards do."""
        return {"value": self.value, "margin": self.margin, "measure": self.measure, "dataset": self.dataset, "numbers": self.dtype}

    def text(self) -> str:
        """Format the value with its margin.

        >>> Accuracy("streets", "mAP50", 300, "int8", 0.8513, 0.052).text()
        '.851 ±.05'
        """
        margin = "" if self.margin is None else f" ±{self.margin:.2f}".replace("±0.", "±.")
        return f"{self.value:.3f}".removeprefix("0") + margin


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What the choice needs of a card; see `cards.ModelCard` for the fields."""

    name: str
    sha256: str
    task: str
    family: str
    network: str
    """The name of the network; files of the same network (`variant_of`) stand for one another."""
    width: int
    height: int
    sizes: tuple[int, ...]
    """Input sizes on offer, smallest first; always at least the card's own width."""
    named_sizes: bool
    """Whether sizes are named with @ (a card that lists sizes), or there is only the one."""
    macs: int
    file_bytes: int
    labels: tuple[str, ...] | None
    """None: the label file cannot be read."""
    accuracies: tuple[Accuracy, ...]
    file_time_ns: int = 0
    """When the model file, its card or its label file was last changed: what failed for one of them may then be well."""
    bundled: bool = False
    """Whether it came with edgeannot, and was not added by the user."""

    @property
    def key(self) -> str:
        """What measurements are kept under: the file with this card, as another card may run it otherwise, or not at all."""
        return f"{self.name} {self.sha256}"

    def name_at(self, size: int) -> str:
        """Return NAME@SIZE, or NAME where there is only one size."""
        return f"{self.name}@{size}" if self.named_sizes else self.name

    def area(self, size: int) -> int:
        """Return pixels of the input at a size, which the work of a convolutional network is proportional to."""
        return size * size if self.named_sizes else self.width * self.height


def facts_of(card: ModelCard) -> CardFacts:
    """Return the facts of a card."""
    from edgeannot.base.errors import CardError  # noqa: PLC0415 - the way that remembers needs no card

    try:
        labels: tuple[str, ...] | None = card.label_names()
    except CardError:
        labels = None
    rows = [
        Accuracy(row.dataset, measure, row.size, row.numbers, value, margin)
        for row in card.measured
        for measure, value, margin in (("mAP50", row.map50, row.map50_margin), ("top-1", row.top1, row.top1_margin))
        if value is not None
    ]
    return CardFacts(
        name=card.name,
        sha256=card.sha256,
        task=card.task,
        family=card.family,
        network=card.variant_of or card.name,
        width=card.input.width,
        height=card.input.height,
        sizes=tuple(sorted(card.input.sizes)) or (card.input.width,),
        named_sizes=bool(card.input.sizes),
        macs=card.macs,
        file_bytes=_status(card.model_path)[0],  # of one that is missing it is said when it is to be loaded
        file_time_ns=max(_status(path)[1] for path in _files_of(card)),
        labels=labels,
        accuracies=tuple(rows),
        bundled=card.folder == bundled_folder(),
    )


def _files_of(card: ModelCard) -> list[Path]:
    return [card.model_path, card.folder / f"{card.name}.toml", *([card.folder / card.labels.file] if card.labels.file else [])]


def _status(path: Path) -> tuple[int, int]:
    """Return bytes and time of the last change of a file; zeros where there is none."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


def read_card_index(folders: Sequence[Path], cache: Path, wrong: Callable[[CardError], None] = lambda _: None) -> list[CardFacts]:
    """Return the facts of every card in the folders, by name; of two with one name the first folder's counts.

    cache: the file where they are remembered. wrong: called for each card that cannot be read, which is skipped.
    """
    stamp = _stamp(folders)
    remembered = read_json(cache, _SCHEMA, sealed=True)
    if remembered.get("stamp") == stamp:
        with suppress(KeyError, TypeError):  # written by a version with other fields: read the cards
            return [_from_json(entry) for entry in remembered["cards"]]
    from edgeannot.vision.cards import read_cards  # noqa: PLC0415 - pydantic and numpy: only when something changed

    errors: list[CardError] = []
    facts = [facts_of(card) for card in read_cards(folders, errors.append)]
    for error in errors:
        wrong(error)
    if not errors:  # a wrong card is reported at every start until it is corrected
        write_json(cache, {"schema": _SCHEMA, "stamp": stamp, "cards": [asdict(entry) for entry in facts]}, sealed=True)
    return facts


def _stamp(folders: Iterable[Path]) -> list[list[Any]]:
    """Return name, time and size of every file in the folders: changes when a card, its labels or its weights do."""
    found: list[list[Any]] = []
    for folder in folders:
        try:
            with os.scandir(folder) as entries:
                rows = [[str(folder), entry.name, entry.stat().st_mtime_ns, entry.stat().st_size] for entry in entries if entry.is_file()]
        except OSError:  # a user's own folder is there only when a model was added
            continue
        found += sorted(rows)
    return found


def _from_json(entry: dict[str, Any]) -> CardFacts:
    labels = None if entry["labels"] is None else tuple(entry["labels"])
    accuracies = tuple(Accuracy(**row) for row in entry["accuracies"])
    return CardFacts(**{**entry, "sizes": tuple(entry["sizes"]), "labels": labels, "accuracies": accuracies})


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
