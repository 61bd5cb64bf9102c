"""`edgeannot config`: show the settings in force, name every mistake in them, write a commented file, print the schema for editors."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from edgeannot.base import atomicfile
from edgeannot.base.errors import ConfigError, InputError
from edgeannot.base.foreign import json_text, number_of
from edgeannot.base.places import default_config_file

__all__ = ["config_app"]

config_app = typer.Typer(add_completion=False, rich_markup_mode=None, help="Show, check and write the configuration.")

_ConfigOption = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Configuration file (TOML).")]


@config_app.callback(invoke_without_command=True)
def show(
    ctx: typer.Context,
    profile: Annotated[
        str | None, typer.Option("--profile", metavar="low|mid|high|auto", help="Board class; auto detects it.", show_default=False)
    ] = None,
    config: _ConfigOption = None,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", metavar="DIR", help="Folder for state: ledger, outbox, quarantine, models.")
    ] = None,
) -> None:
    """Print every setting, its value and where the value came from, secrets masked; or check or write a configuration file."""
    ctx.obj = config
    if ctx.invoked_subcommand is not None:
        return
    from edgeannot.choice.auto_profile import load_with_auto_profile
    from edgeannot.probe import read_board

    given: dict[str, Any] = {"profile": profile, "data_dir": data_dir and str(data_dir)}
    overrides = {key: value for key, value in given.items() if value is not None}
    loaded = load_with_auto_profile(overrides, config or default_config_file(), read_board())
    rows = list(loaded.rows())
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    for key, value, origin in rows:
        typer.echo(f"{key:<{widths[0]}}  {value:<{min(widths[1], 48)}}  {origin}")
    typer.echo(f"\nprofile in force: {loaded.profile} ({loaded.profile_reason})")


@config_app.command()
def check(
    ctx: typer.Context,
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="The file; otherwise the one that `run` takes.")] = None,
    config: _ConfigOption = None,
) -> None:
    """Name every mistake in the configuration file and the environment, with its line; exit code 78 where there is one."""
    from edgeannot.settings import find_problems

    path = file or config or ctx.obj or default_config_file()
    problems = find_problems({}, path)
    for problem in problems:
        typer.echo(problem)
    where = str(path) if path else "no configuration file, the environment and the defaults"
    if problems:
        raise ConfigError(f"{number_of(len(problems), 'mistake')} in {where}")
    typer.echo(f"{where}: nothing wrong")


@config_app.command()
def init(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Where to write it, - for standard output; otherwise where `run` looks for it.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    """Write a configuration file with every setting, its meaning and its default as comments."""
    from edgeannot.settings.template import commented_settings

    text = commented_settings()
    if file is not None and str(file) == "-":
        sys.stdout.write(text)
        return
    path = file or _own_file()
    if path.exists() and not force:
        raise InputError(f"{path} is there already: name another FILE, or write over it with --force")
    path.parent.mkdir(parents=True, exist_ok=True)
    atomicfile.write(path, text.encode(), durable=True)
    typer.echo(f"{path} written; `edgeannot config check` tells whether it can be used")


@config_app.command()
def schema() -> None:
    """Print the JSON Schema of the configuration file, by which an editor completes and checks it."""
    from edgeannot.settings.described import settings_schema

    typer.echo(json_text(settings_schema(), indent=1))


def _own_file() -> Path:
    """Return where a file of this user's is looked for: root's is the service's."""
    if os.geteuid() == 0:
        return Path("/etc/edgeannot/edgeannot.toml")
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "edgeannot" / "edgeannot.toml"
