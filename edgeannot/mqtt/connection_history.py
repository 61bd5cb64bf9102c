"""State of the publisher that outlives a connection: logged lines, messages that the broker hangs up on, the volatile queue."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from edgeannot.storage.queue import Message

__all__ = ["ConnectionHistory", "InFlight", "OnceLogger", "PayloadLimits", "PoisonMessageDetector", "VolatileQueue"]

log = logging.getLogger(__name__)

_LOSSES: Final = 2
"""Connections in a row that break with one message alone until its size is taken for the cause: one may be chance."""

_SMALL_BYTES: Final = 1024
"""Whatever breaks with nothing larger breaks for another reason: `status` never waits for its turn."""

_FORGET_S: Final = 3600.0
"""The broker may have other settings meanwhile, or chance struck twice."""

_POISON_LOSSES: Final = 8
"""How often in a row a message must be alone on a connection when that breaks until it is taken for the cause."""

_MOST_VOLATILE: Final = 256
"""Messages that may queue up between two turns of the publisher; the oldest go."""


class OnceLogger:
    """Logs each line once until a connection has lasted: neither a long outage nor a flapping connection floods the log."""

    def __init__(self) -> None:
        self._logged: set[str] = set()
        self._refusals: set[tuple[str, str]] = set()

    def reset(self) -> None:
        """Forget the lines: a connection has lasted, and what comes now is news."""
        self._logged.clear()

    def is_new(self, line: str) -> bool:
        """Return whether to log this line."""
        is_new = line not in self._logged
        self._logged.add(line)
        return is_new

    def warning(self, text: str, *args: object) -> None:
        """Log a warning if it is new."""
        if self.is_new(text % args):
            log.warning(text, *args)

    def fault(self, exc: Exception) -> None:
        """Log an internal error."""
        if self.is_new(repr(exc)):
            log.error("internal error of the MQTT publisher (please report); connecting again", exc_info=exc)

    def not_deleted(self, exc: Exception) -> None:
        """Log that sent messages cannot be deleted from the outbox."""
        self.warning("%s; messages are still sent, and removed from the outbox when that works", exc)

    def refused_for_now(self, topic: str, why: str) -> None:
        """Log that the broker refuses a topic for now."""
        log.log(self._refusal_level(topic, why), "%s: %s; its messages wait and will be tried again", topic, why)

    def dropped(self, message: Message, why: str) -> None:
        """Log that a message will never be sent."""
        text = "%s: dropping a message of %d bytes: %s (further ones are only counted)"
        log.log(self._refusal_level(message.topic, why), text, message.topic, len(message.payload), why)

    def _refusal_level(self, topic: str, why: str) -> int:
        """Return the log level: each topic and reason is logged once while the program runs."""
        level = logging.DEBUG if (topic, why) in self._refusals else logging.WARNING
        self._refusals.add((topic, why))
        return level


@dataclass(frozen=True, slots=True)
class InFlight:
    """A message that was in flight when a connection broke."""

    message: Message
    is_volatile: bool
    """Whether it goes past the outbox."""

    @property
    def size(self) -> int:
        """Return the size of its payload in bytes."""
        return len(self.message.payload)

    @property
    def may_be_the_cause(self) -> bool:
        """Return whether it is one of those whose size may be the cause."""
        return (self.is_volatile or self.message.kind == "image") and self.size > _SMALL_BYTES

    @property
    def key(self) -> tuple[str, int]:
        """Return a key that identifies the message across connections."""
        return self.message.topic, self.message.id


class PayloadLimits:
    """How large a message a broker takes that does not say so: MQTT 3.1.1 has no word for it, the broker hangs up.

    When a connection breaks with pictures in flight, those larger than anything the broker has acknowledged are suspected: they are sent
    after everything else, one at a time. A broker that hangs up twice in a row on the same one, and on nothing else in between, does not
    take its size. That is remembered for an hour, or until it acknowledges something as large: such pictures are refused without
    costing a connection. What goes past the outbox (`info`, discovery, replies) is treated alike; results never are, see
    `PoisonMessageDetector`. Sizes are bytes of payloads: what else is in a packet hardly differs.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._taken = 0
        self._largest = 0  # of those in flight when connections broke
        self._refused: int | None = None
        self._refused_at = 0.0
        self._unexplained = 0  # breaks in a row with pictures in flight, none of which was larger than what was taken before
        self._suspect: tuple[str, int] | None = None
        self._losses = 0
        self.suspect_bytes: int | None = None
        """Pictures, and what goes past the outbox, of this size and more are sent last and one at a time; None: nothing is suspected."""

    def is_suspect(self, size: int) -> bool:
        """Return whether a message whose size may be the cause is to be sent last and alone."""
        return self.suspect_bytes is not None and size >= self.suspect_bytes

    def refused(self, size: int) -> int | None:
        """Return the size that the broker hung up on, where this one is no smaller."""
        if self._refused is not None and self._clock() - self._refused_at > _FORGET_S:
            self._refused = None
        return self._refused if self._refused is not None and size >= self._refused else None

    def acknowledged(self, size: int) -> None:
        """Record that the broker accepted a message of this size."""
        self._taken = max(self._taken, size)
        if size > _SMALL_BYTES:
            self._unexplained = 0
        if self._refused is not None and size >= self._refused:
            self._refused = None
        if self.is_suspect(size):
            self.suspect_bytes, self._suspect, self._losses = size + 1, None, 0
            if size >= self._largest and self._refused is None:
                self.suspect_bytes = None

    def lost(self, flying: Sequence[InFlight], *, said_why: bool = False) -> InFlight | None:
        """Record that the broker hung up with these in flight; return the cause, once clear. said_why: it said "too large"."""
        suspected = [each for each in flying if each.may_be_the_cause]
        if self.suspect_bytes is not None:
            suspected = [each for each in suspected if self.is_suspect(each.size)]
        elif all(each.size <= self._taken for each in suspected):
            self._unexplained += bool(suspected)
            if self._unexplained < _LOSSES:  # else it does not take any more what it took before
                return None
        else:
            suspected = [each for each in suspected if each.size > self._taken]
        if not suspected:
            self._suspect, self._losses = None, 0
            return None
        if self.suspect_bytes is None:
            self._unexplained = 0
            self.suspect_bytes = min(each.size for each in suspected)
        self._largest = max(self._largest, *(each.size for each in suspected))
        if len(flying) > 1:
            return None
        [only] = flying
        self._losses = self._losses + 1 if only.key == self._suspect else 1
        self._suspect = only.key
        if self._losses < _LOSSES and not said_why:
            return None
        self._refused, self._refused_at = only.size, self._clock()
        self._taken = min(self._taken, only.size - 1)
        self._suspect, self._losses = None, 0
        return only


class PoisonMessageDetector:
    """A broker of MQTT 3.1.1 answers a message that it cannot take by hanging up: this finds out which result it is.

    Pictures are the likely cause, and are suspected first (`PayloadLimits`); what is left is counted here.
    After a loss the first message that was in flight is sent alone; when the connection breaks again and again with it, it goes.
    """

    def __init__(self) -> None:
        self._id = 0
        self.losses = 0
        """Connections in a row that broke when the suspected message came."""

    @property
    def travels_alone(self) -> bool:
        """Return whether one message is to be sent at a time."""
        return self._id != 0

    def cleared(self) -> None:
        """Clear the suspicion, as the broker has acknowledged a message."""
        self._id = self.losses = 0

    def lost(self, in_flight: Collection[Message], *, soon: bool) -> Message | None:
        """Record that a connection broke with these in flight, `soon` after it was made; return the message that caused it, once clear."""
        first = min(in_flight, key=lambda message: message.id)
        self.losses = self.losses + 1 if self._id == first.id else 1
        self._id = first.id
        return first if self.losses >= _POISON_LOSSES and len(in_flight) == 1 and soon else None


@dataclass(slots=True)
class ConnectionHistory:
    """State that outlives a connection, for the publisher's thread."""

    once: OnceLogger = field(default_factory=OnceLogger)
    poison: PoisonMessageDetector = field(default_factory=PoisonMessageDetector)
    limits: PayloadLimits = field(default_factory=PayloadLimits)
    sent: int = 0
    """Messages from the outbox that the broker acknowledged."""


class VolatileQueue:
    """A queue that the publisher empties at each turn, and the newest retained message of each topic."""

    def __init__(self) -> None:
        self._queue: deque[Message] = deque()
        self._retained: dict[str, Message] = {}
        self._lock = threading.Lock()
        self.pushed_out = 0
        """Messages dropped unsent in favour of later ones."""

    def add(self, message: Message, *, online: bool) -> None:
        """Queue a message; a retained one stands until the next on its topic. online: whether it would be sent at once."""
        with self._lock:
            if message.retain:
                self._retained[message.topic] = message
            self._queue.append(message)
            if len(self._queue) > _MOST_VOLATILE:
                # Nothing is lost of a retained one, which is said at the next connection, nor of others while the broker is away.
                gone = self._queue.popleft()
                self.pushed_out += online and not gone.retain

    def take(self) -> list[Message]:
        """Return the messages queued since the last call."""
        with self._lock:
            queued = list(self._queue)
            self._queue.clear()
        return queued

    def take_retained(self) -> list[Message]:
        """Return the retained messages to send at the beginning of a connection; drop the others queued before it."""
        with self._lock:
            self._queue.clear()
            return list(self._retained.values())
