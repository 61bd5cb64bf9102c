"""Messages that came and are not opened yet."""

from __future__ import annotations

import threading
from collections import deque

from edgeannot.mqtt.subscriber import Delivery

__all__ = ["DedupQueue"]


class DedupQueue:
    """A queue in which a message that the broker sends again takes the place of itself.

    Each lost connection brings all that is not acknowledged once more. Where nobody opens anything meanwhile, as in a pause, the
    pile would grow by the window with each of them. The first copy must not simply be thrown away when its connection is lost: a broker
    that forgot the session sends no second one.
    """

    def __init__(self) -> None:
        self._waiting: deque[Delivery] = deque()
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, delivery: Delivery) -> None:
        """Put a message behind the others, or where it was before."""
        with self._changed:
            for place, waiting in enumerate(self._waiting):
                if _is_same(waiting, delivery):
                    self._waiting[place] = delivery
                    return
            self._waiting.append(delivery)
            self._changed.notify_all()

    def take(self, timeout_s: float) -> Delivery | None:
        """The oldest message; None where none is there within the time."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting, timeout_s)
            return self._waiting.popleft() if self._waiting else None


def _is_same(one: Delivery, other: Delivery) -> bool:
    """Whether it is the same message of one session: it comes again under its number (MQTT 5.0, 4.4), which is not free before it is
    acknowledged."""
    return (
        one.qos > 0
        and (one.mid, one.topic, one.subscriber.client_id) == (other.mid, other.topic, other.subscriber.client_id)
        and (one.payload, one.size, one.properties) == (other.payload, other.size, other.properties)
    )
