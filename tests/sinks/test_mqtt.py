"""Results over MQTT: what the messages of one picture are like."""

from __future__ import annotations

from edgeannot.sinks.mqtt import HomeAssistantOptions, MqttOptions, MqttSink


def test_a_picture_is_kept_by_the_broker_only_for_home_assistant(annotate, context):
    for wanted in (False, True):
        options = MqttOptions(images=True, home_assistant=HomeAssistantOptions(enabled=wanted))
        [picture] = [message for message in MqttSink(options, context).write(annotate()) if message.kind == "image"]

        assert picture.retain is wanted
