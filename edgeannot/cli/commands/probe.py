"""`edgeannot probe`: show the board, its grade and why, and on request the model selected for it.

The usual call, with everything remembered and nothing configured, loads neither typer nor the settings nor numpy: it answers in 0.2 s.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeannot.base.foreign import json_text, number_of
from edgeannot.base.places import default_config_file, default_data_dir, nothing_is_configured
from edgeannot.base.streams import columns
from edgeannot.choice.auto_profile import Grade, Measuring, Micro, grade, is_noisy, load_with_auto_profile, micro_of
from edgeannot.choice.auto_runtime import remembered_runtime, settle_runtime
from edgeannot.choice.candidates import Requirements
from edgeannot.choice.decision import budget_of
from edgeannot.choice.measurements import thread_counts
from edgeannot.choice.selection import Evaluation, evaluate, requirements_of
from edgeannot.probe import read_board
from edgeannot.probe.board import runtime_facts
from edgeannot.probe.limits import throttle_reasons
from edgeannot.vision.profiles import PROFILE_DEFAULTS

if TYPE_CHECKING:
    from edgeannot.base.runtimes import Runtime
    from edgeannot.probe import Board
    from edgeannot.settings import Loaded

__all__ = ["as_json", "as_text", "at_the_terminal", "probe"]

_GIB = 1 << 30


def probe(arguments: Sequence[str]) -> None:
    """Print what this board is and what it can do. Exits with 2 where the arguments are wrong."""
    asked = _parser().parse_args(arguments)
    measuring: Measuring = "again" if asked.remeasure else "no" if asked.no_measure else "missing"
    board = read_board()
    loaded = None
    if asked.config is not None or not nothing_is_configured():
        overrides = {"data_dir": str(asked.data_dir)} if asked.data_dir else {}
        loaded = load_with_auto_profile(overrides, asked.config or default_config_file(), board, measuring)
    folder = loaded.settings.data_dir if loaded else asked.data_dir or default_data_dir()
    settle = remembered_runtime if measuring == "no" else settle_runtime
    runtime = settle(loaded.settings.runtime if loaded else "auto", folder, board).runtime
    board = replace(board, runtime=runtime_facts(board.processor, runtime))
    micro = micro_of(board, folder, runtime, measuring="no" if loaded else measuring)  # loading the settings has measured already
    found = Grade(loaded.profile, (loaded.profile_reason,)) if loaded else grade(board, micro)
    values, text = as_json(board, found, micro), as_text(board, found, micro)
    if asked.explain and loaded and loaded.settings.model is not None:
        pinned = f"the model is set to {loaded.settings.model} ({loaded.origins.get('model', 'default')}): no automatic selection"
        values["choice"], text = {"model": loaded.settings.model, "reasons": [pinned]}, f"{text}\n\n{pinned}"
    elif asked.explain:
        chosen = _evaluate(board, found, loaded, folder, runtime, measuring)
        values["choice"], text = chosen.as_dict(), f"{text}\n\n{chosen.table()}"
    sys.stdout.write(json_text(values, indent=2) if asked.json else text)
    sys.stdout.write("\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edgeannot probe",
        allow_abbrev=False,
        add_help=False,  # `app` shows it, in the form of all commands
    )
    add = parser.add_argument
    add("--json", action="store_true", help="Print everything as one JSON object.")
    add("--explain", action="store_true", help="Also print the model selected, and why not the others.")
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--remeasure", action="store_true", help="Measure again, also remembered figures.")
    either.add_argument("--no-measure", action="store_true", help="Measure nothing.")
    add("--config", metavar="FILE", type=Path, help="Configuration file (TOML).")
    add("--data-dir", metavar="DIR", type=Path, help="Folder where measurements are remembered.")
    return parser


def _evaluate(board: Board, found: Grade, loaded: Loaded | None, folder: Path, runtime: Runtime, measuring: Measuring) -> Evaluation:
    """Evaluate the models for the settings, or for their defaults where nothing is configured."""
    if loaded:
        return evaluate(requirements_of(loaded, board), folder, board, runtime, measuring, progress=at_the_terminal)
    requirements = Requirements(
        profile=found.profile,
        budget=budget_of(found.profile, None, None),
        thread_counts=thread_counts(board, None, int(PROFILE_DEFAULTS[found.profile]["max_threads"])),
        memory_bytes=board.memory_bytes,
    )
    return evaluate(requirements, folder, board, runtime, measuring, progress=at_the_terminal)


def at_the_terminal(line: str) -> None:
    """Print progress if standard error is a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(f"{line}\n")


def as_text(board: Board, found: Grade, micro: Micro | None) -> str:
    """Format the board as lines of "name  value"; most unknown values are left out."""
    rows = [*_rows(board), *_micro_row(micro, board), ("profile", found.profile), *(("", reason) for reason in found.reasons)]
    return "\n".join(columns(rows))


def _rows(board: Board) -> Iterator[tuple[str, str]]:
    yield "board", ", ".join([board.name or "not named", *board.compatible[-1:]])
    processor = board.processor
    both = f", {number_of(len(processor.cpus), 'hardware thread')} of {number_of(processor.cores, 'core')}"
    threads = both if processor.cores != len(processor.cpus) else ""
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
        if is_noisy(micro, board):
            yield "noisy", f"CPU contention {micro.wait_share:.0%}; run again with --remeasure when idle"
        figures = f"{micro.int8_gops:.1f} int8, {micro.float_gops:.1f} float giga-operations a second"
        yield "measured", f"{figures} with {number_of(micro.threads, 'thread')}"


def as_json(board: Board, found: Grade, micro: Micro | None) -> dict[str, Any]:
    """Return the same and all other facts for JSON; sets as sorted lists."""
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
        "micro": None if micro is None else {"waited" if key == "wait_share" else key: value for key, value in asdict(micro).items()},
    }
