"""What measurements on this board are valid for, and how many threads may be chosen from."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgeannot.choice.measurements import Conditions
from edgeannot.probe import Board
from edgeannot.probe.software import runtime_version

__all__ = ["conditions_of", "runtime_named", "thread_counts"]


def thread_counts(board: Board, threads: int | None, max_threads: int) -> tuple[int, ...]:
    """The counts to choose from: the one that is set, else 1 up to the cores there are.

    Under a CPU quota more threads than its cores, rounded up, use the allowance up faster and win nothing.
    """
    if threads is not None:
        return (threads,)
    quota = board.limits.quota_cores
    most = min(max(1, len(board.cpus)), max_threads, math.ceil(quota) if quota else max_threads)
    return tuple(range(1, most + 1))


def conditions_of(board: Board, runtime: str = "auto") -> Conditions:
    """What measurements on this board, by this process, are valid for."""
    name = runtime_named(board, runtime)
    bits = f" {board.python.bits}-bit" if board.python else ""
    return Conditions(
        cpu=f"{board.machine} {board.processor.name} ({', '.join(board.processor.int8)})",
        cpus=_ranges(board.cpus),
        quota=board.limits.quota_cores,
        governor=board.governor,
        runtime=f"{name} {runtime_version(name)}{bits}",
    )


def runtime_named(board: Board, runtime: str) -> str:
    """The runtime that `auto` means here; `auto` again where none is installed, so that loading it says what to do."""
    return board.runtime.name if runtime == "auto" and board.runtime else runtime


def _ranges(numbers: Sequence[int]) -> str:
    """Numbers as the kernel lists them: 0, 1, 2, 5 is "0-2,5"."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], number]
        else:
            parts.append([number])
    return ",".join("-".join(map(str, part)) for part in parts)
