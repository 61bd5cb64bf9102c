"""What an evaluation draws: accuracy against time, and sheets of the worst errors, cut out of the pictures."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

from edgeannot.base.errors import ConfigError
from edgeannot.base.foreign import number_of
from edgeannot.vision.data import UInt8Array
from edgeannot.vision.decode import read_picture
from edgeannot.vision.geometry import iou_matrix
from edgeannot_tools.evaluate.average_precision import find_misses
from edgeannot_tools.evaluate.classifier_accuracy import Answer, Ranking
from edgeannot_tools.evaluate.measure import Compared, Result
from edgeannot_tools.output import write_whole

__all__ = [
    "GREEN",
    "RED",
    "Miss",
    "draw_box",
    "picture_tile",
    "save_error_sheet",
    "save_plot",
    "save_tiles",
    "save_wrong_answers",
    "worst_misses",
    "write_text",
]

ENOUGH_TICKS = 3
"""On the axis of times, to read values between them."""

_TILE_WH = (300, 225)
_CAPTION_PX = 40
_COLUMNS = 4
_MARGIN = 0.6
"""How much of the box's own size is shown around it, on each side."""
_HIT, _NEAR = 0.5, 0.1
"""Overlaps from which on a box is on an object, and near it."""
GREEN, RED, _GRAY, _WHITE = (80, 220, 80), (60, 60, 240), (40, 40, 40), (235, 235, 235)
"""BGR: what was marked, what was found, the ground, letters."""
_CUT = "..."
"""The end of a line that is longer than its image."""
_TITLE_PX = 30
_GAP_PX = 8
"""Between two tiles side by side, so that it is seen where one picture ends."""
_ANSWER_PX, _ANSWER_CAPTION_PX, _ANSWER_COLUMNS = 200, 52, 6
"""Of the sheet of wrong answers: the side of a picture, the lines below it, how many stand side by side."""


def save_plot(runs: Sequence[Result | Ranking], path: Path) -> None:
    """Write mAP50, or top-1, against time a picture, one point a model, as a PNG. One without accuracy is drawn at 0.

    Raises ConfigError when matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - 80 MB with what it needs, and only plots need it
        from matplotlib.figure import Figure  # noqa: PLC0415 - as above
    except ImportError as exc:
        raise ConfigError("a plot needs the Python package matplotlib: install `edgeannot[plots]`, or leave --plot away") from exc
    figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    accuracies = [run.accuracy.map50 if isinstance(run, Result) else run.top1 for run in runs]
    points = [(run.model, run.timing.total, float(np.nan_to_num(accuracy))) for run, accuracy in zip(runs, accuracies, strict=True)]
    for run, (_, time, height) in zip(runs, points, strict=True):
        axes.plot([time], [height], "s" if run.numbers == "int8" else "o", markersize=8)
    axes.set_xscale("log")
    axes.set_xlim(*_room([time for _, time, _ in points]))
    axes.set_ylim(0, max(0.1, *(height for *_, height in points)) * 1.2)
    with_threads = number_of(runs[0].threads, "thread")
    axes.set_xlabel(f"ms a picture (median of preprocessing, inference and postprocessing; {with_threads})")
    axes.set_ylabel("mAP50" if isinstance(runs[0], Result) else "top-1")
    axes.set_title(f"accuracy against time on {number_of(runs[0].pictures, 'picture')} (squares: int8, circles: float32)", fontsize=10)
    axes.grid(visible=True, which="both", alpha=0.3)
    ticks = _ticks(*axes.get_xlim())
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    _label_points(axes, points)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_whole(path, buffer.getvalue())


def _room(times_ms: Sequence[float]) -> tuple[float, float]:
    """Return limits of a logarithmic axis with room for the points' names on both sides."""
    low, high = min(times_ms), max(times_ms)
    margin = (high / low) ** 0.15 * 1.3
    return low / margin, high * margin


def _ticks(low: float, high: float) -> list[float]:
    """Return round numbers for a logarithmic axis: 1, 2, 5, 10, ..., or so many more that a short axis has some too.

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


@dataclass(frozen=True, slots=True)
class Miss:
    """One thing that went wrong in a picture."""

    item: Compared
    box: tuple[float, float, float, float]
    caption: str
    weight: float
    """For an object that was overlooked its share of the picture, for an imagined one its score."""


def worst_misses(result: Result, class_names: Sequence[str], limit: int) -> list[Miss]:
    """Overlooked and imagined objects in turn, the worst of each first, at the score that suits the model best."""
    overlooked: list[Miss] = []
    imagined: list[Miss] = []
    for item in result.compared:
        width, height = item.picture.size_wh
        missed, wrong = find_misses(item.truth, item.found, result.accuracy.best_score)
        for row in missed:
            box = _corners(item.truth.boxes[row])
            share = (box[2] - box[0]) * (box[3] - box[1]) / (width * height)
            name = class_names[int(item.truth.classes[row])]
            overlooked.append(Miss(item, box, f"overlooked: {name} ({share:.0%} of picture)", share))
        for row in wrong:
            name, score = class_names[int(item.found.classes[row])], float(item.found.scores[row])
            why = _why(item, row, class_names)
            imagined.append(Miss(item, _corners(item.found.boxes[row]), f"wrong: {name} {score:.2f}{why}", score))
    ranked = (sorted(misses, key=lambda miss: -miss.weight) for misses in (overlooked, imagined))
    return [miss for miss in chain.from_iterable(zip_longest(*ranked)) if miss is not None][:limit]


def _corners(box: NDArray[Any]) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = (float(value) for value in box)
    return x1, y1, x2, y2


def _why(item: Compared, row: int, class_names: Sequence[str]) -> str:
    """Return what is marked where the model found something else, as far as that tells."""
    if not len(item.truth.boxes):
        return ""
    overlaps = iou_matrix(item.found.boxes[row : row + 1], item.truth.boxes.astype(np.float32))[0]
    same = item.truth.classes == item.found.classes[row]
    if overlaps[same].max(initial=0.0) >= _HIT:
        return ", found twice"
    if overlaps.max() >= _HIT:
        return f", marked as {class_names[int(item.truth.classes[int(overlaps.argmax())])]}"
    if overlaps[same].max(initial=0.0) >= _NEAR:
        return f", misplaced (IoU {overlaps[same].max():.2f})"
    return ""


def _miss_tile(miss: Miss, score: float) -> UInt8Array:
    """Return the part of the picture around the miss with every box in it, and what went wrong below."""
    path = miss.item.picture.path
    if path is None:
        raise ValueError(f"picture {miss.item.picture.name} has no file")
    image = read_picture(path).image
    left, top, right, bottom = _around(miss.box, miss.item.picture.size_wh)
    tile, scale, (x, y) = picture_tile(image[top:bottom, left:right], _TILE_WH, _CAPTION_PX)
    cut = tile[y : _TILE_WH[1] - y, x : _TILE_WH[0] - x]
    found = miss.item.found[miss.item.found.scores >= score]
    for boxes, color in ((miss.item.truth.boxes, GREEN), (found.boxes, RED)):
        for box in boxes:
            draw_box(cut, [(float(box[i]) - (left, top)[i % 2]) * scale for i in range(4)], color, 1, dashed=color == RED)
    own = RED if miss.caption.startswith("wrong") else GREEN
    draw_box(cut, [(miss.box[i] - (left, top)[i % 2]) * scale for i in range(4)], own, 3, dashed=own == RED)
    write_text(tile, miss.caption, (4, _TILE_WH[1] + 15), 0.45)
    write_text(tile, miss.item.picture.name[-44:], (4, _TILE_WH[1] + 33), 0.38)
    return tile


def _around(box: tuple[float, float, float, float], size_wh: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return whole pixels of the picture around a box: at least a tenth of the picture, at most all of it."""
    x1, y1, x2, y2 = box
    width, height = size_wh
    pad_x, pad_y = max((x2 - x1) * _MARGIN, width * 0.05), max((y2 - y1) * _MARGIN, height * 0.05)
    left, top = max(0, int(x1 - pad_x)), max(0, int(y1 - pad_y))
    return left, top, min(width, max(left + 1, int(x2 + pad_x) + 1)), min(height, max(top + 1, int(y2 + pad_y) + 1))


def draw_box(
    image: MatLike, box: Sequence[float], color: tuple[int, int, int], thickness: int, *, dashed: bool = False, crossed: bool = False
) -> None:
    """Draw a box, xyxy in pixels of the image, in a BGR colour. dashed, crossed (a diagonal): what tells boxes apart without colour."""
    x1, y1, x2, y2 = (round(value) for value in box)
    x2, y2 = x2 - 1, y2 - 1
    if crossed:
        cv2.line(image, (x1, y1), (x2, y2), color, 1, cv2.LINE_AA)
    if not dashed:
        cv2.rectangle(image, (x1, y1), (x2, y2), color, thickness, cv2.LINE_AA)
        return
    dash = 4 + 2 * thickness
    for at in range(x1, x2, 2 * dash):
        for y in (y1, y2):
            cv2.line(image, (at, y), (min(at + dash, x2), y), color, thickness, cv2.LINE_AA)
    for at in range(y1, y2, 2 * dash):
        for x in (x1, x2):
            cv2.line(image, (x, at), (x, min(at + dash, y2)), color, thickness, cv2.LINE_AA)


def save_error_sheet(result: Result, class_names: Sequence[str], path: Path, limit: int = 24) -> int:
    """Write the worst misses as a PNG; the number of misses on it. Green: marked by a person; red, dashed: found by the model."""
    score = result.accuracy.best_score
    tiles = [_miss_tile(miss, score) for miss in worst_misses(result, class_names, limit)]
    title = f"the worst misses from score {score:.2f} on (mAP50 {result.accuracy.map50:.3f}); green: marked, red, dashed: found"
    save_tiles(tiles, f"{result.model}: {title if tiles else 'no misses'}", _COLUMNS, path)
    return len(tiles)


def save_wrong_answers(ranking: Ranking, class_names: Sequence[str], path: Path, limit: int = 30) -> int:
    """Write the pictures whose best label is wrong, the surest first, with what they show and what was said; how many are on it."""
    wrong = sorted((answer for answer in ranking.answers if answer.rank), key=lambda answer: -answer.score)[:limit]
    tiles = [_answer_tile(answer, class_names[answer.class_id]) for answer in wrong]
    title = f"top-1 {ranking.top1:.3f} on {number_of(len(ranking.answers), 'picture')}; the surest wrong answers"
    save_tiles(tiles, f"{ranking.model}: {title if tiles else 'no wrong answers'}", _ANSWER_COLUMNS, path)
    return len(tiles)


def save_tiles(tiles: Sequence[UInt8Array], title: str, columns: int, path: Path) -> None:
    """Write tiles of one size in rows below a title, as a PNG."""
    height, width = tiles[0].shape[:2] if tiles else (_TILE_WH[1], _TILE_WH[0])
    rows, step = max(1, -(-len(tiles) // columns)), width + _GAP_PX
    sheet = np.full((_TITLE_PX + rows * height, _GAP_PX + columns * step, 3), _GRAY, np.uint8)
    write_text(sheet, title, (8, 20), 0.5)
    for number, tile in enumerate(tiles):
        top, left = _TITLE_PX + number // columns * height, _GAP_PX + number % columns * step
        sheet[top : top + height, left : left + width] = tile
    encoded, data = cv2.imencode(".png", sheet)
    if not encoded:
        raise ValueError("OpenCV could not encode the sheet as PNG")
    write_whole(path, data.tobytes())


def _answer_tile(answer: Answer, shown: str) -> UInt8Array:
    tile, _, _ = picture_tile(read_picture(answer.path).image, (_ANSWER_PX, _ANSWER_PX), _ANSWER_CAPTION_PX)
    said = f"{answer.labels[0][:22]} {answer.score:.2f}" if answer.labels else "nothing"
    for line, text in enumerate((shown[:26], f"said: {said}", answer.path.name[-30:])):
        write_text(tile, text, (4, _ANSWER_PX + 14 + 16 * line), 0.4)
    return tile


def picture_tile(image: UInt8Array, size_wh: tuple[int, int], caption_px: int) -> tuple[UInt8Array, float, tuple[int, int]]:
    """Return a tile with the whole picture in its middle and room for a caption below; the picture's scale and left top corner in it."""
    height, width = image.shape[:2]
    scale = min(size_wh[0] / width, size_wh[1] / height)
    inner = (max(1, round(width * scale)), max(1, round(height * scale)))
    tile = np.full((size_wh[1] + caption_px, size_wh[0], 3), _GRAY, np.uint8)
    left, top = (size_wh[0] - inner[0]) // 2, (size_wh[1] - inner[1]) // 2
    small = cv2.resize(image, inner, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    tile[top : top + inner[1], left : left + inner[0]] = small
    return tile, scale, (left, top)


def write_text(image: UInt8Array, text: str, at: tuple[int, int], size: float) -> None:
    """Write a line of text with its left bottom corner at a place, in white; what does not fit into the image is left out."""
    # OpenCV's own letters are ASCII; other letters become question marks.
    plain = text.encode("ascii", "replace").decode()
    room = image.shape[1] - at[0] - 4
    while len(plain) > len(_CUT) and cv2.getTextSize(plain, cv2.FONT_HERSHEY_SIMPLEX, size, 1)[0][0] > room:
        plain = plain[: -len(_CUT) - 1] + _CUT
    cv2.putText(image, plain, at, cv2.FONT_HERSHEY_SIMPLEX, size, _WHITE, 1, cv2.LINE_AA)
