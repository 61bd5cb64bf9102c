"""From the outbox to the broker: one thread that connects, sends in order, deletes what is acknowledged, and never gives up.

paho keeps what is in flight in memory and reorders it after a reconnect. So each connection gets a client of its own, with
nothing in it: after a loss the outbox is read again from its oldest row, in order. What was in flight is sent twice at most, with
the same id in its payload. The loop is paho's own (`loop_read`, `loop_write`, `loop_misc`) round one `poll`, so all of paho runs
in this thread.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import select
import socket
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from edgeannot import broker
from edgeannot.errors import EdgeannotError, LinkError
from edgeannot.payload import Origin, Topics, encode, status_payload
from edgeannot.store import Message, Store

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessage
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

__all__ = ["Link", "LinkState"]

log = logging.getLogger(__name__)

LinkState = Literal["new", "away", "online", "stopped"]

_TICK_S: Final = 1.0
"""How often keepalive is looked after; a commit, an answer or a stop wakes the thread at once."""

_STEADY_S: Final = 10.0
"""A connection that lasted this long was a good one: the next wait is the shortest again."""

_SHORT_MANY: Final = 4
"""Short connections in a row that are no accident any more."""

_TOLD_AT_MOST: Final = 256
"""Messages past the outbox that may queue up between two turns; the oldest go."""

_NEVER: Final = frozenset({0x90, 0x95, 0x99})
"""PUBACK reasons that no repetition heals: topic name invalid, packet too large, payload format invalid."""

_SUSPECT_LOSSES: Final = 8
"""How often in a row a message must be alone on a connection when that breaks until it is taken for the cause."""


@dataclass(slots=True)
class _Session:
    """One connection: born and thrown away with its client."""

    client: Client
    opened_at: float = field(default_factory=time.monotonic)
    accepted: bool = False
    lost: str = ""
    """Why the connection is over; empty while it is not."""
    window: int = 0
    max_packet: int | None = None
    max_qos: int = 2
    can_retain: bool = True
    cursor: int = 0
    """The largest outbox id that was handed to the client."""
    in_flight: dict[int, Message] = field(default_factory=dict)
    """By paho's message number."""
    answers: list[tuple[int, ReasonCode]] = field(default_factory=list)
    """Acknowledgements that `_settle` has not seen."""
    held: dict[str, float] = field(default_factory=dict)
    """Topics that the broker refuses for now, and when to try them again (monotonic seconds)."""

    def too_large(self, message: Message) -> bool:
        """Whether the broker said that it takes no packet of this size; it would end the connection."""
        return self.max_packet is not None and _packet_size(message) > self.max_packet


class Link:
    """Sends what is in the store. `start`, then `stop` once; every other method may be called from any thread."""

    def __init__(
        self,
        options: broker.BrokerOptions,
        store: Store,
        origin: Origin,
        *,
        prefix: str = "edgeannot",
        window: int = 64,
    ) -> None:
        """`window`: messages that may be unacknowledged at a time. Raises ConfigError when a file that the options name is unusable."""
        self._options = options
        self._store = store
        self._origin = origin
        self._topics = Topics(origin.device, prefix)
        self._window = window
        self._told: deque[Message] = deque(maxlen=_TOLD_AT_MOST)
        self._standing: dict[str, Message] = {}  # retained messages of `tell`, by topic
        self._subscriptions: dict[str, Callable[[MQTTMessage], None]] = {}
        self._client_id = options.client_id or f"edgeannot-{origin.device}"
        self._new_client()  # finds a missing file now rather than at night
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        weakref.finalize(self, os.close, self._wake_fd)
        self._stopping = threading.Event()
        self._online = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)
        self._properties: dict[object, Properties] = {}
        self._suspect: tuple[int, int] = (0, 0)  # outbox id, losses
        self._reported: set[str] = set()  # troubles since a connection last held
        self._dropped: set[tuple[str, str]] = set()  # topics that lost messages, and why
        self._news = True  # whether the next connection is worth a line
        self._stop_by = 0.0
        self._attempt = self._short = 0  # connections since one lasted, and those of them that the broker ended soon
        self.state: LinkState = "new"
        self.connections = 0
        """How often the broker let us in."""
        self.sent = 0
        """Messages from the outbox that the broker acknowledged."""

    def start(self) -> None:
        """Begin to connect, in the background; the first attempt is no different from any later one."""
        self._store.add_listener(self.wake)
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
        """There may be something to send."""
        os.eventfd_write(self._wake_fd, 1)

    def wait_online(self, timeout_s: float) -> bool:
        """Wait until the broker has let us in; False when it has not after `timeout_s`."""
        return self._online.wait(timeout_s)

    def wait_drained(self, timeout_s: float) -> bool:
        """Wait until the broker has acknowledged everything in the store; False when something is left after `timeout_s`."""
        return self._store.wait_empty(timeout_s)

    def topic(self, leaf: str) -> str:
        """The topic of something the device has one of, such as telemetry."""
        return self._topics.of_device(leaf)

    def subscribe(self, topic_filter: str, handler: Callable[[MQTTMessage], None]) -> None:
        """Have `handler` called, in the link's thread, for each message; renewed at each connection. Call before `start`."""
        self._subscriptions[topic_filter] = handler

    def tell(self, message: Message) -> None:
        """Send a message past the outbox, at once if the broker is there. A retained one is told again at each connection and
        replaces the one before it on its topic; another is forgotten when the broker is away (telemetry, replies)."""
        if message.retain:
            self._standing[message.topic] = message
        self._told.append(message)
        self.wake()

    # The thread

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._one_connection()
            except Exception as exc:  # noqa: BLE001 - without this thread no message would leave, and nobody would notice
                self._surprised(exc)
            self._stopping.wait(_pause_s(self._options, self._attempt))
            self._attempt += 1

    def _one_connection(self) -> None:
        """Connect, serve until that is over, and say what was in the way."""
        session, trouble = None, ""
        try:
            session = self._connect()
            self._serve(session)
        except EdgeannotError as exc:  # also a password file that went away, or a full disk: both may come back
            trouble = str(exc)
        except Exception as exc:  # noqa: BLE001 - the connection is to be closed in order
            self._surprised(exc)
        finally:
            self._online.clear()
            self.state = "away"
        held = session is not None and self._end(session)
        self._short = 0 if held or session is None or not session.accepted else self._short + 1
        if held:
            self._attempt = 0
            self._reported.clear()
        if self._short >= _SHORT_MANY:  # brokers that say why with "session taken over" are few
            trouble = (
                f"{self._options.address}: the broker lets us in and hangs up soon, again and again; "
                f"is another client there as {self._client_id!r}?"
            )
        self._report(trouble)

    def _surprised(self, exc: Exception) -> None:
        if (what := repr(exc)) not in self._reported:
            self._reported.add(what)
            log.error("the MQTT link failed in a way that nobody foresaw; it connects again", exc_info=exc)

    def _connect(self) -> _Session:
        client = self._new_client()
        session = _Session(client, window=self._window)
        client.on_connect = lambda *args: self._on_connect(session, *args)
        client.on_disconnect = lambda *args: self._on_disconnect(session, *args)
        client.on_publish = lambda _client, _data, mid, reason, _properties: session.answers.append((mid, reason))
        broker.connect(client, self._options)
        return session

    def _new_client(self) -> Client:
        will = broker.Will(self._topics.of_device("status"), encode(status_payload(self._origin, "offline")))
        client = broker.new_client(self._options, self._client_id, will)
        client.max_inflight_messages_set(65535)  # the window is ours
        for topic_filter, handler in self._subscriptions.items():
            client.message_callback_add(topic_filter, _guarded(handler))
        return client

    def _serve(self, session: _Session) -> None:
        """Send until the connection is lost or the daemon stops."""
        while not session.lost:
            if not session.accepted and time.monotonic() - session.opened_at > self._options.connect_timeout_s:
                session.lost = "the broker does not answer"
                break
            self._turn(session)
            if session.accepted and not session.lost:
                self._settle(session)
                if self._stopping.is_set():
                    self._say_goodbye(session)
                    return
                self._send_told(session)
                self._feed(session)
            elif self._stopping.is_set():
                return
            self._store.sync_if_due()
        self._settle(session)
        raise LinkError(f"{self._options.address}: {session.lost}")

    def _turn(self, session: _Session) -> None:
        """Wait for the socket or a wake-up, then let paho read, write and look after keepalive."""
        client = session.client
        sock: Any = client.socket()
        if sock is None:
            session.lost = session.lost or "the connection was lost"
            return
        buffered = getattr(sock, "pending", lambda: 0)() > 0 or bool(session.answers)
        poller = select.poll()
        poller.register(sock.fileno(), select.POLLIN | (select.POLLOUT if client.want_write() else 0))
        poller.register(self._wake_fd, select.POLLIN)
        ready = dict(poller.poll(0 if buffered else _TICK_S * 1000))
        if self._wake_fd in ready:
            os.eventfd_read(self._wake_fd)
        if buffered or ready.keys() - {self._wake_fd}:
            client.loop_read()
        if client.want_write():
            client.loop_write()
        client.loop_misc()

    def _feed(self, session: _Session) -> None:
        """Hand over messages in order while the window has room."""
        now = time.monotonic()
        if any(until <= now for until in session.held.values()):
            session.held = {topic: until for topic, until in session.held.items() if until > now}
            session.cursor = 0
        room = session.window - len(session.in_flight)
        if self._suspect[0]:
            room = 1 - len(session.in_flight)
        if room <= 0:
            return
        flying = {message.id for message in session.in_flight.values()}
        wanted = room + (len(flying) if session.cursor == 0 else 0)
        messages = self._store.next_messages(session.cursor, wanted, skip_topics=session.held)
        with _corked(session.client.socket() if len(messages) > 1 else None):
            for message in messages:
                if message.id not in flying and not self._publish(session, message):
                    return
                session.cursor = message.id

    def _publish(self, session: _Session, message: Message) -> bool:
        """Send one message from the outbox; False when the connection is lost."""
        if session.too_large(message):
            self._refuse([message], f"the broker takes packets of up to {session.max_packet} bytes")
            return True
        session.in_flight[self._hand_over(session, message)] = message
        return session.client.socket() is not None

    def _hand_over(self, session: _Session, message: Message) -> int:
        """Give a message to paho, whatever comes of it: only an acknowledgement counts. Returns paho's number for it."""
        qos, retain = min(message.qos, session.max_qos), message.retain and session.can_retain
        return session.client.publish(message.topic, message.payload, qos, retain, self._publish_properties(message)).mid

    def _publish_properties(self, message: Message) -> Properties | None:
        if self._options.protocol != "5":
            return None
        key = (message.content_type, message.expiry_s, message.properties)
        if key not in self._properties:  # they cost paho more time than the message, and are nearly always the same
            self._properties.clear()
            self._properties[key] = broker.properties(
                "PUBLISH",
                ContentType=message.content_type,
                PayloadFormatIndicator=1 if message.content_type == "application/json" else None,
                MessageExpiryInterval=message.expiry_s,
                UserProperty=list(message.properties) or None,
            )
        return self._properties[key]

    def _send_told(self, session: _Session) -> None:
        while self._told and session.client.socket() is not None:
            self._say(session, self._told.popleft())

    def _say(self, session: _Session, message: Message) -> None:
        """Send a message that is not in the outbox."""
        if session.too_large(message):
            self._say_dropped(message, f"the broker takes packets of up to {session.max_packet} bytes")
        else:
            self._hand_over(session, message)

    def _settle(self, session: _Session) -> None:
        """Delete what was acknowledged, in one transaction."""
        done, refused = [], []
        for mid, reason in session.answers:
            message = session.in_flight.pop(mid, None)
            if message is None:  # one that did not come from the outbox
                continue
            if reason.value < 0x80:
                done.append(message)
            elif reason.value in _NEVER:
                refused.append(message)
            elif message.topic not in session.held:
                log.warning("%s: %s; its messages wait and are tried again", message.topic, broker.meaning(reason, writing=True))
                session.held[message.topic] = time.monotonic() + self._options.retry_max_s
        session.answers.clear()
        if done:
            self._store.delete([message.id for message in done])
            self.sent += len(done)
            self._suspect = (0, 0)
        if refused:
            self._refuse(refused, "the broker will never accept them")

    def _refuse(self, messages: list[Message], why: str) -> None:
        for message in messages:
            self._say_dropped(message, why)
        self._store.delete([message.id for message in messages], refused=True)

    def _say_dropped(self, message: Message, why: str) -> None:
        level = logging.DEBUG if (message.topic, why) in self._dropped else logging.WARNING
        self._dropped.add((message.topic, why))
        log.log(level, "%s: a message of %d bytes is dropped: %s (further ones are only counted)", message.topic, len(message.payload), why)

    def _note_loss(self, session: _Session) -> None:
        """A broker of MQTT 3.1.1 answers a message that it cannot take by hanging up: find out which one it is."""
        if self._stopping.is_set() or not session.in_flight:
            return
        first = min(session.in_flight.values(), key=lambda message: message.id)
        losses = self._suspect[1] + 1 if self._suspect[0] == first.id else 1
        if losses >= _SUSPECT_LOSSES and len(session.in_flight) == 1 and time.monotonic() - session.opened_at < self._options.keepalive_s:
            self._refuse([first], f"the broker hung up {losses} times when it came")
            self._suspect = (0, 0)
        else:
            self._suspect = (first.id, losses)

    # paho's callbacks, all in this thread

    def _on_connect(
        self, session: _Session, client: Client, _data: object, _flags: object, reason: ReasonCode, granted: Properties | None
    ) -> None:
        if reason.is_failure:
            session.lost = broker.meaning(reason)
            return
        session.accepted = True
        session.window = min(session.window, getattr(granted, "ReceiveMaximum", session.window))
        session.max_packet = getattr(granted, "MaximumPacketSize", None)
        session.max_qos = getattr(granted, "MaximumQoS", 2)
        session.can_retain = bool(getattr(granted, "RetainAvailable", 1))
        for topic_filter in self._subscriptions:
            client.subscribe(topic_filter, qos=1)
        self._announce(session)
        self.connections += 1
        self.state = "online"
        self._online.set()
        waiting = self._store.pending().rows
        log.log(
            logging.INFO if self._news else logging.DEBUG,
            "connected to %s%s",
            self._options.address,
            f"; {waiting} messages wait to be sent" if waiting else "",
        )
        self._news = False

    def _on_disconnect(
        self, session: _Session, _client: Client, _data: object, _flags: object, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        # Called twice by paho when keepalive ends the connection; the first reason counts.
        if not self._stopping.is_set():
            session.lost = session.lost or broker.meaning(reason)

    def _announce(self, session: _Session) -> None:
        """Say how things stand, retained: a broker may have lost what it was told before."""
        self._told.clear()
        for message in [self._status("online"), *self._standing.values(), *self._store.retained()]:
            self._say(session, message)

    def _status(self, state: str) -> Message:
        return Message(self._topics.of_device("status"), encode(status_payload(self._origin, state)), "status", retain=True)

    def _say_goodbye(self, session: _Session) -> None:
        """Publish `stopping`, wait for what is in flight while there is time, and disconnect, so that no will is sent."""
        farewell = self._hand_over(session, self._status("stopping"))
        heard = False
        while session.client.socket() is not None and time.monotonic() < self._stop_by and not (heard and not session.in_flight):
            self._turn(session)
            heard = heard or any(mid == farewell for mid, _ in session.answers)
            self._settle(session)
        session.client.disconnect()
        while session.client.socket() is not None and time.monotonic() < self._stop_by:
            self._turn(session)
        log.info("disconnected from %s; %d messages are kept for the next start", self._options.address, self._store.pending().rows)

    def _end(self, session: _Session) -> bool:
        """Close what may still be open; whether the connection was a good one."""
        sock = session.client.socket()
        if sock is not None:
            sock.close()
        self._note_loss(session)
        return session.accepted and time.monotonic() - session.opened_at >= _STEADY_S

    def _report(self, trouble: str) -> None:
        """Log what is in the way, once until a connection has lasted: neither a long outage nor a flapping link floods the log."""
        if not trouble or self._stopping.is_set() or trouble in self._reported:
            return
        self._reported.add(trouble)
        self._news = True
        try:
            waiting = f"{self._store.pending().rows} messages wait, "
        except EdgeannotError:  # then this is the trouble
            waiting = ""
        log.warning("%s; %strying again at growing intervals", trouble, waiting)


@contextlib.contextmanager
def _corked(sock: Any) -> Iterator[None]:
    """Have the kernel gather what is sent meanwhile into full packets: one system call for each would wake the broker each time."""
    plain = hasattr(sock, "setsockopt")  # paho's WebSocket is none of the system's
    if plain:
        with contextlib.suppress(OSError):  # closed meanwhile
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
    try:
        yield
    finally:
        if plain:
            with contextlib.suppress(OSError):  # closed meanwhile
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)


def _pause_s(options: broker.BrokerOptions, attempt: int) -> float:
    """Seconds until the next attempt: doubling up to the longest, shortened at random by up to half."""
    return min(options.retry_max_s, options.retry_min_s * 2.0 ** min(attempt, 30)) * random.uniform(0.5, 1.0)  # noqa: S311 - no secret


def _packet_size(message: Message) -> int:
    """An upper bound of a PUBLISH packet's bytes: 32 for headers and fixed properties, 5 for the frame of each user property."""
    extra = sum(len(key.encode()) + len(value.encode()) + 5 for key, value in message.properties)
    return 32 + len(message.topic.encode()) + len(message.content_type) + extra + len(message.payload)


def _guarded(handler: Callable[[MQTTMessage], None]) -> Callable[[Client, object, MQTTMessage], None]:
    """A message that its handler chokes on must not end the connection: it would come again."""

    def call(_client: Client, _data: object, message: MQTTMessage) -> None:
        try:
            handler(message)
        except Exception:
            log.exception("a message on %s could not be handled", message.topic)

    return call
