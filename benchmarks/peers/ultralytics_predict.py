"""Ultralytics' predict on a TFLite file: `python -m benchmarks.peers.ultralytics_predict MODEL.tflite < paths`."""

from __future__ import annotations

import sys

import torch
import ultralytics

from benchmarks.peers.turns import serve


def main() -> None:
    """Annotate the pictures whose paths come on stdin."""
    torch.set_num_threads(1)
    model = ultralytics.YOLO(sys.argv[1], task="detect")

    def annotate(path: str) -> int:
        return len(model.predict(path, verbose=False, conf=0.3, iou=0.45)[0].boxes)

    serve(annotate, ultralytics=ultralytics.__version__, torch=torch.__version__)


if __name__ == "__main__":
    main()
