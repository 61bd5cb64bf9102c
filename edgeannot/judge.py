"""The settings with the profile that the board deserves by its facts and by what was measured of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeannot.data import Profile
from edgeannot.grade import grade
from edgeannot.probe import Board
from edgeannot.selection import Measuring, micro_of
from edgeannot.settings import Loaded, load_settings

__all__ = ["load_judged"]


def load_judged(overrides: Mapping[str, Any], config_file: Path | None, board: Board, measuring: Measuring = "no") -> Loaded:
    """The settings from all layers, on this board. measuring: whether the micro-benchmark is run where the profile is auto."""

    def judged() -> tuple[Profile, str]:
        # What was measured is remembered in data_dir, which is a setting itself and does not depend on the profile.
        first = load_settings(overrides, config_file, grade=lambda: ("low", "not yet judged")).settings
        found = grade(board, micro_of(board, first.data_dir, first.runtime, measuring=measuring))
        return found.profile, found.reason

    return load_settings(overrides, config_file, grade=judged)
