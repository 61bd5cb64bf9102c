"""A watched folder: keeps its backlog true by events and by scans, also while the folder goes away and comes back."""

from __future__ import annotations

import logging
import math
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from edgeannot.errors import MissingError
from edgeannot.sources.backlog import Backlog
from edgeannot.sources.contract import Stop
from edgeannot.sources.inotify import Change, TreeWatch

__all__ = ["IDLE_S", "Folder"]

IDLE_S = 0.5
"""Longest time in one wait, so that a stop is noticed and the caller gets its Tick."""
POLL_S = 5.0
"""Longest time between scans where the kernel gives no watch."""
SCAN_SHARE = 200
"""A scan is repeated after at least so many times its own duration: no more than half a percent of one core."""

log = logging.getLogger(__name__)


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
        self._reported: OSError | None = None
        self.trouble = ""
        """What is wrong at the moment, one sentence; empty when all is well."""

    @property
    def scan_due(self) -> bool:
        """Whether the whole folder has to be looked at."""
        return time.monotonic() >= self._scan_at

    def scan(self, stop: Stop) -> Iterator[None]:
        """Look at the whole folder; yields where that takes long. Raises MissingError with `once` when the folder is away."""
        began = time.monotonic()
        if not self._open(stop):
            return
        spoke = began
        for _ in self._backlog.scan(enter=self._enter):
            if stop.is_set():
                return
            if time.monotonic() - spoke > IDLE_S:
                yield
                spoke = time.monotonic()
        ended = time.monotonic()
        every_s = self._rescan_s if self._watch is not None else min(self._rescan_s, POLL_S)
        self._scan_at = ended + max(every_s, SCAN_SHARE * (ended - began))

    def listen(self, stop: Stop) -> None:
        """Take in what the kernel says; wait a moment for it when no file is ready."""
        now = time.monotonic()
        wait_s = max(0.0, min(IDLE_S, self._scan_at - now, self._backlog.settle_due - now))
        if self._backlog.ready or (self._once and not self._backlog):
            wait_s = 0.0
        if self._watch is not None:
            for change in self._watch.read(wait_s):
                self._heed(change)
        elif wait_s:
            stop.wait(wait_s)

    def close(self) -> None:
        """Give the watches back; a later `scan` begins anew."""
        if self._watch is not None:
            self._watch.close()
        self._watch = self._watched = None
        self._scan_at = 0.0

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
        if self._watch is None and self._reported is None and not self._once:
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
        except (FileNotFoundError, PermissionError):
            return  # the scan says so
        except OSError as exc:
            self._no_watch(exc)

    def _enter(self, folder: str) -> None:
        """A watch on a folder that is about to be scanned: what comes after it gives an event, what came before is found."""
        if self._watch is None:
            return
        try:
            self._watch.add(folder)
        except PermissionError:
            return  # the scan says so
        except OSError as exc:
            self._no_watch(exc)

    def _no_watch(self, exc: OSError) -> None:
        if self._reported is None:
            log.warning(
                "the system gives no more directory watches (%s): %s is scanned every %g s instead; "
                "raise fs.inotify.max_user_watches or fs.inotify.max_user_instances",
                exc.strerror, self._root, POLL_S,
            )  # fmt: skip
        self._reported = exc
        if self._watch is not None:
            self._watch.close()
            self._watch = None

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
        if change.what == "complete":
            self._backlog.add_complete(relative)
        elif change.what == "created":
            self._backlog.add_created(relative)
        elif self._recursive:
            for _ in self._backlog.scan(relative, self._enter):
                pass
