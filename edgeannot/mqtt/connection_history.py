"""What the publisher remembers from one connection to the next: what it said already, which message it suspects, how much it sent."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Final

from edgeannot.base.errors import EdgeannotError
from edgeannot.mqtt.packet_sizes import PayloadLimits
from edgeannot.storage.records import Message

__all__ = ["ConnectionHistory", "OnceLogger", "PoisonMessageDetector"]

log = logging.getLogger(__name__)

_SUSPECT_LOSSES: Final = 8
"""How often in a row a message must be alone on a connection when that breaks until it is taken for the cause."""


class OnceLogger:
    """Log lines, each once until a connection has lasted: neither a long outage nor a flapping connection floods the log."""

    def __init__(self) -> None:
        self._said: set[str] = set()
        self._dropped: set[tuple[str, str]] = set()
        self.news = True
        """Whether the next connection is worth a line."""

    def well(self) -> None:
        """A connection has lasted: what comes now is news."""
        self._said.clear()

    def trouble(self, text: str, waiting: Callable[[], int]) -> None:
        """What is in the way of a connection. `waiting`: how many messages the outbox holds."""
        if text in self._said:
            return
        self._said.add(text)
        self.news = True
        try:
            count = f"{waiting()} messages wait, "
        except EdgeannotError:  # then this is the trouble
            count = ""
        log.warning("%s; %strying again at growing intervals", text, count)

    def surprise(self, exc: Exception) -> None:
        """An error that is a fault of the program."""
        if (what := repr(exc)) not in self._said:
            self._said.add(what)
            log.error("the MQTT publisher failed unexpectedly; it connects again", exc_info=exc)

    def stuck(self, text: str) -> None:
        """The store does not let go of what was sent."""
        if text not in self._said:
            self._said.add(text)
            log.warning("%s; messages go on, and are removed from the outbox when it can be", text)

    def unreadable(self, topic_filter: str, why: str) -> None:
        """A subscription that the broker refused."""
        if (what := f"{topic_filter}: {why}") not in self._said:
            self._said.add(what)
            log.warning("nothing is received on %s: %s", topic_filter, why)

    def held(self, topic: str, why: str) -> None:
        """A topic that the broker refuses for now. For the life of the program each topic and reason is one line."""
        level = logging.DEBUG if (topic, why) in self._dropped else logging.WARNING
        self._dropped.add((topic, why))
        log.log(level, "%s: %s; its messages wait and are tried again", topic, why)

    def dropped(self, message: Message, why: str) -> None:
        """A message that will never be sent. For the life of the program each topic and reason is one line."""
        level = logging.DEBUG if (message.topic, why) in self._dropped else logging.WARNING
        self._dropped.add((message.topic, why))
        log.log(level, "%s: a message of %d bytes is dropped: %s (further ones are only counted)", message.topic, len(message.payload), why)


class PoisonMessageDetector:
    """A broker of MQTT 3.1.1 answers a message that it cannot take by hanging up: this finds out which result it is.

    Pictures are the likely cause, and are suspected first (`PayloadLimits`); what is left is counted here.
    After a loss the first message that was in flight is sent alone; when the connection breaks again and again with it, it goes.
    """

    def __init__(self) -> None:
        self._id = 0
        self._losses = 0

    @property
    def travels_alone(self) -> bool:
        """Whether one message is to be sent at a time."""
        return self._id != 0

    @property
    def losses(self) -> int:
        """Connections in a row that broke when the suspect came."""
        return self._losses

    def cleared(self) -> None:
        """Something was acknowledged: the broker takes what we send."""
        self._id = self._losses = 0

    def lost(self, in_flight: Collection[Message], *, soon: bool) -> Message | None:
        """A connection broke with these in flight, `soon` after it was made; the message that is the cause, once that is clear."""
        first = min(in_flight, key=lambda message: message.id)
        self._losses = self._losses + 1 if self._id == first.id else 1
        self._id = first.id
        return first if self._losses >= _SUSPECT_LOSSES and len(in_flight) == 1 and soon else None


@dataclass(slots=True)
class ConnectionHistory:
    """What outlives a connection."""

    once: OnceLogger = field(default_factory=OnceLogger)
    poison: PoisonMessageDetector = field(default_factory=PoisonMessageDetector)
    sizes: PayloadLimits = field(default_factory=PayloadLimits)
    sent: int = 0
    """Messages from the outbox that the broker acknowledged."""
