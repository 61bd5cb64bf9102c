"""Settings of tracking and events."""

from __future__ import annotations

from pydantic import Field, field_validator

from edgeannot.base.options import Options
from edgeannot.scene.motion_options import Polygon, checked_polygons

__all__ = ["TrackingOptions"]

_Line = tuple[tuple[float, float], tuple[float, float]]


class TrackingOptions(Options):
    """Follow objects from picture to picture, and tell when one appears, stays, moves and leaves."""

    enabled: bool = False
    """Whether detections have a track_id, and events are published."""
    low_score: float = Field(default=0.1, ge=0, le=1)
    """Detections from this score on may continue a track, though they are not reported by themselves."""
    dwell_s: float = Field(default=1.0, ge=0)
    """How long an object has to be seen, on average with min_score, and to be in a zone where there are zones, before it has appeared, in
    seconds."""
    patience_s: float = Field(default=3.0, gt=0)
    """How long an object may be hidden before it has left, in seconds."""
    still_s: float = Field(default=10.0, gt=0)
    """How long an object has to stay where it is to be still, in seconds."""
    lost_s: float = Field(default=60.0, gt=0)
    """How long the source may be away before its objects have left, in seconds."""
    pictures: bool = False
    """Whether the best picture of each object (large, sharp, of a high score) goes with its events: on the image topic, and to
    [sinks.events]."""
    zones: dict[str, Polygon] = Field(default={})
    """Polygons by name, [[x, y], ...] in fractions of width and height: only what stands in one of them has events; empty: all."""
    lines: dict[str, _Line] = Field(default={})
    """Lines by name, [[x, y], [x, y]] in fractions: what crosses one is counted, `in` from its left side to its right, seen from its first
    end."""

    @field_validator("zones")
    @classmethod
    def _polygons(cls, zones: dict[str, Polygon]) -> dict[str, Polygon]:
        checked_polygons(tuple(zones.values()))
        return zones
