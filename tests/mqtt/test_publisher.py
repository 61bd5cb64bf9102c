"""From the outbox to a real broker: late, restarted, refused, silent, cut. Nothing is lost, and repeats can be told."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgeannot.base.errors import EdgeannotError, LinkError
from edgeannot.base.file_signature import FileSignature, LedgerEntry
from edgeannot.mqtt.bounded_client import BoundedClient, client_class
from edgeannot.mqtt.options import BrokerOptions
from edgeannot.mqtt.publisher import Publisher
from edgeannot.storage.store import Message, Queue, Store
from tests.brokers import free_port, status_of, wait_until
from tests.patience import DEADLINE_S

STATUS = "edgeannot/pi/status"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "state.sqlite") as store:
        yield store


@pytest.fixture
def start(store: Store) -> Iterator[Callable[..., Publisher]]:
    """Start publishers that try again after hundredths of a second; they end with the test."""
    publishers: list[Publisher] = []

    def make(url: str, *, window: int = 64, **options) -> Publisher:
        quick = {"retry_min_s": 0.02, "retry_max_s": 0.05, "connect_timeout_s": 5}
        publisher = Publisher(BrokerOptions(url=url, **quick | options), store.queue("mqtt"), "pi", status_of("pi"), window=window)
        publishers.append(publisher)
        publisher.start()
        return publisher

    yield make
    for publisher in publishers:
        publisher.stop(2)


def put(store: Store, first: int, count: int, size: int = 0) -> None:
    """Commit pictures whose one message says its number, as id."""
    for number in range(first, first + count):
        text = json.dumps({"id": number, "pad": "x" * size}).encode()
        store.commit(LedgerEntry("porch", str(number), FileSignature(number, 0, 0), b""), [Message("edgeannot/pi/porch/detections", text)])


def numbers(subscriber) -> list[int]:
    return [json.loads(payload)["id"] for payload in subscriber.payloads("edgeannot/pi/porch/detections")]


def states(subscriber) -> list[str]:
    return [json.loads(payload)["state"] for payload in subscriber.payloads(STATUS)]


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_messages_arrive_in_order_once_and_leave_the_store(store, start, broker, make_subscriber, protocol, qos):
    subscriber = make_subscriber(broker)
    for number in range(200):
        store.commit(None, [Message("edgeannot/pi/porch/detections", json.dumps({"id": number}).encode(), qos=qos)])
    publisher = start(broker.url, protocol=protocol, window=10)

    assert publisher.wait_drained(DEADLINE_S)
    subscriber.wait_for(lambda s: len(numbers(s)) >= 200, "200 messages")
    assert numbers(subscriber) == list(range(200))
    assert publisher.sent == 200


def test_mqtt_5_messages_carry_their_type_expiry_and_properties(store, start, broker, make_subscriber):
    subscriber = make_subscriber(broker)
    start(broker.url)
    store.commit(
        None,
        [
            Message(
                "t/image", b"\xff\xd8", "image", content_type="image/jpeg", expiry_s=100, properties=(("id", "abc"),), correlation=b"\0c"
            )
        ],
    )
    subscriber.wait_for(lambda s: s.payloads("t/image"), "the picture")

    [message] = [m for m in subscriber.messages if m.topic == "t/image"]
    assert message.properties.ContentType == "image/jpeg"
    assert message.properties.MessageExpiryInterval <= 100
    assert message.properties.UserProperty == [("id", "abc")]
    assert message.properties.CorrelationData == b"\0c"


def test_the_broker_may_come_hours_later(store, start, make_broker, make_subscriber, caplog):
    caplog.set_level(logging.INFO, "edgeannot.mqtt.publisher")
    broker = make_broker()
    publisher = start(broker.url)
    put(store, 0, 50)
    assert not publisher.wait_online(0.3)
    assert store.pending().rows == 50

    broker.start()
    subscriber = make_subscriber(broker)
    assert publisher.wait_drained(DEADLINE_S)

    put(store, 50, 50)
    assert publisher.wait_drained(DEADLINE_S)
    subscriber.wait_for(lambda s: set(numbers(s)) >= set(range(50, 100)), "the later fifty")
    refusals = [record for record in caplog.records if "Connection refused" in record.message]
    assert len(refusals) == 1, "only a change of state is logged"
    assert any("connected to" in record.message for record in caplog.records)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_broker_restarted_in_the_middle_costs_no_message(store, start, broker, make_subscriber, make_wire, end):
    """New connections are held off until the test's own subscriber is back: what it misses would be the broker's loss, not ours."""
    wire = make_wire(broker.port)
    wire.connected = False
    publisher = start(wire.url, window=16)
    seen: list[int] = []
    writer = threading.Thread(target=put, args=(store, 0, 1500))
    writer.start()
    for restart in range(3):
        subscriber = make_subscriber(broker, qos=0)
        wire.connected = True
        subscriber.wait_for(lambda s: len(numbers(s)) >= 100, f"messages before restart {restart}")
        wire.connected = False
        getattr(broker, end)()
        subscriber.wait_over()
        seen += numbers(subscriber)
        broker.start()
    subscriber = make_subscriber(broker, qos=0)
    wire.connected = True
    writer.join(DEADLINE_S)
    assert publisher.wait_drained(DEADLINE_S)
    subscriber.wait_for(lambda s: 1499 in numbers(s), "the last message")
    seen += numbers(subscriber)

    assert set(seen) == set(range(1500))
    repeats = len(seen) - 1500
    assert repeats <= 3 * 16, "at most what was in flight comes twice"
    assert publisher.connections == 4


def test_a_link_that_is_cut_again_and_again_loses_nothing_and_keeps_the_order(store, start, broker, make_subscriber, make_wire):
    subscriber = make_subscriber(broker)
    wire = make_wire(broker.port)
    publisher = start(wire.url, window=8)
    writer = threading.Thread(target=put, args=(store, 0, 1000))
    writer.start()
    for cut in range(1, 9):
        wait_until(lambda cut=cut: wire.accepted >= cut and len(numbers(subscriber)) >= 50 * cut, f"cut {cut}")
        wire.cut()
    writer.join(DEADLINE_S)
    assert publisher.wait_drained(DEADLINE_S)
    subscriber.wait_for(lambda s: 999 in numbers(s), "the last message")

    seen = numbers(subscriber)
    firsts = list(dict.fromkeys(seen))
    assert firsts == list(range(1000)), "first arrivals are in order"
    assert len(seen) - 1000 <= 8 * 8
    assert store.pending().refused == 0


def test_the_status_is_retained_and_follows_what_happens(store, start, broker, make_subscriber, make_wire):
    wire = make_wire(broker.port)
    publisher = start(wire.url)
    wait_until(lambda: f"Received PUBLISH from edgeannot-pi (d0, q1, r1, m1, '{STATUS}'" in broker.log(), "the status to be published")
    subscriber = make_subscriber(broker, STATUS)
    subscriber.wait_for(lambda s: states(s) == ["online"], "the retained status")
    assert subscriber.messages[0].retain

    wire.connected = False
    wire.cut()
    subscriber.wait_for(lambda s: states(s)[-1] == "offline", "the last will")
    wire.connected = True
    subscriber.wait_for(lambda s: states(s)[-1] == "online", "online again")
    publisher.stop()
    subscriber.wait_for(lambda s: states(s)[-1] == "stopping", "stopping")

    late = make_subscriber(broker, STATUS)
    late.wait_for(lambda s: states(s) == ["stopping"], "stopping, retained, and no will after it")
    assert publisher.state == "stopped"


def test_a_broker_that_lost_its_memory_is_told_again(store, start, broker, make_subscriber):
    publisher = start(broker.url)
    publisher.send_now(Message("edgeannot/pi/info", b"{}", "info", retain=True))
    store.commit(None, [Message("edgeannot/pi/porch/count", b"1 cat", "count", retain=True)])
    assert publisher.wait_drained(DEADLINE_S)
    broker.kill()  # it keeps nothing on disk
    broker.start()

    subscriber = make_subscriber(broker)
    subscriber.wait_for(
        lambda s: {m.topic for m in s.messages} >= {STATUS, "edgeannot/pi/info", "edgeannot/pi/porch/count"}, "status, info and count"
    )


def test_told_messages_pass_by_the_outbox(store, start, broker, make_subscriber):
    subscriber = make_subscriber(broker)
    publisher = start(broker.url)
    assert publisher.wait_online(DEADLINE_S)
    publisher.send_now(Message("edgeannot/pi/telemetry", b"{}", "telemetry", qos=0))

    subscriber.wait_for(lambda s: s.payloads("edgeannot/pi/telemetry"), "telemetry")
    assert store.pending().rows == 0


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_refused_password_is_said_by_its_meaning_and_the_right_one_works_at_once(
    store, start, make_broker, make_subscriber, tmp_path, caplog, protocol
):
    mosquitto_passwd(tmp_path / "users", "edge", "right")
    broker = make_broker(f"password_file {tmp_path}/users", anonymous=False).start()
    subscriber = make_subscriber(broker, user=("edge", "right"))
    secret = tmp_path / "secret"
    secret.write_text("wrong\n")
    put(store, 0, 20)
    publisher = start(broker.url, username="edge", password_file=secret, protocol=protocol)
    wait_until(lambda: "not authorised" in caplog.text, "the refusal in the log")
    assert not publisher.wait_online(0.1)

    secret.write_text("right\n")

    assert publisher.wait_drained(DEADLINE_S)
    subscriber.wait_for(lambda s: numbers(s) == list(range(20)), "all messages")
    assert len([record for record in caplog.records if "not authorised" in record.message]) == 1
    assert "wrong" not in caplog.text


def test_what_the_broker_does_not_let_us_say_of_ourselves_is_reported(store, start, make_broker, make_subscriber, tmp_path, caplog):
    acl = tmp_path / "acl"
    acl.write_text("topic read #\ntopic write edgeannot/pi/porch/detections\n")
    broker = make_broker(f"acl_file {acl}").start()
    publisher = start(broker.url)
    for _ in range(3):
        publisher.send_now(Message("edgeannot/pi/info", b"{}", "info", retain=True))
    put(store, 0, 3)

    assert publisher.wait_drained(DEADLINE_S)
    wait_until(lambda: "edgeannot/pi/info: the broker does not let us write there (not authorised)" in caplog.text, "info")
    assert "edgeannot/pi/status: " in caplog.text
    assert sum(record.levelno >= logging.WARNING for record in caplog.records) == 2, "once for each topic"


@pytest.mark.parametrize("scheme", ["mqtt", "mqtts", "ws"])
def test_messages_that_come_are_heard_whole_whatever_their_size(store, make_broker, certificates, scheme):
    port = free_port()
    extra = {"mqtt": [], "mqtts": tls(certificates), "ws": ["protocol websockets"]}[scheme]
    broker = make_broker(f"listener {port} 127.0.0.1", *extra).start()
    ca = {"ca_file": certificates / "ca.crt"} if scheme == "mqtts" else {}
    publisher = Publisher(BrokerOptions(url=f"{scheme}://localhost:{port}", **ca), store.queue("mqtt"), "pi", status_of("pi"))
    heard: list[bytes] = []
    publisher.subscribe("in/#", lambda message: heard.append(bytes(message.payload)))
    publisher.start()
    sizes = [0, 1, 127, 128, 16_384, 65_530, 65_536, 300_000, *range(200)]
    try:
        wait_until(lambda: "Sending SUBACK to edgeannot-pi" in broker.log(), "the subscription")
        for size in sizes:
            store.commit(None, [Message("in/x", size.to_bytes(4, "big") + bytes(size))])
        wait_until(lambda: len(heard) >= len(sizes), "all of them")
    finally:
        publisher.stop(2)

    assert heard == [size.to_bytes(4, "big") + bytes(size) for size in sizes]


def test_the_bounded_client_is_in_use():
    """Where paho has changed within, everything works, slower and without the bound: then look at bounded_client again."""
    assert client_class() is BoundedClient


def test_topics_that_may_not_be_written_wait_while_others_flow(store, start, make_broker, make_subscriber, tmp_path, caplog):
    acl = tmp_path / "acl"
    acl.write_text("topic read #\ntopic write edgeannot/pi/status\ntopic write edgeannot/pi/door/detections\n")
    broker = make_broker(f"acl_file {acl}").start()
    subscriber = make_subscriber(broker)
    put(store, 0, 3)
    store.commit(None, [Message("edgeannot/pi/door/detections", b"let through")])
    publisher = start(broker.url)

    subscriber.wait_for(lambda s: s.payloads("edgeannot/pi/door/detections"), "the topic that is allowed")
    wait_until(lambda: "edgeannot/pi/porch/detections: the broker does not let us write there" in caplog.text, "the refusal in the log")
    wait_until(lambda: store.pending().rows == 3, "the acknowledgement of that one")
    broker.stop()
    acl.write_text("topic readwrite #\n")
    broker.start()
    again = make_subscriber(broker)
    assert publisher.wait_drained(DEADLINE_S)
    put(store, 3, 1)
    again.wait_for(lambda s: 3 in numbers(s), "a later message")


def test_a_message_larger_than_the_broker_takes_is_dropped_alone(store, start, make_broker, make_subscriber, caplog):
    broker = make_broker("max_packet_size 20000").start()
    subscriber = make_subscriber(broker)
    put(store, 0, 1)
    put(store, 1, 1, size=50_000)
    put(store, 2, 1)
    publisher = start(broker.url)

    assert publisher.wait_drained(DEADLINE_S)
    subscriber.wait_for(lambda s: numbers(s) == [0, 2], "the two that fit")
    assert store.pending().refused == 1
    assert "accepts packets of up to 20000 bytes" in caplog.text


def test_a_message_over_a_limit_that_the_broker_did_not_tell_is_dropped_alone(store, start, make_broker, make_subscriber, caplog):
    broker = make_broker("message_size_limit 20000").start()
    subscriber = make_subscriber(broker)
    put(store, 0, 1)
    put(store, 1, 1, size=50_000)
    put(store, 2, 1)
    publisher = start(broker.url)

    assert publisher.wait_drained(DEADLINE_S)
    subscriber.wait_for(lambda s: set(numbers(s)) == {0, 2}, "the two that fit")
    assert store.pending().refused == 1


def test_messages_dropped_one_after_another_are_said_once(store, start, make_broker, caplog):
    broker = make_broker("max_packet_size 20000").start()
    put(store, 0, 5, size=50_000)
    publisher = start(broker.url)

    assert publisher.wait_drained(DEADLINE_S)
    assert store.pending().refused == 5
    assert sum(record.levelno >= logging.WARNING for record in caplog.records) == 1


def test_standing_messages_that_are_too_large_do_not_keep_the_others_back(store, start, make_broker, make_subscriber, caplog):
    broker = make_broker("max_packet_size 2000").start()
    subscriber = make_subscriber(broker)
    publisher = start(broker.url)
    publisher.send_now(Message("edgeannot/pi/info", b"x" * 5000, "info", retain=True))
    put(store, 0, 3)

    assert publisher.wait_drained(DEADLINE_S)
    subscriber.wait_for(lambda s: numbers(s) == [0, 1, 2], "what fits")
    assert publisher.connections == 1


def test_where_a_reply_is_too_large_for_the_broker_what_stands_in_for_it_is_told(start, make_broker, make_subscriber):
    broker = make_broker("max_packet_size 2000").start()
    subscriber = make_subscriber(broker, "reply")
    publisher = start(broker.url)
    assert publisher.wait_online(DEADLINE_S)
    publisher.send_now(Message("reply", b"x" * 5000, "reply", instead=Message("reply", b"too large", "reply")))

    subscriber.wait_for(lambda s: s.messages, "a reply")
    assert subscriber.payloads() == [b"too large"]


def test_a_disk_that_is_full_keeps_no_message_from_being_sent_once(store, start, broker, make_subscriber, monkeypatch, caplog):
    """What was acknowledged cannot be removed for now: that is no reason to send it again."""
    subscriber = make_subscriber(broker)
    full = threading.Event()
    full.set()
    delete = Queue.delete

    def failing(self, ids, **options):
        if full.is_set():
            raise LinkError("the disk is full")
        delete(self, ids, **options)

    monkeypatch.setattr(Queue, "delete", failing)
    put(store, 0, 500)
    publisher = start(broker.url)
    subscriber.wait_for(lambda s: len(numbers(s)) == 500, "all messages")
    wait_until(lambda: "the disk is full" in caplog.text, "the reason in the log")
    put(store, 500, 10)
    subscriber.wait_for(lambda s: len(numbers(s)) == 510, "those that came meanwhile")
    full.clear()

    assert publisher.wait_drained(DEADLINE_S)
    assert numbers(subscriber) == list(range(510))
    assert (publisher.connections, publisher.sent) == (1, 510)
    assert len([record for record in caplog.records if "the disk is full" in record.message]) == 1


@pytest.mark.parametrize("error", [LinkError("the disk is full"), EdgeannotError("the database is damaged"), RuntimeError("surprise")])
def test_a_store_that_fails_for_a_while_ends_no_link(store, start, make_broker, make_subscriber, monkeypatch, caplog, error):
    broker = make_broker()
    failures = threading.Semaphore(0)
    pending = Queue.pending

    def failing(self):
        if broker.log() == "":
            failures.release()
            raise error
        return pending(self)

    monkeypatch.setattr(Queue, "pending", failing)
    put(store, 0, 2)
    publisher = start(broker.url)
    assert failures.acquire(timeout=DEADLINE_S)
    broker.start()

    assert publisher.wait_drained(DEADLINE_S)
    assert sum(record.exc_info is not None for record in caplog.records) <= 1, "no traceback again and again"


def test_a_message_that_an_old_broker_hangs_up_on_is_found_and_dropped(store, start, make_broker, make_subscriber, caplog):
    """MQTT 3.1.1 has no word for it: the broker closes the connection each time."""
    broker = make_broker("max_packet_size 20000").start()
    subscriber = make_subscriber(broker)
    put(store, 0, 5)
    put(store, 5, 1, size=50_000)
    put(store, 6, 5)
    publisher = start(broker.url, protocol="3.1.1")

    assert publisher.wait_drained(DEADLINE_S)
    subscriber.wait_for(lambda s: set(numbers(s)) == set(range(11)) - {5}, "all but the large one")
    assert store.pending().refused == 1
    assert "hung up" in caplog.text


def test_results_do_not_wait_behind_pictures_that_an_old_broker_hangs_up_on(store, start, make_broker, make_subscriber, caplog):
    """With the pauses that are the default: two broken connections find out, and what was learned costs no further one."""
    broker = make_broker("max_packet_size 20000").start()
    subscriber = make_subscriber(broker)
    for number in range(12):
        put(store, number, 1)
        store.commit(None, [Message("edgeannot/pi/porch/image", bytes(30_000 + number), "image", content_type="image/jpeg")])
    store.commit(None, [Message("edgeannot/pi/porch/image", bytes(5000), "image", content_type="image/jpeg")])
    publisher = start(broker.url, protocol="3.1.1", retry_min_s=1.0, retry_max_s=60.0)
    subscriber.wait_for(lambda s: len(set(numbers(s))) == 12, "every result")
    for_results = publisher.connections
    assert publisher.wait_drained(DEADLINE_S)
    subscriber.wait_for(lambda s: s.payloads("edgeannot/pi/porch/image"), "the picture that fits, no victim of the others")

    assert for_results <= 3, "the results come as soon as it is known what breaks the connection"
    assert publisher.connections <= 4
    assert store.pending().refused == 12
    assert subscriber.payloads("edgeannot/pi/porch/image") == [bytes(5000)]
    assert "is another client connected" not in caplog.text
    put(store, 12, 1)
    store.commit(None, [Message("edgeannot/pi/porch/image", bytes(40_000), "image", content_type="image/jpeg")])
    assert publisher.wait_drained(DEADLINE_S)
    assert (publisher.connections <= 4, store.pending().refused) == (True, 13)


def test_what_stands_and_is_too_large_for_an_old_broker_keeps_nothing_back(store, start, make_broker, make_subscriber, caplog):
    """Sent at the beginning of each connection, it would break each."""
    broker = make_broker("max_packet_size 20000").start()
    subscriber = make_subscriber(broker)
    put(store, 0, 5)
    publisher = start(broker.url, protocol="3.1.1")
    publisher.send_now(Message("homeassistant/device/pi/config", bytes(30_000), "discovery", retain=True))
    subscriber.wait_for(lambda s: len(set(numbers(s))) == 5, "every result")
    wait_until(lambda: "homeassistant/device/pi/config: dropping a message of 30000 bytes" in caplog.text, "the reason in the log")
    before = publisher.connections
    put(store, 5, 5)

    assert publisher.wait_drained(DEADLINE_S)
    assert publisher.connections <= before + 1


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_connections_that_break_for_other_reasons_cost_no_picture(store, start, broker, make_subscriber, make_wire, protocol):
    """The broker takes every size; the wire is cut again and again while pictures are under way."""
    wire, subscriber = make_wire(broker.port), make_subscriber(broker)
    publisher = start(wire.url, protocol=protocol)
    for number in range(60):
        put(store, number, 1)
        store.commit(None, [Message("edgeannot/pi/porch/image", bytes(50_000 + number), "image", content_type="image/jpeg")])
        if number % 6 == 5:
            wire.cut()

    assert publisher.wait_drained(3 * DEADLINE_S)
    subscriber.wait_for(lambda s: len({len(p) for p in s.payloads("edgeannot/pi/porch/image")}) == 60, "every picture")
    assert store.pending().refused == 0


def test_a_silent_broker_is_noticed_by_keepalive_and_nothing_is_lost(store, start, broker, make_subscriber, make_wire, caplog):
    wire = make_wire(broker.port)
    publisher = start(wire.url, keepalive_s=2)
    assert publisher.wait_online(DEADLINE_S)
    broker.pause()
    put(store, 0, 30)
    wait_until(lambda: "no answer from the broker" in caplog.text or "connection was lost" in caplog.text, "the silence to be noticed")
    assert store.pending().rows == 30
    broker.resume()

    subscriber = make_subscriber(broker)
    put(store, 30, 1)
    assert publisher.wait_drained(DEADLINE_S)
    subscriber.wait_for(lambda s: 30 in numbers(s), "the last message")
    assert publisher.connections >= 2


def test_tls_with_an_authority_of_ones_own(store, start, make_broker, certificates, tmp_path):
    broker = make_broker(*tls(certificates)).start()
    put(store, 0, 10)
    publisher = start(f"mqtts://localhost:{broker.port}", ca_file=certificates / "ca.crt")

    assert publisher.wait_drained(DEADLINE_S)


def test_a_client_certificate_is_shown_where_the_broker_wants_one(store, start, make_broker, certificates):
    broker = make_broker(*tls(certificates), "require_certificate true").start()
    put(store, 0, 10)
    pair = {"cert_file": certificates / "client.crt", "key_file": certificates / "client.key"}
    publisher = start(f"mqtts://localhost:{broker.port}", ca_file=certificates / "ca.crt", **pair)

    assert publisher.wait_drained(DEADLINE_S)


def test_the_authorities_of_the_system_vouch_where_no_other_is_named(store, start, make_broker, certificates, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "ca.crt"))  # where OpenSSL looks for those of the system
    broker = make_broker(*tls(certificates)).start()
    put(store, 0, 10)
    publisher = start(f"mqtts://localhost:{broker.port}")

    assert publisher.wait_drained(DEADLINE_S)


@pytest.mark.parametrize(
    ("server", "ca_file", "reason"),
    [
        ("server", "other.crt", "unable to get local issuer|self.signed"),
        ("server", None, "unable to get local issuer|self.signed"),
        ("expired", "ca.crt", "certificate has expired"),
        ("elsewhere", "ca.crt", "Hostname mismatch"),
    ],
)
def test_a_broker_that_nobody_vouches_for_is_never_sent_anything(store, start, make_broker, certificates, caplog, server, ca_file, reason):
    broker = make_broker(*tls(certificates, server)).start()
    put(store, 0, 1)
    publisher = start(f"mqtts://localhost:{broker.port}", ca_file=certificates / ca_file if ca_file else None)

    wait_until(lambda: "is not trusted" in caplog.text, "the reason in the log")
    assert re.search(reason, caplog.text)
    assert not publisher.wait_online(0.1)
    assert store.pending().rows == 1
    assert "CONNECT" not in broker.log()


@pytest.mark.parametrize(("shown", "reason"), [(None, "requires a client certificate"), ("stranger", "refuses the client certificate")])
def test_a_client_certificate_that_is_missing_or_not_liked_is_said(store, start, make_broker, certificates, caplog, shown, reason):
    broker = make_broker(*tls(certificates), "require_certificate true").start()
    put(store, 0, 1)
    pair = {"cert_file": certificates / f"{shown}.crt", "key_file": certificates / f"{shown}.key"} if shown else {}
    publisher = start(f"mqtts://localhost:{broker.port}", ca_file=certificates / "ca.crt", **pair)

    wait_until(lambda: reason in caplog.text, "the reason in the log")
    assert not publisher.wait_online(0.1)
    assert store.pending().rows == 1


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # paho leaves it to the garbage collector
@pytest.mark.parametrize("scheme", ["mqtt", "mqtts", "ws"])
def test_a_broker_that_is_silent_from_the_start_is_left_and_tried_again(store, start, make_broker, certificates, caplog, scheme):
    """It accepts the connection, as the kernel does for a stopped process, and then says nothing."""
    port = free_port()
    own = [f"listener {port} 127.0.0.1"]  # mosquitto does not start with WebSockets alone
    broker = make_broker(*own, *{"mqtt": [], "mqtts": tls(certificates), "ws": ["protocol websockets"]}[scheme]).start()
    broker.pause()
    put(store, 0, 3)
    ca = {"ca_file": certificates / "ca.crt"} if scheme == "mqtts" else {}
    publisher = start(f"{scheme}://localhost:{port}", connect_timeout_s=0.3, **ca)
    wait_until(lambda: "trying again" in caplog.text, "the silence to be noticed")
    broker.resume()

    assert publisher.wait_drained(DEADLINE_S)


def test_a_broker_that_answers_pings_and_acknowledges_nothing_is_left(store, start, caplog):
    """As one behind a broken proxy: keepalive finds nothing wrong with it."""
    put(store, 0, 3)
    with DeafBroker() as deaf:
        start(f"mqtt://127.0.0.1:{deaf.port}", keepalive_s=2)
        wait_until(lambda: "has not acknowledged anything for too long" in caplog.text, "the silence to be noticed")

    assert deaf.pings > 0
    assert store.pending().rows == 3


def test_only_so_many_bytes_are_on_their_way(store, start):
    """A window of pictures would be more than a small board has, or a slow line carries before keepalive gives it up."""
    for _ in range(20):
        store.commit(None, [Message("t/image", bytes(300_000), "image")])
    with DeafBroker() as deaf:
        start(f"mqtt://127.0.0.1:{deaf.port}", keepalive_s=2)
        wait_until(lambda: deaf.pings > 0, "a quiet moment")
        assert 1_000_000 <= deaf.received < 1_500_000


def test_a_message_that_takes_longer_than_the_keepalive_is_not_given_up_while_it_moves(store, start, caplog):
    """Looked at in the middle of it: after the last byte the time runs in which this broker has to acknowledge it, and it never does."""
    store.commit(None, [Message("t/image", bytes(2_000_000), "image")])
    with DeafBroker(bytes_per_s=100_000) as slow:
        publisher = start(f"mqtt://127.0.0.1:{slow.port}", keepalive_s=2)
        wait_until(lambda: slow.received > 700_000, "more of it than goes out within the keepalive")
        assert publisher.connections == 1
        assert caplog.text == ""


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_topics_that_may_not_be_read_are_said(store, make_broker, tmp_path, caplog, protocol):
    acl = tmp_path / "acl"
    acl.write_text("topic write #\ntopic read open/#\n")
    broker = make_broker(f"acl_file {acl}").start()
    heard: list[bytes] = []
    publisher = Publisher(BrokerOptions(url=broker.url, protocol=protocol), store.queue("mqtt"), "pi", status_of("pi"))
    publisher.subscribe("closed/#", lambda message: None)
    publisher.subscribe("open/#", lambda message: heard.append(bytes(message.payload)))
    publisher.start()
    try:
        wait_until(lambda: broker.log().count("Sending SUBACK to edgeannot-pi") == 2, "the subscriptions")
        store.commit(None, [Message("open/x", b"1")])
        wait_until(lambda: heard == [b"1"], "what may be read")
    finally:
        publisher.stop(2)

    refused = "nothing is received on closed/#: the broker does not let us read there (not authorised)"
    # mosquitto 2.0 takes each subscription and passes nothing on; others refuse it.
    assert refused in caplog.text or "closed/# (QoS 1)" in broker.log()


@pytest.mark.parametrize("topic", ["edgeannot/+/x", "", "caf\udce9"])
def test_a_message_with_an_impossible_topic_is_dropped_alone(store, start, broker, make_subscriber, caplog, topic):
    subscriber = make_subscriber(broker)
    store_topic = topic if topic.isascii() else "a\0b"  # SQLite takes no lone surrogate, so such a message never gets so far
    put(store, 0, 1)
    store.commit(None, [Message(store_topic, b"x")])
    put(store, 1, 1)
    publisher = start(broker.url)
    publisher.send_now(Message(topic, b"x"))

    assert publisher.wait_drained(DEADLINE_S)
    subscriber.wait_for(lambda s: numbers(s) == [0, 1], "the two others")
    assert store.pending().refused == 1
    assert "cannot be published to" in caplog.text
    assert publisher.connections == 1


def test_more_standing_messages_than_the_window_are_all_told(store, start, broker, make_subscriber):
    """Such as the counts of many cameras: the broker's limit of what may be in flight holds for them, too."""
    subscriber = make_subscriber(broker, "standing/#")
    publisher = start(broker.url, window=4)
    for number in range(100):
        publisher.send_now(Message(f"standing/{number}", b"x", retain=True))
    put(store, 0, 20)

    assert publisher.wait_drained(DEADLINE_S)
    subscriber.wait_for(lambda s: {m.topic for m in s.messages} == {f"standing/{number}" for number in range(100)}, "all of them")


def test_messages_told_too_fast_are_counted(store, broker, start):
    publisher = start(broker.url)
    assert publisher.wait_online(DEADLINE_S)
    broker.pause()
    for _ in range(50_000):
        publisher.send_now(Message("t", b"x", qos=1))
        if publisher.evicted:
            break
    broker.resume()

    assert publisher.evicted > 0


def test_websockets_carry_it_too(store, start, make_broker, make_subscriber):
    port = free_port()
    make_broker(f"listener {port} 127.0.0.1", "protocol websockets").start()
    put(store, 0, 300)
    publisher = start(f"ws://127.0.0.1:{port}/mqtt")

    assert publisher.wait_drained(DEADLINE_S)
    assert publisher.sent == 300


def test_websockets_over_tls(store, start, make_broker, certificates):
    port = free_port()
    make_broker(f"listener {port} 127.0.0.1", "protocol websockets", *tls(certificates)).start()
    put(store, 0, 50)
    publisher = start(f"wss://localhost:{port}/mqtt", ca_file=certificates / "ca.crt")

    assert publisher.wait_drained(DEADLINE_S)


def test_two_devices_of_one_name_are_told_apart_in_the_log(store, start, broker, caplog):
    start(broker.url)
    start(broker.url)

    wait_until(lambda: "is another client connected as 'edgeannot-pi'" in caplog.text, "the reason in the log")


def test_subscriptions_are_renewed_after_a_restart_and_a_choking_handler_harms_nobody(tmp_path, broker, make_broker, make_subscriber):
    """Used for commands: they must work after the broker was away."""
    heard: list[bytes] = []
    with Store.open(tmp_path / "other.sqlite") as store, Store.open(tmp_path / "sender.sqlite") as outbox:

        def handle(message) -> None:
            heard.append(bytes(message.payload))
            raise ValueError("choked")

        quick = {"retry_min_s": 0.02, "retry_max_s": 0.05}
        publisher = Publisher(BrokerOptions(url=broker.url, **quick), store.queue("mqtt"), "pi", status_of("pi"))
        publisher.subscribe("commands/+", handle)
        sender = Publisher(BrokerOptions(url=broker.url, **quick), outbox.queue("mqtt"), "other", status_of("other"))
        publisher.start()
        sender.start()
        try:
            for text in (b"1", b"2"):
                wait_until(lambda: broker.log().count("Sending SUBACK to edgeannot-pi") >= len(heard) + 1, "the subscription")
                outbox.commit(None, [Message("commands/x", text)])
                wait_until(lambda text=text: text in heard, "the command")
                broker.stop()
                broker.start()
        finally:
            publisher.stop(2)
            sender.stop(2)

    assert heard == [b"1", b"2"]


def test_stopping_while_the_broker_is_away_is_quick_and_keeps_everything(store, start, make_broker):
    publisher = start(make_broker().url, retry_min_s=60, retry_max_s=60)
    put(store, 0, 5)
    publisher.stop(5)

    assert publisher.state == "stopped"
    assert store.pending().rows == 5


def test_stopping_before_the_start_is_no_error(store, broker):
    Publisher(BrokerOptions(url=broker.url), store.queue("mqtt"), "pi", status_of("pi")).stop()


def tls(certificates: Path, server: str = "server") -> list[str]:
    return [f"cafile {certificates}/ca.crt", f"certfile {certificates}/{server}.crt", f"keyfile {certificates}/{server}.key"]


class DeafBroker:
    """Lets one client after the other in and answers its pings, nothing else."""

    def __init__(self, bytes_per_s: int = 0) -> None:
        """bytes_per_s: how fast it reads; 0: as fast as it can."""
        self._server = socket.create_server(("127.0.0.1", 0))
        self._pause_s, self._piece = (0.02, bytes_per_s // 50) if bytes_per_s else (0.0, 65536)
        if bytes_per_s:
            self._server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # what waits, waits at the sender
        self._ended = threading.Event()
        self.received = 0
        self.port = int(self._server.getsockname()[1])
        self.pings = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> DeafBroker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(DEADLINE_S)

    def _run(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            with client, contextlib.suppress(ConnectionError):
                client.recv(65536)
                client.sendall(b"\x20\x03\x00\x00\x00")  # CONNACK of MQTT 5, without properties
                while not self._ended.wait(self._pause_s) and (data := client.recv(self._piece)):
                    self.received += len(data)
                    if data.endswith(b"\xc0\x00"):  # PINGREQ
                        self.pings += 1
                        client.sendall(b"\xd0\x00")


def mosquitto_passwd(path: Path, user: str, password: str) -> None:

    if shutil.which("mosquitto_passwd") is None:
        pytest.skip("mosquitto_passwd is not installed")
    subprocess.run(["mosquitto_passwd", "-c", "-b", str(path), user, password], check=True, capture_output=True)
    path.chmod(0o644)
