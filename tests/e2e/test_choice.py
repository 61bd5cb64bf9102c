"""The choice of a model where CPU time is really taken away, by a control group."""

from __future__ import annotations

import json
import subprocess

import pytest

from benchmarks.quota import CpuGroup, NoQuotaError
from tests.e2e.daemons import COMMAND, copy_samples, edgeannot

pytestmark = pytest.mark.runtime


@pytest.fixture
def quarter_of_a_core():
    """Runs a command of edgeannot with a quarter of one core, and gives what it printed."""
    try:
        with CpuGroup() as group:
            group.limit(0.25)

            def run(*args):
                command = group.inside([*COMMAND, *map(str, args)])
                done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
                assert done.returncode == 0, done.stderr
                return done

            yield run
    except NoQuotaError as exc:
        pytest.skip(str(exc))


def winner(text):
    """Name and ms of the candidate that the table marks."""
    (cells,) = [line.split() for line in text.splitlines() if line.startswith(">")]
    return cells[1], float(cells[4])


def test_under_a_quota_another_model_is_chosen_that_fits_and_the_daemon_runs_it(tmp_path, quarter_of_a_core):
    copy_samples(tmp_path / "in")
    data, max_ms = tmp_path / "data", 200
    explain = ["run", "--explain", "--profile", "auto", "--data-dir", data, "--max-ms"]
    squeezed = quarter_of_a_core(*explain, max_ms)
    if winner(squeezed.stdout)[1] > max_ms:  # a slow runtime, or a machine with much else to do: what would fit there?
        max_ms = round(1.4 * winner(squeezed.stdout)[1])
        squeezed = quarter_of_a_core(*explain, max_ms)
    name, ms = winner(squeezed.stdout)
    free_name, _ = winner(edgeannot(*explain, max_ms).stdout)

    assert name != free_name
    assert ms <= max_ms
    assert "at most 25% of one core" in squeezed.stdout
    assert f"over {max_ms} ms a picture (max_ms)" in squeezed.stdout, "what the quota made too slow is said"

    out = tmp_path / "out"
    ran = quarter_of_a_core(
        "run", "--once", "--profile", "auto", "--max-ms", max_ms, "--watch", tmp_path / "in", "--out", out, "--data-dir", data
    )
    rows = [json.loads(line) for line in (out / "annotations.jsonl").read_text().splitlines()]

    assert {row["model"]["name"] for row in rows} == {name}
    assert f"{name} with 1 thread(s)" in ran.stderr, "what was measured for the table is remembered for the run"
    assert "points measured" not in ran.stderr


def test_a_run_with_a_budget_measures_once_and_says_so_in_the_log(tmp_path):
    copy_samples(tmp_path / "in")
    args = (
        "run",
        "--once",
        "--task",
        "classify",
        "--max-ms",
        2000,
        "--threads",
        1,
        "--watch",
        tmp_path / "in",
        "--data-dir",
        tmp_path / "data",
    )
    first, second = edgeannot(*args), edgeannot(*args)

    assert first.returncode == second.returncode == 0, first.stderr
    assert "points measured" in first.stderr
    assert "the most accurate that takes at most 2000 ms a picture" in first.stderr
    assert "points measured" not in second.stderr


def test_with_once_and_no_budget_nothing_is_measured(tmp_path):
    (tmp_path / "in").mkdir()
    done = edgeannot("run", "--once", "--watch", tmp_path / "in", "--data-dir", tmp_path / "data")

    assert done.returncode == 0, done.stderr
    assert "points measured" not in done.stderr
    assert not (tmp_path / "data" / "cache" / "measurements.json").exists()
