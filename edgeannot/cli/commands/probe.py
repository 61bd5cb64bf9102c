"""`edgeannot probe`: what the board is, what it is graded as and why, and on request which model that leads to.

The usual call, with everything remembered and nothing configured, loads neither typer nor the settings nor numpy: it answers in 0.2 s.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgeannot.base.foreign import json_text
from edgeannot.base.places import default_config_file, default_data_dir, nothing_is_configured
from edgeannot.choice.board_report import as_json, as_text
from edgeannot.choice.choose import Wish, budget_of
from edgeannot.choice.conditions import thread_counts
from edgeannot.choice.grade import Grade, grade
from edgeannot.choice.selection import Measuring, Survey, micro_of, survey, wish_for
from edgeannot.probe import read_board
from edgeannot.vision.profiles import PROFILE_DEFAULTS

if TYPE_CHECKING:
    from edgeannot.probe import Board
    from edgeannot.settings import Loaded

__all__ = ["at_the_terminal", "probe"]


def probe(arguments: Sequence[str]) -> None:
    """Print what this board is and what it can do. Exits with 2 where the arguments are wrong."""
    asked = _parser().parse_args(arguments)
    measuring: Measuring = "again" if asked.remeasure else "no" if asked.no_measure else "missing"
    board = read_board()
    loaded = None if asked.config is None and nothing_is_configured() else _load(board, asked.config, asked.data_dir, measuring)
    folder = loaded.settings.data_dir if loaded else asked.data_dir or default_data_dir()
    runtime = loaded.settings.runtime if loaded else "auto"
    micro = micro_of(board, folder, runtime, measuring="no" if loaded else measuring)  # loading the settings has measured already
    found = Grade(loaded.profile, (loaded.profile_reason,)) if loaded else grade(board, micro)
    values, text = as_json(board, found, micro), as_text(board, found, micro)
    if asked.explain and loaded and loaded.settings.model is not None:
        pinned = f"the model is set to {loaded.settings.model} ({loaded.origins.get('model', 'default')}): nothing is chosen"
        values["choice"], text = {"model": loaded.settings.model, "reasons": [pinned]}, f"{text}\n\n{pinned}"
    elif asked.explain:
        chosen = _survey(board, found, loaded, folder, measuring)
        values["choice"], text = chosen.as_dict(), f"{text}\n\n{chosen.table()}"
    sys.stdout.write(json_text(values, indent=2) if asked.json else text)
    sys.stdout.write("\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edgeannot probe",
        description="Show what this board is and what it can do: processor, memory, limits, clocks, heat, runtime, its profile and why.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--json", action="store_true", help="Print everything as one JSON object.")
    add("--explain", action="store_true", help="Also say which model is chosen, and why not the others.")
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--remeasure", action="store_true", help="Measure again what is remembered.")
    either.add_argument("--no-measure", action="store_true", help="Measure nothing, also where nothing is remembered.")
    add("--config", metavar="FILE", type=Path, help="Configuration file (TOML).")
    add("--data-dir", metavar="DIR", type=Path, help="Folder where measurements are remembered.")
    return parser


def _load(board: Board, config: Path | None, data_dir: Path | None, measuring: Measuring) -> Loaded:
    from edgeannot.choice.auto_profile import load_judged  # noqa: PLC0415 - the whole of pydantic comes with it

    return load_judged({"data_dir": str(data_dir)} if data_dir else {}, config or default_config_file(), board, measuring)


def _survey(board: Board, found: Grade, loaded: Loaded | None, folder: Path, measuring: Measuring) -> Survey:
    """The choice of a model for the settings, or for what they are where nothing is configured."""
    if loaded:
        return survey(wish_for(loaded, board), folder, board, loaded.settings.runtime, measuring, told=at_the_terminal)
    wish = Wish(
        profile=found.profile,
        budget=budget_of(found.profile, None, None),
        thread_counts=thread_counts(board, None, int(PROFILE_DEFAULTS[found.profile]["max_threads"])),
        memory_bytes=board.memory_bytes,
    )
    return survey(wish, folder, board, "auto", measuring, told=at_the_terminal)


def at_the_terminal(line: str) -> None:
    """Say what takes its time to who waits for it, and to nobody else."""
    if sys.stderr.isatty():
        sys.stderr.write(f"{line}\n")
