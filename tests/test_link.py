"""From the outbox to a real broker: late, restarted, refused, silent, cut. Nothing is lost, and repeats can be told."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgeannot.broker import BrokerOptions
from edgeannot.errors import EdgeannotError, LinkError
from edgeannot.link import Link
from edgeannot.payload import Origin
from edgeannot.store import LedgerEntry, Message, Signature, Store
from tests.brokers import DEADLINE_S, free_port, wait_until

STATUS = "edgeannot/pi/status"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "state.sqlite") as store:
        yield store


@pytest.fixture
def start(store: Store) -> Iterator[Callable[..., Link]]:
    """Start links that try again after hundredths of a second; they end with the test."""
    links: list[Link] = []

    def make(url: str, *, window: int = 64, **options) -> Link:
        quick = {"retry_min_s": 0.02, "retry_max_s": 0.05, "connect_timeout_s": 5}
        link = Link(BrokerOptions(url=url, **quick | options), store, Origin("pi", "boot-1"), window=window)
        links.append(link)
        link.start()
        return link

    yield make
    for link in links:
        link.stop(2)


def put(store: Store, first: int, count: int, size: int = 0) -> None:
    """Commit pictures whose one message says its number, as id."""
    for number in range(first, first + count):
        text = json.dumps({"id": number, "pad": "x" * size}).encode()
        store.commit(LedgerEntry("porch", str(number), Signature(number, 0, 0), b""), [Message("edgeannot/pi/porch/detections", text)])


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
    link = start(broker.url, protocol=protocol, window=10)

    assert link.wait_drained(DEADLINE_S)
    subscriber.wait_for(lambda s: len(numbers(s)) >= 200, "200 messages")
    assert numbers(subscriber) == list(range(200))
    assert link.sent == 200


def test_mqtt_5_messages_carry_their_type_expiry_and_properties(store, start, broker, make_subscriber):
    subscriber = make_subscriber(broker)
    start(broker.url)
    store.commit(None, [Message("t/image", b"\xff\xd8", "image", content_type="image/jpeg", expiry_s=100, properties=(("id", "abc"),))])
    subscriber.wait_for(lambda s: s.payloads("t/image"), "the picture")

    [message] = [m for m in subscriber.messages if m.topic == "t/image"]
    assert message.properties.ContentType == "image/jpeg"
    assert message.properties.MessageExpiryInterval <= 100
    assert message.properties.UserProperty == [("id", "abc")]


def test_the_broker_may_come_hours_later(store, start, make_broker, make_subscriber, caplog):
    caplog.set_level(logging.INFO, "edgeannot.link")
    broker = make_broker()
    link = start(broker.url)
    put(store, 0, 50)
    assert not link.wait_online(0.3)
    assert store.pending().rows == 50

    broker.start()
    subscriber = make_subscriber(broker)
    assert link.wait_drained(DEADLINE_S)

    put(store, 50, 50)
    assert link.wait_drained(DEADLINE_S)
    subscriber.wait_for(lambda s: set(numbers(s)) >= set(range(50, 100)), "the later fifty")
    refusals = [record for record in caplog.records if "Connection refused" in record.message]
    assert len(refusals) == 1, "only a change of state is logged"
    assert any("connected to" in record.message for record in caplog.records)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_broker_restarted_in_the_middle_costs_no_message(store, start, broker, make_subscriber, make_wire, end):
    """New connections are held off until the test's own subscriber is back: what it misses would be the broker's loss, not ours."""
    wire = make_wire(broker.port)
    wire.connected = False
    link = start(wire.url, window=16)
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
    assert link.wait_drained(DEADLINE_S)
    subscriber.wait_for(lambda s: 1499 in numbers(s), "the last message")
    seen += numbers(subscriber)

    assert set(seen) == set(range(1500))
    repeats = len(seen) - 1500
    assert repeats <= 3 * 16, "at most what was in flight comes twice"
    assert link.connections == 4


def test_a_link_that_is_cut_again_and_again_loses_nothing_and_keeps_the_order(store, start, broker, make_subscriber, make_wire):
    subscriber = make_subscriber(broker)
    wire = make_wire(broker.port)
    link = start(wire.url, window=8)
    writer = threading.Thread(target=put, args=(store, 0, 1000))
    writer.start()
    for cut in range(1, 9):
        wait_until(lambda cut=cut: wire.accepted >= cut and len(numbers(subscriber)) >= 50 * cut, f"cut {cut}")
        wire.cut()
    writer.join(DEADLINE_S)
    assert link.wait_drained(DEADLINE_S)
    subscriber.wait_for(lambda s: 999 in numbers(s), "the last message")

    seen = numbers(subscriber)
    firsts = list(dict.fromkeys(seen))
    assert firsts == list(range(1000)), "first arrivals are in order"
    assert len(seen) - 1000 <= 8 * 8
    assert store.pending().refused == 0


def test_the_status_is_retained_and_follows_what_happens(store, start, broker, make_subscriber, make_wire):
    wire = make_wire(broker.port)
    link = start(wire.url)
    wait_until(lambda: f"Received PUBLISH from edgeannot-pi (d0, q1, r1, m1, '{STATUS}'" in broker.log(), "the status to be published")
    subscriber = make_subscriber(broker, STATUS)
    subscriber.wait_for(lambda s: states(s) == ["online"], "the retained status")
    assert subscriber.messages[0].retain

    wire.connected = False
    wire.cut()
    subscriber.wait_for(lambda s: states(s)[-1] == "offline", "the last will")
    wire.connected = True
    subscriber.wait_for(lambda s: states(s)[-1] == "online", "online again")
    link.stop()
    subscriber.wait_for(lambda s: states(s)[-1] == "stopping", "stopping")

    late = make_subscriber(broker, STATUS)
    late.wait_for(lambda s: states(s) == ["stopping"], "stopping, retained, and no will after it")
    assert link.state == "stopped"


def test_a_broker_that_lost_its_memory_is_told_again(store, start, broker, make_subscriber):
    link = start(broker.url)
    link.tell(Message("edgeannot/pi/info", b"{}", "info", retain=True))
    store.commit(None, [Message("edgeannot/pi/porch/count", b"1 cat", "count", retain=True)])
    assert link.wait_drained(DEADLINE_S)
    broker.kill()  # it keeps nothing on disk
    broker.start()

    subscriber = make_subscriber(broker)
    subscriber.wait_for(
        lambda s: {m.topic for m in s.messages} >= {STATUS, "edgeannot/pi/info", "edgeannot/pi/porch/count"}, "status, info and count"
    )


def test_told_messages_pass_by_the_outbox(store, start, broker, make_subscriber):
    subscriber = make_subscriber(broker)
    link = start(broker.url)
    assert link.wait_online(DEADLINE_S)
    link.tell(Message("edgeannot/pi/telemetry", b"{}", "telemetry", qos=0))

    subscriber.wait_for(lambda s: s.payloads("edgeannot/pi/telemetry"), "telemetry")
    assert store.pending().rows == 0


def test_a_refused_password_is_said_by_its_meaning_and_the_right_one_works_at_once(
    store, start, make_broker, make_subscriber, tmp_path, caplog
):
    mosquitto_passwd(tmp_path / "users", "edge", "right")
    broker = make_broker(f"password_file {tmp_path}/users", anonymous=False).start()
    subscriber = make_subscriber(broker, user=("edge", "right"))
    secret = tmp_path / "secret"
    secret.write_text("wrong\n")
    put(store, 0, 20)
    link = start(broker.url, username="edge", password_file=secret)
    wait_until(lambda: "not authorised" in caplog.text, "the refusal in the log")
    assert not link.wait_online(0.1)

    secret.write_text("right\n")

    assert link.wait_drained(DEADLINE_S)
    subscriber.wait_for(lambda s: numbers(s) == list(range(20)), "all messages")
    assert len([record for record in caplog.records if "not authorised" in record.message]) == 1
    assert "wrong" not in caplog.text


def test_topics_that_may_not_be_written_wait_while_others_flow(store, start, make_broker, make_subscriber, tmp_path, caplog):
    acl = tmp_path / "acl"
    acl.write_text("topic read #\ntopic write edgeannot/pi/status\ntopic write edgeannot/pi/door/detections\n")
    broker = make_broker(f"acl_file {acl}").start()
    subscriber = make_subscriber(broker)
    put(store, 0, 3)
    store.commit(None, [Message("edgeannot/pi/door/detections", b"let through")])
    link = start(broker.url)

    subscriber.wait_for(lambda s: s.payloads("edgeannot/pi/door/detections"), "the topic that is allowed")
    wait_until(lambda: "edgeannot/pi/porch/detections: the broker does not let us write there" in caplog.text, "the refusal in the log")
    wait_until(lambda: store.pending().rows == 3, "the acknowledgement of that one")
    broker.stop()
    acl.write_text("topic readwrite #\n")
    broker.start()
    again = make_subscriber(broker)
    assert link.wait_drained(DEADLINE_S)
    put(store, 3, 1)
    again.wait_for(lambda s: 3 in numbers(s), "a later message")


def test_a_message_larger_than_the_broker_takes_is_dropped_alone(store, start, make_broker, make_subscriber, caplog):
    broker = make_broker("max_packet_size 20000").start()
    subscriber = make_subscriber(broker)
    put(store, 0, 1)
    put(store, 1, 1, size=50_000)
    put(store, 2, 1)
    link = start(broker.url)

    assert link.wait_drained(DEADLINE_S)
    subscriber.wait_for(lambda s: numbers(s) == [0, 2], "the two that fit")
    assert store.pending().refused == 1
    assert "takes packets of up to 20000 bytes" in caplog.text


def test_a_message_over_a_limit_that_the_broker_did_not_tell_is_dropped_alone(store, start, make_broker, make_subscriber, caplog):
    broker = make_broker("message_size_limit 20000").start()
    subscriber = make_subscriber(broker)
    put(store, 0, 1)
    put(store, 1, 1, size=50_000)
    put(store, 2, 1)
    link = start(broker.url)

    assert link.wait_drained(DEADLINE_S)
    subscriber.wait_for(lambda s: set(numbers(s)) == {0, 2}, "the two that fit")
    assert store.pending().refused == 1


def test_messages_dropped_one_after_another_are_said_once(store, start, make_broker, caplog):
    broker = make_broker("max_packet_size 20000").start()
    put(store, 0, 5, size=50_000)
    link = start(broker.url)

    assert link.wait_drained(DEADLINE_S)
    assert store.pending().refused == 5
    assert sum(record.levelno >= logging.WARNING for record in caplog.records) == 1


def test_standing_messages_that_are_too_large_do_not_keep_the_others_back(store, start, make_broker, make_subscriber, caplog):
    broker = make_broker("max_packet_size 2000").start()
    subscriber = make_subscriber(broker)
    link = start(broker.url)
    link.tell(Message("edgeannot/pi/info", b"x" * 5000, "info", retain=True))
    put(store, 0, 3)

    assert link.wait_drained(DEADLINE_S)
    subscriber.wait_for(lambda s: numbers(s) == [0, 1, 2], "what fits")
    assert link.connections == 1


@pytest.mark.parametrize("error", [LinkError("the disk is full"), EdgeannotError("the database is damaged"), RuntimeError("surprise")])
def test_a_store_that_fails_for_a_while_ends_no_link(store, start, make_broker, make_subscriber, monkeypatch, caplog, error):
    broker = make_broker()
    failures = threading.Semaphore(0)
    pending = Store.pending

    def failing(self):
        if broker.log() == "":
            failures.release()
            raise error
        return pending(self)

    monkeypatch.setattr(Store, "pending", failing)
    put(store, 0, 2)
    link = start(broker.url)
    assert failures.acquire(timeout=DEADLINE_S)
    broker.start()

    assert link.wait_drained(DEADLINE_S)
    assert sum(record.exc_info is not None for record in caplog.records) <= 1, "no traceback again and again"


def test_a_message_that_an_old_broker_hangs_up_on_is_found_and_dropped(store, start, make_broker, make_subscriber, caplog):
    """MQTT 3.1.1 has no word for it: the broker closes the connection each time."""
    broker = make_broker("max_packet_size 20000").start()
    subscriber = make_subscriber(broker)
    put(store, 0, 5)
    put(store, 5, 1, size=50_000)
    put(store, 6, 5)
    link = start(broker.url, protocol="3.1.1")

    assert link.wait_drained(DEADLINE_S)
    subscriber.wait_for(lambda s: set(numbers(s)) == set(range(11)) - {5}, "all but the large one")
    assert store.pending().refused == 1
    assert "hung up" in caplog.text


def test_a_silent_broker_is_noticed_by_keepalive_and_nothing_is_lost(store, start, broker, make_subscriber, make_wire, caplog):
    wire = make_wire(broker.port)
    link = start(wire.url, keepalive_s=2)
    assert link.wait_online(DEADLINE_S)
    broker.pause()
    put(store, 0, 30)
    wait_until(lambda: "nothing was heard" in caplog.text or "connection was lost" in caplog.text, "the silence to be noticed", 10)
    assert store.pending().rows == 30
    broker.resume()

    subscriber = make_subscriber(broker)
    put(store, 30, 1)
    assert link.wait_drained(DEADLINE_S)
    subscriber.wait_for(lambda s: 30 in numbers(s), "the last message")
    assert link.connections >= 2


def test_tls_with_an_authority_of_ones_own(store, start, make_broker, certificates, tmp_path):
    broker = make_broker(*tls(certificates)).start()
    put(store, 0, 10)
    link = start(f"mqtts://localhost:{broker.port}", ca_file=certificates / "ca.crt")

    assert link.wait_drained(DEADLINE_S)


def test_a_client_certificate_is_shown_where_the_broker_wants_one(store, start, make_broker, certificates):
    broker = make_broker(*tls(certificates), "require_certificate true").start()
    put(store, 0, 10)
    pair = {"cert_file": certificates / "client.crt", "key_file": certificates / "client.key"}
    link = start(f"mqtts://localhost:{broker.port}", ca_file=certificates / "ca.crt", **pair)

    assert link.wait_drained(DEADLINE_S)


@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")  # paho leaves it to the garbage collector
@pytest.mark.parametrize("ca_file", ["other.crt", None])
def test_a_broker_that_nobody_vouches_for_is_never_sent_anything(store, start, make_broker, certificates, caplog, ca_file):
    broker = make_broker(*tls(certificates)).start()
    put(store, 0, 1)
    link = start(f"mqtts://localhost:{broker.port}", ca_file=certificates / ca_file if ca_file else None)

    wait_until(lambda: "is not trusted" in caplog.text, "the reason in the log")
    assert not link.wait_online(0.1)
    assert store.pending().rows == 1


def test_websockets_carry_it_too(store, start, make_broker, make_subscriber):
    port = free_port()
    make_broker(f"listener {port} 127.0.0.1", "protocol websockets").start()
    put(store, 0, 300)
    link = start(f"ws://127.0.0.1:{port}/mqtt")

    assert link.wait_drained(DEADLINE_S)
    assert link.sent == 300


def test_two_devices_of_one_name_are_told_apart_in_the_log(store, start, broker, caplog):
    start(broker.url)
    start(broker.url)

    wait_until(lambda: "is another client there as 'edgeannot-pi'" in caplog.text, "the reason in the log")


def test_subscriptions_are_renewed_after_a_restart_and_a_choking_handler_harms_nobody(tmp_path, broker, make_broker, make_subscriber):
    """Used for commands: they must work after the broker was away."""
    heard: list[bytes] = []
    with Store.open(tmp_path / "other.sqlite") as store, Store.open(tmp_path / "sender.sqlite") as outbox:

        def handle(message) -> None:
            heard.append(bytes(message.payload))
            raise ValueError("choked")

        quick = {"retry_min_s": 0.02, "retry_max_s": 0.05}
        link = Link(BrokerOptions(url=broker.url, **quick), store, Origin("pi", "b"))
        link.subscribe("commands/+", handle)
        sender = Link(BrokerOptions(url=broker.url, **quick), outbox, Origin("other", "b"))
        link.start()
        sender.start()
        try:
            for text in (b"1", b"2"):
                wait_until(lambda: broker.log().count("Sending SUBACK to edgeannot-pi") >= len(heard) + 1, "the subscription")
                outbox.commit(None, [Message("commands/x", text)])
                wait_until(lambda text=text: text in heard, "the command")
                broker.stop()
                broker.start()
        finally:
            link.stop(2)
            sender.stop(2)

    assert heard == [b"1", b"2"]


def test_stopping_while_the_broker_is_away_is_quick_and_keeps_everything(store, start, make_broker):
    link = start(make_broker().url, retry_min_s=60, retry_max_s=60)
    put(store, 0, 5)
    link.stop(5)

    assert link.state == "stopped"
    assert store.pending().rows == 5


def test_stopping_before_the_start_is_no_error(store, broker):
    Link(BrokerOptions(url=broker.url), store, Origin("pi", "b")).stop()


def tls(certificates: Path) -> list[str]:
    return [f"cafile {certificates}/ca.crt", f"certfile {certificates}/server.crt", f"keyfile {certificates}/server.key"]


def mosquitto_passwd(path: Path, user: str, password: str) -> None:

    if shutil.which("mosquitto_passwd") is None:
        pytest.skip("mosquitto_passwd is not installed")
    subprocess.run(["mosquitto_passwd", "-c", "-b", str(path), user, password], check=True, capture_output=True)
    path.chmod(0o644)
