"""The figures of the daemon as Prometheus reads them (its text format 0.0.4): counters, gauges, histograms by stage.

Labels come from short lists: stages, reasons, sinks, models and the first labels of detections; never names of files.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from edgeannot import __version__
from edgeannot.vision.data import Annotation

__all__ = ["CONTENT_TYPE", "Distributions", "exposition"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

BUCKETS_MS = (1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0)
OTHER = "other"
"""The label of all objects whose label came after the first `max_labels`."""


class Distributions:
    """Counts times by stage and detections by label, since the start. Thread-safe."""

    def __init__(self, max_labels: int = 100) -> None:
        self._lock = threading.Lock()
        self._max_labels = max_labels
        self._labels: Counter[str] = Counter()
        self._counts: dict[str, list[int]] = {}
        self._sums_ms: Counter[str] = Counter()

    def annotated(self, annotation: Annotation) -> None:
        """Count one picture."""
        with self._lock:
            for label in annotation.labels:
                self._labels[label if label in self._labels or len(self._labels) < self._max_labels else OTHER] += 1
            for stage, ms in annotation.timing_ms.items():
                counts = self._counts.setdefault(stage, [0] * (len(BUCKETS_MS) + 1))
                counts[sum(ms > bound for bound in BUCKETS_MS)] += 1
                self._sums_ms[stage] += ms  # type: ignore[assignment] # a Counter adds up floats as well

    def lines(self) -> Iterator[str]:
        """Yield the lines of both."""
        with self._lock:
            labels, sums = dict(self._labels), dict(self._sums_ms)
            counts = {stage: list(each) for stage, each in self._counts.items()}
        yield from _family(
            "edgeannot_detections_total", "counter", "Objects found, by label.", {(("label", k),): v for k, v in labels.items()}
        )
        name = "edgeannot_stage_seconds"
        yield f"# HELP {name} Time of a picture in a stage."
        yield f"# TYPE {name} histogram"
        for stage, each in counts.items():
            below = 0
            for bound, count in zip((*BUCKETS_MS, float("inf")), each, strict=True):
                below += count
                shown = "+Inf" if bound == float("inf") else f"{bound / 1000:g}"
                yield f'{name}_bucket{{stage="{_escaped(stage)}",le="{shown}"}} {below}'
            yield f'{name}_sum{{stage="{_escaped(stage)}"}} {sums[stage] / 1000:.6f}'
            yield f'{name}_count{{stage="{_escaped(stage)}"}} {below}'


_Labels = tuple[tuple[str, str], ...]


def exposition(figures: Mapping[str, Any], distributions: Distributions, *, profile: str, connections: int | None) -> str:
    """Return the whole page. figures: those of telemetry; connections: to the broker since the start, None without one."""
    model, governor = figures.get("model", {}), figures.get("governor", {})
    sinks: Mapping[str, Mapping[str, Any]] = figures.get("sinks", {})
    info: _Labels = (("version", __version__), ("model", str(model.get("name", ""))), ("profile", profile))
    families: list[tuple[str, str, str, Mapping[_Labels, Any]]] = [
        ("info", "gauge", "Version, model and profile in force; always 1.", {info: 1}),
        ("pictures_total", "counter", "Pictures annotated.", {(): figures.get("pictures", 0)}),
        ("rejected_total", "counter", "Pictures that could not be used, by reason.", _by("reason", figures.get("rejected", {}))),
        ("skipped_total", "counter", "Frames skipped for want of time.", {(): figures.get("skipped", 0)}),
        ("queue_length", "gauge", "What waits: files, decoded frames, results.", _by("queue", figures.get("queues", {}))),
        ("outbox_rows", "gauge", "Unsent messages, by sink.", _of(sinks, "rows")),
        ("outbox_bytes", "gauge", "Their size, by sink.", _of(sinks, "bytes")),
        ("outbox_dropped_total", "counter", "Messages dropped for want of room, by sink.", _of(sinks, "dropped")),
        ("outbox_refused_total", "counter", "Messages that the receiver refused, by sink.", _of(sinks, "refused")),
        ("governor_step", "gauge", "Steps below the first choice.", {(): governor.get("step")}),
        ("governor_rate", "gauge", "Part of the usual pictures a second.", {(): governor.get("rate")}),
        ("throttled", "gauge", "Whether the processor is slowed down.", {(): _number(figures.get("throttled"))}),
        ("temperature_celsius", "gauge", "The hottest sensor.", {(): figures.get("cpu_temperature_c")}),
        ("broker_connections_total", "counter", "Connections made to the broker; one more than reconnects.", {(): connections}),
    ]
    lines = [line for name, kind, text, values in families for line in _family(f"edgeannot_{name}", kind, text, values)]
    lines += _family("process_resident_memory_bytes", "gauge", "Resident memory.", {(): figures.get("rss_bytes")})
    lines += _family("process_cpu_seconds_total", "counter", "Processor time.", {(): round(time.process_time(), 3)})
    return "\n".join([*lines, *distributions.lines()]) + "\n"


def _by(label: str, values: Mapping[str, Any]) -> dict[_Labels, Any]:
    return {((label, name),): value for name, value in values.items()}


def _of(sinks: Mapping[str, Mapping[str, Any]], key: str) -> dict[_Labels, Any]:
    return {(("sink", name),): each.get(key) for name, each in sinks.items()}


def _number(value: object) -> int | None:
    return None if value is None else int(bool(value))


def _family(name: str, kind: str, text: str, values: Mapping[_Labels, Any]) -> Iterator[str]:
    known = {labels: value for labels, value in values.items() if value is not None}
    if known:
        yield f"# HELP {name} {text}"
        yield f"# TYPE {name} {kind}"
        for labels, value in known.items():
            inside = ",".join(f'{key}="{_escaped(word)}"' for key, word in labels)
            yield f"{name}{{{inside}}} {value}" if inside else f"{name} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
