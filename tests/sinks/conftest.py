"""Annotations to write: made from plain numbers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from edgeannot.payload import Origin
from edgeannot.sinks import SinkContext
from edgeannot.vision.data import Annotation, Detections, Frame, ModelFacts

MODEL = ModelFacts("yolov3-tiny@320", "ab" * 32, "yolo", "low")


@pytest.fixture
def annotate() -> Callable[..., Annotation]:
    """Make an annotation of a grey picture; `rows` are (label, class id, score, box)."""

    def make(*rows, size_wh=(200, 100), name="cat_dog.jpg", source="porch", path=None, seq=0) -> Annotation:
        frame = Frame(
            np.full((size_wh[1], size_wh[0], 3), 128, np.uint8),
            source,
            seq,
            datetime(2026, 7, 1, 10, 31, 5, 120_000, UTC),
            f"{name}:00ff",
            path,
            4.0,
            name,
        )
        found = Detections(
            np.array([row[3] for row in rows], np.float32).reshape(-1, 4),
            np.array([row[2] for row in rows], np.float32),
            np.array([row[1] for row in rows], np.int64),
        )
        timing = {"decode": 4.0, "preprocess": 1.25, "inference": 15.126, "postprocess": 0.5, "total": 20.876}
        return Annotation(frame, found, tuple(row[0] for row in rows), MODEL, timing)

    return make


@pytest.fixture
def context(tmp_path: Path) -> SinkContext:
    """An output folder, and a device called pi."""
    return SinkContext(Origin("pi", "boot-1", lambda: True), tmp_path / "out", {0: "person", 15: "cat", 16: "dog"})
