"""Results over MQTT: what the messages of one picture are like."""

from __future__ import annotations

import json
from importlib import resources

import jsonschema
import numpy as np

from edgeannot.sinks.mqtt import HomeAssistantOptions, MqttOptions, MqttSink
from edgeannot.vision.news import Event, News, Picture, RegionState, SubLabel


def schema(name):
    return jsonschema.Draft202012Validator(json.loads(resources.files("edgeannot").joinpath(f"schema/{name}.json").read_text()))


SCHEMA, EVENTS = schema("region-1"), schema("events-1")


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


def test_the_state_of_a_region_is_retained_and_the_same_bytes_whenever_it_is_said(context):
    opened, away = RegionState("gate", "open", 0.91234, 1782864001.0), RegionState("gate", "unknown", None, 1782864061.0)
    messages = MqttSink(MqttOptions(), context).tell(News("yard", (), None, (opened, away)))
    first, second = (json.loads(message.payload) for message in messages)

    assert {(message.topic.partition("/yard/")[2], message.retain, message.qos) for message in messages} == {("state/gate", True, 1)}
    for told in (first, second):
        SCHEMA.validate(told)
    assert (first["state"], first["score"], first["since"]) == ("open", 0.9123, "2026-07-01T00:00:01.000Z")
    assert (second["state"], second["score"]) == ("unknown", None)
    assert MqttSink(MqttOptions(), context).tell(News("yard", (), None, (opened,)))[0].payload == messages[0].payload


def test_an_event_keeps_to_its_schema(context):
    kinds = event(), event("left", 2, reason="gone"), event("crossed", 1, line="gate", direction="in", counts={"in": 1, "out": 0})
    for message in MqttSink(MqttOptions(), context).tell(News("yard", (*kinds, event(sub_label=SubLabel("poodle", 0.8))), None)):
        EVENTS.validate(json.loads(message.payload))


def test_the_picture_of_an_event_is_on_the_image_topic_and_says_which_event_it_is_of(context):
    told = event(picture=Picture(np.zeros((8, 8, 3), np.uint8), 1.0))
    message, image = MqttSink(MqttOptions(), context).tell(News("yard", (told,), None))
    payload = json.loads(message.payload)

    EVENTS.validate(payload)
    assert payload["picture"] == "2026-07-01/7.jpg"
    assert image.topic.endswith("/yard/image")
    assert (image.kind, image.content_type, image.payload[:2]) == ("image", "image/jpeg", b"\xff\xd8")
    assert dict(image.properties) == {"id": payload["id"], "event": "appeared", "track_id": "7"}
