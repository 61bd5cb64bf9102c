"""A source whose objects come and go without end: a video, bright and dark in turn, and a model that sees an object in the bright."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tests.tflite_maker import Maker

__all__ = ["SETTINGS", "disagreements", "lamp_model", "play", "told"]

SETTINGS = {
    "EDGEANNOT_SINKS__EVENTS__ENABLED": "true",
    "EDGEANNOT_SINKS__EVENTS__CLIP_S": "1",
    "EDGEANNOT_SINKS__EVENTS__MAX_FILES": "100000",
    **{f"EDGEANNOT_SINKS__{kind}__MIN_FREE_MB": "0" for kind in ("EVENTS", "IMAGES", "LABELS", "JSONL")},
}


def play(folder: Path, models: Path) -> Path:
    """Make the model, as "tiny", and the video; return the settings of the source "yard" that plays it again and again."""
    maker = Maker()
    picture = maker.input((1, 16, 16, 3), "uint8")
    seen = maker.stirred(picture, [[[0.2, 0.2, 0.6, 0.7, 0, 0]]], amount=[[[0, 0, 0, 0, 0.0035, 0]]])
    raw = maker.outputs(seen)
    _add(models, "tiny", raw, 'task = "detect"', 'kind = "end-to-end"\noutput = 0\nbox_units = "normalized"', '"cat"')
    video = folder / "blinking.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"MJPG"), 5, (160, 120))
    for index in range(100):
        writer.write(np.full((120, 160, 3), 255 if index % 20 < 10 else 0, np.uint8))
    writer.release()
    settings = folder / "blinking.toml"
    settings.write_text(
        f'[sources.yard]\nkind = "camera"\nurl = "{video}"\nloop = true\nmax_fps = 100\n'
        "[sources.yard.tracking]\nenabled = true\npictures = true\ndwell_s = 0.4\npatience_s = 1.0\n"
    )
    return settings


def lamp_model(models: Path) -> None:
    """Make a classifier, as "lamp", that says "off" of a dark picture and "on" of a bright one."""
    maker = Maker()
    seen = maker.stirred(maker.input((1, 16, 16, 3), "uint8"), [[1, 0]], amount=[[-1 / 256, 1 / 256]])
    _add(models, "lamp", maker.outputs(seen), 'task = "classify"', 'kind = "classify"\noutput = 0', '"off", "on"')


def _add(models: Path, name: str, raw: bytes, task: str, head: str, labels: str) -> None:
    models.mkdir(parents=True, exist_ok=True)
    (models / f"{name}.tflite").write_bytes(raw)
    (models / f"{name}.toml").write_text(
        f'schema = 1\nname = "{name}"\nfile = "{name}.tflite"\nsha256 = "{hashlib.sha256(raw).hexdigest()}"\n{task}\nfamily = "other"\n'
        f"[input]\nwidth = 16\nheight = 16\nstd = [1.0]\n[head]\n{head}\n[labels]\nnames = [{labels}]\n"
    )


def told(payloads: list[bytes]) -> list[dict[str, Any]]:
    """Return the events in their order, each once: a repeat of the outbox has the same id."""
    return list({event["id"]: event for event in map(json.loads, payloads)}.values())


def disagreements(events: list[dict[str, Any]], out: Path) -> list[str]:
    """Return what is not as promised: events by object, and what lies in the folder of pictures and clips."""
    by_object = defaultdict(list)
    for event in events:
        by_object[event["track_id"]].append(event)
    wrong = []
    for track, own in by_object.items():
        kinds = [event["event"] for event in sorted(own, key=lambda event: event["number"])]
        if [event["number"] for event in sorted(own, key=lambda event: event["number"])] != list(range(len(own))):
            wrong.append(f"object {track}: an event is missing")
        if kinds[0] != "appeared" or kinds.count("appeared") != 1 or "left" in kinds[:-1]:
            wrong.append(f"object {track}: {kinds}")
    open_ones = [track for track, own in by_object.items() if all(event["event"] != "left" for event in own)]
    if len(open_ones) > 1:
        wrong.append(f"objects {open_ones} have not left")
    found = [path for path in (out / "events").rglob("*") if path.is_file()]
    return wrong + [f"{path.name} is not whole" for path in found if not _is_whole(path)]


def _is_whole(path: Path) -> bool:
    if path.suffix == ".jpg":
        return path.read_bytes().endswith(b"\xff\xd9") and cv2.imread(str(path)) is not None
    if path.suffix == ".avi":
        return cv2.VideoCapture(str(path)).read()[0]
    return False
