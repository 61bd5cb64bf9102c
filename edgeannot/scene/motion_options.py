"""Settings of the motion gate."""

from __future__ import annotations

from pydantic import Field, field_validator

from edgeannot.base.options import Options

__all__ = ["MotionOptions", "Part", "Polygon", "checked_part"]

Part = tuple[float, float, float, float]
"""Left, top, right and bottom of a part of the picture, as fractions of its width and height."""

Polygon = tuple[tuple[float, float], ...]
"""Corners as fractions of the picture's width and height, from the top left corner."""


def checked_polygons(polygons: tuple[Polygon, ...]) -> tuple[Polygon, ...]:
    """Return them as they are. Raises ValueError for one that encloses nothing or lies outside the picture."""
    for polygon in polygons:
        if len(polygon) < 3:
            raise ValueError("wanted at least three corners of a polygon, [[x, y], [x, y], [x, y]]")
        if not all(0.0 <= value <= 1.0 for corner in polygon for value in corner):
            raise ValueError("wanted corners as fractions of the picture's width and height, from 0 to 1")
    return polygons


def checked_part(part: Part | None) -> Part | None:
    """Return it as it is. Raises ValueError for one that is empty or lies outside the picture."""
    if part is not None and not (0 <= part[0] < part[2] <= 1 and 0 <= part[1] < part[3] <= 1):
        raise ValueError("wanted left < right and top < bottom, each from 0 to 1")
    return part


class MotionOptions(Options):
    """Run the model only where something has changed in the picture."""

    enabled: bool = False
    """Whether pictures in which nothing has changed since the model saw one go without inference."""
    sensitivity: float = Field(default=0.5, ge=0, le=1)
    """How little has to change: from 0, large and of strong contrast, to 1, small and faint."""
    ignore: tuple[Polygon, ...] = ()
    """Parts of the picture in which nothing counts (a clock in the picture, a road): polygons [[x, y], ...] in fractions of width and
    height."""
    heartbeat_s: float = Field(default=60.0, gt=0)
    """The model sees a picture at least so often, in seconds, by the time of the pictures."""
    hold_s: float = Field(default=1.0, ge=0)
    """How long the model goes on seeing pictures after the last change, in seconds."""

    _polygons = field_validator("ignore")(checked_polygons)
