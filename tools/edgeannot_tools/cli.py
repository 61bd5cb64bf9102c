"""The commands that the tools add to `edgeannot`, by the entry points of pyproject.toml. The docstrings are the help texts.

Each imports its app when it is called, so that `edgeannot --help` loads none, and `edgeannot datasets` not what only `quantize` needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer

__all__ = ["annotate", "convert", "datasets", "evaluate", "inspect", "quantize", "teach"]


def annotate() -> typer.Typer:
    """Annotate pictures for tools that people label with (tools)."""
    from edgeannot_tools.annotate.command import annotate_app

    return annotate_app


def convert() -> typer.Typer:
    """Convert a Darknet, ONNX or Keras model to TFLite (tools)."""
    from edgeannot_tools.convert.command import convert_app

    return convert_app


def quantize() -> typer.Typer:
    """Quantize a float model to int8, check the loss (tools)."""
    from edgeannot_tools.quantize.command import quantize_app

    return quantize_app


def evaluate() -> typer.Typer:
    """Measure models on a labelled set (tools)."""
    from edgeannot_tools.evaluate.command import evaluate_app

    return evaluate_app


def datasets() -> typer.Typer:
    """Convert, check, split, count label files (tools)."""
    from edgeannot_tools.datasets.command import datasets_app

    return datasets_app


def inspect() -> typer.Typer:
    """Show what is inside a TFLite file (tools)."""
    from edgeannot_tools.inspect.command import inspect_app

    return inspect_app


def teach() -> typer.Typer:
    """Teach own classes and objects with a few pictures (tools)."""
    from edgeannot_tools.teach.command import teach_app

    return teach_app
