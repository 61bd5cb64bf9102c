"""How large a message a broker takes that does not say so: MQTT 3.1.1 has no word for it, the broker hangs up.

When a connection breaks with pictures in flight, those larger than anything the broker has acknowledged are in doubt: they are sent
after everything else, one at a time. A broker that hangs up twice in a row on the same one, and on nothing else in between, does not
take its size. That is remembered for an hour, or until it acknowledges something as large: such pictures are refused without
costing a connection. What goes past the outbox (`info`, discovery, replies) is treated alike; results never are (`PoisonMessageDetector`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from edgeannot.storage.records import Message

__all__ = ["InFlight", "PayloadLimits"]

_LOSSES: Final = 2
"""Connections in a row that break with one message alone until its size is taken for the cause: one may be chance."""

_SMALL_BYTES: Final = 1024
"""Whatever breaks with nothing larger breaks for another reason: `status` never waits for its turn."""

_FORGET_S: Final = 3600.0
"""The broker may have other settings meanwhile, or chance struck twice."""


@dataclass(frozen=True, slots=True)
class InFlight:
    """A message that was in flight when a connection broke."""

    message: Message
    is_volatile: bool
    """Whether it goes past the outbox."""

    @property
    def size(self) -> int:
        """Bytes of its payload."""
        return len(self.message.payload)

    @property
    def may_be_the_cause(self) -> bool:
        """Whether it is one of those whose size may be the cause."""
        return (self.is_volatile or self.message.kind == "image") and self.size > _SMALL_BYTES

    @property
    def key(self) -> tuple[str, int]:
        """The same for the same message on the next connection."""
        return self.message.topic, self.message.id


class PayloadLimits:
    """Sizes are those of payloads, in bytes: what else is in a packet hardly differs."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._taken = 0
        self._largest = 0  # of those in flight when connections broke
        self._refused: int | None = None
        self._refused_at = 0.0
        self._unexplained = 0  # breaks in a row with pictures in flight, none of which was larger than what was taken before
        self._suspect: tuple[str, int] | None = None
        self._losses = 0
        self.doubt: int | None = None
        """Pictures, and what goes past the outbox, of this size and more are sent last and one at a time; None: nothing is in doubt."""

    def is_doubtful(self, size: int) -> bool:
        """Whether a message whose size may be the cause is to be sent last and alone."""
        return self.doubt is not None and size >= self.doubt

    def refused(self, size: int) -> int | None:
        """The size that the broker hung up on, where this one is no smaller."""
        if self._refused is not None and self._clock() - self._refused_at > _FORGET_S:
            self._refused = None
        return self._refused if self._refused is not None and size >= self._refused else None

    def acknowledged(self, size: int) -> None:
        """The broker took a message of this size."""
        self._taken = max(self._taken, size)
        if size > _SMALL_BYTES:
            self._unexplained = 0
        if self._refused is not None and size >= self._refused:
            self._refused = None
        if self.is_doubtful(size):
            self.doubt, self._suspect, self._losses = size + 1, None, 0
            if size >= self._largest and self._refused is None:
                self.doubt = None

    def lost(self, flying: Sequence[InFlight], *, said_why: bool = False) -> InFlight | None:
        """The broker hung up with these in flight; the one that is the cause, once that is clear. said_why: it said "too large"."""
        suspected = [each for each in flying if each.may_be_the_cause]
        if self.doubt is not None:
            suspected = [each for each in suspected if self.is_doubtful(each.size)]
        elif all(each.size <= self._taken for each in suspected):
            self._unexplained += bool(suspected)
            if self._unexplained < _LOSSES:  # else it does not take any more what it took before
                return None
        else:
            suspected = [each for each in suspected if each.size > self._taken]
        if not suspected:
            self._suspect, self._losses = None, 0
            return None
        if self.doubt is None:
            self._unexplained = 0
            self.doubt = min(each.size for each in suspected)
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
