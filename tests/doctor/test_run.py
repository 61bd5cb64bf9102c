"""Checks run side by side, each within its time; one that hangs or breaks hides no other."""

import subprocess
import sys
import threading
from pathlib import Path

from edgeannot.doctor import CHECKS, run_checks
from edgeannot.doctor.cameras import _holders
from edgeannot.doctor.findings import Check, Examined, fine


def sound(examined):
    yield fine("sound", "a", "all well")


def test_no_checks_find_nothing():
    assert run_checks(Examined(None), []) == []


def test_a_check_that_hangs_is_a_finding_and_the_others_are_there():
    forever = threading.Event()

    def hanging(examined):
        forever.wait()
        yield fine("never", "b", "")

    found = run_checks(Examined(None), [Check("hanging", hanging, 0.2), Check("sound", sound, 60)])
    forever.set()

    assert [each.code for each in found] == ["hanging-overdue", "sound"]
    assert "0.2 s" in found[0].found


def test_a_check_that_breaks_keeps_what_it_had_found():
    def broken(examined):
        yield fine("first", "b", "")
        raise ZeroDivisionError("by design")

    assert [each.code for each in run_checks(Examined(None), [Check("broken", broken, 60)])] == ["first", "broken-broke"]


def test_the_whole_takes_20_seconds_at_most():
    assert max(check.within_s for check in CHECKS) <= 16  # 4 are for the start and the settings


def test_who_holds_a_device_is_found():
    code = "import sys; file = open('/dev/full', 'wb'); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"open\n"
        assert any(f"(process {holder.pid})" in each for each in _holders(Path("/dev/full")))
        holder.stdin.close()
