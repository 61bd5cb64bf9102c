"""Decide which model a board should run: a pure function of the profile, the models, the requirements and the measurements.

The rule, in order:

1. Candidates are the cards that do the task and know all the labels asked for, at each of their input sizes. Where no labels were asked
   for, a model that knows none of those that the first measured one knows is there for another purpose, and is taken only by name.
2. Out of question are those that died when they were tried, and those that need more memory than there is.
3. Without measurements the prior decides: the profile's first family, in it a bundled model before those that were added, at the largest
   input up to the profile's usual one; at a smaller one where the larger is no more accurate by its card. For objects that is NanoDet on a
   low board, for its time, and SSDLite on all others, for its accuracy; YOLOv3-tiny comes last, as one of the others is quicker and more
   accurate at each of its sizes.
4. With measurements, of those that fit the budget the first family's is taken, and then each one that is more accurate than the one
   taken so far takes its place; equally accurate and faster does too. A family that is beaten so has lost its turn. One that another
   dominates, being no slower and no less accurate, is never taken, however close the two are.
5. Accuracies are compared only where both were measured on the same data set; of one network the larger input counts as the more
   accurate where nothing was measured. Where accuracies cannot be compared, the prior stands.
6. Where none fits the budget, the fastest is taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgeannot.base.errors import ConfigError
from edgeannot.choice.candidates import (
    SAME_TIME,
    Budget,
    Candidate,
    CardFacts,
    Requirements,
    best_sample,
    common,
    dominates,
    gain,
    predict_ms,
)
from edgeannot.choice.measurements import Record

if TYPE_CHECKING:
    from edgeannot.vision.data import Profile  # numpy comes with it

__all__ = [
    "BUDGET_MS",
    "MEMORY_SHARE",
    "PRIOR",
    "Budget",
    "Candidate",
    "Decision",
    "Requirements",
    "budget_of",
    "decide",
    "in_prior_order",
    "is_for_another_purpose",
    "make_candidate",
]

PRIOR: dict[str, dict[Profile, tuple[str, ...]]] = {
    # mAP50 of the bundled ones on 50 pictures of VOC, and invoke time in parts of YOLOv3-tiny's at 416 pixels (.67, 1.00):
    # NanoDet-g@224 .69 and .24, SSDLite@300 .85 and .50, YOLOv3-tiny@224 .63 and .29.
    "detect": {"low": ("nanodet", "ssd", "yolo"), "mid": ("ssd", "nanodet", "yolo"), "high": ("ssd", "nanodet", "yolo")},
    "classify": {"low": ("mobilenet",), "mid": ("mobilenet",), "high": ("mobilenet",)},
}
_INPUT_SIZE: dict[Profile, int] = {"low": 224, "mid": 320, "high": 416}
BUDGET_MS: dict[Profile, float] = {"low": 500.0, "mid": 200.0, "high": 67.0}
"""Milliseconds a picture may take where nothing was asked for: the profiles' rates for a live camera, 2, 5 and 15 a second."""

OTHER_PURPOSE = "knows none of the usual labels; taken only by its name, or where its labels are asked for"
"""The rejection of a model that is there for another purpose."""

MEMORY_SHARE = 0.8
"""What of the memory a model's process may fill: the sources, the sinks and the system want some, too."""
_BASE_BYTES = 80 * 2**20
_BYTES_PER_FILE_BYTE = 3
"""What a process takes where nothing was measured: Python, OpenCV and the runtime, and the weights mapped, packed and worked on."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The candidate taken, and all of them with their explanations, the winner first."""

    winner: Candidate
    candidates: tuple[Candidate, ...]
    budget: Budget
    measured: bool
    """Whether measurements decided; otherwise the prior alone did."""
    reasons: tuple[str, ...]

    @property
    def next_better(self) -> Candidate | None:
        """The candidate that costs least of those more accurate than the winner, as far as that is known; None: there is none."""
        better = [c for c in self.candidates[1:] if not c.rejection and (gain(c, self.winner) or 0) > 0]
        return min(better, key=lambda c: (c.expected_ms is None, c.expected_ms or c.facts.area(c.size)), default=None)


def budget_of(profile: Profile, max_ms: float | None, min_fps: float | None) -> Budget:
    """Return the stricter of what was asked for, or the profile's own budget where nothing was."""
    asked = []
    if max_ms is not None:
        asked.append(Budget(max_ms, f"{max_ms:g} ms a picture (max_ms)", asked=True))
    if min_fps is not None:
        asked.append(Budget(1000 / min_fps, f"{1000 / min_fps:.0f} ms a picture ({min_fps:g} a second: min_fps)", asked=True))
    return min(
        asked, key=lambda budget: budget.ms, default=Budget(BUDGET_MS[profile], f"{BUDGET_MS[profile]:g} ms a picture (profile {profile})")
    )


def in_prior_order(facts: Sequence[CardFacts], requirements: Requirements) -> list[CardFacts]:
    """Return the cards that can do what is asked: the profile's first family first, in it the bundled ones, in those the ones with an
    accuracy. Other added models are taken by name, or where they are known to be more accurate.

    Raises ConfigError when there is none.
    """
    fitting = [card for card in facts if card.task == requirements.task]
    if not fitting:
        raise ConfigError(f"no model for the task {requirements.task!r} is installed; add one with `edgeannot models add FILE.tflite`")
    knowing = [card for card in fitting if not requirements.labels or set(requirements.labels) <= set(card.labels or ())]
    if not knowing:
        raise ConfigError(
            f"no model for the task {requirements.task!r} knows all of the labels {', '.join(requirements.labels)}; "
            "`edgeannot models show NAME` prints what a model knows"
        )
    prior = PRIOR.get(requirements.task, {}).get(requirements.profile, ())
    rank = {family: i for i, family in enumerate(prior)}
    # A card lists float and int8 accuracies of its network; they are those of the network's other files, too.
    known = {card.name: card.accuracies for card in facts}
    knowing = [card if card.accuracies else replace(card, accuracies=known.get(card.network, ())) for card in knowing]
    return sorted(knowing, key=lambda card: (rank.get(card.family, len(rank)), not card.bundled, not card.accuracies, card.name))


def decide(
    facts: Sequence[CardFacts], requirements: Requirements, records: Mapping[str, Record], without: str = "nothing was measured"
) -> Decision:
    """Return the model to run and why. records: what was measured, by the cards' keys; empty where nothing was. without: why it was not.

    Raises ConfigError when no card can do what is asked, or all that can died when they were tried.
    """
    cards = in_prior_order(facts, requirements)
    candidates = [make_candidate(card, size, requirements, records.get(card.key, Record())) for card in cards for size in card.sizes]
    candidates = [replace(c, rejection=OTHER_PURPOSE) if is_for_another_purpose(c.facts, cards, requirements) else c for c in candidates]
    usable = [c for c in candidates if not c.rejection]
    if not usable:
        winner, why = _least_bad(candidates, records)
    elif measured := [c for c in usable if c.sample is not None]:
        fitting = [c for c in measured if (c.ms or 0) <= requirements.budget.ms]
        winner, why = _most_accurate(fitting, requirements) if fitting else _fastest(measured, requirements)
    else:
        winner, why = _by_prior(usable, requirements, without)
    winner = replace(winner, explanation=why[0])
    losers = [replace(c, explanation=c.rejection or _loss(c, winner, requirements)) for c in candidates if c.name != winner.name]
    return Decision(winner, (winner, *losers), requirements.budget, winner.sample is not None, why)


def make_candidate(card: CardFacts, size: int, requirements: Requirements, record: Record) -> Candidate:
    """Make a candidate of what is known of a card at a size, with the reason why it cannot be used at all, if there is one."""
    sample = best_sample(record.samples, size, requirements.thread_counts)
    made = Candidate(
        facts=card,
        size=size,
        threads=sample.threads if sample else requirements.thread_counts[-1],
        sample=sample,
        predicted_ms=None if sample else predict_ms(card, record.samples, size, requirements.thread_counts),
    )
    rejection = ""
    if not card.file_bytes:
        rejection = "its model file is missing or empty"
    elif record.failure and sample is None and (not record.samples or card.area(size) >= card.area(record.failed_size)):
        rejection = record.failure
    elif requirements.memory_bytes and (need := _need_bytes(made)) > MEMORY_SHARE * requirements.memory_bytes:
        rejection = f"needs {need >> 20} MB of memory, more than {MEMORY_SHARE:.0%} of the {requirements.memory_bytes >> 20} MB there are"
    return replace(made, rejection=rejection)


def is_for_another_purpose(card: CardFacts, cards: Sequence[CardFacts], requirements: Requirements) -> bool:
    """Return whether it knows none of the labels of the first card with an accuracy (a model of faces), and nobody asked for labels.

    cards: in the order of the prior. Upper and lower case make no difference.
    """
    first = next((each for each in cards if each.accuracies), cards[0])
    if requirements.labels or card.labels is None or first.labels is None:
        return False
    return not {label.casefold() for label in card.labels} & {label.casefold() for label in first.labels}


def _need_bytes(candidate: Candidate) -> int:
    if candidate.sample is not None:
        return candidate.sample.peak_bytes
    return _BASE_BYTES + _BYTES_PER_FILE_BYTE * candidate.facts.file_bytes


def _least_bad(candidates: Sequence[Candidate], records: Mapping[str, Record]) -> tuple[Candidate, tuple[str, ...]]:
    """Return a way out where every candidate is rejected: the one that needs least memory, but for lasting failures."""
    ours = [c for c in candidates if c.facts.file_bytes and c.rejection != OTHER_PURPOSE]
    alive = [c for c in ours if c.sample is not None or not records.get(c.facts.key, Record()).lasting]
    if not alive:
        raise ConfigError(f"no model runs here: {'; '.join(dict.fromkeys(f'{c.facts.name} {c.rejection}' for c in candidates))}")
    winner = min(alive, key=_need_bytes)
    return winner, (f"{winner.rejection}; the others are no better, and this one needs least",)


def _by_prior(usable: Sequence[Candidate], requirements: Requirements, without: str) -> tuple[Candidate, tuple[str, ...]]:
    first = usable[0].facts
    usual = _INPUT_SIZE[requirements.profile]
    sizes = [c for c in usable if c.facts is first]
    winner = sizes[0]
    small = [c for c in sizes if c.size <= usual] if first.named_sizes else []
    for larger in small:
        winner = larger if (gain(larger, winner) or 0) > 0 else winner
    prior = PRIOR.get(requirements.task, {}).get(requirements.profile, ())
    why = [_order(prior, requirements)] if len(prior) > 1 else []
    if small and winner is not small[-1]:
        why.append(f"input {winner.size} px: larger ones up to {usual} px for this profile are no more accurate by the card")
    elif first.named_sizes:
        why.append(f"input {winner.size} px: the largest offered up to {usual} px for this profile")
    return winner, (*why, without)


def _order(prior: Sequence[str], requirements: Requirements) -> str:
    return f"profile {requirements.profile} takes {' before '.join(prior)}"


def _fastest(measured: Sequence[Candidate], requirements: Requirements) -> tuple[Candidate, tuple[str, ...]]:
    least = min(c.ms or 0 for c in measured)
    alike = [c for c in measured if (c.ms or 0) <= least * (1 + SAME_TIME)]
    winner = _best_of(alike)[0]  # of equally fast ones the prior's
    return winner, (f"none takes at most {requirements.budget.why}: the fastest, {winner.ms:.0f} ms",)


def _best_of(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return those that no other one dominates."""
    # On different data sets, three may dominate each other in a ring.
    return [c for c in candidates if not any(dominates(other, c) for other in candidates)] or list(candidates)


def _most_accurate(fitting: Sequence[Candidate], requirements: Requirements) -> tuple[Candidate, tuple[str, ...]]:
    winner, best = fitting[0], _best_of(fitting)
    of_first = winner
    gone = {winner.name}  # closeness is not transitive: without this, three could beat each other in a ring
    while challenger := next((c for c in best if c.name not in gone and _beats(c, winner)), None):
        winner = challenger
        of_first = winner if winner.facts.family == of_first.facts.family else of_first
        gone.add(winner.name)
    beaten = []
    if of_first.facts.family != winner.facts.family:
        how = _comparison(of_first, winner, figures=True)
        beaten = [f"{of_first.facts.family} would come first, but {of_first.name} is {how}"]
    others = len({c.facts.network for c in fitting}) > 1
    prior = PRIOR.get(requirements.task, {}).get(requirements.profile, ())
    family = f"; {_order(prior, requirements)}" if others and not beaten and len(prior) > 1 else ""
    first = "the most accurate" if all(gain(c, winner) is not None for c in fitting) else "the most accurate of what can be compared"
    return winner, (f"{first} that takes at most {requirements.budget.why}: {winner.ms:.0f} ms{family}", *beaten)


def _beats(other: Candidate, winner: Candidate) -> bool:
    """Return whether it takes the winner's place: more accurate, or as accurate and clearly faster; no two beat each other."""
    if dominates(other, winner):
        return True
    better = gain(other, winner)
    if better is None:
        return False
    return better > 0 or (better == 0 and (other.ms or 0) < (winner.ms or 0) * (1 - SAME_TIME))


def _loss(loser: Candidate, winner: Candidate, requirements: Requirements) -> str:
    """Return why a usable candidate was not taken."""
    if loser.ms is None and winner.ms is None:
        return _later(loser, winner, requirements)
    if (loser.ms or loser.predicted_ms or 0) > requirements.budget.ms:
        if (winner.ms or 0) > requirements.budget.ms:
            return "slower" if loser.ms is not None else "slower, by its size"
        better = "more accurate, but " if (gain(loser, winner) or 0) > 0 else ""
        return f"{better}over the budget{'' if loser.ms is not None else ', by its size'}"
    if loser.ms is None:
        difference = gain(loser, winner)
        if difference is None or difference > 0:
            return "not measured"
        return f"{'less' if difference < 0 else 'no more'} accurate, so not measured"
    return _comparison(loser, winner)


def _later(loser: Candidate, winner: Candidate, requirements: Requirements) -> str:
    """Return why the prior does not take it."""
    if loser.facts.family != winner.facts.family:
        return f"{loser.facts.family} comes after {winner.facts.family}"
    if loser.facts is not winner.facts:
        return f"comes after {winner.facts.name}"
    if loser.size < winner.size:
        return "a larger input fits the profile"
    return "larger than usual for the profile" if loser.size > _INPUT_SIZE[requirements.profile] else "no more accurate, and slower"


def _comparison(loser: Candidate, winner: Candidate, *, figures: bool = False) -> str:
    """Say how the loser compares. figures: with both accuracies."""
    better = gain(loser, winner)
    slower = (loser.ms or 0) > (winner.ms or 0) * (1 + SAME_TIME)
    if better is None:
        if loser.facts.family != winner.facts.family:
            before = f"{winner.facts.family} comes first"
        else:
            before = f"{winner.facts.name} comes first ({'bundled' if winner.facts.bundled and not loser.facts.bundled else 'by name'})"
        return f"fits, but {before}, and their accuracies were not measured on the same pictures"
    pair = common(loser, winner) if figures else None
    shown = f" ({pair[0].value:.2f} against {pair[1].value:.2f} {pair[0].measure} on {pair[0].dataset})" if pair else ""
    if better < 0:
        return f"{'slower and ' if slower else ''}less accurate{shown}"
    return f"{'as' if better == 0 else 'little more'} accurate{shown}, and {'slower' if slower else 'no faster'}"
