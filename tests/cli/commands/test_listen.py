"""What a subscriber is shown."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edgeannot.base.errors import LinkError
from edgeannot.cli.commands.listen import Reader, listen
from edgeannot.mqtt.options import BrokerOptions
from tests.brokers import Broker, free_port, wait_until
from tests.patience import DEADLINE_S


def payload(number: int = 0, **changes) -> dict:
    return {
        "schema": 1,
        "id": str(number),
        "device": "pi",
        "source": "porch",
        "seq": number,
        "image": {"width": 10, "height": 10, "path": "cat_dog.jpg"},
        "detections": [{"label": "cat", "score": 0.912}, {"label": "dog", "score": 0.88}],
        "timing_ms": {"total": 23.4},
    } | changes


def reader(**options) -> Reader:
    return Reader(clock=lambda: datetime(2026, 7, 1, 10, 31, 5, tzinfo=UTC), **options)


def shown(message: object, topic: str = "edgeannot/pi/porch/detections", **options) -> list[str]:
    data = message if isinstance(message, bytes) else json.dumps(message).encode()
    return list(reader(**options).lines(topic, data))


@pytest.mark.parametrize(
    ("message", "line"),
    [
        (payload(detections=[]), "10:31:05 porch  cat_dog.jpg  nothing found  (23 ms)"),
        (payload(), "10:31:05 porch  cat_dog.jpg  cat 0.91  dog 0.88  (23 ms)"),
        (payload(7, image={"path": None}, timing_ms={}), "10:31:05 porch  #7  cat 0.91  dog 0.88"),
        (payload(schema=2), "10:31:05 porch  cat_dog.jpg  cat 0.91  dog 0.88  (23 ms, schema 2, this version reads 1)"),
    ],
)
def test_a_picture_is_a_line(message, line):
    assert shown(message) == [line]


def test_devices_are_named_when_there_may_be_several():
    assert shown(payload(), name_device=True)[0].startswith("10:31:05 pi/porch  cat_dog.jpg")


def test_a_picture_that_a_camera_sent_is_shown_as_the_cameras():
    assert shown(payload(sender={"device": "door"}), name_device=True)[0].startswith("10:31:05 door/porch  cat_dog.jpg")


def test_a_repeat_is_marked_and_not_counted():
    made = reader()
    lines = [line for _ in range(2) for line in made.lines("edgeannot/pi/porch/detections", json.dumps(payload()).encode())]

    assert [line.endswith("(23 ms, repeat)") for line in lines] == [False, True]
    assert made.pictures == 1


def test_status_info_and_pictures_are_lines_and_counts_are_not():
    info = {"version": "0.1.0", "model": {"name": "m", "profile": "low"}, "sources": [{"name": "porch", "kind": "directory"}]}

    assert shown({"state": "offline"}, "edgeannot/pi%2F1/status") == ["10:31:05 pi/1  is offline"]
    assert shown(info, "edgeannot/pi/info") == ["10:31:05 pi  edgeannot 0.1.0, model m, profile low; watches porch (directory)"]
    assert shown(b"\xff\xd8" * 2500, "edgeannot/pi/porch/image") == ["10:31:05 porch  annotated picture, 5 kB"]
    assert shown({"total": 1}, "edgeannot/pi/porch/count") == []


@pytest.mark.parametrize("message", [b"", b"\xff", b"[]", b"{}", b"null", payload(image=3)])
def test_what_is_not_understood_is_said_and_harms_nothing(message):
    [line] = shown(message)

    assert "! " in line
    assert "cannot be read" in line
    if isinstance(message, bytes):
        assert shown(message, json_lines=True) == []


def test_words_in_messages_cannot_steer_the_terminal():
    [line] = shown(payload(detections=[{"label": "\x1b[2Jcat\n", "score": 1.0}]))

    assert line.isprintable()


def test_json_lines_are_the_payloads_and_nothing_else():
    assert [json.loads(line) for line in shown(payload(), json_lines=True)] == [payload()]
    assert shown({"state": "online"}, "edgeannot/pi/status", json_lines=True) == []


def publish(broker: Broker, topic: str, *messages: dict) -> None:
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    for message in messages:
        client.publish(topic, json.dumps(message), qos=1).wait_for_publish(DEADLINE_S)
    client.disconnect()
    client.loop_stop()


def test_lines_come_from_a_real_broker_until_enough_were_seen(broker):
    lines = listen(BrokerOptions(url=broker.url), device="pi", count=2)
    assert "listening at" in next(lines)
    wait_until(lambda: "Sending SUBACK" in broker.log(), "the subscription")
    publish(broker, "edgeannot/other/porch/detections", payload(8))
    publish(broker, "edgeannot/pi/porch/detections", payload(1), payload(2))

    assert [line.split(" ", 1)[1] for line in lines] == ["porch  cat_dog.jpg  cat 0.91  dog 0.88  (23 ms)"] * 2


def test_a_broker_that_restarts_is_waited_for(broker):
    seen: list[str] = []

    def read() -> None:
        for line in listen(BrokerOptions(url=broker.url), count=1):
            seen.append(line)  # noqa: PERF402 - each as it comes

    thread = threading.Thread(target=read)
    thread.start()
    wait_until(lambda: seen, "it to listen")  # a broker that goes away before that is one that cannot be reached
    broker.stop()
    broker.start()
    wait_until(lambda: broker.log().count("Sending SUBACK") == 2, "the second subscription")
    publish(broker, "edgeannot/pi/porch/detections", payload())
    thread.join(DEADLINE_S)

    assert "trying again" in " ".join(seen)
    assert "pi/porch  cat_dog.jpg" in seen[-1]


def test_a_broker_that_is_not_there_is_an_error_that_names_it():
    port = free_port()

    with pytest.raises(LinkError, match=f"mqtt://127.0.0.1:{port} .Connection refused"):
        next(listen(BrokerOptions(url=f"mqtt://127.0.0.1:{port}")))


def test_a_broker_that_refuses_is_an_error_with_its_meaning(make_broker):
    broker = make_broker(anonymous=False).start()

    with pytest.raises(LinkError, match="not authorised"):
        list(listen(BrokerOptions(url=broker.url)))
