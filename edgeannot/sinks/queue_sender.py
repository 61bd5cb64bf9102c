"""Durable delivery: a thread for each sink that delivers the sink's queue, in order, and never gives up.

A message leaves the queue when its receiver has it. While the receiver is away, everything waits; a message that the receiver does not
take, or that may be why it fails, is tried again beside the others, so that nothing waits behind it. A new sink of this kind is one file
with a `DurableSink` in it (see `webhook`).
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgeannot.base import atomicfile
from edgeannot.base.connections.backoff import backoff_s
from edgeannot.base.errors import EdgeannotError
from edgeannot.base.foreign import number_of
from edgeannot.sinks.durable import AwayError, DurableSink, RejectedError
from edgeannot.storage.store import Message, Queue

__all__ = ["QueueSender"]

log = logging.getLogger(__name__)

_BATCH: Final = 32
_BATCH_BYTES: Final = 2**20
"""Messages that are read from the queue at a time, and bytes of them."""

_DELETE_MANY: Final = 64
_DELETE_S: Final = 0.1
"""Delivered rows are deleted when nothing else is to be done, or so many together, or after this time. A kill in between repeats them."""

_MOST_RETRYING: Final = 16
"""Messages that are tried again beside the others; they are in memory. With so many more of them the others wait, too."""

_SUSPECT_FAILURES: Final = 3
"""So often in a row a receiver fails with the same message until it is tried again beside the others."""

_MOST_NAMED: Final = 20
"""Messages set aside that have a line in the log each; of further ones there are only their files."""

_STEADY_S: Final = 10.0
"""Trouble that is over for so long is news when it comes again."""


@dataclass(slots=True)
class _Retrying:
    """A message that is retried beside the others."""

    message: Message
    failures: int
    rejections: int
    due_at: float


class QueueSender:
    """The thread that delivers the queue of one sink: `start`, then `stop` once."""

    def __init__(self, sink: DurableSink, queue: Queue, set_aside: Path) -> None:
        """set_aside: the folder for messages that the receiver does not accept."""
        self.queue = queue
        self.status = sink.status
        self._sink = sink
        self._options = sink.delivery_options
        self._folder = set_aside
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=sink.name, daemon=True)
        self._batch: deque[Message] = deque()
        self._cursor = 0  # the largest id that was read from the queue
        self._retrying: dict[int, _Retrying] = {}
        self._retried_last = False  # they take turns with the others: an attempt may take longer than the wait for the next of them
        self._failures = 0  # of the receiver, in a row
        self._done: list[int] = []  # delivered, still in the queue
        self._done_since = self._delete_again_at = self._failed_at = 0.0
        self._said: set[str] = set()

    def start(self) -> None:
        """Start delivering in the background."""
        self.queue.add_listener(self._wake.set)
        self._thread.start()

    def stop(self, timeout_s: float = 3.0) -> None:
        """Stop within about `timeout_s`, after the current message if there is time; unsent messages stay in the queue."""
        self._stopping.set()
        self._wake.set()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self._sink.interrupt()
            self._thread.join(1.0)
        self.status.state = "stopped"

    # The thread

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._turn()
            except EdgeannotError as exc:  # the store: its disk may be away for now
                self._say(str(exc), f"{exc}; trying again")
                self._pause(1.0)
            except Exception as exc:  # noqa: BLE001 - without this thread no message would leave, and nobody would notice
                self._failures += 1
                self._say(repr(exc), f"internal error while delivering to {self._sink.address} (please report); continuing", exc)
                self._pause()
        self._delete_again_at = 0.0
        self._flush()

    def _turn(self) -> None:
        """Deliver one message, or wait for one."""
        now = time.monotonic()
        if len(self._done) >= _DELETE_MANY or (self._done and now - self._done_since >= _DELETE_S):
            self._flush()
        retrying = next((retrying for retrying in self._retrying.values() if retrying.due_at <= now), None)
        first = self._first() if len(self._retrying) < _MOST_RETRYING else None
        if retrying is not None and (first is None or not self._retried_last):
            self._retried_last = True
            self._try(retrying.message)
        elif first is not None:
            self._retried_last = False
            self._try(first)
        else:
            self._flush()
            next_at = min((retrying.due_at for retrying in self._retrying.values()), default=now + 60.0)
            self._wake.wait(1.0 if self._done else max(next_at - now, 0.0))
            self._wake.clear()

    def _first(self) -> Message | None:
        """Return the oldest message that was not tried yet, or not delivered."""
        if not self._batch:
            self._batch.extend(self.queue.next_messages(self._cursor, _BATCH, max_bytes=_BATCH_BYTES))
            self._cursor = self._batch[-1].id if self._batch else self._cursor
        return self._batch[0] if self._batch else None

    def _try(self, message: Message) -> None:
        try:
            self._sink.deliver(message)
        except RejectedError as exc:
            self.status.state = "online"
            self._rejected(message, exc)
        except AwayError as exc:
            self.status.state = "online" if exc.answered else "away"
            self._away(message, exc)
        except EdgeannotError as exc:  # such as a secret's file that went away, and may come back
            self.status.state = "away"
            self._away(message, AwayError(str(exc)))
        else:
            self._delivered(message)

    def _delivered(self, message: Message) -> None:
        self._take_out(message)
        self._done_since = self._done_since if self._done else time.monotonic()
        self._done.append(message.id)
        self.status.sent += 1
        self.status.state, self._failures = "online", 0
        if self.status.trouble:
            self.status.trouble = ""
            log.info("%s: %s is reachable again; %d waiting", self._sink.name, self._sink.address, self.queue.pending().rows)
        if self._said and time.monotonic() - self._failed_at >= _STEADY_S:
            self._said.clear()

    def _away(self, message: Message, exc: AwayError) -> None:
        """Wait, and try the same message again; one that may be the cause is retried beside the others soon."""
        if self._stopping.is_set():
            return
        why = str(exc)
        self._say(why, f"{why}; {number_of(self.queue.pending().rows, 'message')} waiting, trying again at growing intervals")
        if message.id in self._retrying and exc.suspect and not exc.retry_after_s:
            self._retry_later(message)  # it has a time of its own; the others show whether the receiver is there
            return
        self._failures += 1
        self.status.trouble = why
        if message.id in self._retrying or (exc.suspect and self._failures >= _SUSPECT_FAILURES):
            self._retry_later(message, retry_after_s=exc.retry_after_s)
        self._pause(exc.retry_after_s)

    def _rejected(self, message: Message, exc: RejectedError) -> None:
        """Retry the message later, or set it aside; the others are not held up."""
        why, attempts = str(exc), self._options.attempts
        if message.id not in self._retrying and attempts > 1:
            self._say(why, f"{why}; a message is tried {attempts} times, others are sent meanwhile")
        if self._retry_later(message, rejected=True).rejections < attempts:
            return
        kept = self._keep(message, f"{why} {exc.detail}".strip())
        self.status.set_aside += 1
        level = logging.WARNING if self.status.set_aside <= _MOST_NAMED else logging.DEBUG
        log.log(
            level, "%s: message %s set aside after %d attempts: %s (%s)", self._sink.name, message.key, attempts, why, kept or "not kept"
        )
        self.queue.delete([message.id], refused=True)
        self._take_out(message)

    def _retry_later(self, message: Message, *, rejected: bool = False, retry_after_s: float = 0.0) -> _Retrying:
        """Retry the message beside the others."""
        retrying = self._retrying.get(message.id) or _Retrying(message, 0, 0, 0.0)
        self._take_out(message)
        retrying.failures += 1
        retrying.rejections += rejected
        pause = backoff_s(retrying.failures, self._options.retry_min_s, self._options.retry_max_s)
        retrying.due_at = time.monotonic() + max(pause, retry_after_s)
        self._retrying[message.id] = retrying
        return retrying

    def _take_out(self, message: Message) -> None:
        """Remove it from its place as the first in the queue."""
        self._retrying.pop(message.id, None)
        if self._batch and self._batch[0].id == message.id:
            self._batch.popleft()

    def _pause(self, at_least_s: float = 0.0) -> None:
        self._flush()
        self._stopping.wait(max(backoff_s(self._failures, self._options.retry_min_s, self._options.retry_max_s), at_least_s))

    def _flush(self) -> None:
        """Delete what was delivered. Where the disk does not take that for now, it is tried again and nothing is sent twice for it."""
        if not self._done or time.monotonic() < self._delete_again_at:
            return
        try:
            self.queue.delete(self._done)
            self._done.clear()
        except EdgeannotError as exc:
            self._delete_again_at = time.monotonic() + 1.0
            self._say(str(exc), f"{exc}; messages are still sent, and removed from the queue when that works")

    def _keep(self, message: Message, why: str) -> Path | None:
        """Save the message to a file and return its path; None if there is no room."""
        ending = "jpg" if message.kind == "image" else "json"
        path = self._folder / f"{re.sub(r'[^A-Za-z0-9._-]', '_', message.key)[:200]}.{ending}"
        try:
            used = sum(file.stat().st_size for file in self._folder.iterdir()) if self._folder.is_dir() else 0
            if used + len(message.payload) > self._options.set_aside_mb * 2**20:
                return None
            atomicfile.write(path, message.payload)
            atomicfile.write(path.with_name(f"{path.name}.reason.txt"), f"{why}\n".encode())
        except OSError as exc:
            log.warning("%s: message %s cannot be kept in %s (%s)", self._sink.name, message.key, self._folder, exc.strerror)
            return None
        return path

    def _say(self, what: str, text: str, exc: Exception | None = None) -> None:
        """Log a line once until the delivery has worked for a while, so that an outage or a flapping receiver does not flood the log."""
        self._failed_at = time.monotonic()
        if what not in self._said:
            self._said.add(what)
            log.log(logging.ERROR if exc else logging.WARNING, "%s: %s", self._sink.name, text, exc_info=exc)
