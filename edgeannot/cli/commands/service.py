"""`edgeannot service`: install edgeannot as a systemd service, remove it, show it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Annotated, Literal

import typer

from edgeannot.base.errors import ConfigError, RightsError, UsageError
from edgeannot.service.install import Place

__all__ = ["service_app"]

service_app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, help="Run it as a systemd service.")

_ROOT = Path("/")
"""Where the journal is looked for; another one in tests."""
_User = Annotated[bool, typer.Option("--user", help="A service of this user, not of the system.")]
_Name = Annotated[
    str, typer.Option("--name", metavar="NAME", help="One of several: edgeannot@NAME, configured by /etc/edgeannot/NAME.toml.")
]


@service_app.command()
def install(
    user: _User = False,
    name: _Name = "",
    profile: Annotated[
        Literal["auto", "low", "mid", "high"] | None,
        typer.Option(metavar="low|mid|high|auto", help="Board class; otherwise the configuration's."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="Configuration file; otherwise /etc/edgeannot/edgeannot.toml.")
    ] = None,
    no_start: Annotated[bool, typer.Option("--no-start", help="Write the files only.")] = False,
) -> None:
    """Write the unit and a drop-in by the configuration, make the user, enable and start it. Run it again after a change of folders."""
    from edgeannot.service.install import install as install_service

    for line in install_service(_place(user, name), config, profile, start=not no_start):
        typer.echo(line)


@service_app.command()
def uninstall(
    user: _User = False,
    name: _Name = "",
    purge: Annotated[bool, typer.Option("--purge", help="Also remove the state: ledger, unsent messages, results.")] = False,
) -> None:
    """Stop the service and remove its unit and drop-in; configuration and state stay."""
    from edgeannot.service.install import uninstall as uninstall_service

    for line in uninstall_service(_place(user, name), purge=purge):
        typer.echo(line)


@service_app.command()
def status(user: _User = False, name: _Name = "") -> None:
    """Show the service as systemd sees it; its exit code (3: not running)."""
    _become("systemctl", "status", "--no-pager", "--full", user=user, name=name)


@service_app.command()
def logs(
    user: _User = False,
    name: _Name = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is written from now on.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", metavar="N", min=0, help="Newest lines.")] = 50,
) -> None:
    """Show the service's lines in the journal, which root and the groups adm and systemd-journal may read."""
    if not user:
        _check_journal(_ROOT, _place(user, name))
    _become("journalctl", "--no-pager", f"--lines={lines}", *(["--follow"] if follow else []), "--unit", user=user, name=name)


def _check_journal(root: Path, place: Place) -> None:
    """Raise RightsError where no file of the system's journal may be read: journalctl then shows nothing, as if nothing were there."""
    files = [file for folder in ("var/log/journal", "run/log/journal") for file in (root / folder).glob("*/system.journal")]
    if files and not any(os.access(file, os.R_OK) for file in files):
        who = "root and the groups adm and systemd-journal"
        raise RightsError(f"the journal of the service can be read by {who}: `sudo edgeannot service logs{place.advice.options}`")


def _place(user: bool, name: str) -> Place:
    if name and (user or not name.replace("-", "").replace("_", "").isalnum() or name == "edgeannot"):
        raise UsageError(f"--name: wanted letters, digits, - and _, and not with --user; found {name!r}")
    return Place(name=name, user=user)


def _become(program: str, *words: str, user: bool, name: str) -> None:
    """Run systemd's own command in place of this one."""
    path = shutil.which(program)
    if path is None:
        raise ConfigError("there is no systemd here: `edgeannot run` writes its log to the terminal")
    manager = ["--user"] if user else []
    os.execv(path, [program, *manager, *words, _place(user, name).unit])  # noqa: S606 - a program of the system, no shell
