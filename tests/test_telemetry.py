"""Telemetry counts pictures and their times, from nothing upwards."""

from datetime import UTC, datetime

import numpy as np

from edgeannot.data import Annotation, Detections, Frame, ModelFacts
from edgeannot.telemetry import Telemetry, read_temperature_c


def annotation(inference_ms):
    frame = Frame(np.zeros((4, 4, 3), np.uint8), "door", 0, datetime.now(UTC), "x")
    return Annotation(frame, Detections.empty(), (), ModelFacts("m", "0" * 64, "yolo", "low"), {"inference": inference_ms})


def test_before_the_first_picture_everything_is_zero():
    figures = Telemetry().snapshot()

    assert (figures["pictures"], figures["fps"], figures["timing_ms"], figures["rejected"]) == (0, 0.0, {}, {})
    assert figures["rss_bytes"] > 1_000_000


def test_rate_and_percentiles_are_taken_over_the_last_pictures():
    now = [100.0]
    telemetry = Telemetry(clock=lambda: now[0])
    for ms in (10.0, 20.0, 30.0):
        telemetry.annotated(annotation(ms))
        now[0] += 0.5
    telemetry.rejected("truncated")

    figures = telemetry.snapshot()
    assert figures["pictures"] == 3
    assert figures["fps"] == 2.0
    assert figures["timing_ms"]["inference"]["p50"] == 20.0
    assert figures["rejected"] == {"truncated": 1}


def test_the_hottest_readable_zone_counts(tmp_path):
    assert read_temperature_c(tmp_path) is None
    for i, text in enumerate(["41000\n", "55500\n", "broken"]):
        zone = tmp_path / f"sys/class/thermal/thermal_zone{i}"
        zone.mkdir(parents=True)
        (zone / "temp").write_text(text)

    assert read_temperature_c(tmp_path) == 55.5
