"""The limits of this process: affinity from /proc/self/status; quota, memory and pressure from its control groups, version 1 and 2.

See proc(5) and the kernel's accounting/psi.rst.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgeannot.base.kernel import group_folders, number, parse_cgroup, parse_mounts, read
from edgeannot.probe.board import Limits

__all__ = [
    "Pressure",
    "find_pressure",
    "parse_cpu_list",
    "parse_cpu_max",
    "parse_pressure",
    "read_limits",
    "read_pressure",
]

_NO_LIMIT = 1 << 60
"""Version 1 writes "no limit" as the largest multiple of a page; nothing real is near it."""
_MAX_CPU = 4096


def parse_cpu_list(text: str) -> tuple[int, ...]:
    """Return the numbers in a kernel's list: "0-2,5" is 0, 1, 2, 5. What is not a list gives none."""
    numbers: set[int] = set()
    for part in text.strip().split(","):
        found = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", part.strip())
        if found:
            numbers.update(range(int(found[1]), min(int(found[2] or found[1]), _MAX_CPU) + 1))
    return tuple(sorted(numbers))


def parse_cpu_max(text: str) -> float | None:
    """Parse the cores in version 2's cpu.max: "50000 100000" is 0.5; "max 100000" is None."""
    found = re.fullmatch(r"(\d{1,15}) (\d{1,15})", text.strip())
    return int(found[1]) / int(found[2]) if found and int(found[2]) else None


def read_limits(root: Path = Path("/")) -> Limits:
    """Return the limits of this process; `root` stands for /."""
    mounts = parse_mounts(read(root / "proc/self/mountinfo"))
    groups = parse_cgroup(read(root / "proc/self/cgroup"))
    quotas, sizes, cpusets, versions = [], [], [], set()
    for version, folder in group_folders(root, mounts, groups, "cpu"):
        versions.add(version)
        quotas.append(parse_cpu_max(read(folder / "cpu.max")) if version == 2 else _quota_v1(folder))
    for version, folder in group_folders(root, mounts, groups, "memory"):
        versions.add(version)
        names = ("memory.max", "memory.high") if version == 2 else ("memory.limit_in_bytes",)
        sizes += [number(read(folder / name)) for name in names]
    for version, folder in group_folders(root, mounts, groups, "cpuset"):
        cpusets.append(parse_cpu_list(read(folder / ("cpuset.cpus.effective" if version == 2 else "cpuset.cpus"))))
    return Limits(
        cpus=_affinity(read(root / "proc/self/status")) or next((cpus for cpus in cpusets if cpus), ()),
        quota_cores=min((quota for quota in quotas if quota), default=None),
        memory_bytes=min((size for size in sizes if size and 0 < size < _NO_LIMIT), default=None),
        cgroup="+".join(f"v{version}" for version in sorted(versions)),
    )


def _affinity(status: str) -> tuple[int, ...]:
    found = re.search(r"^Cpus_allowed_list:\s*(\S+)$", status, re.MULTILINE)
    return parse_cpu_list(found[1]) if found else ()


def _quota_v1(folder: Path) -> float | None:
    quota, period = number(read(folder / "cpu.cfs_quota_us")), number(read(folder / "cpu.cfs_period_us"))
    return quota / period if quota and period and quota > 0 and period > 0 else None


@dataclass(frozen=True, slots=True)
class Pressure:
    """Shares of time in percent, 0 to 100, averaged over the last 10 seconds."""

    some_10s: float
    """At least one task waited."""
    full_10s: float
    """All tasks waited at once: nothing was done."""


def parse_pressure(text: str) -> Pressure | None:
    """Return the figures in a pressure file; None where the text is not one. Kernels before 5.13 leave out `full` for the CPU: 0."""
    rows = {}
    for found in re.finditer(r"^(some|full) avg10=([\d.]{1,9}) avg60=", text, re.MULTILINE):
        if re.fullmatch(r"\d+(?:\.\d+)?", found[2]):
            rows[found[1]] = float(found[2])
    if "some" not in rows:
        return None
    return Pressure(rows["some"], rows.get("full", 0.0))


def find_pressure(kind: Literal["cpu", "memory", "io"], root: Path = Path("/")) -> Path | None:
    """Return the pressure file of this process's group (version 2), else of the whole system; None where the kernel has neither."""
    groups = parse_cgroup(read(root / "proc/self/cgroup"))
    mounts = tuple(mount for mount in parse_mounts(read(root / "proc/self/mountinfo")) if mount.version == 2)
    folders = [folder for _, folder in group_folders(root, mounts, groups, kind)][:1]
    for path in (*(folder / f"{kind}.pressure" for folder in folders), root / "proc/pressure" / kind):
        if read_pressure(path):
            return path
    return None


def read_pressure(path: Path) -> Pressure | None:
    """Return the figures now; None where the file cannot be read any more."""
    return parse_pressure(read(path))
