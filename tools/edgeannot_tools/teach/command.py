"""`edgeannot teach`: its subcommands, one folder each."""

from __future__ import annotations

import typer

from edgeannot_tools.teach.classify.command import classify
from edgeannot_tools.teach.detect.command import detect
from edgeannot_tools.terminal import Command

__all__ = ["teach_app"]

teach_app = typer.Typer(
    name="teach",
    add_completion=False,
    rich_markup_mode=None,
    help="Teach a bundled model your own classes or objects, with a few pictures, in seconds.",
    no_args_is_help=True,
)
teach_app.command("classify", cls=Command)(classify)
teach_app.command("detect", cls=Command)(detect)


@teach_app.callback()
def teach() -> None:
    """Teach a bundled model your own classes or objects, with a few pictures, in seconds."""
