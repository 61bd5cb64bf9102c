"""One session at a broker that pictures are taken from: connect, subscribe, hand over what comes, acknowledge it when it is done.

The broker keeps what is not acknowledged and sends it again to the same client id, at the next connection. So `Delivery.finish`
is called when the picture's results are committed, not when it arrives. Acknowledgements leave in the order of arrival, as the
protocol wants (MQTT 5.0, 4.6), whatever the order of `finish`.

Each connection has a paho client of its own, whose thread only puts arrivals into a queue; one more thread connects, and after a
loss connects again with jittered backoff.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from edgeannot.base.errors import EdgeannotError, LinkError
from edgeannot.mqtt.client import connect, meaning, new_client, properties, size_of
from edgeannot.mqtt.options import BrokerOptions
from edgeannot.mqtt.terms import Answer, Goodbye, Terms

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessage

__all__ = ["Delivery", "Subscriber"]

log = logging.getLogger(__name__)

_STEADY_S = 10.0
"""A connection that lasted this long was a good one: the next wait is the shortest again."""
_ANSWER_S = 1.0
"""How long a goodbye waits for an answer of the broker."""
_GOODBYE_S = 1.5
"""How long it waits for all of them: a broker that hangs must not keep a service from stopping."""


@dataclass(eq=False, slots=True)
class Delivery:
    """One message that came, and the way to acknowledge it."""

    topic: str
    payload: bytes
    properties: Mapping[str, str]
    """MQTT 5 user properties; of a name that is there twice the last."""
    repeated: bool
    """Whether the broker says that it sent this before."""
    arrived_at: datetime
    subscriber: Subscriber
    mid: int
    qos: int
    size: int | None = None
    """Bytes of a payload of which only the beginning was kept."""
    reply_topic: str | None = None
    """Where its sender wants to be answered (MQTT 5)."""
    correlation: bytes | None = None
    done: bool = False

    def finish(self, answer: Answer | None = None) -> None:
        """The broker may forget the message; before that, its sender is told `answer`."""
        self.subscriber.finish(self, answer)


@dataclass(eq=False, slots=True)
class _Connection:
    """Born and thrown away with its client."""

    client: Client
    pending: deque[Delivery] = field(default_factory=deque)
    """In the order of arrival, not acknowledged yet."""
    changed: threading.Condition = field(default_factory=threading.Condition)
    accepted: bool = False
    granted: bool = False
    released: bool = False
    """Whether the broker has ended the subscriptions that it was to end."""
    lost: str = ""
    """Why the connection is over; empty while it is not."""

    def note(self, **facts: object) -> None:
        with self.changed:
            for name, value in facts.items():
                setattr(self, name, value)
            self.changed.notify_all()


class Subscriber:
    """See the module. `start` once, `close` once; the rest may be called from any thread."""

    def __init__(self, options: BrokerOptions, client_id: str, terms: Terms, take: Callable[[Delivery], None]) -> None:
        """`take` is called in paho's thread for each message and must return at once. Raises ConfigError for unusable files."""
        self._options = options.model_copy(update={"client_id": client_id})
        self._terms = terms
        self._take = take
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._goodbye = Goodbye()
        self._now: _Connection | None = None
        self._thread = threading.Thread(target=self._run, name=f"subscriber {client_id}"[:40], daemon=True)
        self._new_client()  # finds a missing file now rather than at night
        self.client_id = client_id
        self.online = False
        """Whether the broker has let us in and granted the subscriptions."""
        self.trouble = ""
        """What is in the way at the moment, one sentence."""
        self.attempts = 0
        """Connections that failed or were lost in a row."""
        self.found_session: bool | None = None
        """Whether the broker knew the session at the last connection; None before the first."""
        self.busy_at = time.monotonic()
        """When something last came or was acknowledged (monotonic)."""
        self._arrived = 0
        self._asked_at: int | None = None  # _arrived when `is_drained` asked

    def start(self) -> None:
        """Begin to connect, in the background."""
        self._thread.start()

    @property
    def over(self) -> bool:
        """Whether it has ended: after `close`, or after the one connection of a subscriber that is not lasting."""
        return self._thread.ident is not None and not self._thread.is_alive()

    @property
    def pending(self) -> int:
        """Messages that the broker waits to have acknowledged on this connection."""
        connection = self._now
        return len(connection.pending) if connection else 0

    def is_drained(self) -> bool:
        """Whether the broker has nothing more to give where no subscription is left; ask again and again until it is so.

        A packet that the broker answers goes there and back: what it had sent before has come by then, also over a slow line.
        """
        connection = self._now
        if connection is None or not self.online or connection.pending:
            self._asked_at = None
            return False
        if self._asked_at is None:
            self._asked_at = self._arrived
            connection.released = False
            connection.client.unsubscribe(list(self._terms.dropped_filters))
            return False
        if not connection.released:
            return False
        nothing_came, self._asked_at = self._arrived == self._asked_at, None
        return nothing_came

    def finish(self, delivery: Delivery, answer: Answer | None = None) -> None:
        """See `Delivery.finish`; of an earlier connection it says nothing to the broker, which sends the message again."""
        with self._lock:
            delivery.done = True
            connection = self._now
            if connection is None:
                return
            self.busy_at = time.monotonic()
            if answer is not None:  # on its way before the acknowledgement: one that is lost with the connection comes with the repeat
                told = properties("PUBLISH", ContentType="application/json", CorrelationData=answer.correlation)
                connection.client.publish(answer.topic, answer.payload, 1, properties=told if self._options.protocol == "5" else None)
            while connection.pending and connection.pending[0].done:
                first = connection.pending.popleft()
                connection.client.ack(first.mid, first.qos)

    def say(self, topic: str, payload: bytes) -> None:
        """Publish a retained message if the broker is there."""
        connection = self._now
        if connection is not None:
            connection.client.publish(topic, payload, qos=1, retain=True)

    def close(
        self,
        *,
        release: tuple[str, ...] = (),
        say: tuple[str, bytes] | None = None,
        end_session: bool = False,
        timeout_s: float = 3.0,
    ) -> None:
        """Disconnect in order: first end the subscriptions `release`, publish `say` (retained), and if wanted end the session."""
        self._goodbye = Goodbye(release, say, end_session)
        self._closing.set()
        connection = self._now
        if connection is not None:
            connection.note()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    # The thread

    def _run(self) -> None:
        while not self._closing.is_set():
            began = time.monotonic()
            try:
                self._one_connection()
            except EdgeannotError as exc:  # also a password file that went away: it may come back
                self.trouble = str(exc)
            except Exception as exc:
                log.exception("the connection of %s failed unexpectedly; it connects again", self.client_id)
                self.trouble = f"{self._options.address}: {exc!r}"
            if not self._terms.lasting:
                return
            self.attempts = 1 if time.monotonic() - began >= _STEADY_S else self.attempts + 1
            self._closing.wait(self._options.retry_wait_s(self.attempts))

    def _one_connection(self) -> None:
        connection = _Connection(self._new_client())
        client = connection.client
        self._listen(connection)
        options: dict[str, Any] = {}
        if self._options.protocol == "5":
            # No MaximumPacketSize: mosquitto 2.0.11 never gives back the place in the window of a message that it may not send.
            kept = {"SessionExpiryInterval": self._terms.keep_s, "ReceiveMaximum": self._terms.window}
            options["properties"] = properties("CONNECT", **kept)
            options["clean_start"] = not self._terms.keep_s
        connect(client, self._options, **options)
        with self._lock:
            self._now = connection
        client.loop_start()
        try:
            self._serve(connection)
        finally:
            self.online = False
            with self._lock:
                self._now = None
            _end(client)
        if self._goodbye.end_session and self._closing.is_set() and self._options.protocol != "5":
            self._forget_session()

    def _serve(self, connection: _Connection) -> None:
        """Wait until the connection is lost or is to be closed."""
        with connection.changed:
            if not connection.changed.wait_for(lambda: connection.accepted or connection.lost, self._options.connect_timeout_s):
                raise LinkError(f"{self._options.address}: the broker does not answer")
            greet_at = time.monotonic() + self._terms.greet_s
            while not connection.lost and not self._closing.is_set():
                if self.online and self._terms.greeting is not None and time.monotonic() >= greet_at:
                    greet_at = time.monotonic() + self._terms.greet_s
                    self.say(*self._terms.greeting)
                if connection.granted and not self.online:
                    self.online, self.trouble = True, ""
                    log.info("taking messages from %s as %s", self._options.address, self.client_id)
                connection.changed.wait(1.0)
        if connection.lost:
            raise LinkError(f"{self._options.address}: {connection.lost}")
        self._leave(connection)

    def _leave(self, connection: _Connection) -> None:
        client, goodbye = connection.client, self._goodbye
        until = time.monotonic() + _GOODBYE_S

        def patience_s() -> float:
            return max(0.0, min(_ANSWER_S, until - time.monotonic()))

        if goodbye.release:
            connection.released = False
            client.unsubscribe(list(goodbye.release))
            with connection.changed:
                connection.changed.wait_for(lambda: connection.released or connection.lost, patience_s())
        if goodbye.say is not None:
            with contextlib.suppress(RuntimeError, ValueError):  # the connection was lost just now
                client.publish(*goodbye.say, qos=1, retain=True).wait_for_publish(patience_s())
        end_now = goodbye.end_session and self._options.protocol == "5"
        client.disconnect(properties=properties("DISCONNECT", SessionExpiryInterval=0) if end_now else None)
        with connection.changed:
            connection.changed.wait_for(lambda: connection.lost, patience_s())

    def _forget_session(self) -> None:
        """With MQTT 3.1.1 a session ends when its client connects with the wish for a clean one."""
        client = new_client(self._options, self.client_id, clean_session=True)
        done = threading.Event()
        client.on_connect = lambda *_: done.set()
        with contextlib.suppress(LinkError):
            connect(client, self._options)
            client.loop_start()
            done.wait(_ANSWER_S)
            client.disconnect()
        _end(client)

    def _new_client(self) -> Client:
        clean = None if self._options.protocol == "5" else not self._terms.keep_s
        client = new_client(self._options, "", self._terms.will, clean_session=clean, keep_bytes=self._terms.keep_bytes)
        client.manual_ack_set(True)
        return client

    # paho's callbacks, in its thread

    def _listen(self, connection: _Connection) -> None:
        client = connection.client

        def on_connect(_client: Client, _data: object, flags: Any, reason: Any, _properties: object) -> None:
            if reason.is_failure:
                connection.note(lost=meaning(reason))
                return
            self.found_session = bool(flags.session_present)
            self.busy_at = time.monotonic()
            if self._terms.dropped_filters:
                client.unsubscribe(list(self._terms.dropped_filters))
            if self._terms.filters:
                client.subscribe(list(self._terms.filters))
            connection.note(accepted=True, granted=not self._terms.filters)

        def on_subscribe(_client: Client, _data: object, _mid: int, reasons: list[Any], _properties: object) -> None:
            refused = [(name, reason) for (name, _), reason in zip(self._terms.filters, reasons, strict=False) if reason.is_failure]
            for name, reason in refused[:1]:
                why = f"the broker does not let us read {name}: check its access list, and whether it knows $share"
                connection.note(lost=why if reason.value in {0x80, 0x87} else f"{meaning(reason, doing='reading')} ({name})")
                return
            if self._terms.greeting is not None:
                client.publish(*self._terms.greeting, qos=1, retain=True)
            connection.note(granted=True)

        def on_message(_client: Client, _data: object, message: MQTTMessage) -> None:
            self.busy_at = time.monotonic()
            self._arrived += 1
            pairs = dict(getattr(message.properties, "UserProperty", ()) or ())
            moment = datetime.now(UTC)
            size, is_whole = size_of(message)
            payload = bytes(message.payload)
            delivery = Delivery(message.topic, payload, pairs, bool(message.dup), moment, self, message.mid, message.qos)
            delivery.size = None if is_whole else size
            delivery.reply_topic = getattr(message.properties, "ResponseTopic", None)
            delivery.correlation = getattr(message.properties, "CorrelationData", None)
            if message.qos:
                with self._lock:
                    connection.pending.append(delivery)
            try:
                self._take(delivery)
            except Exception:
                log.exception("a message on %s could not be taken", message.topic)
                delivery.finish()

        def on_disconnect(_client: Client, _data: object, _flags: object, reason: Any, _properties: object) -> None:
            if not connection.lost:  # paho may say it twice; the first reason counts
                connection.note(lost=meaning(reason) if reason.is_failure else "closed")

        client.on_connect, client.on_disconnect = on_connect, on_disconnect
        client.on_subscribe, client.on_message = on_subscribe, on_message
        client.on_unsubscribe = lambda *_: connection.note(released=True)


def _end(client: Client) -> None:
    """End a client and its thread, also where the network hangs."""
    sock = client.socket()
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.close()
    client.loop_stop()
