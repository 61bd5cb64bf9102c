"""The choice of a model where CPU time is really taken away, by a control group."""

from __future__ import annotations

import json
import subprocess

import pytest

from benchmarks.quota import CpuGroup, NoQuotaError
from tests.e2e.daemons import COMMAND, copy_samples, edgeannot
from tests.patience import DEADLINE_S


@pytest.fixture
def share_of_a_core():
    """Runs a command of edgeannot with a share of one core, or with all there is (None), and gives what it printed."""
    try:
        with CpuGroup("choice") as group:

            def run(share, *args):
                group.limit(share)
                command = group.inside([*COMMAND, *map(str, args)])
                done = subprocess.run(command, capture_output=True, text=True, timeout=2 * DEADLINE_S, check=False)
                assert done.returncode == 0, done.stderr
                return done

            yield run
    except NoQuotaError as exc:
        pytest.skip(str(exc))


def rows(text):
    """Of the table's candidates that gave figures, the marked one first: name -> (ms, CPU ms)."""
    head, *lines = text[text.index("   MODEL ") :].splitlines()
    at = [head.index(word) for word in ("MODEL", "MS", "CPU MS")]
    found = [[line[i:].split()[0] for i in at] for line in sorted(lines, key=lambda line: not line.startswith(">")) if " MB  " in line]
    return {name: (float(ms.lstrip("~")), float(cpu_ms)) for name, ms, cpu_ms in found}


def test_under_a_quota_another_model_is_chosen_that_fits_and_the_daemon_runs_it(tmp_path, share_of_a_core):
    """The budget lies between the fastest model and the best one as they are under the quota, and over what the best one takes without."""
    copy_samples(tmp_path / "in")
    for attempt in range(3):  # where another program took the core while it was measured, the best one is over the budget without a quota
        data = tmp_path / f"data{attempt}"
        explain = ["run", "--explain", "--profile", "auto", "--threads", 1, "--data-dir", data, "--max-ms"]
        (best, (ms, cpu_ms)), *_ = rows(share_of_a_core(None, *explain, 1_000_000).stdout).items()
        # So much less than this machine gives now: another program may have the core, or a container a quota.
        percent = max(5, round(30 * min(1.0, cpu_ms / ms)))
        slow = {name: ms for name, (ms, _) in rows(share_of_a_core(percent / 100, *explain, 1_000_000).stdout).items()}
        max_ms = round((min(slow.values()) * slow[best]) ** 0.5)
        free = next(iter(rows(share_of_a_core(None, *explain, max_ms).stdout)))
        if free == best:
            break

    told = share_of_a_core(percent / 100, *explain, max_ms)
    name, (ms, _) = next(iter(rows(told.stdout).items()))

    assert free == best
    assert name != best
    assert ms <= max_ms
    assert f"at most {percent}% of one core" in told.stdout
    assert f"{max_ms} ms a picture (max_ms)" in told.stdout
    assert "over the budget" in told.stdout, "what the quota made too slow is said"

    out = tmp_path / "out"
    ran = share_of_a_core(
        percent / 100,
        *("run", "--once", "--profile", "auto", "--threads", 1, "--max-ms", max_ms),
        *("--watch", tmp_path / "in", "--out", out, "--data-dir", data),
    )
    lines = [json.loads(line) for line in (out / "annotations.jsonl").read_text().splitlines()]

    assert {line["model"]["name"] for line in lines} == {name}
    assert f"{name} with 1 thread " in ran.stderr, "what was measured for the table is remembered for the run"
    # On the smallest share the time may not have been enough for all of them: those are measured later.
    assert f"{name.partition('@')[0]}: " not in "".join(line for line in ran.stderr.splitlines() if "points measured" in line)


def test_a_run_with_a_budget_measures_once_and_says_so_in_the_log(tmp_path):
    copy_samples(tmp_path / "in")
    args = (
        "run",
        "--once",
        "--task",
        "classify",
        "--max-ms",
        60000,
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
    assert "the most accurate that takes at most 60000 ms a picture" in first.stderr
    assert "points measured" not in second.stderr


@pytest.mark.runtime
def test_with_once_and_no_budget_nothing_is_measured(tmp_path):
    (tmp_path / "in").mkdir()
    done = edgeannot("run", "--once", "--watch", tmp_path / "in", "--data-dir", tmp_path / "data")

    assert done.returncode == 0, done.stderr
    assert "points measured" not in done.stderr
    assert not (tmp_path / "data" / "cache" / "measurements.json").exists()
