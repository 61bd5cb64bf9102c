"""The unit file as systemd reads it, and what its sandbox leaves open."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from tests.docs_pages import DOCS
from tests.e2e.daemons import edgeannot
from tests.patience import DEADLINE_S

UNIT = DOCS.parent / "systemd" / "edgeannot.service"

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")


@pytest.fixture
def unit(tmp_path):
    """The unit with a command that exists on this machine."""
    path = tmp_path / "edgeannot.service"
    path.write_text(UNIT.read_text().replace("ExecStart=/opt/edgeannot/bin/edgeannot", "ExecStart=/bin/true"))
    return path


def analyze(*args):
    return subprocess.run(["systemd-analyze", *args], capture_output=True, text=True, timeout=DEADLINE_S, check=False)


@needs_systemd
def test_systemd_has_nothing_to_say_against_the_unit(unit):
    """`verify` exits with 0 for unknown keys and bad values; only what it prints shows them."""
    done = analyze("verify", str(unit))

    assert (done.returncode, done.stderr.strip()) == (0, "")


@needs_systemd
def test_verify_would_notice_a_misspelt_key(unit):
    unit.write_text(unit.read_text().replace("WatchdogSec=", "WatchdogSecs="))

    assert "WatchdogSecs" in analyze("verify", str(unit)).stderr


@needs_systemd
def test_the_sandbox_leaves_little_open(unit):
    done = analyze("security", "--offline=true", "--threshold=20", "--json=short", str(unit))

    assert done.returncode == 0, [row["name"] for row in json.loads(done.stdout) if row.get("exposure")]


def test_what_does_not_heal_by_trying_again_is_not_tried_again():
    """`test_cli` holds which mistakes end with these codes."""
    assert "\nRestartPreventExitStatus=64 78\n" in UNIT.read_text()


def test_proc_stays_whole_because_the_runtime_reads_cpuinfo(unit):
    assert "\nProcSubset=pid" not in unit.read_text()


def test_the_file_has_the_last_word_the_command_line_of_the_unit_sets_nothing(tmp_path):
    """What is set there goes over the file, and the user wonders why."""
    (tmp_path / "edgeannot.toml").write_text('profile = "high"\nmodel = "yolov3-tiny@192"\n')
    (line,) = [line for line in UNIT.read_text().splitlines() if line.startswith("ExecStart=")]
    words = line.split()[1:]
    done = edgeannot(*words, "--once", CONFIGURATION_DIRECTORY=str(tmp_path), STATE_DIRECTORY=str(tmp_path / "state"))

    assert words[0] == "run"
    assert f"profile high: set in {tmp_path / 'edgeannot.toml'}" in done.stderr, done.stderr


def test_the_unit_says_how_a_secret_and_a_folder_to_write_to_are_given():
    assert "LoadCredential=mqtt-password:/etc/edgeannot/mqtt-password" in UNIT.read_text()
    assert "ReadWritePaths=" in UNIT.read_text()


def test_a_model_that_runs_out_of_memory_where_it_is_tried_does_not_stop_the_service(unit):
    """The kernel is told to kill that process first; by default (OOMPolicy=stop) systemd would then end all of the unit."""
    assert "\nOOMPolicy=continue\n" in unit.read_text()
