"""Events of tracked objects, their pictures and clips, and states of regions: on a full disk, after kill -9 and restarts all agree."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from tests.brokers import Subscriber, wait_until
from tests.faults.blinking import SETTINGS, disagreements, lamp_model, play, told
from tests.faults.stage import seeded
from tests.faults.test_disk import fill
from tests.patience import DEADLINE_S


@pytest.fixture
def begin(make_stage):
    """A stage on which objects come and go, and the words that start its daemon."""

    def make(fault):
        stage = make_stage(fault)
        settings = play(stage.folder, stage.data_dir / "models")
        out = stage.folder / "out"
        stage.post.start()
        return stage, out, lambda: stage.start("--config", settings, "--out", out, **SETTINGS)

    return make


def has_left(stage):
    return sum(event["event"] == "left" for event in told(stage.post.payloads("events")))


def files(out, suffix):
    return list((out / "events").rglob(f"*{suffix}"))


@pytest.mark.long
@pytest.mark.parametrize("state_too", [False, True], ids=["of its own", "with the state"])
def test_on_a_full_disk_no_event_is_lost_and_no_file_is_half_written(begin, make_stage, make_disk, state_too):
    """Pictures and clips give way where they have a disk of their own; where the state is on it, all waits for room."""
    stage, out, start = begin(f"disk: full of pictures of events, {'with the state' if state_too else 'of its own'}")
    disk = make_disk(stage.folder if state_too else out, 24 * 1024)
    if state_too:  # what was there lies below the mounted one
        play(stage.folder, stage.data_dir / "models")
        stage.inbox.mkdir(parents=True)
    daemon = start()
    stage.wait(lambda: has_left(stage) >= 5 and files(out, ".avi"), "five objects to have left")
    ballast = fill(disk)

    def is_full():
        fill(disk)
        return ("trying again until it works" if state_too else "cannot write files") in daemon.log

    wait_until(is_full, f"the disk to be full: {daemon.log}", DEADLINE_S)
    if not state_too:
        before = has_left(stage)
        stage.wait(lambda: has_left(stage) >= before + 5, "five more objects to have left without files")
    ballast.unlink()
    daemon.wait_log("the store works again" if state_too else "works again")
    objects, pictures = has_left(stage), len(files(out, ".jpg"))
    stage.wait(lambda: has_left(stage) >= objects + 5 and len(files(out, ".jpg")) > pictures, "five more objects to have left")
    stage.stop()
    events = told(stage.post.payloads("events"))

    assert disagreements(events, out) == []
    stage.row.sent = stage.row.received = len(events)
    stage.row.note = f"{len(files(out, '.jpg'))} pictures and {len(files(out, '.avi'))} clips, all whole"


@pytest.mark.long
def test_after_kills_every_event_has_its_picture(begin, request):
    stage, out, start = begin("daemon: kill -9 while objects come and go")
    chance = seeded(request.node.name)
    for _ in range(10):
        daemon, wanted = start(), has_left(stage) + chance.randint(1, 6)
        stage.wait(lambda wanted=wanted: has_left(stage) >= wanted, "objects to have left")
        daemon.kill()
    start()
    wanted = has_left(stage) + 3
    stage.wait(lambda: has_left(stage) >= wanted, "objects to have left")
    stage.stop()
    events = told(stage.post.payloads("events"))
    pictures = {event["picture"] for event in events if "picture" in event}

    assert disagreements(events, out) == []
    assert {str(path.relative_to(out / "events/yard")) for path in files(out, ".jpg")} >= pictures
    stage.row.sent = stage.row.received = len(events)
    stage.row.note = f"{len(pictures)} objects, each with its picture"


@pytest.mark.long
def test_of_200_pictures_with_3_states_3_are_told_and_the_last_is_retained_over_restarts_of_broker_and_daemon(make_stage):
    stage = make_stage("broker and daemon restarted: the state of a region")
    post = stage.post.start()
    lamp_model(stage.data_dir / "models")
    settings = stage.folder / "states.toml"
    settings.write_text('[states.lamp]\nsource = "inbox"\nregion = [0.0, 0.0, 0.5, 0.5]\nmodel = "lamp"\n')
    daemon = stage.start("--config", settings)
    for count, brightness in ((67, 0), (67, 255), (66, 0)):
        stage.jpeg = bytes(cv2.imencode(".jpg", np.full((16, 24, 3), brightness, np.uint8))[1])
        stage.offer(count)
        stage.wait_all()
    states = post.payloads("state/lamp")

    assert [json.loads(state)["state"] for state in states] == ["off", "on", "off"]
    post.end(post.broker.kill)
    post.start()
    stage.wait(lambda: len(post.payloads("state/lamp")) > 3, "the state to be told to the new broker")
    assert retained(post, "lamp") == states[-1]
    daemon.kill()
    post.end(post.broker.kill)
    post.start()
    stage.start("--config", settings)
    stage.offer(20)
    stage.wait_all()
    assert retained(post, "lamp") == states[-1]
    assert set(post.payloads("state/lamp")) == set(states)
    stage.stop()
    stage.verdict("3 states told; the last is there again after each restart")


def retained(post, leaf):
    """The retained message with this last level, as somebody gets it who comes now."""

    def there(reader):
        return [bytes(message.payload) for message in list(reader.messages) if message.retain and message.topic.endswith(f"/{leaf}")]

    late = Subscriber(post.broker, "edgeannot/#")
    try:
        late.wait_for(there, f"a retained message {leaf}")
        return there(late)[0]
    finally:
        late.close()
