"""The contract of a sink that loses nothing: its messages wait in a queue of their own until its receiver has them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from pydantic import Field

from edgeannot.base.errors import EdgeannotError, LinkError
from edgeannot.sinks.base import Sink, SinkContext, SinkOptions
from edgeannot.storage.store import Caps, Message
from edgeannot.vision.data import Annotation

__all__ = ["AwayError", "DeliveryOptions", "DeliveryStatus", "DurableSink", "RejectedError"]

DeliveryState = Literal["new", "away", "online", "stopped"]

_LONGEST_RETRY_AFTER_S: Final = 3600.0
"""The longest that a receiver may ask us to wait."""


class AwayError(LinkError):
    """The receiver is not reachable or busy: the message stays first in the queue."""

    def __init__(self, why: str, *, retry_after_s: float = 0.0, answered: bool = False, suspect: bool = False) -> None:
        """retry_after_s: how long the receiver asks us to wait. answered: whether it is there and says so.

        suspect: whether the message may be the cause.
        """
        super().__init__(why)
        self.retry_after_s = min(retry_after_s, _LONGEST_RETRY_AFTER_S)
        self.answered = answered
        self.suspect = suspect


class RejectedError(EdgeannotError):
    """The receiver rejects this message; it may accept others."""

    def __init__(self, why: str, detail: str = "") -> None:
        """detail: what the receiver says of this very message."""
        super().__init__(why)
        self.detail = detail


class DeliveryOptions(SinkOptions):
    """Options of all sinks with a queue."""

    timeout_s: float = Field(default=10.0, gt=0, le=600)
    """Timeout in seconds for delivering one message, from connecting to the whole answer."""
    retry_min_s: float = Field(default=1.0, gt=0)
    """Wait in seconds before the second attempt; doubled at each further one."""
    retry_max_s: float = Field(default=60.0, gt=0)
    """Longest wait in seconds between attempts; each is shortened at random by up to half, so that a fleet does not come at once."""
    attempts: int = Field(default=10, ge=1, le=1000)
    """Attempts after which a message that is not accepted is set aside, in undelivered/ in data_dir; those behind it do not wait for it."""
    set_aside_mb: int = Field(default=16, ge=0)
    """Megabytes of such messages that are kept; over that they are only counted."""
    keep_messages: int = Field(default=1_000_000, ge=1)
    """Unsent messages kept while the receiver is away; over that the oldest are dropped, annotated images first, and counted."""
    keep_mb: int = Field(default=256, ge=1)
    """The same in megabytes."""
    keep_image_mb: int = Field(default=64, ge=0)
    """Megabytes of that which annotated images may take."""

    @property
    def caps(self) -> Caps:
        """Return what the queue may hold."""
        return Caps(self.keep_messages, self.keep_mb * 2**20, self.keep_image_mb * 2**20)


@dataclass(slots=True)
class DeliveryStatus:
    """The state of a sink's delivery; written by its thread, readable from any."""

    state: DeliveryState = "new"
    trouble: str = ""
    """Why the receiver accepts nothing now; empty while it does."""
    sent: int = 0
    """Messages that the receiver accepted since the start."""
    set_aside: int = 0
    """Messages that it rejected since the start."""


class DurableSink(Sink, ABC):
    """A sink whose messages wait in a queue of their own until `deliver` has delivered them."""

    only_files = False

    def __init__(self, name: str, address: str, options: DeliveryOptions, context: SinkContext) -> None:
        """name: of the sink's section in the settings and of its queue. address: of the receiver, for the log."""
        self.name = name
        self.address = address
        self.delivery_options = options
        self.status = DeliveryStatus()
        self._origin = context.origin

    @abstractmethod
    def write(self, annotation: Annotation) -> Sequence[Message]:
        """Make the messages of one result, each with the sink's name."""

    @abstractmethod
    def deliver(self, message: Message) -> None:
        """Deliver one message; return when the receiver has it. Always in the same thread.

        Raises RejectedError where the receiver is there and does not take this message: it is tried again beside the others, and set aside
        after `attempts`. Raises AwayError(suspect=True) where the receiver fails and the message may be why, such as an error of the
        server, or no answer over a connection that stood: after a few failures in a row the message is tried again beside the others, for
        as long as it takes. Raises AwayError where the receiver is away or busy whatever the message: all wait, and the same message is
        tried again.
        """

    @abstractmethod
    def interrupt(self) -> None:
        """Interrupt a `deliver` in another thread."""
