"""COCO's own metrics, from `faster-coco-eval`: the maintained fork of pycocotools (Apache-2.0).

It gives the same figures, and has wheels for Python 3.10 to 3.13 on x86 and 64-bit Arm that bring numpy alone.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeannot.base.errors import ConfigError, install
from edgeannot.vision.data import Detections
from edgeannot_tools.evaluate.average_precision import Truth

__all__ = ["CocoMetrics", "coco_metrics"]


@dataclass(frozen=True, slots=True)
class CocoMetrics:
    """https://cocodataset.org/#detection-eval: 101-point average precisions, at most 100 detections a picture; -1: no such object."""

    ap: float
    """Over IoU 0.50 to 0.95."""
    ap50: float
    ap75: float
    ap_small: float
    ap_medium: float
    ap_large: float
    ar100: float
    """Recall with 100 detections a picture, over IoU 0.50 to 0.95."""


def coco_metrics(pairs: Sequence[tuple[Truth, Detections]]) -> CocoMetrics:
    """The metrics over all pictures. Raises ConfigError when faster-coco-eval is not installed."""
    try:
        from faster_coco_eval import COCO, COCOeval_faster  # noqa: PLC0415 - the workshop runs without it
    except ImportError as exc:
        raise ConfigError(f"COCO's metrics need the Python package faster-coco-eval: {install('tools')}") from exc
    class_ids = sorted({int(c) for truth, _ in pairs for c in truth.classes})
    detections = [row for number, (_, found) in enumerate(pairs, 1) for row in _results(number, found[np.isin(found.classes, class_ids)])]
    if not detections:
        nothing = 0.0 if any((~(truth.difficult | truth.crowd)).any() for truth, _ in pairs) else -1.0
        return CocoMetrics(*[nothing] * 7)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(
            {
                "images": [{"id": number} for number in range(1, len(pairs) + 1)],
                "categories": [{"id": class_id + 1, "name": str(class_id)} for class_id in class_ids],
                "annotations": _annotations([truth for truth, _ in pairs]),
            }
        )
        run = COCOeval_faster(truth, truth.loadRes(detections), "bbox")
        run.run()
    ap, ap50, ap75, small, medium, large = (float(value) for value in run.stats[:6])
    return CocoMetrics(ap, ap50, ap75, small, medium, large, float(run.stats[8]))


def _annotations(truths: Sequence[Truth]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for number, truth in enumerate(truths, 1):
        for box, class_id, difficult, crowd in zip(truth.boxes, truth.classes, truth.difficult, truth.crowd, strict=True):
            # COCO knows no difficult objects; what is ignored there is a crowd.
            row = {"image_id": number, "category_id": int(class_id) + 1, "bbox": _xywh(box), "iscrowd": int(difficult or crowd)}
            rows.append({"id": len(rows) + 1, "area": float((box[2] - box[0]) * (box[3] - box[1])), **row})
    return rows


def _results(number: int, found: Detections) -> list[dict[str, object]]:
    return [
        {"image_id": number, "category_id": int(class_id) + 1, "bbox": _xywh(box), "score": float(score)}
        for box, class_id, score in zip(found.boxes.astype(np.float64), found.classes, found.scores, strict=True)
    ]


def _xywh(box: np.ndarray[tuple[int], np.dtype[np.float64]]) -> list[float]:
    return [float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])]
