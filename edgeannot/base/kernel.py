"""What the kernel tells: its small files, where a missing or odd one is no error, and the control groups of this process, version 1 and 2.

A group's files lie under the mount point that /proc/self/mountinfo names, at the group's path from /proc/self/cgroup less the
part of the hierarchy that the mount leaves out (in a container: often all of it). Limits of parents hold for their children,
so each is looked for up to the mount point. See cgroups(7), proc(5) and the kernel's admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

__all__ = ["Mount", "free_memory_bytes", "group_folders", "number", "parse_cgroup", "parse_mounts", "read"]

_LONGEST = 1 << 22
"""Far above /proc/cpuinfo of a machine of hundreds of cores; a special file that never ends must not be read for ever."""
_PIECE = 1 << 16
"""What is asked for at a time: the kernel refuses larger reads of what lies in /proc/sys (ENOMEM)."""


def read(path: Path) -> str:
    """Return the text of a file; empty where it cannot be read. Device tree texts end in NULs, which are kept."""
    try:
        with path.open("rb", buffering=0) as file:
            pieces: list[bytes] = []
            while (piece := file.read(_PIECE)) and len(pieces) < _LONGEST // _PIECE:
                pieces.append(piece)
            return b"".join(pieces).decode("utf-8", errors="replace")
    except (OSError, ValueError):  # ValueError: a path with a NUL in it
        return ""


def number(text: str) -> int | None:
    """Return the integer that the text is; None where it is not one."""
    stripped = text.strip()
    return int(stripped) if re.fullmatch(r"-?[0-9]{1,19}", stripped) else None


@dataclass(frozen=True, slots=True)
class Mount:
    """One mounted hierarchy of control groups."""

    root: str
    """The group that is seen at the mount point."""
    point: str
    version: int
    controllers: frozenset[str]
    """Of a version 1 hierarchy."""


def parse_mounts(mountinfo: str) -> tuple[Mount, ...]:
    """Return the control group mounts in the text of /proc/self/mountinfo."""
    mounts = []
    for line in mountinfo.splitlines():
        before, dash, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")
        if dash and len(fields) >= 5 and len(kind) >= 3 and kind[0] in {"cgroup", "cgroup2"}:
            mounts.append(Mount(_plain(fields[3]), _plain(fields[4]), 2 if kind[0] == "cgroup2" else 1, frozenset(kind[2].split(","))))
    return tuple(mounts)


def _plain(path: str) -> str:
    # mountinfo writes blanks and backslashes in octal.
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), path)


def parse_cgroup(text: str) -> dict[str, str]:
    """Map each controller to the process's group, from the text of /proc/self/cgroup; the key "" is the unified hierarchy (version 2)."""
    groups = {}
    for line in text.splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3:
            groups.update(dict.fromkeys(parts[1].split(","), parts[2]))
    return groups


def group_folders(root: Path, controller: str) -> Iterator[tuple[int, Path]]:
    """Yield version and folder of the process's group for a controller, then those of its parents up to the mount point.

    Where a controller is mounted in version 1, version 2 does not have it: that is how hybrid systems share them out. The controller ""
    stands for version 2 itself.
    """
    groups, mounts = parse_cgroup(read(root / "proc/self/cgroup")), parse_mounts(read(root / "proc/self/mountinfo"))
    old = [mount for mount in mounts if mount.version == 1 and controller in mount.controllers and controller in groups]
    new = [mount for mount in mounts if mount.version == 2 and "" in groups]
    path = PurePosixPath(groups.get(controller if old else "", "/"))
    # A mount may show another part of the hierarchy, such as another container's: one that shows ours comes first.
    for mount in sorted(old or new, key=lambda mount: not path.is_relative_to(mount.root))[:1]:
        # Where none does, all we can see is what is at its point.
        below = path.relative_to(mount.root) if path.is_relative_to(mount.root) else PurePosixPath()
        if ".." in below.parts:
            below = PurePosixPath()
        point = root / mount.point.lstrip("/")
        for folder in (below, *below.parents) if below.parts else (below,):
            yield mount.version, point / folder


def free_memory_bytes(root: Path = Path("/")) -> int | None:
    """Return the free memory of the machine, or within this process's control groups where that is less; None: not known."""
    found = re.search(r"^MemAvailable:\s+(\d{1,15}) kB", read(root / "proc/meminfo"), re.MULTILINE)
    free = [int(found[1]) * 1024] if found else []
    for version, folder in group_folders(root, "memory"):
        names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
        limit, used = (number(read(folder / name)) for name in names)
        if limit is not None and used is not None:
            cache = re.search(r"^inactive_file (\d{1,15})$", read(folder / "memory.stat"), re.MULTILINE)
            free.append(limit - used + (int(cache[1]) if cache else 0))
    return min(free, default=None)
