"""Scenes of 10 minutes composed by chance, so that their truth is exact.

People and cars come, stop, go on and leave, and hide each other; what is nearer hides what is behind. The detections are the visible
boxes with errors: misses and low scores by how much is hidden, jitter, wrong labels, false alarms.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benchmarks.tracking.scene import SEEN, Actor, Picture, Scene
from edgeannot.vision.data import Detections

__all__ = ["composed"]

FPS, MINUTES, WH = 5.0, 10, (1280, 720)
LABELS = ("person", "car")
SIZES = {"person": (45.0, 120.0), "car": (170.0, 95.0)}
LOW = 0.1


def composed(seed: int) -> Scene:
    """Return the scene of a seed."""
    rng = np.random.default_rng(seed)
    cast = actors(rng)
    return Scene(f"composed, seed {seed}", FPS, WH, cast, list(pictures(cast, rng)))


def actors(rng: np.random.Generator) -> list[Actor]:
    """Return the objects of the scene: each walks or drives in a straight line with pauses, from one edge to the other."""
    made, frames = [], int(MINUTES * 60 * FPS)
    for number in range(1, 121):
        label = LABELS[int(rng.random() < 0.4)]
        near = rng.uniform(0.5, 1.3)
        width, height = (side * near for side in SIZES[label])
        speed = rng.uniform(0.25, 0.7) * width * (1.6 if label == "person" else 1.0)  # pixels a picture would be speed / FPS
        foot = rng.uniform(250, 700) if label == "person" else rng.uniform(300, 690)
        right, slope = rng.random() < 0.5, rng.uniform(-0.12, 0.12)
        index, x = int(rng.uniform(0, frames - 100)), -width / 2 if right else WH[0] + width / 2
        actor = Actor(number, label)
        stop_at = rng.uniform(0.2, 0.8) * WH[0] if rng.random() < 0.45 else None
        while -width / 2 <= x <= WH[0] + width / 2 and index < frames:
            if stop_at is not None and (x >= stop_at if right else x <= stop_at):
                rests = int(FPS * rng.uniform(3, 60))
                actor.stops.append((index, min(index + rests, frames)))
                for _ in range(rests):
                    put(actor, index, x, foot, width, height)
                    index += 1
                stop_at = None
            put(actor, index, x, foot, width, height)
            x += (speed if right else -speed) / FPS * rng.uniform(0.9, 1.1)
            foot += slope * speed / FPS
            index += 1
        made.append(actor)
    return made


def put(actor: Actor, index: int, x: float, foot: float, width: float, height: float) -> None:
    """Put an object into a picture, as far as it is inside."""
    if index >= int(MINUTES * 60 * FPS):
        return
    box = np.clip([x - width / 2, foot - height, x + width / 2, foot], 0, [*WH, *WH])
    if (box[2] - box[0]) * (box[3] - box[1]) >= 0.3 * width * height:
        actor.boxes[index] = box


def visible(boxes: np.ndarray) -> np.ndarray:
    """Return the share of each box that no nearer one hides; nearer is who stands lower. By pixels of a grid of 4."""
    order = np.argsort(boxes[:, 3])
    grid = np.full((WH[1] // 4, WH[0] // 4), -1)
    areas = np.zeros(len(boxes))
    for row in order:
        x1, y1, x2, y2 = (boxes[row] / 4).round().astype(int)
        grid[y1:y2, x1:x2] = row
        areas[row] = max((x2 - x1) * (y2 - y1), 1)
    return np.array([(grid == row).sum() / areas[row] for row in range(len(boxes))])


def pictures(cast: list[Actor], rng: np.random.Generator) -> Iterator[Picture]:
    """Yield the pictures, with the errors of a detector."""
    for index in range(int(MINUTES * 60 * FPS)):
        there = [actor for actor in cast if index in actor.boxes]
        boxes = np.array([actor.boxes[index] for actor in there]).reshape(-1, 4)
        shares = visible(boxes) if there else np.zeros(0)
        rows: list[tuple[np.ndarray, float, str]] = []
        for actor, box, share in zip(there, boxes, shares, strict=True):
            if share > SEEN:
                actor.seen.append(index)
            chance, mean = (0.96, 0.78) if share > 0.7 else (0.75, 0.45) if share > SEEN else (0.15, 0.25)
            if rng.random() < chance:
                sides = np.tile(box[2:] - box[:2], 2)
                label = actor.label if rng.random() < 0.97 else LABELS[1 - LABELS.index(actor.label)]
                rows.append((box + rng.normal(0, 0.03, 4) * sides, float(np.clip(rng.normal(mean, 0.1), LOW, 0.99)), label))
        for _ in range(rng.poisson(0.08)):
            label = LABELS[int(rng.random() < 0.5)]
            corner = rng.uniform(0, [WH[0] - 180, WH[1] - 130])
            rows.append((np.array([*corner, *(corner + SIZES[label])]), float(rng.uniform(LOW, 0.6)), label))
        rows.sort(key=lambda row: -row[1])
        found = Detections(
            np.array([row[0] for row in rows], np.float32).reshape(-1, 4),
            np.array([row[1] for row in rows], np.float32),
            np.array([LABELS.index(row[2]) for row in rows], np.int64),
        )
        seen = shares >= 0.25
        ids = np.array([actor.number for actor in there], int)
        yield Picture(ids[seen], boxes[seen], found, tuple(row[2] for row in rows))
