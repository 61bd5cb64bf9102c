"""The first idle moment, in which the models are measured once."""

import threading
from concurrent.futures import Future
from types import SimpleNamespace

import pytest

from edgeannot.base.errors import ConfigError, LinkError
from edgeannot.daemon.idle import CurrentChoice, IdleMeasuring
from edgeannot.remote.control import Control
from tests.brokers import wait_until
from tests.patience import DEADLINE_S


def choice(name, measured, threads=1):
    decision = SimpleNamespace(measured=measured, candidates=())
    return SimpleNamespace(
        card=SimpleNamespace(name=name),
        threads=threads,
        reasons=("it fits",),
        evaluation=SimpleNamespace(decision=decision, noisy=False),
        threads_for=len,
    )


class House:
    """A pool that does nothing, with a clock of the test's own."""

    def __init__(self, live=False):
        self.now = 0.0
        self.control = Control()
        self.active_model = SimpleNamespace(card=SimpleNamespace(name="prior"), threads=1)
        self.live = live
        self.progress = SimpleNamespace(annotated=0, files_waiting=0, pictures_waiting=0)
        self.chosen = CurrentChoice(choice("prior", measured=False))
        self.stays = []
        self.asked = []
        self.answer = Future()
        self.control.ask_model = lambda name, reason: (self.asked.append((name, reason)), self.answer)[1]
        self.go_on = threading.Event()
        self.found = choice("better", measured=True)

    def measuring(self):
        return IdleMeasuring(
            SimpleNamespace(progress=self.progress),
            self.chosen,
            self._measure,
            control=self.control,
            active_model=self.active_model,
            live=self.live,
            stop=threading.Event(),
            stays=self.stays.append,
            clock=lambda: self.now,
        )

    def _measure(self):
        assert self.go_on.wait(DEADLINE_S)
        if isinstance(self.found, Exception):
            raise self.found
        return self.found

    def run(self, measuring, seconds):
        for _ in range(seconds):
            self.now += 1.0
            measuring.tick()

    def finish(self, measuring):
        self.go_on.set()
        wait_until(lambda: (measuring.tick(), measuring.done)[1], "the end of measuring")


@pytest.fixture
def house():
    return House()


def test_what_was_measured_before_is_not_measured_again(house):
    house.chosen.choice = choice("prior", measured=True)
    measuring = house.measuring()
    house.run(measuring, 100)

    assert measuring.done
    assert house.control.wait_while_paused(0)


def test_after_some_idle_seconds_the_sources_are_held_and_the_better_model_is_asked_for(house):
    measuring = house.measuring()
    house.run(measuring, 4)
    assert house.control.wait_while_paused(0)
    house.run(measuring, 3)
    assert not house.control.wait_while_paused(0)
    house.finish(measuring)

    assert house.asked == [("better", "measured: it fits")]
    assert house.chosen.choice is house.found


def test_a_model_that_somebody_asked_for_meanwhile_is_not_overridden(house):
    house.control.ask_model = Control.ask_model.__get__(house.control)
    measuring = house.measuring()
    house.run(measuring, 7)
    house.control.ask_model("users")
    house.finish(measuring)
    loaded = []
    house.control.serve(lambda name, _: loaded.append(name) or name, None)

    assert loaded == ["users"]
    assert house.control.wait_while_paused(0)
    assert not house.control.awaits_model


def test_a_better_model_that_is_refused_is_told(house, caplog):
    measuring = house.measuring()
    house.run(measuring, 7)
    house.finish(measuring)
    house.answer.set_exception(LinkError("16 requests are waiting; try again later"))

    assert "16 requests are waiting; try again later; the model stays" in caplog.text
    assert house.chosen.choice.card.name == "prior"


def test_the_pictures_go_on_where_telling_fails(house):
    house.found = choice("prior", measured=True)
    measuring = house.measuring()
    house.stays = SimpleNamespace(append=lambda _: 1 / 0)
    measuring = house.measuring()
    house.run(measuring, 7)
    with pytest.raises(ZeroDivisionError):
        house.finish(measuring)

    assert house.control.wait_while_paused(0)


@pytest.mark.parametrize("error", [None, ConfigError("no"), LinkError("the daemon stops")])
def test_pictures_wait_until_the_better_model_is_in_force_or_cannot_be(house, error):
    measuring = house.measuring()
    house.run(measuring, 7)
    house.finish(measuring)
    assert not house.control.wait_while_paused(0)
    if error is None:
        house.answer.set_result("better")
    else:
        house.answer.set_exception(error)

    assert house.control.wait_while_paused(0)


def test_while_pictures_come_or_wait_it_is_no_idle_moment(house):
    measuring = house.measuring()
    for _ in range(20):
        house.progress.annotated += 1
        house.run(measuring, 3)
    house.progress.files_waiting = 1
    house.run(measuring, 20)

    assert house.control.wait_while_paused(0)


def test_a_camera_is_interrupted_once(house):
    house = House(live=True)
    measuring = house.measuring()
    for _ in range(25):
        house.progress.annotated += 1
        house.run(measuring, 1)

    assert not house.control.wait_while_paused(0)
    house.finish(measuring)
    house.answer.set_result("better")
    house.run(measuring, 100)
    assert house.control.wait_while_paused(0)


def test_pictures_under_way_are_done_first(house):
    measuring = house.measuring()
    house.run(measuring, 5)
    house.progress.pictures_waiting = 1
    house.run(measuring, 5)
    assert not any(thread.name == "measure" for thread in threading.enumerate())
    house.progress.pictures_waiting = 0
    house.run(measuring, 1)

    assert any(thread.name == "measure" for thread in threading.enumerate())
    house.finish(measuring)


def test_when_the_same_model_wins_it_stays_and_that_is_told(house):
    house.found = choice("prior", measured=True)
    measuring = house.measuring()
    house.run(measuring, 7)
    house.finish(measuring)

    assert (house.asked, house.stays) == ([], ["measured: it fits"])


def test_figures_of_a_busy_board_replace_nothing(house):
    house.found.evaluation.noisy = True
    before = house.chosen.choice
    measuring = house.measuring()
    house.run(measuring, 7)
    house.finish(measuring)

    assert (house.asked, house.chosen.choice) == ([], before)
    assert "CPU contention" in house.stays[0]
    assert house.control.wait_while_paused(0)


def test_a_better_model_that_cannot_be_loaded_leaves_the_choice_as_it_was(house, caplog):
    before = house.chosen.choice
    measuring = house.measuring()
    house.run(measuring, 7)
    house.finish(measuring)
    house.answer.set_exception(ConfigError("labels: the model better knows no 'person'"))

    assert house.chosen.choice is before
    assert "the model stays" in caplog.text


@pytest.mark.parametrize("fault", [ConfigError("no model runs here"), ZeroDivisionError()])
def test_measuring_that_fails_leaves_everything_as_it_was(house, fault, caplog):
    house.found = fault
    measuring = house.measuring()
    house.run(measuring, 7)
    house.finish(measuring)

    assert "the model stays" in caplog.text
    assert house.asked == []
    assert house.control.wait_while_paused(0)


def test_a_model_that_somebody_asked_for_meanwhile_is_not_replaced(house):
    measuring = house.measuring()
    house.run(measuring, 7)
    house.active_model.card = SimpleNamespace(name="wanted")
    house.finish(measuring)

    assert house.asked == []
    assert [level.name for level in house.chosen.levels("wanted")] == ["wanted"]


def test_while_paused_nothing_is_measured(house):
    house.control.change(paused=True)
    measuring = house.measuring()
    house.run(measuring, 60)

    assert not any(thread.name == "measure" for thread in threading.enumerate())
