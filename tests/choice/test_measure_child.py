"""Which rounds of a measurement count: the calm ones, as far as a little patience helps."""

from __future__ import annotations

import pytest

from edgeannot.choice import measure_child
from edgeannot.choice.measure_child import samples
from tests.choice.test_measure import SAMPLE


class Clock:
    """Spells of a quarter second that are as disturbed as is said; the last figure goes on for ever."""

    def __init__(self, *waited):
        self.now = 0.0
        self.waited = list(waited)
        self.made = 0

    def perf_counter(self):
        return self.now

    def spell(self, pipelines, seconds):
        waited = self.waited[min(self.made, len(self.waited) - 1)]
        self.now += seconds
        self.made += 1
        row = {"total": 20.0 * (1 + waited), "cpu": 20.0, **dict.fromkeys(measure_child.STAGES, 5.0)}
        return measure_child._Spell([[row] * len(pipelines)] * 10, seconds, waited)


class Card:
    model_path = "model.tflite"


class Pipeline:
    card = Card()


def measured(monkeypatch, clock, *, seconds=1.0, runs=5, mean=False, count=1):
    monkeypatch.setattr(measure_child.time, "perf_counter", clock.perf_counter)
    monkeypatch.setattr(measure_child, "_spell", clock.spell)
    monkeypatch.setattr(measure_child, "_warm_up", lambda _: None)
    monkeypatch.setattr(measure_child, "numbers_of", lambda _: "int8")
    return samples([Pipeline()] * count, seconds, runs, mean=mean)


def test_where_all_is_calm_it_takes_as_long_as_was_asked(monkeypatch):
    clock = Clock(0.0)
    (found,) = measured(monkeypatch, clock)

    assert set(found) == set(SAMPLE) | {"waited"}
    assert (clock.now, found["runs"], found["waited"], found["ms"]) == (1.0, 40, 0.0, 20.0)


def test_what_a_neighbour_disturbed_is_left_out_and_made_up_for(monkeypatch):
    clock = Clock(0.0, 0.5, 0.5, 0.5, 0.0)
    (found,) = measured(monkeypatch, clock)

    assert (clock.now, found["ms"], found["waited"]) == (1.75, 20.0, 0.0)


def test_where_it_never_gets_calm_the_calmest_count_and_it_is_told(monkeypatch):
    clock = Clock(*[0.5] * 8, 0.3, 0.3, 0.3, 0.3, 0.5)
    (found,) = measured(monkeypatch, clock)

    assert clock.now == pytest.approx(3.25)
    assert (found["waited"], found["ms"]) == (0.3, 26.0)


def test_under_a_quota_the_waiting_counts(monkeypatch):
    clock = Clock(0.5, 0.0, 0.5, 0.0)
    (found,) = measured(monkeypatch, clock, mean=True)

    assert (clock.now, found["waited"], found["ms"]) == (1.0, 0.25, 25.0)


def test_several_points_take_as_long_as_each_alone(monkeypatch):
    clock = Clock(0.0)
    found = measured(monkeypatch, clock, count=3)

    assert clock.now == 3.0
    assert [row["runs"] for row in found] == [120] * 3


def test_a_short_measurement_is_made_of_two_spells_at_least(monkeypatch):
    clock = Clock(0.5, 0.0)
    (found,) = measured(monkeypatch, clock, seconds=0.3)

    assert clock.now == pytest.approx(0.45)
    assert found["waited"] == 0.0


def test_too_few_runs_are_enough_when_they_take_very_long(monkeypatch):
    clock = Clock(0.0)
    measured(monkeypatch, clock, seconds=1.0, runs=10_000)

    assert clock.now == pytest.approx(8.25)
