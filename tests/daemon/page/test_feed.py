"""What viewers of the live page get: the newest pictures, a bounded strip, and nothing made for nobody."""

from __future__ import annotations

import base64
import collections
import json
import math
import os
import time
from datetime import UTC, datetime

import numpy as np
import pytest

from edgeannot.daemon.page.feed import Feed, History
from edgeannot.vision import draw
from edgeannot.vision.data import Annotation, Detections, Frame, ModelFacts
from edgeannot.vision.decode import decode
from tests.brokers import wait_until
from tests.patience import Clock

MODEL = ModelFacts("nanodet-g@224", "0" * 64, "nanodet", "low")


def annotation(*labels, source="porch", seq=0, size=(64, 48)):
    image = np.full((size[1], size[0], 3), 90, np.uint8)
    n = len(labels)
    found = Detections(np.tile(np.array([4, 4, 40, 40], np.float32), (n, 1)), np.full(n, 0.5, np.float32), np.arange(n))
    return Annotation(Frame(image, source, seq, datetime.now(UTC), str(seq)), found, labels, MODEL, {"total": 40.0})


@pytest.fixture
def drawn(monkeypatch):
    """Sides of the pictures that were encoded."""
    sides = []

    def count(annotation, quality=90, max_side=None, *, labelled=True, real=draw.annotated_jpeg):
        sides.append(max_side)
        return real(annotation, quality, max_side, labelled=labelled)

    monkeypatch.setattr(draw, "annotated_jpeg", count)
    return sides


@pytest.fixture
def feed():
    made = Feed(1000.0)
    made.start(lambda: {"paused": False})
    yield made
    made.close()


def parsed(event):
    name, _, data = event.decode().partition("\n")
    return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


def until(viewer, name, **facts):
    """Read to the event with these facts."""
    for event in viewer:
        if not event.startswith(b":"):
            found, data = parsed(event)
            if found == name and facts.items() <= data.items():
                return data
    raise AssertionError(f"the stream ended before {name} {facts}")


def test_without_pictures_a_viewer_gets_the_figures(feed):
    viewer = feed.watch()

    assert parsed(next(viewer)) == ("hello", {})
    assert until(viewer, "state")["history"]["rows"] == []
    viewer.close()


def test_nothing_is_encoded_while_nobody_looks_but_the_small_pictures(feed, drawn):
    for seq in range(20):
        feed.write(annotation(seq=seq))  # empty ones
    feed.write(annotation("cat", seq=20))

    wait_until(lambda: len(feed._strip) == 1, "the small picture")
    assert drawn == [192]
    assert feed._pictures == {}


def test_a_viewer_gets_the_last_picture_of_each_source_and_the_strip(feed):
    feed.write(annotation("cat", source="garden"))
    feed.write(annotation("dog", "dog", "<b>", source="porch", seq=1))
    wait_until(lambda: len(feed._strip) == 2, "the small pictures")
    viewer = feed.watch()
    small = [until(viewer, "small")["labels"] for _ in range(2)]
    viewer.close()
    viewer = feed.watch()
    porch = until(viewer, "picture", source="porch")
    viewer.close()
    viewer = feed.watch()
    garden = until(viewer, "picture", source="garden")
    viewer.close()

    assert small == [[["cat", 1]], [["dog", 2], ["<b>", 1]]]
    assert [row[0] for row in porch["detections"]] == ["dog", "dog", "<b>"]
    assert porch["size"] == garden["size"] == [64, 48]
    assert decode(base64.b64decode(porch["jpeg"])).image.shape == (48, 64, 3)


def test_when_the_last_viewer_goes_nothing_is_kept_for_him(feed, drawn):
    feed.write(annotation())
    viewer = feed.watch()
    until(viewer, "picture")
    viewer.close()
    drawn.clear()
    feed.write(annotation(seq=1))

    assert feed._pictures == {}
    assert (drawn, feed._viewers) == ([], 0)


def test_a_slow_viewer_passes_over_all_but_the_newest(feed):
    slow, quick = feed.watch(), feed.watch()
    next(slow)
    for seq in range(8):
        feed.write(annotation(*["cat"] * (seq + 1), seq=seq))
        until(quick, "picture", count=seq + 1)

    assert until(slow, "picture")["count"] == 8
    slow.close()
    quick.close()


def test_viewers_share_what_is_drawn(feed, drawn):
    viewers = [feed.watch() for _ in range(10)]
    feed.write(annotation())
    for viewer in viewers:
        until(viewer, "picture")
        viewer.close()

    assert drawn == [960]


def test_viewers_are_bounded(feed):
    viewers = [feed.watch() for _ in range(16)]

    assert feed.watch() is None
    viewers.pop().close()
    last = feed.watch()
    assert last is not None
    for viewer in [*viewers, last]:
        viewer.close()


def test_the_strip_takes_fifty_then_one_a_second_and_always_the_last():
    clock = Clock(100.0)
    feed = Feed(2.0, clock)
    feed._waiting = collections.deque()  # the thread that empties it does not run here
    for seq in range(70):
        feed.write(annotation("cat", seq=seq))
    taken = [number for number, _ in feed._waiting]
    clock.now += 1.0
    feed._release(clock.now)
    feed.write(annotation("cat", seq=70))

    assert taken == list(range(1, 51))
    assert [number for number, _ in feed._waiting][50:] == [70]
    assert feed._withheld[0] == 71
    assert Feed(2.0)._waiting.maxlen == 8


def test_a_picture_wakes_the_drawing_thread_only_for_something_to_do(monkeypatch):
    """Each waking takes the core from the network for a moment."""
    feed, woken = Feed(2.0, Clock(100.0)), []
    feed._allowed = 1.0
    notify = feed._work.notify
    monkeypatch.setattr(feed._work, "notify", lambda: (woken.append(1), notify()))
    feed.start(dict)
    try:
        for seq in range(300):
            feed.write(annotation("cat", seq=seq))
        wait_until(lambda: feed._strip, "the small picture")
        assert len(woken) < 20
    finally:
        feed.close()


def test_while_somebody_looks_a_picture_that_is_not_drawn_yet_wakes_nobody(monkeypatch):
    feed, woken = Feed(0.01, Clock(100.0)), []
    feed.start(dict)
    viewer = feed.watch()
    try:
        feed.write(annotation(seq=0))
        wait_until(lambda: feed._pictures, "the first picture")
        monkeypatch.setattr(feed._work, "notify", lambda: woken.append(1))
        for seq in range(1, 20):
            wait_until(lambda: feed._asleep_until > -math.inf, "the thread to sleep")
            feed.write(annotation(seq=seq))
        assert len(woken) < 3
    finally:
        viewer.close()
        monkeypatch.undo()
        feed.close()


def test_drawing_takes_a_hundredth_of_the_cores_at_most(monkeypatch):
    feed, drawn = Feed(1000.0), []

    def costly(number, kept):
        ends = time.thread_time() + 0.02
        while time.thread_time() < ends:
            pass
        drawn.append(time.monotonic())
        feed._pictures["cam"] = (number, b"")

    monkeypatch.setattr(feed, "_draw", costly)
    feed.start(dict)
    viewer = feed.watch()
    before = time.monotonic()
    try:
        feed.write(annotation("cat", seq=0))
        wait_until(lambda: drawn, "the first picture")
        feed.write(annotation("cat", seq=1))
        wait_until(lambda: len(drawn) > 1, "the second picture")
        assert drawn[1] - before >= 0.02 / (0.01 * len(os.sched_getaffinity(0)))
    finally:
        viewer.close()
        feed.close()


def test_a_large_picture_is_not_kept_whole():
    """A camera of 12 megapixels must not cost 36 MB more while the page is on; boxes stay in the whole picture's pixels."""
    feed = Feed(2.0, Clock(100.0))
    feed.write(annotation("cat", size=(4000, 3000)))
    ((_, kept),) = feed._last.values()
    ((_, small),) = feed._waiting

    assert kept.frame.image.base is None
    assert kept.frame.image.shape[0] * kept.frame.image.shape[1] <= 2_200_000
    assert kept.frame.size_wh == small.frame.size_wh == (4000, 3000)
    assert max(small.frame.image.shape) < 2 * 2 * 192
    assert small.detections.boxes.tolist() == [[4, 4, 40, 40]]


def test_an_error_in_the_figures_ends_nothing(feed, caplog):
    figures = [{"n": 1}]
    feed._figures = lambda: figures[0]
    viewer = feed.watch()
    until(viewer, "state", n=1)
    figures[0] = None
    wait_until(lambda: "internal error of the live page" in caplog.text, "the line in the log")
    figures[0] = {"n": 2}
    until(viewer, "state", n=2)
    viewer.close()


def test_the_end_ends_the_viewers(feed):
    viewer = feed.watch()
    next(viewer)
    feed.close()

    list(viewer)
    assert feed.watch() is None


def test_history_counts_by_steps_and_forgets():
    history = History()
    assert history.rows(0.0) == []
    for now, ms in ((1, 10), (2, 20), (7, 50), (21, 5)):
        history.add(float(now), float(ms))

    assert history.rows(22.0) == [[4, 2, 15.0], [3, 1, 50.0], [0, 1, 5.0]]
    assert history.rows(22.0 + 600) == []
    for now in range(0, 100_000, 5):
        history.add(float(now), 1.0)
    assert len(history._steps) == 120
