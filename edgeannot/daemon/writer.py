"""The last of the daemon's loops: store results, then move, delete or keep each input as its source's options say."""

from __future__ import annotations

import logging
import math
import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from edgeannot.base.errors import LinkError
from edgeannot.base.file_signature import ANNOTATED, LedgerEntry
from edgeannot.crash_guard import AtWork
from edgeannot.daemon.bounded_queue import Closed, MemoryLimiter
from edgeannot.daemon.monitoring.report import Reporter
from edgeannot.daemon.monitoring.telemetry import Telemetry
from edgeannot.daemon.workers import ResultQueue, weight
from edgeannot.sinks import Sink
from edgeannot.sinks.base import TellsEvents
from edgeannot.sinks.durable import DurableSink
from edgeannot.sources import Source, Stop
from edgeannot.storage.store import Message, Store
from edgeannot.vision.data import Annotation, Failure, Frame
from edgeannot.vision.news import News

__all__ = ["PostCommit", "Writer", "ledger_entry", "prune"]

log = logging.getLogger(__name__)

_PRUNE_S = 6 * 3600.0
"""Seconds between two searches for ledger entries of files that are gone."""

_MOST_AWAITING: Final = 10_000
"""Inputs that may wait for a failing disk. Beyond that the oldest is dropped: the next start moves or deletes its file."""

_NO_IMAGE: Final = np.empty((0, 0, 3), np.uint8)


@dataclass(eq=False, kw_only=True)
class Writer:
    """Stores each result: files first, then ledger and outbox in one transaction; then finishes the input. `run` is for one thread."""

    results: ResultQueue
    sources: Mapping[str, Source]
    sinks: Sequence[Sink]
    store: Store
    limiter: MemoryLimiter
    telemetry: Telemetry
    at_work: AtWork
    stop: Stop
    heartbeat: Callable[[], None]
    reporter: Reporter | None = None
    patience_s: float = math.inf
    """How long to wait for a failing disk before raising its LinkError."""
    _broken: set[tuple[type, type]] = field(default_factory=set, init=False)
    """Sinks and their errors that were logged with a traceback."""

    def __post_init__(self) -> None:
        self._post_commit = PostCommit(self.store, self.sinks, self.patience_s)

    def run(self) -> None:
        """Store results until there are no more."""
        prune_at = time.monotonic() + _PRUNE_S
        try:
            while True:
                self.heartbeat()
                if time.monotonic() >= prune_at:
                    prune_at = time.monotonic() + _PRUNE_S
                    for source in self.sources.values():
                        prune(self.store, source, self.heartbeat)
                item = self.results.take()
                if item is None:
                    self._post_commit.again()
                    self.store.sync_if_due()
                elif isinstance(item, Failure):
                    self._store_failure(item)
                elif isinstance(item, Frame):
                    self._store_unchanged(item)
                elif isinstance(item, News):
                    self._commit(self.sources[item.source], None, self._told(item), item)
                else:
                    self._store_annotation(item)
                del item
        except Closed:
            return
        finally:  # also after an error: no thread must wait for this one
            self.results.cancel()

    def figures(self) -> dict[str, Any]:
        """Return the figures of store and folders for telemetry. Raises LinkError while the disk is not available."""
        pending = self.store.pending()
        return {
            "outbox": {"rows": pending.rows, "bytes": pending.bytes, "dropped": pending.dropped, "refused": pending.refused},
            "sinks": self._queues(),
            "damaged": self.store.damaged(),
            "folders": [
                {"path": str(state.path), "unwritten": state.unwritten, "trouble": state.trouble}
                for sink in self.sinks
                for state in sink.folders()
            ],
        }

    def _queues(self) -> dict[str, dict[str, Any]]:
        """Return the figures of each sink's queue, and of the delivery if the sink has one."""
        figures: dict[str, dict[str, Any]] = {
            name: {"rows": waiting.rows, "bytes": waiting.bytes, "dropped": waiting.dropped, "refused": waiting.refused}
            for name, waiting in self.store.pending_by_sink().items()
        }
        for sink in self.sinks:
            if isinstance(sink, DurableSink) and sink.name in figures:
                figures[sink.name] |= {"sent": sink.status.sent, "trouble": sink.status.trouble}
        return figures

    def _store_failure(self, failure: Failure) -> None:
        source = self.sources[failure.source]
        if self._commit(source, failure, ()):
            source.finish(failure)
            self.telemetry.rejected(failure.reason)
            self._say(failure)

    def _store_unchanged(self, frame: Frame) -> None:
        """Finish a picture without a result: it is done, and its input goes where those with results go."""
        source = self.sources[frame.source]
        self.limiter.release(weight(source, frame))
        if self._commit(source, frame, ()):
            self.at_work.leave(frame.ticket)
            self._post_commit.finish(source, frame)

    def _store_annotation(self, annotation: Annotation) -> None:
        frame = annotation.frame
        source = self.sources[frame.source]
        self.at_work.move(frame.ticket, "storing")
        messages = self._messages(annotation)
        self.limiter.release(weight(source, frame))
        if self._commit(source, frame, messages, annotation.news):
            self.at_work.leave(frame.ticket)
            self._post_commit.finish(source, frame)
            self.telemetry.annotated(annotation)
            if self.reporter is not None:
                self.reporter.picture(annotation)

    def _say(self, failure: Failure) -> None:
        """Log one line; a warning for a file without read permission, which stays until somebody fixes that."""
        if self.reporter is not None:
            self.reporter.failure(failure)
        level = logging.DEBUG if self.reporter is not None else logging.WARNING if failure.reason == "unreadable" else logging.INFO
        log.log(level, "%s: %s", failure.source, failure.message)

    def _messages(self, annotation: Annotation) -> list[Message]:
        """Run the sinks and return their messages. An error in a sink that writes files costs its file, never a message."""
        messages: list[Message] = [] if annotation.news is None else self._told(annotation.news)
        frame = annotation.frame
        for sink in self.sinks:
            try:
                messages += sink.write(annotation)
            except Exception as exc:
                exc.add_note(f"while storing the results of {frame.source}: {frame.name}")
                if not sink.only_files:
                    raise
                kind = type(sink), type(exc)
                log.exception(
                    "%s: internal error (please report) for %s (%s); its file is missing, messages are sent",
                    type(sink).__name__, frame.name, type(exc).__name__, exc_info=kind not in self._broken,
                )  # fmt: skip
                self._broken.add(kind)
        return messages

    def _told(self, news: News) -> list[Message]:
        """Return the messages about events."""
        return [message for sink in self.sinks if isinstance(sink, TellsEvents) for message in sink.tell(news)]

    def _commit(self, source: Source, item: Frame | Failure | None, messages: Sequence[Message], news: News | None = None) -> bool:
        """Commit one transaction; retry while the disk fails. Return False if `stop` was set first: the picture is annotated again later.

        Raises LinkError after `patience_s` seconds.
        """
        entry = None if item is None else ledger_entry(source, item)
        scenes = [] if news is None else news.scenes
        give_up_at = time.monotonic() + self.patience_s
        delay_s, told = 0.5, False
        while True:
            try:
                self.store.commit(entry, messages, scenes)
            except LinkError as exc:
                if not told:
                    log.error("%s; trying again%s", exc, "" if self.patience_s < math.inf else " until it works")  # noqa: TRY400 - a full disk is no fault of the program
                    told = True
                self.heartbeat()
                if time.monotonic() >= give_up_at:
                    raise LinkError(f"{exc}; given up after {self.patience_s:g} s, the next run does the rest") from exc
                if self.stop.wait(delay_s):
                    return False
                delay_s = min(delay_s * 2, 10.0)
            else:
                if told:
                    log.info("the store works again")
                return True


class PostCommit:
    """Finishes the inputs of sources; an input to be deleted or moved waits until its results are safely on disk."""

    def __init__(self, store: Store, sinks: Sequence[Sink], patience_s: float) -> None:
        self._store = store
        self._sinks = sinks
        self._patience_s = patience_s
        self._awaiting_sync: deque[tuple[Source, Frame]] = deque(maxlen=_MOST_AWAITING)
        self._overflowed = False
        self._failing_since = 0.0

    def finish(self, source: Source, frame: Frame) -> None:
        """Finish the input of a picture whose results are committed."""
        if not source.removes_input:
            source.finish(frame)
            return
        if len(self._awaiting_sync) == _MOST_AWAITING and not self._overflowed:
            self._overflowed = True
            log.warning("more than %d pictures wait for the disk: the oldest stay where they are until the next start", _MOST_AWAITING)
        self._awaiting_sync.append((source, replace(frame, image=_NO_IMAGE)))
        self.again()

    def again(self) -> None:
        """Retry the inputs whose results the disk has not confirmed; until then a picture received as a message stays unacknowledged.

        Raises LinkError after `patience_s` seconds.
        """
        if not self._awaiting_sync:
            return
        try:
            for sink in self._sinks:
                sink.flush()
            self._store.sync()
        except LinkError as exc:
            now = time.monotonic()
            if not self._failing_since:
                self._failing_since = now
                log.warning("%s; %s and later inputs stay where they are until that works", exc, self._awaiting_sync[-1][1].name)
            elif now - self._failing_since >= self._patience_s:
                raise
            return
        if self._failing_since:
            os.sync()  # a sink syncs its last file only: this is for those before
            log.info("writing results to disk works again")
            self._failing_since, self._overflowed = 0.0, False
        while self._awaiting_sync:
            source, frame = self._awaiting_sync.popleft()
            source.finish(frame)


def ledger_entry(source: Source, item: Frame | Failure) -> LedgerEntry | None:
    """Return the ledger's entry for the item; None for one without a key, and for a file that will not be found again."""
    if item.key is None or source.is_gone(item.key.path):
        return None
    digest, outcome = (b"", item.reason) if isinstance(item, Failure) else (item.content_hash, ANNOTATED)
    return LedgerEntry(source.name, item.key.path, item.key.signature, digest, outcome, item.key.folder)


def prune(store: Store, source: Source, heartbeat: Callable[[], None]) -> int:
    """Remove the ledger's entries of files that are gone and return their number, so that the ledger does not grow for ever.

    If no file of the source is there, its medium may be unmounted: then nothing is removed, unless the source deletes its
    files itself. If the store fails, the next call tries again.
    """
    gone: list[str] = []
    forgotten, trusted, last = 0, source.removes_input, ""
    try:
        while paths := store.ledger_paths(source.name, after=last):
            last = paths[-1]
            missing = [path for path in paths if source.is_gone(path)]
            gone += missing
            trusted = trusted or len(missing) < len(paths)
            if trusted and gone:
                store.forget(source.name, gone)
                forgotten += len(gone)
                gone.clear()
            heartbeat()
    except LinkError as exc:
        log.debug("%s", exc)
    return forgotten
