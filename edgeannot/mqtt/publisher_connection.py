"""One connection to the broker: what is in flight, what was acknowledged, and how much more may be sent.

paho keeps what is in flight in memory and reorders it after a reconnect. So each connection gets a client of its own, with
nothing in it, and the outbox is read again from its oldest row, in order. The loop is paho's own (`loop_read`, `loop_write`,
`loop_misc`) round one `poll`, so all of paho runs in the thread that calls `loop_once`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import socket
import struct
import termios
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from edgeannot.base.errors import LinkError
from edgeannot.mqtt.client import is_topic, loss, meaning, publish
from edgeannot.mqtt.connection_history import ConnectionHistory, InFlight
from edgeannot.mqtt.options import BrokerOptions
from edgeannot.storage.store import Message, Queue

if TYPE_CHECKING:
    from paho.mqtt.client import Client
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

__all__ = ["PublisherConnection"]

_TICK_S: Final = 1.0
"""How often keepalive is looked after; a commit, an answer or a stop wakes the thread at once."""

_NEVER: Final = frozenset({0x90, 0x95, 0x99})
"""PUBACK reasons that no repetition heals: topic name invalid, packet too large, payload format invalid."""

_FLIGHT_BYTES: Final = 2**20
"""Payloads that are on their way at a time, whatever the window, and one more: pictures are larger than results, and boards are small."""

_DELETE_MANY: Final = 256
_DELETE_S: Final = 0.1
"""Acknowledged rows are deleted when nothing is in flight, or so many together, or after this time: a transaction costs as much as
sending several messages. A crash in between repeats them, with the same ids."""


class PublisherConnection:
    """One connection with a client of its own; for one thread."""

    def __init__(self, client: Client, options: BrokerOptions, queue: Queue, history: ConnectionHistory, window: int) -> None:
        self.client = client
        self.opened_at = time.monotonic()
        self.accepted = False
        self.lost = ""
        """Why the connection is over; empty while it is not."""
        self.hung_up = self.said_too_large = False
        """Whether the broker ended it without a word, or with that one."""
        self.is_explained = False
        """Whether it ended for a message that was being tried: no sign that the next connection will not last."""
        self._options = options
        self._queue = queue
        self._history = history
        self._window = window
        self._max_packet: int | None = None
        self._max_qos = 2
        self._can_retain = True
        self._cursor = 0  # the largest outbox id that was handed to the client
        self._in_flight: dict[int, InFlight] = {}  # by paho's message number
        self._volatile: deque[Message] = deque()
        self._volatile_last: deque[Message] = deque()
        self._volatile_retry: dict[str, tuple[float, Message]] = {}  # retained ones that the broker refuses for now, and when to try again
        self._suspect_bytes = history.limits.suspect_bytes
        self._probing = False  # whether what is in flight is one message that may cost the connection
        self._answers: list[tuple[int, ReasonCode]] = []
        self._acknowledged: list[int] = []  # acknowledged, still in the store
        self._acknowledged_since = self._moved_at = self.opened_at
        self._delete_again_at = 0.0
        self._refused_until: dict[str, float] = {}  # topics that the broker refuses for now, and when to try them again (monotonic seconds)
        self._sender = _SendBuffer()
        client.on_publish = lambda _client, _data, mid, reason, _properties: self._answers.append((mid, reason))
        client.on_disconnect = self._on_disconnect

    @property
    def is_quiet(self) -> bool:
        """Return whether everything sent is acknowledged and no volatile message waits."""
        return not (self._in_flight or self._volatile)

    def accept(self, granted: Properties | None) -> None:
        """Store the broker's limits from its CONNACK."""
        self.accepted = True
        self._window = min(self._window, getattr(granted, "ReceiveMaximum", self._window))
        self._max_packet = getattr(granted, "MaximumPacketSize", None)
        self._max_qos = getattr(granted, "MaximumQoS", 2)
        self._can_retain = bool(getattr(granted, "RetainAvailable", 1))

    def _on_disconnect(self, client: Client, _data: object, _flags: object, reason: ReasonCode, _properties: object) -> None:
        # Called twice by paho when keepalive ends the connection; the first reason counts.
        if not self.lost:
            self.hung_up = reason.value == 0x80  # what paho gives where nobody said why
            self.said_too_large = reason.value == 0x95
            self.lost = loss(client, reason)

    def loop_once(self, wake_fd: int) -> None:
        """Wait for the socket or a wake-up, then let paho read, write and look after keepalive."""
        client = self.client
        sock: Any = client.socket()
        if sock is None:
            self.lost = self.lost or "the connection was lost"
            return
        pending = getattr(sock, "pending", None)  # TLS has read it already
        buffered = bool(self._answers) or (pending is not None and pending() > 0)
        poller = select.poll()
        poller.register(sock.fileno(), select.POLLIN | (select.POLLOUT if client.want_write() else 0))
        poller.register(wake_fd, select.POLLIN)
        ready = dict(poller.poll(0 if buffered else 1000 * (_DELETE_S if self._acknowledged and not self._delete_again_at else _TICK_S)))
        if wake_fd in ready:
            os.eventfd_read(wake_fd)
        if buffered or ready.keys() - {wake_fd}:
            client.loop_read()
        if client.want_write():
            client.loop_write()
        if not self._sender.is_moving(sock, self._options.keepalive_s):
            client.loop_misc()  # keepalive
            self._check_progress()

    def _check_progress(self) -> None:
        """End the connection to a broker that answers pings but acknowledges nothing, as behind a broken proxy."""
        now = time.monotonic()
        if self._answers or self.client.want_write() or not self._in_flight:
            self._moved_at = now
        elif now - self._moved_at > 2 * self._options.keepalive_s:
            self.lost = self.lost or "the broker has not acknowledged anything for too long"

    # Sending

    def send_now(self, message: Message) -> None:
        """Send a volatile message before those of the outbox, as soon as the window has room."""
        if message.retain:
            self._volatile_retry.pop(message.topic, None)
        self._volatile.append(message)

    def send_pending(self) -> None:
        """Send messages in order while the window has room; a suspected one only when nothing else waits."""
        self.send_volatile()
        if self._probing:
            return
        now, suspect_bytes = time.monotonic(), self._history.limits.suspect_bytes
        if any(until <= now for until in self._refused_until.values()) or suspect_bytes != self._suspect_bytes:
            self._refused_until = {topic: until for topic, until in self._refused_until.items() if until > now}
            self._cursor, self._suspect_bytes = 0, suspect_bytes
            self.delete_acknowledged()
        flying_bytes = sum(each.size for each in self._in_flight.values())
        alone = self._history.poison.travels_alone
        room = (1 if alone else self._window) - len(self._in_flight)
        # The other half keeps the broker busy meanwhile: a batch costs one reading of the store and one waking of the broker.
        if room <= 0 or flying_bytes >= _FLIGHT_BYTES or (2 * room < self._window and self._in_flight and not alone):
            # The broker's answers gather there until the kernel says that they came (Nagle's algorithm), and ours would wait 40 ms.
            _set_tcp(self.client.socket(), socket.TCP_QUICKACK, 1)
            return
        flying = {each.message.id for each in self._in_flight.values() if not each.is_volatile}
        wanted = room + (len(flying) if self._cursor == 0 else 0)
        more_bytes = _FLIGHT_BYTES - (flying_bytes if self._cursor else 0)
        messages = self._queue.next_messages(
            self._cursor, wanted, max_bytes=more_bytes, skip_topics=self._refused_until, images_below=suspect_bytes
        )
        if suspect_bytes is not None and not messages and not self._in_flight:
            self._probe_one(suspect_bytes)
            return
        sock = self.client.socket() if len(messages) > 1 else None
        _set_tcp(sock, socket.TCP_CORK, 1)  # a batch goes in full packets: else each message wakes the broker
        try:
            for message in messages:
                if message.id not in flying:
                    self._send(message)
                if self.client.socket() is None:
                    return
                self._cursor = message.id
        finally:
            _set_tcp(sock, socket.TCP_CORK, 0)

    def send_volatile(self) -> None:
        """Send the volatile messages while the window has room."""
        self._probing = self._probing and bool(self._in_flight)
        now = time.monotonic()
        for topic, (at, message) in list(self._volatile_retry.items()):
            if at <= now:
                del self._volatile_retry[topic]
                self._volatile.append(message)
        while self._volatile and not self._probing and len(self._in_flight) < self._window and self.client.socket() is not None:
            message = self._volatile.popleft()
            if self._history.limits.is_suspect(len(message.payload)) and not self._unfit(message, is_volatile=True):
                self._volatile_last.append(message)
            else:
                self._send(message, is_volatile=True)

    def _probe_one(self, suspect_bytes: int) -> None:
        """Send one message that may cost the connection, alone, so that there is no question which one did."""
        self.delete_acknowledged()  # what was acknowledged is not read again
        while self._volatile_last and not self._probing:
            self._probing = self._send(self._volatile_last.popleft(), is_volatile=True)
        if not self._probing:
            images = self._queue.large_images(suspect_bytes, self._window, skip_topics=self._refused_until)
            self._probing = any(self._send(message) for message in images)

    def _send(self, message: Message, *, is_volatile: bool = False) -> bool:
        """Give a message to paho; False when it is not fit, and dropped."""
        if why := self._unfit(message, is_volatile=is_volatile):
            self._drop([InFlight(message, is_volatile)], why)
            return False
        mid = publish(self.client, message, max_qos=self._max_qos, can_retain=self._can_retain)
        self._in_flight[mid] = InFlight(message, is_volatile)
        return True

    def _unfit(self, message: Message, *, is_volatile: bool = False) -> str:
        """Return why this message cannot be sent on this connection, which would end with it; empty when it can."""
        if not is_topic(message.topic):
            return "its topic cannot be published to"
        try:
            size = _packet_size(message)
        except UnicodeEncodeError:
            return "its properties are not text"
        if self._max_packet is not None and size > self._max_packet:
            return f"the broker accepts packets of up to {self._max_packet} bytes"
        if (is_volatile or message.kind == "image") and (refused := self._history.limits.refused(len(message.payload))):
            return f"the broker hung up when one of {refused} bytes came"
        return ""

    # Acknowledgements

    def collect_acks(self) -> None:
        """Record acknowledged messages; they stay in the store until `delete_acknowledged`."""
        answers, self._answers[:] = list(self._answers), []
        refused = []
        for mid, reason in answers:
            flying = self._in_flight.pop(mid, None)
            if flying is None:
                continue
            if reason.value < 0x80:
                self._history.limits.acknowledged(flying.size)
                if not self._acknowledged:
                    self._acknowledged_since = time.monotonic()
                if not flying.is_volatile:
                    self._acknowledged.append(flying.message.id)
            elif reason.value in _NEVER or (flying.is_volatile and not flying.message.retain):
                refused.append((flying, meaning(reason, doing="writing")))
            else:
                self._try_later(flying, meaning(reason, doing="writing"))
        for why in {why for _, why in refused}:
            self._drop([flying for flying, its_reason in refused if its_reason == why], why)

    def _try_later(self, refused: InFlight, why: str) -> None:
        """Keep what the broker refuses for now: how things stand is not lost for a quota or an access list of the moment."""
        topic, again_at = refused.message.topic, time.monotonic() + self._options.retry_max_s
        if refused.is_volatile:
            self._volatile_retry[topic] = again_at, refused.message
        elif topic in self._refused_until:
            return
        else:
            self._refused_until[topic] = again_at
        self._history.once.refused_for_now(topic, why)

    def delete_if_due(self) -> None:
        """Delete acknowledged messages when there are enough for a transaction, or nothing else to do.

        Where the disk does not take it (it may be full), the numbers are kept and further messages sent: nothing comes twice for that.
        """
        now = time.monotonic()
        if now < self._delete_again_at or not (
            not self._in_flight or len(self._acknowledged) >= _DELETE_MANY or now - self._acknowledged_since >= _DELETE_S
        ):
            return
        try:
            self.delete_acknowledged()
        except LinkError as exc:
            self._history.once.not_deleted(exc)
            self._delete_again_at = now + _TICK_S

    def delete_acknowledged(self) -> None:
        """Delete acknowledged messages in one transaction."""
        if self._acknowledged:
            self._queue.delete(self._acknowledged)
            self._history.sent += len(self._acknowledged)
            self._history.poison.cleared()
            self._acknowledged.clear()
            self._delete_again_at = 0.0

    def explain_loss(self) -> None:
        """Drop the message that the broker hung up on, once it is clear that it was one. The connection is over."""
        poison, limits, flying = self._history.poison, self._history.limits, list(self._in_flight.values())
        cause = limits.lost(flying, said_why=self.said_too_large) if self.hung_up or self.said_too_large else None
        self.is_explained = self.hung_up and self._probing and limits.suspect_bytes is not None and len(flying) == 1
        results = [each.message for each in flying if not each.is_volatile]
        if cause is not None:
            self._drop([cause], "the broker hung up when it came")
        elif results and not any(limits.is_suspect(each.size) and each.may_be_the_cause for each in flying):
            soon = time.monotonic() - self.opened_at < self._options.keepalive_s
            if found := poison.lost(results, soon=soon):
                self._drop([InFlight(found, is_volatile=False)], f"the broker hung up {poison.losses} times when it came")
                poison.cleared()

    def _drop(self, refused: Sequence[InFlight], why: str) -> None:
        for each in refused:
            self._history.once.dropped(each.message, why)
            if each.message.instead is not None:
                self._volatile.append(each.message.instead)
        if ids := [each.message.id for each in refused if not each.is_volatile]:
            self._queue.delete(ids, refused=True)


class _SendBuffer:
    """Watches whether bytes leave: a packet may take longer than the keepalive on a slow line, and a ping waits behind it."""

    def __init__(self) -> None:
        self._waiting = 0
        self._moved_at = time.monotonic()

    def is_moving(self, sock: Any, within_s: float) -> bool:
        """Return whether bytes wait to be sent and some have left, or come, in the last `within_s` seconds."""
        try:  # bytes that the other side's kernel has not acknowledged: tcp(7), SIOCOUTQ, which has the number of TIOCOUTQ
            waiting = int(struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)))[0])
        except (OSError, ValueError):  # closed meanwhile
            waiting = 0
        now = time.monotonic()
        if waiting != self._waiting:
            self._waiting, self._moved_at = waiting, now
        return waiting > 0 and now - self._moved_at < within_s


def _set_tcp(sock: Any, option: int, value: int) -> None:
    """Set an option of TCP where there is a socket of the system; paho's WebSocket is none."""
    if hasattr(sock, "setsockopt"):
        with contextlib.suppress(OSError):  # closed meanwhile
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def _packet_size(message: Message) -> int:
    """Return an upper bound of a PUBLISH packet's bytes: 32 for headers and fixed properties, 5 for the frame of each user property."""
    extra = sum(len(key.encode()) + len(value.encode()) + 5 for key, value in message.properties)
    extra += len(message.correlation or b"") + 3
    return 32 + len(message.topic.encode()) + len(message.content_type) + extra + len(message.payload)
