"""A picture's turn: what a suspect has to have survived before it is none."""

import threading

import pytest

from edgeannot.base.errors import FrameError
from edgeannot.crash_guard import AtWork
from edgeannot.sources.contract import Tick
from edgeannot.sources.turn import Turns
from tests.crash_guard.dying import die


@pytest.fixture
def lives(tmp_path):
    """Begin one life of the program after the other, over the same folder."""
    made = []

    def begin():
        made.append(AtWork(tmp_path))
        return made[-1]

    yield begin
    for work in made:
        work.close()


def decoded(work, decode):
    """What becomes of the picture `bad`, as its source has it."""
    steps = Turns("inbox", work, Tick).decode("bad", "bad.jpg", threading.Event(), decode)
    try:
        while True:
            next(steps)
    except StopIteration as end:
        return end.value


@pytest.mark.parametrize("reason", ["memory", "unreadable"])
def test_a_suspect_that_was_not_decoded_stays_one(lives, tmp_path, reason):
    def refuse(isolated):
        raise FrameError("there is no memory for it, or no right to it", reason)

    die(tmp_path, "inbox", "bad")
    work = lives()
    with pytest.raises(FrameError):
        decoded(work, refuse)
    work.close()
    die(tmp_path, "inbox", "bad")
    assert "2 times" in lives().verdict("bad")


def test_a_suspect_that_has_gone_stays_one(lives, tmp_path):
    die(tmp_path, "inbox", "bad")
    work = lives()
    assert decoded(work, lambda isolated: None) == (0, None)
    work.close()
    die(tmp_path, "inbox", "bad")
    assert "2 times" in lives().verdict("bad")


def test_a_suspect_that_is_only_damaged_is_none_any_more(lives, tmp_path):
    def refuse(isolated):
        raise FrameError("its data is damaged", "damaged")

    die(tmp_path, "inbox", "bad")
    work = lives()
    with pytest.raises(FrameError):
        decoded(work, refuse)
    work.close()
    die(tmp_path, "inbox", "bad")
    assert lives().verdict("bad") is None
