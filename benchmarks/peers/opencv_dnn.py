"""OpenCV's own network engine on a Darknet network: `python -m benchmarks.peers.opencv_dnn NET.cfg NET.weights SIZE < paths`."""

from __future__ import annotations

import sys

import cv2

from benchmarks.peers.turns import serve


def main() -> None:
    """Annotate the pictures whose paths come on stdin."""
    cv2.setNumThreads(1)
    model = cv2.dnn.DetectionModel(cv2.dnn.readNetFromDarknet(sys.argv[1], sys.argv[2]))
    size = int(sys.argv[3])
    model.setInputParams(size=(size, size), scale=1 / 255, swapRB=True)

    def annotate(path: str) -> int:
        classes, _, _ = model.detect(cv2.imread(path), confThreshold=0.3, nmsThreshold=0.45)
        return len(classes)

    serve(annotate, opencv=cv2.__version__)


if __name__ == "__main__":
    main()
