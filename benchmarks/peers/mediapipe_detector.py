"""MediaPipe's ObjectDetector on a TFLite file with metadata: `python -m benchmarks.peers.mediapipe_detector MODEL.tflite < paths`."""

from __future__ import annotations

import sys

import mediapipe
from mediapipe.tasks.python import BaseOptions
from mediapipe.tasks.python.vision import ObjectDetector, ObjectDetectorOptions

from benchmarks.peers.turns import serve


def main() -> None:
    """Annotate the pictures whose paths come on stdin."""
    options = ObjectDetectorOptions(base_options=BaseOptions(model_asset_path=sys.argv[1]), score_threshold=0.3)
    detector = ObjectDetector.create_from_options(options)

    def annotate(path: str) -> int:
        return len(detector.detect(mediapipe.Image.create_from_file(path)).detections)

    serve(annotate, mediapipe=mediapipe.__version__)


if __name__ == "__main__":
    main()
