"""The settings with the profile that the board deserves by its facts and by what was measured of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgeannot.choice.grade import grade
from edgeannot.choice.selection import Measuring, micro_of
from edgeannot.probe import Board
from edgeannot.settings import Loaded, load_settings
from edgeannot.vision.data import Profile

__all__ = ["judge_for_next_start", "load_judged"]

log = logging.getLogger(__name__)


def load_judged(overrides: Mapping[str, Any], config_file: Path | None, board: Board, measuring: Measuring = "no") -> Loaded:
    """The settings from all layers, on this board. measuring: whether the micro-benchmark is run where the profile is auto."""

    def judged() -> tuple[Profile, str]:
        # What was measured is remembered in data_dir, which is a setting itself and does not depend on the profile.
        first = load_settings(overrides, config_file, grade=lambda: ("low", "not yet judged")).settings
        # Where the model is set the grade decides little: not worth two seconds.
        now: Measuring = measuring if first.model is None else "no"
        found = grade(board, micro_of(board, first.data_dir, first.runtime, measuring=now))
        return found.profile, found.reason

    return load_settings(overrides, config_file, grade=judged)


def judge_for_next_start(loaded: Loaded, board: Board, stopped: Callable[[], bool] = lambda: False) -> None:
    """Run the micro-benchmark where the profile is auto and it was never run at rest. This run keeps its profile: rates hang on it."""
    settings = loaded.settings
    if settings.profile != "auto":
        return
    found = grade(board, micro_of(board, settings.data_dir, settings.runtime, measuring="doubtful", stopped=stopped))
    if found.profile != loaded.profile:
        log.info("profile %s from the next start on: %s", found.profile, found.reason)
