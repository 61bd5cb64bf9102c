"""What the evaluation of classifiers shows: a table, JSON, a plot of accuracy against time, and a sheet of the surest wrong answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from edgeannot.base.foreign import json_text
from edgeannot.vision.data import UInt8Array
from edgeannot.vision.decode import read_picture
from edgeannot_tools.evaluate.classifier_accuracy import Answer, Ranking, class_rows
from edgeannot_tools.evaluate.report import REPORT_SCHEMA, Point, save_points
from edgeannot_tools.output import write_whole
from edgeannot_tools.terminal import print_note

__all__ = ["print_rankings", "rankings_json", "save_ranking_plot", "save_wrong_answers"]

TILE = 200
CAPTION = 52
COLUMNS = 6
GRAY, WHITE = (40, 40, 40), (235, 235, 235)
"""BGR: the ground, letters."""


def rankings_json(rankings: Sequence[Ranking], data: str, class_names: Sequence[str]) -> str:
    """The figures of every model as JSON; shares are 0..1."""
    report = {"schema": REPORT_SCHEMA, "data": data, "models": [_as_dict(ranking, class_names) for ranking in rankings]}
    return json_text(report, indent=1)


def _as_dict(ranking: Ranking, class_names: Sequence[str]) -> dict[str, Any]:
    timing = ranking.timing
    return {
        "model": ranking.model,
        "task": "classify",
        "input": list(ranking.input_wh),
        "numbers": ranking.numbers,
        "runtime": ranking.runtime,
        "threads": ranking.threads,
        "pictures": len(ranking.answers),
        "top1": _number(ranking.top1),
        "top5": _number(ranking.top5),
        "top1_in_set": _number(ranking.top1_in_set),
        "ms": {
            "preprocess": round(timing.preprocess, 3),
            "inference": round(timing.inference, 3),
            "postprocess": round(timing.postprocess, 3),
            "total": round(timing.total, 3),
        },
        "classes": [
            {
                "name": class_names[row.class_id],
                "pictures": row.pictures,
                "top1": _number(row.top1),
                "top5": _number(row.top5),
                "mistaken_for": row.mistaken_for or None,
            }
            for row in class_rows(ranking)
        ],
        "left_out": {
            "set_classes": list(ranking.match.only_set),
            "pictures": ranking.left_out,
            "model_classes": len(ranking.match.only_model),
        },
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)


def print_rankings(rankings: Sequence[Ranking], class_names: Sequence[str], console: Console) -> None:
    """Print one row a model, then each class beside each other, then what was left out."""
    table = Table(caption="top-1: the best of all classes of the model is right; in set: the best of those that the set has")
    table.add_column("model", overflow="fold")
    for column in ("numbers", "classes", "pictures", "top-1", "top-5", "top-1 in set", "ms", "inference"):
        table.add_column(column, justify="right", no_wrap=True)
    for ranking in rankings:
        table.add_row(
            ranking.model,
            ranking.numbers,
            str(len({answer.class_id for answer in ranking.answers})),
            str(len(ranking.answers)),
            *(f"{share:.3f}" for share in (ranking.top1, ranking.top5, ranking.top1_in_set)),
            f"{ranking.timing.total:.1f}",
            f"{ranking.timing.inference:.1f}",
        )
    console.print(table)
    console.print(_per_class(rankings, class_names))
    for ranking in rankings:
        for sentence in _left_out(ranking):
            print_note(console, f"{ranking.model}: {sentence}")


def _per_class(rankings: Sequence[Ranking], class_names: Sequence[str]) -> Table:
    table = Table(title="top-1 by class, and what it is most often mistaken for")
    table.add_column("class")
    table.add_column("pictures", justify="right")
    for ranking in rankings:
        table.add_column(ranking.model, overflow="fold")
    rows = [{row.class_id: row for row in class_rows(ranking)} for ranking in rankings]
    for class_id in sorted({class_id for by_id in rows for class_id in by_id}):
        own = [by_id.get(class_id) for by_id in rows]
        cells = [f"{row.top1:.3f}  {row.mistaken_for}".rstrip() if row else "" for row in own]
        table.add_row(class_names[class_id], str(next(row.pictures for row in own if row)), *cells)
    return table


def _left_out(ranking: Ranking) -> list[str]:
    sentences = []
    if ranking.left_out:
        why = "are not known to all of the models" if ranking.match.not_common else "are not the model's"
        names = ", ".join(ranking.match.only_set[:8]) + (", ..." if len(ranking.match.only_set) > 8 else "")
        sentences.append(f"{ranking.left_out} pictures left out, their classes {why}: {names}; --class-map says what they are called there")
    if ranking.match.only_model:
        sentences.append(
            f"{len(ranking.match.only_model)} classes of the model are not in the set; to answer one of them is a miss in top-1"
        )
    return sentences


def save_ranking_plot(rankings: Sequence[Ranking], path: Path) -> None:
    """Write top-1 against time a picture, one point a model, as a PNG. Raises ConfigError when matplotlib is not installed."""
    points = [Point(ranking.model, ranking.timing.total, ranking.top1, ranking.numbers) for ranking in rankings]
    save_points(points, "top-1", path, threads=rankings[0].threads, pictures=len(rankings[0].answers))


def save_wrong_answers(ranking: Ranking, class_names: Sequence[str], path: Path, limit: int = 30) -> int:
    """Write the pictures whose best label is wrong, the surest first, with what they show and what was said; how many are on it."""
    wrong = sorted((answer for answer in ranking.answers if answer.rank), key=lambda answer: -answer.score)[:limit]
    height = TILE + CAPTION
    sheet = np.full((max(1, -(-len(wrong) // COLUMNS)) * height + 30, COLUMNS * TILE, 3), GRAY, np.uint8)
    title = f"{ranking.model}: top-1 {ranking.top1:.3f} on {len(ranking.answers)} pictures; the surest wrong answers"
    _write(sheet, title if wrong else f"{ranking.model}: no wrong answers", (8, 20), 0.5)
    for number, answer in enumerate(wrong):
        top, left = 30 + number // COLUMNS * height, number % COLUMNS * TILE
        sheet[top : top + height, left : left + TILE] = _tile(answer, class_names[answer.class_id])
    encoded, data = cv2.imencode(".png", sheet)
    if not encoded:
        raise ValueError("OpenCV could not encode the sheet as PNG")
    write_whole(path, data.tobytes())
    return len(wrong)


def _tile(answer: Answer, shown: str) -> UInt8Array:
    image = read_picture(answer.path).image
    scale = TILE / max(image.shape[:2])
    inner = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    small = cv2.resize(image, inner, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    tile = np.full((TILE + CAPTION, TILE, 3), GRAY, np.uint8)
    x, y = (TILE - inner[0]) // 2, (TILE - inner[1]) // 2
    tile[y : y + inner[1], x : x + inner[0]] = small
    said = f"{answer.labels[0][:22]} {answer.score:.2f}" if answer.labels else "nothing"
    for line, text in enumerate((shown[:26], f"said: {said}", answer.path.name[-30:])):
        _write(tile, text, (4, TILE + 14 + 16 * line), 0.4)
    return tile


def _write(image: UInt8Array, text: str, at: tuple[int, int], size: float) -> None:
    # OpenCV's own letters are ASCII; other letters become question marks.
    cv2.putText(image, text.encode("ascii", "replace").decode(), at, cv2.FONT_HERSHEY_SIMPLEX, size, WHITE, 1, cv2.LINE_AA)
