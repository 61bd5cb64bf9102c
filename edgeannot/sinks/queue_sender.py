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
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pydantic import Field

from edgeannot.base import atomicfile
from edgeannot.base.backoff import backoff_s
from edgeannot.base.errors import EdgeannotError, LinkError
from edgeannot.base.foreign import number_of
from edgeannot.sinks.base import FolderState, SinkContext, SinkOptions
from edgeannot.storage.store import Caps, Message, Queue
from edgeannot.vision.data import Annotation

__all__ = ["AwayError", "DeliveryOptions", "DeliveryStatus", "DurableSink", "QueueSender", "RejectedError"]

log = logging.getLogger(__name__)

DeliveryState = Literal["new", "away", "online", "stopped"]

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

_LONGEST_RETRY_AFTER_S: Final = 3600.0
"""The longest that a receiver may ask us to wait."""

_MOST_NAMED: Final = 20
"""Messages set aside that have a line in the log each; of further ones there are only their files."""

_STEADY_S: Final = 10.0
"""Trouble that is over for so long is news when it comes again."""


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


class DurableSink(ABC):
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

    def folders(self) -> Sequence[FolderState]:
        """Return none: it writes no files."""
        return ()

    def flush(self) -> None:  # noqa: B027 - for those that keep something beside the queue
        """Do nothing: nothing is buffered."""

    def close(self) -> None:  # noqa: B027 - as above
        """Do nothing: the delivery ends before."""


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
