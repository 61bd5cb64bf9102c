"""Settings of the classifiers that look at parts of a picture: the second stage, and the states of regions."""

from __future__ import annotations

from pydantic import Field, field_validator

from edgeannot.base.options import Options
from edgeannot.scene.motion_options import Part, checked_part

__all__ = ["ClassifyOptions", "StateOptions"]


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


class StateOptions(Options):
    """The state of a part of a source's pictures, such as a gate, a valve or a lamp, by a classifier."""

    source: str = Field(min_length=1, examples=["yard"])
    """Name of the source."""
    region: Part = Field(examples=[(0.6, 0.2, 0.8, 0.5)])
    """The part of its pictures: left, top, right and bottom as fractions of width and height."""
    model: str | None = Field(default=None, examples=["gate"])
    """Name of a classifier; its classes are the states. Unset: there is none yet, and only cut-outs are made ([sinks.crops])."""
    min_score: float = Field(default=0.5, ge=0, le=1)
    """A picture with a lower score says nothing."""
    steady: int = Field(default=3, ge=1)
    """So many pictures in a row have to say the same before it is the state."""
    every_s: float = Field(default=1.0, ge=0)
    """Least seconds between two looks at a live camera; every picture of other sources is looked at."""
    unknown_s: float = Field(default=30.0, gt=0)
    """How long the source may be away before the state is "unknown", in seconds."""
    cut_every_s: float = Field(default=60.0, ge=0)
    """Of the pictures of so many seconds the one that the classifier was least sure of goes to [sinks.crops], where that is enabled."""

    _part = field_validator("region")(checked_part)
