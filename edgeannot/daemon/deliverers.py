"""Deliverers, which send messages from the store to their receivers: the MQTT publisher, and one for each other sink with a queue."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from edgeannot.base.foreign import number_of
from edgeannot.daemon.remote_control import Remote
from edgeannot.mqtt.publisher import Publisher
from edgeannot.payload import Origin, encode, status_payload
from edgeannot.settings import Loaded, Settings
from edgeannot.sinks import MqttOptions, Sink
from edgeannot.sinks.durable import DurableSink
from edgeannot.sinks.queue_sender import QueueSender
from edgeannot.sources import Stop
from edgeannot.storage.store import Queue, Store

__all__ = ["Deliverer", "begin_delivery", "drained", "make_publisher"]

log = logging.getLogger(__name__)

_CONNECT_S = 2.0
"""How long `once` waits for a broker that did not answer at first; for one that did to take all messages, _DRAIN_S."""
_DRAIN_S = 60.0
_EX_UNAVAILABLE = 69


def make_publisher(options: MqttOptions, store: Store, origin: Origin) -> Publisher:
    """Return the publisher of the outbox. Raises ConfigError when a file that the options name is unusable."""
    queue = store.queue("mqtt", options.caps)

    def status(state: str) -> bytes:
        return encode(status_payload(origin, state))

    return Publisher(options, queue, origin.device, status, prefix=options.prefix, window=options.window)


class Deliverer(Protocol):
    """Sends one sink's messages from the store to its receiver, in a thread of its own; keeps those it cannot send."""

    def start(self) -> None:
        """Start the thread."""

    def stop(self) -> None:
        """Stop the thread and disconnect."""

    def drain(self, stop: Stop) -> bool:
        """Wait until all messages are delivered, while there is progress; return False if some are left and `stop` is not set."""


class _MqttDeliverer:
    """The publisher. first_answer_s: how long the first attempt to connect may take; None: `drain` does not wait."""

    def __init__(self, publisher: Publisher, queue: Queue, first_answer_s: float | None) -> None:
        self._publisher = publisher
        self._queue = queue
        self._first_answer_s = first_answer_s
        self.start, self.stop = publisher.start, publisher.stop

    def drain(self, stop: Stop) -> bool:
        """Wait for the broker to accept all messages."""
        first_answer_s = self._first_answer_s
        return first_answer_s is None or _drain(self._queue, lambda: self._publisher.state, first_answer_s, stop)


class _QueueDeliverer:
    """The deliverer of any other sink with a queue."""

    def __init__(self, sink: DurableSink, queue: Queue, undelivered: Path) -> None:
        self._sink = sink
        self._queue = queue
        self._sender = QueueSender(sink, queue, undelivered / sink.name)
        self.start, self.stop = self._sender.start, self._sender.stop

    def drain(self, stop: Stop) -> bool:
        return _drain(self._queue, lambda: self._sink.status.state, self._sink.delivery_options.timeout_s, stop)


def _queue_deliverers(settings: Settings, sinks: Sequence[Sink], store: Store) -> list[_QueueDeliverer]:
    """Return the deliverers of the sinks with a queue, except MQTT; log where messages wait for a sink that is no longer enabled."""
    durable = [sink for sink in sinks if isinstance(sink, DurableSink)]
    served = {sink.name for sink in durable} | ({"mqtt"} if settings.sinks.mqtt.enabled else set())
    for name, waiting in store.pending_by_sink().items():
        if waiting.rows and name not in served:
            messages = number_of(waiting.rows, "message")
            log.warning("%s from an earlier run waiting in %s: sinks.%s is not enabled", messages, store.path, name)
    undelivered = settings.data_dir / "undelivered"
    return [_QueueDeliverer(sink, store.queue(sink.name, sink.delivery_options.caps), undelivered) for sink in durable]


def begin_delivery(
    stack: ExitStack, loaded: Loaded, sinks: Sequence[Sink], store: Store, publisher: Publisher | None, remote: Remote
) -> list[Deliverer]:
    """Start what empties the queues of the sinks, and then what takes commands; the stack stops them the other way round."""
    deliverers: list[Deliverer] = []
    if publisher is not None:
        is_wanted = any(key.startswith("sinks.mqtt") for key in loaded.origins)
        answers_s = loaded.settings.sinks.mqtt.connect_timeout_s if is_wanted else None
        deliverers.append(_MqttDeliverer(publisher, store.queue("mqtt"), answers_s))
    deliverers += _queue_deliverers(loaded.settings, sinks, store)
    for deliverer in deliverers:
        deliverer.start()
        stack.callback(deliverer.stop)
    remote.start()
    stack.callback(remote.stop)
    return deliverers


def _drain(queue: Queue, state: Callable[[], str], first_answer_s: float, stop: Stop) -> bool:
    """Wait for the receiver to accept all messages. first_answer_s: how long its first answer may take."""
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
    """Wait for each of them and return the exit code."""
    left = [deliverer for deliverer in deliverers if not deliverer.drain(stop)]
    return _EX_UNAVAILABLE if left else 0
