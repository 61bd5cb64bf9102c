"""Numbers as COCO files hold them: ids, boxes and outlines, checked before they are believed."""

from __future__ import annotations

import math
from typing import Any

from edgeannot_tools.datasets.form import Box

__all__ = ["box_around", "box_of", "is_whole"]


def is_whole(number: Any) -> bool:
    """Whether it is a whole number; tables that went through pandas say 3.0."""
    return isinstance(number, int) or (isinstance(number, float) and number.is_integer())


def box_of(bbox: Any) -> Box | None:
    """x, y, width, height as corners; None where they are not four finite numbers."""
    numbers = _finite(bbox)
    if numbers is None or len(numbers) != 4:
        return None
    x, y, w, h = numbers
    return x, y, x + w, y + h


def box_around(polygons: Any) -> Box | None:
    """The box around an outline, for annotations that have no other; None where there is no polygon."""
    parts = [_finite(part) for part in polygons] if isinstance(polygons, list) else []
    numbers = [[*part] for part in parts if part is not None and len(part) >= 6 and len(part) % 2 == 0]
    if not numbers or len(numbers) != len(parts):
        return None
    xs, ys = ([value for part in numbers for value in part[axis::2]] for axis in (0, 1))
    return min(xs), min(ys), max(xs), max(ys)


def _finite(values: Any) -> list[float] | None:
    """A list of finite numbers as floats; None where it is anything else."""
    if not isinstance(values, list) or not all(isinstance(value, int | float) for value in values):
        return None
    try:
        numbers = [float(value) for value in values]
    except OverflowError:  # JSON's whole numbers have no end
        return None
    return numbers if all(map(math.isfinite, numbers)) else None
