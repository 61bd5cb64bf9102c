"""Figures of the running daemon: rates and times by stage over the last pictures, memory, temperature."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeannot.daemon.monitoring.metrics import Distributions
from edgeannot.probe.limits import hottest_c
from edgeannot.vision.data import Annotation

__all__ = ["Telemetry", "read_rss_bytes"]

_WINDOW = 256
"""Number of pictures for percentiles and rate: minutes on a slow board, seconds on a fast one."""


_LATEST = 5
"""Number of pictures for the median latency: few, so that a change shows soon; enough to ignore one outlier."""
_ENOUGH, _ENOUGH_MS = 3, 3000.0
"""Pictures that it takes, or milliseconds that the newest took together."""
_STALE_S = 60.0


class _SourceFigures:
    """What one source's pictures say of it."""

    def __init__(self) -> None:
        self.pictures = 0
        self.done: deque[float] = deque(maxlen=_WINDOW)
        self.age_ms: deque[float] = deque(maxlen=_WINDOW)

    def add(self, now: float, timing_ms: Mapping[str, float]) -> None:
        self.pictures += 1
        self.done.append(now)
        if (age_ms := timing_ms.get("age")) is not None:
            self.age_ms.append(age_ms)

    def as_dict(self, now: float) -> dict[str, Any]:
        ages = {"age_ms": _percentiles(np.array(self.age_ms))} if self.age_ms else {}
        return {"pictures": self.pictures, "fps": _rate(self.done, now), **ages}


class Telemetry:
    """Counts pictures and their times. Call `snapshot` from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, max_labels: int = 100) -> None:
        self._clock = clock
        self.distributions = Distributions(max_labels)
        self._lock = threading.Lock()
        self._done: deque[float] = deque(maxlen=_WINDOW)
        self._timing: deque[dict[str, float]] = deque(maxlen=_WINDOW)
        self._model = ""
        self._latest: deque[tuple[float, float]] = deque(maxlen=_LATEST)
        self._rejected: Counter[str] = Counter()
        self._sources: defaultdict[str, _SourceFigures] = defaultdict(_SourceFigures)
        self._pictures = 0
        self._detections = 0

    def annotated(self, annotation: Annotation) -> None:
        """Count one picture that was annotated."""
        self.distributions.annotated(annotation)
        with self._lock:
            self._pictures += 1
            self._detections += len(annotation.detections)
            self._done.append(self._clock())
            self._sources[annotation.frame.source].add(self._done[-1], annotation.timing_ms)
            if annotation.model.name != self._model:
                # Times of two models are no one distribution; and the first run of a model, which warms up, is not like the others.
                self._model = annotation.model.name
                self._timing.clear()
                self._latest.clear()
            else:
                self._latest.append((self._done[-1], annotation.timing_ms.get("total", 0.0)))
            self._timing.append({stage: ms for stage, ms in annotation.timing_ms.items() if stage != "age"})

    def rejected(self, reason: str) -> None:
        """Count one picture that could not be used."""
        with self._lock:
            self._rejected[reason] += 1

    def latency_ms(self, model: str, since_s: float) -> float | None:
        """Return the median time of this model's last pictures since then, in ms; None if they are too few or too old.

        since_s: by this object's clock.
        """
        with self._lock:
            done = [(at, ms) for at, ms in self._latest if at > since_s] if model == self._model else []
            if not done or done[-1][0] < self._clock() - _STALE_S:
                return None
            times = [ms for _, ms in done]
        # If pictures take seconds there are few recent ones, and older ones would dominate the median for long.
        slow = next((n for n in range(1, len(times) + 1) if sum(times[-n:]) >= _ENOUGH_MS), None)
        if slow is None and len(times) < _ENOUGH:
            return None
        return float(np.median(times[-slow:] if slow else times))

    @property
    def pictures(self) -> int:
        """Return the number of pictures annotated since the start."""
        return self._pictures

    def by_source(self) -> dict[str, dict[str, Any]]:
        """Return JSON-ready figures by source: pictures, fps, and of a live one the age of its frames at inference in ms."""
        with self._lock:
            return {name: figures.as_dict(self._clock()) for name, figures in self._sources.items()}

    def snapshot(self) -> dict[str, Any]:
        """Return JSON-ready figures: pictures, rejected by reason, fps, p50 and p95 in ms by stage, RSS in bytes, temperature in °C.

        The times are those of the active model.
        """
        with self._lock:
            stages = list(self._timing[-1]) if self._timing else []
            times = {stage: np.array([row.get(stage, 0.0) for row in self._timing]) for stage in stages}
            figures: dict[str, Any] = {
                "pictures": self._pictures,
                "detections": self._detections,
                "rejected": dict(self._rejected),
                "fps": _rate(self._done, self._clock()),
                "timing_ms": {stage: _percentiles(ms) for stage, ms in times.items()},
            }
        return {**figures, "rss_bytes": read_rss_bytes(), "cpu_temperature_c": hottest_c()}


def _rate(moments: Iterable[float], now: float) -> float:
    """Return how many a second there were in the last minute, or since the first of them."""
    recent = [at for at in moments if at > now - 60]
    return round(len(recent) / max(now - recent[0], 1.0), 2) if recent else 0.0


def _percentiles(ms: np.ndarray[Any, Any]) -> dict[str, float]:
    return {"p50": round(float(np.median(ms)), 2), "p95": round(float(np.percentile(ms, 95)), 2)}


def read_rss_bytes() -> int:
    """Return the resident memory of this process (second field of /proc/self/statm, in pages; proc(5))."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
