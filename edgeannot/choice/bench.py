"""Time models on this board, stage by stage, and compare with what the same board did before.

Every point (a model at an input size and thread count) is measured in a process of its own, so that its memory is its own, too. What
is timed is the pipeline as the daemon runs it, one picture after the other, from a JPEG file of 0.8 megapixels to boxes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edgeannot.base.atomicfile import read_json, write_json
from edgeannot.base.child import Child, Died, Refused
from edgeannot.base.errors import ModelError
from edgeannot.base.foreign import number_of
from edgeannot.base.streams import columns
from edgeannot.choice.candidates import Accuracy, CardFacts
from edgeannot.choice.measure import CHILD, NO_FIGURES, Effort, ask_for_samples
from edgeannot.choice.measure_plan import Point
from edgeannot.choice.measurements import Conditions, Sample

__all__ = ["Bench", "Reference", "Row", "as_json", "as_text", "bench", "points_of"]

_SCHEMA = 2
"""1 was not sealed."""
_DIFFERENT = 0.3
"""A time this far from the reference is marked: less is the weather of an ordinary board."""
_STAGES = ("decode", "preprocess", "inference", "postprocess")
_JSON_KEYS = {"dtype": "numbers", "wait_share": "waited", "thorough": "closely"}
"""Field of a sample -> its key in users' JSON, where that is another."""


@dataclass(frozen=True, slots=True)
class Row:
    """One point: measured, or why not."""

    facts: CardFacts
    size: int
    threads: int
    sample: Sample | None
    failure: str = ""
    reference_ms: float | None = None
    """What it took when the reference was stored; None where there is none for it."""

    @property
    def name(self) -> str:
        """NAME or NAME@SIZE."""
        return self.facts.name_at(self.size)

    @property
    def key(self) -> str:
        """What it is stored under; another file of the same name is another model."""
        return f"{self.name} {self.threads} {self.facts.sha256[:16]}"

    @property
    def change(self) -> float | None:
        """How much slower than the reference: 0.3 is 30 % slower, -0.3 as much faster; None where nothing can be compared."""
        return None if self.sample is None or not self.reference_ms else self.sample.ms / self.reference_ms - 1

    def accuracy(self) -> Accuracy | None:
        """Return the card's measured accuracy at this size with the dtype that was measured."""
        dtype = self.sample.dtype if self.sample else ""
        return next((row for row in self.facts.accuracies if (row.size, row.dtype) == (self.size, dtype)), None)


@dataclass(frozen=True, slots=True)
class Reference:
    """What this board did when it was first timed, in one file for all boards that share the folder."""

    path: Path
    times_ms: dict[str, float]
    taken: str = ""
    """When and under what it was taken; empty where there is none."""

    @classmethod
    def load(cls, path: Path, conditions: Conditions) -> Reference:
        """Load the reference for a board with these limits; governor and runtime may differ, as they are among what is compared."""
        entry = read_json(path, _SCHEMA, sealed=True).get("boards", {}).get(_board(conditions))
        return cls(path, {}) if entry is None else cls(path, entry["times_ms"], entry["taken"])

    def with_rows(self, rows: Iterable[Row], conditions: Conditions, *, anew: bool) -> Reference:
        """Add the rows that it did not have, with `anew` also those that it had, and write the file.

        Noisy measurements are no reference unless asked for, except under a quota, where waiting is the rule.
        """
        measured = {row.key: row.sample.ms for row in rows if row.sample and (anew or not conditions.is_noisy(row.sample.wait_share))}
        times = {**self.times_ms, **measured} if anew else {**measured, **self.times_ms}
        if times == self.times_ms:
            return self
        taken = self.taken if self.taken and not anew else f"{time.strftime('%Y-%m-%d')}, {conditions.text()}"
        boards = read_json(self.path, _SCHEMA, sealed=True).get("boards", {})
        boards[_board(conditions)] = {"taken": taken, "times_ms": times}
        write_json(self.path, {"schema": _SCHEMA, "boards": boards}, sealed=True)
        return replace(self, times_ms=times, taken=taken)


@dataclass(frozen=True, slots=True)
class Bench:
    """The result of one run."""

    rows: tuple[Row, ...]
    conditions: Conditions
    load_average: float
    """Of the last minute, before the first point."""
    reference: Reference

    def remarks(self) -> list[str]:
        """Return warnings about the figures."""
        found = []
        if self.conditions.governor and self.conditions.governor != "performance":
            found.append(f"the frequency governor is {self.conditions.governor}, not performance: short runs may get a slow clock")
        if self.load_average > 0.5:
            found.append(f"the load average was {self.load_average:.2f} before the first run: other programs were running")
        worst = max((row.sample.wait_share for row in self.rows if row.sample), default=0.0)
        if self.conditions.is_noisy(worst):
            found.append(f"CPU contention up to {worst:.0%}: noisy figures become the reference only with --new-reference")
        return found


def points_of(index: Sequence[CardFacts], names: Sequence[str], thread_counts: Sequence[int]) -> list[tuple[CardFacts, int, int]]:
    """Return card, size and threads of all points: NAME stands for all its sizes, NAME@SIZE for one, no name for all models.

    Raises ModelError for a name that there is not.
    """
    found = []
    for name in names or [card.name for card in index if card.task != "embed"]:
        base, at, size = name.partition("@")
        cards = [card for card in index if card.name == base]
        sizes = [s for s in cards[0].sizes if not at or str(s) == size] if cards else []
        if not sizes:
            known = ", ".join(card.name_at(s) for card in index for s in card.sizes)
            raise ModelError(f"no model called {name!r}; known are: {known or 'none'}")
        found += [(cards[0], s, threads) for s in sizes for threads in thread_counts]
    return found


def bench(
    points: Sequence[tuple[CardFacts, int, int]],
    folders: Sequence[Path],
    conditions: Conditions,
    reference: Reference,
    *,
    runtime: str,
    seconds: float = 1.5,
    command: Sequence[str] = CHILD,
    progress: Callable[[Row], None] = lambda _: None,
) -> Bench:
    """Measure the points one after the other, for about `seconds` each. progress: is called with each row that is done."""
    load = os.getloadavg()[0]
    effort = Effort(seconds=seconds, mean=conditions.quota is not None, each_s=60 + 10 * seconds)
    rows = []
    for card, size, threads in points:
        row = _measured(Row(card, size, threads, None), folders, runtime, effort, command)
        rows.append(replace(row, reference_ms=reference.times_ms.get(row.key)))
        progress(rows[-1])
    return Bench(tuple(rows), conditions, load, reference)


def _measured(row: Row, folders: Sequence[Path], runtime: str, effort: Effort, command: Sequence[str]) -> Row:
    try:
        with Child(command) as child:
            (sample,) = ask_for_samples(child, [(row.facts, Point(row.size, row.threads))], folders, runtime, effort, effort.each_s)
        return replace(row, sample=sample)
    except (Died, Refused) as exc:
        return replace(row, failure=str(exc))
    except (KeyError, TypeError, ValueError):
        return replace(row, failure=NO_FIGURES)


def as_text(found: Bench, *, kept: bool = True) -> str:
    """Return the figures as a table for people, with remarks above. kept: whether there is a reference from now on."""
    head = ("MODEL", "THREADS", "DTYPE", *(stage.upper() for stage in _STAGES), "TOTAL", "PER S", "CPU S", "MEMORY", "REFERENCE")
    lines = [f"board: {found.conditions.text()}", f"load average: {found.load_average:.2f}", *(f"NOTE: {r}" for r in found.remarks())]
    lines += ["ms a picture of 0.8 megapixels: median / 95th percentile; CPU S: seconds of processor time a picture, all threads", ""]
    lines += columns([head, *(_cells(row) for row in found.rows)])
    lines += [f"FAILED: {row.name} with {number_of(row.threads, 'thread')} {row.failure}" for row in found.rows if row.failure]
    why = "this run is noisy" if any(row.sample for row in found.rows) else "nothing could be measured"
    none = "there was none; later runs are compared with this one" if kept else f"there is none yet, as {why}"
    lines += ["", f"reference: {found.reference.taken or none}"]
    return "\n".join(lines)


def _cells(row: Row) -> tuple[str, ...]:
    if row.sample is None:
        return (row.name, str(row.threads), "failed", *[""] * 9)
    s = row.sample
    stages = [f"{s.stages[stage]:.1f}/{s.p95_stages[stage]:.1f}" for stage in _STAGES]
    change = "" if row.change is None else f"{row.change:+.0%}"
    mark = " SLOWER" if (row.change or 0) > _DIFFERENT else " FASTER" if (row.change or 0) < -_DIFFERENT else ""
    return (
        row.name,
        str(s.threads),
        s.dtype,
        *stages,
        f"{s.ms:.1f}/{s.p95_ms:.1f}",
        f"{1000 / s.ms:.1f}",
        f"{s.cpu_ms / 1000:.3f}",
        f"{s.peak_bytes / 1e6:.0f} MB",
        change + mark,
    )


def as_json(found: Bench) -> dict[str, Any]:
    """Return the same, ready for JSON."""
    return {
        "conditions": asdict(found.conditions),
        "load_average": found.load_average,
        "remarks": found.remarks(),
        "reference": found.reference.taken or None,
        "rows": list(_entries(found.rows)),
    }


def _entries(rows: Iterable[Row]) -> Iterator[dict[str, Any]]:
    for row in rows:
        base: dict[str, Any] = {"model": row.name, "family": row.facts.family, "task": row.facts.task, "threads": row.threads}
        if row.sample is None:
            yield {**base, "failure": row.failure}
            continue
        accuracy, change = row.accuracy(), row.change
        yield {
            **base,
            **{_JSON_KEYS.get(key, key): value for key, value in asdict(row.sample).items() if key != "threads"},
            "per_s": round(1000 / row.sample.ms, 2),
            "cpu_s": round(row.sample.cpu_ms / 1000, 5),
            "reference_ms": row.reference_ms,
            "change": None if change is None else round(change, 3),
            "flag": None if change is None or abs(change) <= _DIFFERENT else "slower" if change > 0 else "faster",
            "accuracy": accuracy and {**accuracy.as_dict(), "size": row.size},
        }


def _board(conditions: Conditions) -> str:
    quota = "" if conditions.quota is None else f", quota {conditions.quota:g}"
    return f"{conditions.cpu}, cores {conditions.cpus}{quota}"
