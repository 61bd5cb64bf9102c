"""What brings messages from the store to their receivers: MQTT's publisher, and a delivery for each other sink with a queue."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

from edgeannot.base.foreign import number_of
from edgeannot.mqtt.publisher import Publisher
from edgeannot.remote.remote import Remote
from edgeannot.settings import Settings
from edgeannot.sinks import Sink
from edgeannot.sinks.delivery import Delivery, DurableSink
from edgeannot.sources import Stop
from edgeannot.storage.store import Queue, Store

__all__ = ["Deliverer", "MqttDelivery", "drained", "queue_deliveries"]

log = logging.getLogger(__name__)

_CONNECT_S = 2.0
"""How long `once` waits for a broker that did not answer at first; for one that did to take all messages, _DRAIN_S."""
_DRAIN_S = 60.0
_EX_UNAVAILABLE = 69


class Deliverer(Protocol):
    """Brings what the store keeps for one sink to where it belongs, in a thread of its own; what cannot be brought there stays."""

    def start(self) -> None:
        """Begin to deliver."""

    def stop(self) -> None:
        """Stop in order."""

    def drain(self, stop: Stop) -> bool:
        """Wait until all is delivered, as long as that is of use; False where something is left, but for a `stop`."""


class MqttDelivery:
    """The publisher with its commands. first_answer_s: how long the first attempt to connect may take; None: `drain` waits for nothing."""

    def __init__(self, publisher: Publisher, queue: Queue, remote: Remote, first_answer_s: float | None) -> None:
        self._publisher = publisher
        self._queue = queue
        self._remote = remote
        self._first_answer_s = first_answer_s

    def start(self) -> None:
        """Connect, then take commands."""
        self._publisher.start()
        self._remote.start()

    def stop(self) -> None:
        """Refuse the commands that wait, then disconnect."""
        self._remote.stop()
        self._publisher.stop()

    def drain(self, stop: Stop) -> bool:
        """Wait for the broker to take what there is."""
        first_answer_s = self._first_answer_s
        return first_answer_s is None or _drain(self._queue, lambda: self._publisher.state, first_answer_s, stop)


class _QueueDelivery:
    """The delivery of any other sink with a queue."""

    def __init__(self, sink: DurableSink, queue: Queue, undelivered: Path) -> None:
        self._sink = sink
        self._queue = queue
        self._delivery = Delivery(sink, queue, undelivered / sink.name)
        self.start, self.stop = self._delivery.start, self._delivery.stop

    def drain(self, stop: Stop) -> bool:
        return _drain(self._queue, lambda: self._sink.status.state, self._sink.delivery_options.timeout_s, stop)


def queue_deliveries(settings: Settings, sinks: Sequence[Sink], store: Store) -> list[_QueueDelivery]:
    """Make the deliveries of the sinks with a queue, MQTT's apart, and say where messages wait for a sink that is not enabled any more."""
    durable = [sink for sink in sinks if isinstance(sink, DurableSink)]
    served = {sink.name for sink in durable} | ({"mqtt"} if settings.sinks.mqtt.enabled else set())
    for name, waiting in store.pending_by_sink().items():
        if waiting.rows and name not in served:
            messages = number_of(waiting.rows, "message")
            log.warning("%s from an earlier run waiting in %s: sinks.%s is not enabled", messages, store.path, name)
    undelivered = settings.data_dir / "undelivered"
    return [_QueueDelivery(sink, store.queue(sink.name, sink.delivery_options.caps), undelivered) for sink in durable]


def _drain(queue: Queue, state: Callable[[], str], first_answer_s: float, stop: Stop) -> bool:
    """Wait for the receiver to take what there is. first_answer_s: how long its first answer may take."""
    began, answers = time.monotonic(), False
    while not stop.is_set():
        answers = answers or state() == "online"
        patience_s = _DRAIN_S if answers else first_answer_s if state() == "new" else _CONNECT_S
        if queue.wait_empty(0.1):
            break
        if time.monotonic() - began > patience_s:
            messages = number_of(queue.pending().rows, "message")
            log.warning("%s for sinks.%s kept in %s, to be sent by the next run", messages, queue.sink, queue.path)
            return False
    return True


def drained(deliverers: Iterable[Deliverer], stop: Stop) -> int:
    """Wait for each of them; the exit code."""
    left = [deliverer for deliverer in deliverers if not deliverer.drain(stop)]
    return _EX_UNAVAILABLE if left else 0
