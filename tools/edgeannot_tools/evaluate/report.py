"""What an evaluation shows: a table, JSON, a plot of accuracy against time, and a sheet of the worst misses."""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from edgeannot.base.errors import ConfigError
from edgeannot.base.foreign import json_text
from edgeannot_tools.evaluate.measure import Result
from edgeannot_tools.output import write_whole
from edgeannot_tools.terminal import print_note

__all__ = ["REPORT_SCHEMA", "Point", "print_results", "results_json", "save_plot", "save_points"]

REPORT_SCHEMA = 1
ENOUGH_TICKS = 3
"""On the axis of times, to read values between them."""


def results_json(results: Sequence[Result], data: str, class_names: Sequence[str]) -> str:
    """The figures of every model as JSON; a figure that does not exist is null."""
    report = {"schema": REPORT_SCHEMA, "data": data, "models": [_as_dict(result, class_names) for result in results]}
    return json_text(report, indent=1)


def _as_dict(result: Result, class_names: Sequence[str]) -> dict[str, Any]:
    accuracy = result.accuracy
    return {
        "model": result.model,
        "input": list(result.input_wh),
        "numbers": result.numbers,
        "runtime": result.runtime,
        "threads": result.threads,
        "pictures": result.pictures,
        "objects": accuracy.objects,
        "map50": _number(accuracy.map50),
        "map50_95": _number(accuracy.map50_95),
        "mean_iou": _number(accuracy.mean_iou),
        "best": {
            "score": _number(accuracy.best_score),
            "f1": _number(accuracy.f1),
            "precision": _number(accuracy.precision),
            "recall": _number(accuracy.recall),
        },
        "coco": None if result.coco is None else {key: _number(value) for key, value in dataclasses.asdict(result.coco).items()},
        "ms": {
            "preprocess": round(result.timing.preprocess, 3),
            "inference": round(result.timing.inference, 3),
            "postprocess": round(result.timing.postprocess, 3),
            "total": round(result.timing.total, 3),
        },
        "classes": [
            {"name": class_names[row.class_id], "objects": row.objects, "ap50": _number(row.ap50), "ap50_95": _number(row.ap50_95)}
            for row in accuracy.classes
        ],
        "left_out": {
            "model_classes": list(result.match.only_model),
            "set_classes": list(result.match.only_set),
            "objects": result.left_out_objects,
        },
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)


def print_results(results: Sequence[Result], class_names: Sequence[str], console: Console) -> None:
    """Print one row a model, then the average precision of each class beside each other, then what was left out."""
    console.print(_summary(results))
    console.print(_per_class(results, class_names))
    for result in results:
        for sentence in left_out(result, class_names):
            print_note(console, f"{result.model}: {sentence}")


def _summary(results: Sequence[Result]) -> Table:
    table = Table(caption="mAP: mean over the classes present, all points (VOC); COCO AP: 101 points; best score: highest F1 at IoU 0.5")
    table.add_column("model", overflow="fold")
    for column in (
        "numbers",
        "classes",
        "objects",
        "mAP50",
        "mAP50-95",
        "COCO AP",
        "AP50",
        "mean IoU",
        "best score",
        "F1",
        "ms",
        "inference",
    ):
        table.add_column(column, justify="right", no_wrap=True)
    for result in results:
        accuracy, coco = result.accuracy, result.coco
        table.add_row(
            result.model,
            result.numbers,
            str(len(accuracy.classes)),
            str(accuracy.objects),
            _cell(accuracy.map50),
            _cell(accuracy.map50_95),
            _cell(coco.ap) if coco else "",
            _cell(coco.ap50) if coco else "",
            _cell(accuracy.mean_iou),
            f"{accuracy.best_score:.2f}",
            _cell(accuracy.f1),
            f"{result.timing.total:.1f}",
            f"{result.timing.inference:.1f}",
        )
    return table


def _cell(value: float) -> str:
    return "-" if math.isnan(value) or value < 0 else f"{value:.3f}"  # COCO says -1


def _per_class(results: Sequence[Result], class_names: Sequence[str]) -> Table:
    table = Table(title="AP50 by class")
    table.add_column("class")
    table.add_column("objects", justify="right")
    for result in results:
        table.add_column(result.model, justify="right", overflow="fold")
    aps = [{row.class_id: row.ap50 for row in result.accuracy.classes} for result in results]
    objects = {row.class_id: row.objects for result in results for row in result.accuracy.classes}
    for class_id in sorted(objects, key=lambda number: (-objects[number], number)):
        cells = [_cell(ap[class_id]) if class_id in ap else "" for ap in aps]
        table.add_row(class_names[class_id], str(objects[class_id]), *cells)
    return table


def left_out(result: Result, class_names: Sequence[str]) -> list[str]:
    """What the figures say nothing about, one sentence each."""
    sentences = []
    if result.left_out_objects:
        marked = {thing.class_id for item in result.compared for thing in item.picture.objects}
        names = [name for number, name in enumerate(class_names) if name in result.match.only_set and number in marked]
        why = "are not known to all of the models" if result.match.not_common else "are not the model's"
        hint = "" if result.match.not_common else "; where it has other names for them, give --class-map"
        sentences.append(f"{result.left_out_objects} objects left out, their classes {why}: {_some(names)}{hint}")
    if result.match.only_model:
        sentences.append(
            f"{len(result.match.only_model)} classes of the model are not in the set and were left out: {_some(result.match.only_model)}"
        )
    return sentences


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def save_plot(results: Sequence[Result], path: Path) -> None:
    """Write mAP50 against time a picture, one point a model, as a PNG. Raises ConfigError when matplotlib is not installed."""
    points = [Point(result.model, result.timing.total, result.accuracy.map50, result.numbers) for result in results]
    save_points(points, "mAP50", path, threads=results[0].threads, pictures=results[0].pictures)


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    """One model in a plot."""

    name: str
    time_ms: float
    accuracy: float
    """0..1, or no number where there is none, which is drawn at 0."""
    numbers: str
    """What the network calculates with: int8 or float32."""

    @property
    def height(self) -> float:
        """Where it is drawn."""
        return 0.0 if math.isnan(self.accuracy) else self.accuracy


def save_points(points: Sequence[Point], measure: str, path: Path, *, threads: int, pictures: int) -> None:
    """Write accuracy against time a picture as a PNG. Raises ConfigError when matplotlib is not installed."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - 80 MB with what it needs, and only plots need it
        from matplotlib.figure import Figure  # noqa: PLC0415 - as above
    except ImportError as exc:
        raise ConfigError("a plot needs the Python package matplotlib: install `edgeannot[plots]`, or leave --plot away") from exc
    figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for point in points:
        axes.plot([point.time_ms], [point.height], "s" if point.numbers == "int8" else "o", markersize=8)
    axes.set_xscale("log")
    axes.set_xlim(*_room([point.time_ms for point in points]))
    axes.set_ylim(0, max(0.1, *(point.height for point in points)) * 1.2)
    with_threads = f"{threads} thread{'s' if threads > 1 else ''}"
    axes.set_xlabel(f"ms a picture (median of preprocessing, inference and postprocessing; {with_threads})")
    axes.set_ylabel(measure)
    axes.set_title(f"accuracy against time on {pictures} pictures (squares: int8, circles: float32)", fontsize=10)
    axes.grid(visible=True, which="both", alpha=0.3)
    ticks = _ticks(*axes.get_xlim())
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    _label_points(axes, [(point.name, point.time_ms, point.height) for point in points])
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_whole(path, buffer.getvalue())


def _room(times_ms: Sequence[float]) -> tuple[float, float]:
    """Limits of a logarithmic axis with room for the points' names on both sides."""
    low, high = min(times_ms), max(times_ms)
    margin = (high / low) ** 0.15 * 1.3
    return low / margin, high * margin


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers for a logarithmic axis: 1, 2, 5, 10, ..., or so many more that a short axis has some too.

    >>> _ticks(1.1, 1.9), _ticks(3, 30)
    ([1.2, 1.5], [5.0, 10.0, 20.0])
    """
    for steps in ((1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8), (1, 1.2, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9)):
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        ticks = [float(f"{step}e{decade}") for decade in decades for step in steps]
        found = [tick for tick in ticks if low <= tick <= high]
        if len(found) >= ENOUGH_TICKS:
            break
    return found


def _label_points(axes: Any, points: Sequence[tuple[str, float, float]]) -> None:
    """Write each name beside its point, where it covers no other name or point and stays on the plot if there is such a place."""
    figure = axes.figure
    figure.draw_without_rendering()
    marks = [axes.transData.transform((x, y)) for _, x, y in points]
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in marks]
    frame = axes.get_window_extent().extents
    for name, x, y in points:
        best = None
        for right, up in ((1, 6), (-1, 6), (1, -14), (-1, -14), (1, 18), (-1, 18), (1, -26), (-1, -26)):
            label = axes.annotate(
                name, (x, y), (8 * right, up), textcoords="offset points", fontsize=8, ha="left" if right > 0 else "right"
            )
            box = tuple(label.get_window_extent().extents)
            outside = box[0] < frame[0] or box[2] > frame[2] or box[1] < frame[1] or box[3] > frame[3]
            cost = 2 * outside + sum(box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in taken)
            if best is None or cost < best[0]:
                if best is not None:
                    best[1].remove()
                best = (cost, label, box)
            else:
                label.remove()
            if cost == 0:
                break
        if best is not None:
            taken.append(best[2])
