"""One connection to the broker: what is in flight, what was acknowledged, and how much more may be sent.

paho keeps what is in flight in memory and reorders it after a reconnect. So each connection gets a client of its own, with
nothing in it, and the outbox is read again from its oldest row, in order. The loop is paho's own (`loop_read`, `loop_write`,
`loop_misc`) round one `poll`, so all of paho runs in the thread that calls `turn`.
"""

from __future__ import annotations

import logging
import os
import select
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from edgeannot.base.errors import LinkError
from edgeannot.mqtt.client import has_input, is_topic, meaning, properties
from edgeannot.mqtt.connection_history import ConnectionHistory
from edgeannot.mqtt.options import BrokerOptions
from edgeannot.mqtt.packet_sizes import InFlight
from edgeannot.mqtt.tcp import Flow, acknowledge, corked
from edgeannot.storage.records import Message
from edgeannot.storage.store import Queue

if TYPE_CHECKING:
    from paho.mqtt.client import Client
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

__all__ = ["PublisherConnection"]

log = logging.getLogger(__name__)

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
    """Born and thrown away with its client; for one thread."""

    def __init__(self, client: Client, options: BrokerOptions, store: Queue, history: ConnectionHistory, window: int) -> None:
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
        self._store = store
        self._history = history
        self._window = window
        self._max_packet: int | None = None
        self._max_qos = 2
        self._can_retain = True
        self._cursor = 0  # the largest outbox id that was handed to the client
        self._in_flight: dict[int, Message] = {}  # from the outbox, by paho's message number
        self._saying: dict[int, Message] = {}  # past the outbox, by the same number
        self._to_say: deque[Message] = deque()
        self._to_say_last: deque[Message] = deque()
        self._say_again: dict[str, tuple[float, Message]] = {}  # retained ones that the broker refuses for now, and when to try again
        self._doubt = history.sizes.doubt
        self._trying = False  # whether what is in flight is one message that may cost the connection
        self._answers: list[tuple[int, ReasonCode]] = []
        self._done: list[int] = []  # acknowledged, still in the store
        self._done_since = self._moved_at = self.opened_at
        self._delete_again_at = 0.0
        self._held: dict[str, float] = {}  # topics that the broker refuses for now, and when to try them again (monotonic seconds)
        self._flow = Flow()
        self._properties: dict[object, Properties] = {}
        client.on_publish = lambda _client, _data, mid, reason, _properties: self._answers.append((mid, reason))

    @property
    def is_quiet(self) -> bool:
        """Whether all that was sent is acknowledged and all that was to be said is said."""
        return not (self._in_flight or self._saying or self._to_say)

    def accept(self, granted: Properties | None) -> None:
        """The broker let us in, and told what it takes."""
        self.accepted = True
        self._window = min(self._window, getattr(granted, "ReceiveMaximum", self._window))
        self._max_packet = getattr(granted, "MaximumPacketSize", None)
        self._max_qos = getattr(granted, "MaximumQoS", 2)
        self._can_retain = bool(getattr(granted, "RetainAvailable", 1))

    def turn(self, wake_fd: int) -> None:
        """Wait for the socket or a wake-up, then let paho read, write and look after keepalive."""
        client = self.client
        sock: Any = client.socket()
        if sock is None:
            self.lost = self.lost or "the connection was lost"
            return
        buffered = has_input(client) or bool(self._answers)
        poller = select.poll()
        poller.register(sock.fileno(), select.POLLIN | (select.POLLOUT if client.want_write() else 0))
        poller.register(wake_fd, select.POLLIN)
        ready = dict(poller.poll(0 if buffered else 1000 * (_DELETE_S if self._done and not self._delete_again_at else _TICK_S)))
        if wake_fd in ready:
            os.eventfd_read(wake_fd)
        if buffered or ready.keys() - {wake_fd}:
            client.loop_read()
        if client.want_write():
            client.loop_write()
        if not self._flow.is_moving(sock, self._options.keepalive_s):
            client.loop_misc()  # keepalive
            self._check_progress()

    def _check_progress(self) -> None:
        """A broker that answers pings and acknowledges nothing, as one behind a broken proxy does, is no broker."""
        now = time.monotonic()
        if self._answers or self.client.want_write() or not (self._in_flight or self._saying):
            self._moved_at = now
        elif now - self._moved_at > 2 * self._options.keepalive_s:
            self.lost = self.lost or "the broker has not acknowledged anything for too long"

    # Sending

    def say(self, message: Message) -> None:
        """Send a message that is not in the outbox, before all that are, as soon as the window has room."""
        if message.retain:
            self._say_again.pop(message.topic, None)
        self._to_say.append(message)

    def feed(self) -> None:
        """Hand over messages in order while the window has room; what is in doubt comes when nothing else waits."""
        self.feed_said()
        if self._trying:
            return
        now, doubt = time.monotonic(), self._history.sizes.doubt
        if any(until <= now for until in self._held.values()) or doubt != self._doubt:
            self._held = {topic: until for topic, until in self._held.items() if until > now}
            self._cursor, self._doubt = 0, doubt
            self.flush()
        flying_bytes = sum(len(message.payload) for message in self._in_flight.values())
        room = (1 if self._history.poison.travels_alone else self._window) - len(self._in_flight) - len(self._saying)
        # The other half keeps the broker busy meanwhile: a batch costs one reading of the store and one waking of the broker.
        enough = room <= 0 or flying_bytes >= _FLIGHT_BYTES
        if enough or (2 * room < self._window and self._in_flight and not self._history.poison.travels_alone):
            acknowledge(self.client.socket())
            return
        flying = {message.id for message in self._in_flight.values()}
        wanted = room + (len(flying) if self._cursor == 0 else 0)
        more_bytes = _FLIGHT_BYTES - (flying_bytes if self._cursor else 0)
        messages = self._store.next_messages(self._cursor, wanted, max_bytes=more_bytes, skip_topics=self._held, images_below=doubt)
        if doubt is not None and not messages and self.is_idle:
            self._try_one(doubt)
            return
        with corked(self.client.socket() if len(messages) > 1 else None):
            for message in messages:
                if message.id not in flying and not self._publish(message):
                    return
                self._cursor = message.id

    @property
    def is_idle(self) -> bool:
        """Whether nothing is in flight."""
        return not (self._in_flight or self._saying)

    def _try_one(self, doubt: int) -> None:
        """Send one message that may cost the connection, alone, so that there is no question which one did."""
        self.flush()  # what was acknowledged is not read again
        while self._to_say_last:
            message = self._to_say_last.popleft()
            if why := self._unfit(message, is_volatile=True):
                self._drop_said(message, why)
            elif mid := self._hand_over(message):
                self._saying[mid], self._trying = message, True
                return
        for message in self._store.large_images(doubt, self._window, skip_topics=self._held):
            self._publish(message)
            if self._in_flight:
                self._trying = True
                return

    def feed_said(self) -> None:
        """Hand over what is to be said while the window has room."""
        self._trying = self._trying and not self.is_idle
        now = time.monotonic()
        for topic, (at, message) in list(self._say_again.items()):
            if at <= now:
                del self._say_again[topic]
                self._to_say.append(message)
        while self._to_say and len(self._in_flight) + len(self._saying) < self._window and self.client.socket() is not None:
            if self._trying:
                return
            message = self._to_say.popleft()
            if why := self._unfit(message, is_volatile=True):
                self._drop_said(message, why)
            elif self._history.sizes.is_doubtful(len(message.payload)):
                self._to_say_last.append(message)
            elif mid := self._hand_over(message):
                self._saying[mid] = message

    def _refuse_said(self, message: Message, reason: ReasonCode) -> None:
        """How things stand is not lost for a quota or an access list of the moment; what is of the moment itself is."""
        why = meaning(reason, doing="writing")
        if not message.retain or reason.value in _NEVER:
            self._drop_said(message, why)
            return
        self._history.once.held(message.topic, why)
        self._say_again[message.topic] = time.monotonic() + self._options.retry_max_s, message

    def _drop_said(self, message: Message, why: str) -> None:
        self._history.once.dropped(message, why)
        if message.instead is not None:
            self._to_say.append(message.instead)

    def _publish(self, message: Message) -> bool:
        """Send one message from the outbox; False when the connection is lost."""
        if why := self._unfit(message):
            self._refuse([message], why)
            return True
        self._in_flight[self._hand_over(message)] = message
        return self.client.socket() is not None

    def _hand_over(self, message: Message) -> int:
        """Give a message to paho, whatever comes of it: only an acknowledgement counts. Returns paho's number for it."""
        qos, retain = min(message.qos, self._max_qos), message.retain and self._can_retain
        return self.client.publish(message.topic, message.payload, qos, retain, self._publish_properties(message)).mid

    def _unfit(self, message: Message, *, is_volatile: bool = False) -> str:
        """Why this message cannot be sent on this connection, which would end with it; empty when it can."""
        if not is_topic(message.topic):
            return "its topic is none that can be published to"
        try:
            size = _packet_size(message)
        except UnicodeEncodeError:
            return "its properties are no text"
        if self._max_packet is not None and size > self._max_packet:
            return f"the broker takes packets of up to {self._max_packet} bytes"
        if (is_volatile or message.kind == "image") and (refused := self._history.sizes.refused(len(message.payload))):
            return f"the broker hung up when one of {refused} bytes came"
        return ""

    def _publish_properties(self, message: Message) -> Properties | None:
        if self._options.protocol != "5":
            return None
        key = (message.content_type, message.expiry_s, message.properties, message.correlation)
        if key not in self._properties:  # they cost paho more time than the message, and are nearly always the same
            self._properties.clear()
            self._properties[key] = properties(
                "PUBLISH",
                ContentType=message.content_type,
                PayloadFormatIndicator=1 if message.content_type == "application/json" else None,
                MessageExpiryInterval=message.expiry_s,
                CorrelationData=message.correlation,
                UserProperty=list(message.properties) or None,
            )
        return self._properties[key]

    # Acknowledgements

    def settle(self) -> None:
        """Note what was acknowledged; it is in the store until `flush`."""
        refused = []
        for mid, reason in self._answers:
            said = self._saying.pop(mid, None)
            if reason.value < 0x80 and (taken := said or self._in_flight.get(mid)) is not None:
                self._history.sizes.acknowledged(len(taken.payload))
            if said is not None and reason.value >= 0x80:
                self._refuse_said(said, reason)
            message = self._in_flight.pop(mid, None)
            if message is None:  # one that did not come from the outbox
                continue
            if reason.value < 0x80:
                if not self._done:
                    self._done_since = time.monotonic()
                self._done.append(message.id)
            elif reason.value in _NEVER:
                refused.append(message)
            elif message.topic not in self._held:
                self._history.once.held(message.topic, meaning(reason, doing="writing"))
                self._held[message.topic] = time.monotonic() + self._options.retry_max_s
        self._answers.clear()
        if refused:
            self._refuse(refused, "the broker will never accept them")

    def flush_if_due(self) -> None:
        """Delete what was acknowledged when that is worth a transaction, or nothing else is to be done.

        Where the disk does not take it (it may be full), the numbers are kept and further messages sent: nothing comes twice for that.
        """
        now = time.monotonic()
        if now < self._delete_again_at or not (
            not self._in_flight or len(self._done) >= _DELETE_MANY or now - self._done_since >= _DELETE_S
        ):
            return
        try:
            self.flush()
        except LinkError as exc:
            self._history.once.stuck(str(exc))
            self._delete_again_at = now + _TICK_S

    def flush(self) -> None:
        """Delete what was acknowledged, in one transaction."""
        if self._done:
            self._store.delete(self._done)
            self._history.sent += len(self._done)
            self._history.poison.cleared()
            self._done.clear()
            self._delete_again_at = 0.0

    def note_loss(self) -> None:
        """The connection is over: whether it was a message that the broker hung up on."""
        poison, sizes = self._history.poison, self._history.sizes
        flying = [InFlight(message, is_volatile=False) for message in self._in_flight.values()]
        flying += [InFlight(message, is_volatile=True) for message in self._saying.values()]
        cause = sizes.lost(flying, said_why=self.said_too_large) if self.hung_up or self.said_too_large else None
        self.is_explained = self.hung_up and self._trying and sizes.doubt is not None and len(flying) == 1
        if cause is not None and cause.is_volatile:
            self._history.once.dropped(cause.message, "the broker hung up when it came")
        elif cause is not None:
            self._refuse([cause.message], "the broker hung up when it came")
        elif self._in_flight and not any(sizes.is_doubtful(each.size) and each.may_be_the_cause for each in flying):
            soon = time.monotonic() - self.opened_at < self._options.keepalive_s
            if found := poison.lost(self._in_flight.values(), soon=soon):
                self._refuse([found], f"the broker hung up {poison.losses} times when it came")
                poison.cleared()

    def _refuse(self, messages: list[Message], why: str) -> None:
        for message in messages:
            self._history.once.dropped(message, why)
        self._store.delete([message.id for message in messages], refused=True)


def _packet_size(message: Message) -> int:
    """An upper bound of a PUBLISH packet's bytes: 32 for headers and fixed properties, 5 for the frame of each user property."""
    extra = sum(len(key.encode()) + len(value.encode()) + 5 for key, value in message.properties)
    extra += len(message.correlation or b"") + 3
    return 32 + len(message.topic.encode()) + len(message.content_type) + extra + len(message.payload)
