"""What is learned from a broker that hangs up: the size that it does not take, and nothing from what breaks for other reasons."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeannot.mqtt.connection_history import InFlight, PayloadLimits
from edgeannot.storage.queue import Message
from tests.patience import Clock


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def limits(clock):
    return PayloadLimits(clock)


def image(number, size):
    return InFlight(Message("t/image", bytes(size), "image", id=number), is_volatile=False)


def result(number, size=500):
    return InFlight(Message("t/detections", bytes(size), id=number), is_volatile=False)


def test_nothing_is_in_doubt_at_first(limits):
    assert limits.suspect_bytes is None
    assert not limits.is_suspect(10**9)
    assert limits.refused(10**9) is None
    assert limits.lost([]) is None


def test_after_a_break_the_pictures_in_flight_are_in_doubt_and_no_result_is(limits):
    assert limits.lost([result(1, 90_000), image(2, 5000), result(3), image(4, 4000)]) is None

    assert limits.suspect_bytes == 4000
    assert limits.refused(5000) is None


def test_a_break_with_results_alone_puts_nothing_in_doubt(limits):
    assert limits.lost([result(1), result(2, 90_000)]) is None
    assert limits.suspect_bytes is None


def test_what_is_small_is_never_in_doubt(limits):
    status = InFlight(Message("t/status", bytes(200), "status", retain=True), is_volatile=True)

    assert limits.lost([status]) is None
    assert limits.suspect_bytes is None


def test_two_breaks_in_a_row_with_one_picture_alone_are_the_proof(limits):
    limits.lost([result(1), image(2, 5000), image(4, 4000)])
    assert limits.lost([image(2, 5000)]) is None
    assert limits.lost([image(2, 5000)]) == image(2, 5000)

    assert (limits.refused(4999), limits.refused(5000), limits.refused(9000)) == (None, 5000, 5000)
    assert limits.lost([image(4, 4000)]) is None, "another one is another question"
    assert limits.lost([image(4, 4000)]) == image(4, 4000)
    assert limits.refused(4000) == 4000


def test_a_break_without_it_in_between_acquits_it(limits):
    limits.lost([image(2, 5000)])
    assert limits.lost([]) is None
    assert limits.lost([image(2, 5000)]) is None
    assert limits.lost([result(3)]) is None
    assert limits.lost([image(2, 5000)]) is None
    assert limits.refused(5000) is None


def test_a_broker_that_says_why_is_obeyed_at_once(limits):
    assert limits.lost([image(2, 5000)], said_why=True) == image(2, 5000)
    assert limits.refused(5000) == 5000


def test_what_the_broker_acknowledges_is_no_longer_in_doubt(limits):
    limits.lost([image(2, 5000), image(4, 4000)])
    limits.acknowledged(4500)
    assert (limits.is_suspect(4500), limits.is_suspect(4501)) == (False, True)
    limits.acknowledged(5000)
    assert limits.suspect_bytes is None
    assert limits.lost([image(5, 5000)]) is None
    assert limits.suspect_bytes is None, "as large a one was taken"


def test_a_broker_that_no_longer_takes_what_it_took_is_found_out(limits):
    limits.acknowledged(9000)
    for _ in range(2):
        assert limits.lost([result(1), image(2, 5000)]) is None
    assert limits.suspect_bytes == 5000
    assert limits.lost([image(2, 5000)]) is None
    assert limits.lost([image(2, 5000)]) == image(2, 5000)


def test_a_limit_that_was_wrong_is_forgotten_when_something_larger_is_taken_or_after_an_hour(limits, clock):
    for _ in range(2):
        limits.lost([image(2, 5000)])
    assert limits.refused(6000) == 5000
    limits.acknowledged(5500)  # a result
    assert limits.refused(6000) is None
    for _ in range(2):
        limits.lost([image(2, 6000)])
    clock.now = 3599.0
    assert limits.refused(6000) == 6000
    clock.now = 3601.0
    assert limits.refused(6000) is None
    assert limits.is_suspect(6000), "it is tried again last and alone"


def test_what_goes_past_the_outbox_is_known_again_by_its_topic(limits):
    info = InFlight(Message("t/info", bytes(3000), "info", retain=True), is_volatile=True)
    limits.lost([info])

    assert limits.lost([replace(info, message=replace(info.message, payload=bytes(3001)))]) is not None
