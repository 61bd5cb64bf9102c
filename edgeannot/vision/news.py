"""What happened in front of a source, on its way to the sinks."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from edgeannot.vision.data import Frame

__all__ = ["Cut", "Event", "Lost", "News", "Picture", "RegionState", "SubLabel"]


@dataclass(frozen=True, slots=True)
class SubLabel:
    """What a second stage says of one object."""

    label: str
    score: float


@dataclass(frozen=True, slots=True)
class Picture:
    """A part of a picture with an object in it."""

    image: NDArray[np.uint8]
    """(H, W, 3) BGR."""
    quality: float
    """To compare pictures of one object."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to one tracked object."""

    kind: str
    """appeared, still, moved, crossed, left."""
    track_id: int
    number: int
    """Counts the events of the object, from 0."""
    label: str
    score: float
    box: NDArray[np.float32]
    """(4,) xyxy in pixels of the whole picture, where it was seen last."""
    size_wh: tuple[int, int]
    at_s: float
    """When, in seconds since 1970, by the time of the pictures."""
    began_s: float
    """When the object was first seen."""
    reason: str = ""
    """Of `left`: gone, zone, source, model, restart."""
    zones: tuple[str, ...] = ()
    line: str = ""
    direction: str = ""
    """Of `crossed`: in or out."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Of `crossed`: how many of this label have crossed the line so far, in and out."""
    sub_label: SubLabel | None = None
    picture: Picture | None = None
    """The best one of the object in this run, where its tracking keeps pictures."""
    resumed: bool = False
    """Whether the object appeared in an earlier run."""

    @property
    def picture_name(self) -> str:
        """The name of its picture, the same for all events of the object: the day on which it was first seen (UTC), and its number."""
        return f"{datetime.fromtimestamp(self.began_s, UTC):%Y-%m-%d}/{self.track_id}.jpg"


@dataclass(frozen=True, slots=True)
class RegionState:
    """What a region looks like since a moment."""

    name: str
    """Of the region."""
    state: str
    score: float | None
    """Of the picture that made it the state; None where there was none."""
    since_s: float
    """In seconds since 1970."""

    def stored(self) -> bytes:
        """Return what is to be stored of it."""
        return json.dumps({"state": self.state, "score": self.score, "since_s": self.since_s}).encode()


@dataclass(frozen=True, slots=True)
class Cut:
    """A part of a picture that is worth a person's look."""

    region: str
    label: str
    score: float
    frame: Frame
    """With the part as its image."""


@dataclass(frozen=True, slots=True)
class News:
    """Events of one source, and what is to be stored in the same transaction so that each is told once."""

    source: str
    events: tuple[Event, ...]
    state: bytes | None
    """Of the tracking; None: as stored."""
    regions: tuple[RegionState, ...] = ()
    cuts: tuple[Cut, ...] = ()

    @property
    def scenes(self) -> list[tuple[str, bytes]]:
        """What is to be stored: key and state. A region's key has a /, which no name of a source has."""
        tracking = [] if self.state is None else [(self.source, self.state)]
        return [*tracking, *((f"{self.source}/{region.name}", region.stored()) for region in self.regions)]


@dataclass(frozen=True, slots=True)
class Lost:
    """A source has been away for long: what is open there ends."""

    source: str
    after_s: float = math.inf
    """For how many seconds."""
