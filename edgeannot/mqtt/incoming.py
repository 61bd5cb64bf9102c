"""Received messages, and the queue in which they wait."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeannot.mqtt.subscriber import Subscriber

__all__ = ["DedupQueue", "IncomingMessage"]


@dataclass(eq=False, slots=True)
class IncomingMessage:
    """One message that came, and the way to acknowledge it."""

    topic: str
    payload: bytes
    properties: Mapping[str, str]
    """MQTT 5 user properties; of a name that is there twice the last."""
    repeated: bool
    """Whether the broker says that it sent this before."""
    arrived_at: datetime
    subscriber: Subscriber
    mid: int
    qos: int
    size: int | None = None
    """Bytes of a payload of which only the beginning was kept."""
    reply_topic: str | None = None
    """Where its sender wants to be answered (MQTT 5)."""
    correlation: bytes | None = None
    done: bool = False

    def finish(self, answer: tuple[str, bytes] | None = None) -> None:
        """Acknowledge the message to the broker, after publishing `answer` (topic and JSON) to its sender."""
        self.subscriber.finish(self, answer)

    def is_repeat_of(self, other: IncomingMessage) -> bool:
        """Return whether both are the same message of one session: a repeat has the same packet id (MQTT 5.0, 4.4), which is not reused
        before the acknowledgement."""
        return (
            self.qos > 0
            and (self.mid, self.topic, self.subscriber.client_id) == (other.mid, other.topic, other.subscriber.client_id)
            and (self.payload, self.size, self.properties) == (other.payload, other.size, other.properties)
        )


class DedupQueue:
    """A queue in which a message that the broker sends again takes the place of itself.

    Each lost connection brings all that is not acknowledged once more. Where nobody opens anything meanwhile, as in a pause, the
    queue would grow by the window with each of them. The first copy must not simply be thrown away when its connection is lost: a broker
    that forgot the session sends no second one.
    """

    def __init__(self) -> None:
        self._waiting: deque[IncomingMessage] = deque()
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, incoming: IncomingMessage) -> None:
        """Add a message at the end, or at its former place."""
        with self._changed:
            for place, waiting in enumerate(self._waiting):
                if incoming.is_repeat_of(waiting):
                    self._waiting[place] = incoming
                    return
            self._waiting.append(incoming)
            self._changed.notify_all()

    def take(self, timeout_s: float) -> IncomingMessage | None:
        """Return the oldest message; None where none is there within the time."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting, timeout_s)
            return self._waiting.popleft() if self._waiting else None
