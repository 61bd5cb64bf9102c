"""The daemon is killed at random instants over a stream of pictures: each is in the ledger once, and each result arrives."""

from __future__ import annotations

import random
import threading
import time

import pytest

from tests.brokers import wait_until
from tests.faults.stage import seeded
from tests.patience import DEADLINE_S

LANES = 2


class Lane(threading.Thread):
    """Starts a daemon, kills it after a random while, and so on; pictures come all the time."""

    def __init__(self, stage, chance, kills):
        super().__init__(name=stage.device, daemon=True)
        self.stage, self.chance, self.kills = stage, chance, kills
        self.error = None
        self.start_s = 0.0
        """What a start takes, in seconds, on this machine today."""
        self.working = 0
        """Kills that met a daemon at work, connected to the broker."""

    def run(self):
        try:
            began = time.monotonic()
            self.stage.start().wait_log("connected to")
            self.start_s = time.monotonic() - began
            self.stage.stop()
            for _ in range(self.kills):
                self.one_life()
        except BaseException as exc:  # noqa: BLE001 - the test raises it again
            self.error = exc

    def one_life(self):
        """Every other life ends somewhere in the start, the others somewhere in the work and the resending."""
        stage, chance = self.stage, self.chance
        said = len(stage.daemons[-1].log)
        daemon = stage.start()
        at_work = chance.random() < 0.5
        deadline = time.monotonic() + (DEADLINE_S if at_work else chance.uniform(0.0, self.start_s))
        pause = threading.Event()
        while time.monotonic() < deadline:
            if at_work and "connected to" in daemon.log[said:]:
                at_work, deadline = False, time.monotonic() + chance.uniform(0.0, 0.8)
            stage.offer(1, stage.device)
            pause.wait(chance.uniform(0.0, 0.1))
        daemon.kill()
        assert daemon.process.returncode == -9, f"it ended by itself with {daemon.process.returncode}: {daemon.log[-2000:]}"
        self.working += "connected to" in daemon.log[said:]
        self.check()

    def check(self):
        """What a kill may leave: whatever is in the ledger has its result in the outbox, or the broker has it."""
        stage = self.stage
        ledger, outbox = stage.ledger(), stage.outbox()
        assert not [path for path, count in ledger.items() if count != 1]
        assert outbox <= ledger.keys(), "a result without its entry"
        gone = ledger.keys() - outbox
        wait_until(lambda: gone <= mine(stage).keys(), "what left the outbox to be at the broker", DEADLINE_S, 0.05)


def mine(stage):
    """The pictures of this stage that were answered: two stages share a broker, and tell theirs by the folder."""
    return {path: count for path, count in stage.post.paths().items() if path.startswith(stage.device)}


@pytest.mark.parametrize("kills", [5, pytest.param(195, marks=[pytest.mark.long, pytest.mark.timeout(7200)])])
def test_killed_at_random_instants(make_stage, make_post, kills, request):
    chance = seeded(request.node.name)
    post = make_post().start()
    parts = [kills // LANES, kills - kills // LANES] if kills > 5 else [kills]
    lanes = []
    for number, part in enumerate(parts):
        stage = make_stage(f"daemon: kill -9 at {part} random instants", post, device=f"lane{number}")
        lanes.append(Lane(stage, random.Random(chance.random()), part))
    for lane in lanes:
        lane.start()
    for lane in lanes:
        lane.join()
    for lane in lanes:
        if lane.error is not None:
            raise lane.error
        said = len(lane.stage.daemons[-1].log)
        last = lane.stage.start()
        lane.stage.wait(lambda last=last, said=said: "connected to" in last.log[said:], "the last daemon")  # it may have nothing to send
        lane.stage.wait_all()
        lane.stage.stop()
        lane.stage.verdict(f"{lane.working} of them at work, connected")
