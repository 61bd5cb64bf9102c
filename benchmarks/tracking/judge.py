"""What trackers make of the detections of a scene, and how right that is.

HOTA, IDF1 and identity switches are TrackEval's (Luiten et al. 2021); the other tracker is supervision's ByteTrack. Events count as right
where kind and object are right and the time is within two seconds of what the settings say; what is hidden for longer than
`patience_s` has left, as they say.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from benchmarks.tracking.scene import Actor, Scene
from edgeannot.scene.tracking import Tracking
from edgeannot.scene.tracking_options import TrackingOptions
from edgeannot.vision.data import Annotation, Frame, ModelFacts
from edgeannot.vision.geometry import iou_matrix
from edgeannot.vision.news import Event

__all__ = ["judged", "measures", "ours", "theirs"]

SLACK_S = 1.0

Tracks = list[tuple[np.ndarray, np.ndarray]]
"""Of each picture, ids (N,) and boxes (N, 4)."""


def ours(scene: Scene, options: TrackingOptions) -> tuple[Tracks, list[Event]]:
    """Return what our tracking makes of the detections."""
    tracking, begin = Tracking("scene", options), datetime(2026, 7, 1, tzinfo=UTC)
    image, facts = np.zeros((*scene.size_wh[::-1], 3), np.uint8), ModelFacts("m", "0" * 64, "yolo", "mid")
    tracks: Tracks = []
    events: list[Event] = []
    for index, picture in enumerate(scene.pictures):
        frame = Frame(image, "scene", index, begin + timedelta(seconds=index / scene.fps), str(index))
        seen = tracking.see(Annotation(frame, picture.found, picture.labels, facts), scene.reported, scene.labels)
        ids = seen.detections.tracks
        assert ids is not None
        tracks.append((ids[ids >= 0], seen.detections.boxes[ids >= 0]))
        events += seen.news.events if seen.news is not None else ()
    return tracks, events


def theirs(scene: Scene, patience_s: float) -> Tracks:
    """Return what supervision's ByteTrack makes of the same, with the same threshold and patience."""
    import supervision  # noqa: PLC0415 - of another environment

    tracker = supervision.ByteTrack(
        track_activation_threshold=scene.reported,
        lost_track_buffer=round(patience_s * 30),
        minimum_matching_threshold=0.8,
        frame_rate=scene.fps,
    )
    tracks: Tracks = []
    for picture in scene.pictures:
        found = picture.found[np.array([not scene.labels or label in scene.labels for label in picture.labels], bool)]
        given = supervision.Detections(xyxy=found.boxes, confidence=found.scores, class_id=found.classes.astype(int))
        seen = tracker.update_with_detections(given)
        tracks.append((np.asarray(seen.tracker_id, int), np.asarray(seen.xyxy)) if len(seen) else (np.zeros(0, int), np.zeros((0, 4))))
    return tracks


def measures(scene: Scene, tracks: Tracks) -> dict[str, float]:
    """Return TrackEval's figures."""
    from trackeval.metrics import CLEAR, HOTA, Identity  # noqa: PLC0415 - of another environment

    def counted(ids: list[np.ndarray]) -> tuple[list[np.ndarray], int]:
        known = {each: place for place, each in enumerate(sorted({int(each) for row in ids for each in row}))}
        return [np.array([known[int(each)] for each in row], int) for row in ids], len(known)

    gt_ids, gt_count = counted([picture.ids for picture in scene.pictures])
    ids, count = counted([ids for ids, _ in tracks])
    overlaps = [
        np.asarray(iou_matrix(picture.boxes.astype(np.float32), boxes.astype(np.float32)), float).reshape(len(picture.ids), len(boxes))
        for picture, (_, boxes) in zip(scene.pictures, tracks, strict=True)
    ]
    data: dict[str, Any] = {
        "num_timesteps": len(scene.pictures), "num_gt_ids": gt_count, "num_tracker_ids": count, "gt_ids": gt_ids, "tracker_ids": ids,
        "num_gt_dets": sum(map(len, gt_ids)), "num_tracker_dets": sum(map(len, ids)), "similarity_scores": overlaps,
    }  # fmt: skip
    quiet = {"PRINT_CONFIG": False}
    clear, identity = CLEAR(quiet).eval_sequence(data), Identity(quiet).eval_sequence(data)
    return {
        "HOTA": float(np.mean(HOTA().eval_sequence(data)["HOTA"])), "IDF1": float(identity["IDF1"]),
        "MOTA": float(clear["MOTA"]), "identity switches": float(clear["IDSW"]), "tracks": float(count),
    }  # fmt: skip


@dataclass(frozen=True)
class Expected:
    """An event that the truth has, and the seconds between which it is right."""

    kind: str
    number: int
    earliest: float
    latest: float
    wanted: bool
    """Whether it has to be told; one at the edge of what the settings say may be told or not, and counts neither way."""


def expected(scene: Scene, options: TrackingOptions) -> list[Expected]:
    """Return the events that the truth has."""
    events = []
    for actor in scene.cast:
        for first, last in actor.presences(options.patience_s, scene.fps):
            long_enough = last - first >= options.dwell_s + SLACK_S
            over = last < scene.seconds - options.patience_s - SLACK_S
            events.append(Expected("appeared", actor.number, first, first + options.dwell_s + 2 * SLACK_S, long_enough))
            events.append(Expected("left", actor.number, last, last + options.patience_s + 2 * SLACK_S, long_enough and over))
        for begin, end in ((begin / scene.fps, end / scene.fps) for begin, end in actor.stops):
            if end - begin >= options.still_s - SLACK_S:
                stands, at = end - begin >= options.still_s + SLACK_S, begin + options.still_s
                events.append(Expected("still", actor.number, at - 2 * SLACK_S, at + 2 * SLACK_S, stands))
                events.append(Expected("moved", actor.number, end, end + 3.0, stands and end < scene.seconds - 3))
    return events


def judged(scene: Scene, events: list[Event], options: TrackingOptions) -> dict[str, tuple[int, int, int]]:
    """Return for each kind the events that are right, told and wanted. One is right once, for the object that its box is of."""
    left = sorted(expected(scene, options), key=lambda one: not one.wanted)
    wanted, told, right = Counter(one.kind for one in left if one.wanted), Counter(event.kind for event in events), Counter[str]()
    begin = datetime(2026, 7, 1, tzinfo=UTC).timestamp()
    by_number = {actor.number: actor for actor in scene.cast}
    for event in events:
        at = event.at_s - begin
        for one in left:
            if one.kind == event.kind and one.earliest <= at <= one.latest and overlap(by_number[one.number], at, event, scene.fps) >= 0.3:
                left.remove(one)
                (right if one.wanted else told)[one.kind] += 1 if one.wanted else -1
                break
    return {kind: (right[kind], told[kind], wanted[kind]) for kind in ("appeared", "still", "moved", "left")}


def overlap(actor: Actor, at: float, event: Event, fps: float) -> float:
    """Return the overlap of an event's box with the object, where it was then or last."""
    index = max((index for index in actor.boxes if index <= at * fps + 1), default=None)
    if index is None:
        return 0.0
    return float(max(
        iou_matrix(actor.boxes[near][None].astype(np.float32), event.box[None])[0, 0]
        for near in range(index - round(4 * fps), index + 1) if near in actor.boxes
    ))  # fmt: skip
