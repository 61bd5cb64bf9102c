"""Grade the board low, mid or high: by a rule over its facts, and by a measurement that may overrule it; the settings with that profile.

By facts, the first that applies:

* under 0.9 GiB of memory that may be used: low, and no measurement lifts it, as models and pictures must fit first;
* at most one core's worth of processor (affinity, cpuset and quota together; half a core counts as one): low;
* int8 instructions (dot product, i8mm, VNNI) on cores that reorder, at least two cores' worth: high;
* int8 instructions otherwise, Arm cores that reorder (Cortex-A57 and up), x86 with AVX2, or with SSE4.1 on four cores: mid;
* anything else, and what is not known: low.

Flags lie: emulators and hypervisors show what they do not have or hide what they have, quotas and heat take away what is there. So
one second of convolutions is measured where it can be (`measure_child.micro_benchmark`), in int8 giga-operations a second, and where that
says another grade it counts: downwards as far as it goes, upwards by one step, as speed for a second is not yet speed for an hour.

Imports stay light: the settings (pydantic) and the measuring are loaded where they are needed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edgeannot.base.foreign import number_of
from edgeannot.choice.auto_runtime import remembered_runtime, settle_runtime
from edgeannot.choice.measurements import NOISY, Measurements, runtime_named, thread_counts
from edgeannot.probe import Board, read_board

if TYPE_CHECKING:
    from edgeannot.settings import Loaded
    from edgeannot.vision.data import Profile  # numpy comes with it

__all__ = [
    "HIGH_GOPS",
    "MID_GOPS",
    "Grade",
    "Measuring",
    "Micro",
    "grade",
    "grade_for_next_start",
    "is_noisy",
    "load_for_run",
    "load_with_auto_profile",
    "micro_of",
]

log = logging.getLogger(__name__)

Measuring = Literal["no", "missing", "noisy", "again"]
"""What to measure: nothing, what is not remembered, that and what was measured on a busy board, or everything."""

_MICRO_THREADS = 4
"""The bounds below are drawn from measurements with so many."""

_GIB = 1 << 30
LEAST_MEMORY = 0.9
"""In GiB; boards sold with 1 GiB show 0.9 to 0.98 of it, those with 512 MiB less than half."""
MID_GOPS = 20.0
HIGH_GOPS = 60.0
"""int8 giga-operations a second (a multiplication and an addition are two) of the micro-benchmark that separate the grades.

From published times of SSDLite MobileNet v2 at 300 px in int8, about 1.3 giga-operations: 122 ms on a Raspberry Pi 3 B+ and 57 ms on a
Pi 4 (github.com/NobuoTsukamoto/benchmarks, TFLite 2.5, 4 threads) are 11 and 23 a second, and a Pi 5 is 4.8 times as fast as a Pi 4
(github.com/aallan/benchmarking-ml-on-the-edge: 113 against 23.5 ms), so 109. Between them lie, as geometric means, 16 and 50. The
micro-benchmark, which has no large pictures and no detections to go through, runs 1.26 times as fast as the bundled SSDLite MobileNet v2
(measured on x86 with LiteRT, 1 and 2 threads), so 20 and 63.
"""
_SSE_CORES = 4
"""Cores with SSE4.1 that together keep up with a Raspberry Pi 4: XNNPACK has int8 kernels for SSE4.1, and a Celeron J1900 of four
such cores does in 7-zip what a Pi 4 does (6560 and 5790 MIPS in the results of github.com/ThomasKaiser/sbc-bench)."""
_INT8 = ("dotprod", "i8mm", "avx-vnni", "avx512-vnni")
_STEPS: tuple[Profile, ...] = ("low", "mid", "high")


@dataclass(frozen=True, slots=True)
class Micro:
    """What `measure_child.micro_benchmark` measured."""

    int8_gops: float
    """int8 giga-operations a second; 0 where int8 could not be run."""
    float_gops: float
    """The same network in float32."""
    threads: int
    seconds: float
    """That both took together."""
    wait_share: float = 0.0
    """As in `measurements.Sample`."""

    @property
    def profile(self) -> Profile:
        """The grade that the speed alone would give."""
        return "high" if self.int8_gops >= HIGH_GOPS else "mid" if self.int8_gops >= MID_GOPS else "low"


@dataclass(frozen=True, slots=True)
class Grade:
    """A profile and why, one reason an entry."""

    profile: Profile
    reasons: tuple[str, ...]

    @property
    def reason(self) -> str:
        """All reasons in one line."""
        return "; ".join(self.reasons)


def grade(board: Board, micro: Micro | None = None) -> Grade:
    """Grade the board; `micro` may overrule the flags."""
    if board.memory_bytes and board.memory_bytes < LEAST_MEMORY * _GIB:
        return Grade("low", (_memory_reason(board), *_notes(board)))
    profile, reason = _by_flags(board)
    reasons = [reason]
    if micro is not None:
        measured, by_flags = _STEPS.index(micro.profile), _STEPS.index(profile)
        if measured < by_flags and is_noisy(micro, board):
            reasons.append(f"{_figures(micro)}, not counted: CPU contention {micro.wait_share:.0%}")
        else:
            profile = _STEPS[min(measured, by_flags + 1)]
            reasons.append(_measured_reason(micro, by_flags, measured))
    return Grade(profile, (*reasons, *_notes(board)))


def _memory_reason(board: Board) -> str:
    reason = f"{board.memory_bytes / _GIB:.2g} GiB of memory, under {LEAST_MEMORY:g} GiB"
    if board.limits.memory_bytes != board.memory_bytes:
        return reason
    whole = f" (the board has {board.memory_total_bytes / _GIB:.2g} GiB)" if board.memory_total_bytes else ""
    return f"{reason}, by the control group's limit{whole}"


def _by_flags(board: Board) -> tuple[Profile, str]:
    if not board.processor.clusters or board.usable_cores <= 1:
        return "low", _one_core_reason(board)
    what = f"{board.usable_cores:g} cores ({_kinds(board)})"
    fast = [name for name in _INT8 if name in board.processor.int8]
    if fast:
        return _with_int8(board, f"{what} with int8 instructions ({', '.join(fast)})")
    if board.processor.family == "arm" and any(cluster.out_of_order for cluster in board.clusters):
        return "mid", f"{what} without int8 instructions, but big cores among them"
    if "avx2" in board.processor.int8:
        return "mid", f"{what} with AVX2, without VNNI"
    if "sse4.1" in board.processor.int8 and board.usable_cores >= _SSE_CORES:
        return "mid", f"{what} with SSE4.1, without AVX2, but at least {_SSE_CORES} of them"
    return "low", f"{what} without {_wanted(board)}"


def _with_int8(board: Board, what: str) -> tuple[Profile, str]:
    if board.usable_cores < 2:
        return "mid", f"{what}, but under two cores' worth of them"
    # x86 with VNNI always reorders, and of a core that is not known it is assumed: the unknown are new.
    if all(cluster.out_of_order is False for cluster in board.clusters):
        return "mid", f"{what}, but small cores"
    return "high", what


def _kinds(board: Board) -> str:
    return " + ".join(dict.fromkeys(cluster.core for cluster in reversed(board.clusters))) or "unknown"


def _wanted(board: Board) -> str:
    if board.processor.family == "x86":
        return "AVX2 or four cores with SSE4.1"
    if board.processor.family == "riscv":
        return "a published figure for its vector unit" if "rvv" in board.processor.int8 else "a vector unit"
    return "int8 instructions or big cores" if "neon" in board.processor.int8 else "NEON"


def _one_core_reason(board: Board) -> str:
    if not board.processor.clusters:
        return "nothing is known of the processor"
    quota = board.limits.quota_cores
    if quota is not None and quota <= 1:
        return f"{quota:g} of a core, by the control group's CPU quota: judged as one core ({_kinds(board)})"
    if len(board.cpus) < len(board.processor.cpus):
        return f"one core ({_kinds(board)}) of {len(board.processor.cpus)}, by this process's affinity"
    return f"one core ({_kinds(board)})"


def is_noisy(micro: Micro, board: Board) -> bool:
    """Return whether it was measured under CPU contention. Under a CPU quota the waiting is part of the figure."""
    return board.limits.quota_cores is None and micro.wait_share > NOISY


def _measured_reason(micro: Micro, by_flags: int, measured: int) -> str:
    if measured == by_flags:
        return f"{_figures(micro)}: as its facts say"
    if measured < by_flags:
        return f"{_figures(micro)}: slower than its facts say"
    return f"{_figures(micro)}: faster than its facts say" + (", raised by one step" if measured > by_flags + 1 else "")


def _figures(micro: Micro) -> str:
    figures = f"measured {micro.int8_gops:.3g} int8 giga-operations a second with {number_of(micro.threads, 'thread')}"
    if micro.float_gops > 1.5 * micro.int8_gops:
        figures += f" (float: {micro.float_gops:.3g}, so int8 is slow in this runtime)"
    return figures


def _notes(board: Board) -> list[str]:
    """Return what does not change the grade but should be known with it."""
    notes = []
    if board.python is not None and board.python.bits == 32 and board.machine in {"aarch64", "x86_64"}:
        notes.append("a 32-bit Python on a 64-bit kernel: a 64-bit system would be faster and have LiteRT")
    if board.runtime is not None and board.runtime.int8_xnnpack is False:
        notes.append(f"{board.runtime.name} runs int8 without XNNPACK on this processor: LiteRT is faster")
    if any(policy.governor == "powersave" and policy.allowed_mhz < policy.max_mhz for policy in board.frequencies):
        notes.append("the governor keeps the clock low")
    if any(device.slows_processor for device in board.cooling):
        notes.append("it is being slowed down by heat now")
    return notes


def micro_of(
    board: Board,
    data_dir: Path,
    runtime: str = "auto",
    *,
    measuring: Measuring = "no",
    stopped: Callable[[], bool] = lambda: False,
) -> Micro | None:
    """Return the micro-benchmark of the board as it is limited now, remembered or measured in a child process (two seconds).

    None where it is not known: not measured, or the child died, which is logged.
    """
    known = Measurements.of_board(data_dir, board, runtime)
    found = Micro(**known.micro) if known.micro else None
    wanted = found is None or (measuring == "noisy" and is_noisy(found, board))
    if measuring == "again" or (measuring != "no" and wanted):
        from edgeannot.base.child import Died, Refused  # noqa: PLC0415 - see above
        from edgeannot.choice.measure import measure_micro  # noqa: PLC0415 - see above

        try:
            found = measure_micro(thread_counts(board, None, _MICRO_THREADS)[-1], runtime_named(board, runtime), stopped=stopped)
        except (Died, Refused) as exc:
            log.warning("the runtime %s in the micro-benchmark", exc)
            return None
        if not (found.int8_gops or found.float_gops):
            log.warning("the runtime ran no network of the micro-benchmark, so the board is graded by its facts")
            return None
        known.micro = asdict(found)
        known.save()
    return found


def load_with_auto_profile(overrides: Mapping[str, Any], config_file: Path | None, board: Board, measuring: Measuring = "no") -> Loaded:
    """Load the settings from all layers, on this board. measuring: whether the micro-benchmark is run where the profile is auto."""
    from edgeannot.settings import load_settings  # noqa: PLC0415 - see above

    def graded() -> tuple[Profile, str]:
        # Measurements are remembered in data_dir, which is a setting itself and does not depend on the profile.
        first = load_settings(overrides, config_file, grade=lambda: ("low", "not yet graded")).settings
        # Where the model is set the grade decides little: not worth two seconds.
        now: Measuring = measuring if first.model is None else "no"
        settle = remembered_runtime if now == "no" else settle_runtime
        found = grade(board, micro_of(board, first.data_dir, settle(first.runtime, first.data_dir, board).runtime, measuring=now))
        return found.profile, found.reason

    return load_settings(overrides, config_file, grade=graded)


def load_for_run(overrides: Mapping[str, Any], config_file: Path | None, board: Board | None = None, measuring: Measuring = "no") -> Loaded:
    """Load the settings with the runtime that `auto` means here. Raises what `settle_runtime` does."""
    board = board or read_board()
    loaded = load_with_auto_profile(overrides, config_file, board, measuring)
    settings = loaded.settings
    runtime = settle_runtime(settings.runtime, settings.data_dir, board).runtime
    return loaded.model_copy(update={"settings": settings.model_copy(update={"runtime": runtime})})


def grade_for_next_start(loaded: Loaded, board: Board, stopped: Callable[[], bool] = lambda: False) -> None:
    """Run the micro-benchmark where the profile is auto and it was never run uncontended. This run keeps its profile: rates hang on it."""
    settings = loaded.settings
    if settings.profile != "auto":
        return
    found = grade(board, micro_of(board, settings.data_dir, settings.runtime, measuring="noisy", stopped=stopped))
    if found.profile != loaded.profile:
        log.info("profile %s from the next start on: %s", found.profile, found.reason)
