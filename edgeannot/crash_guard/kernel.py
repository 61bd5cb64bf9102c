"""What the kernel tells of the death of a process: which boot it was in, and how many processes ran out of memory.

A process that is killed learns nothing of it, and SIGKILL looks the same whether the kernel sent it for want of memory or somebody
else did. The kernel counts the first kind: see proc(5) on /proc/vmstat, and its admin-guide/cgroup-v2.rst on memory.events.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edgeannot.probe.kernel_files import read
from edgeannot.probe.limits import group_folders, parse_cgroup, parse_mounts

__all__ = ["Kills", "OomCounter", "boot_id", "killed_between"]

_OOM_KILL = re.compile(r"^oom_kill (\d{1,18})$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Kills:
    """How many processes the kernel has killed for want of memory."""

    group: str = ""
    """The control group that `in_group` counts for: a new one of the same name begins at 0 again."""
    in_group: int | None = None
    on_board: int | None = None
    """None: the kernel does not say."""


class OomCounter:
    """Finds once where the kernel counts, so that asking costs two short reads."""

    def __init__(self, root: Path = Path("/")) -> None:
        """root: stands for / in tests."""
        self._vmstat = root / "proc/vmstat"
        self._events, self._group = _events_file(root)

    def read(self) -> Kills:
        """The figures now."""
        in_group = _count(self._events) if self._events is not None else None
        return Kills(self._group, in_group, _count(self._vmstat))


def killed_between(before: Kills, after: Kills) -> bool:
    """Whether the kernel killed a process for want of memory in between: one of this group, where that group is still there."""
    if before.group == after.group and before.in_group is not None and after.in_group is not None:
        return after.in_group > before.in_group
    return before.on_board is not None and after.on_board is not None and after.on_board > before.on_board


def boot_id(root: Path = Path("/")) -> str:
    """Another text after each start of the kernel; empty where it is not told."""
    return read(root / "proc/sys/kernel/random/boot_id").strip()[:64]


def _count(path: Path) -> int | None:
    found = _OOM_KILL.search(read(path))
    return int(found[1]) if found else None


def _events_file(root: Path) -> tuple[Path | None, str]:
    """The file that counts for this process's own group, and what tells that group from a later one of the same name."""
    groups, mounts = parse_cgroup(read(root / "proc/self/cgroup")), parse_mounts(read(root / "proc/self/mountinfo"))
    for version, folder in group_folders(root, mounts, groups, "memory"):
        path = folder / ("memory.events" if version == 2 else "memory.oom_control")
        try:
            return path, f"{folder}#{folder.stat().st_ino}"
        except OSError:
            return None, ""
    return None, ""
