"""What an evaluation prints, as tables and as JSON: of detectors first, then of classifiers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from edgeannot.base.foreign import json_text, number_of
from edgeannot_tools.evaluate.classifier_accuracy import Ranking, class_rows
from edgeannot_tools.evaluate.measure import Result, Run
from edgeannot_tools.output import plain_table, print_note

__all__ = ["print_rankings", "print_results", "rankings_json", "results_json"]

REPORT_SCHEMA = 1


def results_json(results: Sequence[Result], data: str, class_names: Sequence[str]) -> str:
    """Return the figures of every model as JSON; a figure that does not exist is null."""
    report = {"schema": REPORT_SCHEMA, "data": data, "models": [_as_dict(result, class_names) for result in results]}
    return json_text(report, indent=1)


def _as_dict(result: Result, class_names: Sequence[str]) -> dict[str, Any]:
    accuracy = result.accuracy
    map50_margin, map50_95_margin = result.margins()
    return {
        **_run_dict(result),
        "pictures": result.pictures,
        "objects": accuracy.objects,
        "map50": _number(accuracy.map50),
        "map50_95": _number(accuracy.map50_95),
        "map50_margin": _number(map50_margin),
        "map50_95_margin": _number(map50_95_margin),
        "mean_iou": _number(accuracy.mean_iou),
        "best": {"score": _number(accuracy.best_score), **{key: _number(getattr(accuracy, key)) for key in ("f1", "precision", "recall")}},
        "coco": None if result.coco is None else {key: _number(value) for key, value in dataclasses.asdict(result.coco).items()},
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


def _run_dict(run: Run) -> dict[str, Any]:
    """Return what detectors and classifiers have in common."""
    facts = {name: getattr(run, name) for name in ("model", "numbers", "runtime", "threads")}
    milliseconds = {name: round(getattr(run.timing, name), 3) for name in ("preprocess", "inference", "postprocess", "total")}
    return {**facts, "input": list(run.input_wh), "ms": milliseconds}


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
    caption = (
        "mAP: mean over the classes present, all points (VOC), ± its 95 % interval by the bootstrap over the pictures; "
        "COCO AP: 101 points; best score: highest F1 at IoU 0.5"
    )
    figures = ("mAP50", "mAP50-95", "COCO AP", "AP50", "mean IoU", "best score", "F1", "ms", "inference")
    table = plain_table(caption=caption, words=["model"], numbers=["numbers", "classes", "objects", *figures])
    for result in results:
        accuracy, coco = result.accuracy, result.coco
        map50_margin, map50_95_margin = result.margins()
        table.add_row(
            result.model,
            result.numbers,
            str(len(accuracy.classes)),
            str(accuracy.objects),
            _with_margin(accuracy.map50, map50_margin),
            _with_margin(accuracy.map50_95, map50_95_margin),
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


def _with_margin(value: float, margin: float) -> str:
    return _cell(value) if math.isnan(margin) else f"{value:.3f} ±" + f"{margin:.2f}".removeprefix("0")


def _per_class(results: Sequence[Result], class_names: Sequence[str]) -> Table:
    table = plain_table("AP50 by class", words=["class"], numbers=["objects"])
    for result in results:
        table.add_column(result.model, justify="right", overflow="fold")
    aps = [{row.class_id: row.ap50 for row in result.accuracy.classes} for result in results]
    objects = {row.class_id: row.objects for result in results for row in result.accuracy.classes}
    for class_id in sorted(objects, key=lambda number: (-objects[number], number)):
        cells = [_cell(ap[class_id]) if class_id in ap else "" for ap in aps]
        table.add_row(class_names[class_id], str(objects[class_id]), *cells)
    return table


def left_out(result: Result, class_names: Sequence[str]) -> list[str]:
    """Return what the figures say nothing about, one sentence each."""
    sentences = []
    if result.left_out_objects:
        marked = {thing.class_id for item in result.compared for thing in item.picture.objects}
        names = [name for number, name in enumerate(class_names) if name in result.match.only_set and number in marked]
        hint = "" if result.match.not_common else "; map other names with --class-map"
        sentences.append(f"{number_of(result.left_out_objects, 'object')} left out, of classes that {_who(result)}: {_some(names)}{hint}")
    if result.match.only_model:
        classes = number_of(len(result.match.only_model), "class", "classes")
        sentences.append(f"{classes} of the model left out, not in the set: {_some(result.match.only_model)}")
    return sentences


def _who(run: Run) -> str:
    return "not all of the models know" if run.match.not_common else "the model does not know"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def rankings_json(rankings: Sequence[Ranking], data: str, class_names: Sequence[str]) -> str:
    """Return the figures of every model as JSON; shares are 0..1."""
    report = {"schema": REPORT_SCHEMA, "data": data, "models": [_ranking_dict(ranking, class_names) for ranking in rankings]}
    return json_text(report, indent=1)


def _ranking_dict(ranking: Ranking, class_names: Sequence[str]) -> dict[str, Any]:
    return {
        **_run_dict(ranking),
        "task": "classify",
        "pictures": len(ranking.answers),
        **{name: _number(getattr(ranking, name)) for name in ("top1", "top1_margin", "top5", "top1_in_set")},
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


def print_rankings(rankings: Sequence[Ranking], class_names: Sequence[str], console: Console) -> None:
    """Print one row a model, then each class beside each other, then what was left out."""
    caption = "top-1: the best of all classes of the model is right; in set: the best of those that the set has"
    columns = ("numbers", "classes", "pictures", "top-1", "top-5", "top-1 in set", "ms", "inference")
    table = plain_table(caption=caption, words=["model"], numbers=columns)
    for ranking in rankings:
        table.add_row(
            ranking.model,
            ranking.numbers,
            str(len({answer.class_id for answer in ranking.answers})),
            str(len(ranking.answers)),
            _with_margin(ranking.top1, ranking.top1_margin),
            *(f"{share:.3f}" for share in (ranking.top5, ranking.top1_in_set)),
            f"{ranking.timing.total:.1f}",
            f"{ranking.timing.inference:.1f}",
        )
    console.print(table)
    console.print(_ranking_classes(rankings, class_names))
    for ranking in rankings:
        for sentence in _ranking_left_out(ranking):
            print_note(console, f"{ranking.model}: {sentence}")


def _ranking_classes(rankings: Sequence[Ranking], class_names: Sequence[str]) -> Table:
    table = plain_table("top-1 by class, and what it is most often mistaken for", words=["class"], numbers=["pictures"])
    for ranking in rankings:
        table.add_column(ranking.model, overflow="fold")
    rows = [{row.class_id: row for row in class_rows(ranking)} for ranking in rankings]
    for class_id in sorted({class_id for by_id in rows for class_id in by_id}):
        own = [by_id.get(class_id) for by_id in rows]
        cells = [f"{row.top1:.3f}  {row.mistaken_for}".rstrip() if row else "" for row in own]
        table.add_row(class_names[class_id], str(next(row.pictures for row in own if row)), *cells)
    return table


def _ranking_left_out(ranking: Ranking) -> list[str]:
    sentences = []
    if ranking.left_out:
        left = f"{number_of(ranking.left_out, 'picture')} left out, of classes that {_who(ranking)}: {_some(ranking.match.only_set)}"
        sentences.append(f"{left}; map other names with --class-map")
    if ranking.match.only_model:
        classes = number_of(len(ranking.match.only_model), "class", "classes")
        sentences.append(f"{classes} of the model not in the set: such an answer is a top-1 error")
    return sentences
