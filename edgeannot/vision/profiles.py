"""What each profile sets where nothing else does. Standard library only, for those who must know it without loading the settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeannot.vision.data import Profile  # numpy comes with it

__all__ = ["PROFILE_DEFAULTS"]

PROFILE_DEFAULTS: Mapping[Profile, Mapping[str, Any]] = {
    "low": {"max_threads": 2, "max_fps": 2.0},
    "mid": {"max_threads": 3, "max_fps": 5.0},
    "high": {"max_threads": 4, "max_fps": 15.0},
}
"""What a profile allows, beside the model that it prefers."""
