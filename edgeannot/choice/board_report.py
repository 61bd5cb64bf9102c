"""A board, its grade and its micro-benchmark as a table for people and as values for JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from edgeannot.choice.grade import is_disturbed
from edgeannot.probe.clocks import throttle_reasons

if TYPE_CHECKING:
    from edgeannot.choice.grade import Grade, Micro
    from edgeannot.probe import Board

__all__ = ["as_json", "as_text"]

_GIB = 1 << 30


def as_text(board: Board, found: Grade, micro: Micro | None) -> str:
    """Lines of "name  value"; what is not known is left out, but for what everybody looks for."""
    rows = [*_rows(board), *_micro_row(micro, board), ("profile", found.profile), *(("", reason) for reason in found.reasons)]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def _rows(board: Board) -> Iterator[tuple[str, str]]:
    yield "board", ", ".join([board.name or "not named", *board.compatible[-1:]])
    processor = board.processor
    threads = f", {len(processor.cpus)} hardware threads of {processor.cores} cores" if processor.cores != len(processor.cpus) else ""
    yield "processor", f"{processor.name} ({board.machine or 'unknown machine'}{threads})"
    yield "for int8", ", ".join(processor.int8) or "nothing known"
    yield "may use", _usable(board)
    yield "memory", _memory(board)
    for policy in board.frequencies:
        yield "clock", _clock(policy.cpus, policy.now_mhz, policy.min_mhz, policy.max_mhz, policy.governor)
    if board.zones:
        yield "heat", ", ".join(f"{zone.name} {zone.celsius:.0f} °C" for zone in board.zones)
    yield from (("cooling", text) for text in _throttling(board))
    runtime = board.runtime
    yield "runtime", f"{runtime.name} {runtime.version}{_xnnpack(runtime.int8_xnnpack)}" if runtime else "none installed"
    if board.python:
        yield "Python", f"{board.python.version}, {board.python.bits}-bit ({board.python.soabi})"


def _usable(board: Board) -> str:
    cpus, all_cpus = len(board.cpus), len(board.processor.cpus)
    parts = [f"{cpus} of {all_cpus} processors" if cpus != all_cpus else f"all {cpus} processors"]
    if board.limits.quota_cores is not None:
        parts.append(f"{board.limits.quota_cores:g} cores' worth of time (CPU quota)")
    return ", ".join(parts)


def _memory(board: Board) -> str:
    if not board.memory_bytes:
        return "not known"
    limited = board.memory_total_bytes and board.memory_bytes < board.memory_total_bytes
    whole = f" of {board.memory_total_bytes / _GIB:.2f} GiB (control group)" if limited else ""
    return f"{board.memory_bytes / _GIB:.2f} GiB{whole}"


def _clock(cpus: tuple[int, ...], now: int, low: int, high: int, governor: str) -> str:
    where = f"processors {cpus[0]}-{cpus[-1]}: " if len(cpus) > 1 else f"processor {cpus[0]}: " if cpus else ""
    current = f", now {now} MHz" if now else ""
    return f"{where}{low} to {high} MHz{current}" + (f", governor {governor}" if governor else "")


def _throttling(board: Board) -> Iterator[str]:
    for device in board.cooling:
        if device.slows_processor:
            yield f"{device.kind} slows the processor down: step {device.state} of {device.max_state}"
    if board.firmware_throttle is not None:
        yield "; ".join(throttle_reasons(board.firmware_throttle)) or "the firmware reports no throttling since it was started"


def _xnnpack(used: bool | None) -> str:
    return ", int8 not known to be in XNNPACK" if used is None else ", int8 in XNNPACK" if used else ", int8 without XNNPACK"


def _micro_row(micro: Micro | None, board: Board) -> Iterator[tuple[str, str]]:
    if micro is not None:
        if is_disturbed(micro, board):
            yield (
                "busy",
                f"others had the core {micro.waited:.0%} of the time meanwhile; --remeasure when it is at rest",
            )
        figures = f"{micro.int8_gops:.1f} int8, {micro.float_gops:.1f} float giga-operations a second"
        yield "measured", f"{figures} with {micro.threads} thread{'s' if micro.threads > 1 else ''}"


def as_json(board: Board, found: Grade, micro: Micro | None) -> dict[str, Any]:
    """The same and all the rest; sets as sorted lists."""
    values = asdict(board)
    values["processor"]["features"] = sorted(board.processor.features)
    values["usable_cores"] = board.usable_cores
    values["memory_bytes"] = board.memory_bytes
    values["governor"] = board.governor
    values["temperature_c"] = board.temperature_c
    values["throttled"] = list(throttle_reasons(board.firmware_throttle)) if board.firmware_throttle is not None else None
    return {
        "board": values,
        "profile": found.profile,
        "reasons": list(found.reasons),
        "micro": asdict(micro) if micro else None,
    }
