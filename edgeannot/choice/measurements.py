"""Remember what models cost on this board between starts: a file that is valid for exactly the conditions it was measured under.

The key is the processor with its limits (cores allowed, CPU quota), the frequency governor, the runtime and its version, and the
model's hash with its card. Figures for a few sets of conditions are kept side by side, so that a service with a quota and a user at
the terminal do not undo each other's.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from edgeannot.base.atomicfile import read_json, write_json
from edgeannot.probe import Board
from edgeannot.probe.board import runtime_version

__all__ = [
    "NOISY",
    "Conditions",
    "Measurements",
    "Record",
    "Sample",
    "conditions_of",
    "runtime_named",
    "thread_counts",
]

_SCHEMA = 4
"""1 was measured with the C library giving memory back after each picture, which the daemon does not do; 2 not interleaved; 3 had other
names of fields."""
NOISY = 0.15
"""A larger wait share makes a measurement noisy: it says little about the board without its other programs."""
_KEPT_CONDITIONS = 6
"""Sets of conditions that are kept, newest first."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the figures hold for."""

    cpu: str
    """Architecture and model of the processor."""
    cpus: str
    """The cores that this process may use, as the kernel lists them: "0-3"."""
    quota: float | None
    """Cores' worth of CPU time that the control group allows; None: no limit."""
    governor: str
    """The frequency governor; empty where the kernel has none."""
    runtime: str
    """Name and version: "litert 2.3.0"."""

    @property
    def hardware(self) -> tuple[str, str]:
        """What changes only with the board or an upgrade: figures of another are stale for good."""
        return self.cpu, self.runtime

    def is_noisy(self, wait_share: float) -> bool:
        """Return whether a measurement with this wait share is noisy. Under a quota none is, as waiting is part of the figure."""
        return self.quota is None and wait_share > NOISY

    def text(self) -> str:
        """Return the conditions in one line."""
        quota = "" if self.quota is None else f", at most {self.quota:.0%} of one core"
        governor = f", governor {self.governor}" if self.governor else ""
        return f"{self.cpu}, cores {self.cpus}{quota}{governor}, {self.runtime}"


@dataclass(frozen=True, slots=True)
class Sample:
    """One model at one input size and thread count, measured. Times are of one picture of 0.8 megapixels from a JPEG file."""

    size: int
    """Width of the input in pixels."""
    threads: int
    ms: float
    """Decoding, preprocessing, inference and postprocessing together: the figure that budgets are held against. The median; under a
    CPU quota the mean, since there the pauses between two allowances are what counts."""
    p95_ms: float
    stages: dict[str, float]
    """Median ms of decode, preprocess, inference, postprocess."""
    p95_stages: dict[str, float]
    """Likewise, what 95 of 100 pictures do not exceed."""
    cpu_ms: float
    """CPU time of one picture, over all threads."""
    peak_bytes: int
    """Most resident memory of the process that measured, with Python, OpenCV and the runtime in it."""
    runs: int
    dtype: str
    """What the convolutions calculate with: int8 or float32."""
    wait_share: float = 0.0
    """Share of the time in which it waited for a core that another program had, or another guest of the host, or for its CPU quota."""
    thorough: bool = False
    """Whether it was measured for so long that more would not say more, where something hung on it beside its rivals."""


@dataclass(frozen=True, slots=True)
class Record:
    """All that is known of one model file under one set of conditions."""

    samples: tuple[Sample, ...] = ()
    failure: str = ""
    """Why nothing more can be measured: "died of an illegal instruction (SIGILL) ..."; empty: nothing is wrong."""
    failed_size: int = 0
    """The input size at which it failed."""
    lasting: bool = False
    """Whether the failure will be the same the next time."""
    killed: bool = False
    """Whether the process died of a signal, such as for want of memory: it is not tried again at each start."""
    file_time_ns: int = 0
    """Of the model file that failed: one that was put right is tried again."""

    def without_noisy(self, conditions: Conditions) -> Record:
        """Return this record without noisy samples."""
        return replace(self, samples=tuple(s for s in self.samples if not conditions.is_noisy(s.wait_share)))

    def persisted(self) -> Record:
        """Return the record as the next start will know it: a failure that may pass is forgotten."""
        return self if self.lasting or self.killed else Record(self.samples)

    def with_sample(self, sample: Sample) -> Record:
        """Return this record with one sample more, in place of an older one for the same point."""
        others = tuple(s for s in self.samples if (s.size, s.threads) != (sample.size, sample.threads))
        return replace(self, samples=(*others, sample))


@dataclass(slots=True)
class Measurements:
    """The records for one set of conditions, by the keys of their cards; `save` writes them beside those for other conditions."""

    path: Path
    conditions: Conditions
    records: dict[str, Record] = field(default_factory=dict)
    micro: dict[str, Any] = field(default_factory=dict)
    """Figures of the micro-benchmark that belongs to no model."""
    _others: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path, conditions: Conditions) -> Measurements:
        """Load the file; empty where there is none or it cannot be read."""
        found = cls(path, conditions)
        try:
            for entry in read_json(path, _SCHEMA, sealed=True).get("conditions", []):
                known = Conditions(**entry["key"])
                if known == conditions:
                    found.micro = entry["micro"]
                    found.records = {name: _record(record) for name, record in entry["models"].items()}
                elif known.hardware == conditions.hardware:  # else stale for good
                    found._others.append(entry)
        except (KeyError, TypeError):  # written by a version with other fields
            return cls(path, conditions)
        return found

    @classmethod
    def of_board(cls, data_dir: Path, board: Board, runtime: str = "auto") -> Measurements:
        """Load what is remembered of a board as it is limited now."""
        return cls.load(data_dir / "cache" / "measurements.json", conditions_of(board, runtime))

    def save(self, installed: Collection[str] | None = None, now: Callable[[], float] = time.time) -> None:
        """Write the file. Records of models that are no longer installed, by their keys, and the oldest conditions are left out.

        installed: None where it is not known which are. What another process has written meanwhile is kept, but for the models that are
        known here.
        """
        there = Measurements.load(self.path, self.conditions)
        models = {
            key: asdict(record.persisted())
            for key, record in {**there.records, **self.records}.items()
            if (installed is None or key in installed) and (record.samples or record.lasting or record.killed)
        }
        entry = {"key": asdict(self.conditions), "measured_at": round(now()), "micro": self.micro or there.micro, "models": models}
        others = sorted(there._others, key=lambda other: -other["measured_at"])[: _KEPT_CONDITIONS - 1]
        write_json(self.path, {"schema": _SCHEMA, "conditions": [entry, *others]}, sealed=True)

    def forget_failures(self, file_times_ns: Mapping[str, int]) -> None:
        """Drop failures of files that were changed since, by their cards' keys."""
        for key, record in self.records.items():
            if record.failure and record.file_time_ns != file_times_ns.get(key, record.file_time_ns):
                self.records[key] = Record(record.samples)

    def record(self, key: str) -> Record:
        """Return what is known of a model; an empty record where nothing is."""
        return self.records.get(key, Record())


def _record(entry: dict[str, Any]) -> Record:
    return Record(**{**entry, "samples": tuple(Sample(**sample) for sample in entry["samples"])})


def thread_counts(board: Board, threads: int | None, max_threads: int) -> tuple[int, ...]:
    """Return the counts to choose from: the one that is set, else 1 up to the cores there are.

    Under a CPU quota more threads than its cores, rounded up, use the allowance up faster and win nothing.
    """
    if threads is not None:
        return (threads,)
    quota = board.limits.quota_cores
    most = min(max(1, len(board.cpus)), max_threads, math.ceil(quota) if quota else max_threads)
    return tuple(range(1, most + 1))


def conditions_of(board: Board, runtime: str = "auto") -> Conditions:
    """Return what measurements on this board, by this process, are valid for."""
    name = runtime_named(board, runtime)
    bits = f" {board.python.bits}-bit" if board.python else ""
    return Conditions(
        cpu=f"{board.machine} {board.processor.name} ({', '.join(board.processor.int8)})",
        cpus=_ranges(board.cpus),
        quota=board.limits.quota_cores,
        governor=board.governor,
        runtime=f"{name} {runtime_version(name)}{bits}",
    )


def runtime_named(board: Board, runtime: str) -> str:
    """Return the runtime that `auto` means here; `auto` again where none is installed, so that loading it says what to do."""
    return board.runtime.name if runtime == "auto" and board.runtime else runtime


def _ranges(numbers: Sequence[int]) -> str:
    """Format numbers as the kernel lists them: 0, 1, 2, 5 is "0-2,5"."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], number]
        else:
            parts.append([number])
    return ",".join("-".join(map(str, part)) for part in parts)
