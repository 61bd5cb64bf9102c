"""Telemetry counts pictures and their times, from nothing upwards."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from edgeannot.daemon.monitoring.telemetry import Telemetry
from edgeannot.vision.data import Annotation, Detections, Frame, ModelFacts


def annotation(inference_ms, model="m"):
    frame = Frame(np.zeros((4, 4, 3), np.uint8), "door", 0, datetime.now(UTC), "x")
    return Annotation(
        frame, Detections.empty(), (), ModelFacts(model, "0" * 64, "yolo", "low"), {"inference": inference_ms, "total": inference_ms}
    )


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


def test_each_source_has_its_own_count_and_rate_and_the_age_of_its_frames():
    now = [100.0]
    telemetry = Telemetry(clock=lambda: now[0])
    assert telemetry.by_source() == {}

    for age in (30.0, 40.0, 50.0):
        live = annotation(1.0)
        telemetry.annotated(replace(live, timing_ms={**live.timing_ms, "age": age}))
        now[0] += 0.5
    inbox = annotation(1.0)
    telemetry.annotated(replace(inbox, frame=replace(inbox.frame, source="inbox")))

    assert telemetry.by_source() == {
        "door": {"pictures": 3, "fps": 2.0, "age_ms": {"p50": 40.0, "p95": 49.0}},
        "inbox": {"pictures": 1, "fps": 1.0},
    }
    now[0] += 9.0
    assert [each["fps"] for each in telemetry.by_source().values()] == [0.29, 0.11]  # what came at once is no rate that lasts
    now[0] += 60.0
    assert [each["fps"] for each in telemetry.by_source().values()] == [0.0, 0.0]
    assert "age" not in telemetry.snapshot()["timing_ms"]


def latency(*times_ms, since_s=0.0, model="m"):
    """What the latency is after these pictures, one after the other; the first one of a model only warms it up."""
    now = [1.0]
    telemetry = Telemetry(clock=lambda: now[0])
    telemetry.annotated(annotation(1.0))
    for ms in times_ms:
        now[0] += 1.0
        telemetry.annotated(annotation(ms))
    return telemetry.latency_ms(model, since_s)


def test_the_latency_is_the_median_of_the_last_five():
    assert latency() is None
    assert latency(10.0, 20.0) is None
    assert latency(10.0, 30.0, 20.0) == 20.0
    assert latency(10.0, 10.0, 10.0, 70.0, 60.0, 90.0) == 60.0
    assert latency(10.0, 10.0, 10.0, 10.0, 900.0) == 10.0


def test_slow_pictures_tell_as_soon_as_they_took_three_seconds():
    assert latency(3500.0) == 3500.0
    assert latency(10.0, 10.0, 10.0, 10.0, 3500.0) == 3500.0
    assert latency(10.0, 10.0, 10.0, 1600.0, 1700.0) == 1650.0


def test_the_latency_is_of_the_model_in_force_and_since_then():
    assert latency(10.0, 10.0, 10.0, since_s=3.0) is None
    assert latency(10.0, 10.0, 10.0, model="other") is None


def test_a_latency_of_long_ago_says_nothing():
    now = [1.0]
    telemetry = Telemetry(clock=lambda: now[0])
    for _ in range(5):
        telemetry.annotated(annotation(10.0))
    assert telemetry.latency_ms("m", 0.0) == 10.0
    now[0] = 100.0

    assert telemetry.latency_ms("m", 0.0) is None


def test_times_of_two_models_are_not_mixed():
    telemetry = Telemetry()
    for ms, model in ((10.0, "m"), (10.0, "m"), (90.0, "other")):
        telemetry.annotated(annotation(ms, model))

    assert telemetry.snapshot()["timing_ms"]["inference"] == {"p50": 90.0, "p95": 90.0}
