"""How much memory this process can still take, by the machine and by its control groups."""

from __future__ import annotations

import re
from pathlib import Path

from edgeannot.probe.limits import group_folders, parse_cgroup, parse_mounts
from edgeannot.probe.texts import number, read

__all__ = ["free_memory_bytes"]


def free_memory_bytes(root: Path = Path("/")) -> int | None:
    """Memory that can still be taken: of the machine, and within the limits of this process's control groups; None: not known."""
    found = re.search(r"^MemAvailable:\s+(\d{1,15}) kB", read(root / "proc/meminfo"), re.MULTILINE)
    free = [int(found[1]) * 1024] if found else []
    groups, mounts = parse_cgroup(read(root / "proc/self/cgroup")), parse_mounts(read(root / "proc/self/mountinfo"))
    for version, folder in group_folders(root, mounts, groups, "memory"):
        names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
        limit, used = (number(read(folder / name)) for name in names)
        if limit is not None and used is not None:
            cache = re.search(r"^inactive_file (\d{1,15})$", read(folder / "memory.stat"), re.MULTILINE)
            free.append(limit - used + (int(cache[1]) if cache else 0))
    return min(free, default=None)
