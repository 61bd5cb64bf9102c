"""The way to the broker is slow, is cut at any byte, drips, or is silent in one direction: every result arrives all the same."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess

import pytest

from tests.faults.stage import seeded


@pytest.mark.long
def test_slow(make_stage):
    stage = make_stage("way: 150 ms each way")
    stage.post.way.delay_s = 0.15
    stage.post.start()
    stage.start()
    stage.offer(40)
    stage.wait_all()
    stage.stop()
    stage.verdict("the window keeps it moving")


@pytest.mark.parametrize("pictures", [30, pytest.param(1000, marks=pytest.mark.long)])
def test_cut_at_random_bytes(make_stage, pictures, request):
    """Every connection ends after a few thousand bytes, in the middle of a packet or of a header."""
    stage = make_stage(f"way: cut at random bytes, {pictures} pictures")
    stage.post.way.cut_after = (seeded(request.node.name), 600, 20_000)
    stage.post.start()
    stage.start(EDGEANNOT_SINKS__MQTT__RETRY_MAX_S="0.1")
    stage.offer(pictures)
    stage.wait_all()
    stage.post.way.cut_after = None
    stage.stop()
    stage.verdict(f"{stage.post.way.cuts} cuts in {stage.post.way.accepted} connections")
    assert stage.post.way.cuts > pictures / 60


@pytest.mark.long
def test_dripping(make_stage):
    stage = make_stage("way: byte by byte")
    stage.post.way.drip_s = 0.0
    stage.post.start()
    stage.start()
    stage.offer(10)
    stage.wait_all()
    stage.stop()
    stage.verdict("each byte a packet of its own")


@pytest.mark.parametrize("direction", ["down", "up"])
@pytest.mark.long
def test_silent_in_one_direction(make_stage, direction):
    """What we send arrives, and no acknowledgement does; or the other way round. Nobody closes the connection."""
    stage = make_stage(f"way: nothing gets {direction} for 3 x keepalive")
    post = stage.post.start()
    daemon = stage.start()
    stage.offer(5)
    stage.wait_all()
    post.way.hush(direction)
    stage.offer(20)
    daemon.wait_log("trying again")
    post.way.hush()
    stage.wait_all()
    stage.stop()
    stage.verdict()


class Cable:
    """A network of two ends: this machine, and a namespace with nothing else in it."""

    def __init__(self, number: int) -> None:
        self.name = f"edgeannot{number}"
        self.here, self.there = f"ea{number}a"[:15], f"ea{number}b"[:15]
        self.address = "169.254.77.1"

    def plug(self) -> None:
        self._ip("netns", "add", self.name)
        self._ip("link", "add", self.here, "type", "veth", "peer", "name", self.there, "netns", self.name)
        self._ip("addr", "add", f"{self.address}/30", "dev", self.here)
        self._ip("link", "set", self.here, "up")
        self._ip("-n", self.name, "addr", "add", "169.254.77.2/30", "dev", self.there)
        self._ip("-n", self.name, "link", "set", self.there, "up")

    def turn(self, state: str) -> None:
        self._ip("link", "set", self.here, state)

    def remove(self) -> None:
        for words in (("link", "del", self.here), ("netns", "del", self.name)):
            with contextlib.suppress(subprocess.CalledProcessError):
                self._ip(*words)

    def _ip(self, *words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@pytest.fixture
def cable():
    if shutil.which("ip") is None:
        pytest.skip("ip (Debian package iproute2) is not installed")
    if os.geteuid() != 0:
        pytest.skip("only root can make a network namespace")
    made = Cable(os.getpid())
    try:
        made.plug()
    except subprocess.CalledProcessError as exc:
        made.remove()
        pytest.skip(f"no network namespace can be made here: {exc.stderr.strip()}")
    yield made
    made.remove()


@pytest.mark.long
def test_the_cable_is_pulled_and_put_back(make_stage, make_post, cable):
    """A real link down: no packet and no answer, not even a refusal. Our own subscriber is on this side of it."""
    times = 4
    stage = make_stage(f"way: cable pulled {times} times for 3 x keepalive", make_post())
    post = stage.post
    post.broker.configure("max_inflight_messages 0", f"listener {post.broker.port} {cable.address}")
    post.start()
    url = f"mqtt://{cable.address}:{post.broker.port}"
    daemon = stage.start(prefix=("ip", "netns", "exec", cable.name), EDGEANNOT_SINKS__MQTT__URL=url)
    for turn in range(times):
        stage.offer(5)
        stage.wait_all()
        stage.offer(10)
        cable.turn("down")
        stage.offer(10)
        stage.wait(lambda turn=turn: _lost_connections(daemon) > turn or "trying again" in daemon.log, "the loss to be noticed")
        stage.wait(lambda: len(stage.ledger()) == len(stage.offered), "the pictures to be done meanwhile")
        cable.turn("up")
        stage.wait_all()
    stage.stop()
    stage.verdict("a network namespace and its veth")


def _lost_connections(daemon):
    return daemon.log.count("connected to") - 1
