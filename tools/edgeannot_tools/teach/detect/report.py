"""What is told of a taught detector: figures, and a sheet of the pictures with what was found in them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from edgeannot.base.foreign import json_text, number_of
from edgeannot.vision.data import Detections, UInt8Array
from edgeannot_tools.evaluate.average_precision import find_misses
from edgeannot_tools.evaluate.drawings import GREEN, RED, draw_box, picture_tile, save_tiles, write_text
from edgeannot_tools.output import plain_table, print_note
from edgeannot_tools.teach.detect.choice import Trial
from edgeannot_tools.teach.detect.pictures import LabelledPicture, TeachingSet
from edgeannot_tools.teach.detect.teaching import Taught

__all__ = ["print_taught", "print_trials", "report_json", "save_sheet"]

MOST_TILES = 48
MANY_ALARMS = 0.1
"""Of pictures without objects, from which on a note says what helps."""
_TILE_WH, _COLUMNS = (300, 225), 4
_LARGE_TILE_WH, _FEW_COLUMNS = (600, 450), 2
"""Where most objects are small."""
_CAPTION_PX = 40
_BLUE = (255, 150, 40)
_THIN_PX = 32
"""Of a box in a tile: around a smaller one a thick line would hide what is in it."""


def print_taught(taught: Taught, to_teach: TeachingSet, console: Console) -> None:
    """Print the figures of the cross-validation and what to make of them."""
    labelled = sum(bool(item.picture.objects) for item in to_teach.pictures)
    made = sum(item.made is not None for item in to_teach.pictures)
    for note in taught.notes:
        print_note(console, note)
    accuracy, folds = taught.accuracy, int(taught.folds.max()) + 1
    console.print(
        f"{number_of(labelled, 'picture')} with {number_of(accuracy.objects, 'object')}, {taught.alarms.pictures} without"
        + (f", {number_of(made, 'made one')}" if made else "")
        + "; "
        f"{taught.backbone.name}, {number_of(taught.views, 'changed view')} of each, "
        f"{number_of(len(taught.layers), 'anchor')} ({'size bins' if taught.bins else 'one a map'})",
        soft_wrap=True,
    )
    table = plain_table(words=["class"], numbers=["objects", "AP50", "AP50-95"])
    for row in accuracy.classes:
        table.add_row(to_teach.labels[row.class_id], str(row.objects), f"{row.ap50:.3f}", f"{row.ap50_95:.3f}")
    table.add_row("all", str(accuracy.objects), f"{accuracy.map50:.3f}", f"{accuracy.map50_95:.3f}")
    small = taught.small
    if 0 < small.objects < accuracy.objects:
        table.add_row("the small of them", str(small.objects), f"{small.map50:.3f}", f"{small.map50_95:.3f}")
    console.print(table)
    console.print(
        f"each picture judged by layers that had not seen it ({folds} folds): mean IoU {accuracy.mean_iou:.3f}, "
        f"precision {taught.precision:.3f} and recall {taught.recall:.3f} from score {taught.min_score:.2f} on, which is in the card"
        + (f" as {taught.backbone.card.defaults.min_score:g}, the threshold of the classes that are kept" if taught.backbone.kept else ""),
        soft_wrap=True,
    )
    alarms = taught.alarms
    if alarms.pictures:
        console.print(f"false alarms: in {alarms.alarmed} of {number_of(alarms.pictures, 'picture')} without objects", soft_wrap=True)
    else:
        print_note(console, "false alarms are not known: give pictures without the objects by --background, which also prevents alarms")
    if alarms.alarmed > MANY_ALARMS * alarms.pictures:
        print_note(console, "many false alarms: give more pictures of the place without the objects by --background")
    console.print(f"features in {taught.features_s:.1f} s, fit and cross-validation in {taught.fit_s:.1f} s")


def print_trials(trials: Sequence[Trial], within_s: float, candidates: int, console: Console) -> None:
    """Print what was tried, if that was more than one, or that more could be."""
    for trial in trials if len(trials) > 1 else ():
        console.print(
            f"tried {trial.name}: mAP50 {trial.map50:.3f}, mAP50-95 {trial.map50_95:.3f}, mean IoU {trial.mean_iou:.3f} "
            f"({trial.seconds:.0f} s)",
            soft_wrap=True,
        )
    if len(trials) < candidates:
        left = number_of(candidates - len(trials), "backbone")
        console.print(f"{left} not tried within {within_s:g} s; --within gives more time", soft_wrap=True)


def report_json(taught: Taught, to_teach: TeachingSet) -> str:
    """Return the figures as JSON; a figure that does not exist is null."""
    accuracy, made = taught.accuracy, sum(item.made is not None for item in to_teach.pictures)
    report: dict[str, Any] = {
        "schema": 1,
        "backbone": taught.backbone.name,
        "pictures": len(to_teach.pictures) - made,
        "made_background": made,
        "objects": accuracy.objects,
        "folds": int(taught.folds.max()) + 1,
        "views": taught.views,
        "size_bins": taught.bins,
        "anchors": [[layer.band.tap, *(round(side, 1) for side in layer.band.anchor_wh)] for layer in taught.layers],
        "map50": _number(accuracy.map50),
        "map50_95": _number(accuracy.map50_95),
        "mean_iou": _number(accuracy.mean_iou),
        "small": {"objects": taught.small.objects, "map50": _number(taught.small.map50), "map50_95": _number(taught.small.map50_95)},
        "min_score": round(taught.min_score, 3),
        "precision": _number(taught.precision),
        "recall": _number(taught.recall),
        "false_alarms": {"pictures": taught.alarms.pictures, "alarmed": taught.alarms.alarmed},
        "classes": [
            {"name": to_teach.labels[row.class_id], "objects": row.objects, "ap50": _number(row.ap50), "ap50_95": _number(row.ap50_95)}
            for row in accuracy.classes
        ],
        "features_s": round(taught.features_s, 2),
        "fit_s": round(taught.fit_s, 2),
        "notes": [*to_teach.notes, *taught.notes],
    }
    return json_text(report, indent=1)


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)


def save_sheet(taught: Taught, to_teach: TeachingSet, path: Path) -> None:
    """Write the pictures as a PNG, those with most mistakes first, with what reaches the card's score.

    Green: marked by a person; blue, dashed: found rightly; red, dashed and crossed: wrongly. Green without blue was missed.
    """
    rated = []
    for number, (item, found) in enumerate(zip(to_teach.pictures, taught.found, strict=True)):
        if item.made is not None:
            continue
        missed, wrong = find_misses(item.truth(), found, taught.min_score)
        said = f"{len(missed)} missed, {len(wrong)} wrong" if missed or wrong else "all right"
        rated.append((len(missed) + len(wrong), number, said, wrong))
    rated.sort(key=lambda entry: (-entry[0], entry[1]))
    large = 2 * taught.small.objects > taught.accuracy.objects
    size_wh, columns = (_LARGE_TILE_WH, _FEW_COLUMNS) if large else (_TILE_WH, _COLUMNS)
    tiles = [
        _tile(to_teach.pictures[number], taught.found[number], taught.min_score, wrong, to_teach.labels, said, size_wh)
        for _, number, said, wrong in rated[:MOST_TILES]
    ]
    right = sum(not mistakes for mistakes, *_ in rated)
    title = f"{right} of {len(rated)} pictures all right from score {taught.min_score:.2f} on, each judged by layers that had not seen it; "
    save_tiles(tiles, f"{title}green: marked; dashed: found, blue rightly, red and crossed wrongly", columns, path)


def _tile(
    item: LabelledPicture,
    found: Detections,
    min_score: float,
    wrong: Sequence[int],
    labels: Sequence[str],
    said: str,
    size_wh: tuple[int, int],
) -> UInt8Array:
    image, marked = item.load()
    tile, scale, corner = picture_tile(image, size_wh, _CAPTION_PX)
    shift = np.array(corner * 2, np.float32)
    kept = np.flatnonzero(found.scores >= min_score).tolist()
    drawn = [(box, GREEN) for box in marked.boxes]
    drawn += [(found.boxes[row], RED if row in wrong else _BLUE) for row in sorted(kept, key=lambda row: row in wrong)]
    for box, color in drawn:
        x1, y1, x2, y2 = (box * np.float32(scale) + shift).tolist()
        thickness = 1 if min(x2 - x1, y2 - y1) < _THIN_PX else 2
        draw_box(tile, (x1, y1, x2, y2), color, thickness, dashed=color != GREEN, crossed=color == RED)
    names = ", ".join(f"{labels[int(found.classes[row])][:16]} {found.scores[row]:.2f}" for row in kept[:3])
    write_text(tile, f"{said}; {item.picture.name}", (4, size_wh[1] + 15), 0.42)
    best = f"nothing; the surest has {found.scores.max():.2f}" if len(found) else "nothing found"
    write_text(tile, names + (f" and {len(kept) - 3} more" if len(kept) > 3 else "") or best, (4, size_wh[1] + 33), 0.38)
    return tile
