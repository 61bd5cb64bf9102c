"""The governor over a board of paper: a fake clock, and sensors that follow what the governor does."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeannot.daemon.governor import RATES, Bounds, DegradationLevel, Governor, Position, SensorReadings

LADDER = (DegradationLevel("big@320", 100.0), DegradationLevel("big@224", 50.0), DegradationLevel("small", 20.0))
FINE = SensorReadings(latency_ms=100.0, temperature_c=50.0, memory_some=0.0, memory_full=0.0)


class Board:
    """A board on which the model of cost 1 takes `slowness` ms a picture, looked at once a second."""

    def __init__(self, bounds, ladder=LADDER):
        self.governor = Governor(ladder, bounds)
        self.now_s = 0.0
        self.slowness = 1.0
        self.trip_c = 80.0
        self.temperature = lambda governor: 50.0
        self.reading = None
        self.steps = []

    def sense(self):
        level = self.governor.levels[self.governor.position.model]
        return SensorReadings(latency_ms=level.cost * self.slowness, temperature_c=self.temperature(self.governor))

    def run(self, seconds):
        """Steps taken in that time, as (second, position)."""
        begun, count = self.now_s, len(self.steps)
        while self.now_s < begun + seconds:
            self.now_s += 1.0
            step = self.governor.look(self.now_s, self.reading or self.sense())
            if step is not None:
                self.steps.append((self.now_s, step))
        return self.steps[count:]

    @property
    def position(self):
        return self.governor.position


def test_nothing_to_read_is_nothing_to_do():
    board = Board(Bounds())
    board.reading = SensorReadings()

    assert board.run(600) == []
    assert board.position == Position()


def test_within_the_budget_nothing_changes():
    board = Board(Bounds(budget_ms=110))

    assert board.run(600) == []


def test_without_a_budget_a_folder_may_take_its_time():
    board = Board(Bounds())
    board.slowness = 1000.0

    assert board.run(600) == []


def test_four_times_too_slow_takes_the_model_that_fits_within_ten_seconds_and_says_why():
    board = Board(Bounds(budget_ms=120))
    board.run(30)
    board.slowness = 4.0
    (when, step), *more = board.run(25)

    assert when - 30 <= 10
    assert (step.model, step.rate, step.down) == ("small", 1.0, True)
    assert step.reason == "400 ms a picture, over the budget of 120 ms for 2 s: model small instead of big@320"
    assert not more


def test_when_the_quota_is_lifted_the_first_choice_comes_back_but_not_at_once():
    board = Board(Bounds(budget_ms=120))
    board.slowness = 4.0
    board.run(60)
    lifted, board.slowness = board.now_s, 1.0
    ((when, step),) = board.run(60)

    assert 10 <= when - lifted <= 25
    assert (step.model, step.down) == ("big@320", False)


def test_a_little_too_slow_takes_half_the_rate_and_keeps_it_where_that_helps():
    board = Board(Bounds(budget_ms=100))
    board.sense = lambda: SensorReadings(latency_ms=125.0 if board.position.rate == 0 else 70.0)
    ((_, step),) = board.run(10)

    assert (step.model, step.rate) == ("big@320", 0.5)


def test_a_lower_rate_that_does_not_help_is_given_back_for_a_smaller_input():
    board = Board(Bounds(budget_ms=100))
    board.slowness = 1.25
    first, second = (step for _, step in board.run(12))

    assert (first.model, first.rate) == ("big@320", 0.5)
    assert (second.model, second.rate) == ("big@224", 1.0)


def test_a_lower_rate_that_does_not_help_the_only_model_is_given_back_and_left_alone():
    board = Board(Bounds(budget_ms=100), LADDER[:1])
    board.slowness = 3.0
    steps = [step.rate for _, step in board.run(500)]

    assert steps == [0.5, 1.0]
    assert board.governor.exhausted


def test_a_rate_that_the_user_asked_for_is_not_lowered_for_latency():
    board = Board(Bounds(budget_ms=100, rate_helps=False))
    board.slowness = 1.25

    assert [(step.model, step.rate) for _, step in board.run(12)] == [("big@224", 1.0)]


def test_heat_takes_the_rate_first_then_the_model_and_gives_all_back_when_it_is_cool():
    board = Board(Bounds())
    board.temperature = lambda _: 85.0
    steps = [(step.rate, step.model) for _, step in board.run(200)]
    assert steps == [(0.5, "big@320"), (0.25, "big@320"), (0.25, "big@224"), (0.25, "small")]
    assert board.governor.exhausted

    board.temperature = lambda _: 60.0
    board.run(300)
    assert board.position == Position()


def test_between_the_trip_point_and_cool_nothing_moves():
    board = Board(Bounds())
    board.temperature = lambda governor: 82.0 if governor.position == Position() else 77.0

    assert [step.rate for _, step in board.run(600)] == [0.5]


def test_a_board_that_its_firmware_slows_down_is_hot_whatever_the_thermometer_says():
    board = Board(Bounds())
    board.reading = SensorReadings(temperature_c=40.0, throttled=True)
    _, step = board.run(10)[0]

    assert step.rate == 0.5
    assert step.reason.startswith("CPU throttled for 5 s")


def test_want_of_memory_takes_a_smaller_model_at_once():
    board = Board(Bounds())
    board.reading = SensorReadings(memory_some=30.0, memory_full=8.0)
    _, step = board.run(10)[0]

    assert (step.model, step.rate) == ("big@224", 1.0)


def test_where_the_model_was_set_only_the_rate_changes():
    board = Board(Bounds(), LADDER[:1])
    board.temperature = lambda _: 90.0

    assert [(step.model, step.rate) for _, step in board.run(300)] == [("big@320", 0.5), ("big@320", 0.25)]


def test_a_step_up_that_fails_is_tried_ever_less_often():
    """Ten hours in a quota that only the small model fits, and expectations that are always too good."""
    board = Board(Bounds(budget_ms=100))
    board.sense = lambda: SensorReadings(latency_ms=30.0 if board.governor.model == "small" else 400.0)
    ups = [when for when, step in board.run(36_000) if not step.down]
    waits = [later - earlier for earlier, later in pairwise(ups)]

    assert waits[0] < 60
    assert all(wait >= 240 for wait in waits[4:])


def test_a_trial_is_made_where_the_costs_on_paper_are_wrong():
    """By the ladder's costs the top would take 400 ms, in truth it takes 90."""
    board = Board(Bounds(budget_ms=100))
    board.sense = lambda: SensorReadings(latency_ms=300.0)
    board.run(20)
    board.sense = lambda: SensorReadings(latency_ms=90.0)
    board.run(300)

    assert board.position == Position()


def test_one_outlier_between_good_readings_is_no_trouble():
    board = Board(Bounds(budget_ms=100))
    for slowness in [0.9, 9.0, 0.9, 9.0] * 20:
        board.slowness = slowness
        assert board.run(1) == []


def test_a_cheaper_model_that_cannot_be_loaded_is_no_rung_any_more():
    board = Board(Bounds(budget_ms=120))
    board.slowness = 4.0
    board.run(5)
    assert board.governor.model == "small"
    board.governor.refuse(board.now_s, "small", "big@320")

    assert board.governor.model == "big@320"
    board.run(10)
    assert board.governor.model == "big@224"


def test_a_better_model_that_cannot_be_loaded_is_tried_again_later():
    board = Board(Bounds(budget_ms=120))
    board.slowness = 4.0
    board.run(5)
    board.slowness = 1.0
    (up, _), *_ = board.run(30)
    board.governor.refuse(board.now_s, "big@320", "small")
    assert board.governor.model == "small"
    (again, step), *_ = board.run(60)

    assert step.model == "big@320"
    assert again - up >= 30


@st.composite
def weather(draw):
    """Phases of a board's life: seconds, slowness, temperature, memory pressure, firmware throttling."""
    phase = st.tuples(
        st.integers(1, 90),
        st.sampled_from([0.5, 1.0, 1.3, 2.0, 4.0, 20.0]),
        st.sampled_from([None, 40.0, 77.0, 81.0, 95.0]),
        st.sampled_from([None, 0.0, 5.0, 50.0]),
        st.sampled_from([None, False, True]),
        st.booleans(),
    )
    return draw(st.lists(phase, min_size=1, max_size=15))


@given(weather(), st.sampled_from([None, 40.0, 110.0, 500.0]), st.booleans(), st.integers(1, 3))
@settings(max_examples=150)
def test_it_never_moves_faster_than_its_holds_never_leaves_the_ladder_and_comes_back_when_all_is_well(phases, budget, rate_helps, levels):
    board = Board(Bounds(budget, rate_helps), LADDER[:levels])
    for seconds, slowness, temperature, memory, throttled, pictures in phases:

        def sense(slowness=slowness, temperature=temperature, memory=memory, throttled=throttled, pictures=pictures):
            latency = board.governor.levels[board.position.model].cost * slowness if pictures else None
            return SensorReadings(latency, temperature, 80.0, throttled, memory, None if memory is None else memory / 2)

        board.sense = sense
        board.run(seconds)
    moves = [(0.0, Position()), *((when, step.position) for when, step in board.steps)]
    for (before, was), (when, now) in pairwise(moves):
        assert 0 <= now.rate < len(RATES)
        assert 0 <= now.model < levels
        assert now != was
        assert when - before >= 3
        assert when - before >= 15 or now.model > was.model or now.rate > was.rate or (was.rate, now.rate) == (1, 0)

    board.sense = lambda: SensorReadings(budget and 0.5 * budget, 50.0, 80.0, False, 0.0, 0.0)
    board.run(3 * 960 + 5 * 240)
    assert board.position == Position()


@pytest.mark.parametrize("level", LADDER)
def test_the_model_it_names_is_the_one_at_its_position(level):
    governor = Governor((level,), Bounds())

    assert governor.model == level.name


@pytest.mark.parametrize("trouble", ["latency", "heat", "memory"])
def test_the_second_stage_is_dropped_first_whatever_is_wrong_and_comes_back_last(trouble):
    board = Board(Bounds(budget_ms=110, second_stage=True))
    pressed = {"latency": {"latency_ms": 130.0}, "heat": {"temperature_c": 90.0}, "memory": {"memory_full": 20.0}}[trouble]
    board.reading = SensorReadings(**{"latency_ms": 100.0, "temperature_c": 50.0} | pressed)
    first = board.run(12)[0][1]

    assert first.position == Position(bare=1)
    assert first.down
    assert first.reason.endswith("without the second stage")
    board.reading = None
    last = board.run(600)[-1][1]
    assert last.position == Position()
    assert last.reason.endswith("with the second stage")


def test_without_a_second_stage_nothing_of_it_is_said():
    board = Board(Bounds(budget_ms=50))
    board.run(60)

    assert board.position.bare == 0
