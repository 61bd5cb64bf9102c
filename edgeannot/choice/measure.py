"""Measures models in a child process, so that a runtime that dies of an illegal instruction or of memory is a fact and not the end.

The parent asks for one point after another (a model at an input size and thread count), as lines of JSON on the child's standard
input; the child answers each with a line. What was answered before a death is kept. One child serves all points of a model file.
What is worth measuring is decided in `plan`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edgeannot.choice.measure_process import CHILD, Child, Died, Refused
from edgeannot.choice.plan import next_point
from edgeannot.choice.shelf import CardFacts
from edgeannot.probe.measurements import Measurements, Record, Sample

__all__ = ["Effort", "measure_micro", "measure_models"]

_CLOSELY_S = 1.2
"""How long a point is measured that lies near the budget, and any under a quota."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How long a point is measured: at least `seconds` and `runs`, fewer when a run takes very long."""

    seconds: float = 0.3
    runs: int = 5
    mean: bool = False
    """Whether `Sample.ms` is the mean rather than the median of the runs: under a CPU quota."""
    each_s: float = 40.0
    """How long one answer may take; the first includes the start of Python."""

    @classmethod
    def under(cls, quota: float | None) -> Effort:
        """What suits a CPU quota: the kernel deals it out in periods of 0.1 s, so several of them must have passed."""
        return cls() if quota is None else cls(seconds=_CLOSELY_S, mean=True)

    @property
    def close(self) -> bool:
        """Whether it is long enough to be believed where the budget is near."""
        return self.seconds >= _CLOSELY_S


def measure_micro(
    threads: int,
    runtime: str,
    *,
    timeout_s: float = 30.0,
    command: Sequence[str] = CHILD,
    stopped: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """The fields of a `grade.Micro`. Raises Died where the runtime did, or `stopped` said so; Refused where there is none."""
    with Child(command, stopped=stopped) as child:
        return dict(child.ask({"micro": threads, "runtime": runtime}, timeout_s)["micro"])


def measure_models(
    cards: Sequence[CardFacts],
    folders: Sequence[Path],
    known: Measurements,
    budget_ms: float,
    thread_counts: Sequence[int],
    *,
    runtime: str,
    deadline_s: float,
    memory_bytes: int = 0,
    command: Sequence[str] = CHILD,
    stopped: Callable[[], bool] = lambda: False,
    told: Callable[[str], None] = lambda _: None,
) -> None:
    """Measure what is not known yet and put it into `known`, the cards in the order given until the deadline.

    told: hears one line a model. stopped: asked a few times a second; True ends the measuring, what was found is kept.
    """
    until = time.monotonic() + deadline_s
    effort = Effort.under(known.conditions.quota)
    for card in cards:
        record = known.record(card.key)
        if next_point(card, record, budget_ms, thread_counts) is None:
            continue
        left_s = until - time.monotonic()
        if left_s <= 0 or stopped():
            told(f"{card.name}: not measured, no time is left")
            continue
        try:
            with Child(command, memory_bytes=memory_bytes, stopped=stopped) as child:
                record = _measure_card(child, card, folders, record, effort, budget_ms, thread_counts, runtime=runtime, until=until)
        except Died as exc:  # it was not even born
            told(f"{card.name}: {exc}")
            continue
        known.records[card.key] = record = replace(record, file_time_ns=card.file_time_ns)
        told(f"{card.name}: {record.failure or f'{len(record.samples)} points measured'}")


def _measure_card(
    child: Child,
    card: CardFacts,
    folders: Sequence[Path],
    record: Record,
    effort: Effort,
    budget_ms: float,
    thread_counts: Sequence[int],
    *,
    runtime: str,
    until: float,
) -> Record:
    while (point := next_point(card, record, budget_ms, thread_counts)) is not None:
        left_s = until - time.monotonic()
        if left_s <= 0:
            break
        now = replace(effort, seconds=max(effort.seconds, _CLOSELY_S)) if point.closely else effort
        request = {"model": card.name_at(point.size), "folders": [str(f) for f in folders], "threads": point.threads, "runtime": runtime}
        at = f"{card.name_at(point.size)} with {point.threads} thread{'s' if point.threads > 1 else ''}"
        try:
            answer = child.ask({**request, **asdict(now)}, min(left_s, now.each_s))
            fields = {**answer["sample"], "size": point.size, "threads": point.threads, "closely": now.close}
            record = record.with_sample(Sample(**fields))
        except Died as exc:
            failure = f"{exc}, when it was tried as {at}"
            return replace(record, failure=failure, failed_size=point.size, lasting=exc.lasting, killed=exc.killed)
        except Refused as exc:
            return replace(record, failure=str(exc), failed_size=point.size, lasting=True)
        except (KeyError, TypeError):
            return replace(record, failure="printed something else than figures", failed_size=point.size, lasting=True)
    return record
