"""The plot of `edgeannot bench`: accuracy against time a picture, one line a model over its input sizes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeannot.base import atomicfile
from edgeannot.base.errors import ConfigError, InputError
from edgeannot.choice.bench import Bench, Row

__all__ = ["save_plot"]

_MARKERS = "osD^vP*X"


def save_plot(found: Bench, path: Path) -> None:
    """Write the PNG. Only models whose cards hold an accuracy are in it, at their best thread count.

    Raises ConfigError when matplotlib is not installed, InputError when there is nothing to draw or the file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - 80 MB with what it needs, and only plots need it
        from matplotlib.figure import Figure  # noqa: PLC0415 - as above
    except ImportError as exc:
        raise ConfigError("a plot needs the Python package matplotlib: install `edgeannot[plots]`, or leave --plot away") from exc
    lines = _lines(found.rows)
    if not lines:
        raise InputError("--plot: none of these models has an accuracy in its card; `edgeannot evaluate --record` measures one")
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
    axes.set_title(found.conditions.words(), fontsize=8)
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
    """Model -> its sizes that have an accuracy, each at the fastest thread count, smallest first."""
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
    numbers = rows[0].sample.numbers if rows[0].sample else ""
    legend = f"{name}, {numbers}: {accuracy.measure} on {accuracy.dataset}" if accuracy else name
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
