"""The queue between two threads: waits for files, replaces old frames of a live camera, ends in order."""

import threading

import pytest

from edgeannot.daemon.bounded_queue import BoundedQueue, Closed
from tests.patience import DEADLINE_S


def test_an_empty_queue_gives_nothing_within_the_timeout():
    assert BoundedQueue[int]().take(timeout_s=0.0) is None


def test_items_come_out_in_the_order_they_went_in():
    queue = BoundedQueue[int](depth=3)
    for i in range(3):
        assert queue.put(i)

    assert [queue.take(), queue.take(), queue.take()] == [0, 1, 2]


def test_a_full_queue_makes_a_giver_wait_until_one_is_taken():
    queue = BoundedQueue[int](depth=1)
    assert queue.put(0)
    assert not queue.put(1, timeout_s=0.0)
    given = threading.Event()
    giver = threading.Thread(target=lambda: (queue.put(1, timeout_s=DEADLINE_S), given.set()))
    giver.start()

    assert queue.take() == 0
    assert given.wait(DEADLINE_S)
    giver.join(DEADLINE_S)
    assert queue.take() == 1


def test_each_giver_has_its_own_depth_so_one_cannot_starve_another():
    queue = BoundedQueue[str](depth=1)
    assert queue.put("a", giver="folder")

    assert queue.put("b", giver="camera", timeout_s=0.0)


def test_a_live_giver_replaces_its_own_oldest_item_and_counts_it():
    queue = BoundedQueue[str](depth=2)
    queue.put("file", giver="folder")
    for frame in ("old", "newer", "newest"):
        assert queue.put(frame, giver="camera", replace=True)

    assert [queue.take(), queue.take(), queue.take()] == ["file", "newer", "newest"]
    assert queue.replaced == 1


def test_producers_take_turns_however_much_each_has_waiting():
    queue = BoundedQueue[str](depth=3)
    for item in ("f1", "f2", "f3"):
        queue.put(item, giver="folder")
    queue.put("c1", giver="camera")
    first = [queue.take() for _ in range(2)]
    queue.put("c2", giver="camera")
    queue.put("d1", giver="door")

    assert first == ["f1", "c1"]
    assert [queue.take() for _ in range(4)] == ["d1", "f2", "c2", "f3"]


def test_waiting_until_what_a_producer_gave_was_taken():
    queue = BoundedQueue[str]()
    assert queue.wait_taken("camera", timeout_s=0.0)
    queue.put("frame", giver="camera")
    assert not queue.wait_taken("camera", timeout_s=0.0)
    queue.take()
    assert queue.wait_taken("camera", timeout_s=0.0)
    queue.put("frame", giver="camera")
    queue.cancel()
    assert queue.wait_taken("camera", timeout_s=0.0)


def test_after_the_end_what_is_inside_is_taken_and_then_it_is_closed():
    queue = BoundedQueue[int]()
    queue.put(1)
    queue.end()

    assert queue.take() == 1
    with pytest.raises(Closed):
        queue.take()
    with pytest.raises(Closed):
        queue.put(2)


def test_cancel_drops_what_is_inside():
    queue = BoundedQueue[int]()
    queue.put(1)
    queue.cancel()

    with pytest.raises(Closed):
        queue.take()
