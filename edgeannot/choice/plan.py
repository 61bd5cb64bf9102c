"""What is worth measuring of a model, one point after another: pure, from its card and what is known of it so far."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edgeannot.choice.candidates import best_sample, predict_ms
from edgeannot.choice.shelf import CardFacts
from edgeannot.probe.measurements import Record, Sample

__all__ = ["Point", "next_point"]

_TRY_BEYOND = 2.0
"""A size is tried up to this many times the budget by prediction: predictions err, and the table says more."""
_NEAR = 0.25
"""The share of the budget within which a figure is doubted: a processor's clock goes up for moments (boost) and down, and a median over
0.3 s was found 20 % below the one over a longer time."""


@dataclass(frozen=True, slots=True)
class Point:
    """What is measured at once."""

    size: int
    threads: int
    closely: bool = False
    """For longer than usual: the budget is near, and a short measurement may err to its other side."""


def next_point(facts: CardFacts, record: Record, budget_ms: float, thread_counts: Sequence[int]) -> Point | None:
    """What to measure next of a model; None when enough is known.

    The smallest input with one thread says about what every size takes. The largest size that may fit the budget is measured at every
    thread count, and again the next smaller one should it turn out not to fit; the other sizes at the best count found, as far as
    they are not hopelessly over the budget. What then lies near the budget is measured once more, longer.
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
    found = [best for size in sizes if (best := best_sample(samples, size, thread_counts)) is not None]
    doubtful = (best for best in found if not best.closely and abs(best.ms - budget_ms) <= _NEAR * budget_ms)
    return next((Point(best.size, best.threads, closely=True) for best in doubtful), None)


def _past_the_best(samples: Iterable[Sample], size: int) -> bool:
    """Whether the last two thread counts tried at a size were no faster than one before them: then more will not be, either."""
    times = [s.ms for s in sorted((s for s in samples if s.size == size), key=lambda s: s.threads)]
    return len(times) > 2 and min(times[-2:]) >= min(times[:-2])
