"""The receiver of a sink with a queue is away, fails, is slow or refuses, or the daemon is killed: nothing is lost, MQTT never waits.

Each test runs for each of `RECEIVERS`; what only one protocol has is marked with `only`.
"""

from __future__ import annotations

import threading
import time

import pytest

from tests.brokers import free_port, wait_until
from tests.e2e.daemons import edgeannot
from tests.faults.stage import QUICK, seeded, tally
from tests.hooks import Hook, hold, status
from tests.patience import DEADLINE_S

RECEIVERS = (Hook,)
"""One for each sink with a queue of its own, except MQTT's: add the receiver of a new one here."""


def only(receiver):
    """Run a test for one receiver: of what other protocols do not have."""
    return pytest.mark.parametrize("make_hooked", [receiver], ids=[receiver.sink], indirect=True)


@pytest.fixture(params=RECEIVERS, ids=[receiver.sink for receiver in RECEIVERS])
def make_hooked(make_stage, request):
    """Make a stage with a broker that is there, and a receiver that is not yet."""
    hooks = []

    def make(fault):
        stage = make_stage(f"{request.param.sink}: {fault}")
        stage.hook = request.param()
        hooks.append(stage.hook)
        stage.post.start()
        return stage

    yield make
    for hook in hooks:
        hook.end()


def taken(stage):
    """The pictures whose results the server has."""
    with stage.hook.lock:
        return {request.json()["image"]["path"] for request in stage.hook.taken}


def wait_taken(stage, count=None):
    """Wait until the server has so many results; all, and nothing waits any more, where none is given."""
    wanted = len(stage.offered) if count is None else count
    stage.wait(lambda: len(taken(stage)) >= wanted, f"{wanted} results to be taken")
    if count is None:
        stage.wait(lambda: not stage.outbox(stage.hook.sink), "the queue to be empty")


def verdict(stage, note="", *, without=()):
    """Stop, and count what the server took into the row; MQTT lost nothing either."""
    stage.stop()
    assert stage.arrived() == set(stage.offered)
    with stage.hook.lock:
        tally(stage.row, [request.body for request in stage.hook.taken], stage.offered.keys() - set(without), stage.device)
    stage.row.quarantined = len(list((stage.data_dir / "undelivered" / stage.hook.sink).glob("*.reason.txt")))
    stage.row.note = note
    assert stage.row.lost == 0
    repeats = [count for count in stage.hook.deliveries().values() if count > 1]
    assert sum(repeats) - len(repeats) == stage.row.repeated, "a repeat has the key of the first"


def test_the_server_comes_later(make_hooked):
    stage = make_hooked("server started later")
    daemon = stage.start()
    stage.offer(20)
    stage.wait_all()  # MQTT does not wait for it
    assert len(stage.outbox(stage.hook.sink)) == 20
    stage.hook.start()
    wait_taken(stage)
    assert daemon.log.count("waiting, trying again") == 1
    verdict(stage, "20 results waited, 0 at MQTT; 1 line in the log")


@pytest.mark.parametrize("times", [3, pytest.param(30, marks=pytest.mark.long)])
def test_the_server_restarts(make_hooked, times):
    stage = make_hooked(f"server stopped and started {times} times")
    stage.hook.start()
    stage.start()
    for _ in range(times):
        stage.offer(5)
        wait_taken(stage, len(stage.offered) - 3)
        stage.hook.end()
        stage.offer(5)
        stage.hook.start()
    wait_taken(stage)
    stage.wait_all()
    verdict(stage)


@pytest.mark.parametrize("pictures", [30, pytest.param(1000, marks=pytest.mark.long)])
def test_the_server_fails_half_the_time(make_hooked, pictures, request):
    stage = make_hooked(f"half of {pictures} requests answered 500 or cut")
    chance = seeded(request.node.name)

    def reply(handler):
        if (drawn := chance.random()) < 0.25:
            handler.answer(500)
        elif drawn < 0.5:
            handler.close_connection = True  # without an answer
        else:
            handler.answer(200)

    stage.hook.reply = reply
    stage.hook.start()
    stage.start(**stage.hook.environment(retry_min_s="0.01", retry_max_s="0.05"))
    stage.offer(pictures)
    wait_taken(stage)
    stage.wait_all()
    verdict(stage)


def test_the_server_is_slow(make_hooked):
    """It takes each message, but the first answers come when nobody waits any more."""
    stage = make_hooked("answers slower than timeout_s")
    stage.hook.replies = [hold(threading.Event(), 1.5)] * 2
    stage.hook.start()
    daemon = stage.start()
    stage.offer(10)
    wait_taken(stage)
    stage.wait_all()
    daemon.wait_log("does not answer within 1 s")
    verdict(stage, "what came too late came again, with the same key")


@only(Hook)
def test_the_server_asks_to_wait(make_hooked):
    stage = make_hooked("429 and 503 with Retry-After")
    stage.hook.replies = [status(429, Retry_After="1"), status(503, Retry_After="1")]
    stage.hook.start()
    began = time.monotonic()
    stage.start()
    stage.offer(10)
    wait_taken(stage)
    stage.wait_all()
    assert time.monotonic() - began > 2
    assert len(stage.hook.requests) == 12, "nothing is sent meanwhile"
    verdict(stage, "nothing was sent before its time")


@only(Hook)
@pytest.mark.parametrize("code", [400, pytest.param(413, marks=pytest.mark.long), pytest.param(401, marks=pytest.mark.long)])
def test_the_server_refuses_some(make_hooked, code):
    stage = make_hooked(f"{code} for 3 of 20 results")
    names = stage.offer(20)
    bad = {names[0], names[7], names[8]}
    stage.hook.reply = lambda handler: handler.answer(code if handler.post.json()["image"]["path"] in bad else 200)
    stage.hook.start()
    daemon = stage.start()
    wait_taken(stage, 17)
    stage.wait(lambda: not stage.outbox(stage.hook.sink), "three to be set aside")
    stage.wait_all()
    assert stage.query("SELECT value FROM counters WHERE name = 'webhook.refused'") == [(3,)]
    assert daemon.log.count("set aside after 3 attempts") == 3
    verdict(stage, "3 set aside, named and counted; 17 did not wait for them", without=bad)
    assert stage.row.quarantined == 3


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kills", [2, pytest.param(60, marks=pytest.mark.long)])
def test_the_daemon_is_killed(make_hooked, kills, request):
    stage = make_hooked(f"kill -9 of the daemon at {kills} random instants")
    chance = seeded(request.node.name)
    stage.hook.start()
    pause = threading.Event()
    began = time.monotonic()
    stage.start()
    stage.offer(1)
    wait_taken(stage)
    start_s = time.monotonic() - began
    for _ in range(kills):
        stage.daemons[-1].kill()
        # What is in the ledger waits in the queue, or the server has it.
        gone = stage.ledger().keys() - stage.outbox(stage.hook.sink)
        wait_until(lambda gone=gone: gone <= taken(stage), "what left the queue to be at the server", DEADLINE_S)
        stage.start()
        deadline = time.monotonic() + chance.uniform(0.0, start_s + 1.0)
        while time.monotonic() < deadline:
            stage.offer(1)
            pause.wait(chance.uniform(0.0, 0.1))
    wait_taken(stage)
    stage.wait_all()
    assert set(stage.ledger().values()) == {1}
    verdict(stage)


@pytest.mark.parametrize("count", [40, pytest.param(2000, marks=pytest.mark.long)])
def test_a_server_that_is_away_costs_mqtt_nothing(make_hooked, count):
    stage = make_hooked(f"away with a full queue, {count} results over MQTT")
    stage.start(**stage.hook.environment(keep_messages="10"))
    stage.offer(count)
    stage.wait_all()
    assert len(stage.outbox(stage.hook.sink)) == 10
    assert stage.query("SELECT name, value FROM counters") == [(f"{stage.hook.sink}.dropped", count - 10)]
    stage.hook.start()
    wait_taken(stage, 10)
    stage.stop()
    stage.verdict(f"{stage.hook.sink} dropped {count - 10} of its own, MQTT none")


@pytest.mark.parametrize("count", [40, pytest.param(2000, marks=pytest.mark.long)])
def test_a_broker_that_is_away_costs_the_others_nothing(make_hooked, count):
    stage = make_hooked(f"broker away with a full queue, {count} results")
    stage.hook.start()
    away = {"EDGEANNOT_SINKS__MQTT__URL": f"mqtt://127.0.0.1:{free_port()}", "EDGEANNOT_SINKS__MQTT__KEEP_MESSAGES": "10"}
    stage.start(**away)
    stage.offer(count)
    wait_taken(stage)
    # The retained count is one of the ten.
    assert stage.query("SELECT count(*) FROM outbox") == [(10,)]
    assert {name for name, _ in stage.query("SELECT name, value FROM counters")} == {"mqtt.dropped"}
    stage.stop()
    tally(stage.row, [request.body for request in stage.hook.taken], stage.offered, stage.device)
    stage.row.note = f"MQTT dropped its own, {stage.hook.sink} none"
    assert (stage.row.lost, stage.row.repeated) == (0, 0)


def test_run_once_drains_the_queue_or_ends_with_69(make_hooked):
    stage = make_hooked("away during `run --once`")
    names = stage.offer(5)
    settings = stage.hook.environment(enabled="true", **stage.hook.address)
    words = ["run", "--once", "--model", "tiny", "--threads", 1, "--device", "board", "--profile", "low", "--watch", stage.inbox]
    words += ["--data-dir", stage.data_dir]
    quick = {**QUICK, "EDGEANNOT_SINKS__MQTT__ENABLED": "false"}
    away = edgeannot(*words, **quick, **settings)
    assert away.returncode == 69, away.stderr
    assert f"5 messages for sinks.{stage.hook.sink} kept in" in away.stderr
    assert stage.outbox(stage.hook.sink) == set(names)
    off = edgeannot(*words, **quick)
    assert off.returncode == 0, off.stderr
    assert f"sinks.{stage.hook.sink} is not enabled" in off.stderr
    stage.hook.start()
    there = edgeannot(*words, **quick, **settings)
    assert there.returncode == 0, there.stderr
    tally(stage.row, [request.body for request in stage.hook.taken], stage.offered, stage.device)
    stage.row.note = "ends with 69 and a sentence; the next run delivers"
    assert (stage.row.lost, stage.row.repeated) == (0, 0)
