"""The text of a YOLO/Darknet label file: lines of `class cx cy w h`, relative to the picture; or `class x1 y1 x2 y2 ...` for outlines.

The format: https://github.com/AlexeyAB/darknet#how-to-train-to-detect-your-custom-objects and
https://docs.ultralytics.com/datasets/detect/ (boxes), https://docs.ultralytics.com/datasets/segment/ (outlines).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

from edgeannot_tools.datasets.form import Box, LabelledObject, Picture, Problem
from edgeannot_tools.datasets.pictures import size_of

__all__ = ["format_labels", "looks_like_labels", "parse_labels", "read_picture", "relative"]

_BOX_FIELDS = 5
_SCORED_FIELDS = 6
_LEAST_OUTLINE = 7  # a class and three corners
_FAR = 2.0
"""Beyond this many picture sides a number is in another unit: a box twice as wide as its picture is no slip of the pen."""


def read_picture(file: Path, name: str, label: Path, class_count: int, problems: list[Problem], *, split: str = "") -> dict[Path, Picture]:
    """{file: picture with its objects}, or {} when it cannot be used; what is wrong is added to `problems`."""
    if not file.is_file():
        problems.append(Problem("missing-picture", "error", str(file), "the picture is listed but not there"))
        return {}
    size = size_of(str(label), file, None, problems)
    if size is None:
        return {}
    if not label.is_file():
        problems.append(Problem("missing-label", "warning", str(file), f"no label file {label.name}: taken as a picture without objects"))
        return {file: Picture(name, size, (), file, split)}
    try:
        text = label.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        problems.append(Problem("bad-label-file", "error", str(label), f"the file cannot be read as text ({exc})"))
        return {}
    objects, wrong = parse_labels(text, label, size, class_count)
    problems += wrong
    return {file: Picture(name, size, tuple(objects), file, split)}


def parse_labels(text: str, path: Path, size_wh: tuple[int, int], class_count: int) -> tuple[list[LabelledObject], list[Problem]]:
    """Return the objects of a label file in pixels of a picture of that size, and what is wrong with its lines."""
    objects: list[LabelledObject] = []
    problems: list[Problem] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        parsed = _parse_line(line, size_wh, class_count)
        if isinstance(parsed, LabelledObject):
            objects.append(parsed)
        else:
            kind, message = parsed
            problems.append(Problem(kind, "error", f"{path}:{number}", message))
    return objects, problems


def _parse_line(line: str, size_wh: tuple[int, int], class_count: int) -> LabelledObject | tuple[str, str]:
    """Return the object of a line, or the kind of problem and a sentence."""
    fields = line.split()
    try:
        numbers = [float(field) for field in fields]
    except ValueError:
        numbers = [math.nan]
    if not all(map(math.isfinite, numbers)):
        return "bad-line", f"wanted numbers `class cx cy w h`, found {line.strip()!r:.60}"
    if len(numbers) == _SCORED_FIELDS:
        return "bad-line", "6 numbers: this is a detector's result with a score, not a label; remove the score or use another folder"
    outline = len(numbers) >= _LEAST_OUTLINE and len(numbers) % 2 == 1
    if len(numbers) != _BOX_FIELDS and not outline:
        return "bad-line", f"wanted 5 numbers `class cx cy w h`, found {len(numbers)}"
    if numbers[0] != int(numbers[0]) or not 0 <= numbers[0] < class_count:
        return "unknown-class", f"class {fields[0]} is not one of the {class_count} classes (0 to {class_count - 1})"
    if max(map(abs, numbers[1:])) > _FAR:
        return "not-relative", f"wanted numbers between 0 and 1, found {' '.join(fields[1:5])}: these look like pixels"
    return (_outline if outline else _boxed)(int(numbers[0]), numbers[1:], size_wh)


def _boxed(class_id: int, relative_cxcywh: list[float], size_wh: tuple[int, int]) -> LabelledObject:
    cx, cy, w, h = relative_cxcywh
    width, height = size_wh
    box: Box = ((cx - w / 2) * width, (cy - h / 2) * height, (cx + w / 2) * width, (cy + h / 2) * height)
    return LabelledObject(class_id, box)


def _outline(class_id: int, numbers: list[float], size_wh: tuple[int, int]) -> LabelledObject:
    """Return the box around an outline; the outline itself is kept as COCO keeps it, one polygon in pixels."""
    width, height = size_wh
    xs, ys = [x * width for x in numbers[::2]], [y * height for y in numbers[1::2]]
    polygon = [value for point in zip(xs, ys, strict=True) for value in point]
    return LabelledObject(class_id, (min(xs), min(ys), max(xs), max(ys)), extra={"coco": {"segmentation": [polygon]}})


def format_labels(objects: Iterable[LabelledObject], size_wh: tuple[int, int]) -> str:
    """Return the text of a label file, one `class cx cy w h` line an object; empty for a picture without objects."""
    (width, height), text = size_wh, ""
    for thing in objects:
        x1, y1, x2, y2 = thing.box
        numbers = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
        text += f"{thing.class_id} {' '.join(map(relative, numbers))}\n"
    return text


def relative(value: float) -> str:
    """Return a relative coordinate with ten decimals less the zeros at the end: exact to a hundred-thousandth of a pixel at any size.

    >>> relative(0.5380660000000001), relative(1.0), relative(-0.0)
    ('0.538066', '1.0', '0.0')
    """
    text = f"{value:.10f}".rstrip("0")
    text = text + "0" if text.endswith(".") else text
    return "0.0" if text == "-0.0" else text


def looks_like_labels(path: Path) -> bool:
    """Tell whether the first line of the file could be a label (a whole number, then at least four numbers)."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            fields = next((line.split() for line in file if line.strip()), [])
        numbers = [float(field) for field in fields]
    except (OSError, ValueError):
        return False
    return len(numbers) >= _BOX_FIELDS and numbers[0] == int(numbers[0])
