"""Measure models in a child process, so that a runtime that dies of an illegal instruction or of memory ends only the child.

The parent asks for points (a model at an input size and thread count), as lines of JSON on the child's standard input; the child answers
each line with one. What was answered before a death is kept. One child serves all points of a model file, and then one those of a
comparison. `measure_plan` says what to measure.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeannot.base.child import Child, Died, Refused, command_of
from edgeannot.choice.auto_profile import Micro
from edgeannot.choice.candidates import CardFacts, Requirements
from edgeannot.choice.measure_plan import Point, next_point, points_to_compare
from edgeannot.choice.measurements import Measurements, Record, Sample

__all__ = ["CHILD", "Effort", "ask_for_samples", "measure_micro", "measure_models"]

CHILD = command_of("edgeannot.choice.measure_child")
"""The command of the child."""
_THOROUGH_S = 1.2
"""How long a point is measured that the decision hangs on, and any under a quota."""
NO_FIGURES = "printed something else than figures"
_NO_ANSWER = (KeyError, TypeError, ValueError)
"""Raised by an answer that is JSON, but not the child's."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How long a point is measured: at least `seconds`, and a few runs."""

    seconds: float = 0.3
    mean: bool = False
    """Whether `Sample.ms` is the mean rather than the median of the runs: under a CPU quota."""
    each_s: float = 40.0
    """How long one answer may take; the first includes the start of Python."""

    @classmethod
    def under(cls, quota: float | None) -> Effort:
        """Return what suits a CPU quota: the kernel deals it out in periods of 0.1 s, so several of them must have passed."""
        return cls() if quota is None else cls(seconds=_THOROUGH_S, mean=True)

    @property
    def thorough(self) -> bool:
        """Whether it is long enough where a decision hangs on it."""
        return self.seconds >= _THOROUGH_S


def measure_micro(
    threads: int,
    runtime: str,
    *,
    timeout_s: float = 30.0,
    command: Sequence[str] = CHILD,
    stopped: Callable[[], bool] = lambda: False,
) -> Micro:
    """Run the micro-benchmark. Raises Died where the runtime died or `stopped` is True; Refused without a runtime."""
    with Child(command, stopped=stopped) as child:
        return Micro(**child.ask({"micro": threads, "runtime": runtime}, timeout_s)["micro"])


def measure_models(
    cards: Sequence[CardFacts],
    folders: Sequence[Path],
    known: Measurements,
    requirements: Requirements,
    *,
    runtime: str,
    deadline_s: float,
    command: Sequence[str] = CHILD,
    stopped: Callable[[], bool] = lambda: False,
    progress: Callable[[str], None] = lambda _: None,
) -> None:
    """Measure what is not known yet and put it into `known`: the cards in the order given, then close ones interleaved; until the deadline.

    progress: is called with a line for each model and each comparison. stopped: asked a few times a second; True ends the measuring, what
    was found is kept.
    """
    effort = Effort.under(known.conditions.quota)
    run = _Run(folders, known, requirements, runtime, effort, time.monotonic() + deadline_s, command, stopped, progress)
    while True:
        for card in cards:
            others = [(other, known.record(other.key)) for other in cards if other is not card]
            if next_point(card, known.record(card.key), requirements, others) is not None:
                run.measure(card, others)
        points = points_to_compare(cards, requirements, known.records, run.left_s())
        if not points or run.is_over() or not run.compare(points):
            return


def ask_for_samples(
    child: Child, points: Sequence[tuple[CardFacts, Point]], folders: Sequence[Path], runtime: str, effort: Effort, timeout_s: float
) -> list[Sample]:
    """Measure the points, several interleaved. Raises Died, Refused, and KeyError, TypeError or ValueError where it is no answer."""
    asked = [{"model": card.name_at(point.size), "threads": point.threads} for card, point in points]
    request = {"points": asked, "folders": [str(f) for f in folders], "runtime": runtime, "seconds": effort.seconds, "mean": effort.mean}
    found: Sequence[Mapping[str, Any]] = child.ask(request, timeout_s)["samples"]
    pairs = zip(points, found, strict=True)
    return [Sample(**{**fields, "size": p.size, "threads": p.threads, "thorough": effort.thorough}) for (_, p), fields in pairs]


@dataclass(frozen=True, slots=True)
class _Run:
    """What stays the same from one point to the next."""

    folders: Sequence[Path]
    known: Measurements
    requirements: Requirements
    runtime: str
    effort: Effort
    until: float
    command: Sequence[str]
    stopped: Callable[[], bool]
    progress: Callable[[str], None]

    def is_over(self) -> bool:
        return self.left_s() <= 0 or self.stopped()

    def left_s(self) -> float:
        return self.until - time.monotonic()

    def child(self) -> Child:
        """Start a child. Raises Died where no process can be started."""
        return Child(self.command, memory_bytes=self.requirements.memory_bytes, stopped=self.stopped)

    def measure(self, card: CardFacts, others: Sequence[tuple[CardFacts, Record]]) -> None:
        """Measure all planned points of one model, by what is known of the others."""
        if self.is_over():
            self.progress(f"{card.name}: not measured, no time is left")
            return
        try:
            with self.child() as child:
                record = self._points(child, card, self.known.record(card.key), others)
        except Died as exc:  # it did not start
            self.progress(f"{card.name}: {exc}")
            return
        self.known.records[card.key] = replace(record, file_time_ns=card.file_time_ns)
        self.progress(f"{card.name}: {record.failure or f'{len(record.samples)} points measured'}")

    def _points(self, child: Child, card: CardFacts, record: Record, others: Sequence[tuple[CardFacts, Record]]) -> Record:
        while (point := next_point(card, record, self.requirements, others)) is not None and self.left_s() > 0:
            timeout_s = min(self.left_s(), self.effort.each_s)
            failed = replace(record, failed_size=point.size, lasting=True)
            try:
                samples = ask_for_samples(child, [(card, point)], self.folders, self.runtime, self.effort, timeout_s)
            except Died as exc:
                failure = f"{exc}, when it was tried as {_text(card, point)}"
                return replace(failed, failure=failure, lasting=exc.lasting, killed=exc.killed)
            except Refused as exc:
                return replace(failed, failure=str(exc))
            except _NO_ANSWER:
                return replace(failed, failure=NO_FIGURES)
            record = record.with_sample(*samples)
        return record

    def compare(self, points: Sequence[tuple[CardFacts, Point]]) -> bool:
        """Measure points again, longer and interleaved; False where it was interrupted, and may well work another time.

        Where it fails the old figures stay and count as thorough: it is no fault of a model, as each ran by itself before.
        """
        names = ", ".join(_text(card, point) for card, point in points)
        samples: list[Sample] = []
        try:
            with self.child() as child:
                effort = replace(self.effort, seconds=_THOROUGH_S)
                samples = ask_for_samples(child, points, self.folders, self.runtime, effort, self.left_s())
            how = "interleaved, as their times are close" if len(points) > 1 else "longer, as the budget is near"
            self.progress(f"{names}: measured again {how}")
        except (Died, Refused, *_NO_ANSWER) as exc:
            if self.is_over() or (isinstance(exc, Died) and exc.passing):
                return False
            self.progress(f"{names}: could not be measured again ({exc})")
        records = self.known.records
        for number, (card, point) in enumerate(points):
            alone = next(s for s in records[card.key].samples if (s.size, s.threads) == (point.size, point.threads))
            now = replace(samples[number], peak_bytes=alone.peak_bytes) if samples else replace(alone, thorough=True)
            records[card.key] = records[card.key].with_sample(now)
        return True


def _text(card: CardFacts, point: Point) -> str:
    return f"{card.name_at(point.size)} with {point.threads} thread{'s' if point.threads > 1 else ''}"
