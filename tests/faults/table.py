"""The table of faults, printed when all tests have run: each test fills in its row. A plugin of the tests.

A row travels in its test's report, so that it arrives from whichever process ran the test.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, astuple
from pathlib import Path

import pytest

from tests.faults.row import Row

__all__ = ["ROWS"]

HEAD = ("fault", "sent", "received", "lost", "repeated", "quarantined", "note")
BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"
ROWS = pytest.StashKey[list[Row]]()
"""In a test's stash: its rows."""

_arrived: list[Row] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Give the test's rows to its report."""
    if call.when == "call":
        item.user_properties += [("fault", asdict(row)) for row in item.stash.get(ROWS, [])]
    return (yield)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Take the rows out of a report."""
    if report.when == "call":
        _arrived.extend(Row(**values) for name, values in report.user_properties if name == "fault")  # type: ignore[arg-type]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table; FAULTS_TABLE names a file that gets it as Markdown, a page between its marks."""
    if not _arrived:
        return
    cells = [HEAD, *(tuple(map(str, astuple(row))) for row in _arrived)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(HEAD) - 1)]
    terminalreporter.section("faults")
    for row in cells:
        padded = [row[0].ljust(widths[0]), *(row[i].rjust(widths[i]) for i in range(1, len(widths))), row[-1]]
        terminalreporter.write_line(" | ".join(padded))
    if target := os.environ.get("FAULTS_TABLE"):
        lines = ["| " + " | ".join(row) + " |" for row in cells]
        lines.insert(1, "|---|" + "---:|" * (len(HEAD) - 2) + "---|")
        _put(Path(target), "\n".join(lines) + "\n")
        terminalreporter.write_line(f"written to {target}")


def _put(path: Path, table: str) -> None:
    """Between the marks of a page that has them, else as the whole file."""
    page = path.read_text() if path.exists() else ""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n{table}{END}{after}" if begin and end else table)
