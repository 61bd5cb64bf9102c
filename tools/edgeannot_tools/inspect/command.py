"""`edgeannot inspect FILE.tflite`: what is inside a TFLite file, what it costs, and what the runtimes here make of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeannot_tools.commands import Command, open_console
from edgeannot_tools.inspect.as_json import as_json
from edgeannot_tools.inspect.inspection import inspect_file
from edgeannot_tools.inspect.tables import print_inspection

__all__ = ["inspect_app"]

inspect_app = typer.Typer(name="inspect", add_completion=False, rich_markup_mode=None, help="Show what is inside a TFLite file.")


@inspect_app.command(cls=Command)
def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE.tflite", help="The model.")],
    *,
    layers: Annotated[bool, typer.Option("--layers", help="Every operator with its cost, not only the heaviest.")] = False,
    tensors: Annotated[bool, typer.Option("--tensors", help="Every tensor, not only inputs and outputs.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON with all of it instead of tables.")] = False,
    no_run: Annotated[bool, typer.Option("--no-run", help="Only read the file; load it into no runtime.")] = False,
) -> None:
    """Show a TFLite file: operators, tensors, quantization, cost, memory, what each runtime's XNNPACK takes, and what may go wrong."""
    found = inspect_file(file, run=not no_run)
    if json_output:
        typer.echo(as_json(found))
        return
    print_inspection(found, open_console(), layers=layers, tensors=tensors)
