"""`edgeannot teach`: its subcommands, one folder each. A subcommand is imported when it is called, as each needs much of its own."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from edgeannot_tools.output import Command

__all__ = ["teach_app"]

_SUBCOMMANDS = ("classify", "detect")


class _Group(TyperGroup):
    """The subcommands, by name."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - the signature of click
        """Return their names."""
        return list(_SUBCOMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - as above
        """Return the subcommand of that name, imported now; None for another name."""
        if cmd_name not in _SUBCOMMANDS:
            return None
        only = typer.Typer(add_completion=False, rich_markup_mode=None)
        only.command(cmd_name, cls=Command)(getattr(import_module(f"edgeannot_tools.teach.{cmd_name}.command"), cmd_name))
        return typer.main.get_command(only)


teach_app = typer.Typer(
    name="teach",
    cls=_Group,
    add_completion=False,
    rich_markup_mode=None,
    help="Teach a bundled model your own classes or objects, with a few pictures, in seconds.",
    no_args_is_help=True,
)


@teach_app.callback()
def teach() -> None:
    """Teach a bundled model your own classes or objects, with a few pictures, in seconds."""
