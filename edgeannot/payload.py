"""The JSON payloads of messages (schema 1) and message ids. No I/O.

Rounding, so that a message is short and a repeat is byte for byte the same: scores to 4 decimals; boxes to 0.1 pixel, which is
finer than any int8 detector's grid; normalized boxes to 5 decimals, the same step on a 10,000 pixel wide picture; times to
0.01 ms.
"""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from edgeannot.base.foreign import valid_text
from edgeannot.vision.data import Annotation, Frame, ModelFacts, Sender
from edgeannot.vision.news import Event, RegionState, SubLabel

__all__ = [
    "SCHEMA",
    "Origin",
    "count_payload",
    "decode",
    "detections_payload",
    "encode",
    "event_payload",
    "info_payload",
    "message_id",
    "refused_payload",
    "region_payload",
    "rfc3339",
    "state_payload",
    "status_payload",
    "telemetry_payload",
]

SCHEMA: Final = 1
"""Version of every payload made here; `edgeannot/schema/detections-1.json` is its JSON Schema."""

_ID_NAMESPACE: Final = uuid.UUID("5c2f1cf8-2a0e-5a55-9a1d-0f6c1d3d7e11")


@dataclass(frozen=True, slots=True)
class Origin:
    """The sender: the same in every message of one run."""

    device: str
    boot_id: str
    """New for each start of the daemon; (boot_id, source, seq) orders messages without a clock."""
    clock_synced: Callable[[], bool] = lambda: False
    """Whether the wall clock is known to be right at this moment."""


def refused_payload(device: str, source: str, sender: Sender | None, reason: str, message: str) -> dict[str, Any]:
    """Return the payload for the sender of a picture that is not annotated. reason: as in `FrameError.reason`; message: one sentence."""
    told = _sender(sender) or {"sender": None}
    return {
        "schema": SCHEMA,
        "device": valid_text(device),
        "source": valid_text(source),
        **told,
        "error": {"code": reason, "message": valid_text(message)},
    }


def message_id(device: str, frame: Frame, model_sha256: str) -> str:
    """Return a UUID (version 5) that names this picture's result by this model: the same after a restart, so repeats can be dropped.

    Of a picture that came as a message it is the same on every device: another worker may get the message again.
    """
    whose = [device, frame.source] if frame.sender is None else []
    name = json.dumps([*whose, frame.identity, model_sha256])  # JSON keeps the borders between the parts
    return str(uuid.uuid5(_ID_NAMESPACE, name))


def rfc3339(moment: datetime) -> str:
    """Return a moment in UTC with milliseconds, "2026-07-01T10:31:05.120Z"; a naive one is refused with ValueError."""
    if moment.tzinfo is None:
        raise ValueError(f"wanted a moment with a time zone, found {moment!r}")
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def detections_payload(annotation: Annotation, origin: Origin) -> dict[str, Any]:
    """Return the result for one picture, ready for JSON, schema 1."""
    frame, model = annotation.frame, annotation.model
    width, height = frame.size_wh
    return {
        "schema": SCHEMA,
        "id": message_id(origin.device, frame, model.sha256),
        "device": valid_text(origin.device),
        "source": valid_text(frame.source),
        **_sender(frame.sender),
        "boot_id": origin.boot_id,
        "seq": frame.seq,
        "captured_at": rfc3339(frame.captured_at),
        "clock_synced": bool(origin.clock_synced()),
        "image": {"width": width, "height": height, "path": _picture_path(frame)},
        **({"damaged": True} if frame.damage else {}),
        "model": {"name": model.name, "sha256": model.sha256, "family": model.family, "profile": model.profile},
        "detections": _rows(annotation, (width, height)),
        "timing_ms": {stage: round(float(ms), 2) for stage, ms in annotation.timing_ms.items()},
    }


def event_payload(event: Event, source: str, origin: Origin) -> dict[str, Any]:
    """Return what happened to a tracked object, ready for JSON, schema 1. Its `id` is the same whenever it is sent."""
    name = json.dumps([origin.device, source, event.track_id, event.number, event.kind])
    return {
        "schema": SCHEMA,
        "id": str(uuid.uuid5(_ID_NAMESPACE, name)),
        "device": valid_text(origin.device),
        "source": valid_text(source),
        "boot_id": origin.boot_id,
        "event": event.kind,
        "track_id": event.track_id,
        "number": event.number,
        "label": valid_text(event.label),
        "score": _score(event.score),
        **_sub_label(event.sub_label),
        "box": _box(event.box.tolist(), (1, 1), 1),
        "box_norm": _box(event.box.tolist(), (max(event.size_wh[0], 1), max(event.size_wh[1], 1)), 5),
        "at": rfc3339(datetime.fromtimestamp(event.at_s, UTC)),
        "began_at": rfc3339(datetime.fromtimestamp(event.began_s, UTC)),
        "zones": [valid_text(zone) for zone in event.zones],
        **({} if event.picture is None else {"picture": event.picture_name}),
        **({"reason": event.reason} if event.reason else {}),
        **({"line": valid_text(event.line), "direction": event.direction, "counts": dict(event.counts)} if event.line else {}),
    }


def region_payload(region: RegionState, source: str, origin: Origin) -> dict[str, Any]:
    """Return the state of a region, ready for JSON, schema 1. The same state is the same bytes whenever it is sent."""
    since = rfc3339(datetime.fromtimestamp(region.since_s, UTC))
    return {
        "schema": SCHEMA,
        "id": str(uuid.uuid5(_ID_NAMESPACE, json.dumps([origin.device, source, region.name, region.state, since]))),
        "device": valid_text(origin.device),
        "source": valid_text(source),
        "name": region.name,
        "state": valid_text(region.state),
        "score": None if region.score is None else _score(region.score),
        "since": since,
    }


def count_payload(annotation: Annotation, origin: Origin) -> dict[str, Any]:
    """Return how many of each label the newest picture shows. No time in it: unchanged counts are the same bytes, sent once.

    A camera that several workers serve has a time: another's counts may stand there meanwhile, so each must be sent.
    """
    frame = annotation.frame
    labels = Counter(valid_text(label) for label in annotation.labels)
    return {
        "schema": SCHEMA,
        "device": valid_text(origin.device),
        "source": valid_text(frame.source),
        **({} if frame.sender is None else {**_sender(frame.sender), "captured_at": rfc3339(frame.captured_at)}),
        "total": labels.total(),
        "labels": dict(sorted(labels.items())),
    }


def status_payload(origin: Origin, state: str) -> dict[str, Any]:
    """Return the device's status: state is online, stopping or offline (the Last Will)."""
    return {"schema": SCHEMA, "state": state, "device": valid_text(origin.device), "boot_id": origin.boot_id}


def state_payload(origin: Origin, state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the current values that commands may change; `state` is JSON-ready."""
    return {"schema": SCHEMA, "device": valid_text(origin.device), "boot_id": origin.boot_id, **state}


def info_payload(
    origin: Origin,
    version: str,
    model: ModelFacts,
    reasons: Sequence[str],
    sources: Mapping[str, str],
    choice: Mapping[str, Any] | None = None,
    damaged: Sequence[str] = (),
    sinks: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the active model and why it runs. `sources`: name -> kind. `choice`: see `Choice.as_dict`; None: the user set the model.
    `damaged`: names of databases in its data directory that were set aside, and whose messages are lost. `sinks`: kinds that are enabled.
    """
    return {
        "schema": SCHEMA,
        "device": valid_text(origin.device),
        "boot_id": origin.boot_id,
        "version": version,
        "model": {"name": model.name, "sha256": model.sha256, "family": model.family, "profile": model.profile},
        "reasons": [valid_text(reason) for reason in reasons],
        "sources": [{"name": valid_text(name), "kind": kind} for name, kind in sources.items()],
        "sinks": list(sinks),
        "payload_schema": SCHEMA,
        **({} if choice is None else {"choice": choice}),
        **({"damaged": list(damaged)} if damaged else {}),
    }


def telemetry_payload(origin: Origin, figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return the telemetry payload; `figures` is JSON-ready."""
    return {"schema": SCHEMA, "device": valid_text(origin.device), "boot_id": origin.boot_id, **figures}


def encode(payload: Mapping[str, Any]) -> bytes:
    """Return a payload as compact UTF-8 JSON; a number that is not finite is a ValueError."""
    return json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def decode(payload: bytes) -> Any:
    """Return the value that the JSON bytes hold. Raises ValueError when they hold none."""
    return json.loads(payload.decode())


def _rows(annotation: Annotation, size_wh: tuple[int, int]) -> list[dict[str, Any]]:
    (width, height), found = size_wh, annotation.detections
    tracks = [None] * len(found) if found.tracks is None else [track if track >= 0 else None for track in found.tracks.tolist()]
    subs = annotation.sub_labels or (None,) * len(found)
    rows = zip(found.boxes.tolist(), found.scores.tolist(), found.classes.tolist(), tracks, annotation.labels, subs, strict=True)
    return [
        {
            "label": valid_text(label),
            "class_id": class_id,
            "score": _score(score),
            "box": _box(box, (1, 1), 1),
            "box_norm": _box(box, (max(width, 1), max(height, 1)), 5),
            "track_id": track,
            **_sub_label(sub),
        }
        for box, score, class_id, track, label, sub in rows
    ]


def _score(score: float) -> float:
    return round(min(max(score, 0.0), 1.0), 4)


def _sub_label(sub: SubLabel | None) -> dict[str, Any]:
    """Return the fields of what a second stage said; none where it said nothing."""
    return {} if sub is None else {"sub_label": valid_text(sub.label), "sub_score": _score(sub.score)}


def _box(box_xyxy: Sequence[float], unit_wh: tuple[int, int], decimals: int) -> dict[str, float]:
    return {
        key: round(value / unit_wh[axis % 2], decimals)
        for axis, (key, value) in enumerate(zip(("x1", "y1", "x2", "y2"), box_xyxy, strict=True))
    }


def _sender(sender: Sender | None) -> dict[str, Any]:
    """Return the field `sender` of a picture that came as a message; no field for any other."""
    if sender is None:
        return {}
    facts = {"device": valid_text(sender.device), "topic": valid_text(sender.topic), "id": sender.id and valid_text(sender.id)}
    return {"sender": {**facts, "time": "sender" if sender.dated else "arrival"}}


def _picture_path(frame: Frame) -> str | None:
    """Return the file as its source names it; a camera's frame has none."""
    if frame.path is None:
        return None
    return valid_text(frame.name or frame.path.name)
