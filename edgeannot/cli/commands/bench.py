"""`edgeannot bench`: time models on this board."""

from __future__ import annotations

import importlib.util
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from edgeannot.base import atomicfile
from edgeannot.base.errors import ConfigError, InputError, UsageError
from edgeannot.base.foreign import json_text, printable
from edgeannot.base.places import model_folders
from edgeannot.base.runtimes import RUNTIMES, Runtime
from edgeannot.base.streams import own_escapes
from edgeannot.choice.auto_runtime import find_runtime
from edgeannot.choice.bench import Bench, Reference, Row, as_json, as_text, bench, points_of
from edgeannot.choice.candidates import read_card_index
from edgeannot.choice.measurements import conditions_of, runtime_named, thread_counts
from edgeannot.probe import read_board

__all__ = ["bench_app", "save_plot"]

bench_app = typer.Typer(add_completion=False, rich_markup_mode=None)

_MOST_THREADS = 4
"""More cores than boards have; `--threads` asks for more."""
_MARKERS = "osD^vP*X"


@bench_app.command()
def bench_models(
    models: Annotated[
        list[str] | None, typer.Argument(metavar="[MODEL]...", help="NAME: all its sizes; NAME@SIZE: one; default: all models.")
    ] = None,
    threads: Annotated[list[int] | None, typer.Option(metavar="N", min=1, help="Thread count, may be given several times.")] = None,
    seconds: Annotated[float, typer.Option(metavar="S", min=0.05, max=600, help="How long each point is measured.")] = 1.5,
    runtime: Annotated[Runtime, typer.Option(metavar="|".join(("auto", *RUNTIMES)), help="The TFLite runtime.")] = "auto",
    json_out: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
    plot: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Plot accuracy against time into a file.")] = None,
    new_reference: Annotated[bool, typer.Option("--new-reference", help="Make this run the reference for later ones.")] = False,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", metavar="DIR", help="Folder that holds added models and the reference.")
    ] = None,
) -> None:
    """Time models on this board: stages, pictures a second, memory, CPU time. The first run becomes the board's reference."""
    if plot is not None and plot.suffix.lower() != ".png":
        raise UsageError(f"--plot: wanted a name that ends in .png, found {plot.name}")
    if plot is not None and importlib.util.find_spec("matplotlib") is None:  # before minutes of measuring
        raise ConfigError("--plot needs the Python package matplotlib: install `edgeannot[plots]`, or leave --plot away")
    from edgeannot.settings import find_data_dir

    folder = find_data_dir(data_dir)
    board = read_board()
    cores, most = len(board.cpus), max(threads or [1])
    if cores and most > cores:
        raise UsageError(f"--threads: wanted 1 to {cores}, as many as this process has cores; found {most}")
    runtime = find_runtime(data_dir, runtime)
    conditions = conditions_of(board, runtime)
    index = read_card_index(model_folders(folder), folder / "cache" / "models.json", lambda exc: typer.echo(f"WRONG: {exc}", err=True))
    points = points_of(index, models or [], sorted(set(threads or thread_counts(board, None, _MOST_THREADS))))
    reference = Reference.load(folder / "cache" / "bench.json", conditions)
    done = 0

    def progress(row: Row) -> None:
        nonlocal done
        done += 1
        if sys.stderr.isatty():
            end = "\n" if done == len(points) else ""
            own_escapes(sys.stderr).write(f"\r{done} of {len(points)}: {printable(row.name)}\x1b[K{end}")
            sys.stderr.flush()

    found = bench(
        points, model_folders(folder), conditions, reference, runtime=runtime_named(board, runtime), seconds=seconds, progress=progress
    )
    kept = reference.with_rows(found.rows, conditions, anew=new_reference)
    typer.echo(json_text(as_json(found), indent=2) if json_out else as_text(found, kept=bool(kept.times_ms)))
    if plot is not None:
        save_plot(found, plot)
    if all(row.failure for row in found.rows):
        raise InputError("none of the models could be measured")


def save_plot(found: Bench, path: Path) -> None:
    """Write the PNG. Only models whose cards hold an accuracy are in it, at their best thread count.

    Raises ConfigError when matplotlib is not installed, InputError when there is nothing to draw or the file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as exc:
        raise ConfigError("a plot needs the Python package matplotlib: install `edgeannot[plots]`, or leave --plot away") from exc
    lines = _lines(found.rows)
    if not lines:
        raise InputError("--plot: none of these models has an accuracy in its card; `edgeannot evaluate --write-card` measures one")
    figure = Figure(figsize=(9, 5.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for number, (name, rows) in enumerate(lines.items()):
        _draw(axes, name, rows, _MARKERS[number % len(_MARKERS)])
    axes.set_xscale("log")
    axes.margins(x=0.12)
    axes.set_ylim(0, 1.15 * max(_height(row) for rows in lines.values() for row in rows))
    axes.set_xlabel("ms a picture, from JPEG to result (median; best thread count)")
    axes.set_ylabel("accuracy on the data set named in the legend")
    axes.set_title(found.conditions.text(), fontsize=8)
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else "")
    axes.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=1, frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    try:
        atomicfile.write(path, buffer.getvalue())
    except OSError as exc:
        raise InputError(f"--plot: {path} cannot be written ({exc.strerror})") from exc


def _lines(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Map each model to its sizes that have an accuracy, each at the fastest thread count, smallest first."""
    best: dict[str, Row] = {}
    for row in rows:
        if row.sample is not None and row.accuracy() is not None and (row.name not in best or _ms(row) < _ms(best[row.name])):
            best[row.name] = row
    lines: dict[str, list[Row]] = {}
    for row in sorted(best.values(), key=lambda row: (row.facts.name, row.size)):
        lines.setdefault(row.facts.name, []).append(row)
    return lines


def _draw(axes: Any, name: str, rows: Sequence[Row], marker: str) -> None:
    accuracy = rows[0].accuracy()
    dtype = rows[0].sample.dtype if rows[0].sample else ""
    legend = f"{name}, {dtype}: {accuracy.measure} on {accuracy.dataset}" if accuracy else name
    axes.plot([_ms(row) for row in rows], [_height(row) for row in rows], f"{marker}-", label=legend, markersize=7, linewidth=1)
    several = len(rows) > 1
    for row in rows:  # sizes above their line, what is said of single points below them: they seldom meet
        text = f"{row.size} ({row.threads} thr.)" if several else f"{row.threads} thr."
        axes.annotate(text, (_ms(row), _height(row)), (0, 8 if several else -14), textcoords="offset points", fontsize=7, ha="center")


def _ms(row: Row) -> float:
    return row.sample.ms if row.sample else 0.0


def _height(row: Row) -> float:
    accuracy = row.accuracy()
    return accuracy.value if accuracy else 0.0
