"""Settings of the classifiers that look at parts of a picture: the second stage, and the states of regions."""

from __future__ import annotations

from pydantic import Field

from edgeannot.base.options import Options

__all__ = ["ClassifyOptions"]


class ClassifyOptions(Options):
    """A second stage: what was detected with this label is cut out, and a classifier says more of it."""

    model: str = Field(min_length=1, examples=["breeds"])
    """Name of a classifier, such as one that `edgeannot teach classify` added, also NAME@SIZE."""
    min_score: float | None = Field(default=None, ge=0, le=1)
    """Smallest score with which it says something; unset: the model card's."""
    margin: float = Field(default=0.1, ge=0, le=1)
    """How much of the surroundings it sees as well, on each side, as a share of the box's side."""
    every_s: float = Field(default=1.0, ge=0)
    """Least seconds between two looks at one tracked object, by the time of the pictures. Without tracking every picture is looked at."""
    most: int = Field(default=4, ge=1)
    """Objects that are looked at in one picture, those first that waited longest."""
    max_ms: float = Field(default=100.0, gt=0)
    """Time in ms in which another object of a picture is begun; the rest waits for a later picture."""
