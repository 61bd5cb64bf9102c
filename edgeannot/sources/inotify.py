"""Directory events as the kernel gives them (inotify(7)): which files are complete, which folders are new, when events were lost.

Complete means closed after writing, or renamed into place. Libraries above inotify blur that: some cannot tell a file that was
moved in (complete) from one that was just created, others never say that a file was closed.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, Self

from inotify_simple import Event, INotify, flags

__all__ = ["Change", "TreeWatch"]

# Plain numbers: the library's flag type refuses combinations such as ISDIR with CREATE.
CLOSE_WRITE, MOVED_TO, CREATE, ISDIR = (int(f) for f in (flags.CLOSE_WRITE, flags.MOVED_TO, flags.CREATE, flags.ISDIR))
ATTRIB = int(flags.ATTRIB)
DELETE_SELF, MOVE_SELF, UNMOUNT, IGNORED = (int(f) for f in (flags.DELETE_SELF, flags.MOVE_SELF, flags.UNMOUNT, flags.IGNORED))
OVERFLOW: Final = int(flags.Q_OVERFLOW)
MASK: Final = CLOSE_WRITE | MOVED_TO | CREATE | ATTRIB | DELETE_SELF | MOVE_SELF | int(flags.ONLYDIR)


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
        """What happened, waiting for at most this long when nothing has."""
        return self.interpret(self._inotify.read(timeout=max(0, round(timeout_s * 1000))))

    def interpret(self, events: Iterable[Event]) -> list[Change]:
        """Raw events as changes, in order; keeps the table of watches true."""
        return [change for event in events if (change := self._change(event)) is not None]

    def close(self) -> None:
        """Give the watches back."""
        self._inotify.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._paths)

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
        """A watched folder went away. One that was moved inside the tree has its new path by now, or is added again under it."""
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
