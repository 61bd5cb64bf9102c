"""A scene whose truth is known: its objects, and in each picture what is there and what a detector found."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from edgeannot.vision.data import Detections

__all__ = ["REPORTED", "SEEN", "Actor", "Picture", "Scene"]

REPORTED = 0.4
"""Smallest score that begins a track in a composed scene; on a video it is the one of the model's card."""
SEEN = 0.35
"""The share of an object from which on a detector is expected to see it."""


@dataclass
class Actor:
    """One object of the scene: where it is in each picture, and when it stands."""

    number: int
    label: str
    boxes: dict[int, np.ndarray] = field(default_factory=dict)
    stops: list[tuple[int, int]] = field(default_factory=list)
    """First picture and the one after the last, of each time that it stands."""
    seen: list[int] = field(default_factory=list)
    """Pictures in which a third of it and more can be seen."""

    def presences(self, patience_s: float, fps: float) -> list[tuple[float, float]]:
        """Return the seconds between which it is there: what is hidden for longer than the patience has left, as the settings say."""
        found: list[tuple[float, float]] = []
        for at_s in (index / fps for index in self.seen):
            if found and at_s - found[-1][1] <= patience_s:
                found[-1] = found[-1][0], at_s
            else:
                found.append((at_s, at_s))
        return found


@dataclass
class Picture:
    """Truth and detections of one picture."""

    ids: np.ndarray
    boxes: np.ndarray
    found: Detections
    labels: tuple[str, ...]


@dataclass
class Scene:
    """Objects and pictures."""

    name: str
    fps: float
    size_wh: tuple[int, int]
    cast: list[Actor]
    pictures: list[Picture]
    reported: float = REPORTED
    """Smallest score that begins a track."""
    labels: tuple[str, ...] = ()
    """What is asked for; empty: all."""

    @property
    def seconds(self) -> float:
        """Return how long it is."""
        return len(self.pictures) / self.fps
