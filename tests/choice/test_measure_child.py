"""Which rounds of a measurement count: the uncontended ones, as far as a little patience helps."""

from __future__ import annotations

import pytest

from edgeannot.choice import measure_child
from edgeannot.choice.measure_child import samples
from tests.choice.test_measure import SAMPLE


class Clock:
    """Windows of a fifth of a second with the wait shares given; the last figure goes on for ever."""

    def __init__(self, *waited):
        self.now = 0.0
        self.wait_share = list(waited)
        self.made = 0
        self.rows = 10

    def perf_counter(self):
        return self.now

    def window(self, pipelines, seconds):
        waited = self.wait_share[min(self.made, len(self.wait_share) - 1)]
        self.now += seconds
        self.made += 1
        row = {"total": 20.0 * (1 + waited), "cpu": 20.0, **dict.fromkeys(measure_child.STAGES, 5.0)}
        return measure_child._Window([[row] * len(pipelines)] * self.rows, seconds, waited)


class Card:
    dtype = "int8"


class Pipeline:
    card = Card()


def measured(monkeypatch, clock, *, seconds=1.0, mean=False, count=1):
    monkeypatch.setattr(measure_child.time, "perf_counter", clock.perf_counter)
    monkeypatch.setattr(measure_child, "_window", clock.window)
    monkeypatch.setattr(measure_child, "_run", lambda _: {})
    return samples([Pipeline()] * count, seconds, mean=mean)


def test_where_all_is_calm_it_takes_as_long_as_was_asked(monkeypatch):
    clock = Clock(0.0)
    (found,) = measured(monkeypatch, clock)

    assert set(found) == set(SAMPLE) | {"wait_share"}
    assert (clock.now, found["runs"], found["wait_share"], found["ms"]) == (1.0, 50, 0.0, 20.0)


def test_what_a_neighbour_disturbed_is_left_out_and_made_up_for(monkeypatch):
    clock = Clock(0.0, 0.5, 0.5, 0.5, 0.0)
    (found,) = measured(monkeypatch, clock)

    assert (clock.made, found["ms"], found["wait_share"]) == (8, 20.0, 0.0)


def test_where_it_never_gets_calm_the_calmest_count_and_it_is_told(monkeypatch):
    clock = Clock(*[0.5] * 10, *[0.3] * 5, 0.5)
    (found,) = measured(monkeypatch, clock)

    assert clock.now == pytest.approx(3.2, abs=0.21)
    assert (found["wait_share"], found["ms"]) == (0.3, 26.0)


def test_under_a_quota_the_waiting_counts(monkeypatch):
    clock = Clock(0.5, 0.0, 0.5, 0.0, 0.25)
    (found,) = measured(monkeypatch, clock, mean=True)

    assert (clock.now, found["wait_share"], found["ms"]) == (1.0, 0.25, 25.0)


def test_several_points_take_as_long_as_each_alone(monkeypatch):
    clock = Clock(0.0)
    found = measured(monkeypatch, clock, count=3)

    assert clock.now == pytest.approx(3.0)
    assert {row["runs"] for row in found} == {150}


def test_a_short_measurement_is_made_of_two_spells_at_least(monkeypatch):
    clock = Clock(0.5, 0.0)
    (found,) = measured(monkeypatch, clock, seconds=0.3)

    assert clock.now == pytest.approx(0.45)
    assert found["wait_share"] == 0.0


def test_a_slow_point_has_three_runs_at_least(monkeypatch):
    clock = Clock(0.0)
    clock.rows = 1
    (found,) = measured(monkeypatch, clock, seconds=0.2)

    assert found["runs"] == 3
