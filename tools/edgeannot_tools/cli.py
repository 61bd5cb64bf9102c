"""The workshop's commands: each is a typer app in the module of its subject, loaded from here by name when it is called.

So `edgeannot datasets` does not load what only `edgeannot quantize` needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer

__all__ = ["APPS"]

APPS = {
    "convert_app": "edgeannot_tools.convert.command",
    "datasets_app": "edgeannot_tools.datasets.commands",
    "evaluate_app": "edgeannot_tools.evaluate.command",
    "quantize_app": "edgeannot_tools.quantize.command",
    "inspect_app": "edgeannot_tools.inspect.command",
}
"""Name of the app -> the module that defines it."""


def __getattr__(name: str) -> typer.Typer:
    """The app of that name, from the module of its subject (PEP 562)."""
    if name not in APPS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    app: typer.Typer = getattr(importlib.import_module(APPS[name]), name)
    return app
