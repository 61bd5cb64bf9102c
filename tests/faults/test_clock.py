"""The wall clock jumps, as that of a board without a battery does when the network comes: nothing is lost and nothing spins.

libfaketime (Debian package faketime) stands between the daemon and its clock; the monotonic clock and the times of files stay true,
as they do on a real board.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.patience import DEADLINE_S

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
HERTZ = os.sysconf("SC_CLK_TCK")
JUMPS = {"back an hour": "-3600", "back to 1970": "@1970-01-02 00:00:00", "forward ten years": "+315360000", "to and fro": "+86400 -86400"}


@pytest.fixture
def clock(tmp_path):
    """A file that says how wrong the daemon's clock is, and the environment that makes it so."""
    if not LIBRARIES:
        pytest.skip("libfaketime is not installed (Debian package faketime)")
    wrong = tmp_path / "clock"
    wrong.write_text("+0\n")
    environment = {
        "LD_PRELOAD": str(LIBRARIES[0]),
        "FAKETIME_TIMESTAMP_FILE": str(wrong),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }
    return wrong, environment


def cpu_s(process) -> float:
    """Processor time that it has used."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / HERTZ


@pytest.mark.parametrize("jump", JUMPS)
@pytest.mark.long
def test_the_clock_jumps(make_stage, clock, jump):
    wrong, environment = clock
    stage = make_stage(f"clock: {jump}, while running and at a restart")
    post = stage.post.start()
    daemon = stage.start(**environment)
    stage.offer(10)
    stage.wait_all()
    for setting in JUMPS[jump].split(" ") if "@" not in JUMPS[jump] else [JUMPS[jump]]:
        wrong.write_text(setting + "\n")
        stage.offer(10)
        stage.wait_all()
        post.end(post.broker.kill)
        stage.offer(10)
        post.start()
        stage.wait_all()
    before = cpu_s(daemon.process)
    quiet = datetime.now(UTC) + timedelta(seconds=2)
    stage.wait(lambda: datetime.now(UTC) >= quiet, "two quiet seconds", DEADLINE_S)
    used = cpu_s(daemon.process) - before
    assert used < 0.4, f"{used} s of processor time in two quiet seconds"
    [(first, last)] = stage.query("SELECT min(done_at), max(done_at) FROM ledger")
    assert last - first > 3000, "the daemon's clock did not jump"
    stage.stop()
    stage.start(**environment)  # on the wrong clock: what was done stays done
    stage.offer(10)
    stage.wait_all()
    stage.stop()
    row = stage.verdict(f"{100 * used / 2:.0f} % of a core when idle")
    assert row.repeated < 10, "what was done is not done again, but for what was in flight when the broker was killed"
    for payload in post.payloads("detections"):
        captured = datetime.fromisoformat(json.loads(payload)["captured_at"])
        assert abs(datetime.now(UTC) - captured) < timedelta(minutes=15), "a picture's time is its file's, whatever the clock says"


def test_pictures_from_the_future_and_from_long_ago(make_stage):
    """Cameras have clocks as well."""
    stage = make_stage("clock: files of 1970, 2000, tomorrow and 2100")
    stage.post.start()
    stage.start().wait_log("connected to")
    for moment in (0, 946684800, datetime.now(UTC).timestamp() + 86400, 4102444800):
        for _ in range(5):
            name, data = stage.picture()
            hidden = stage.inbox / f".{name}"
            hidden.write_bytes(data)
            os.utime(hidden, (moment, moment))
            hidden.rename(stage.inbox / name)
            stage.offered[name] = data
    stage.wait_all()
    stage.stop()
    years = {json.loads(payload)["captured_at"][:4] for payload in stage.post.payloads("detections")}
    assert {"1970", "2000", "2100"} <= years
    assert stage.verdict().repeated == 0
