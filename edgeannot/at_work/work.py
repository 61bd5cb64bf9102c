"""Who may begin, and who is at work: each picture from before it is decoded until its results are stored.

A suspect, with which the program died before, is taken alone: it begins when nothing else is at work, and nothing else begins before
it is done. So is a picture that needs all the memory there is. For everybody else nothing waits.
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

from edgeannot import atomicfile
from edgeannot.at_work.deaths import Deaths, cause_of, fatal_error
from edgeannot.at_work.kernel import OomCounter, boot_id
from edgeannot.at_work.record import PLACES, Head, Note, Record

__all__ = ["AtWork", "Place", "of_content"]

log = logging.getLogger(__name__)

Place = int
"""Names a picture at work; 0 names none."""

_WANTED_S: Final = 5.0
"""How long others wait for one that wants to be alone and does not ask any more."""
_STUCK_S: Final = 60.0
"""How long who wants to be alone waits for a camera to be closed: one may never come back from a read."""
_STEADY_S: Final = 600.0
"""A camera that ran so long without a death is taken for well."""
_LONGEST_PAUSE_S: Final = 300.0
_MOST_WORDS: Final = 65_536


@dataclass(slots=True)
class _Held:
    note: Note
    line: int | None
    """Its place in the record; None where that is full."""


class AtWork:
    """See the module. Methods may be called from any thread."""

    def __init__(self, folder: Path | None = None, *, root: Path = Path("/"), clock: Callable[[], float] = time.monotonic) -> None:
        """folder: where the record and the book of suspects lie; None: nothing outlives this process. root: stands for / in tests."""
        self._clock = clock
        self._began = clock()
        self._changed = threading.Condition()
        self._held: dict[Place, _Held] = {}
        self._lines = set(range(PLACES))
        self._numbers = itertools.count(1)
        self._alone: Place = 0
        self._wanting: dict[str, tuple[float, float]] = {}
        """Since when they want to be alone, and when they asked last."""
        self._deaths = Deaths(folder and folder / "deaths.json")
        self._head = Head()
        self._counter = OomCounter(root)
        self._record: Record | None = None
        self._words: IO[str] | None = None
        self._was_enabled = False
        if folder is not None:
            self._open(folder, boot_id(root))

    # The record

    def _open(self, folder: Path, boot: str) -> None:
        path, place = folder / "last-words.txt", folder / "at-work"
        last = ""
        try:
            self._record = record = Record(place)
        except OSError as exc:
            log.warning("%s cannot be opened (%s): a picture that kills the program stays unknown", place, exc.strerror)
            return
        try:
            last, self._words = _last_words(path)
        except OSError as exc:  # of a death for want of memory the kernel tells
            log.warning("%s cannot be opened (%s): a picture that crashes the program stays unknown", path, exc.strerror)
        head, notes = record.read()
        kills = self._counter.read()
        found = cause_of(head, boot, kills, last) if notes else None
        if found is not None:
            self._deaths.put_down(notes, *found)
        self._head = Head(boot, kills, pid=os.getpid())
        record.begin(self._head)
        if self._words is not None:
            self._was_enabled = faulthandler.is_enabled()
            faulthandler.enable(self._words)

    def close(self) -> None:
        """The run ends in order: what was at work is no suspect."""
        if self._words is not None:
            faulthandler.disable()
            if self._was_enabled:
                faulthandler.enable()
            self._words.close()
        with self._changed:  # a camera that is stuck in a read leaves later
            record, self._record, self._words = self._record, None, None
        if record is not None:
            record.close()

    def tick(self, stalled: str = "") -> None:
        """Note what the kernel counts now; to be called about once a second. stalled: the thread that the watchdog waits for."""
        head = replace(self._head, kills=self._counter.read(), stalled=stalled)
        if self._record is not None and head != self._head:
            self._head = head
            self._record.put_head(head)
        if self._clock() - self._began > _STEADY_S:
            with self._changed:
                self._deaths.clear_cameras()

    # Pictures

    @property
    def has_suspects(self) -> bool:
        """Whether the program died with pictures at work of which it is not known yet whether they are to blame."""
        with self._changed:
            return self._deaths.has_suspects

    def verdict(self, identity: str) -> str | None:
        """Why this picture is to be set aside, in one sentence without its name; None where it is not."""
        with self._changed:
            return self._deaths.verdict(_key(identity))

    def enter(
        self, source: str, identity: str, name: str, timeout_s: float = 0.0, *, stage: str = "decoding", alone: bool = False
    ) -> Place | None:
        """A picture is about to be worked on; None where it is not its turn within the time: ask again.

        identity: what makes it the same when it comes again; empty where nothing does. name: for people. alone: whether it wants that.
        """
        note = Note(_key(identity), source, name, stage)
        with self._changed:
            alone = alone or self._deaths.is_suspect(note.key)
            if alone:
                self._want(note.key)
            if not self._changed.wait_for(lambda: self._may_begin(note.key, alone=alone), timeout_s):
                return None
            place = next(self._numbers)
            line = self._lines.pop() if self._lines else None
            self._held[place] = _Held(note, line)
            if alone:
                self._alone = place
                self._wanting.pop(note.key, None)
        self._put(self._held[place])
        return place

    def move(self, place: Place, stage: str) -> None:
        """The picture goes on to another stage."""
        held = self._held.get(place)
        if held is not None:
            held.note = replace(held.note, stage=stage)
            self._put(held)

    def leave(self, place: Place, *, survived: bool = True) -> None:
        """The picture is done, or no work. survived: whether it was decoded; one that was not may kill the next time."""
        with self._changed:
            held = self._held.pop(place, None)
            if held is None:
                return
            if held.line is not None:
                if self._record is not None:
                    self._record.clear(held.line)
                self._lines.add(held.line)
            if self._alone == place:
                self._alone = 0
            if held.note.key and survived:
                self._deaths.clear(held.note.key)
            self._changed.notify_all()

    # Cameras

    @property
    def wanted_alone(self) -> bool:
        """Whether a picture is taken alone or waits for that: a camera is to be closed meanwhile."""
        with self._changed:
            return bool(self._alone) or self._somebody_waits()

    def pause_s(self, source: str) -> tuple[float, int]:
        """How long a camera is to wait before it is opened, in seconds, and the deaths in a row with a frame of it at work."""
        with self._changed:
            count = self._deaths.cameras.get(source, 0)
        return (min(_LONGEST_PAUSE_S, 2.0**count) if count else 0.0), count

    def _want(self, key: str) -> None:
        now = self._clock()
        since, asked = self._wanting.get(key, (now, now))
        self._wanting[key] = (since if now - asked < _WANTED_S else now, now)

    def _may_begin(self, key: str, *, alone: bool) -> bool:
        if not alone:
            return not self._alone and not self._somebody_waits()
        since, _ = self._wanting.get(key, (math.inf, 0.0))
        stuck = self._clock() - since > _STUCK_S
        return not self._alone and all(stuck and held.note.stage == "capturing" for held in self._held.values())

    def _somebody_waits(self) -> bool:
        now = self._clock()
        return any(now - asked < _WANTED_S for _, asked in self._wanting.values())

    def _put(self, held: _Held) -> None:
        if self._record is not None and held.line is not None:
            self._record.put(held.line, held.note)


def of_content(digest: bytes) -> str:
    """The identity of a picture that is known by its bytes: who sends them again gives them another id, and they kill as before."""
    return f"content {digest.hex()}"


def _key(identity: str) -> str:
    return hashlib.blake2b(identity.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest() if identity else ""


def _last_words(path: Path) -> tuple[str, IO[str]]:
    """What the handler of fatal signals wrote in the run before, and the file for this run's. Raises OSError.

    The words are said, and kept as NAME.old for who wants to report them.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    file = os.fdopen(fd, "r+", encoding="utf-8", errors="replace")
    words = os.pread(fd, _MOST_WORDS, 0).decode("utf-8", "replace")
    os.ftruncate(fd, 0)
    if what := fatal_error(words):
        kept = path.with_name(f"{path.name}.old")
        with contextlib.suppress(OSError):
            atomicfile.write(kept, words.encode(), mode=0o600)
        log.warning("the run before died: %s; its trace is in %s", what, kept)
    return words, file
