"""How a command ends that somebody interrupts, or whose output nobody reads."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.patience import DEADLINE_S

START = "from edgeannot.cli.start import guarded\n"


def ended(body: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", f"{START}{body}"], capture_output=True, text=True, timeout=DEADLINE_S, check=False)


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
    assert done.stderr.startswith("edgeannot: /var/lib/private/edgeannot: permission denied; ")
    assert done.stderr.count("\n") == 1


def test_another_fault_is_told_whole():
    done = ended("def command(): raise OSError(28, 'No space left on device')\nguarded(command)")

    assert done.returncode == 70
    assert "Traceback" in done.stderr
    assert "internal error (please report): OSError" in done.stderr


NASTY = "a\\x1b[2J\\nfake: b\\udcff\\u202e"  # as it stands in the source of a command


def only_printable(text: str) -> bool:
    return text.replace("\n", "").isprintable()


def test_an_error_is_one_line_that_steers_no_terminal():
    done = ended(f"from edgeannot.base.errors import InputError\ndef command(): raise InputError('no label {NASTY}')\nguarded(command)")

    assert done.returncode == 65
    assert done.stderr.startswith("edgeannot: no label a")
    assert done.stderr.count("\n") == 1
    assert only_printable(done.stderr)


@pytest.mark.parametrize("kind", ["RuntimeError", "OSError", "KeyError"])
def test_neither_does_the_traceback_of_a_fault(kind):
    done = ended(f"def command(): raise {kind}('{NASTY}')\nguarded(command)")

    assert done.returncode == 70
    assert "Traceback" in done.stderr
    assert only_printable(done.stderr)


def test_neither_does_what_a_thread_or_a_library_prints():
    body = f"""
import sys, threading, warnings
def command():
    def thread(): raise ValueError('{NASTY}')
    threading.Thread(target=thread).start()
    warnings.warn('{NASTY}')
    print('{NASTY}')
guarded(command)"""
    done = ended(body)

    assert "ValueError" in done.stderr
    assert done.stdout.startswith("a\ufffd[2J\nfake: b")
    assert only_printable(done.stdout + done.stderr)


def test_neither_do_the_words_of_the_command_line():
    for words in (["\x1b[2Jrun"], ["run", "--\x1b[2J"], ["run", "--threads", "\x1b[2J\u202e"], ["probe", "\x1b[2J"], ["models", "\x1b[2J"]):
        command = [sys.executable, "-c", "from edgeannot.cli.start import main; main()", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)

        assert done.returncode == 64, done.stderr
        assert "Error: " in done.stderr or "error: " in done.stderr
        assert only_printable(done.stderr)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_name_that_the_terminal_has_no_letters_for_is_no_fault(encoding):
    body = "def command(): print('自転車')\nguarded(command)"
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    command = [sys.executable, "-c", START + body]
    done = subprocess.run(command, capture_output=True, timeout=DEADLINE_S, check=False, env=environment)

    assert (done.returncode, done.stderr) == (0, b"")


def test_what_c_libraries_write_past_python_is_not_shown():
    done = ended("import os, sys\ndef command(): os.write(2, b'Corrupt JPEG data'); print('ours', file=sys.stderr)\nguarded(command)")

    assert (done.returncode, done.stderr) == (0, "ours\n")


def test_a_crash_is_still_told():
    done = ended("import ctypes\ndef command(): ctypes.string_at(0)\nguarded(command)")

    assert done.returncode == -11
    assert "Segmentation fault" in done.stderr


@pytest.mark.parametrize("number", [36, 40])
def test_a_name_that_no_file_can_have_is_one_sentence(number):
    done = ended(f"import os\ndef command(): raise OSError({number}, os.strerror({number}), 'x' * 5000)\nguarded(command)")

    assert done.returncode == 66
    assert done.stderr.startswith("edgeannot: xxx")
    assert len(done.stderr) < 500
