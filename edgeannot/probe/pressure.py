"""Pressure stall information: how much of the time work waits for CPU or memory (kernel: accounting/psi.rst).

For the governor, which asks often: `find_pressure` looks once which file speaks for this process, `read_pressure` is one read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgeannot.probe.limits import group_folders, parse_cgroup, parse_mounts
from edgeannot.probe.texts import read

__all__ = ["Pressure", "find_pressure", "parse_pressure", "read_pressure"]


@dataclass(frozen=True, slots=True)
class Pressure:
    """Shares of time in percent, 0 to 100, averaged over the last 10 and 60 seconds."""

    some_10s: float
    """At least one task waited."""
    some_60s: float
    full_10s: float
    """All tasks waited at once: nothing was done."""
    full_60s: float


def parse_pressure(text: str) -> Pressure | None:
    """The figures in a pressure file; None where the text is not one. Kernels before 5.13 leave out `full` for the CPU: 0."""
    rows = {}
    for found in re.finditer(r"^(some|full) avg10=([\d.]{1,9}) avg60=([\d.]{1,9}) ", text, re.MULTILINE):
        if all(re.fullmatch(r"\d+(?:\.\d+)?", value) for value in found.group(2, 3)):
            rows[found[1]] = (float(found[2]), float(found[3]))
    if "some" not in rows:
        return None
    return Pressure(*rows["some"], *rows.get("full", (0.0, 0.0)))


def find_pressure(kind: Literal["cpu", "memory", "io"], root: Path = Path("/")) -> Path | None:
    """The file to watch: that of this process's own group (version 2), else the whole system's; None where the kernel has neither."""
    groups = parse_cgroup(read(root / "proc/self/cgroup"))
    mounts = tuple(mount for mount in parse_mounts(read(root / "proc/self/mountinfo")) if mount.version == 2)
    folders = [folder for _, folder in group_folders(root, mounts, groups, kind)][:1]
    for path in (*(folder / f"{kind}.pressure" for folder in folders), root / "proc/pressure" / kind):
        if read_pressure(path):
            return path
    return None


def read_pressure(path: Path) -> Pressure | None:
    """The figures now; None where the file cannot be read any more."""
    return parse_pressure(read(path))
