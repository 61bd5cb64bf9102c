"""A control group of our own with a share of one core and a bound on memory, for cgroup v1 and v2; it needs root, or a delegated group."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

__all__ = ["CpuGroup", "MemoryGroup", "NoQuotaError"]

PERIOD_US = 100_000
ROOT = Path("/sys/fs/cgroup")


class NoQuotaError(Exception):
    """This machine gives no quota; the text says why."""


class CpuGroup:
    """Made on entering, removed on leaving; what runs in it must have ended by then."""

    def __init__(self, name: str = "bench") -> None:
        self._old = (ROOT / "cpu" / "cpu.cfs_quota_us").is_file()
        parent = ROOT / "cpu" if self._old else ROOT
        self._path = parent / f"edgeannot-{name}-{os.getpid()}"

    def __enter__(self) -> CpuGroup:
        try:
            if not self._old:
                if "cpu" not in (ROOT / "cgroup.controllers").read_text().split():
                    raise NoQuotaError("the kernel offers no cpu controller here")
                (ROOT / "cgroup.subtree_control").write_text("+cpu")
            self._path.mkdir()
            self.limit(None)
        except OSError as exc:
            raise NoQuotaError(f"no control group can be made here ({exc.strerror}: {exc.filename})") from exc
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._path.rmdir()

    def limit(self, share: float | None) -> None:
        """Of one core; None: as much as there is."""
        if self._old:
            (self._path / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (self._path / "cpu.cfs_quota_us").write_text("-1" if share is None else str(int(share * PERIOD_US)))
        else:
            (self._path / "cpu.max").write_text(f"{'max' if share is None else int(share * PERIOD_US)} {PERIOD_US}")

    def inside(self, command: Sequence[str]) -> list[str]:
        """A command that runs the given one in the group from its first instant."""
        return ["/bin/sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self._path / "cgroup.procs"), *command]


class MemoryGroup:
    """The same with a bound on memory, page cache and swap together; made on entering, removed on leaving."""

    def __init__(self, limit_bytes: int, name: str = "bench") -> None:
        self._limit = limit_bytes
        self._old = (ROOT / "memory" / "memory.limit_in_bytes").is_file()
        self._path = (ROOT / "memory" if self._old else ROOT) / f"edgeannot-{name}-memory-{os.getpid()}"

    def __enter__(self) -> MemoryGroup:
        try:
            if not self._old:
                if "memory" not in (ROOT / "cgroup.controllers").read_text().split():
                    raise NoQuotaError("the kernel offers no memory controller here")
                (ROOT / "cgroup.subtree_control").write_text("+memory")
            self._path.mkdir()
            (self._path / ("memory.limit_in_bytes" if self._old else "memory.max")).write_text(str(self._limit))
            swap = self._path / ("memory.memsw.limit_in_bytes" if self._old else "memory.swap.max")
            if swap.exists():
                swap.write_text(str(self._limit) if self._old else "0")
        except OSError as exc:
            raise NoQuotaError(f"no control group can be made here ({exc.strerror}: {exc.filename})") from exc
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._path.rmdir()

    def peak_bytes(self) -> int:
        """Return the most that was in use, with the page cache that the group has filled; 0 where the kernel does not say."""
        path = self._path / ("memory.max_usage_in_bytes" if self._old else "memory.peak")
        return int(path.read_text()) if path.is_file() else 0

    def kills(self) -> int:
        """Return how many processes the kernel has ended for want of memory."""
        lines = (self._path / ("memory.oom_control" if self._old else "memory.events")).read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.split()[0] == "oom_kill")

    def inside(self, command: Sequence[str]) -> list[str]:
        """A command that runs the given one in the group from its first instant."""
        return ["/bin/sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self._path / "cgroup.procs"), *command]
