"""Who may begin: all at once, a suspected picture in isolation."""

import threading

import pytest

from edgeannot.crash_guard import AtWork
from edgeannot.crash_guard.crashes import CrashRecord
from edgeannot.crash_guard.record import Note
from edgeannot.crash_guard.work import _key


@pytest.fixture
def make_work(tmp_path):
    """Make what an earlier run left behind, with these pictures as suspects."""
    made = []

    def make(*suspects, cameras=()):
        crashes = CrashRecord(tmp_path / "crashes.json")
        notes = [Note(_key(name), "inbox", name, "decoding") for name in suspects] + [
            Note("", name, "a frame", "inferring") for name in cameras
        ]
        if notes:
            crashes.add(notes, "Segmentation fault")
        made.append(AtWork(tmp_path))
        return made[-1]

    yield make
    for work in made:
        work.close()


def test_pictures_without_a_past_do_not_wait_for_each_other():
    work = AtWork()
    assert len({work.enter("inbox", f"{number}", f"{number}.jpg") for number in range(500)}) == 500


def test_a_suspect_waits_for_all_others_and_they_for_it(make_work):
    work = make_work("bad")
    other = work.enter("inbox", "fine", "fine.jpg")
    assert work.enter("inbox", "bad", "bad.jpg") is None
    assert work.isolation_wanted
    assert work.enter("door", "later", "later.jpg") is None, "else it would wait for ever"
    work.leave(other)
    bad = work.enter("inbox", "bad", "bad.jpg")
    assert bad
    assert work.enter("door", "later", "later.jpg") is None
    work.leave(bad)
    assert work.enter("door", "later", "later.jpg")
    assert not work.isolation_wanted
    assert work.enter("inbox", "bad", "bad.jpg"), "it was done, and is no suspect any more"


def test_a_suspect_that_is_not_asked_for_any_more_holds_nobody_up(tmp_path):
    CrashRecord(tmp_path / "crashes.json").add([Note(_key("bad"), "inbox", "bad", "decoding")], "Segmentation fault")
    now = [0.0]
    work = AtWork(tmp_path, clock=lambda: now[0])
    other = work.enter("inbox", "fine", "fine.jpg")
    assert work.enter("inbox", "bad", "bad.jpg") is None
    assert work.enter("inbox", "next", "next.jpg") is None
    now[0] = 60.0
    assert work.enter("inbox", "next", "next.jpg")
    work.leave(other)
    work.close()


def test_a_wait_ends_when_the_others_are_done(make_work):
    work = make_work("bad")
    other = work.enter("inbox", "fine", "fine.jpg")
    threading.Timer(0.05, work.leave, [other]).start()
    assert work.enter("inbox", "bad", "bad.jpg", 60)


def test_who_needs_all_the_memory_is_alone_as_well():
    work = AtWork()
    other = work.enter("inbox", "fine", "fine.jpg")
    assert work.enter("inbox", "large", "large.png", isolated=True) is None
    work.leave(other)
    large = work.enter("inbox", "large", "large.png", isolated=True)
    assert work.enter("inbox", "next", "next.jpg") is None
    work.leave(large)


def test_two_deaths_the_last_one_alone_are_a_verdict(make_work):
    assert make_work().verdict("bad") is None
    assert make_work("bad", "fine").verdict("bad") is None
    work = make_work("bad")
    assert "2 times" in work.verdict("bad")
    assert work.verdict("fine") is None
    assert work.verdict("") is None


def test_there_are_suspects_until_there_is_a_verdict(make_work):
    assert not make_work().has_suspects
    assert make_work("bad", "fine").has_suspects
    work = make_work("bad")
    assert work.has_suspects, "the other one"
    work.leave(work.enter("inbox", "fine", "fine.jpg"))
    assert not work.has_suspects


def test_a_camera_waits_longer_after_each_death(make_work):
    assert make_work().pause_s("porch") == (0.0, 0)
    assert make_work(cameras=["porch"]).pause_s("porch") == (2.0, 1)
    assert make_work(cameras=["porch"]).pause_s("porch") == (4.0, 2)


def test_more_pictures_than_the_record_has_places_are_worked_on_as_well(make_work):
    work = make_work()
    places = [work.enter("inbox", f"{number}", f"{number}.jpg") for number in range(300)]
    for place in places:
        work.move(place, "storing")
        work.leave(place)
    assert work.enter("inbox", "one more", "one more.jpg")


def test_a_folder_that_takes_no_record_costs_the_record_alone(tmp_path, caplog):
    (tmp_path / "at-work").mkdir()
    work = AtWork(tmp_path)
    assert work.enter("inbox", "fine", "fine.jpg")
    assert "cannot be found" in caplog.text
    work.close()


def test_a_camera_that_does_not_come_back_from_a_read_stops_nobody_for_ever(make_work, tmp_path):
    make_work("bad").close()
    now = [0.0]
    work = AtWork(tmp_path, clock=lambda: now[0])
    camera = work.enter("porch", "", "/dev/video0", stage="capturing")
    while (bad := work.enter("inbox", "bad", "bad.jpg")) is None and now[0] < 600:
        assert work.enter("door", "next", "next.jpg") is None
        now[0] += 0.5
    assert bad
    assert now[0] > 30, "one that answers is waited for"
    work.leave(bad)
    assert work.enter("door", "next", "next.jpg")
    work.leave(camera)
    work.close()


def test_the_same_message_twice_at_work_counts_as_one_death(tmp_path):
    twice = [Note(_key("bad"), "worker", "bad", "decoding")] * 2
    crashes = CrashRecord(tmp_path / "crashes.json")
    crashes.add(twice, "Segmentation fault")
    crashes.add([twice[0]], "Segmentation fault")
    assert "2 times" in crashes.verdict(_key("bad"))


@pytest.mark.usefixtures("bound_by_permissions")
def test_last_words_that_may_not_be_written_cost_the_record_alone(tmp_path, caplog):
    (tmp_path / "crash-trace.txt").touch(0o400)
    work = AtWork(tmp_path)
    assert work.enter("inbox", "fine", "fine.jpg")
    assert "cannot be found" in caplog.text
    work.close()


def test_a_crash_with_no_picture_at_work_is_said_at_the_next_start(tmp_path, caplog):
    (tmp_path / "crash-trace.txt").write_text("Fatal Python error: Segmentation fault\n\nStack (most recent call first):\n")
    AtWork(tmp_path).close()
    assert f"crashed (Segmentation fault); its trace is in {tmp_path / 'crash-trace.txt.old'}" in caplog.text


def test_a_runtime_that_died_is_named_with_what_to_do(tmp_path, caplog):
    """As LiteRT does in an emulator that it is too new for, before any picture is at work."""
    frames = '  File "/opt/lib/ai_edge_litert/interpreter.py", line 575 in allocate_tensors\n  File "/opt/lib/engine.py", line 86 in x\n'
    (tmp_path / "crash-trace.txt").write_text(f"Fatal Python error: Segmentation fault\n\nStack (most recent call first):\n{frames}")
    AtWork(tmp_path).close()
    assert "crashed (Segmentation fault) in the runtime litert, in allocate_tensors: `edgeannot doctor` tries each model" in caplog.text
