"""Between a source and the queue: closed while paused, slow while the governor wants fewer pictures."""

import threading

import numpy as np

from edgeannot.crash_guard import AtWork
from edgeannot.daemon.bounded_queue import BoundedQueue, MemoryLimiter
from edgeannot.daemon.workers import PauseGate, Reader
from edgeannot.remote.control import Control
from edgeannot.vision.data import Frame
from tests.brokers import wait_until
from tests.patience import DEADLINE_S


class Camera:
    """A source whose frames the test gives."""

    name = "door"
    live = True
    removes_input = False
    done_before = 0

    def __init__(self, live=True):
        self.live = live
        self.skipped = 0
        self.given = BoundedQueue(depth=10)

    def items(self, stop):
        while not stop.is_set():
            item = self.given.take(0.05)
            if item is not None:
                yield item


class Stop(threading.Event):
    """Keeps how long it was waited for, and does not."""

    def __init__(self):
        super().__init__()
        self.waits = []

    def wait(self, timeout=None):
        self.waits.append(timeout)
        return self.is_set()


def frame(name):
    return Frame(np.zeros((4, 4, 3), np.uint8), "door", 0, None, name, name=name)


def nothing(*_):
    pass


def test_an_open_gate_does_not_wait_and_counts_what_its_source_counts():
    source = Camera()
    gate = PauseGate(source, Control())
    source.skipped = 3

    assert not gate.wait_open(threading.Event(), nothing)
    assert gate.skipped == 3


def test_frames_that_pass_by_during_a_pause_are_not_lost_and_signs_of_life_go_on():
    source, control, heartbeats = Camera(), Control(), []
    gate = PauseGate(source, control)
    source.skipped = 2
    control.change(paused=True)

    def heartbeat():
        heartbeats.append(gate.skipped)
        source.skipped += 10
        if len(heartbeats) == 2:
            control.change(paused=False)

    assert gate.wait_open(threading.Event(), heartbeat)
    assert heartbeats == [2, 2]
    assert gate.skipped == 2
    source.skipped += 1
    assert gate.skipped == 3


def test_a_stop_ends_the_wait_at_a_closed_gate():
    control, stop = Control(), threading.Event()
    control.change(paused=True)
    stop.set()

    assert PauseGate(Camera(), control).wait_open(stop, nothing)


def test_a_file_is_followed_by_the_rest_that_the_rate_wants_in_pieces():
    stop = Stop()
    PauseGate(Camera(live=False), Control(), lambda: 2.5).rest(stop, nothing)
    PauseGate(Camera(live=False), Control(), lambda: 0.0).rest(stop, nothing)
    PauseGate(Camera(live=True), Control(), lambda: 2.5).rest(stop, nothing)

    assert stop.waits == [1.0, 1.0, 0.5]


def reading(source, control):
    """A reader in a thread of its own; returns its inbox and a function that ends it."""
    inbox, stop = BoundedQueue(depth=10), threading.Event()
    made = Reader(
        source=source,
        frames=inbox,
        gate=PauseGate(source, control),
        limiter=MemoryLimiter(10**6),
        at_work=AtWork(),
        stop=stop,
        heartbeat=nothing,
    )
    reader = threading.Thread(target=made.run)
    reader.start()

    def end():
        stop.set()
        inbox.cancel()
        reader.join(DEADLINE_S)

    return inbox, end


def test_while_paused_a_cameras_frame_is_dropped_and_a_folders_picture_waits():
    for live, expected in ((True, ["after"]), (False, ["during", "after"])):
        source, control = Camera(live), Control()
        inbox, end = reading(source, control)
        source.given.put(frame("before"))
        wait_until(lambda inbox=inbox: len(inbox) == 1, "the first picture")
        assert inbox.take(0).name == "before"
        control.change(paused=True)
        source.given.put(frame("during"))
        wait_until(lambda source=source: not len(source.given), "the source to be asked")
        assert inbox.take(0.2) is None
        control.change(paused=False)
        source.given.put(frame("after"))
        wait_until(lambda inbox=inbox, expected=expected: len(inbox) == len(expected), "the pictures")

        assert [inbox.take(0).name for _ in expected] == expected
        end()
