"""Results over MQTT: what the messages of one picture are like."""

from __future__ import annotations

import json

import numpy as np

from edgeannot.sinks.mqtt import HomeAssistantOptions, MqttOptions, MqttSink
from edgeannot.vision.news import Event, News


def test_a_picture_is_kept_by_the_broker_only_for_home_assistant(annotate, context):
    for wanted in (False, True):
        options = MqttOptions(images=True, home_assistant=HomeAssistantOptions(enabled=wanted))
        [picture] = [message for message in MqttSink(options, context).write(annotate()) if message.kind == "image"]

        assert picture.retain is wanted


def event(kind="appeared", number=0, **more):
    box = np.array([10, 20, 30, 60], np.float32)
    return Event(kind, 7, number, "dog", 0.91, box, (100, 200), 1782864001.0, 1782864000.0, **more)


def test_news_without_events_are_no_messages(context):
    assert MqttSink(MqttOptions(), context).tell(News("yard", (), b"state")) == []


def test_each_event_is_one_message_that_is_not_retained_with_an_id_of_its_own(context):
    crossed = event("crossed", 1, line="gate", direction="in", counts={"in": 1, "out": 0}, zones=("drive",))
    messages = MqttSink(MqttOptions(), context).tell(News("yard", (event(), crossed, event("left", 2, reason="gone")), None))
    appeared, line, left = (json.loads(message.payload) for message in messages)

    assert all(message.topic.endswith("/yard/events") and not message.retain for message in messages)
    assert len({told["id"] for told in (appeared, line, left)}) == 3
    assert (appeared["event"], appeared["track_id"], appeared["at"]) == ("appeared", 7, "2026-07-01T00:00:01.000Z")
    assert appeared["box_norm"] == {"x1": 0.1, "y1": 0.1, "x2": 0.3, "y2": 0.3}
    assert (line["line"], line["direction"], line["counts"], line["zones"]) == ("gate", "in", {"in": 1, "out": 0}, ["drive"])
    assert left["reason"] == "gone"
    assert "reason" not in appeared
    again = MqttSink(MqttOptions(), context).tell(News("yard", (event(),), None))
    assert json.loads(again[0].payload)["id"] == appeared["id"]
