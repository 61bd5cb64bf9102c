"""A fleet: small cameras send pictures, real daemons share them through a real broker, and workers and brokers die."""

from __future__ import annotations

import re
import subprocess

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.brokers import Broker, wait_until
from tests.e2e.daemons import ROOT, SAMPLES, edgeannot
from tests.e2e.fleet import Collector, Fleet
from tests.patience import DEADLINE_S


@pytest.fixture
def fleet(tmp_path, broker):
    made = []

    def make(*settings, at=broker, **options):
        made.append(Fleet(tmp_path, at, *settings, **options))
        return made[-1]

    yield make
    for each in made:
        each.end()


def test_three_workers_of_which_one_is_killed_answer_every_picture_and_repeat_with_the_same_id(fleet):
    crew = fleet()
    crew.start("one", "two", "three")
    sent = crew.send(90)
    crew.collector.wait(20)

    crew.workers["two"].kill()

    kept = {result["sender"]["id"] for result in crew.kept("two")}
    crew.collector.wait(len(sent - kept))
    crew.collector.wait(len(sent - (kept - crew.collector.answered)))
    print("before it came back:", crew.tally(sent), "in its outbox", len(kept))
    assert sent <= crew.collector.answered | kept
    crew.start("two")
    crew.collector.wait(len(sent))
    print("after it came back: ", crew.tally(sent))

    assert crew.collector.answered == sent
    assert crew.collector.topics == {"edgeannot/door/pictures/detections"}  # the camera's, whoever worked
    assert {result["device"] for result in crew.collector.results} == {"one", "two", "three"}


def test_a_broker_that_restarts_in_the_middle_loses_nothing(fleet, make_broker):
    broker = make_broker()
    broker.configure("persistence true", f"persistence_location {broker.folder}/")
    broker.start()
    crew = fleet(at=broker)
    crew.start("one", "two")
    sent = crew.send(60)
    crew.collector.wait(10)

    broker.stop()
    broker.start()

    crew.collector.wait(len(sent))
    print("a restart of the broker:", crew.tally(sent))
    assert crew.collector.answered == sent


def test_what_is_no_picture_is_set_aside_and_blocks_nobody(fleet):
    crew = fleet("window = 1")
    crew.start("one")
    for number in range(5):
        poison(crew.broker, number)
    sent = crew.send(5)

    crew.collector.wait(len(sent))

    reasons = list((crew.workers["one"].data_dir / "quarantine").rglob("*.reason.txt"))
    assert len(reasons) == 5
    assert all("reason: not-a-picture" in path.read_text() for path in reasons)


def test_a_camera_that_says_nothing_but_its_topic_is_answered(fleet):
    """As `mosquitto_pub -V 311 -q 1 -t edgeannot/pictures/gate -f picture.jpg`, or an ESP32-CAM."""
    crew = fleet()
    crew.start("one")

    crew.send(1, device="gate", protocol="3.1.1")
    crew.collector.wait(1)

    sender = crew.collector.results[0]["sender"]
    assert sender == {"device": "gate", "topic": "edgeannot/pictures/gate", "id": None, "time": "arrival"}


def test_a_worker_that_stops_in_order_leaves_its_share_to_the_other(fleet):
    crew = fleet()
    crew.start("one", "two")
    sent = crew.send(60)
    crew.collector.wait(5)

    assert crew.workers["two"].stop() == 0

    kept = {result["sender"]["id"] for result in crew.kept("two")}
    crew.collector.wait(len(sent - kept))
    print("an orderly stop:", crew.tally(sent), "in its outbox", len(kept))
    assert sent <= crew.collector.answered | kept


def poison(broker: Broker, number: int) -> None:
    """What a camera with a loose cable sends."""
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    client.publish("edgeannot/pictures/broken", b"no picture at all: %d" % number, 1).wait_for_publish(DEADLINE_S)
    client.disconnect()
    client.loop_stop()


def page_block(first_line: str) -> str:
    """The configuration on the page that begins so."""
    page = (ROOT / "docs" / "fleet.md").read_text()
    return next(block for block in re.findall(r"^```\w*\n(.*?)^```", page, re.DOTALL | re.MULTILINE) if block.startswith(first_line))


def test_pictures_cross_the_bridge_of_the_page_with_what_the_sender_says_and_results_come_back(fleet, make_broker, broker):
    site = make_broker()
    site.configure(*page_block("connection centre").replace("centre.example:1883", f"127.0.0.1:{broker.port}").splitlines())
    site.start()
    crew = fleet()
    crew.start("one")
    at_the_site = Collector(site)
    wait_until(lambda: "Received SUBACK from local" in site.log() or "edgeannot/pictures" in broker.log(), "the bridge")

    done = edgeannot("send", SAMPLES / "cat.jpg", "--mqtt", site.url, "--device", "gate")
    at_the_site.wait(1)
    at_the_site.close()

    assert done.returncode == 0
    assert at_the_site.results[0]["sender"]["id"] == done.stdout.split()[3]
    assert at_the_site.results[0]["sender"]["device"] == "gate"


def test_the_access_list_of_the_page_lets_in_who_it_should_and_nobody_else(fleet, make_broker, tmp_path):
    (tmp_path / "acl").write_text(page_block("pattern write"))
    closed = make_broker(f"acl_file {tmp_path}/acl")
    closed.start()
    crew = fleet(at=closed, user="dashboard", name_is_user=True)
    crew.start("worker-1")

    def send(device: str, user: str) -> int:
        arguments = ("send", SAMPLES / "cat.jpg", "--mqtt", closed.url, "--device", device, "--username", user)
        return edgeannot(*arguments).returncode

    assert send("door", "door") == 0
    crew.collector.wait(1)
    assert send("porch", "door") == 69


def test_send_of_nothing_says_what_is_missing(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    note = tmp_path / "note.txt"
    note.write_text("no picture")

    found = [edgeannot("send", path) for path in (empty, note, tmp_path / "absent.jpg")]

    assert [done.returncode for done in found] == [65, 65, 66]
    assert [done.stderr.splitlines()[-1].split(":")[0] for done in found] == ["edgeannot"] * 3


def test_send_to_a_broker_that_is_away_says_so(tmp_path, make_broker):
    away = make_broker()

    done: subprocess.CompletedProcess[str] = edgeannot("send", SAMPLES / "cat.jpg", "--mqtt", away.url)

    assert done.returncode == 69
    assert "no connection to" in done.stderr
