"""A watched folder: keeps its backlog up to date by events and scans, also while the folder is unmounted and mounted again.

Where the kernel gives no watch for a folder inside, or that cannot be read, only this branch is scanned, every few seconds and until it
can be watched; the rest keeps its events.

Events come from inotify(7) itself. Complete means closed after writing, or renamed into place. Libraries above inotify blur that: some
cannot tell a file that was moved in (complete) from one that was just created, others never say that a file was closed.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from inotify_simple import Event, INotify, flags

from edgeannot.base.errors import MissingError
from edgeannot.sources.backlog import Backlog, brief, why
from edgeannot.sources.contract import Stop

__all__ = ["IDLE_S", "Change", "Folder", "TreeWatch"]

IDLE_S = 0.5
"""Longest time in one wait, so that a stop is noticed and the caller gets its Tick."""
POLL_S = 5.0
"""Longest time between scans where the kernel gives no watch."""
SCAN_SHARE = 200
"""A scan is repeated after at least so many times its own duration: no more than half a percent of one core."""

_ADVICE = {
    errno.ENOSPC: "; raise fs.inotify.max_user_watches (sysctl)",
    errno.EMFILE: "; raise fs.inotify.max_user_instances (sysctl)",
}
"""What is to be done by the error of inotify_add_watch(2) or inotify_init(2); against others no setting of the kernel helps."""
_SAID_BY_SCAN = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG)
"""These keep a folder from being read, too, which the scan says."""

# Plain numbers: the library's flag type refuses combinations such as ISDIR with CREATE.
CLOSE_WRITE, MOVED_TO, CREATE, ISDIR = (int(f) for f in (flags.CLOSE_WRITE, flags.MOVED_TO, flags.CREATE, flags.ISDIR))
ATTRIB = int(flags.ATTRIB)
DELETE_SELF, MOVE_SELF, UNMOUNT, IGNORED = (int(f) for f in (flags.DELETE_SELF, flags.MOVE_SELF, flags.UNMOUNT, flags.IGNORED))
OVERFLOW: Final = int(flags.Q_OVERFLOW)
MASK: Final = CLOSE_WRITE | MOVED_TO | CREATE | ATTRIB | DELETE_SELF | MOVE_SELF | int(flags.ONLYDIR)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that happened.

    complete: the file is written. created: a file appeared and may be unfinished (or is a link, which nobody closes).
    folder: a folder appeared; add it, then scan it. changed, folder changed: permissions or times of a file or of a folder are others.
    overflow: events were lost, scan everything. gone: the root itself is away.
    """

    what: Literal["complete", "created", "folder", "changed", "folder changed", "overflow", "gone"]
    path: str
    """Absolute; the root for overflow and gone."""


class TreeWatch:
    """Watches on a folder and on those inside it that are added. To be closed."""

    def __init__(self, root: str) -> None:
        """Watch the folder itself, not what is inside its folders. Raises OSError as `add` does, and EMFILE: the limit of instances."""
        self._root = root
        self._paths: dict[int, str] = {}
        self._inotify = INotify()
        try:
            self.add(root)
        except BaseException:
            self._inotify.close()
            raise

    def add(self, folder: str) -> bool:
        """Watch one more folder; False when it is no longer there. Files that came before this call give no event: scan after it.

        Raises OSError: ENOSPC, the limit of watches; EACCES, the folder may not be read; ENAMETOOLONG; what its file system says.
        """
        try:
            self._paths[self._inotify.add_watch(folder, MASK)] = folder
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def read(self, timeout_s: float) -> list[Change]:
        """Return the changes, waiting at most this long for the first."""
        return self.interpret(self._inotify.read(timeout=max(0, round(timeout_s * 1000))))

    def interpret(self, events: Iterable[Event]) -> list[Change]:
        """Return raw events as changes, in order, and keep the table of watches up to date."""
        return [change for event in events if (change := self._change(event)) is not None]

    def close(self) -> None:
        """Remove the watches."""
        self._inotify.close()

    def _change(self, event: Event) -> Change | None:
        if event.mask & OVERFLOW:  # its watch number is -1, so this comes first
            return Change("overflow", self._root)
        folder = self._paths.get(event.wd)
        if folder is None:
            return None
        if event.mask & (DELETE_SELF | MOVE_SELF | UNMOUNT | IGNORED):
            return self._left(event, folder)
        # Without a name it is about the watched folder itself. Half a million paths a scan are strings, not objects.
        path = os.path.join(folder, event.name) if event.name else folder  # noqa: PTH118
        if event.mask & ATTRIB:
            return Change("folder changed" if event.mask & ISDIR else "changed", path)
        if event.mask & ISDIR:
            return Change("folder", path)
        return Change("created" if event.mask & CREATE else "complete", path)

    def _left(self, event: Event, folder: str) -> Change | None:
        """Handle a removed folder. One moved inside the tree has its new path by now, or is added again under it."""
        if event.mask & IGNORED:
            del self._paths[event.wd]
            if folder != self._root and os.path.isdir(folder):  # noqa: PTH112 - a medium was taken from it: what lay below is there again
                return Change("folder", folder)
        elif event.mask & MOVE_SELF and not os.path.isdir(folder):  # noqa: PTH112
            below = folder + os.sep
            for watch in [w for w, path in self._paths.items() if path == folder or path.startswith(below)]:
                self._paths.pop(watch)
                with contextlib.suppress(OSError):  # the kernel dropped it already
                    self._inotify.rm_watch(watch)
        return Change("gone", folder) if folder == self._root else None


class Folder:
    """Call `scan` when `scan_due`, and `listen` before each look into the backlog; `close` when done. For one thread."""

    def __init__(
        self,
        label: str,
        backlog: Backlog,
        *,
        recursive: bool = True,
        rescan_s: float = 60.0,
        once: bool = False,
        open_watch: Callable[[str], TreeWatch] = TreeWatch,
    ) -> None:
        """label: how messages name it, e.g. "sources.inbox". once: do not watch, and do not wait for a folder that is away."""
        self._label = label
        self._backlog = backlog
        self._root = backlog.root
        self._recursive = recursive
        self._rescan_s = rescan_s or math.inf
        self._once = once
        self._open_watch = open_watch
        self._watch: TreeWatch | None = None
        self._watched: tuple[int, int] | None = None
        self._scan_at = 0.0
        self._unwatched: set[str] = set()
        self._poll_at = math.inf
        self._said: set[int] = set()
        self.trouble = ""
        """What is wrong at the moment, one sentence; empty when all is well."""

    @property
    def scan_due(self) -> bool:
        """Return whether the folder, or a branch of it without a watch, has to be looked at."""
        return time.monotonic() >= min(self._scan_at, self._poll_at)

    def scan(self, stop: Stop) -> Iterator[None]:
        """Look at what is due; yields where that takes long. Raises MissingError with `once` when the folder is away."""
        began = time.monotonic()
        whole = began >= self._scan_at
        if not self._open(stop):
            return
        if whole:
            self._unwatched.clear()
        spoke = began
        for branch in [""] if whole else self._branches():
            for _ in self._backlog.scan(branch, self._enter):
                if stop.is_set():
                    return
                if time.monotonic() - spoke > IDLE_S:
                    yield
                    spoke = time.monotonic()
        ended = time.monotonic()
        rest_s = SCAN_SHARE * (ended - began)
        if whole:
            every_s = self._rescan_s if self._watch is not None else min(self._rescan_s, POLL_S)
            self._scan_at = ended + max(every_s, rest_s)
        self._poll_at = ended + max(POLL_S, rest_s) if self._watch is not None and self._branches() else math.inf
        if self._watch is not None and self._said and not self._unwatched:
            self._said.clear()
            log.info("all folders in %s are watched for changes again", self._root)

    def _branches(self) -> list[str]:
        """Return the folders, relative to the root, that are scanned by themselves with all that is in them: none lies in another."""
        found: list[str] = []
        names = {path[len(self._root) + 1 :] for path in self._unwatched} | self._backlog.unreadable
        for name in sorted(names, key=lambda name: name.split("/")):  # so what is in a folder follows it
            if not found or (found[-1] and not name.startswith(f"{found[-1]}/")):
                found.append(name)
        return found

    def listen(self, stop: Stop) -> None:
        """Process the kernel's events; wait a moment for them if no file is ready."""
        now = time.monotonic()
        wait_s = max(0.0, min(IDLE_S, self._scan_at - now, self._poll_at - now, self._backlog.settle_due - now))
        if self._backlog.ready or (self._once and not self._backlog):
            wait_s = 0.0
        if self._watch is not None:
            for change in self._watch.read(wait_s):
                self._heed(change)
        elif wait_s:
            stop.wait(wait_s)

    def close(self) -> None:
        """Remove the watches; a later `scan` starts again."""
        if self._watch is not None:
            self._watch.close()
        self._watch = self._watched = None
        self._scan_at, self._poll_at = 0.0, math.inf

    def _open(self, stop: Stop) -> bool:
        """Make sure that the folder is there and watched; False, after a moment, when it is away."""
        try:
            facts = Path(self._root).stat()
        except OSError as exc:
            return self._away(exc.strerror or str(exc), stop)
        if not stat.S_ISDIR(facts.st_mode):
            return self._away("it is not a folder", stop)
        self.trouble = ""
        if self._watched != (facts.st_dev, facts.st_ino):  # the first time, or something was mounted over it
            self.close()
            self._watched = (facts.st_dev, facts.st_ino)
        if self._watch is None and not self._once:
            self._begin_watch()
        return True

    def _away(self, reason: str, stop: Stop) -> bool:
        message = f"the folder {self._root} ({self._label}) cannot be watched: {reason}"
        if self._once:
            raise MissingError(message)
        self.trouble = f"{message}; waiting for it"
        self.close()
        stop.wait(IDLE_S)
        return False

    def _begin_watch(self) -> None:
        try:
            self._watch = self._open_watch(self._root)
        except FileNotFoundError:
            return
        except OSError as exc:
            self._no_watch(self._root, exc)

    def _enter(self, folder: str) -> None:
        """A watch on a folder that is about to be scanned: what comes after it gives an event, what came before is found."""
        if self._watch is None:
            return
        try:
            self._watch.add(folder)
        except OSError as exc:
            self._unwatched.add(folder)
            self._no_watch(folder, exc)
        else:
            self._unwatched.discard(folder)

    def _no_watch(self, folder: str, exc: OSError) -> None:
        code = exc.errno or 0
        if code not in self._said and code not in _SAID_BY_SCAN:  # not for each of a thousand folders
            self._said.add(code)
            log.warning(
                "the folder %s cannot be watched for changes (%s): scanning it and its subfolders every %g s until it can%s",
                brief(folder), why(exc), POLL_S, _ADVICE.get(code, ""),
            )  # fmt: skip

    def _heed(self, change: Change) -> None:
        if change.what == "gone":
            self.close()
            return
        if change.what == "overflow":
            log.warning("directory events of %s were lost; scanning it", self._root)
            self._scan_at = 0.0
            return
        relative = change.path[len(self._root) + 1 :]
        if not self._backlog.wanted(relative):
            return
        if change.what == "changed":
            self._backlog.add_changed(relative)
        elif change.what == "folder changed" and not relative:
            self._scan_at = 0.0 if self._backlog.lacks(relative) else self._scan_at
        elif change.what == "folder changed" and change.path not in self._unwatched and not self._backlog.lacks(relative):
            pass  # as after each `cp -a`
        elif change.what == "complete":
            self._backlog.add_complete(relative)
        elif change.what == "created":
            self._backlog.add_created(relative)
        elif self._recursive:
            for _ in self._backlog.scan(relative, self._enter):
                pass
