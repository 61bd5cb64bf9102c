"""Videos of real cameras with a truth made by hand: boxes at key pictures, with straight lines between them.

The videos are intel-iot-devkit/sample-videos, CC BY 4.0; they are not here. The boxes in truth/ were drawn on the pictures, put between
them in straight lines, and looked at on the pictures between. An object that is taken out of the picture and comes again is another one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tracking.scene import SEEN, Actor, Picture, Scene
from edgeannot.vision.data import Detections

__all__ = ["VIDEOS", "filmed", "read_truth"]

VIDEOS = ("car-detection", "bottle-detection")


def read_truth(video: str) -> dict[str, Any]:
    """Return what truth/ has of a video."""
    truth: dict[str, Any] = json.loads((Path(__file__).parent / "truth" / f"{video}.json").read_text())
    return truth


def filmed(video: str, found: Path) -> Scene:
    """Return the scene of a video; found: the file that `benchmarks.tracking.detections` wrote of it."""
    truth = read_truth(video)
    seen = json.loads(found.read_text())
    rows = seen["pictures"]
    step: int = truth["every_n"]
    cast = [_actor(number, one, step) for number, one in enumerate(truth["objects"], 1)]
    known = sorted({label for picture in rows for *_, label in picture})
    pictures = []
    for index, picture in enumerate(rows):
        there = [actor for actor in cast if index in actor.boxes]
        detections = Detections(
            np.array([row[:4] for row in picture], np.float32).reshape(-1, 4),
            np.array([row[4] for row in picture], np.float32),
            np.array([known.index(row[5]) for row in picture], np.int64),
        )
        boxes = np.array([actor.boxes[index] for actor in there]).reshape(-1, 4)
        pictures.append(Picture(np.array([actor.number for actor in there], int), boxes, detections, tuple(row[5] for row in picture)))
    name, size_wh = f"{video}, {found.parent.name}", tuple(truth["size_wh"])
    return Scene(name, truth["fps"] / step, size_wh, cast, pictures, seen["min_score"], tuple(truth["labels"]))


def _actor(number: int, one: dict[str, Any], step: int) -> Actor:
    """Return the object with its boxes at every step-th picture of the video."""
    keys = sorted(int(key) for key in one["boxes"])
    drawn = np.array([one["boxes"][str(key)] for key in keys], float)
    at = np.arange(-(-keys[0] // step) * step, keys[-1] + 1, step)
    boxes = np.stack([np.interp(at, keys, drawn[:, side]) for side in range(4)], axis=1)
    actor = Actor(number, one["label"], dict(zip((at // step).tolist(), boxes, strict=True)))
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    actor.seen = [index for index, area in zip(actor.boxes, areas, strict=True) if area >= SEEN * areas.max()]
    actor.stops = [(begin // step, end // step) for begin, end in one["stands"]]
    return actor
