"""What a power cut would leave, as far as that can be played without one.

At random instants the daemon is stopped for a moment (SIGSTOP), its state and its folder are copied, and the end of the database's
log is cut off at a random byte behind what was brought to the disk. A second daemon is then started on the copy.

It shows that nothing is done that cannot be undone (an input file removed) before the results are brought to the disk, that a log
cut anywhere behind that is opened, and that pictures whose entries were lost with it are done again under the same ids. It cannot
show what a real disk does: writes that arrive in another order than they were sent, sectors half written, a card that lies about
fsync, directory entries that are lost.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import struct
import sys
from pathlib import Path

import pytest

from tests.brokers import Broker, wait_until
from tests.faults.row import Row
from tests.faults.stage import Post, Stage, query, seeded, tally

SPYING = """
import os, json
real = os.fdatasync
def fdatasync(fd):
    name = os.readlink(f"/proc/self/fd/{fd}")
    size, salt = os.fstat(fd).st_size, os.pread(fd, 16, 16).hex()
    real(fd)
    if name.endswith("state.sqlite-wal"):
        with open(name + ".synced.new", "w") as file:
            json.dump([size, salt], file)
        os.replace(name + ".synced.new", name + ".synced")
os.fdatasync = fdatasync
from edgeannot.cli.start import main
main()
"""
"""The real command, which leaves a note of how much of the log has been brought to the disk each time that was done."""

FRAME_BYTES = 1024 + 24


def kept_bytes(state: Path) -> int:
    """The least length of the log after a power cut: what was brought to the disk by us, or by SQLite before it wrote it back."""
    wal = Path(f"{state}-wal").read_bytes()
    note = Path(f"{state}-wal.synced")
    size, salt = json.loads(note.read_text()) if note.exists() else (0, "")
    synced = size if salt == wal[16:24].hex() + wal[24:32].hex() else 0
    # sqlite.org/walformat.html: nBackfillAttempted of the wal-index, frames that SQLite has begun to write back, after an fsync.
    (attempted,) = struct.unpack_from("=I", Path(f"{state}-shm").read_bytes(), 128)
    return min(len(wal), max(synced, 32, 32 + attempted * FRAME_BYTES))


@pytest.mark.parametrize(
    ("cuts", "after"), [(1, "delete"), pytest.param(8, "delete", marks=pytest.mark.long), pytest.param(8, "keep", marks=pytest.mark.long)]
)
def test_the_power_goes_at_random_instants(make_stage, make_row, tmp_path, cuts, after, request):
    chance = seeded(request.node.name)
    stage = make_stage(f"power: {cuts} cuts, after = {after!r}")
    post = stage.post  # not started: all results wait
    daemon = stage.start(
        command=[sys.executable, "-c", SPYING], EDGEANNOT_SOURCES__INBOX__AFTER=after, EDGEANNOT_SOURCES__INBOX__KIND="directory"
    )
    state = stage.data_dir / "state.sqlite"
    stage.wait(lambda: stage.offer(2) and len(stage.ledger()) > 10, "the first results")
    copies, undone = [], 0
    for number in range(cuts):
        goal = len(stage.ledger()) + chance.randint(1, 60)
        stage.wait(lambda goal=goal: stage.offer(chance.randint(1, 5)) and len(stage.ledger()) >= goal, "more results")
        daemon.process.send_signal(signal.SIGSTOP)
        wait_until(lambda: "T" in Path(f"/proc/{daemon.process.pid}/stat").read_text().rpartition(")")[2].split()[0], "it to stand still")
        copy = tmp_path / f"cut{number}"
        shutil.copytree(stage.folder, copy, ignore=shutil.ignore_patterns("look", "*.log", "*.out", "*.lock"))
        there = copy / "daemon/data/state.sqlite"
        least, size = kept_bytes(state), Path(f"{state}-wal").stat().st_size
        daemon.process.send_signal(signal.SIGCONT)
        whole = entries(there, copy)
        with Path(f"{there}-wal").open("r+b") as wal:
            wal.truncate(chance.randint(least, size))
        Path(f"{there}-shm").unlink()
        undone += len(whole - entries(there, copy))
        copies.append((copy, dict(stage.offered)))
    daemon.kill()
    for copy, offered in copies:
        _life_after(copy, offered, stage, after)
    post.start()
    stage.start()
    stage.wait_all()
    stage.stop()
    held = stage.offered if after == "keep" else stage.ledger()
    stage.verdict(f"the cuts took {undone} entries with their results, all done again", ledger=held)


def entries(database: Path, scratch: Path) -> set[str]:
    """The paths in the ledger."""
    return {os.fsdecode(path) for (path,) in query(database, scratch / "look", "SELECT path FROM ledger")}


def _life_after(copy: Path, offered, first: Stage, after: str) -> None:
    """Start on what the cut left; every picture must be answered."""
    post = Post(Broker(copy / "broker", "max_inflight_messages 0"))
    stage = Stage.__new__(Stage)
    stage.__dict__.update(first.__dict__)
    stage.folder, stage.inbox, stage.data_dir, stage.post, stage.daemons = copy, copy / "in", copy / "daemon/data", post, []
    stage.offered = offered
    try:
        database = stage.data_dir / "state.sqlite"
        done = entries(database, copy)
        waiting = stage.outbox()
        there = {path.name for path in stage.inbox.glob("*.jpg")}
        assert done <= waiting, "an entry without its result"
        assert offered.keys() <= there | waiting, "removed before its result was on the disk"
        post.start()
        stage.start(EDGEANNOT_SOURCES__INBOX__AFTER=after, EDGEANNOT_SOURCES__INBOX__KIND="directory")
        stage.wait_all()
        stage.stop()
        row = Row("")
        tally(row, post.payloads("detections"), offered)
        assert row.lost == 0
        assert "is damaged" not in stage.daemons[0].log
    finally:
        stage.close()
        post.broker.kill()
        post.close()
