"""What the faults share: brokers with a way to them, stages, and rows of the table."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.brokers import MOSQUITTO, Broker
from tests.faults.row import Row
from tests.faults.stage import Post, Stage
from tests.faults.table import ROWS


@pytest.fixture
def make_row(request: pytest.FixtureRequest) -> Callable[[str], Row]:
    """A row of the table, which says "FAILED" until its test has come to its verdict."""

    def make(fault: str) -> Row:
        row = Row(fault)
        request.node.stash.setdefault(ROWS, []).append(row)
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


@pytest.fixture
def make_disk() -> Iterator[Callable[[Path, int], Path]]:
    """A small file system of its own at a path."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    mounted = []

    def make(where: Path, size_kb: int) -> Path:
        where.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size_kb}k", "tmpfs", str(where)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
        mounted.append(where)
        return where

    yield make
    for where in mounted:
        subprocess.run(["umount", "-l", str(where)], check=False, capture_output=True)
