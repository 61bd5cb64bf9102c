"""Teaching a detector on a board of 512 MB, beside the daemon: both have room, and no picture is lost meanwhile."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from edgeannot_tools.datasets import save_dataset
from tests.e2e.daemons import COMMAND
from tests.tools.teach.made_pictures import made_set

LIMIT_MB = 512


class MemoryGroup:
    """A control group of our own for the memory, version 1 or 2."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._old = (folder / "memory.limit_in_bytes").exists()
        # Version 1 has a second limit for memory and swap together, where swap is counted at all; it may not be below the first.
        limits = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes") if self._old else ("memory.max",)
        for name in limits:
            if (folder / name).exists():
                (folder / name).write_text(str(LIMIT_MB << 20))
        if not self._old:
            (folder / "memory.swap.max").write_text("0")

    def inside(self) -> list[str]:
        """What comes before a command that runs in the group from its first instant."""
        return ["/bin/sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self._folder / "cgroup.procs")]

    def held_mb(self) -> float:
        """The memory that cannot be had back by forgetting files."""
        return self._number("memory.stat", "total_rss" if self._old else "anon") / 2**20

    def killed(self) -> int:
        """How many processes the kernel ended for want of memory."""
        return self._number("memory.oom_control" if self._old else "memory.events", "oom_kill")

    def _number(self, name: str, key: str) -> int:
        rows = (line.split() for line in (self._folder / name).read_text().splitlines())
        return next(int(value) for found, value in rows if found == key)


@pytest.fixture
def memory():
    """A group that nobody is in yet; the test is skipped where none can be made."""
    for parent, file in ((Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"), (Path("/sys/fs/cgroup"), "memory.max")):
        folder = parent / f"edgeannot-test-{os.getpid()}"
        try:
            folder.mkdir()
        except OSError:
            continue
        if (folder / file).exists():
            break
        folder.rmdir()
    else:
        pytest.skip("no control group for the memory can be made here: needs root, and the memory controller in version 1 or 2")
    yield MemoryGroup(folder)
    folder.rmdir()  # what was in it is gone


@pytest.fixture
def make_stage_after(memory, make_stage):
    """Make stages that are closed before the group is removed."""
    return make_stage


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    ("backbone", "sides"),
    [
        pytest.param("ssdlite-mobilenet-v2-coco@640", (7, 14), id="the largest maps, for small objects"),
        pytest.param("ssdlite-mobilenet-v2-coco@320", (40, 60), id="as it begins"),
    ],
)
def test_teaching_beside_a_daemon(make_stage_after, memory, tmp_path, backbone, sides):
    stage = make_stage_after(f"a detector taught on {backbone} beside the daemon, both in {LIMIT_MB} MB")
    stage.post.start()
    # Enough that there are as many features as are ever held in memory.
    save_dataset(made_set(tmp_path / "made", pictures=30, kinds=2, sides=sides), tmp_path / "set", "voc")
    stage.start("--model", "ssdlite-mobilenet-v2-coco", prefix=memory.inside())
    stage.offer()
    stage.wait_all()
    beside = memory.held_mb()
    words = ["teach", "detect", tmp_path / "set", "--name", "taught", "--backbone", backbone, "--data-dir", tmp_path / "taught"]
    with (tmp_path / "teach.log").open("wb") as log:
        teaching = subprocess.Popen([*memory.inside(), *COMMAND, *map(str, words)], stdout=log, stderr=subprocess.STDOUT)
    most = 0.0
    try:
        while teaching.poll() is None:
            stage.offer()
            stage.wait_all()
            most = max(most, memory.held_mb())
    finally:
        teaching.kill()
        code = teaching.wait()

    assert (code, memory.killed()) == (0, 0), (tmp_path / "teach.log").read_text()
    stage.stop()
    stage.verdict(f"{most:.0f} MB held by both, {beside:.0f} by the daemon alone")
