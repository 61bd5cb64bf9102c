"""How a command ends that somebody interrupts, or whose output nobody reads."""

from __future__ import annotations

import subprocess
import sys

import pytest

START = "from edgeannot.exits import guarded\n"


def ended(body: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", f"{START}{body}"], capture_output=True, text=True, timeout=60, check=False)


def test_an_interruption_is_no_fault():
    done = ended("def command(): raise KeyboardInterrupt\nguarded(command)")

    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize("flush", [True, False])
def test_a_reader_that_has_seen_enough_is_no_fault(flush):
    body = f"def command(): print('x' * 100_000, flush={flush})\nguarded(command)"
    with subprocess.Popen([sys.executable, "-c", START + body], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        said = process.stderr.read()

    assert (process.returncode, said) == (1, b"")


def test_what_the_user_may_not_is_one_sentence():
    done = ended("def command(): raise PermissionError(13, 'Permission denied', '/var/lib/private/edgeannot')\nguarded(command)")

    assert done.returncode == 77
    assert done.stderr.startswith("edgeannot: /var/lib/private/edgeannot: this user has no right to it; ")
    assert done.stderr.count("\n") == 1


def test_another_fault_is_told_whole():
    done = ended("def command(): raise OSError(28, 'No space left on device')\nguarded(command)")

    assert done.returncode == 70
    assert "Traceback" in done.stderr
    assert "a fault of the program itself: OSError" in done.stderr
