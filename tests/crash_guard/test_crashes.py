"""Which deaths count, and which pictures are suspected."""

import json

import pytest

from edgeannot.crash_guard.crashes import CrashRecord, cause_of
from edgeannot.crash_guard.record import PLACES, Kills, Note, OomCounter, Record, RunState, boot_id, killed_between

SEGV = 'Fatal Python error: Segmentation fault\n\nStack (most recent call first):\n  File "picture.py", line 1 in decode\n'
ABORT = 'Fatal Python error: Aborted\n\nStack (most recent call first):\n  File "{file}", line 1 in f\n'
ONE = Note("a" * 32, "inbox", "one.jpg", "decoding")
TWO = Note("b" * 32, "inbox", "two.jpg", "inferring")
FRAME = Note("", "porch", "2026/1.jpg", "inferring")


def test_without_a_sign_of_its_own_or_the_kernels_no_picture_is_to_blame():
    assert cause_of(RunState("boot", Kills("g", 1, 1)), "boot", Kills("g", 1, 1), "") is None


def test_a_crash_trace_is_a_sign_and_so_is_a_process_killed_for_want_of_memory():
    assert cause_of(RunState("boot"), "boot", Kills(), SEGV) == ("Segmentation fault", "")
    assert cause_of(RunState("boot", Kills("g", 1, 5)), "boot", Kills("g", 2, 6), "") == ("killed by the kernel: out of memory", "")


def test_of_another_boot_nothing_counts():
    assert cause_of(RunState("boot", Kills("g", 1, 1)), "another", Kills("g", 9, 9), SEGV) is None


@pytest.mark.parametrize(
    ("before", "after", "killed"),
    [
        (Kills(), Kills(), False),
        (Kills("g", 0, 1), Kills("g", 0, 2), False),  # elsewhere on the board
        (Kills("g", 0, 1), Kills("g", 1, 2), True),
        (Kills("g#1", 3, 1), Kills("g#2", 0, 2), True),  # the group went with its process
        (Kills("g#1", 3, 1), Kills("g#2", 0, 1), False),
        (Kills("", None, 1), Kills("", None, 2), True),
        (Kills("", None, None), Kills("g", 1, 2), False),
    ],
)
def test_the_count_of_the_own_group_goes_before_that_of_the_board(before, after, killed):
    assert killed_between(before, after) is killed


def test_an_abort_from_outside_counts_only_where_the_watchdog_waited_for_a_picture():
    sent = ABORT.format(file="edgeannot/daemon/supervisor.py")
    assert cause_of(RunState("boot"), "boot", Kills(), sent) is None
    assert cause_of(RunState("boot", Kills(), "write"), "boot", Kills(), sent) is None  # a disk may hang
    why, stage = cause_of(RunState("boot", Kills(), "read inbox"), "boot", Kills(), sent)
    assert (why, stage) == ("it hung while decoding until the watchdog ended it", "decoding")
    assert cause_of(RunState("boot"), "boot", Kills(), ABORT.format(file="edgeannot/vision/decode.py")) == ("Aborted", "")


def test_a_picture_is_set_aside_after_two_deaths_the_last_one_alone(tmp_path, caplog):
    crashes = CrashRecord(tmp_path / "crashes.json")
    crashes.add([ONE, TWO], "Segmentation fault")
    assert crashes.verdict(ONE.key) is None
    crashes.add([ONE, TWO], "Segmentation fault")
    assert crashes.verdict(ONE.key) is None, "twice, and never alone"
    crashes.add([ONE], "Segmentation fault")
    assert "3 times" in crashes.verdict(ONE.key)
    assert crashes.verdict(TWO.key) is None
    assert "processed one.jpg; it will be set aside" in caplog.messages[-1]
    again = CrashRecord(tmp_path / "crashes.json")
    assert (again.verdict(ONE.key), again.is_suspect(TWO.key)) == (crashes.verdict(ONE.key), True)
    again.clear(TWO.key)
    assert not CrashRecord(tmp_path / "crashes.json").is_suspect(TWO.key)


def test_a_hang_makes_only_the_stage_that_hung_suspected(tmp_path):
    crashes = CrashRecord(tmp_path / "crashes.json")
    crashes.add([ONE, TWO], "it hung", "inferring")
    assert (crashes.is_suspect(ONE.key), crashes.is_suspect(TWO.key)) == (False, True)


def test_a_camera_is_counted_and_never_set_aside(tmp_path, caplog):
    crashes = CrashRecord(tmp_path / "crashes.json")
    for _ in range(3):
        crashes.add([FRAME, FRAME], "Segmentation fault")
    assert crashes.cameras == {"porch": 3}
    assert crashes.verdict(FRAME.key) is None
    assert "processed a frame of porch" in caplog.messages[-1]


BOOKS = (
    "",
    "[]",
    "{",
    '{"schema":2,"version":null}',
    '{"schema":2,"version":"V","pictures":[1],"cameras":{"a":"b"}}',
    '{"schema":2,"version":"V","pictures":{"k":{"count":"9"},"l":7},"cameras":3}',
)


@pytest.mark.parametrize("book", BOOKS)
def test_a_crash_record_that_makes_no_sense_is_an_empty_one(tmp_path, book):
    from edgeannot import __version__

    (tmp_path / "crashes.json").write_text(book.replace("V", __version__) if book.startswith('{"schema"') else book)
    crashes = CrashRecord(tmp_path / "crashes.json")
    assert (crashes.cameras, crashes.is_suspect("k")) == ({}, False)


def test_another_version_of_the_program_tries_everything_again(tmp_path):
    CrashRecord(tmp_path / "crashes.json").add([ONE], "Segmentation fault")
    book = json.loads((tmp_path / "crashes.json").read_text())
    (tmp_path / "crashes.json").write_text(json.dumps({**book, "version": "older"}))
    assert not CrashRecord(tmp_path / "crashes.json").is_suspect(ONE.key)


def test_the_record_is_there_for_the_next_process(tmp_path):
    record = Record(tmp_path / "at-work")
    assert record.read() == (RunState(), [])
    head = RunState("boot", Kills("group", 1, 2), "infer")
    record.begin(head)
    record.put(0, ONE)
    record.put(PLACES - 1, Note("c" * 32, "s" * 500, "\udcff\n" + "名" * 500, "storing"))
    record.put(1, TWO)
    record.clear(1)
    found, notes = Record(tmp_path / "at-work").read()
    assert found == head
    assert [note.key for note in notes] == [ONE.key, "c" * 32]
    assert notes[1].name.startswith("\ufffd")
    record.close()
    assert Record(tmp_path / "at-work").read()[1] == []


@pytest.mark.parametrize(
    "rubbish", [b"\xff" * 5000, b"[" * 200_000, b'{"schema":2,"kills":{"in_group":"x"}}\n' * 4000, b'{"key":1}\n' * 90_000]
)
def test_a_record_that_makes_no_sense_is_an_empty_one(tmp_path, rubbish):
    (tmp_path / "at-work").write_bytes(rubbish)
    assert Record(tmp_path / "at-work").read()[1] == []


def test_a_record_is_not_written_through_a_link(tmp_path):
    (tmp_path / "other").write_text("precious")
    (tmp_path / "at-work").symlink_to(tmp_path / "other")
    with pytest.raises(OSError, match="symbolic"):
        Record(tmp_path / "at-work")


def test_the_kernel_is_asked_where_it_counts(tmp_path):
    assert (boot_id(tmp_path), OomCounter(tmp_path).read()) == ("", Kills())
    for name, text in {
        "proc/vmstat": "nr_free_pages 5\noom_kill 7\n",
        "proc/self/cgroup": "0::/box\n",
        "proc/self/mountinfo": "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
        "sys/fs/cgroup/box/memory.events": "low 0\noom 3\noom_kill 2\noom_group_kill 0\n",
        "proc/sys/kernel/random/boot_id": "27543bc5-f6d1-41f0-aa08-18c342ead493\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    kills = OomCounter(tmp_path).read()
    assert (kills.in_group, kills.on_board) == (2, 7)
    assert boot_id(tmp_path) == "27543bc5-f6d1-41f0-aa08-18c342ead493"


def test_this_kernel_tells_its_boot():
    assert len(boot_id()) == 36
