"""A subscriber session: connect, subscribe, pass messages on, acknowledge them when they are done.

The broker keeps what is not acknowledged and sends it again to the same client id, at the next connection. So `IncomingMessage.finish`
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
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from edgeannot.base.errors import EdgeannotError, LinkError
from edgeannot.mqtt.client import connect, meaning, new_client, properties, publish, size_of
from edgeannot.mqtt.incoming import IncomingMessage
from edgeannot.mqtt.options import BrokerOptions, SessionOptions
from edgeannot.storage.store import Message

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessage

__all__ = ["Subscriber"]

log = logging.getLogger(__name__)

_STEADY_S: Final = 10.0
"""A connection that lasted this long was a good one: the next wait is the shortest again."""
_ANSWER_S: Final = 1.0
"""How long the end of a connection waits for an answer of the broker."""
_PARTING_S: Final = 1.5
"""How long it waits for all of them: a broker that hangs must not keep a service from stopping."""


@dataclass(eq=False, slots=True)
class _Connection:
    """One connection with a client of its own."""

    client: Client
    pending: deque[IncomingMessage] = field(default_factory=deque)
    """In the order of arrival, not acknowledged yet."""
    changed: threading.Condition = field(default_factory=threading.Condition)
    accepted: bool = False
    granted: bool = False
    unsubscribed: bool = False
    """Whether the broker has ended the subscriptions that it was to end."""
    lost: str = ""
    """Why the connection is over; empty while it is not."""

    def update(self, **facts: object) -> None:
        with self.changed:
            for name, value in facts.items():
                setattr(self, name, value)
            self.changed.notify_all()

    def end(self) -> None:
        """End the client and its thread, also where the network hangs."""
        sock = self.client.socket()
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.close()
        self.client.loop_stop()


class Subscriber:
    """Receives the messages of one session. `start` once, `close` once; the other methods are thread-safe."""

    def __init__(self, options: BrokerOptions, client_id: str, session: SessionOptions, take: Callable[[IncomingMessage], None]) -> None:
        """`take` is called in paho's thread for each message and must return at once. Raises ConfigError for unusable files."""
        self._options = options.model_copy(update={"client_id": client_id})
        self._session = session
        self._take = take
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._unsubscribe: tuple[str, ...] = ()  # this and the next two: how the last connection is to end
        self._last_message: Message | None = None
        self._end_session = False
        self._connection: _Connection | None = None
        self._thread = threading.Thread(target=self._run, name=f"subscriber {client_id}"[:40], daemon=True)
        self._new_client()  # finds a missing file now rather than at night
        self.client_id = client_id
        self.online = False
        """Whether the broker has let us in and granted the subscriptions."""
        self.trouble = ""
        """What is in the way at the moment, one sentence."""
        self.attempts = 0
        """Connections that failed or were lost in a row."""
        self.busy_at = time.monotonic()
        """When something last came or was acknowledged (monotonic)."""
        self._arrived = 0
        self._asked_at: int | None = None  # _arrived when `is_drained` asked

    def start(self) -> None:
        """Start connecting in the background."""
        self._thread.start()

    @property
    def over(self) -> bool:
        """Return whether it has ended: after `close`, or after the one connection of a session that is not lasting."""
        return self._thread.ident is not None and not self._thread.is_alive()

    @property
    def pending(self) -> int:
        """Return the number of unacknowledged messages on this connection."""
        connection = self._connection
        return len(connection.pending) if connection else 0

    def is_drained(self) -> bool:
        """Return whether the broker has nothing more to give where no subscription is left; ask again and again until it is so.

        A packet that the broker answers goes there and back: what it had sent before has come by then, also over a slow line.
        """
        connection = self._connection
        if connection is None or not self.online or connection.pending:
            self._asked_at = None
            return False
        if self._asked_at is None:
            self._asked_at = self._arrived
            connection.unsubscribed = False
            connection.client.unsubscribe(list(self._session.dropped_filters))
            return False
        if not connection.unsubscribed:
            return False
        nothing_came, self._asked_at = self._arrived == self._asked_at, None
        return nothing_came

    def finish(self, incoming: IncomingMessage, answer: tuple[str, bytes] | None = None) -> None:
        """See `IncomingMessage.finish`; of an earlier connection it says nothing to the broker, which sends the message again."""
        with self._lock:
            incoming.done = True
            connection = self._connection
            if connection is None:
                return
            self.busy_at = time.monotonic()
            if answer is not None:  # on its way before the acknowledgement: one that is lost with the connection comes with the repeat
                publish(connection.client, Message(*answer, "answer", correlation=incoming.correlation))
            while connection.pending and connection.pending[0].done:
                first = connection.pending.popleft()
                connection.client.ack(first.mid, first.qos)

    def send_now(self, message: Message) -> None:
        """Publish a message if connected."""
        if (connection := self._connection) is not None:
            publish(connection.client, message)

    def close(
        self,
        *,
        unsubscribe: tuple[str, ...] = (),
        last_message: Message | None = None,
        end_session: bool = False,
        timeout_s: float = 3.0,
    ) -> None:
        """Disconnect in order: first end these subscriptions, publish the last message, and if wanted end the session."""
        self._unsubscribe, self._last_message, self._end_session = unsubscribe, last_message, end_session
        self._closing.set()
        if (connection := self._connection) is not None:
            connection.update()
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
                log.exception("internal error in the connection of %s (please report); connecting again", self.client_id)
                self.trouble = f"{self._options.address}: {exc!r}"
            if not self._session.lasting:
                return
            self.attempts = 1 if time.monotonic() - began >= _STEADY_S else self.attempts + 1
            self._closing.wait(self._options.retry_wait_s(self.attempts))

    def _one_connection(self) -> None:
        connection = _Connection(self._new_client())
        self._set_callbacks(connection)
        options: dict[str, Any] = {}
        if self._options.protocol == "5":
            # No MaximumPacketSize: mosquitto 2.0.11 never gives back the place in the window of a message that it may not send.
            kept = {"SessionExpiryInterval": self._session.keep_s, "ReceiveMaximum": self._session.window}
            options = {"properties": properties("CONNECT", **kept), "clean_start": not self._session.keep_s}
        connect(connection.client, self._options, **options)
        with self._lock:
            self._connection = connection
        connection.client.loop_start()
        try:
            self._serve(connection)
        finally:
            self.online = False
            with self._lock:
                self._connection = None
            connection.end()
        if self._end_session and self._closing.is_set() and self._options.protocol != "5":
            self._forget_session()

    def _serve(self, connection: _Connection) -> None:
        """Wait until the connection is lost or is to be closed."""
        with connection.changed:
            if not connection.changed.wait_for(lambda: connection.accepted or connection.lost, self._options.connect_timeout_s):
                raise LinkError(f"{self._options.address}: the broker does not answer")
            greet_at = time.monotonic() + self._session.greet_s
            while not connection.lost and not self._closing.is_set():
                if self.online and self._session.greeting is not None and time.monotonic() >= greet_at:
                    greet_at = time.monotonic() + self._session.greet_s
                    self.send_now(self._session.greeting)
                if connection.granted and not self.online:
                    self.online, self.trouble = True, ""
                    log.info("taking messages from %s as %s", self._options.address, self.client_id)
                connection.changed.wait(1.0)
        if connection.lost:
            raise LinkError(f"{self._options.address}: {connection.lost}")
        self._disconnect(connection)

    def _disconnect(self, connection: _Connection) -> None:
        client, until = connection.client, time.monotonic() + _PARTING_S

        def patience_s() -> float:
            return max(0.0, min(_ANSWER_S, until - time.monotonic()))

        if self._unsubscribe:
            connection.unsubscribed = False
            client.unsubscribe(list(self._unsubscribe))
            with connection.changed:
                connection.changed.wait_for(lambda: connection.unsubscribed or connection.lost, patience_s())
        if (last := self._last_message) is not None:
            with contextlib.suppress(RuntimeError, ValueError):  # the connection was lost just now
                client.publish(last.topic, last.payload, last.qos, last.retain).wait_for_publish(patience_s())
        end_now = self._end_session and self._options.protocol == "5"
        client.disconnect(properties=properties("DISCONNECT", SessionExpiryInterval=0) if end_now else None)
        with connection.changed:
            connection.changed.wait_for(lambda: connection.lost, patience_s())

    def _forget_session(self) -> None:
        """End the session with MQTT 3.1.1: connect once with a clean session."""
        connection = _Connection(new_client(self._options, self.client_id, clean_session=True))
        done = threading.Event()
        connection.client.on_connect = lambda *_: done.set()
        with contextlib.suppress(LinkError):
            connect(connection.client, self._options)
            connection.client.loop_start()
            done.wait(_ANSWER_S)
            connection.client.disconnect()
        connection.end()

    def _new_client(self) -> Client:
        clean = None if self._options.protocol == "5" else not self._session.keep_s
        client = new_client(self._options, "", self._session.will, clean_session=clean, keep_bytes=self._session.keep_bytes)
        client.manual_ack_set(True)
        return client

    # paho's callbacks, in its thread

    def _set_callbacks(self, connection: _Connection) -> None:
        client, session = connection.client, self._session

        def on_connect(_client: Client, _data: object, _flags: object, reason: Any, _properties: object) -> None:
            if reason.is_failure:
                connection.update(lost=meaning(reason))
                return
            self.busy_at = time.monotonic()
            if session.dropped_filters:
                client.unsubscribe(list(session.dropped_filters))
            if session.filters:
                client.subscribe(list(session.filters))
            connection.update(accepted=True, granted=not session.filters)

        def on_subscribe(_client: Client, _data: object, _mid: int, reasons: list[Any], _properties: object) -> None:
            refused = [(name, reason) for (name, _), reason in zip(session.filters, reasons, strict=False) if reason.is_failure]
            if refused and (session.needs_all_filters or len(refused) == len(session.filters)):
                name, reason = refused[0]
                why = f"the broker does not let us read {name}: check its access list, and whether it knows $share"
                connection.update(lost=why if reason.value in {0x80, 0x87} else f"{meaning(reason, doing='reading')} ({name})")
                return
            if session.greeting is not None:
                publish(client, session.greeting)
            connection.update(granted=True)

        def on_disconnect(_client: Client, _data: object, _flags: object, reason: Any, _properties: object) -> None:
            if not connection.lost:  # paho may say it twice; the first reason counts
                connection.update(lost=meaning(reason) if reason.is_failure else "closed")

        client.on_connect, client.on_disconnect, client.on_subscribe = on_connect, on_disconnect, on_subscribe
        client.on_message = lambda _client, _data, message: self._receive(connection, message)
        client.on_unsubscribe = lambda *_: connection.update(unsubscribed=True)

    def _receive(self, connection: _Connection, message: MQTTMessage) -> None:
        self.busy_at = time.monotonic()
        self._arrived += 1
        size, is_whole = size_of(message)
        incoming = IncomingMessage(
            message.topic,
            bytes(message.payload),
            dict(getattr(message.properties, "UserProperty", ()) or ()),
            bool(message.dup),
            datetime.now(UTC),
            self,
            message.mid,
            message.qos,
            None if is_whole else size,
            getattr(message.properties, "ResponseTopic", None),
            getattr(message.properties, "CorrelationData", None),
        )
        if message.qos:
            with self._lock:
                connection.pending.append(incoming)
        try:
            self._take(incoming)
        except Exception:
            log.exception("internal error while receiving a message on %s (please report)", message.topic)
            incoming.finish()
