"""Write what a model finds in the videos, for the trackers: DIR/MODEL/VIDEO.json has rows of x1, y1, x2, y2, score and label by picture,
and the smallest score that the model's card reports.

    .venv/bin/python -m benchmarks.tracking.detections .cache/tracking models/nanodet-g.toml

`make tracking` does this first. EDGEANNOT_TEST_DATA names the folder that has videos/.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import cv2

from benchmarks.tracking.composed import LOW
from benchmarks.tracking.videos import VIDEOS, read_truth
from edgeannot.vision.cards import read_card
from edgeannot.vision.data import Frame
from edgeannot.vision.pipeline import Limits, Pipeline, load_pipeline

DATA = Path(os.environ.get("EDGEANNOT_TEST_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))


def found(pipeline: Pipeline, video: Path, every_n: int) -> list[list[tuple[float | str, ...]]]:
    """Return what the model finds in every n-th picture."""
    capture, index, rows = cv2.VideoCapture(str(video)), 0, []
    while True:
        there, image = capture.read()
        if not there:
            return rows
        if index % every_n == 0:
            seen = pipeline(Frame(image, "video", index, datetime.now(UTC), str(index)))
            boxes, scores = seen.detections.boxes.round(1).tolist(), seen.detections.scores.round(3).tolist()
            rows.append([(*box, score, label) for box, score, label in zip(boxes, scores, seen.labels, strict=True)])
        index += 1


def main() -> int:
    """Write the files that are not there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("cards", type=Path, nargs="+")
    asked = parser.parse_args()
    for card in map(read_card, asked.cards):
        pipeline = load_pipeline(card, limits=Limits(min_score=LOW))
        for name in VIDEOS:
            video, out = DATA / "videos" / f"{name}.mp4", asked.folder / card.name / f"{name}.json"
            if not video.is_file():
                print(f"{video} is not there: the composed scenes only")
            elif not out.is_file():
                out.parent.mkdir(parents=True, exist_ok=True)
                rows = found(pipeline, video, read_truth(name)["every_n"])
                out.write_text(json.dumps({"min_score": card.defaults.min_score, "pictures": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
