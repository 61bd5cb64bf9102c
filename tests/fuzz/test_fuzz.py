"""The harness finds what is planted, plays the same inputs for the same seed, and every door takes inputs in."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from tests.brokers import MOSQUITTO
from tests.fuzz.door import DOORS, case_of, load_door, unpack
from tests.fuzz.run import ROOT, Plan, play
from tests.fuzz.toy import Toy

SMOKE_SEED = 5
TOY = "tests.fuzz.toy:Toy"


def planted(inputs, digit):
    return [i for i in inputs if (body := case_of(Toy(), Toy().seeds(), TOY, 7, i).body).endswith(digit) and b"=" in body]


def test_no_inputs_are_no_findings(tmp_path):
    tally = play(TOY, Plan(7, 0, tmp_path))

    assert (tally.inputs, tally.findings, tally.share_past) == (0, [], 0.0)


def test_an_uncaught_error_a_hang_and_a_death_are_found_and_the_rest_is_played(tmp_path):
    tally = play(TOY, Plan(7, 25, tmp_path))
    found = {kind: [f.index for f in tally.findings if f.kind == kind] for kind in ("uncaught error", "hang", "death")}

    assert found == {"uncaught error": planted(range(25), b"1"), "hang": planted(range(25), b"2"), "death": planted(range(25), b"3")}
    assert all(found.values()), "the seed gives each of them"
    assert tally.inputs == 25
    assert "SIGSEGV" in next(f.what for f in tally.findings if f.kind == "death")
    assert "tests/fuzz/toy.py" in next(f.detail for f in tally.findings if f.kind == "hang"), "where it hung"


def test_a_finding_is_kept_with_the_command_that_plays_it_again(tmp_path):
    first = planted(range(25), b"1")[0]
    play(TOY, Plan(7, 1, tmp_path, first=first))
    kept = next((tmp_path / "findings").glob("*.txt")).read_text()

    assert f"--seed 7 --only {first}" in kept
    assert "KeyError: 'planted'" in kept
    assert unpack(next((tmp_path / "findings").glob("*.small.case")).read_bytes()).body == b"=1", "all that the error needs"


@pytest.mark.parametrize("name", DOORS)
def test_the_modules_whose_lines_are_counted_are_there(name):
    assert [module for module in load_door(name).modules if not (ROOT / module).is_file()] == []


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.runtime if name == "models" else []) for name in DOORS if name != "daemon"]
)  # `make fuzz` plays all with both runtimes
def test_every_door_takes_spoiled_inputs_in_without_a_fault(name, tmp_path):
    tally = play(name, Plan(SMOKE_SEED, 20, tmp_path))

    assert [(f.kind, f.what, f.detail) for f in tally.findings] == []
    assert tally.inputs == 20
    assert tally.past_first >= 5


@pytest.mark.runtime
@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed (Debian package mosquitto)")
def test_a_running_daemon_survives_spoiled_commands_and_pictures(tmp_path):
    tally = play("daemon", Plan(SMOKE_SEED, 20, tmp_path))

    assert [(f.kind, f.what, f.detail) for f in tally.findings] == []
    assert tally.inputs == 20


@pytest.mark.parametrize("name", [name for name in DOORS if name != "cards"])  # its seeds are made by trying many models
def test_the_same_seed_gives_the_same_inputs_in_another_process(name):
    door = load_door(name)
    seeds = door.seeds()
    own = [hash_of(case_of(door, seeds, name, 5, i)) for i in range(12)]
    code = (
        "from tests.fuzz.test_fuzz import hash_of; from tests.fuzz.door import case_of, load_door;"
        f"door = load_door({name!r}); seeds = door.seeds(); print([hash_of(case_of(door, seeds, {name!r}, 5, i)) for i in range(12)])"
    )
    other = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert other.stdout.strip() == str(own)


def hash_of(case):
    from hashlib import sha256

    return sha256(case.body).hexdigest()[:16]


def test_the_table_says_what_came_of_the_inputs_and_the_exit_code_that_something_was_found(tmp_path):
    ran = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", TOY, "--seed", "7", "--count", "25", "--folder", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert ran.returncode == 1, ran.stderr
    assert "past the first parser" in ran.stdout
    assert "uncaught error" in ran.stdout
    assert "lines of the parsing modules" in ran.stdout
    shutil.rmtree(tmp_path)
