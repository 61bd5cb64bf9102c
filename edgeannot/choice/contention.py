"""How much a measurement was disturbed: the time in which it could have run and did not."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Since", "stolen_ticks"]


@dataclass(frozen=True, slots=True)
class Since:
    """A moment from which on the waiting of the calling thread is counted."""

    at_s: float
    waited_s: float
    stolen: dict[int, int]

    @classmethod
    def now(cls) -> Since:
        """From here on."""
        return cls(time.perf_counter(), _waited_s(), _stolen_now())

    def seconds(self) -> float:
        """Seconds that have passed."""
        return time.perf_counter() - self.at_s

    def waited(self) -> float:
        """Share of the time, 0 to 1, in which the thread waited for a core that another program had, or in which the host gave a core
        to another guest: of the core that was robbed most, whichever the thread was on. 0 where the kernel does not count.
        """
        # A guest that moves to another host may find its count lower.
        ticks = max((0, *(ticks - self.stolen.get(cpu, ticks) for cpu, ticks in _stolen_now().items())))
        lost_s = _waited_s() - self.waited_s + ticks / os.sysconf("SC_CLK_TCK")
        return min(1.0, max(0.0, lost_s / max(self.seconds(), 1e-9)))


def stolen_ticks(stat: str) -> dict[int, int]:
    """Core -> ticks that the host of a virtual machine kept it from running since the start: "steal" in /proc/stat (proc_stat(5))."""
    return {int(found[1]): int(found[2]) for found in re.finditer(r"^cpu(\d+)(?: \d+){7} (\d+)", stat, re.MULTILINE)}


def _stolen_now() -> dict[int, int]:
    try:
        found = stolen_ticks(Path("/proc/stat").read_text())
        return {cpu: found[cpu] for cpu in os.sched_getaffinity(0) if cpu in found}
    except (OSError, ValueError):
        return {}


def _waited_s() -> float:
    """Seconds that this thread was ready to run while another had its core (kernel: scheduler/sched-stats.rst); 0 where not counted."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0
