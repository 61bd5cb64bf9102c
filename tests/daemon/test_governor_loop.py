"""What the governor decides reaches the sources and the model, is announced, and survives a model that cannot be loaded."""

from concurrent.futures import Future
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pytest

from edgeannot.base.errors import LinkError, ModelError
from edgeannot.daemon.governor import Bounds, DegradationLevel, Governor, SensorReadings
from edgeannot.daemon.governor_loop import GovernorLoop, Pace
from edgeannot.daemon.monitoring.telemetry import Telemetry
from edgeannot.payload import Origin, decode, encode, telemetry_payload
from edgeannot.remote.control import Control
from edgeannot.vision.data import Annotation, Detections, Frame, ModelFacts

LADDER = (DegradationLevel("big", 100.0), DegradationLevel("small", 20.0))


class Drive:
    """A governor_loop with everything round it: time, pictures and sensors are the test's, models are names."""

    def __init__(self, bounds):
        self.now = 0.0
        self.felt = SensorReadings(temperature_c=50.0)
        self.loadable = {"big", "small", "other"}
        self.told = []
        self.active_model = SimpleNamespace(card=SimpleNamespace(name="big", sha256="0" * 64), threads=2)
        self.control = Control()
        self.telemetry = Telemetry(clock=lambda: self.now)
        self.pace = Pace(self.control)
        self.governor_loop = GovernorLoop(
            Governor(LADDER, bounds),
            SimpleNamespace(read=lambda: self.felt),
            self.telemetry,
            self.control,
            self.active_model,
            self.pace,
            levels=lambda name: [DegradationLevel(name, 1.0)],
            clock=lambda: self.now,
        )

    def load(self, name, reason):
        if name not in self.loadable:
            raise ModelError(f"{name} cannot be loaded")
        self.active_model.card = SimpleNamespace(name=name, sha256="1" * 64)
        self.told.append(reason)
        return name

    def run(self, seconds, ms=None):
        """Two pictures a second of that time, a look each second, and the inference thread between them."""
        for _ in range(seconds):
            for _ in range(2):
                self.now += 0.5
                if ms is not None:
                    self.telemetry.annotated(annotation(self.active_model.card.name, ms))
            self.governor_loop.tick()
            self.control.serve(self.load, lambda frame: None)


def annotation(model, ms):
    frame = Frame(np.zeros((4, 4, 3), np.uint8), "door", 0, datetime.now(UTC), "x")
    return Annotation(frame, Detections.empty(), (), ModelFacts(model, "0" * 64, "yolo", "low"), {"total": ms})


@pytest.fixture
def drive():
    return Drive(Bounds(budget_ms=120))


def test_before_anything_happened_it_says_so(drive):
    figures = drive.governor_loop.figures()

    assert figures["model"] == {"name": "big", "sha256": "0" * 64, "threads": 2}
    assert figures["governor"] | {"since": ""} == {
        "step": 0, "rate": 1.0, "reason": "as chosen at the start", "since": "", "budget_ms": 120, "latency_ms": None, "exhausted": False,
    }  # fmt: skip
    assert (figures["throttled"], figures["supply"], figures["psi"]) == (None, [], {"memory": None})


def test_a_step_puts_the_smaller_model_in_force_and_announces_it_with_its_reason(drive, caplog):
    drive.run(7, ms=400.0)
    figures = drive.governor_loop.figures()

    assert drive.active_model.card.name == "small"
    assert drive.governor_loop.steps == 1
    assert figures["model"]["name"] == "small"
    assert figures["governor"]["step"] == 1
    assert figures["governor"]["reason"].endswith("model small instead of big")
    (told,) = drive.told
    assert told.startswith("governor: step down, 400 ms a picture, over the budget of 120 ms")
    assert caplog.text == "", "who announces the change logs it, in one line"


def test_a_model_that_cannot_be_loaded_is_said_once_and_the_old_one_stays(drive, caplog):
    drive.loadable = {"big"}
    drive.run(60, ms=400.0)

    assert drive.active_model.card.name == "big"
    assert caplog.text.count("but the model cannot be used: small cannot be loaded") == 1
    assert caplog.text.count("still out of bounds at the lowest step") == 1


def test_heat_slows_every_source_down_and_coolness_speeds_it_up_again():
    drive = Drive(Bounds())
    drive.felt = SensorReadings(temperature_c=85.0)
    drive.run(8, ms=200.0)
    assert (drive.pace.interval_s(2.0), drive.pace.rest_s()) == (4.0, pytest.approx(0.2))

    drive.felt = SensorReadings(temperature_c=60.0)
    drive.run(60, ms=200.0)
    assert (drive.pace.interval_s(2.0), drive.pace.rest_s()) == (2.0, 0.0)


def test_an_interval_that_somebody_wants_replaces_the_configured_one_and_is_stretched_as_well():
    drive = Drive(Bounds())
    drive.control.change(interval_s=10.0)
    assert drive.pace.interval_s(2.0) == 10.0
    drive.pace.rate = 0.5

    assert drive.pace.interval_s(2.0) == 20.0


def test_a_model_that_somebody_else_put_in_force_is_the_top_and_is_not_replaced(drive):
    drive.run(10, ms=400.0)
    drive.control.ask_model("other")
    drive.run(1)
    drive.run(60, ms=1000.0)

    assert drive.active_model.card.name == "other"
    assert drive.governor_loop.figures()["governor"]["step"] == 0


def test_the_same_model_with_another_number_of_threads_has_a_new_ladder(drive):
    """The models were measured meanwhile, so the costs are others."""
    drive.active_model.threads = 1
    drive.run(60, ms=1000.0)

    assert drive.active_model.card.name == "big"
    assert drive.governor_loop.figures()["governor"]["exhausted"]


def test_while_paused_it_decides_nothing(drive):
    drive.control.change(paused=True)
    drive.run(30, ms=400.0)

    assert drive.governor_loop.steps == 0


def test_a_daemon_that_stops_ends_it_in_silence(drive, caplog):
    drive.control.close()
    drive.run(10, ms=400.0)

    assert "cannot be used" not in caplog.text
    with pytest.raises(LinkError):
        drive.control.ask_model("small").result(0)


def test_what_the_sensors_say_is_published(drive):
    drive.felt = SensorReadings(None, 71.5, 80.0, True, ("the supply voltage is too low",), 12.0, 1.0)
    drive.run(1)
    figures = drive.governor_loop.figures()

    assert (figures["throttled"], figures["supply"]) == (True, ["the supply voltage is too low"])
    assert figures["psi"] == {"memory": {"some_avg10": 12.0, "full_avg10": 1.0}}


def test_a_request_that_is_not_served_yet_is_waited_for(drive):
    asked = []
    drive.control.ask_model = lambda name, reason: asked.append(Future()) or asked[-1]
    drive.run(30, ms=400.0)

    assert len(asked) == 1
    assert drive.governor_loop.steps == 0


def test_its_figures_can_be_sent(drive):
    payload = telemetry_payload(Origin("pi", "boot-1"), drive.governor_loop.figures())

    assert decode(encode(payload))["governor"]["reason"] == "as chosen at the start"


def test_a_step_that_was_asked_for_before_a_new_ladder_came_is_a_change_like_any_other(drive):
    while drive.governor_loop._asked is None:
        drive.now += 0.5
        drive.telemetry.annotated(annotation("big", 500.0))
        drive.governor_loop.tick()
    drive.governor_loop.start_over("the models were measured")
    drive.control.serve(drive.load, lambda frame: None)
    drive.governor_loop.tick()

    assert (drive.governor_loop.figures()["governor"]["reason"], drive.governor_loop.figures()["governor"]["step"]) == (
        "the model was changed",
        0,
    )
