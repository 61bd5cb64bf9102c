"""The TFLite runtimes that serve, by name; nothing here imports one."""

from __future__ import annotations

import importlib.util
from typing import Literal

__all__ = ["RUNTIMES", "Runtime", "RuntimeName", "installed_runtimes"]

RuntimeName = Literal["litert", "tflite-runtime"]
Runtime = Literal["auto", "litert", "tflite-runtime"]

RUNTIMES: dict[RuntimeName, tuple[str, str]] = {
    "litert": ("ai_edge_litert", "ai-edge-litert"),
    "tflite-runtime": ("tflite_runtime", "tflite-runtime"),
}
"""Runtime name -> (Python package, name on the package index); `auto` takes the first that is installed."""


def installed_runtimes() -> list[RuntimeName]:
    """Return the runtimes that are installed, best first; nothing is imported."""
    return [name for name, (package, _) in RUNTIMES.items() if importlib.util.find_spec(package) is not None]
