"""Pictures received as MQTT messages: a camera too small for a model sends, one worker or a group of them annotates.

A message is acknowledged to the broker when its picture's results are committed to the outbox, or its failure is in quarantine. So
a picture is with the broker or with its results, and a worker that dies in between loses neither. At most `window` messages are
taken at a time; the broker holds the rest, and nothing is skipped. What comes twice has the same message id.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from edgeannot.base.errors import ConfigError, FrameError, LinkError
from edgeannot.crash_guard import of_content
from edgeannot.mqtt.group import GREET_S, Group, SessionTakeover
from edgeannot.mqtt.incoming import DedupQueue, IncomingMessage
from edgeannot.mqtt.options import BrokerOptions, SessionOptions, Topics, escape_level, reply_trouble
from edgeannot.mqtt.subscriber import Subscriber
from edgeannot.sources.arrival import Arrival, matches, named_level, read_arrival
from edgeannot.sources.contract import Context, Item, Source, Stop, Tick
from edgeannot.sources.encoded import picture_in
from edgeannot.sources.mqtt_options import MqttSourceOptions
from edgeannot.sources.quarantine import DataQuarantine
from edgeannot.sources.turn import PictureDecoder, Turns
from edgeannot.vision.data import Failure, Frame, Sender

__all__ = ["MqttSource"]

log = logging.getLogger(__name__)

_IDLE_S: Final = 0.5
"""Longest time in one wait."""
_QUIET_S: Final = 2.0
"""How long nothing has to come until all that was there is taken."""
_PARTING_S: Final = 1.0
"""How long a stop waits for the results of what is under way."""
_REMEMBERED: Final = 1024
"""Pictures whose repetition is acknowledged without doing them again."""


@dataclass(eq=False, slots=True)
class _UnderWay:
    """A picture between its arrival and the commit of its results."""

    identity: str
    messages: list[IncomingMessage] = field(default_factory=list)
    """The message, and those that brought the same picture again meanwhile."""
    sender: Sender | None = None
    refused: str = ""
    """Why there will be no result, one sentence for the sender."""


class MqttSource(Source):
    """Pictures of an MQTT topic. `items` is for one thread and is called once."""

    removes_input = True  # the broker forgets what is acknowledged
    skipped = 0
    """Messages of QoS 0 that came while too many waited: their sender asked for no guarantee."""

    def __init__(self, name: str, options: MqttSourceOptions, context: Context) -> None:
        self.name = name
        self._options = options
        self._context = context
        self._level = options.device_level if options.device_level is not None else named_level(options.topic)
        self._check_topics()
        self._broker = options.broker or BrokerOptions()
        self._arrived = DedupQueue()
        self._changed = threading.Condition()
        self._under_way: dict[str, _UnderWay] = {}  # by the picture's name
        self._answered: OrderedDict[str, None] = OrderedDict()  # identities
        self._complaints: set[str] = set()
        self._seq = 0
        self._turns = Turns(name, context.at_work, self._tick)
        self._decoder = PictureDecoder(options.max_megapixels, options.max_decode_mb, options.max_mb, context.free_bytes)
        folder = context.quarantine
        self._quarantine = DataQuarantine(folder and folder / name, options.quarantine_mb << 20)
        self._group = self._make_group()
        self._subscriber = self._make_subscriber()
        self._takeover = SessionTakeover(self._group, options.grace_s, self._open_session_of) if self._group else None

    def items(self, stop: Stop) -> Iterator[Item]:
        """Yield pictures, see `Source.items`. Raises LinkError with `once` if the broker is not reachable."""
        self._subscriber.start()
        try:
            spoke = time.monotonic()
            while not stop.is_set():
                if self._takeover is not None:
                    self._takeover.look_after(self._subscriber)
                item: Item | None
                incoming = self._arrived.take(_IDLE_S)
                if incoming is None:
                    if self._context.once and self._nothing_left():
                        return
                    item = self._tick()
                else:
                    item = yield from self._open(incoming, stop)
                    incoming.payload = b""  # it is kept until its acknowledgement, the bytes are not
                if item is None and time.monotonic() - spoke > _IDLE_S:  # a row of repeats
                    item = self._tick()
                if item is not None:
                    yield item
                    spoke = time.monotonic()
        finally:
            self._close()

    def finish(self, item: Frame | Failure) -> None:
        """Acknowledge the message that the item came in."""
        with self._changed:
            done = self._under_way.pop(item.name, None)
            if done is None:
                return
            if not isinstance(item, Failure):  # a refusal is told again where the message comes again: it may have been lost
                self._answered[done.identity] = None
            while len(self._answered) > _REMEMBERED:
                self._answered.popitem(last=False)
            self._changed.notify_all()
        for incoming in done.messages:
            incoming.finish(self._answer(incoming, done, item) if isinstance(item, Failure) else None)

    def _answer(self, incoming: IncomingMessage, refused: _UnderWay, failure: Failure) -> tuple[str, bytes]:
        """Return topic and text for the sender of a picture that has no result: its response topic, else one beside its results."""
        context, sender = self._context, refused.sender
        told = refused.refused or failure.message
        payload = context.refusal(self.name, sender, failure.reason, told)
        topics = Topics(context.device, self._options.results_prefix)
        wanted = incoming.reply_topic
        if wanted is not None and not reply_trouble(wanted, topics) and not matches(self._options.topic, wanted):
            return wanted, payload
        own = Topics(sender.device if sender else context.device, self._options.results_prefix)
        return own.of_source(self.name, "refused"), payload

    # What is built from the settings

    def _check_topics(self) -> None:
        prefix, topic = self._options.results_prefix, self._options.topic
        status = f"{prefix}/{escape_level(self._context.device)}/status"
        for leaf in (
            f"{prefix}/x/{self.name}/image",
            f"{prefix}/x/{self.name}/detections",
            f"{prefix}/x/{self.name}/refused",
            f"{prefix}/groups/x/x",
            status,
        ):
            if matches(topic, leaf):
                raise ConfigError(
                    f"sources.{self.name}.topic: {topic} also matches what this program publishes ({leaf}), so that results would come "
                    "in as pictures; choose another filter or another sinks.mqtt.prefix"
                )

    def _make_group(self) -> Group | None:
        options = self._options
        if options.group is None or options.hand_over == "broker":
            return None
        if self._broker.client_id is not None:
            raise ConfigError(
                f"sources.{self.name}.broker.client_id: in a group the id is made of the group's and the device's name, so that its "
                'peers know it; leave client_id out, or set hand_over = "broker"'
            )
        me = f"{Group.member_prefix(options.group)}{self._context.device}-{self.name}"
        return Group(options.results_prefix, options.group, me, options.topic)

    def _make_subscriber(self) -> Subscriber:
        options, group = self._options, self._group
        filters = ((self._filter, 1),) + (((group.topics, 0),) if group else ())
        session = SessionOptions(
            filters=filters,
            window=options.window,
            keep_s=0 if options.group is not None and group is None else options.keep_s,
            will=group.message("away") if group else None,
            greeting=group.message("here") if group else None,
            greet_s=GREET_S,
            keep_bytes=options.max_mb << 20,
        )
        own_id = self._broker.client_id or f"edgeannot-{self._context.device}-{self.name}"
        return Subscriber(self._broker, group.me if group else own_id, session, self._take)

    def _open_session_of(self, member: str) -> Subscriber:
        """Return the session of a member that has gone: its subscriptions end, what it holds comes here."""
        options = self._options
        dropped = (self._filter, *((self._group.topics,) if self._group else ()))
        session = SessionOptions(
            dropped_filters=dropped, window=options.window, keep_s=options.keep_s, lasting=False, keep_bytes=options.max_mb << 20
        )
        return Subscriber(self._broker, member, session, self._take)

    @property
    def _filter(self) -> str:
        group = self._options.group
        return self._options.topic if group is None else f"$share/{group}/{self._options.topic}"

    # Arrivals

    def _take(self, incoming: IncomingMessage) -> None:
        """Called in paho's thread: put a picture into the queue, tell the group what is theirs."""
        if self._group is not None and self._group.heard(incoming.topic, incoming.payload):
            incoming.finish()
        elif incoming.qos == 0 and len(self._arrived) >= 2 * self._options.window:
            self.skipped += 1
        else:
            self._arrived.put(incoming)

    def _open(self, incoming: IncomingMessage, stop: Stop) -> Generator[Tick, None, Frame | Failure | None]:
        """Yield Ticks while the picture waits for its turn; return it, or None if it is done or being processed, or `stop` was set."""
        began = time.perf_counter()
        try:
            known = incoming.payload if incoming.size is None else incoming.size.to_bytes(8, "big") + incoming.payload
            arrival = read_arrival(incoming.topic, known, incoming.properties, self._level, incoming.arrived_at)
        except FrameError as exc:
            return self._fail(incoming, f"unnamed/{_short_hash(incoming.topic)}", exc)
        if self._is_known(arrival, incoming):
            return None
        self._complain(arrival)
        name = f"{_folder_name(arrival.sender.device)}/{arrival.captured_at:%Y-%m-%d/%H%M%S}-{_short_hash(arrival.identity)}"
        content = of_content(arrival.content_hash)
        try:
            self._decoder.check_size(incoming.size or len(incoming.payload))
            ticket, picture = yield from self._turns.decode(
                content, name, stop, lambda last: self._decoder.decode(picture_in(incoming.payload), smaller=last)
            )
        except FrameError as exc:
            return self._fail(incoming, name, exc, arrival)
        if picture is None:
            return None  # it is not acknowledged, and comes again
        name += ".jpg" if picture.kind == "jpeg" else f".{picture.kind}"
        with self._changed:
            self._under_way[name] = _UnderWay(arrival.identity, [incoming], arrival.sender)
        seq, self._seq = self._seq, self._seq + 1
        return Frame(
            image=picture.image,
            source=self.name,
            seq=seq,
            captured_at=arrival.captured_at,
            identity=arrival.identity,
            decode_ms=(time.perf_counter() - began) * 1e3,
            name=name,
            content_hash=arrival.content_hash,
            sender=arrival.sender,
            whole_wh=(picture.width, picture.height),
            damage=picture.damage,
            ticket=ticket,
        )

    def _is_known(self, arrival: Arrival, incoming: IncomingMessage) -> bool:
        """Return whether the picture needs no work: under way since an earlier message, or a repeat of one that is answered."""
        with self._changed:
            for under_way in self._under_way.values():
                if under_way.identity == arrival.identity:
                    under_way.messages.append(incoming)
                    return True
            if not (incoming.repeated and arrival.identity in self._answered):
                return False
        incoming.finish()
        return True

    def _complain(self, arrival: Arrival) -> None:
        """Say once for each sender that the time it gives is none."""
        who = arrival.sender.device
        if arrival.complaint and who not in self._complaints and len(self._complaints) < _REMEMBERED:
            self._complaints.add(who)
            log.warning("%s: %s: %s; using the time of arrival", self.name, escape_level(who), arrival.complaint)

    def _fail(self, incoming: IncomingMessage, name: str, exc: FrameError, arrival: Arrival | None = None) -> Failure:
        fresh = _UnderWay(arrival.identity, sender=arrival.sender) if arrival else _UnderWay("")
        with self._changed:  # those that cannot even be named share a name
            under_way = self._under_way.setdefault(name, fresh)
            under_way.messages.append(incoming)
            under_way.refused = str(exc)
        kept = None
        if incoming.size is None:
            kept = self._quarantine.keep(incoming.payload, Path(name), reason=exc.reason, message=f"{name}: {exc}", origin=incoming.topic)
        message = f"{name}: {exc}; {f'kept as {kept}' if kept else 'not kept'}"
        return Failure(self.name, name, exc.reason, message, kept or Path(name), kept)

    # How things stand

    def _tick(self) -> Tick:
        trouble = self._subscriber.trouble
        return Tick(len(self._arrived), f"no pictures come: {trouble}" if trouble else "")

    def _nothing_left(self) -> bool:
        """With `once`: whether all that the broker had was taken and is stored. Raises LinkError when the broker is away."""
        subscriber = self._subscriber
        if subscriber.attempts and not subscriber.online:
            raise LinkError(f"{subscriber.trouble} (sources.{self.name})")
        taking_over = self._takeover is not None and self._takeover.busy
        quiet = subscriber.online and time.monotonic() - subscriber.busy_at >= _QUIET_S
        return quiet and not self._under_way and not self._arrived and not taking_over

    def _close(self) -> None:
        """Acknowledge what is done in time, then leave; what is not comes again, here or to a peer."""
        with self._changed:
            self._changed.wait_for(lambda: not self._under_way, _PARTING_S)
        if self._takeover is not None:
            self._takeover.close()
        group = self._group
        if group is None:
            self._subscriber.close()
            return
        # Who is the last one stays subscribed, so that the broker keeps what comes meanwhile.
        unsubscribe = (self._filter,) if group.others_here() else ()
        self._subscriber.close(unsubscribe=unsubscribe, last_message=group.message("leaving"))


def _folder_name(device: str) -> str:
    """Return a sender's name as that of a folder; `..` is one of a topic level, too."""
    level = escape_level(device)
    return level if level.strip(".") else f"_{level}"


def _short_hash(text: str) -> str:
    """Return enough to tell the pictures of one second from each other."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
