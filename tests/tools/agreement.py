"""Whether a model, through the daemon's own pipeline, finds what a reference file says that an independent reader found."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np

from edgeannot.vision.cards import ModelCard
from edgeannot.vision.data import Detections, Frame
from edgeannot.vision.geometry import iou_matrix
from edgeannot.vision.pipeline import Limits, load_pipeline

FIRM = 0.35
"""The references hold what scored 0.3 or more; nearer to that, a hair decides."""
IOU, SCORE = 0.8, 0.05


def disagreements(card: ModelCard, data_dir: Path, reference: str) -> list[str]:
    """Firm objects that one side has without a partner on the other: same label, IoU >= 0.8, score within 0.05.

    Photos are given to the pipeline in the input's size, made by the bilinear filter that the references were made with.
    """
    pipeline = load_pipeline(card, limits=Limits(min_score=0.25))
    wrong = []
    for photo, entry in json.loads((data_dir / "reference" / f"{reference}.json").read_text())["images"].items():
        image = cv2.imread(str(data_dir / photo))
        sized = cv2.resize(image, card.input_wh, interpolation=cv2.INTER_LINEAR)
        result = pipeline(Frame(sized, "test", 0, datetime.now(UTC), photo))
        scale = np.array([image.shape[1], image.shape[0]] * 2, np.float32) / np.array(card.input_wh * 2, np.float32)
        names = {name: i for i, name in enumerate(card.label_names())}
        found = Detections(
            result.detections.boxes * scale, result.detections.scores, np.array([names[label] for label in result.labels], np.int64)
        )
        wanted = Detections(
            np.array([d["box_xyxy_px"] for d in entry["detections"]], np.float32).reshape(-1, 4),
            np.array([d["score"] for d in entry["detections"]], np.float32),
            np.array([names[d["label"]] for d in entry["detections"]], np.int64),
        )
        assert len(wanted), photo
        for what, one, other in (("missing", wanted, found), ("too much", found, wanted)):
            firm = one[one.scores >= FIRM]
            same = (iou_matrix(firm.boxes, other.boxes) >= IOU) & (firm.classes[:, None] == other.classes[None])
            same &= np.abs(firm.scores[:, None] - other.scores[None]) <= SCORE
            wrong += [f"{photo}: {what}: {firm.classes[i]} {firm.scores[i]:.3f} {firm.boxes[i]}" for i in np.flatnonzero(~same.any(axis=1))]
    return wrong
