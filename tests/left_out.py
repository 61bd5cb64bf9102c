"""What a run of the tests left out, and why. A plugin of the tests; `python -m tests.left_out FOLDER RUN...` prints it for several runs.

With EDGEANNOT_LEFT_OUT=FOLDER and EDGEANNOT_TEST_RUN=RUN in its environment a run notes in FOLDER/RUN.json what it skipped and what it
deselected by a marker. `make test` prints all notes as its last lines.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.surroundings import asked

__all__ = ["main", "summary"]

ELSEWHERE = {
    # marker -> where tests that carry it do run
    "long": "`make faults` and `make long`",
    "converters": "`make converters-test`",
    "formats": "`make formats-test`",
    "page": "`make page-test`",
    "homeassistant": "`make homeassistant-test`",
    "service": "`make service-test`",
    "camera": "`make camera-test`",
    "older": "the run on tflite-runtime",
}
NAMED = 6
"""Tests that are named for one reason; of more, only the number is given."""

_skipped: list[tuple[str, str]] = []
_deselected: dict[str, list[str]] = {}


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    """Note them by the first marker that has a place of its own."""
    for item in items:
        for marker in ELSEWHERE:
            if item.get_closest_marker(marker) is not None:
                _deselected.setdefault(marker, []).append(item.nodeid)
                break


def _take(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail") and isinstance(report.longrepr, tuple):
        _skipped.append((report.nodeid, str(report.longrepr[2]).removeprefix("Skipped: ")))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Take the reason out of a skipped test's report."""
    _take(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """The same for a whole module."""
    _take(report)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what a process of pytest-xdist deselected: every one collects all tests, so one list is as good as another."""
    _deselected.update(getattr(node, "workeroutput", {}).get("deselected", {}))


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, object, object]:
    """Escape lone surrogates: the processes of pytest-xdist speak UTF-8 alone, and one logged file name would end the whole run."""
    return _as_utf8((yield))


def _as_utf8(value: object) -> object:
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {_as_utf8(name): _as_utf8(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_as_utf8, value))
    return value


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the note, where one is asked for; a process of pytest-xdist hands its part to the one that started it."""
    if (given := getattr(session.config, "workeroutput", None)) is not None:
        given["deselected"] = _deselected
        return
    folder, run = asked("LEFT_OUT"), asked("TEST_RUN")
    if folder and run:
        path = Path(folder) / f"{run}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"skipped": _skipped, "deselected": _deselected}), encoding="utf-8")


def summary(folder: Path, runs: Iterable[str]) -> list[str]:
    """Lines for all runs: reasons with their counts and tests, what runs elsewhere, and runs that left no note."""
    reasons: dict[str, list[str]] = {}
    deselected: dict[str, set[str]] = {}  # by marker; a test that several runs do not select counts once
    without_note: list[str] = []
    for run in runs:
        path = folder / f"{run}.json"
        if not path.is_file():
            without_note.append(run)
            continue
        note = json.loads(path.read_text(encoding="utf-8"))
        for marker, tests in note["deselected"].items():
            deselected.setdefault(marker, set()).update(tests)
        for test, reason in note["skipped"]:
            reasons.setdefault(reason, []).append(f"{test.rpartition('/')[2]} ({run})")
    lines = [f"Skipped: {sum(map(len, reasons.values()))}"]
    for reason, tests in sorted(reasons.items(), key=lambda one: (len(one[1]), one[0])):
        lines.append(f"{len(tests):6}  {reason}")
        lines += [f"{'':10}{test}" for test in tests] if len(tests) <= NAMED else []
    lines += [f"Not selected here: {len(tests)} marked `{marker}`; they run in {ELSEWHERE[marker]}" for marker, tests in deselected.items()]
    lines += [f"No report from the run `{run}`: it did not take place, or did not come to its end" for run in without_note]
    return lines


def main(arguments: Sequence[str]) -> int:
    """Print the summary of the runs named after the folder."""
    folder, *runs = arguments
    sys.stdout.write("\n".join(["", "What this left out", *summary(Path(folder), runs)]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
