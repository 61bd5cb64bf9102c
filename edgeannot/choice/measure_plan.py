"""Plan what to measure: of each model by itself, one point after another, and then the points of a close decision again.

Pure, from the cards and what is known of them so far.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from edgeannot.base.errors import ConfigError
from edgeannot.choice.candidates import Accuracy, Candidate, CardFacts, Requirements, best_sample, gain, predict_ms
from edgeannot.choice.decision import MEMORY_SHARE, decide, make_candidate
from edgeannot.choice.measurements import Record, Sample

__all__ = ["DEADLINE_S", "Point", "in_measuring_order", "next_point", "points_to_compare"]

DEADLINE_S = 60.0
"""Measuring ends here on the slowest board; what is left out is measured the next time."""
_UNSURE = 0.35
"""A short measurement may be this far off, up or down: a processor's clock goes up for moments (boost) and neighbours come and go, so that
medians over 0.3 s were found 20 % below and 31 % above those over a longer time. Predictions by the input's area err as much."""
_EACH_S = 3.6
"""What one point of a comparison may take under contention."""
_ROUNDS = 4
"""Rounds that a comparison takes at least, the warm-up included."""


@dataclass(frozen=True, slots=True)
class Point:
    """What is measured of a model."""

    size: int
    threads: int


def in_measuring_order(cards: Sequence[CardFacts]) -> list[CardFacts]:
    """Return the cards with the most accurate first, as far as that can be said: what they beat need not be measured at length.

    Accuracies are those of the first data set that a card names; the others follow in the order given.
    """
    rows = [row for card in cards for row in card.accuracies]
    return sorted(cards, key=lambda card: -max((row.value for row in card.accuracies if _is_like(row, rows[0])), default=0.0))


def _is_like(one: Accuracy, other: Accuracy) -> bool:
    return (one.dataset, one.measure) == (other.dataset, other.measure)


def next_point(
    facts: CardFacts, record: Record, requirements: Requirements, others: Sequence[tuple[CardFacts, Record]] = ()
) -> Point | None:
    """Return what to measure next of a model; None when enough is known. others: what is known of the other models.

    The smallest input with one thread says about what every size takes. The largest size that may fit the budget is measured at every
    thread count, and again the next smaller one should it turn out not to fit; the other sizes at the best count found, as far as
    they are not hopelessly over the budget. A size that cannot win is left out: a larger one that is no more accurate than a smaller one,
    and one that is less accurate than another model that surely fits the budget. Where all are, one point serves the governor.
    """
    budget_ms, thread_counts = requirements.budget.ms, requirements.thread_counts
    samples = [s for s in record.samples if s.threads in thread_counts]
    runnable = [size for size in facts.sizes if not record.failure or facts.area(size) < facts.area(record.failed_size)]
    if not runnable or (record.failure and (not record.samples or record.lasting)):
        return None
    sure = _surely_fitting(others, requirements)
    sizes = _that_may_win([make_candidate(facts, size, requirements, record) for size in runnable], sure)
    if not sizes:
        return None if samples else Point(runnable[0], sure[0].threads)
    done = {(s.size, s.threads) for s in samples}
    if not samples:
        return Point(sizes[0], thread_counts[0])

    def hoped_ms(size: int) -> float:
        """Return the time at the best thread count, as if threads not tried yet helped in full."""
        if tried := [s for s in samples if s.size == size]:
            helped = min(s.ms * s.threads for s in tried) / thread_counts[-1]
            open_ended = len(tried) < len(thread_counts) and not _past_the_best(samples, size)
            return min(*(s.ms for s in tried), helped if open_ended else float("inf"), float("inf"))
        spread = 1.0 if len({s.threads for s in samples}) > 1 else thread_counts[-1] / thread_counts[0]
        return (predict_ms(facts, samples, size, thread_counts) or 0.0) / spread

    target = max((size for size in sizes if hoped_ms(size) <= budget_ms), default=sizes[0])
    for threads in thread_counts:
        if (target, threads) not in done and not _past_the_best(samples, target):
            return Point(target, threads)
    best = best_sample(samples, target, thread_counts)
    threads = best.threads if best else thread_counts[0]
    for size in sorted(sizes, key=lambda size: abs(facts.area(size) - facts.area(target))):
        if (size, threads) not in done and hoped_ms(size) <= (1 + _UNSURE) * budget_ms:
            return Point(size, threads)
    return None


def _surely_fitting(others: Sequence[tuple[CardFacts, Record]], requirements: Requirements) -> list[Candidate]:
    """Return what was measured of other models and fits the budget, even if the measurement should be off."""
    found = [make_candidate(card, size, requirements, record) for card, record in others for size in card.sizes]
    return [c for c in found if c.ms is not None and not c.rejection and c.ms * (1 + _UNSURE) <= requirements.budget.ms]


def _that_may_win(sizes: Sequence[Candidate], sure: Sequence[Candidate]) -> list[int]:
    """Return the sizes of a model, smallest first, that neither a smaller size nor another model beats by its accuracy alone."""
    found: list[Candidate] = []
    for candidate in sizes:
        no_gain = any((gain(candidate, smaller) or 0) <= 0 for smaller in found)
        if not no_gain and not any((gain(other, candidate) or 0) > 0 for other in sure):
            found.append(candidate)
    return [candidate.size for candidate in found]


def points_to_compare(
    cards: Sequence[CardFacts], requirements: Requirements, records: Mapping[str, Record], left_s: float = DEADLINE_S
) -> list[tuple[CardFacts, Point]]:
    """Return what to measure again, longer and interleaved, as it might be decided otherwise; empty where nothing is close.

    These are the winner and what could take its place: by time, where it is as accurate or none fits the budget; or by accuracy, where
    only the budget is in its way, and by little. Of each also the thread counts that are about as fast. No more than fit into the memory
    and into `left_s` seconds, or half of the deadline, as the first picture may wait for it.
    """
    try:
        decision = decide(cards, requirements, records)
    except ConfigError:
        return []
    winner = decision.winner
    if winner.sample is None:
        return []
    usable = [c for c in decision.candidates[1:] if c.sample is not None and not c.rejection]
    rivals = [c for c in usable if _is_close(c, winner, requirements.budget.ms)]
    rivals.sort(key=lambda c: abs((c.ms or 0) - (winner.ms or 0)))
    found = [(c, s) for c in (winner, *rivals) for s in _as_fast(c, records[c.facts.key], requirements.thread_counts)]
    while found and _is_too_much([s for _, s in found], requirements.memory_bytes, min(left_s, DEADLINE_S / 2)):
        found.pop()
    alone = len(found) == 1 and not _may_be_either(winner.ms or 0, requirements.budget.ms)
    if alone or all(s.thorough for _, s in found):
        return []
    return [(c.facts, Point(s.size, s.threads)) for c, s in found]


def _is_too_much(samples: Sequence[Sample], memory_bytes: int, most_s: float) -> bool:
    """Return whether they cannot be measured in one process, or not in time."""
    takes_s = max(_EACH_S * len(samples), _ROUNDS * sum(s.ms for s in samples) / 1e3)
    too_large = len(samples) > 1 and sum(s.peak_bytes for s in samples) > MEMORY_SHARE * memory_bytes > 0
    return takes_s > most_s or too_large


def _may_be_either(ms: float, budget_ms: float) -> bool:
    """Return whether a short measurement may really be on the other side of the budget."""
    return ms <= budget_ms * (1 + _UNSURE) and ms * (1 + _UNSURE) > budget_ms


def _is_close(other: Candidate, winner: Candidate, budget_ms: float) -> bool:
    """Return whether times within the uncertainty would put it in the winner's place."""
    ms, least_ms = other.ms or 0, winner.ms or 0
    better = gain(other, winner)
    if ms > budget_ms >= least_ms:
        return ms <= budget_ms * (1 + _UNSURE) and (better is None or better > 0)
    return ms <= least_ms * (1 + _UNSURE) and (better == 0 or least_ms > budget_ms)


def _as_fast(candidate: Candidate, record: Record, thread_counts: Sequence[int]) -> list[Sample]:
    """Return its best sample, and those of other thread counts that might be the best."""
    of_size = (s for s in record.samples if s.size == candidate.size and s.threads in thread_counts)
    found = [s for s in of_size if s.ms <= (candidate.ms or 0) * (1 + _UNSURE)]
    return sorted(found, key=lambda s: s != candidate.sample)


def _past_the_best(samples: Iterable[Sample], size: int) -> bool:
    """Return whether the last two thread counts tried at a size were no faster than one before them: then more will not be, either."""
    times = [s.ms for s in sorted((s for s in samples if s.size == size), key=lambda s: s.threads)]
    return len(times) > 2 and min(times[-2:]) >= min(times[:-2])
