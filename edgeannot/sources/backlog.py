"""Which files of a folder wait: those whose turn comes, in order, and those that may not be written to their end yet.

Only paths are held, about 200 bytes a file, so a folder of 100,000 pictures costs about 20 MB while it is worked through.
"""

from __future__ import annotations

import fnmatch
import logging
import math
import os
import re
import stat
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from edgeannot.delivery.store import Signature
from edgeannot.sources.complete import held_for_writing

__all__ = ["TEMPORARY_NAMES", "Backlog"]

TEMPORARY_NAMES = (
    ".*", "*~", "~$*", "*.part", "*.partial", "*.tmp", "*.temp", "*.crdownload", "*.download", "*.filepart", "*.incomplete", "*.swp",
    "*.lock", "@eaDir", "lost+found", "Thumbs.db", "desktop.ini",
)  # fmt: skip
"""Names that programs give to files they have not finished, and that systems give to what is no picture."""

OLD_S = 60.0
"""A file that did not change for this long is complete; a younger one is looked at more closely."""
HELD_S = 60.0
"""A file that a program keeps open for writing, but does not change, is taken for complete after this long."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Look:
    """When a file was last seen to change (monotonic seconds), how it looked, and when to look again."""

    signature: Signature | None
    since: float
    due: float


class Backlog:
    """The waiting files of one folder, named by their path relative to it. For one thread."""

    def __init__(
        self,
        root: str,
        *,
        recursive: bool = True,
        ignore: tuple[str, ...] = (),
        own: frozenset[str] = frozenset(),
        settle_s: float = 2.0,
        held: Callable[[str], bool | None] = held_for_writing,
    ) -> None:
        """own: relative paths of folders that are never entered. settle_s: how long a doubtful file has to stay the same.

        held: whether a program has a file open for writing, None where that cannot be told.
        """
        self.root = root
        self._recursive = recursive
        self._own = own
        self._settle_s = settle_s
        self._held = held
        self._ignored = re.compile("|".join(fnmatch.translate(p) for p in (*TEMPORARY_NAMES, *ignore)), re.IGNORECASE).match
        self._ready: deque[str] = deque()
        self._queued: set[str] = set()
        self._unsettled: dict[str, _Look] = {}
        self.settle_due = math.inf
        """When `settle` has something to do, monotonic seconds."""
        # A number a file instead of its path and signature: 20,000 done files cost about 1 MB. Two files share a number with a
        # probability of 1e-9 in a folder of 100,000.
        self._seen: set[int] = set()
        self._unreadable: set[str] = set()

    def __len__(self) -> int:
        return len(self._ready) + len(self._unsettled)

    @property
    def ready(self) -> bool:
        """Whether a file can be taken now."""
        return bool(self._ready)

    def next(self) -> str | None:
        """The file whose turn it is; None when none is ready."""
        if not self._ready:
            return None
        name = self._ready.popleft()
        self._queued.discard(name)
        return name

    def mark_seen(self, name: str, signature: Signature) -> None:
        """The file as it is needs no more work; when it changes, it counts as new."""
        self._seen.add(hash((name, signature)))

    def is_seen(self, name: str, signature: Signature) -> bool:
        """Whether the file was marked and did not change since."""
        return hash((name, signature)) in self._seen

    def wanted(self, relative: str) -> bool:
        """Whether a name stands for a picture or a folder to look into: not temporary, not hidden, not our own."""
        return not self._ignored(os.path.basename(relative)) and relative not in self._own  # noqa: PTH119 - called for every file

    def add_complete(self, name: str) -> None:
        """A file that was closed after writing or renamed into place."""
        self._unsettled.pop(name, None)
        if name not in self._queued:
            self._queued.add(name)
            self._ready.append(name)

    def add_created(self, name: str) -> None:
        """A file that appeared. A regular one is closed sooner or later; a link is never, so it is looked at now."""
        try:
            facts = os.lstat(self._path(name))
        except OSError:
            return
        if stat.S_ISLNK(facts.st_mode) or (stat.S_ISREG(facts.st_mode) and facts.st_nlink > 1):
            self._consider(name)
        elif stat.S_ISREG(facts.st_mode):
            self.look_again(name, None)

    def look_again(self, name: str, signature: Signature | None, wait_s: float | None = None) -> None:
        """Let a file rest for a while (by default the settle time); it becomes ready when it is complete and has not changed."""
        now = time.monotonic()
        due = now + (self._settle_s if wait_s is None else wait_s)
        self._unsettled[name] = _Look(signature, now, due)
        self.settle_due = min(self.settle_due, due)

    def settle(self) -> None:
        """Look at the doubtful files whose time has come."""
        now = time.monotonic()
        if now < self.settle_due:
            return
        for name, look in [(n, look) for n, look in self._unsettled.items() if look.due <= now]:
            self._look(name, look, now)
        self.settle_due = min((look.due for look in self._unsettled.values()), default=math.inf)

    def scan(self, folder: str = "", enter: Callable[[str], object] = lambda _: None) -> Iterator[None]:
        """Find the files of a folder and, if recursive, of all inside it; oldest first among those of one scan.

        enter: called with each folder's absolute path before it is read, so that a watch can be set first. Yields now and then, so
        that the caller can show a sign of life; consume it to its end.
        """
        found: list[tuple[int, str]] = []
        present: set[int] = set()
        folders = [folder]
        while folders:
            current = folders.pop()
            enter(self._path(current))
            for count, entry in enumerate(self._entries(current)):
                if count % 1000 == 0:
                    yield
                name = f"{current}/{entry.name}" if current else entry.name
                if self.wanted(name):
                    self._sort_entry(entry, name, folders, found, present)
        if not folder:
            self._seen = present  # what is no longer there needs no number; it was a subset before
        for _, name in sorted(found):
            self._consider(name)

    def _sort_entry(self, entry: os.DirEntry[str], name: str, folders: list[str], found: list[tuple[int, str]], present: set[int]) -> None:
        try:
            if entry.is_dir(follow_symlinks=False):
                if self._recursive:
                    folders.append(name)
                return
            facts = entry.stat()
        except OSError:  # gone already, or a link to nothing
            return
        if not stat.S_ISREG(facts.st_mode):
            return
        signature = Signature.of(facts)
        if self.is_seen(name, signature):
            present.add(hash((name, signature)))
        elif name not in self._queued and name not in self._unsettled:
            found.append((facts.st_mtime_ns, name))

    def _entries(self, folder: str) -> Iterator[os.DirEntry[str]]:
        try:
            with os.scandir(self._path(folder)) as entries:
                yield from entries
        except FileNotFoundError:
            return
        except OSError as exc:
            if folder not in self._unreadable:  # once, not at each scan
                log.warning("the folder %s cannot be read (%s); pictures in it are not seen", self._path(folder), exc.strerror)
            self._unreadable.add(folder)
        else:
            self._unreadable.discard(folder)

    def _consider(self, name: str) -> None:
        """A file found by a look rather than by an event: ready when it is complete, else to be looked at again."""
        path = self._path(name)
        try:
            facts = os.stat(path)  # noqa: PTH116 - called for every file
        except OSError:
            return
        if not stat.S_ISREG(facts.st_mode):  # to open a device may do something
            return
        age = time.time() - facts.st_mtime
        # A time in the future says nothing (a board without a clock): then two looks decide.
        if age > OLD_S or (held := self._held(path)) is False or (held is None and age >= self._settle_s):
            self.add_complete(name)
        else:
            self.look_again(name, Signature.of(facts))

    def _look(self, name: str, look: _Look, now: float) -> None:
        path = self._path(name)
        try:
            facts = os.stat(path)  # noqa: PTH116 - called for every file
        except OSError:
            facts = None
        if facts is None or not stat.S_ISREG(facts.st_mode):
            del self._unsettled[name]
            return
        signature = Signature.of(facts)
        held = self._held(path)
        same_s = now - look.since if signature == look.signature else 0.0
        if held is False or same_s >= (HELD_S if held else self._settle_s):
            self.add_complete(name)
        else:
            since = look.since if signature == look.signature else now
            self._unsettled[name] = _Look(signature, since, now + self._settle_s)

    def _path(self, relative: str) -> str:
        return f"{self.root}/{relative}" if relative else self.root
