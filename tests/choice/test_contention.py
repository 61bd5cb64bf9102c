"""How much a measurement was disturbed: by other programs, and by the host of a virtual machine."""

from __future__ import annotations

import pytest

from edgeannot.choice import measure_child as waiting
from edgeannot.choice.measure_child import Stopwatch, stolen_ticks

STAT = """cpu  3666064 278316 557979 3083858 23938 0 16004 {total} 0 0
cpu0 1636337 141266 260111 1766059 6010 0 2538 {first} 0 0
cpu1 2029726 137050 297803 1317452 17927 0 13465 {second} 0 0
intr 1 2 3
"""


@pytest.mark.parametrize("text", ["", "cpu 1 2 3", "cpu0 1 2 3 4 5", "garbage\ncpux 1 2 3 4 5 6 7 8"])
def test_without_figures_nothing_was_stolen(text):
    assert stolen_ticks(text) == {}


def test_what_the_host_stole_is_told_for_each_core():
    assert stolen_ticks(STAT.format(total=30, first=10, second=20)) == {0: 10, 1: 20}


def test_the_core_that_was_robbed_most_counts(monkeypatch):
    clock, stolen = [100.0], [{0: 10, 1: 20}]
    monkeypatch.setattr(waiting.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(waiting, "_stolen_now", lambda: stolen[0])
    monkeypatch.setattr(waiting, "_waited_s", lambda: 0.0)
    monkeypatch.setattr(waiting.os, "sysconf", lambda _: 100)
    since = Stopwatch.start()
    clock[0], stolen[0] = 101.0, {0: 20, 1: 60, 2: 999}  # the third came online meanwhile: since when it counts is not known

    assert since.seconds() == pytest.approx(1.0)
    assert since.wait_share() == pytest.approx(0.4)


def test_a_count_that_went_backwards_does_not_hide_the_waiting(monkeypatch):
    clock, stolen, waits = [100.0], [{0: 90}], iter([0.0, 10.0])
    monkeypatch.setattr(waiting.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(waiting, "_stolen_now", lambda: stolen[0])
    monkeypatch.setattr(waiting, "_waited_s", lambda: next(waits))
    since = Stopwatch.start()
    clock[0], stolen[0] = 120.0, {0: 0}

    assert since.wait_share() == pytest.approx(0.5)


def test_a_share_is_no_more_than_all_and_no_less_than_nothing(monkeypatch):
    waits = iter([0.0, 1e9, 0.0, -5.0])
    monkeypatch.setattr(waiting, "_stolen_now", dict)
    monkeypatch.setattr(waiting, "_waited_s", lambda: next(waits))

    assert Stopwatch.start().wait_share() == 1.0
    assert Stopwatch.start().wait_share() == 0.0


def test_without_a_proc_file_system_nothing_waited(monkeypatch):
    def refuse(*_, **__):
        raise OSError("no such file")

    monkeypatch.setattr(waiting.Path, "read_text", refuse)
    since = Stopwatch.start()

    assert since.wait_share() == 0.0
