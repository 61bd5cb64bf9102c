"""What `make test` says at its end of tests that were skipped or deselected, in whichever of its runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.left_out import ELSEWHERE, summary
from tests.system_packages import Needed
from tests.system_packages import main as install_missing

ROOT = Path(__file__).resolve().parent.parent
MARKERS = "[pytest]\nmarkers =\n    long: x\n    older: x\n"


def run(folder: Path, name: str, body: str, *words: str) -> subprocess.CompletedProcess[str]:
    """A pytest of its own over one file, that leaves its note in `notes`."""
    folder.mkdir(exist_ok=True)
    (folder / "pytest.ini").write_text(MARKERS)
    (folder / "test_made.py").write_text(f"import pytest\n{body}\n")
    environment = {**os.environ, "EDGEANNOT_LEFT_OUT": str(folder.parent / "notes"), "EDGEANNOT_TEST_RUN": name}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "tests.left_out",
        "--rootdir",
        str(folder),
        "-c",
        str(folder / "pytest.ini"),
        str(folder),
    ]
    return subprocess.run([*command, *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_nothing_left_out_is_said_in_one_line(tmp_path):
    done = run(tmp_path / "a", "parts", "def test_one(): assert 1 + 1 == 2")

    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout.splitlines()[-1], "pytest's closing line stays the last"
    assert summary(tmp_path / "notes", ["parts"]) == ["Skipped: 0"]


def test_a_run_in_several_processes_leaves_the_same_note(tmp_path):
    body = "def test_skipped(): pytest.skip('no bus here')\n@pytest.mark.long\ndef test_long(): pass"
    one = run(tmp_path / "a", "one", body, "-m", "not long")
    two = run(tmp_path / "b", "two", body, "-m", "not long", "-n", "2")

    assert (one.returncode, two.returncode) == (0, 0), two.stdout
    assert [line.replace("(two)", "(one)") for line in summary(tmp_path / "notes", ["two"])] == summary(tmp_path / "notes", ["one"])
    assert "`make faults`" in summary(tmp_path / "notes", ["two"])[-1]


def test_a_report_that_is_no_utf8_ends_no_run_of_several_processes(tmp_path):
    body = "import logging\ndef test_said(): logging.warning('frag\\udcffment')\ndef test_failed(): assert 'a\\udcff' == 'b'"

    done = run(tmp_path / "a", "two", body, "-n", "2")

    assert "INTERNALERROR" not in done.stdout
    assert done.returncode == 1
    assert "1 failed, 1 passed" in done.stdout.splitlines()[-1]


def test_reasons_of_all_runs_are_gathered_with_their_counts_and_tests(tmp_path):
    skips = "@pytest.mark.parametrize('x', range(3))\ndef test_bus(x): pytest.skip('no bus here')\n"
    module = "pytest.skip('no module here', allow_module_level=True)"
    run(tmp_path / "a", "parts", skips + "def test_red(): assert not 1\n@pytest.mark.xfail(strict=True)\ndef test_known(): assert not 1")
    run(tmp_path / "b", "whole", skips + "@pytest.mark.long\n@pytest.mark.older\ndef test_long(): pass", "-m", "not long")
    run(tmp_path / "c", "old", module)

    lines = summary(tmp_path / "notes", ["parts", "whole", "old"])

    assert lines[0] == "Skipped: 7"
    assert lines[1:3] == ["     1  no module here", "          test_made.py (old)"]
    assert lines[3] == "     6  no bus here"
    assert lines[4] == "          test_made.py::test_bus[0] (parts)"
    assert lines[9] == "          test_made.py::test_bus[2] (whole)"
    assert lines[10:] == ["Not selected here: 1 marked `long`; they run in `make faults` and `make long`"]


def test_what_two_runs_do_not_select_counts_once(tmp_path):
    body = "@pytest.mark.long\ndef test_long(): pass\ndef test_short(): pass"
    for name in ("parts", "old"):
        run(tmp_path / "a", name, body, "-m", "not long")

    assert summary(tmp_path / "notes", ["parts", "old"])[1:] == [
        "Not selected here: 1 marked `long`; they run in `make faults` and `make long`"
    ]


def test_every_marker_that_is_not_selected_by_itself_has_a_place_to_run():
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["addopts"]

    assert set(re.findall(r"not (\w+)", options[-1])) == set(ELSEWHERE)


def test_a_run_that_did_not_end_is_named(tmp_path):
    assert summary(tmp_path, ["parts"])[-1] == "No report from the run `parts`: it did not take place, or did not come to its end"


def test_where_all_is_there_nothing_is_installed_and_nothing_said(capfd):
    assert install_missing([Needed("coreutils", program="ls")]) == 0
    assert capfd.readouterr() == ("", "")


def test_what_cannot_be_installed_is_one_line_and_no_failure(capfd, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert install_missing([Needed("edgeannot-none", program="edgeannot-none"), Needed("edgeannot-nil", file="edgeannot-nil.so")]) == 0

    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("Missing, and tests that need them are skipped: edgeannot-none edgeannot-nil (")
