"""Which files of a folder wait: those whose turn comes, in order, and those that may not be written to their end yet.

Only paths are held, about 200 bytes a file, so a folder of 100,000 pictures costs about 20 MB while it is worked through.
"""

from __future__ import annotations

import errno
import fcntl
import fnmatch
import logging
import math
import os
import re
import signal
import stat
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from edgeannot.base.file_signature import FileSignature

__all__ = ["GONE", "TEMPORARY_NAMES", "Backlog", "brief", "held_for_writing", "why"]

TEMPORARY_NAMES = (
    ".*", "*~", "~$*", "*.part", "*.partial", "*.tmp", "*.temp", "*.crdownload", "*.download", "*.filepart", "*.incomplete", "*.swp",
    "*.lock", "@eaDir", "lost+found", "Thumbs.db", "desktop.ini",
)  # fmt: skip
"""Names that programs give to files they have not finished, and that systems give to what is no picture."""

OLD_S = 60.0
"""A file that did not change for this long is complete, also where a program keeps it open for writing; a younger one is looked at more
closely."""
GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
"""The errors of a path that leads to no file, and of a link to itself. Any other says that the system does not give the file now."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Look:
    """When a file was last seen to change (monotonic seconds), how it looked, and when to look again."""

    signature: FileSignature | None
    since: float
    due: float


@dataclass(slots=True)
class _Seen:
    """What one scan has seen: files to consider with their times, numbers of those that are done, names of those withheld."""

    found: list[tuple[int, str]] = field(default_factory=list)
    done: set[int] = field(default_factory=set)
    withheld: set[str] = field(default_factory=set)


def held_for_writing(path: str) -> bool | None:
    """Return whether a program on this machine has the file open for writing; None where that cannot be told.

    The kernel grants a read lease only on a file that nobody has open for writing (fcntl(2), F_SETLEASE). The caller must own
    the file or have CAP_LEASE, and some file systems know no leases. A writer on another machine is not seen.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        # Who opens the file for writing in these microseconds breaks the lease, and we would get SIGIO, which ends a process
        # that does not expect it; SIGURG is ignored unless asked for.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as exc:
        return True if exc.errno == errno.EAGAIN else None
    else:
        return False
    finally:
        os.close(fd)


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
        by_path: bool = False,
        held: Callable[[str], bool | None] = held_for_writing,
    ) -> None:
        """own: relative paths of folders that are never entered. settle_s: how long a doubtful file has to stay the same.

        by_path: whether the files of one scan come in the order of their paths, in place of that of their times.
        held: whether a program has a file open for writing, None where that cannot be told.
        """
        self.root = root
        self._recursive = recursive
        self._own = own
        self._settle_s = settle_s
        self._by_path = by_path
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
        self._withheld: dict[str, str] = {}
        self.unreadable: set[str] = set()
        """Folders that could not be listed when they were looked at last."""

    def __len__(self) -> int:
        return len(self._ready) + len(self._unsettled)

    @property
    def ready(self) -> bool:
        """Return whether a file can be taken now."""
        return bool(self._ready)

    def next(self) -> str | None:
        """Return the file whose turn it is; None when none is ready."""
        if not self._ready:
            return None
        name = self._ready.popleft()
        self._queued.discard(name)
        return name

    def mark_seen(self, name: str, signature: FileSignature) -> None:
        """Mark the file as done; if it changes, it counts as new."""
        self._seen.add(hash((name, signature)))

    def is_seen(self, name: str, signature: FileSignature) -> bool:
        """Return whether the file was marked and did not change since."""
        return hash((name, signature)) in self._seen

    def withhold(self, name: str, why: str) -> bool:
        """Record that the file cannot be read at the moment; each scan and each change of its attributes tries again.

        Returns False if it was recorded for the same reason before.
        """
        news = self._withheld.get(name) != why
        self._withheld[name] = why
        return news

    def release(self, name: str) -> None:
        """Record that the file can be read again, or is gone."""
        self._withheld.pop(name, None)

    def add_changed(self, name: str) -> None:
        """Try a file again whose permissions or times were changed."""
        if name in self._withheld:
            self.add_complete(name)

    def lacks(self, folder: str) -> bool:
        """Return whether the folder could not be listed, or a file in it cannot be read."""
        return folder in self.unreadable or any(name.startswith(f"{folder}/" if folder else "") for name in self._withheld)

    def wanted(self, relative: str) -> bool:
        """Return whether a name stands for a picture or a folder to look into: not temporary, not hidden, not our own."""
        return not self._ignored(os.path.basename(relative)) and relative not in self._own  # noqa: PTH119 - called for every file

    def add_complete(self, name: str) -> None:
        """Add a file that was closed after writing or renamed into place."""
        self._unsettled.pop(name, None)
        if name not in self._queued:
            self._queued.add(name)
            self._ready.append(name)

    def add_created(self, name: str) -> None:
        """Add a file that appeared: a link at once, as it is never closed; a regular file when it is closed."""
        try:
            facts = os.lstat(self._path(name))
        except OSError:
            return
        if stat.S_ISLNK(facts.st_mode) or (stat.S_ISREG(facts.st_mode) and facts.st_nlink > 1):
            self._consider(name)
        elif stat.S_ISREG(facts.st_mode):
            self.look_again(name, None)

    def look_again(self, name: str, signature: FileSignature | None, wait_s: float | None = None) -> None:
        """Let a file rest for a while (by default the settle time); it becomes ready when it is complete and has not changed."""
        now = time.monotonic()
        self._rest(name, _Look(signature, now, now + (self._settle_s if wait_s is None else wait_s)))

    def settle(self) -> None:
        """Look at the doubtful files whose time has come."""
        now = time.monotonic()
        if now < self.settle_due:
            return
        for name, look in [(n, look) for n, look in self._unsettled.items() if look.due <= now]:
            self._consider(name, look)
        self.settle_due = min((look.due for look in self._unsettled.values()), default=math.inf)

    def scan(self, folder: str = "", enter: Callable[[str], object] = lambda _: None) -> Iterator[None]:
        """Find the files of a folder and, if recursive, of all inside it; those of one scan in order: by time or by path.

        enter: called with each folder's absolute path before it is read, so that a watch can be set first. Yields now and then, so
        that the caller can show a sign of life; consume it to its end.
        """
        seen = _Seen()
        folders = [folder]
        while folders:
            current = folders.pop()
            enter(self._path(current))
            for count, entry in enumerate(self._entries(current)):
                if count % 1000 == 0:
                    yield
                name = f"{current}/{entry.name}" if current else entry.name
                if self.wanted(name):
                    self._sort_entry(entry, name, folders, seen)
        if not folder:  # what is no longer there needs no place in memory
            self._seen = seen.done
            self._withheld = {name: why for name, why in self._withheld.items() if name in seen.withheld}
        seen.found.sort()
        if self._by_path:
            seen.found.sort(key=lambda found: _natural(found[1]))
        for _, name in seen.found:
            self._consider(name)

    def _sort_entry(self, entry: os.DirEntry[str], name: str, folders: list[str], seen: _Seen) -> None:
        if name in self._withheld:
            seen.withheld.add(name)
        try:
            if entry.is_dir(follow_symlinks=False):
                if self._recursive:
                    folders.append(name)
                return
            facts = entry.stat()
        except OSError as exc:
            if exc.errno not in GONE and name not in self._queued:
                seen.found.append((0, name))
            return
        if not stat.S_ISREG(facts.st_mode):
            return
        signature = FileSignature.of(facts)
        if self.is_seen(name, signature):
            seen.done.add(hash((name, signature)))
        elif name not in self._queued and name not in self._unsettled:
            seen.found.append((0 if self._by_path else facts.st_mtime_ns, name))

    def _entries(self, folder: str) -> Iterator[os.DirEntry[str]]:
        try:
            with os.scandir(self._path(folder)) as entries:
                yield from entries
        except (FileNotFoundError, NotADirectoryError):
            self.unreadable.discard(folder)
        except OSError as exc:
            if folder not in self.unreadable:  # once, not at each scan
                place = brief(self._path(folder))
                log.warning("the folder %s cannot be read (%s); its pictures are ignored until it can", place, why(exc))
            self.unreadable.add(folder)
        else:
            self.unreadable.discard(folder)

    def _consider(self, name: str, before: _Look | None = None) -> None:
        """Add a file to the ready ones if it is complete, else look at it again later. before: the last look, if there was one."""
        path = self._path(name)
        try:
            facts = os.stat(path)  # noqa: PTH116 - called for every file
        except OSError as exc:
            self._unsettled.pop(name, None)
            if exc.errno not in GONE:
                self.add_complete(name)  # who takes it says what is wrong
            return
        if not stat.S_ISREG(facts.st_mode):  # to open a device may do something
            self._unsettled.pop(name, None)
            return
        signature, now = FileSignature.of(facts), time.monotonic()
        since = before.since if before is not None and before.signature == signature else now
        # A time in the future says nothing (a board without a clock): then two looks decide.
        same_s = now - since if before is not None else time.time() - facts.st_mtime
        if same_s > OLD_S or (held := self._held(path)) is False or (held is None and same_s >= self._settle_s):
            self.add_complete(name)
        else:
            self._rest(name, _Look(signature, since, now + self._settle_s))

    def _rest(self, name: str, look: _Look) -> None:
        self._unsettled[name] = look
        self.settle_due = min(self.settle_due, look.due)

    def _path(self, relative: str) -> str:
        return f"{self.root}/{relative}" if relative else self.root


def _natural(path: str) -> str:
    """Return a key that sorts paths folder by folder, and numbers in them by their value.

    >>> sorted(["a10.jpg", "a b/1.jpg", "a9.jpg", "a/2.jpg"], key=_natural)
    ['a/2.jpg', 'a b/1.jpg', 'a9.jpg', 'a10.jpg']
    """
    # One string a path, as a folder may hold a few hundred thousand: each number gets its count of digits before it.
    return re.sub("[0-9]+", _weighed, path).replace("/", "\0")


def _weighed(number: re.Match[str]) -> str:
    digits = number[0].lstrip("0")
    return f"0{len(digits):03}{digits}"


def brief(path: str) -> str:
    """Return a path for the log; of one that is too long for the kernel only its ends."""
    return path if len(path) <= 300 else f"{path[:150]}...{path[-100:]}"


def why(exc: OSError) -> str:
    """Return the system's error text, with advice if there is any."""
    advice = {errno.ENAMETOOLONG: ": a whole path may have 4,095 bytes, so move it further up or shorten names"}
    return f"{exc.strerror or exc}{advice.get(exc.errno or 0, '')}"
