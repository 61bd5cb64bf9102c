"""`edgeannot doctor`: what is wrong with this installation, and what to do about it."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from edgeannot.base import atomicfile
from edgeannot.base.errors import EdgeannotError
from edgeannot.base.foreign import json_text, number_of
from edgeannot.base.places import default_config_file
from edgeannot.base.streams import columns
from edgeannot.doctor.findings import Examined, Finding

__all__ = ["doctor_app"]

doctor_app = typer.Typer(add_completion=False, rich_markup_mode=None)

FOUND = 1
"""Exit code where there is a problem; warnings end with 0."""
_MARKS = {"ok": "ok", "warning": "WARN", "problem": "WRONG"}


@doctor_app.command("doctor")
def doctor(
    config: Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Configuration file (TOML).")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    bundle: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write what a maintainer needs, without anything of yours in it (JSON).")
    ] = None,
) -> None:
    """Check software, models, folders, cameras, brokers, clock and service, in 20 s at most; exit code 1 where something is wrong.

    As root it looks with the eyes of the service's user where the service is installed; of an instance with its --config.
    """
    from edgeannot.doctor import CHECKS, OVERDUE, run_checks

    with tempfile.TemporaryDirectory() as links:
        examined = _examined(config, Path(links))
        findings = run_checks(examined, CHECKS)
        if bundle is not None:
            _pack(bundle, examined, findings)
    if json:
        typer.echo(json_text([asdict(each) for each in findings], indent=2))
    else:
        for line in _lines(findings):
            typer.echo(line)
        if bundle is not None:
            typer.echo(f"{bundle} written: look at it before you send it")
    code = FOUND if any(each.level == "problem" for each in findings) else 0
    if any(each.code.endswith(OVERDUE) for each in findings):
        # Such a check is left behind in its thread, maybe inside a library, where the end of Python would wait for it.
        sys.stdout.flush()
        os._exit(code)
    raise typer.Exit(code)


def _examined(config: Path | None, links: Path) -> Examined:
    from edgeannot.doctor.unit import find_unit, service_folders, service_user, show_unit
    from edgeannot.settings import load_settings

    path = config or default_config_file()
    unit = find_unit(path)
    facts = show_unit(unit)
    who = service_user(facts)
    if who.uid is not None:
        os.environ.update(service_folders(facts, links))
    try:
        settings = load_settings({}, path, grade=lambda: ("low", "not judged")).settings
    except EdgeannotError:
        settings = None  # the check of the configuration says why
    return Examined(settings, path, who=who, installed=facts.get("LoadState") == "loaded" and not unit.user, unit=unit)


def _pack(path: Path, examined: Examined, findings: Sequence[Finding]) -> None:
    from edgeannot.cli.commands.version import versions
    from edgeannot.doctor.bundle import bundle
    from edgeannot.probe import read_board

    content = bundle(examined, findings, read_board(), dict(versions()))
    atomicfile.write(path, (json_text(content, indent=2) + "\n").encode())


def _lines(findings: Sequence[Finding]) -> list[str]:
    rows = []
    for each in findings:
        rows.append((f"{_MARKS[each.level]:<5}", each.checked, each.found))
        if each.advice:
            rows.append(("", "", f"-> {each.advice}"))
    lines = columns(rows)
    wrong = sum(each.level == "problem" for each in findings)
    warned = sum(each.level == "warning" for each in findings)
    last = f"{number_of(wrong, 'problem')}, {number_of(warned, 'warning')}" if wrong or warned else "nothing wrong"
    return [*lines, "", last]
