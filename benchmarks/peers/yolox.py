"""YOLOX on an engine of others: `python -m benchmarks.peers.yolox onnxruntime|ncnn MODEL.onnx|MODEL.ncnn SIZE < paths`.

The picture goes into the upper left corner, as YOLOX was trained; the rows are decoded with numpy and suppressed by OpenCV.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from benchmarks.peers.turns import serve

MIN_SCORE, IOU, PAD = 0.3, 0.45, 114


def on_onnxruntime(model: str) -> tuple[Callable[[Any], Any], str]:
    """Return what turns a tensor (1, 3, H, W) into rows (N, 85) on one thread, and the version."""
    import onnxruntime  # noqa: PLC0415 - each engine is in an environment of its own

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda tensor: session.run(None, {name: tensor})[0][0], onnxruntime.__version__


def on_ncnn(model: str) -> tuple[Callable[[Any], Any], str]:
    """Return the same with ncnn."""
    import ncnn  # noqa: PLC0415 - as above

    net = ncnn.Net()
    net.opt.num_threads = 1
    net.load_param(f"{model}.param")
    net.load_model(f"{model}.bin")
    first, last = net.input_names()[0], net.output_names()[0]

    def run(tensor: Any) -> Any:
        extractor = net.create_extractor()
        extractor.input(first, ncnn.Mat(tensor[0]))
        return np.array(extractor.extract(last)[1])

    return run, ncnn.__version__


def main() -> None:
    """Annotate the pictures whose paths come on stdin."""
    cv2.setNumThreads(1)
    engine, size = sys.argv[1], int(sys.argv[3])
    run, version = {"onnxruntime": on_onnxruntime, "ncnn": on_ncnn}[engine](sys.argv[2])
    cells = [(x, y, stride) for stride in (8, 16, 32) for y in range(size // stride) for x in range(size // stride)]
    x, y, stride = np.array(cells, np.float32).T

    def annotate(path: str) -> int:
        image = cv2.imread(path)
        ratio = size / max(image.shape[:2])
        height, width = round(image.shape[0] * ratio), round(image.shape[1] * ratio)
        padded = np.full((size, size, 3), PAD, np.uint8)
        padded[:height, :width] = cv2.resize(image, (width, height))
        rows = run(np.ascontiguousarray(padded.transpose(2, 0, 1)[None], np.float32))
        classes = rows[:, 5:].argmax(1)
        scores = rows[:, 4] * rows[np.arange(len(rows)), 5 + classes]
        kept = np.flatnonzero(scores >= MIN_SCORE)
        if not len(kept):
            return 0
        row, step = rows[kept], stride[kept]
        w, h = np.exp(row[:, 2]) * step / ratio, np.exp(row[:, 3]) * step / ratio
        left, top = (row[:, 0] + x[kept]) * step / ratio - w / 2, (row[:, 1] + y[kept]) * step / ratio - h / 2
        boxes = np.stack([left, top, w, h], 1).tolist()
        return len(cv2.dnn.NMSBoxesBatched(boxes, scores[kept].tolist(), classes[kept].tolist(), MIN_SCORE, IOU))

    serve(annotate, **{engine: version, "opencv": cv2.__version__})


if __name__ == "__main__":
    main()
