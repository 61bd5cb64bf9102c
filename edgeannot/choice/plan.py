"""What is worth measuring: of each model by itself, one point after another, and then what the decision hangs on by little.

Pure, from the cards and what is known of them so far.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from edgeannot.base.errors import ConfigError
from edgeannot.choice.candidates import Candidate, Wish, best_sample, gain, predict_ms
from edgeannot.choice.card_index import CardFacts
from edgeannot.choice.choose import MEMORY_SHARE, choose
from edgeannot.choice.measurements import Record, Sample

__all__ = ["Point", "close_points", "next_point"]

_TRY_BEYOND = 2.0
"""A size is tried up to this many times the budget by prediction: predictions err, and the table says more."""
_TOO_SHORT = 0.25
"""A time may really be this much longer: a processor's clock goes up for moments (boost), and a median over 0.3 s was found 20 % below
the one over a longer time."""
_TOO_LONG = 0.4
"""A time may be this much too long: one was found 31 % above, as a neighbour was at work meanwhile."""


_MOST_S = 30.0
"""No comparison is begun that may take longer: it would be cut short, and on a slow board the first picture waits for it."""
_EACH_S = 3.6
"""What one point may take of a comparison where others disturb it."""
_ROUNDS = 7
"""What one takes at least, the warm-up included."""


@dataclass(frozen=True, slots=True)
class Point:
    """What is measured of a model."""

    size: int
    threads: int


def next_point(facts: CardFacts, record: Record, budget_ms: float, thread_counts: Sequence[int]) -> Point | None:
    """What to measure next of a model; None when enough is known.

    The smallest input with one thread says about what every size takes. The largest size that may fit the budget is measured at every
    thread count, and again the next smaller one should it turn out not to fit; the other sizes at the best count found, as far as
    they are not hopelessly over the budget.
    """
    if record.failure and (not record.samples or record.lasting):
        return None
    samples = [s for s in record.samples if s.threads in thread_counts]
    sizes = [size for size in facts.sizes if not record.failure or facts.area(size) < facts.area(record.failed_size)]
    if not sizes:
        return None
    done = {(s.size, s.threads) for s in samples}
    if not samples:
        return Point(sizes[0], thread_counts[0])

    def hoped_ms(size: int) -> float:
        """The time at the best thread count, where threads not tried yet are given all the help that they could be."""
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
        if (size, threads) not in done and hoped_ms(size) <= _TRY_BEYOND * budget_ms:
            return Point(size, threads)
    return None


def close_points(
    cards: Sequence[CardFacts], wish: Wish, records: Mapping[str, Record], left_s: float = _MOST_S
) -> list[tuple[CardFacts, Point]]:
    """What is to be measured once more, longer and side by side, as it might be decided otherwise; empty where nothing is close.

    These are the winner and what could take its place: by time, where it is as accurate or none fits the budget; or by accuracy, where
    only the budget is in its way, and by little. Of each also the thread counts that are about as fast. No more than the memory holds,
    and than can be measured in `left_s` seconds.
    """
    try:
        decision = choose(cards, wish, records)
    except ConfigError:
        return []
    winner = decision.winner
    if winner.sample is None:
        return []
    rivals = [c for c in decision.candidates[1:] if c.sample is not None and not c.obstacle and _is_close(c, winner, wish.budget.ms)]
    rivals.sort(key=lambda c: abs((c.ms or 0) - (winner.ms or 0)))
    found = [(c, s) for c in (winner, *rivals) for s in _as_fast(c, records[c.facts.key], wish.thread_counts)]
    while found and _is_too_much([s for _, s in found], wish.memory_bytes, min(left_s, _MOST_S)):
        found.pop()
    alone = len(found) == 1 and not _may_be_either(winner.ms or 0, wish.budget.ms)
    if alone or all(s.closely for _, s in found):
        return []
    return [(c.facts, Point(s.size, s.threads)) for c, s in found]


def _is_too_much(samples: Sequence[Sample], memory_bytes: int, most_s: float) -> bool:
    """Whether they cannot be measured in one process, or not in time."""
    takes_s = max(_EACH_S * len(samples), _ROUNDS * sum(s.ms for s in samples) / 1e3)
    too_large = len(samples) > 1 and sum(s.peak_bytes for s in samples) > MEMORY_SHARE * memory_bytes > 0
    return takes_s > most_s or too_large


def _may_be_either(ms: float, budget_ms: float) -> bool:
    """Whether a time that was measured for a moment may really be on the other side of the budget."""
    return ms <= budget_ms * (1 + _TOO_LONG) and ms * (1 + _TOO_SHORT) > budget_ms


def _is_close(other: Candidate, winner: Candidate, budget_ms: float) -> bool:
    """Whether other times, but not very other ones, would put it in the winner's place."""
    ms, least_ms = other.ms or 0, winner.ms or 0
    better = gain(other, winner)
    if ms > budget_ms >= least_ms:
        return ms <= budget_ms * (1 + _TOO_LONG) and (better is None or better > 0)
    return ms <= least_ms * (1 + _TOO_LONG) and (better == 0 or least_ms > budget_ms)


def _as_fast(candidate: Candidate, record: Record, thread_counts: Sequence[int]) -> list[Sample]:
    """Its best sample, and those of other thread counts that might be the best."""
    of_size = (s for s in record.samples if s.size == candidate.size and s.threads in thread_counts)
    found = [s for s in of_size if s.ms <= (candidate.ms or 0) * (1 + _TOO_SHORT)]
    return sorted(found, key=lambda s: s != candidate.sample)


def _past_the_best(samples: Iterable[Sample], size: int) -> bool:
    """Whether the last two thread counts tried at a size were no faster than one before them: then more will not be, either."""
    times = [s.ms for s in sorted((s for s in samples if s.size == size), key=lambda s: s.threads)]
    return len(times) > 2 and min(times[-2:]) >= min(times[:-2])
