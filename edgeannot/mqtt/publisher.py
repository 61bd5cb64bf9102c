"""The publisher: one thread that connects to the broker, sends the outbox in order, deletes acknowledged messages, never gives up.

Each connection is a `PublisherConnection`; what was in flight when one was lost is sent again on the next, with the same id in
its payload. All of it, paho included, runs in this thread.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from edgeannot.base.errors import EdgeannotError, LinkError
from edgeannot.base.foreign import number_of
from edgeannot.mqtt.client import connect, meaning, new_client
from edgeannot.mqtt.connection_history import ConnectionHistory, VolatileQueue
from edgeannot.mqtt.options import BrokerOptions, Topics
from edgeannot.mqtt.publisher_connection import PublisherConnection
from edgeannot.storage.store import Message, Queue

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessage
    from paho.mqtt.reasoncodes import ReasonCode

__all__ = ["Publisher", "PublisherState"]

log = logging.getLogger(__name__)

PublisherState = Literal["new", "away", "online", "stopped"]

_STEADY_S: Final = 10.0
"""A connection that lasted this long was a good one: the next wait is the shortest again."""

_SHORT_MANY: Final = 4
"""Short connections in a row that are no accident any more."""


@dataclass(slots=True)
class _Subscription:
    handler: Callable[[MQTTMessage], None]
    as_published: bool
    ask_at: float = 0.0
    """When to ask the broker for it (monotonic seconds)."""

    def receive(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        """Call the handler: a message that it chokes on must not end the connection, as it would come again."""
        try:
            self.handler(message)
        except Exception:
            log.exception("internal error while handling a message on %s (please report)", message.topic)


class Publisher:
    """Sends the outbox and the volatile queue. `start`, then `stop` once; every other method is thread-safe."""

    def __init__(
        self,
        options: BrokerOptions,
        queue: Queue,
        device: str,
        status: Callable[[str], bytes],
        *,
        prefix: str = "edgeannot",
        window: int = 64,
    ) -> None:
        """status: makes the payload that says `online`, `stopping` or `offline`. window: messages that may be unacknowledged at a time.

        Raises ConfigError when a file that the options name is unusable.
        """
        self._options = options
        self._queue = queue
        self._status_payload = status
        self._topics = Topics(device, prefix)
        self._window = window
        self._volatile = VolatileQueue()
        self._subscriptions: dict[str, _Subscription] = {}
        self._asked: dict[int, str] = {}  # those the broker has not answered for, by paho's number
        self._max_incoming = 2**20
        self._client_id = options.client_id or f"edgeannot-{device}"
        self._new_client()  # finds a missing file now rather than at night
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        weakref.finalize(self, os.close, self._wake_fd)
        self._stopping = threading.Event()
        self._online = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)
        self._history = ConnectionHistory()
        self._stop_by = 0.0
        self._attempt = self._short = 0  # connections since one lasted, and those of them that the broker ended soon
        self._is_news = True  # whether the next connection is worth a line
        self.state: PublisherState = "new"
        self.connections = 0
        """Number of successful connections."""

    @property
    def evicted(self) -> int:
        """Return the number of volatile messages dropped unsent in favour of later ones."""
        return self._volatile.pushed_out

    @property
    def sent(self) -> int:
        """Return the number of messages from the outbox that the broker acknowledged."""
        return self._history.sent

    def start(self) -> None:
        """Start connecting in the background; the first attempt is like any later one."""
        self._queue.add_listener(self.wake)
        self._thread.start()

    def stop(self, timeout_s: float = 3.0) -> None:
        """Publish `stopping`, disconnect and end, within about `timeout_s`; unsent messages stay in the store."""
        self._stop_by = time.monotonic() + timeout_s
        self._stopping.set()
        self.wake()
        if self._thread.ident is not None:
            self._thread.join(timeout_s + 1.0)
        if not self._thread.is_alive():
            self.state = "stopped"

    def wake(self) -> None:
        """Wake the thread, as there may be something to send."""
        os.eventfd_write(self._wake_fd, 1)

    def wait_online(self, timeout_s: float) -> bool:
        """Wait until connected; return False if not after `timeout_s`."""
        return self._online.wait(timeout_s)

    def wait_drained(self, timeout_s: float) -> bool:
        """Wait until the broker has acknowledged everything in the store; return False if something is left after `timeout_s`."""
        return self._queue.wait_empty(timeout_s)

    def topic(self, leaf: str) -> str:
        """Return a topic of the device, such as that of telemetry."""
        return self._topics.of_device(leaf)

    def subscribe(
        self, topic_filter: str, handler: Callable[[MQTTMessage], None], *, max_bytes: int = 2**20, as_published: bool = False
    ) -> None:
        """Call `handler`, in the publisher's thread, for each message; renewed at each connection. Call before `start`.

        max_bytes: of larger payloads only the beginning is kept, see `size_of`; the largest of all subscriptions counts.
        as_published: on MQTT 5, `retain` of a message is as its sender set it; else, and on
        3.1.1, it is set only on those that the broker kept from before.
        """
        self._subscriptions[topic_filter] = _Subscription(handler, as_published)
        self._max_incoming = max(self._max_incoming, max_bytes)

    def send_now(self, message: Message) -> None:
        """Send a message past the outbox, at once if the broker is there. A retained one is told again at each connection and
        replaces the one before it on its topic; another is forgotten when the broker is away (telemetry, replies)."""
        self._volatile.add(message, online=self._online.is_set())
        self.wake()

    # The thread

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._one_connection()
            except Exception as exc:  # noqa: BLE001 - without this thread no message would leave, and nobody would notice
                self._history.once.fault(exc)
            self._attempt += 1
            self._stopping.wait(self._options.retry_wait_s(self._attempt))

    def _one_connection(self) -> None:
        """Connect, serve until the connection ends, and log why it ended."""
        connection, trouble = None, ""
        try:
            connection = self._connect()
            self._serve(connection)
        except EdgeannotError as exc:  # also a password file that went away, or a full disk: both may come back
            trouble = str(exc)
        except Exception as exc:  # noqa: BLE001 - the connection is to be closed in order
            self._history.once.fault(exc)
        finally:
            self._online.clear()
            self.state = "away"
        lasted = connection is not None and self._close(connection)
        explained = connection is not None and connection.is_explained
        if lasted or connection is None or not connection.accepted:
            self._short = 0
        elif connection.hung_up and not explained:  # a broker that restarts, or another client, may be told by the reason
            self._short += 1
        if lasted:
            self._history.once.reset()
        if lasted or explained:
            self._attempt = 0
        if self._short >= _SHORT_MANY:  # brokers that say why with "session taken over" are few
            trouble = (
                f"{self._options.address}: the broker accepts the connection and closes it soon, again and again; "
                f"does it restart, or is another client connected as {self._client_id!r}?"
            )
        if trouble and not self._stopping.is_set() and self._history.once.is_new(trouble):
            self._is_news = True
            log.warning("%s; %strying again at growing intervals", trouble, self._waiting())

    def _waiting(self) -> str:
        try:
            return f"{number_of(self._queue.pending().rows, 'message')} waiting, "
        except EdgeannotError:  # then this is the trouble
            return ""

    def _connect(self) -> PublisherConnection:
        client = self._new_client()
        connection = PublisherConnection(client, self._options, self._queue, self._history, self._window)
        client.on_connect = lambda *args: self._on_connect(connection, *args)
        client.on_subscribe = self._on_subscribe
        # No MaximumPacketSize: mosquitto 2.0.11 never gives back the place in the window of a message that it may not send.
        connect(client, self._options)
        return connection

    def _new_client(self) -> Client:
        client = new_client(self._options, self._client_id, self._status("offline"), keep_bytes=self._max_incoming)
        client.max_inflight_messages_set(65535)  # the window is ours
        for topic_filter, subscription in self._subscriptions.items():
            client.message_callback_add(topic_filter, subscription.receive)
        return client

    def _serve(self, connection: PublisherConnection) -> None:
        """Send until the connection is lost or the daemon stops."""
        while not connection.lost:
            if not connection.accepted and time.monotonic() - connection.opened_at > self._options.connect_timeout_s:
                connection.lost = "the broker does not answer"
                break
            connection.loop_once(self._wake_fd)
            if connection.accepted and not connection.lost:
                connection.collect_acks()
                if self._stopping.is_set():
                    self._disconnect(connection)
                    return
                self._send_volatile(connection)
                self._subscribe(connection.client)
                connection.send_pending()
                connection.delete_if_due()
            elif self._stopping.is_set():
                return
            self._queue.sync_if_due()
        connection.collect_acks()
        raise LinkError(f"{self._options.address}: {connection.lost}")

    def _send_volatile(self, connection: PublisherConnection) -> None:
        for message in self._volatile.take():
            connection.send_now(message)

    def _announce(self, connection: PublisherConnection) -> None:
        """Publish the retained messages again, as the broker may have lost them."""
        for message in [self._status("online"), *self._volatile.take_retained(), *self._queue.retained()]:
            connection.send_now(message)

    def _status(self, state: str) -> Message:
        return Message(self._topics.of_device("status"), self._status_payload(state), "status", retain=True)

    def _disconnect(self, connection: PublisherConnection) -> None:
        """Publish `stopping`, wait for what is in flight while there is time, and disconnect, so that no will is sent."""
        client = connection.client
        self._send_volatile(connection)  # such as the reply to the command that stops us
        connection.send_now(self._status("stopping"))
        while client.socket() is not None and time.monotonic() < self._stop_by and not connection.is_quiet:
            connection.send_volatile()
            connection.loop_once(self._wake_fd)
            connection.collect_acks()
        self._delete_acknowledged(connection)
        client.disconnect()
        while client.socket() is not None and time.monotonic() < self._stop_by:
            connection.loop_once(self._wake_fd)
        log.info("disconnected from %s; %d messages are kept for the next start", self._options.address, self._queue.pending().rows)

    def _close(self, connection: PublisherConnection) -> bool:
        """Close what may still be open; whether the connection was a good one."""
        sock = connection.client.socket()
        if sock is not None:
            sock.close()
        self._delete_acknowledged(connection)
        if not self._stopping.is_set():
            with contextlib.suppress(EdgeannotError):  # said by `_delete_acknowledged`
                connection.explain_loss()
        return connection.accepted and time.monotonic() - connection.opened_at >= _STEADY_S

    def _delete_acknowledged(self, connection: PublisherConnection) -> None:
        """Let go of what was acknowledged; where the store fails that is said, and the messages are sent again."""
        try:
            connection.delete_acknowledged()
        except EdgeannotError as exc:
            self._history.once.not_deleted(exc)

    def _on_connect(
        self, connection: PublisherConnection, _client: Client, _data: object, _flags: object, reason: ReasonCode, granted: Any
    ) -> None:
        if reason.is_failure:
            connection.lost = meaning(reason)
            return
        connection.accept(granted)
        self._asked.clear()
        for subscription in self._subscriptions.values():
            subscription.ask_at = 0.0
        self._announce(connection)
        self.connections += 1
        self.state = "online"
        self._online.set()
        waiting = self._queue.pending().rows
        level = logging.INFO if self._is_news else logging.DEBUG
        log.log(level, "connected to %s%s", self._options.address, f"; {number_of(waiting, 'message')} waiting" if waiting else "")
        self._is_news = False

    def _subscribe(self, client: Client) -> None:
        """Ask for the subscriptions, also again for those that the broker refused: its quota or access list may be another by now."""
        from paho.mqtt.subscribeoptions import SubscribeOptions  # noqa: PLC0415

        now = time.monotonic()
        for topic_filter, subscription in self._subscriptions.items():
            if subscription.ask_at > now:
                continue
            subscription.ask_at = math.inf
            if self._options.protocol == "5":
                wanted = SubscribeOptions(qos=1, retainAsPublished=subscription.as_published)
                _, mid = client.subscribe(topic_filter, options=wanted)
            else:
                _, mid = client.subscribe(topic_filter, qos=1)
            if mid is not None:
                self._asked[mid] = topic_filter

    def _on_subscribe(self, _client: Client, _data: object, mid: int, reasons: list[ReasonCode], _properties: object) -> None:
        topic_filter = self._asked.pop(mid, "")
        if topic_filter and reasons[0].is_failure:
            self._subscriptions[topic_filter].ask_at = time.monotonic() + self._options.retry_max_s
            self._history.once.warning("nothing is received on %s: %s", topic_filter, meaning(reasons[0], doing="reading"))
