"""Which picture may begin, and which are being processed: each from before it is decoded until its results are stored.

A suspected picture, at which the program died before, is processed in isolation: it begins when nothing else is being processed, and
nothing else begins before it is done. So is a picture that needs all the memory there is. No other picture waits.
"""

from __future__ import annotations

import contextlib
import faulthandler
import hashlib
import itertools
import logging
import math
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Final

from edgeannot.base import atomicfile
from edgeannot.base.connections.backoff import backoff_s
from edgeannot.base.runtimes import RuntimeName
from edgeannot.crash_guard.crashes import CrashRecord, cause_of, dead_runtime, fatal_error, runtime_advice
from edgeannot.crash_guard.record import PLACES, Note, OomCounter, Record, RunState, boot_id

__all__ = ["AtWork", "Ticket", "of_content", "runtime_of_last_crash"]

log = logging.getLogger(__name__)

Ticket = int
"""Names a picture that is being processed; 0 names none."""

_WANTED_S: Final = 5.0
"""How long others wait for one that wants to be isolated and does not ask any more."""
_STUCK_S: Final = 60.0
"""How long who wants to be isolated waits for a camera to be closed: one may never come back from a read."""
_STEADY_S: Final = 600.0
"""A camera that ran so long without a death is no longer suspected."""
_LONGEST_PAUSE_S: Final = 300.0
_TRACE: Final = "crash-trace.txt"
_MOST_TRACE: Final = 65_536


@dataclass(slots=True)
class _Held:
    note: Note
    line: int | None
    """Its place in the record; None where that is full."""


class AtWork:
    """The pictures being processed, and which may begin. Thread-safe."""

    def __init__(self, folder: Path | None = None, *, root: Path = Path("/"), clock: Callable[[], float] = time.monotonic) -> None:
        """folder: where the two records lie; None: nothing outlives this process. root: stands for / in tests."""
        self._clock = clock
        self._began = clock()
        self._changed = threading.Condition()
        self._held: dict[Ticket, _Held] = {}
        self._lines = set(range(PLACES))
        self._numbers = itertools.count(1)
        self._isolated: Ticket = 0
        self._wanting: dict[str, tuple[float, float]] = {}
        """Since when they want to be isolated, and when they asked last."""
        self._crashes = CrashRecord(folder and folder / "crashes.json")
        self._state = RunState()
        self._counter = OomCounter(root)
        self._record: Record | None = None
        self._trace: IO[str] | None = None
        self._was_enabled = False
        if folder is not None:
            self._open(folder, boot_id(root))

    # The record

    def _open(self, folder: Path, boot: str) -> None:
        path, place = folder / _TRACE, folder / "at-work"
        last = ""
        try:
            self._record = record = Record(place)
        except OSError as exc:
            log.warning("%s cannot be opened (%s): a picture that kills the program cannot be found", place, exc.strerror)
            return
        try:
            last, self._trace = _open_trace(path)
        except OSError as exc:  # of a death for want of memory the kernel tells
            log.warning("%s cannot be opened (%s): a picture that crashes the program cannot be found", path, exc.strerror)
        head, notes = record.read()
        kills = self._counter.read()
        found = cause_of(head, boot, kills, last) if notes else None
        if found is not None:
            self._crashes.add(notes, *found)
        self._state = RunState(boot, kills, pid=os.getpid())
        record.begin(self._state)
        if self._trace is not None:
            self._was_enabled = faulthandler.is_enabled()
            # Its own stack only: to walk those of threads that run meanwhile can itself crash, in the middle of the trace.
            faulthandler.enable(self._trace, all_threads=False)

    def close(self) -> None:
        """Close the record at the end of an orderly run: no picture is suspected."""
        if self._trace is not None:
            faulthandler.disable()
            if self._was_enabled:
                with contextlib.suppress(OSError, RuntimeError):  # standard error may be no file, or closed
                    faulthandler.enable()
            self._trace.close()
        with self._changed:  # a camera that is stuck in a read leaves later
            record, self._record, self._trace = self._record, None, None
        if record is not None:
            record.close()

    def tick(self, stalled: str = "") -> None:
        """Record the kernel's counts; call it about once a second. stalled: the thread that the watchdog waits for."""
        head = replace(self._state, kills=self._counter.read(), stalled=stalled)
        if self._record is not None and head != self._state:
            self._state = head
            self._record.put_state(head)
        if self._clock() - self._began > _STEADY_S:
            with self._changed:
                self._crashes.clear_cameras()

    # Pictures

    @property
    def has_suspects(self) -> bool:
        """Return whether there are suspected pictures without a verdict."""
        with self._changed:
            return self._crashes.has_suspects

    def verdict(self, crash_key: str) -> str | None:
        """Return why this picture is to be set aside, in one sentence without its name; None if it is not."""
        with self._changed:
            return self._crashes.verdict(_key(crash_key))

    def enter(
        self, source: str, crash_key: str, name: str, timeout_s: float = 0.0, *, stage: str = "decoding", isolated: bool = False
    ) -> Ticket | None:
        """Begin processing a picture and return its place; None if it is not its turn within the time (try again).

        crash_key: what makes it the same when it comes again; empty where nothing does. name: for people. isolated: nothing else meanwhile.
        """
        note = Note(_key(crash_key), source, name, stage)
        with self._changed:
            isolated = isolated or self._crashes.is_suspect(note.key)
            if isolated:
                self._want(note.key)
            if not self._changed.wait_for(lambda: self._may_begin(note.key, isolated=isolated), timeout_s):
                return None
            ticket = next(self._numbers)
            line = self._lines.pop() if self._lines else None
            self._held[ticket] = _Held(note, line)
            if isolated:
                self._isolated = ticket
                self._wanting.pop(note.key, None)
        self._put(self._held[ticket])
        return ticket

    def move(self, ticket: Ticket, stage: str) -> None:
        """Record that the picture has reached another stage."""
        held = self._held.get(ticket)
        if held is not None:
            held.note = replace(held.note, stage=stage)
            self._put(held)

    def leave(self, ticket: Ticket, *, survived: bool = True) -> None:
        """End the processing of a picture. survived: whether it was decoded; one that was not may kill the program the next time."""
        with self._changed:
            held = self._held.pop(ticket, None)
            if held is None:
                return
            if held.line is not None:
                if self._record is not None:
                    self._record.clear(held.line)
                self._lines.add(held.line)
            if self._isolated == ticket:
                self._isolated = 0
            if held.note.key and survived:
                self._crashes.clear(held.note.key)
            self._changed.notify_all()

    # Cameras

    @property
    def isolation_wanted(self) -> bool:
        """Return whether a picture is processed in isolation or waits for that; cameras must be closed meanwhile."""
        with self._changed:
            return bool(self._isolated) or self._somebody_waits()

    def pause_s(self, source: str) -> tuple[float, int]:
        """Return how many seconds to wait before opening a camera, and the deaths in a row while a frame of it was processed."""
        with self._changed:
            count = self._crashes.cameras.get(source, 0)
        return (backoff_s(count, 2.0, _LONGEST_PAUSE_S, jitter=lambda: 0.0) if count else 0.0), count

    def _want(self, key: str) -> None:
        now = self._clock()
        since, asked = self._wanting.get(key, (now, now))
        self._wanting[key] = (since if now - asked < _WANTED_S else now, now)

    def _may_begin(self, key: str, *, isolated: bool) -> bool:
        if not isolated:
            return not self._isolated and not self._somebody_waits()
        since, _ = self._wanting.get(key, (math.inf, 0.0))
        stuck = self._clock() - since > _STUCK_S
        return not self._isolated and all(stuck and held.note.stage == "capturing" for held in self._held.values())

    def _somebody_waits(self) -> bool:
        now = self._clock()
        return any(now - asked < _WANTED_S for _, asked in self._wanting.values())

    def _put(self, held: _Held) -> None:
        if self._record is not None and held.line is not None:
            self._record.put(held.line, held.note)


def of_content(digest: bytes) -> str:
    """Return the crash key of a picture by its bytes: the same bytes may come again with another id."""
    return f"content {digest.hex()}"


def _key(crash_key: str) -> str:
    return hashlib.blake2b(crash_key.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest() if crash_key else ""


def runtime_of_last_crash(folder: Path) -> RuntimeName | None:
    """Return the runtime in which the previous run in this folder died; None where it did not die in one, or a run goes on."""
    try:
        with (folder / _TRACE).open("rb") as file:
            words = file.read(_MOST_TRACE).decode("utf-8", "replace")
    except OSError:
        return None
    return dead_runtime(words) if fatal_error(words) else None


def _open_trace(path: Path) -> tuple[str, IO[str]]:
    """Return the trace of a fatal signal in the previous run, and the file for this run's. Raises OSError.

    A trace is kept as NAME.old, and the log names it, for who wants to report it.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    file = os.fdopen(fd, "r+", encoding="utf-8", errors="replace")
    words = os.pread(fd, _MOST_TRACE, 0).decode("utf-8", "replace")
    os.ftruncate(fd, 0)
    if what := fatal_error(words):
        kept = path.with_name(f"{path.name}.old")
        with contextlib.suppress(OSError):
            atomicfile.write(kept, words.encode(), mode=0o600)
        log.warning("the previous run crashed (%s)%s; its trace is in %s", what, runtime_advice(words), kept)
    return words, file
