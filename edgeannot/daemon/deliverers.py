"""Deliverers, which send messages from the store to their receivers: the MQTT publisher, and one for each other sink with a queue."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgeannot.base.foreign import number_of
from edgeannot.mqtt.publisher import Publisher
from edgeannot.payload import Origin, encode, status_payload
from edgeannot.settings import Loaded, Settings
from edgeannot.sinks import MqttOptions, Sink
from edgeannot.sinks.durable import DurableSink
from edgeannot.sinks.queue_sender import QueueSender
from edgeannot.sources import Stop
from edgeannot.storage.store import Queue, Store

if TYPE_CHECKING:
    from edgeannot.remote.command_handler import CommandHandler  # a start without commands does not wait for it

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


@dataclass(frozen=True, slots=True)
class Deliverer:
    """Sends one sink's messages from the store to its receiver, in a thread of its own; keeps those it cannot send."""

    start: Callable[[], None]
    stop: Callable[[], None]
    queue: Queue
    state: Callable[[], str]
    first_answer_s: float | None
    """How long the receiver's first answer may take; None: `drain` does not wait."""

    def drain(self, stop: Stop) -> bool:
        """Wait until all messages are delivered, while there is progress; return False if some are left and `stop` is not set."""
        if self.first_answer_s is None:
            return True
        began, answers = time.monotonic(), False
        while not stop.is_set():
            answers = answers or self.state() == "online"
            patience_s = _DRAIN_S if answers else self.first_answer_s if self.state() == "new" else _CONNECT_S
            if self.queue.wait_empty(0.1):
                break
            if time.monotonic() - began > patience_s:
                messages = number_of(self.queue.pending().rows, "message")
                log.warning("%s for sinks.%s kept in %s, to be sent by the next run", messages, self.queue.sink, self.queue.path)
                return False
        return True


def _queue_deliverer(sink: DurableSink, queue: Queue, undelivered: Path) -> Deliverer:
    sender = QueueSender(sink, queue, undelivered / sink.name)
    return Deliverer(sender.start, sender.stop, queue, lambda: sink.status.state, sink.delivery_options.timeout_s)


def _queue_deliverers(settings: Settings, sinks: Sequence[Sink], store: Store) -> list[Deliverer]:
    """Return the deliverers of the sinks with a queue, except MQTT; log where messages wait for a sink that is no longer enabled."""
    durable = [sink for sink in sinks if isinstance(sink, DurableSink)]
    served = {sink.name for sink in durable} | ({"mqtt"} if settings.sinks.mqtt.enabled else set())
    for name, waiting in store.pending_by_sink().items():
        if waiting.rows and name not in served:
            messages = number_of(waiting.rows, "message")
            log.warning("%s from an earlier run waiting in %s: sinks.%s is not enabled", messages, store.path, name)
    undelivered = settings.data_dir / "undelivered"
    return [_queue_deliverer(sink, store.queue(sink.name, sink.delivery_options.caps), undelivered) for sink in durable]


def begin_delivery(
    stack: ExitStack, loaded: Loaded, sinks: Sequence[Sink], store: Store, publisher: Publisher | None, handler: CommandHandler | None
) -> list[Deliverer]:
    """Start what empties the queues of the sinks, and then what takes commands; the stack stops them the other way round."""
    deliverers: list[Deliverer] = []
    if publisher is not None:
        is_wanted = any(key.startswith("sinks.mqtt") for key in loaded.origins)
        answers_s = loaded.settings.sinks.mqtt.connect_timeout_s if is_wanted else None
        deliverers.append(Deliverer(publisher.start, publisher.stop, store.queue("mqtt"), lambda: publisher.state, answers_s))
    deliverers += _queue_deliverers(loaded.settings, sinks, store)
    for deliverer in deliverers:
        deliverer.start()
        stack.callback(deliverer.stop)
    if handler is not None:
        handler.start()
        stack.callback(handler.stop)
    return deliverers


def drained(deliverers: Iterable[Deliverer], stop: Stop) -> int:
    """Wait for each of them and return the exit code."""
    left = [deliverer for deliverer in deliverers if not deliverer.drain(stop)]
    return _EX_UNAVAILABLE if left else 0
