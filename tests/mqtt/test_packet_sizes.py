"""What is learned from a broker that hangs up: the size that it does not take, and nothing from what breaks for other reasons."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeannot.mqtt.packet_sizes import InFlight, PayloadLimits
from edgeannot.storage.records import Message


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def sizes(clock):
    return PayloadLimits(clock)


def image(number, size):
    return InFlight(Message("t/image", bytes(size), "image", id=number), is_volatile=False)


def result(number, size=500):
    return InFlight(Message("t/detections", bytes(size), id=number), is_volatile=False)


def test_nothing_is_in_doubt_at_first(sizes):
    assert sizes.doubt is None
    assert not sizes.is_doubtful(10**9)
    assert sizes.refused(10**9) is None
    assert sizes.lost([]) is None


def test_after_a_break_the_pictures_in_flight_are_in_doubt_and_no_result_is(sizes):
    assert sizes.lost([result(1, 90_000), image(2, 5000), result(3), image(4, 4000)]) is None

    assert sizes.doubt == 4000
    assert sizes.refused(5000) is None


def test_a_break_with_results_alone_puts_nothing_in_doubt(sizes):
    assert sizes.lost([result(1), result(2, 90_000)]) is None
    assert sizes.doubt is None


def test_what_is_small_is_never_in_doubt(sizes):
    status = InFlight(Message("t/status", bytes(200), "status", retain=True), is_volatile=True)

    assert sizes.lost([status]) is None
    assert sizes.doubt is None


def test_two_breaks_in_a_row_with_one_picture_alone_are_the_proof(sizes):
    sizes.lost([result(1), image(2, 5000), image(4, 4000)])
    assert sizes.lost([image(2, 5000)]) is None
    assert sizes.lost([image(2, 5000)]) == image(2, 5000)

    assert (sizes.refused(4999), sizes.refused(5000), sizes.refused(9000)) == (None, 5000, 5000)
    assert sizes.lost([image(4, 4000)]) is None, "another one is another question"
    assert sizes.lost([image(4, 4000)]) == image(4, 4000)
    assert sizes.refused(4000) == 4000


def test_a_break_without_it_in_between_acquits_it(sizes):
    sizes.lost([image(2, 5000)])
    assert sizes.lost([]) is None
    assert sizes.lost([image(2, 5000)]) is None
    assert sizes.lost([result(3)]) is None
    assert sizes.lost([image(2, 5000)]) is None
    assert sizes.refused(5000) is None


def test_a_broker_that_says_why_is_obeyed_at_once(sizes):
    assert sizes.lost([image(2, 5000)], said_why=True) == image(2, 5000)
    assert sizes.refused(5000) == 5000


def test_what_the_broker_acknowledges_is_no_longer_in_doubt(sizes):
    sizes.lost([image(2, 5000), image(4, 4000)])
    sizes.acknowledged(4500)
    assert (sizes.is_doubtful(4500), sizes.is_doubtful(4501)) == (False, True)
    sizes.acknowledged(5000)
    assert sizes.doubt is None
    assert sizes.lost([image(5, 5000)]) is None
    assert sizes.doubt is None, "as large a one was taken"


def test_a_broker_that_no_longer_takes_what_it_took_is_found_out(sizes):
    sizes.acknowledged(9000)
    for _ in range(2):
        assert sizes.lost([result(1), image(2, 5000)]) is None
    assert sizes.doubt == 5000
    assert sizes.lost([image(2, 5000)]) is None
    assert sizes.lost([image(2, 5000)]) == image(2, 5000)


def test_a_limit_that_was_wrong_is_forgotten_when_something_larger_is_taken_or_after_an_hour(sizes, clock):
    for _ in range(2):
        sizes.lost([image(2, 5000)])
    assert sizes.refused(6000) == 5000
    sizes.acknowledged(5500)  # a result
    assert sizes.refused(6000) is None
    for _ in range(2):
        sizes.lost([image(2, 6000)])
    clock.now = 3599.0
    assert sizes.refused(6000) == 6000
    clock.now = 3601.0
    assert sizes.refused(6000) is None
    assert sizes.is_doubtful(6000), "it is tried again last and alone"


def test_what_goes_past_the_outbox_is_known_again_by_its_topic(sizes):
    info = InFlight(Message("t/info", bytes(3000), "info", retain=True), is_volatile=True)
    sizes.lost([info])

    assert sizes.lost([replace(info, message=replace(info.message, payload=bytes(3001)))]) is not None
