"""The daemon's three threads: read -> infer -> write, joined by two short queues.

Decoding of the next picture, inference of this one and storing of the last one overlap: OpenCV, the runtime and SQLite all
release the GIL. Each loop ends when its input ends, and ends its output, so that stopping runs down the line by itself.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgeannot.base.errors import FrameError, LinkError, ModelError
from edgeannot.crash_guard import AtWork
from edgeannot.daemon.bounded_queue import BoundedQueue, Closed, MemoryLimiter
from edgeannot.daemon.pause_gate import PauseGate
from edgeannot.daemon.post_commit import PostCommit
from edgeannot.daemon.report import Reporter
from edgeannot.daemon.telemetry import Telemetry
from edgeannot.remote.control import Control
from edgeannot.sinks import Sink
from edgeannot.sources import Source, Stop, Tick
from edgeannot.storage.store import LedgerEntry, Message, Store
from edgeannot.vision.data import Annotation, Failure, Frame

__all__ = ["FrameQueue", "Results", "infer", "ledger_entry", "prune", "read", "weight", "write"]

log = logging.getLogger(__name__)

_PRUNE_S = 6 * 3600.0
"""Time between looks for ledger entries of files that are gone, in seconds."""

FrameQueue = BoundedQueue[Frame | Failure]
Results = BoundedQueue[Annotation | Failure]


def read(
    source: Source,
    inbox: FrameQueue,
    budget: MemoryLimiter,
    stop: Stop,
    heartbeat: Callable[[], None],
    waiting: Callable[[int], None],
    gate: PauseGate | None = None,
    dropped: Callable[[Frame], None] = lambda _: None,
) -> None:
    """Give each of the source's pictures to the inbox. A live source replaces what waits; a folder waits its turn and for memory.

    At a closed gate a folder's picture waits, a live source's is dropped. dropped: told of that.
    """
    gate = gate or PauseGate(source, Control())
    trouble = ""
    gate.wait_open(stop, heartbeat)
    for item in source.items(stop):
        heartbeat()
        if gate.wait_open(stop, heartbeat) and source.live and isinstance(item, Frame):
            dropped(item)
            continue
        if isinstance(item, Tick):
            waiting(item.waiting)
            if item.trouble != trouble:
                trouble = item.trouble
                log.log(logging.WARNING if trouble else logging.INFO, "%s: %s", source.name, trouble or "well again")
            continue
        newest = source.live and isinstance(item, Frame)
        try:
            while not budget.take(weight(source, item)):
                heartbeat()
                if stop.is_set():
                    return
            while not inbox.put(item, source.name, replace=newest):
                heartbeat()
        except Closed:
            return
        if isinstance(item, Frame):
            gate.rest(stop, heartbeat)
        del item  # who waits for the next picture holds none: one may have 126 MB
        # The source decodes the next one when it is asked for it: not beside one that is over the budget by itself.
        while not stop.is_set() and not budget.within():
            heartbeat()


def infer(
    inbox: FrameQueue,
    results: Results,
    annotate: Callable[[Frame], Annotation],
    heartbeat: Callable[[], None],
    gave_up: Callable[[Frame], None] = lambda _: None,
    between: Callable[[], None] = lambda: None,
) -> None:
    """Annotate each frame; failures pass by, so that the writer sees everything in order.

    gave_up: told of a frame that becomes a failure. between: called before each picture, and about once a second when none comes.
    """
    try:
        while True:
            heartbeat()
            between()
            item = inbox.take()
            if item is None:
                continue
            result = _annotated(item, annotate, gave_up) if isinstance(item, Frame) else item
            while not results.put(result):
                heartbeat()
            del item, result
    except Closed:
        return
    finally:  # also where this broke: nobody may wait for it
        inbox.cancel()
        results.end()


def _annotated(frame: Frame, annotate: Callable[[Frame], Annotation], gave_up: Callable[[Frame], None]) -> Annotation | Failure:
    """The result, or a failure where only this picture breaks the program: it must not break every later start as well."""
    try:
        return annotate(frame)
    except FrameError as exc:
        log.warning("%s: %s: %s; it is set aside", frame.source, frame.name, exc)
        gave_up(frame)
        message = f"{frame.name}: {exc}; set aside"
        return Failure(frame.source, frame.name, exc.reason, message, frame.path or Path(frame.name), key=frame.key)
    except ModelError:  # no model can be used any more
        raise
    except Exception as exc:
        exc.add_note(f"while annotating {frame.source}: {frame.name}")
        try:
            annotate(replace(frame, image=np.full((64, 64, 3), 114, np.uint8)))
        except Exception:  # noqa: BLE001 - the first error says more
            raise exc from None  # no picture is annotated
        log.exception("%s: the picture broke the program, which is a fault of the program; it goes on with the next", frame.name)
        gave_up(frame)
        message = f"{frame.name}: annotating it failed ({type(exc).__name__}: {exc}), which is a fault of the program; left where it is"
        return Failure(frame.source, frame.name, "error", message, frame.path or Path(frame.name), key=frame.key)


def write(
    results: Results,
    sinks: Sequence[Sink],
    store: Store,
    sources: Mapping[str, Source],
    budget: MemoryLimiter,
    telemetry: Telemetry,
    reporter: Reporter | None,
    stop: Stop,
    heartbeat: Callable[[], None],
    patience_s: float = math.inf,
    at_work: AtWork | None = None,
) -> None:
    """Store each result: files first, then ledger and outbox in one transaction, then what the options want of the input file.

    patience_s: how long a disk that refuses a result is waited for; then its LinkError is raised.
    """
    broken: set[tuple[type, type]] = set()
    prune_at = time.monotonic() + _PRUNE_S
    finishing = PostCommit(store, sinks, patience_s)
    at_work = at_work or AtWork()
    try:
        while True:
            heartbeat()
            if time.monotonic() >= prune_at:
                prune_at = time.monotonic() + _PRUNE_S
                for each in sources.values():
                    prune(store, each, heartbeat)
            item = results.take()
            if item is None:
                finishing.again()
                store.sync_if_due()
                continue
            source = sources[item.source if isinstance(item, Failure) else item.frame.source]
            if isinstance(item, Failure):
                if _commit(store, source, item, (), stop, heartbeat, patience_s):
                    source.finish(item)
                    telemetry.rejected(item.reason)
                    _say_failure(item, reporter)
                continue
            at_work.move(item.frame.place, "storing")
            messages = _messages(sinks, item, broken)
            budget.give(weight(source, item.frame))
            if _commit(store, source, item.frame, messages, stop, heartbeat, patience_s):
                at_work.leave(item.frame.place)
                finishing.finish(source, item.frame)
                telemetry.annotated(item)
                if reporter is not None:
                    reporter.picture(item)
            del item
    except Closed:
        return
    finally:  # also where this broke: nobody may wait for it
        results.cancel()


def _say_failure(failure: Failure, reporter: Reporter | None) -> None:
    """A line for it. What the system did not let us read is somebody's to put right, and waits for it: that is a warning."""
    if reporter is not None:
        reporter.failure(failure)
    level = logging.DEBUG if reporter is not None else logging.WARNING if failure.reason == "unreadable" else logging.INFO
    log.log(level, "%s: %s", failure.source, failure.message)


def _messages(sinks: Sequence[Sink], annotation: Annotation, broken: set[tuple[type, type]]) -> list[Message]:
    """What the sinks give for the outbox. A fault in a sink of files costs its file, as a full disk does, never the message."""
    messages: list[Message] = []
    frame = annotation.frame
    for sink in sinks:
        try:
            messages += sink.write(annotation)
        except Exception as exc:
            exc.add_note(f"while storing the results of {frame.source}: {frame.name}")
            if not sink.only_files:
                raise
            kind = type(sink), type(exc)
            log.exception(
                "%s failed for %s (%s), which is a fault of the program; its file is missing, messages flow",
                type(sink).__name__, frame.name, type(exc).__name__, exc_info=kind not in broken,
            )  # fmt: skip
            broken.add(kind)
    return messages


def prune(store: Store, source: Source, heartbeat: Callable[[], None]) -> int:
    """Forget the ledger's entries of files that are gone, so that it does not grow for ever; how many there were.

    Where not one file of the source is there, its medium may be away: then nothing is forgotten, unless the source removes its
    files itself. A store that fails is left for the next time.
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


def weight(source: Source, item: Frame | Failure) -> int:
    """What an item counts in the budget. A live source's frames are few already, and those that are replaced give nothing back."""
    return item.image.nbytes if isinstance(item, Frame) and not source.live else 0


def ledger_entry(source: Source, item: Frame | Failure) -> LedgerEntry | None:
    """Return what the ledger is to remember of the item; None for one without a key, and for a file that nobody will find again."""
    if item.key is None or source.is_gone(item.key.path):
        return None
    if isinstance(item, Failure):
        return LedgerEntry(source.name, item.key.path, item.key.signature, b"", item.reason)
    return LedgerEntry(source.name, item.key.path, item.key.signature, item.content_hash)


def _commit(
    store: Store,
    source: Source,
    item: Frame | Failure,
    messages: Sequence[Message],
    stop: Stop,
    heartbeat: Callable[[], None],
    patience_s: float,
) -> bool:
    """One transaction; tried again while the disk refuses it, until told to stop: then False, and the picture is done again later.

    Raises LinkError when the disk refused for `patience_s` seconds.
    """
    entry = ledger_entry(source, item)
    give_up_at = time.monotonic() + patience_s
    delay_s, told = 0.5, False
    while True:
        try:
            store.commit(entry, messages)
        except LinkError as exc:
            if not told:
                log.error("%s; trying again%s", exc, "" if patience_s < math.inf else " until it works")  # noqa: TRY400 - a full disk is no fault of the program
                told = True
            heartbeat()
            if time.monotonic() >= give_up_at:
                raise LinkError(f"{exc}; given up after {patience_s:g} s, what is not done yet is done by the next run") from exc
            if stop.wait(delay_s):
                return False
            delay_s = min(delay_s * 2, 10.0)
        else:
            if told:
                log.info("the store takes results again")
            return True
