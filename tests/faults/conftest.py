"""The table of faults: each test fills in its row, and the run ends with all of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.brokers import MOSQUITTO, Broker
from tests.faults.stage import Post, Row, Stage

HEAD = ("fault", "sent", "received", "lost", "repeated", "quarantined", "note")
BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"
ROWS = pytest.StashKey[list[Row]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ROWS] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table; FAULTS_TABLE names a file that gets it as Markdown, a page between its marks."""
    rows = config.stash[ROWS]
    if not rows:
        return
    cells = [HEAD, *((r.fault, *map(str, (r.sent, r.received, r.lost, r.repeated, r.quarantined)), r.note) for r in rows)]
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


@pytest.fixture
def make_row(request: pytest.FixtureRequest) -> Callable[[str], Row]:
    """A row of the table, which says "FAILED" until its test has come to its verdict."""

    def make(fault: str) -> Row:
        row = Row(fault)
        request.config.stash[ROWS].append(row)
        return row

    return make


@pytest.fixture
def make_post(tmp_path: Path) -> Iterator[Callable[..., Post]]:
    """Make brokers with a way to them; not started yet."""
    if MOSQUITTO is None:
        pytest.skip("mosquitto is not installed (Debian package mosquitto)")
    made: list[Post] = []

    def make(*settings: str, anonymous: bool = True) -> Post:
        # Our own subscriber must not be the bottleneck: what the broker has taken it hands on at once, before it can be killed.
        made.append(Post(Broker(tmp_path / f"broker{len(made)}", "max_inflight_messages 0", *settings, anonymous=anonymous)))
        return made[-1]

    yield make
    for post in made:
        post.broker.kill()
        post.close()


@pytest.fixture
def make_stage(tmp_path: Path, make_row: Callable[[str], Row], make_post: Callable[..., Post]) -> Iterator[Callable[..., Stage]]:
    """Make a stage for a fault; with a broker of its own that lets everybody in, unless one is given."""
    made: list[Stage] = []

    def make(fault: str, post: Post | None = None, device: str = "board") -> Stage:
        row = make_row(fault)
        made.append(Stage(tmp_path / f"stage{len(made)}", row, post or make_post(), device))
        return made[-1]

    yield make
    for stage in made:
        stage.close()
