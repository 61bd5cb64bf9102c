"""Which file is complete, where the kernel does not say so."""

from __future__ import annotations

import os
import time

import pytest

from edgeannot.base.file_signature import FileSignature
from edgeannot.sources.backlog import Backlog, held_for_writing
from tests.patience import DEADLINE_S


def scan(backlog):
    for _ in backlog.scan():
        pass


def wait_for(backlog, deadline_s=DEADLINE_S):
    """Settle until something is ready."""
    end = time.monotonic() + deadline_s
    while not backlog.ready:
        assert time.monotonic() < end
        backlog.settle()
    return backlog.next()


def test_an_empty_backlog_has_nothing_to_give(tmp_path):
    backlog = Backlog(str(tmp_path))
    scan(backlog)
    backlog.settle()

    assert backlog.next() is None
    assert len(backlog) == 0


def test_a_young_file_is_ready_at_once_when_the_kernel_knows_no_writer(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"x")
    backlog = Backlog(str(tmp_path), held=lambda _: False)

    scan(backlog)

    assert backlog.next() == "a.jpg"


@pytest.mark.parametrize("shift_s", [0, 3600])
def test_a_young_file_has_to_look_the_same_twice_when_the_kernel_does_not_know(tmp_path, shift_s):
    """Also with a time in the future, as on a board whose clock was not set yet."""
    path = tmp_path / "a.jpg"
    path.write_bytes(b"x")
    os.utime(path, (time.time() + shift_s, time.time() + shift_s))
    backlog = Backlog(str(tmp_path), settle_s=0.2, held=lambda _: None)
    scan(backlog)
    began = time.monotonic()

    assert backlog.next() is None
    assert wait_for(backlog) == "a.jpg"
    assert time.monotonic() - began >= 0.19


def test_a_file_that_grows_is_not_ready(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"x")
    backlog = Backlog(str(tmp_path), settle_s=2.0, held=lambda _: None)  # far longer than a busy machine lets this process wait
    scan(backlog)

    end = time.monotonic() + 3.0
    while time.monotonic() < end:
        with path.open("ab") as file:
            file.write(b"x")
        backlog.settle()
        assert not backlog.ready

    assert wait_for(backlog) == "a.jpg"


def test_an_old_file_is_ready_without_asking(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"x")
    os.utime(tmp_path / "a.jpg", (1e9, 1e9))

    def not_asked(path):
        raise AssertionError(path)

    backlog = Backlog(str(tmp_path), held=not_asked)
    scan(backlog)

    assert backlog.next() == "a.jpg"


def test_a_file_that_is_held_open_waits(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"x")
    held = [True]
    backlog = Backlog(str(tmp_path), settle_s=0.05, held=lambda _: held[0])
    scan(backlog)

    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        backlog.settle()
        assert not backlog.ready
    held[0] = False

    assert wait_for(backlog) == "a.jpg"


def test_a_file_waits_in_one_place_only(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"x")
    backlog = Backlog(str(tmp_path), held=lambda _: None)

    scan(backlog)
    scan(backlog)
    assert len(backlog) == 1
    backlog.add_complete("a.jpg")
    backlog.add_complete("a.jpg")
    scan(backlog)

    assert len(backlog) == 1
    assert backlog.next() == "a.jpg"
    assert backlog.next() is None


def test_what_was_seen_comes_back_only_when_it_changes(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"x")
    backlog = Backlog(str(tmp_path), held=lambda _: False)
    backlog.mark_seen("a.jpg", FileSignature.of(path.stat()))

    scan(backlog)
    assert backlog.next() is None
    path.write_bytes(b"longer")
    scan(backlog)

    assert backlog.next() == "a.jpg"


def test_what_is_no_longer_there_is_forgotten(tmp_path):
    """The table of files that were seen must not grow for ever in a folder that is emptied."""
    signature = FileSignature(1, 2, 3)
    backlog = Backlog(str(tmp_path))
    backlog.mark_seen("gone.jpg", signature)

    scan(backlog)

    assert not backlog.is_seen("gone.jpg", signature)


def test_a_hundred_thousand_files_cost_little_memory(tmp_path):
    import tracemalloc

    backlog = Backlog(str(tmp_path))
    tracemalloc.start()
    for number in range(100_000):
        backlog.add_complete(f"2026-07-01/camera-{number:06d}.jpg")
    waiting = tracemalloc.get_traced_memory()[0]
    while (name := backlog.next()) is not None:
        backlog.mark_seen(name, FileSignature(1, 2, 3))
    seen = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()

    assert waiting < 25e6
    assert seen < 12e6


def test_the_kernel_knows_who_writes(tmp_path):
    path = tmp_path / "a.jpg"
    with path.open("wb"):
        held = held_for_writing(str(path))
    if held is None:
        pytest.skip("the file system of the temporary folder knows no leases")

    assert held is True
    assert held_for_writing(str(path)) is False
    assert held_for_writing(str(tmp_path / "none")) is None
