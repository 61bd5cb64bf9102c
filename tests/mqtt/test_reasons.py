"""What is done at each reason that a broker of MQTT 5 can give: nothing that counts is lost, and the log says what it means."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections import Counter

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from edgeannot.mqtt.client import meaning
from edgeannot.mqtt.options import BrokerOptions
from edgeannot.mqtt.publisher import Publisher
from edgeannot.storage.store import Message, Store
from tests.brokers import DEADLINE_S, status_of, wait_until

FAILURES = sorted({code for code in ReasonCode(PacketTypes.CONNACK).names if code >= 0x80})
NEVER = {0x90, 0x95, 0x99}


class ScriptedBroker:
    """Speaks just enough MQTT 5 to give any reason where the test wants one. 0 stands for success."""

    def __init__(self, *, acknowledge=lambda topic, times: 0, disconnect=None, refuse_subscriptions=0):
        """acknowledge: the reason for the nth message on a topic. disconnect: the reason that ends each connection soon."""
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self._acknowledge, self._disconnect, self._refuse = acknowledge, disconnect, refuse_subscriptions
        self.times: Counter[str] = Counter()
        self.connections = 0
        self._client = None
        self.subscribed = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        with contextlib.suppress(OSError):
            if self._client is not None:
                self._client.shutdown(socket.SHUT_RDWR)
        self._thread.join(DEADLINE_S)

    def _run(self):
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            self.connections += 1
            self._client = client
            with client, client.makefile("rb") as reader:
                try:
                    while self._answer(client, reader):
                        pass
                except OSError:
                    continue

    def _answer(self, client, reader):
        """One packet; False where the connection is over."""
        head = reader.read(1)
        if not head:
            return False
        length = shift = 0
        while True:
            byte = reader.read(1)[0]
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        body = reader.read(length)
        kind = head[0] >> 4
        if kind == 1:  # CONNECT
            client.sendall(b"\x20\x03\x00\x00\x00")
        elif kind == 3:  # PUBLISH
            end = 2 + int.from_bytes(body[:2], "big")
            topic, mid = body[2:end].decode(), body[end : end + 2]
            if self._disconnect is not None:
                client.sendall(bytes([0xE0, 2, self._disconnect, 0]))
                return False
            self.times[topic] += 1
            code = self._acknowledge(topic, self.times[topic])
            first = 0x40 if head[0] & 0x06 == 2 else 0x50
            client.sendall(bytes([first, 3]) + mid + bytes([code]))
        elif kind == 6:  # PUBREL
            client.sendall(b"\x70\x02" + body[:2])
        elif kind == 8:  # SUBSCRIBE
            self.subscribed += 1
            client.sendall(b"\x90\x04" + body[:2] + bytes([0, 0x97 if self.subscribed <= self._refuse else 1]))
        elif kind == 12:
            client.sendall(b"\xd0\x00")
        return kind != 14


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / "state.sqlite") as store:
        yield store


@pytest.fixture
def publisher_to(store):
    publishers = []

    def make(broker, **options):
        quick = {"retry_min_s": 0.02, "retry_max_s": 0.05}
        broker_options = BrokerOptions(url=f"mqtt://127.0.0.1:{broker.port}", **quick | options)
        publishers.append(Publisher(broker_options, store.queue("mqtt"), "pi", status_of("pi")))
        return publishers[-1]

    yield make
    for publisher in publishers:
        publisher.stop(1)


def test_each_reason_has_a_sentence_of_its_own():
    said = {}
    for code in FAILURES:
        reason = ReasonCode(PacketTypes.CONNACK)
        reason.value = code
        said[code] = meaning(reason)

    assert len(set(said.values())) == len(FAILURES) == 35
    assert not any("MQTT does not know" in text for text in said.values())
    reason.value = 0xF0
    assert "0xF0" in meaning(reason), "one that a later version may have"


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("code", [*FAILURES, 0xF0])
def test_a_message_that_is_refused_waits_or_is_counted_and_stops_no_other(store, publisher_to, code, qos):
    with ScriptedBroker(acknowledge=lambda topic, times: code if topic == "t/refused" and times == 1 else 0) as broker:
        publisher = publisher_to(broker)
        publisher.start()
        assert publisher.wait_online(DEADLINE_S)
        store.commit(None, [Message("t/refused", b"1", qos=qos), Message("t/other", b"2", qos=qos)])

        assert publisher.wait_drained(DEADLINE_S)
        assert broker.connections == 1, "no reason is worth a connection"
    assert store.pending().refused == (code in NEVER)
    assert broker.times["t/refused"] == (1 if code in NEVER else 2)


@pytest.mark.parametrize("code", [0x97, 0x87, 0x80, 0x83])
def test_a_quota_does_not_lose_how_things_stand(publisher_to, caplog, code):
    """`status` and `info` are told again until the broker takes them; what is of the moment is not."""
    with ScriptedBroker(acknowledge=lambda _topic, times: code if times <= 2 else 0) as broker:
        publisher = publisher_to(broker)
        publisher.start()
        assert publisher.wait_online(DEADLINE_S)
        publisher.send_now(Message("edgeannot/pi/info", b"{}", "info", retain=True))
        publisher.send_now(Message("edgeannot/pi/telemetry", b"{}", "telemetry"))
        wait_until(lambda: broker.times["edgeannot/pi/info"] == broker.times["edgeannot/pi/status"] == 3, "both to be taken")

    assert broker.times["edgeannot/pi/telemetry"] == 1
    for leaf in ("status", "info"):
        said = [
            record for record in caplog.records if record.message.startswith(f"edgeannot/pi/{leaf}: ") and record.levelno >= logging.WARNING
        ]
        assert ["tried again" in record.message for record in said] == [True], "said once"


def test_what_is_told_anew_takes_the_place_of_what_the_broker_refused(publisher_to):
    heard = []
    with ScriptedBroker(
        acknowledge=lambda topic, times: heard.append(topic) or (0x97 if topic.endswith("info") and times == 1 else 0)
    ) as broker:
        publisher = publisher_to(broker, retry_max_s=30.0)
        publisher.start()
        assert publisher.wait_online(DEADLINE_S)
        publisher.send_now(Message("edgeannot/pi/info", b"1", "info", retain=True))
        wait_until(lambda: broker.times["edgeannot/pi/info"] == 1, "the first")
        publisher.send_now(Message("edgeannot/pi/info", b"2", "info", retain=True))
        wait_until(lambda: broker.times["edgeannot/pi/info"] == 2, "the second, at once")


@pytest.mark.parametrize(
    ("code", "said"),
    [(0x8B, "the broker is shutting down"), (0x98, "administrator"), (0x89, "busy"), (0x00, "the broker ended the connection")],
)
def test_a_broker_that_says_why_it_hangs_up_is_no_other_client(publisher_to, caplog, code, said):
    with ScriptedBroker(disconnect=code) as broker:
        publisher_to(broker).start()
        wait_until(lambda: broker.connections >= 7, "several connections")

    assert said in caplog.text
    assert "another client" not in caplog.text


def test_a_session_that_was_taken_over_is_said_as_such(publisher_to, caplog):
    with ScriptedBroker(disconnect=0x8E) as broker:
        publisher_to(broker).start()
        wait_until(lambda: "another client connected with the same client id" in caplog.text, "the reason in the log")


def test_a_subscription_that_a_quota_refused_is_asked_for_again(publisher_to, caplog):
    with ScriptedBroker(refuse_subscriptions=2) as broker:
        publisher = publisher_to(broker)
        publisher.subscribe("in/#", lambda message: None)
        publisher.start()
        wait_until(lambda: broker.subscribed == 3, "the third try")
        assert broker.connections == 1
    assert "quota for this client is used up" in caplog.text


@pytest.mark.parametrize("qos", [1, 2])
def test_the_size_that_a_real_broker_refuses_costs_no_connection(store, publisher_to, make_broker, qos):
    """mosquitto gives a reason that paho does not expect in an acknowledgement, and hung up on."""
    broker = make_broker("message_size_limit 20000").start()
    publisher = publisher_to(broker)
    publisher.start()
    assert publisher.wait_online(DEADLINE_S)
    store.commit(None, [Message("t/x", bytes(50_000), qos=qos), Message("t/x", b"2", qos=qos)])

    assert publisher.wait_drained(DEADLINE_S)
    assert (store.pending().refused, publisher.connections) == (1, 1)
