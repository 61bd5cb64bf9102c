"""What a client keeps of a message that comes: all of it, or the beginning and its size."""

from __future__ import annotations

import subprocess
import sys
import threading
import tracemalloc

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edgeannot.mqtt.bounded_client import BoundedClient
from edgeannot.mqtt.client import size_of
from tests.brokers import DEADLINE_S, wait_until

MB = 2**20

SENDER = """
import sys
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

port, protocol, qos, size, words = (int(word) for word in sys.argv[1:6])
client = paho.Client(CallbackAPIVersion.VERSION2, protocol=protocol)
client.on_connect = lambda *_: client.loop_write()
client.connect("127.0.0.1", port)
client.loop_start()
properties = None
if protocol == paho.MQTTv5:
    properties = Properties(PacketTypes.PUBLISH)
    properties.ResponseTopic, properties.CorrelationData = "answers/here", b"number 7"
    properties.UserProperty = [("word", "x" * 60_000)] * words
client.publish("in/large", b"\\xff\\xd8" + bytes(size), qos, properties=properties).wait_for_publish(300)
client.publish("in/next", b"small", qos).wait_for_publish(300)
client.disconnect()
"""


def send(broker, protocol, qos, size, words=0):
    """Publish a large message and a small one, from a process of its own, whose memory is not ours."""
    command = [sys.executable, "-c", SENDER, str(broker.port), str(int(protocol)), str(qos), str(size), str(words)]
    subprocess.run(command, check=True, timeout=DEADLINE_S)


class Receiver:
    """A session that outlives its connections."""

    def __init__(self, broker, protocol, qos):
        clean = None if protocol == paho.MQTTv5 else False
        self.client = BoundedClient(CallbackAPIVersion.VERSION2, client_id="receiver", protocol=protocol, clean_session=clean)
        self.client.keep_bytes = MB
        self.came = []
        self.client.on_message = lambda _client, _data, message: self.came.append(message)
        subscribed = threading.Event()
        self.client.on_connect = lambda *_: self.client.subscribe("in/#", qos)
        self.client.on_subscribe = lambda *_: subscribed.set()
        options = {}
        if protocol == paho.MQTTv5:
            options = {"clean_start": False, "properties": Properties(PacketTypes.CONNECT)}
            options["properties"].SessionExpiryInterval = 600
        self.client.connect("127.0.0.1", broker.port, **options)
        self.client.loop_start()
        assert subscribed.wait(DEADLINE_S)

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


@pytest.mark.parametrize("protocol", [paho.MQTTv5, paho.MQTTv311])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_message_over_the_limit_is_read_away_and_does_not_come_again(broker, protocol, qos):
    receiver = Receiver(broker, protocol, qos)
    tracemalloc.start()
    try:
        send(broker, protocol, qos, 40 * MB)
        wait_until(lambda: len(receiver.came) == 2, "both messages")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    receiver.close()
    large, small = receiver.came

    assert peak < 5 * MB
    assert (large.topic, size_of(large), bytes(large.payload[:3])) == ("in/large", (40 * MB + 2, False), b"\xff\xd8\0")
    assert (small.topic, size_of(small), small.payload) == ("in/next", (5, True), b"small")
    if protocol == paho.MQTTv5:
        assert (large.properties.ResponseTopic, large.properties.CorrelationData) == ("answers/here", b"number 7")
    again = Receiver(broker, protocol, qos)
    again.client.publish("in/end", b"", qos)
    wait_until(lambda: again.came, "the end")
    again.close()
    assert [message.topic for message in again.came] == ["in/end"], "nothing came again"


def test_what_is_within_the_limit_is_kept_whole(broker):
    receiver = Receiver(broker, paho.MQTTv5, 1)
    send(broker, paho.MQTTv5, 1, MB - 2)
    wait_until(lambda: len(receiver.came) == 2, "both messages")
    receiver.close()

    assert receiver.came[0].payload == b"\xff\xd8" + bytes(MB - 2)


def test_properties_that_are_too_many_to_be_kept_are_left_out(broker):
    receiver = Receiver(broker, paho.MQTTv5, 2)
    send(broker, paho.MQTTv5, 2, 4 * MB, words=10)
    wait_until(lambda: len(receiver.came) == 2, "both messages")
    receiver.close()

    assert size_of(receiver.came[0])[0] > 4 * MB
    assert not hasattr(receiver.came[0].properties, "ResponseTopic")
    assert receiver.came[1].payload == b"small"
