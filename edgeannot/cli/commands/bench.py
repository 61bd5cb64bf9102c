"""`edgeannot bench`: time models on this board."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Annotated

import typer

from edgeannot.base.errors import ConfigError, InputError
from edgeannot.base.foreign import json_text, printable
from edgeannot.base.places import model_folders
from edgeannot.base.streams import own_escapes
from edgeannot.choice.bench import Reference, Row, as_json, as_text, bench, points_of
from edgeannot.choice.card_index import read_shelf
from edgeannot.choice.conditions import conditions_of, runtime_named, thread_counts
from edgeannot.probe import read_board
from edgeannot.vision.runtimes import RUNTIMES

__all__ = ["bench_app"]

bench_app = typer.Typer(add_completion=False, rich_markup_mode=None)

_MOST_THREADS = 4
"""More cores than boards have; `--threads` asks for more."""


@bench_app.command()
def bench_models(
    models: Annotated[
        list[str] | None, typer.Argument(metavar="[MODEL]...", help="NAME: all its sizes; NAME@SIZE: one. None: all.")
    ] = None,
    threads: Annotated[list[int] | None, typer.Option(metavar="N", min=1, help="Thread count, may be given several times.")] = None,
    seconds: Annotated[float, typer.Option(metavar="S", min=0.05, max=600, help="How long each point is measured.")] = 1.5,
    runtime: Annotated[str, typer.Option(metavar="|".join(("auto", *RUNTIMES)), help="The TFLite runtime.")] = "auto",
    json_out: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
    plot: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw accuracy against time into a file.")] = None,
    new_reference: Annotated[bool, typer.Option("--new-reference", help="Compare with this run from now on.")] = False,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", metavar="DIR", help="Folder that holds added models and the reference.")
    ] = None,
) -> None:
    """Time models on this board: every stage, pictures a second, memory, CPU time. The first run is kept as the board's reference."""
    if runtime not in ("auto", *RUNTIMES):
        raise InputError(f"--runtime: wanted one of {', '.join(('auto', *RUNTIMES))}; found {runtime!r}")
    if plot is not None and importlib.util.find_spec("matplotlib") is None:  # before minutes of measuring
        raise ConfigError("--plot needs the Python package matplotlib: install `edgeannot[plots]`, or leave --plot away")
    from edgeannot.settings import find_data_dir

    folder = find_data_dir(data_dir)
    board = read_board()
    cores, most = len(board.cpus), max(threads or [1])
    if cores and most > cores:
        raise InputError(f"--threads: wanted 1 to {cores}, as many as this process has cores; found {most}")
    conditions = conditions_of(board, runtime)
    shelf = read_shelf(model_folders(folder), folder / "cache" / "models.json", lambda exc: typer.echo(f"WRONG: {exc}", err=True))
    points = points_of(shelf, models or [], sorted(set(threads or thread_counts(board, None, _MOST_THREADS))))
    reference = Reference.load(folder / "cache" / "bench.json", conditions)
    done = 0

    def told(row: Row) -> None:
        nonlocal done
        done += 1
        if sys.stderr.isatty():
            end = "\n" if done == len(points) else ""
            own_escapes(sys.stderr).write(f"\r{done} of {len(points)}: {printable(row.name)}\x1b[K{end}")
            sys.stderr.flush()

    found = bench(points, model_folders(folder), conditions, reference, runtime=runtime_named(board, runtime), seconds=seconds, told=told)
    kept = reference.with_rows(found.rows, conditions, anew=new_reference)
    typer.echo(json_text(as_json(found), indent=2) if json_out else as_text(found, kept=bool(kept.times_ms)))
    if plot is not None:
        from edgeannot.choice.bench_plot import save_plot

        save_plot(found, plot)
    if all(row.failure for row in found.rows):
        raise InputError("none of the models could be measured")
