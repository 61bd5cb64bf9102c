"""Tracking and events on a composed scene of 10 minutes whose truth is exact, beside a published tracker on the same detections.

    make tracking      # makes an environment of its own with TrackEval and supervision (both MIT), and runs this in it

People and cars come, stop, go on and leave, and hide each other; what is nearer hides what is behind. The detections are the visible
boxes with errors: misses and low scores by how much is hidden, jitter, wrong labels, false alarms. HOTA, IDF1 and identity switches are
TrackEval's (Luiten et al. 2021); the other tracker is supervision's ByteTrack. Events count as right where kind and object are right and
the time is within two seconds of what the settings say; what is hidden for longer than `patience_s` has left, as they say.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from edgeannot.scene.tracking import Tracking
from edgeannot.scene.tracking_options import TrackingOptions
from edgeannot.vision.data import Annotation, Detections, Frame, ModelFacts
from edgeannot.vision.geometry import iou_matrix
from edgeannot.vision.news import Event

FPS, MINUTES, WH = 5.0, 10, (1280, 720)
LABELS = ("person", "car")
SIZES = {"person": (45.0, 120.0), "car": (170.0, 95.0)}
REPORTED, LOW = 0.4, 0.1
SLACK_S = 1.0
_SEEN = 0.35


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

    def presences(self, patience_s: float) -> list[tuple[float, float]]:
        """Return the seconds between which it is there: what is hidden for longer than the patience has left, as the settings say."""
        found: list[tuple[float, float]] = []
        for at_s in (index / FPS for index in self.seen):
            if found and at_s - found[-1][1] <= patience_s:
                found[-1] = found[-1][0], at_s
            else:
                found.append((at_s, at_s))
        return found


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


@dataclass
class Picture:
    """Truth and detections of one picture."""

    ids: np.ndarray
    boxes: np.ndarray
    found: Detections
    labels: tuple[str, ...]


def pictures(cast: list[Actor], rng: np.random.Generator) -> Iterator[Picture]:
    """Yield the pictures, with the errors of a detector."""
    for index in range(int(MINUTES * 60 * FPS)):
        there = [actor for actor in cast if index in actor.boxes]
        boxes = np.array([actor.boxes[index] for actor in there]).reshape(-1, 4)
        shares = visible(boxes) if there else np.zeros(0)
        rows: list[tuple[np.ndarray, float, str]] = []
        for actor, box, share in zip(there, boxes, shares, strict=True):
            if share > _SEEN:
                actor.seen.append(index)
            chance, mean = (0.96, 0.78) if share > 0.7 else (0.75, 0.45) if share > _SEEN else (0.15, 0.25)
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


Tracks = list[tuple[np.ndarray, np.ndarray]]
"""Of each picture, ids (N,) and boxes (N, 4)."""


def ours(scene: list[Picture], options: TrackingOptions) -> tuple[Tracks, list[Event]]:
    """Return what our tracking makes of the detections."""
    tracking, begin = Tracking("scene", options), datetime(2026, 7, 1, tzinfo=UTC)
    image, facts = np.zeros((WH[1], WH[0], 3), np.uint8), ModelFacts("m", "0" * 64, "yolo", "mid")
    tracks: Tracks = []
    events: list[Event] = []
    for index, picture in enumerate(scene):
        frame = Frame(image, "scene", index, begin + timedelta(seconds=index / FPS), str(index))
        seen = tracking.see(Annotation(frame, picture.found, picture.labels, facts), REPORTED)
        ids = seen.detections.tracks
        assert ids is not None
        tracks.append((ids[ids >= 0], seen.detections.boxes[ids >= 0]))
        events += seen.news.events if seen.news is not None else ()
    return tracks, events


def theirs(scene: list[Picture], patience_s: float) -> Tracks:
    """Return what supervision's ByteTrack makes of the same, with the same threshold and patience."""
    import supervision  # noqa: PLC0415 - of another environment

    tracker = supervision.ByteTrack(
        track_activation_threshold=REPORTED, lost_track_buffer=round(patience_s * 30), minimum_matching_threshold=0.8, frame_rate=round(FPS)
    )
    tracks: Tracks = []
    for picture in scene:
        found = picture.found
        given = supervision.Detections(xyxy=found.boxes, confidence=found.scores, class_id=found.classes.astype(int))
        seen = tracker.update_with_detections(given)
        tracks.append((np.asarray(seen.tracker_id, int), np.asarray(seen.xyxy)) if len(seen) else (np.zeros(0, int), np.zeros((0, 4))))
    return tracks


def measures(scene: list[Picture], tracks: Tracks) -> dict[str, float]:
    """Return TrackEval's figures."""
    from trackeval.metrics import CLEAR, HOTA, Identity  # noqa: PLC0415 - of another environment

    def counted(ids: list[np.ndarray]) -> tuple[list[np.ndarray], int]:
        known = {each: place for place, each in enumerate(sorted({int(each) for row in ids for each in row}))}
        return [np.array([known[int(each)] for each in row], int) for row in ids], len(known)

    gt_ids, gt_count = counted([picture.ids for picture in scene])
    ids, count = counted([ids for ids, _ in tracks])
    overlaps = [
        np.asarray(iou_matrix(picture.boxes.astype(np.float32), boxes.astype(np.float32)), float).reshape(len(picture.ids), len(boxes))
        for picture, (_, boxes) in zip(scene, tracks, strict=True)
    ]
    data: dict[str, Any] = {
        "num_timesteps": len(scene), "num_gt_ids": gt_count, "num_tracker_ids": count, "gt_ids": gt_ids, "tracker_ids": ids,
        "num_gt_dets": sum(map(len, gt_ids)), "num_tracker_dets": sum(map(len, ids)), "similarity_scores": overlaps,
    }  # fmt: skip
    quiet = {"PRINT_CONFIG": False}
    clear, identity = CLEAR(quiet).eval_sequence(data), Identity(quiet).eval_sequence(data)
    return {
        "HOTA": float(np.mean(HOTA().eval_sequence(data)["HOTA"])), "IDF1": float(identity["IDF1"]),
        "MOTA": float(clear["MOTA"]), "identity switches": float(clear["IDSW"]), "tracks": float(count),
    }  # fmt: skip


def expected(cast: list[Actor], options: TrackingOptions) -> list[tuple[str, int, float, float]]:
    """Return the events that the truth has: kind, object, and the seconds between which each is right."""
    wanted = []
    for actor in cast:
        for first, last in actor.presences(options.patience_s):
            if last - first < options.dwell_s + SLACK_S:  # too short to be sure that it is one
                continue
            wanted.append(("appeared", actor.number, first, first + options.dwell_s + 2 * SLACK_S))
            if last < MINUTES * 60 - options.patience_s - SLACK_S:
                wanted.append(("left", actor.number, last, last + options.patience_s + 2 * SLACK_S))
        for begin, end in ((begin / FPS, end / FPS) for begin, end in actor.stops):
            if end - begin >= options.still_s + SLACK_S:
                wanted.append(("still", actor.number, begin + options.still_s - 2 * SLACK_S, begin + options.still_s + 2 * SLACK_S))
                if end < MINUTES * 60 - 3:
                    wanted.append(("moved", actor.number, end, end + 3.0))
    return wanted


def judged(cast: list[Actor], events: list[Event], options: TrackingOptions) -> dict[str, tuple[int, int, int]]:
    """Return for each kind the events that are right, told and wanted. One is right once, for the object that its box is of."""
    left = expected(cast, options)
    wanted, told, right = Counter(kind for kind, *_ in left), Counter(event.kind for event in events), Counter[str]()
    begin = datetime(2026, 7, 1, tzinfo=UTC).timestamp()
    by_number = {actor.number: actor for actor in cast}
    for event in events:
        at = event.at_s - begin
        for one in left:
            kind, number, earliest, latest = one
            if kind == event.kind and earliest <= at <= latest and overlap(by_number[number], at, event) >= 0.3:
                left.remove(one)
                right[kind] += 1
                break
    return {kind: (right[kind], told[kind], wanted[kind]) for kind in ("appeared", "still", "moved", "left")}


def overlap(actor: Actor, at: float, event: Event) -> float:
    """Return the overlap of an event's box with the object, where it was then or last."""
    index = max((index for index in actor.boxes if index <= at * FPS + 1), default=None)
    if index is None:
        return 0.0
    return float(max(
        iou_matrix(actor.boxes[near][None].astype(np.float32), event.box[None])[0, 0]
        for near in range(index - round(4 * FPS), index + 1) if near in actor.boxes
    ))  # fmt: skip


def main() -> int:
    """Print the figures of each scene."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    options = TrackingOptions(enabled=True, still_s=5.0)
    sums: Counter[str] = Counter()
    for seed in parser.parse_args().seeds:
        rng = np.random.default_rng(seed)
        cast = actors(rng)
        scene = list(pictures(cast, rng))
        tracks, events = ours(scene, options)
        print(f"seed {seed}: {len(cast)} objects in {len(scene)} pictures")
        for name, each in (("edgeannot", tracks), ("supervision's ByteTrack", theirs(scene, options.patience_s))):
            print(
                f"  {name:24}",
                ", ".join(f"{key} {value:.3f}" if value < 1 else f"{key} {value:.0f}" for key, value in measures(scene, each).items()),
            )
        for kind, (right, told, wanted) in judged(cast, events, options).items():
            sums += Counter({"right": right, "told": told, "wanted": wanted})
            print(f"  {kind:9} right {right}, told {told}, wanted {wanted}")
    print(f"events: precision {sums['right'] / sums['told']:.3f}, recall {sums['right'] / sums['wanted']:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
