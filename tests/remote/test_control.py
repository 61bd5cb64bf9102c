"""What may change while the daemon runs, and what is asked of the inference thread between two pictures."""

import threading
from datetime import UTC, datetime

import numpy as np
import pytest

from edgeannot.base.errors import ConfigError, LinkError, ModelError
from edgeannot.remote.control import SNAPSHOT_WAIT_S, Control, RuntimeSettings
from edgeannot.vision.data import Annotation, Detections, Frame, ModelFacts
from tests.patience import DEADLINE_S

PICTURE = np.zeros((4, 6, 3), np.uint8)


def annotate(frame):
    return Annotation(frame, Detections.empty(), (), ModelFacts("m", "0" * 64, "yolo", "low"))


def annotation(name="a", image=PICTURE):
    return annotate(Frame(image, "door", 0, datetime.now(UTC), name, name=name))


def load(name, reason):
    return f"{name}@224"


def test_at_first_everything_is_as_configured():
    control = Control()

    assert control.now() == RuntimeSettings()
    assert control.wait_while_paused(0)
    control.serve(load, annotate)


def test_a_change_replaces_only_what_is_named_and_older_snapshots_stay_as_they_were():
    control = Control()
    before = control.now()
    control.change(min_score=0.5, labels=("cat",))
    after = control.change(interval_s=2.0)

    assert before == RuntimeSettings()
    assert control.now() is after
    assert after == RuntimeSettings(min_score=0.5, labels=("cat",), interval_s=2.0)
    assert control.change(min_score=None).min_score is None


def test_what_the_model_in_force_cannot_do_is_refused_before_it_counts():
    def check(wanted):
        raise ConfigError("labels: the model knows no 'unicorn'")

    control = Control(check=check)

    with pytest.raises(ConfigError, match="unicorn"):
        control.change(labels=("unicorn",))
    assert control.now() == RuntimeSettings()


def test_who_waits_while_paused_goes_on_when_it_ends():
    control, gone_on = Control(), threading.Event()
    control.change(paused=True)
    assert not control.wait_while_paused(0)
    waiter = threading.Thread(target=lambda: control.wait_while_paused(30) and gone_on.set())
    waiter.start()
    control.change(paused=False)

    waiter.join(DEADLINE_S)
    assert gone_on.is_set()


def test_a_hold_of_the_daemons_own_pauses_and_shows_nowhere():
    control = Control()
    control.hold(True)

    assert not control.wait_while_paused(0)
    assert not control.now().paused
    control.hold(False)
    assert control.wait_while_paused(0)


def test_each_request_wakes_the_inference_thread_and_waits_for_it():
    woken = []
    control = Control(wake=lambda: woken.append(1))
    model = control.ask_model("yolo")
    picture = control.ask_annotation(PICTURE, "desk", "cat.jpg")

    assert len(woken) == 2
    assert not model.done()
    assert not picture.done()
    control.serve(load, annotate)
    assert model.result(0) == "yolo@224"
    frame = picture.result(0).frame
    assert (frame.source, frame.name, frame.size_wh) == ("desk", "cat.jpg", (6, 4))


def test_the_same_picture_has_the_same_identity_and_a_seq_of_its_own():
    control = Control()
    asked = [control.ask_annotation(image, "desk", "a.jpg") for image in (PICTURE, PICTURE.copy(), PICTURE + 1)]
    control.serve(load, annotate)
    first, again, other = (future.result(0).frame for future in asked)

    assert first.identity == again.identity != other.identity
    assert [first.seq, again.seq, other.seq] == [0, 1, 2]


def test_a_request_that_fails_tells_who_asked_and_ends_nothing():
    def refuse(name, reason):
        raise ModelError(f"no model called {name}")

    control = Control()
    model, picture = control.ask_model("unicorn"), control.ask_annotation(PICTURE, "desk", "a")
    control.serve(refuse, annotate)

    with pytest.raises(ModelError, match="unicorn"):
        model.result(0)
    assert picture.done()


def test_a_request_that_was_cancelled_is_not_done():
    control, done = Control(), []
    control.ask_model("yolo").cancel()
    control.serve(lambda name, reason: done.append(name) or name, annotate)

    assert done == []


def test_a_snapshot_is_the_next_annotation():
    control = Control()
    control.saw(annotation("old"))
    snapshot = control.ask_snapshot()
    control.serve(load, annotate)
    assert not snapshot.done()
    control.saw(annotation("new"))

    assert snapshot.result(0).frame.name == "new"


def test_a_snapshot_is_the_last_annotation_when_nothing_comes():
    now = [0.0]
    control = Control(clock=lambda: now[0])
    control.saw(annotation("old"))
    snapshot = control.ask_snapshot()
    now[0] = SNAPSHOT_WAIT_S
    control.serve(load, annotate)

    assert snapshot.result(0).frame.name == "old"


@pytest.mark.parametrize("seen", [[], [np.zeros((2000, 2000, 3), np.uint8)]])
def test_without_a_picture_a_snapshot_says_so(seen):
    """Nor is one kept that would fill a small board."""
    now = [0.0]
    control = Control(clock=lambda: now[0])
    for image in seen:
        control.saw(annotation(image=image))
    snapshot = control.ask_snapshot()
    now[0] = SNAPSHOT_WAIT_S + 1
    control.serve(load, annotate)

    with pytest.raises(LinkError, match="no picture came within 5 s"):
        snapshot.result(0)


def test_whoever_asks_faster_than_the_model_runs_is_refused():
    control = Control()
    asked = [control.ask_annotation(PICTURE, "desk", str(i)) for i in range(17)]

    with pytest.raises(LinkError, match="16 requests are waiting"):
        asked[-1].result(0)
    assert not asked[0].done()


def test_at_the_end_nobody_is_left_waiting():
    control = Control()
    before = [control.ask_model("yolo"), control.ask_snapshot()]
    control.close()
    after = [control.ask_annotation(PICTURE, "desk", "a"), control.ask_snapshot()]

    for future in before + after:
        with pytest.raises(LinkError, match="the daemon is stopping"):
            future.result(0)
