"""Measures models in a child process, so that a runtime that dies of an illegal instruction or of memory is a fact and not the end.

The parent asks for points (a model at an input size and thread count), as lines of JSON on the child's standard input; the child answers
each line with one. What was answered before a death is kept. One child serves all points of a model file, and then one those that are
compared side by side. What is worth measuring is decided in `plan`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edgeannot.base.child import Child, Died, Refused, command_of
from edgeannot.choice.candidates import Wish
from edgeannot.choice.card_index import CardFacts
from edgeannot.choice.measurements import Measurements, Record, Sample
from edgeannot.choice.plan import Point, close_points, next_point

__all__ = ["CHILD", "Effort", "ask_for_samples", "measure_micro", "measure_models"]

CHILD = command_of("edgeannot.choice.measure_child")
"""The command of the child."""
_CLOSELY_S = 1.2
"""How long a point is measured that the decision hangs on, and any under a quota."""
_NO_ANSWER = (KeyError, TypeError, ValueError)
"""What comes of an answer that is JSON, but not the child's."""


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
        """Whether it is long enough where a decision hangs on it."""
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
    wish: Wish,
    *,
    runtime: str,
    deadline_s: float,
    command: Sequence[str] = CHILD,
    stopped: Callable[[], bool] = lambda: False,
    told: Callable[[str], None] = lambda _: None,
) -> None:
    """Measure what is not known yet and put it into `known`: the cards in the order given, then side by side what is close; until the
    deadline.

    told: hears one line a model and one a comparison. stopped: asked a few times a second; True ends the measuring, what was found is kept.
    """
    effort = Effort.under(known.conditions.quota)
    run = _Run(folders, known, wish, runtime, effort, time.monotonic() + deadline_s, command, stopped, told)
    while True:
        for card in cards:
            if next_point(card, known.record(card.key), wish.budget.ms, wish.thread_counts) is not None:
                run.alone(card)
        points = close_points(cards, wish, known.records, run.left_s())
        if not points or run.is_over() or not run.side_by_side(points):
            return


def ask_for_samples(
    child: Child, points: Sequence[tuple[CardFacts, Point]], folders: Sequence[Path], runtime: str, effort: Effort, timeout_s: float
) -> list[Sample]:
    """What the points took; of several, each by turns. Raises Died, Refused, and KeyError or TypeError where it is no answer."""
    asked = [{"model": card.name_at(point.size), "threads": point.threads} for card, point in points]
    answer = child.ask({"points": asked, "folders": [str(f) for f in folders], "runtime": runtime, **asdict(effort)}, timeout_s)
    found: Sequence[Mapping[str, Any]] = answer["samples"]
    pairs = zip(points, found, strict=True)
    return [Sample(**{**fields, "size": p.size, "threads": p.threads, "closely": effort.close}) for (_, p), fields in pairs]


@dataclass(frozen=True, slots=True)
class _Run:
    """What stays the same from one point to the next."""

    folders: Sequence[Path]
    known: Measurements
    wish: Wish
    runtime: str
    effort: Effort
    until: float
    command: Sequence[str]
    stopped: Callable[[], bool]
    told: Callable[[str], None]

    def is_over(self) -> bool:
        """Whether no more is to be measured."""
        return self.left_s() <= 0 or self.stopped()

    def left_s(self) -> float:
        return self.until - time.monotonic()

    def child(self) -> Child:
        """Raises Died where no process can be started."""
        return Child(self.command, memory_bytes=self.wish.memory_bytes, stopped=self.stopped)

    def ask(self, child: Child, points: Sequence[tuple[CardFacts, Point]], effort: Effort) -> list[Sample]:
        """As `ask_for_samples`."""
        return ask_for_samples(child, points, self.folders, self.runtime, effort, min(self.left_s(), effort.each_s))

    def alone(self, card: CardFacts) -> None:
        """All that is worth measuring of one model by itself."""
        if self.is_over():
            self.told(f"{card.name}: not measured, no time is left")
            return
        try:
            with self.child() as child:
                record = self._points(child, card, self.known.record(card.key))
        except Died as exc:  # it was not even born
            self.told(f"{card.name}: {exc}")
            return
        self.known.records[card.key] = replace(record, file_time_ns=card.file_time_ns)
        self.told(f"{card.name}: {record.failure or f'{len(record.samples)} points measured'}")

    def _points(self, child: Child, card: CardFacts, record: Record) -> Record:
        while (point := next_point(card, record, self.wish.budget.ms, self.wish.thread_counts)) is not None and self.left_s() > 0:
            try:
                record = record.with_sample(*self.ask(child, [(card, point)], self.effort))
            except Died as exc:
                failure = f"{exc}, when it was tried as {_words(card, point)}"
                return replace(record, failure=failure, failed_size=point.size, lasting=exc.lasting, killed=exc.killed)
            except Refused as exc:
                return replace(record, failure=str(exc), failed_size=point.size, lasting=True)
            except _NO_ANSWER:
                return replace(record, failure="printed something else than figures", failed_size=point.size, lasting=True)
        return record

    def side_by_side(self, points: Sequence[tuple[CardFacts, Point]]) -> bool:
        """Measure points once more, longer and by turns. Where that fails the old figures stay, and are not doubted again: it is no fault
        of a model, as each ran by itself before. False where it was only interrupted, and may well work another time.
        """
        names = ", ".join(_words(card, point) for card, point in points)
        samples: list[Sample] = []
        try:
            with self.child() as child:
                samples = self.ask(child, points, replace(self.effort, seconds=_CLOSELY_S))
            how = "side by side, as little decides between them" if len(points) > 1 else "longer, as the budget is near"
            self.told(f"{names}: measured {how}")
        except (Died, Refused, *_NO_ANSWER) as exc:
            if self.is_over() or (isinstance(exc, Died) and exc.passing):
                return False
            self.told(f"{names}: could not be measured once more ({exc})")
        records = self.known.records
        for number, (card, point) in enumerate(points):
            alone = next(s for s in records[card.key].samples if (s.size, s.threads) == (point.size, point.threads))
            now = replace(samples[number], peak_bytes=alone.peak_bytes) if samples else replace(alone, closely=True)
            records[card.key] = records[card.key].with_sample(now)
        return True


def _words(card: CardFacts, point: Point) -> str:
    return f"{card.name_at(point.size)} with {point.threads} thread{'s' if point.threads > 1 else ''}"
