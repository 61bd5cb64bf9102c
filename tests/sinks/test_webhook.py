"""From the queue to a real HTTP server: late, failing, slow, refusing, moved. Nothing is lost, and repeats can be told."""

from __future__ import annotations

import json
import logging
import socket
import ssl
import threading
import time
from dataclasses import replace

import pytest

from edgeannot.base.connections.http_exchange import retry_after_s
from edgeannot.base.errors import ConfigError, LinkError
from edgeannot.sinks import WebhookOptions
from edgeannot.sinks.queue_sender import QueueSender
from edgeannot.sinks.webhook import WebhookSink
from edgeannot.storage.store import Message, Queue, Store
from tests.brokers import wait_until
from tests.hooks import Hook, hold, status
from tests.patience import DEADLINE_S

QUICK = {"retry_min_s": 0.01, "retry_max_s": 0.05, "timeout_s": 5}


@pytest.fixture
def hook():
    hook = Hook()
    yield hook
    hook.end()


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / "state.sqlite") as store:
        yield store


@pytest.fixture
def start(store, context, tmp_path):
    """Start a sender to a URL; stopped at the end of the test."""
    started = []

    def make(url: str, **options) -> QueueSender:
        sink = WebhookSink(WebhookOptions(enabled=True, url=url, **QUICK | options), context)
        sender = QueueSender(sink, store.queue("webhook"), tmp_path / "undelivered")
        started.append((sender, sink))
        sender.start()
        return sender

    yield make
    for sender, sink in started:
        sender.stop(1)
        sink.close()
        assert not sender._thread.is_alive()


def put(store: Store, first: int, count: int = 1, text: str = "{}") -> None:
    for number in range(first, first + count):
        store.commit(None, [Message(f"key-{number}", text.encode(), sink="webhook")])


def keys(hook: Hook) -> list[str]:
    with hook.lock:
        return [request.key for request in hook.taken]


def names(first: int, count: int) -> list[str]:
    return [f"key-{number}" for number in range(first, first + count)]


def test_a_result_is_posted_as_subscribers_get_it(hook, store, start, annotate, context, tmp_path):
    secret = tmp_path / "token"
    secret.write_text("Bearer s3cr3t-token\n")
    options = {"headers": {"X-Site": "barn"}, "header_files": {"Authorization": secret}, "images": True}
    sender = start(hook.start().url, **options)
    sink = WebhookSink(WebhookOptions(enabled=True, url=hook.url, **options), context)
    store.commit(None, sink.write(annotate(("cat", 15, 0.9, (1, 2, 30, 40)))))

    assert sender.queue.wait_empty(DEADLINE_S)
    result, image = hook.taken
    payload = result.json()
    assert payload["detections"][0]["label"] == "cat"
    assert result.path == "/hook?site=barn"
    wanted = {
        "Content-Type": "application/json",
        "Idempotency-Key": payload["id"],
        "X-Site": "barn",
        "Authorization": "Bearer s3cr3t-token",
    }
    assert wanted.items() <= result.headers.items()
    assert image.headers["Content-Type"] == "image/jpeg"
    assert (image.key, image.headers["Edgeannot-Id"]) == (f"{payload['id']}-image", payload["id"])
    assert image.headers["Edgeannot-Captured-At"] == payload["captured_at"]
    assert image.body.startswith(b"\xff\xd8")
    assert (sender.status.sent, sender.status.trouble, sender.status.state) == (2, "", "online")


def test_messages_go_in_order_over_one_connection(hook, store, start):
    put(store, 0, 200)
    sender = start(hook.start().url)

    assert sender.queue.wait_empty(DEADLINE_S)
    assert keys(hook) == names(0, 200)


def test_a_server_may_come_later_and_go_away_meanwhile(hook, store, start, caplog):
    put(store, 0, 5)
    sender = start(hook.url)
    wait_until(lambda: sender.status.state == "away", "a first attempt")
    assert "Connection refused" in sender.status.trouble
    hook.start()
    assert sender.queue.wait_empty(DEADLINE_S)
    for number in range(5, 8):
        hook.end()
        put(store, number)
        hook.start()
        assert sender.queue.wait_empty(DEADLINE_S)

    assert keys(hook) == names(0, 8)
    assert sum(" waiting, " in record.message for record in caplog.records) <= 4


def test_a_connection_that_the_server_ended_is_made_again_without_a_word(hook, store, start, caplog):
    def answer_and_hang_up(handler):
        handler.close_connection = True  # without saying so
        handler.answer(200)

    hook.reply = answer_and_hang_up
    put(store, 0, 20)
    sender = start(hook.start().url)

    assert sender.queue.wait_empty(DEADLINE_S)
    assert keys(hook) == names(0, 20)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("code", [500, 503, 408, 429, 302, 304])
def test_what_is_busy_or_broken_is_tried_again(hook, store, start, code):
    hook.replies = [status(code)] * 2
    put(store, 0, 3)
    sender = start(hook.start().url)

    assert sender.queue.wait_empty(DEADLINE_S)
    assert keys(hook) == names(0, 3)
    assert len(hook.requests) == 5
    assert sender.queue.pending().refused == 0


def test_retry_after_is_waited_for_and_nothing_else_is_sent_meanwhile(hook, store, start):
    hook.replies = [status(429, Retry_After="1")]
    put(store, 0, 3)
    began = time.monotonic()
    sender = start(hook.start().url)
    wait_until(lambda: hook.requests, "the first request")

    assert sender.queue.wait_empty(DEADLINE_S)
    assert time.monotonic() - began >= 1
    assert keys(hook) == names(0, 3)
    assert len(hook.requests) == 4


@pytest.mark.parametrize(
    ("value", "date", "wanted"),
    [
        ("", "", 0),
        ("7", "", 7),
        (" 7 ", "", 7),
        ("-7", "", 0),
        ("soon", "", 0),
        ("Wed, 21 Oct 2026 07:28:10 GMT", "Wed, 21 Oct 2026 07:28:00 GMT", 10),
        ("Wed, 21 Oct 2026 07:28:10 GMT", "", 4),
        ("Wed, 21 Oct 2026 07:28:10 GMT", "nonsense", 4),
        ("Wed, 21 Oct 2015 07:28:10 GMT", "", 0),
        ("Wed, 21 Oct 99999 07:28:10 GMT", "", 0),
    ],
)
def test_retry_after_is_seconds_or_a_moment_by_the_servers_clock(value, date, wanted):
    assert retry_after_s(value, date, now=lambda: 1792567686.0) == wanted


def test_retry_after_is_bounded(hook, store, start, monkeypatch):
    monkeypatch.setattr("edgeannot.sinks.durable._LONGEST_RETRY_AFTER_S", 0.2)
    hook.replies = [status(503, Retry_After="999999999")]
    put(store, 0)

    assert start(hook.start().url).queue.wait_empty(DEADLINE_S)


def test_what_is_not_accepted_is_set_aside_and_counted_and_the_others_go_on(hook, store, start, tmp_path, caplog):
    def poison(handler):
        bad = handler.headers["Idempotency-Key"] in {"key-3", "key-7"}
        handler.answer(400 if bad else 200, b"no\r\nsuch thing")

    hook.reply = poison
    put(store, 0, 20, '{"a": 1}')
    sender = start(hook.start().url, attempts=3)

    assert sender.queue.wait_empty(DEADLINE_S)
    assert sorted(keys(hook)) == sorted(set(names(0, 20)) - {"key-3", "key-7"})
    assert [request.key for request in hook.requests].count("key-3") == 3
    assert (sender.queue.pending().refused, sender.status.set_aside) == (2, 2)
    assert (tmp_path / "undelivered/key-3.json").read_text() == '{"a": 1}'
    assert (
        (tmp_path / "undelivered/key-3.json.reason.txt").read_text().rstrip().endswith("answers 400 Bad Request no\ufffd\ufffdsuch thing")
    )
    assert "message key-7 set aside after 3 attempts" in caplog.text


def test_what_is_set_aside_takes_no_more_room_than_it_may(hook, store, start, tmp_path):
    hook.reply = status(422)
    put(store, 0, 5, "x" * 400_000)
    sender = start(hook.start().url, attempts=1, set_aside_mb=1)

    assert sender.queue.wait_empty(DEADLINE_S)
    assert sender.queue.pending().refused == 5
    assert len(list((tmp_path / "undelivered").glob("*.json"))) == 2


def test_a_message_that_breaks_the_server_keeps_no_other_waiting(hook, store, start):
    released = threading.Event()

    def poison(handler):
        bad = handler.headers["Idempotency-Key"] == "key-0" and not released.is_set()
        handler.answer(500 if bad else 200)

    hook.reply = poison
    put(store, 0, 10)
    sender = start(hook.start().url)
    wait_until(lambda: len(keys(hook)) == 9, "the others")
    released.set()

    assert sender.queue.wait_empty(DEADLINE_S)
    assert hook.deliveries() == dict.fromkeys(names(0, 10), 1)
    assert sender.queue.pending().refused == 0


@pytest.mark.parametrize("how", ["500", "cut", "late"])
def test_several_messages_that_break_the_server_keep_no_other_waiting(how, hook, store, start):
    released = threading.Event()

    def poison(handler):
        if handler.headers["Idempotency-Key"] not in {"key-0", "key-3", "key-4"} or released.is_set():
            handler.answer(200)
        elif how == "500":
            handler.answer(500)
        elif how == "cut":
            handler.close_connection = True
        else:
            released.wait(0.3)

    hook.reply = poison
    put(store, 0, 20)
    sender = start(hook.start().url, timeout_s=0.1 if how == "late" else 5)
    wait_until(lambda: len(keys(hook)) == 17, "the others", 20)
    released.set()

    assert sender.queue.wait_empty(DEADLINE_S)
    assert sender.queue.pending().refused == 0


def test_a_refused_login_reads_the_secret_anew(hook, store, start, tmp_path):
    token = tmp_path / "token"
    token.write_text("old-one")
    hook.reply = lambda handler: handler.answer(200 if handler.headers["X-Token"] == "new-one" else 401)
    put(store, 0, 3)
    sender = start(hook.start().url, header_files={"X-Token": token}, attempts=1000)
    wait_until(lambda: len(hook.requests) > 3, "refusals")
    token.unlink()
    wait_until(lambda: "cannot be read" in sender.status.trouble, "the missing file to be told")
    token.write_text("new-one")

    assert sender.queue.wait_empty(DEADLINE_S)
    assert sorted(keys(hook)) == names(0, 3)


def test_redirects_are_followed_on_the_same_server_only(hook, store, start, caplog):
    other = Hook().start()
    try:
        hook.replies = [status(307, Location="/moved?x=1"), status(200), status(308, Location=f"http://127.0.0.1:{other.port}/")]
        put(store, 0, 2)
        sender = start(hook.start().url)

        assert sender.queue.wait_empty(DEADLINE_S)
        assert [request.path for request in hook.requests[:2]] == ["/hook?site=barn", "/moved?x=1"]
        assert keys(hook) == names(0, 2)
        assert other.requests == []
        assert "redirects to another server, not followed: set url to its new address" in caplog.text
        assert [request.body for request in hook.requests] == [b"{}"] * 4
    finally:
        other.end()


def test_a_circle_of_redirects_ends(hook, store, start):
    hook.replies = [status(307, Location="/hook?site=barn")] * 4
    put(store, 0)

    assert start(hook.start().url).queue.wait_empty(DEADLINE_S)
    assert len(hook.requests) == 5


def test_an_answer_has_to_be_whole_in_time(hook, store, start, caplog):
    """A server that sends a byte now and then never lets a plain socket's timeout pass."""
    stop = threading.Event()

    def trickle(handler):
        for byte in b"HTTP/1.1 200 OK\r\nX: " + b"y" * 1000:
            if stop.wait(0.02):
                break
            handler.wfile.write(bytes([byte]))
            handler.wfile.flush()
        handler.close_connection = True

    hook.replies = [trickle]
    put(store, 0)
    sender = start(hook.start().url, timeout_s=0.3)
    wait_until(lambda: "does not answer within 0.3 s" in caplog.text, "the trouble")
    stop.set()

    assert sender.queue.wait_empty(DEADLINE_S)
    assert keys(hook) == ["key-0"]


@pytest.mark.parametrize("said", [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\0" * 70000])
def test_who_does_not_speak_http_is_told_and_tried_again(said, hook, store, start):
    with socket.create_server(("127.0.0.1", hook.port)) as server:
        put(store, 0)
        sender = start(hook.url, timeout_s=1)
        connection, _ = server.accept()
        connection.recv(10_000)
        connection.sendall(said)
        connection.close()
        wait_until(lambda: sender.status.trouble, "the trouble")
    hook.start()

    assert sender.queue.wait_empty(DEADLINE_S)


def test_a_stop_waits_for_no_server(hook, store, start):
    released = threading.Event()
    hook.reply = hold(released)
    put(store, 0)
    sender = start(hook.start().url, timeout_s=60)
    wait_until(lambda: hook.requests, "a request under way")
    began = time.monotonic()
    sender.stop(0.2)

    assert time.monotonic() - began < 2
    assert sender.queue.pending().rows == 1
    released.set()


def test_a_disk_that_is_full_keeps_no_message_from_being_sent_once(hook, store, start, monkeypatch, caplog):
    full = threading.Event()
    full.set()
    delete = Queue.delete

    def failing(self, ids, **options):
        if full.is_set():
            raise LinkError("the disk is full")
        delete(self, ids, **options)

    monkeypatch.setattr(Queue, "delete", failing)
    put(store, 0, 100)
    sender = start(hook.start().url)
    wait_until(lambda: len(keys(hook)) == 100, "all messages")
    put(store, 100, 5)
    wait_until(lambda: len(keys(hook)) == 105, "those that came meanwhile")
    full.clear()

    assert sender.queue.wait_empty(DEADLINE_S)
    assert keys(hook) == names(0, 105)
    assert caplog.text.count("the disk is full") == 1


def test_a_fault_of_the_program_ends_no_delivery(hook, store, start, monkeypatch, caplog):
    read = Queue.next_messages
    faults = [RuntimeError("surprise"), LinkError("the disk is away")]

    def failing(self, *arguments, **options):
        if faults:
            raise faults.pop()
        return read(self, *arguments, **options)

    monkeypatch.setattr(Queue, "next_messages", failing)
    put(store, 0)

    assert start(hook.start().url).queue.wait_empty(DEADLINE_S)
    assert "internal error while delivering to" in caplog.text


@pytest.fixture
def tls_hook(certificates):
    def make(name: str) -> Hook:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificates / f"{name}.crt", certificates / f"{name}.key")
        hooks.append(Hook(context=context).start())
        return hooks[-1]

    hooks = []
    yield make
    for hook in hooks:
        hook.end()


def test_tls_is_verified(tls_hook, certificates, store, start):
    put(store, 0, 3)
    hook = tls_hook("server")
    sender = start(hook.url, ca_file=certificates / "ca.crt")

    assert sender.queue.wait_empty(DEADLINE_S)
    assert keys(hook) == names(0, 3)


@pytest.mark.parametrize(("name", "authority"), [("server", "other.crt"), ("elsewhere", "ca.crt"), ("expired", "ca.crt"), ("server", None)])
def test_nothing_is_sent_to_a_server_that_is_not_trusted(tls_hook, certificates, store, start, name, authority):
    put(store, 0)
    hook = tls_hook(name)
    sender = start(hook.url, ca_file=authority and certificates / authority)
    wait_until(lambda: "is not trusted" in sender.status.trouble, "the trouble")

    assert hook.requests == []
    assert sender.queue.pending().rows == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"enabled": True}, "wanted a url"),
        ({"url": "ftp://h/x"}, "wanted http:// or https://"),
        ({"url": "http:///x"}, "wanted http:// or https://"),
        ({"url": "http://h:99999/"}, "wanted a port"),
        ({"url": "http://h:0/"}, "wanted http:// or https://"),
        ({"url": "http://[h/"}, "wanted a port from 1 to 65535 and a host"),
        ({"url": "http://bob:hunter2@h/"}, "no user in the URL"),
        ({"url": "http://h/a b"}, "found a blank"),
        ({"url": "http://h/\r\nX: y"}, "found a blank"),
        ({"url": "http://h/#x"}, "no user or #"),
        ({"headers": {"X-Api-Key": "hunter2"}}, "put it into a file and set header_files"),
        ({"headers": {"authorization": "hunter2"}}, "put it into a file"),
        ({"headers": {"X Y": "hunter2"}}, "wanted names of headers"),
        ({"headers": {"X": "hunter2\r\nY: z"}}, "wanted one line"),
        ({"headers": {"Host": "hunter2"}}, "set by edgeannot itself"),
        ({"header_files": {"Idempotency-Key": "f"}}, "set by edgeannot itself"),
        ({"url": "http://h", "ca_file": "x"}, "are for TLS"),
        ({"url": "https://h", "cert_file": "x"}, "wanted both or neither"),
        ({"attempts": 0}, "greater than or equal to 1"),
        ({"timeout_s": 0}, "greater than 0"),
    ],
)
def test_settings_that_cannot_be_are_refused_without_their_secrets(options, said):
    with pytest.raises(ValueError, match=said) as caught:
        WebhookOptions(**options)
    assert "hunter2" not in caught.value.errors()[0]["msg"]


def test_files_that_cannot_be_used_are_found_at_the_start(context, tmp_path):
    options = WebhookOptions(enabled=True, url="https://h/", header_files={"Authorization": tmp_path / "none"})
    with pytest.raises(ConfigError, match=r"header_files.Authorization .*none cannot be read"):
        WebhookSink(options, context)
    (tmp_path / "two").write_text("a\nb: c")
    with pytest.raises(ConfigError, match="wanted one line of ASCII"):
        WebhookSink(WebhookOptions(enabled=True, url="https://h/", header_files={"X": tmp_path / "two"}), context)
    with pytest.raises(ConfigError, match=r"ca_file .*none cannot be used"):
        WebhookSink(WebhookOptions(enabled=True, url="https://h/", ca_file=tmp_path / "none"), context)


def test_a_payload_is_the_one_of_mqtt(annotate, context):
    from edgeannot.sinks.mqtt import MqttOptions, MqttSink

    annotation = annotate(("dog", 16, 0.5, (1, 2, 30, 40)))
    [message] = WebhookSink(WebhookOptions(enabled=True, url="http://h/"), context).write(annotation)

    assert message.payload == MqttSink(MqttOptions(counts=False), context).write(annotation)[0].payload
    assert message == replace(message, sink="webhook", key=json.loads(message.payload)["id"])
