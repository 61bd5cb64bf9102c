"""Workers of a shared group are killed and come back while cameras send: every picture is answered, repeats have one id."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import pytest

from tests.e2e.fleet import Fleet
from tests.patience import DEADLINE_S

NAMES = ("one", "two", "three")


@pytest.mark.parametrize(("cameras", "kills"), [(1, 2), pytest.param(6, 12, marks=pytest.mark.long)])
def test_workers_killed_at_random_instants_lose_no_picture(tmp_path, make_row, make_post, cameras, kills):
    row = make_row("workers of a group, kill -9")
    broker = make_post().broker
    broker.start()
    fleet = Fleet(Path(tmp_path), broker)
    dice = random.Random(cameras)
    sent: set[str] = set()
    try:
        fleet.start(*NAMES)
        feeding = threading.Thread(target=lambda: [sent.update(fleet.send(50, f"camera-{i}")) for i in range(cameras)])
        feeding.start()
        for _ in range(kills):
            victim = dice.choice(NAMES)
            _until(time.monotonic() + dice.uniform(0.2, 2.0))
            fleet.workers[victim].kill()
            _until(time.monotonic() + dice.uniform(0.0, 1.0))
            fleet.launch(victim)
        feeding.join(DEADLINE_S)
        fleet.collector.wait_quietly(len(sent), 60)
        tally = fleet.tally(sent)
    finally:
        fleet.end()

    row.sent, row.received, row.lost, row.repeated = tally.sent, tally.received, tally.lost, tally.repeated
    row.note = f"{kills} kills, by worker {tally.by_worker}"
    assert tally.sent == 50 * cameras
    assert tally.lost == 0


def _until(moment: float) -> None:
    """The instant of a blow is what the dice say: there is no event to wait for."""
    threading.Event().wait(max(0.0, moment - time.monotonic()))
