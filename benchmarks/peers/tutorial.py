"""A straightforward script, as tutorials for TFLite on small boards write it: imread, resize, invoke, a decode loop, paho's publish.

    python -m benchmarks.peers.tutorial MODEL.tflite yolov8|ssd|yolov3-tiny [BROKER_PORT] < paths

It was written before edgeannot's own path was tuned, and stays as it is: it is what a user has who does not use edgeannot.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import cv2
import numpy as np
import paho.mqtt.client as mqtt
from ai_edge_litert.interpreter import Interpreter

from benchmarks.peers.turns import serve

MIN_SCORE, IOU = 0.3, 0.45
ANCHORS = {32: [(81, 82), (135, 169), (344, 319)], 16: [(23, 27), (37, 58), (81, 82)]}
"""Of yolov3-tiny, by stride."""

Found = list[tuple[list[float], float, int]]
"""Box as x, y, width and height in shares of the picture, score, class."""


def real(interpreter: Any, detail: dict[str, Any]) -> Any:
    """Return a whole output as floats."""
    values = interpreter.get_tensor(detail["index"])
    scale, zero_point = detail["quantization"]
    return (values.astype(np.float32) - zero_point) * scale if scale else values


def yolov8(outputs: list[Any], size: int) -> Found:  # noqa: ARG001 - as the others
    """Decode a table (1, 4 + C, N) row by row."""
    found = []
    for row in outputs[0][0].T:
        scores = row[4:]
        best = int(np.argmax(scores))
        if scores[best] >= MIN_SCORE:
            x, y, w, h = row[:4]
            found.append(([x - w / 2, y - h / 2, w, h], float(scores[best]), best))
    return found


def ssd(outputs: list[Any], size: int) -> Found:  # noqa: ARG001 - as the others
    """Decode the four outputs of TFLite_Detection_PostProcess."""
    boxes, classes, scores, count = outputs[0][0], outputs[1][0], outputs[2][0], int(outputs[3][0])
    found = []
    for i in range(count):
        if scores[i] >= MIN_SCORE:
            top, left, bottom, right = boxes[i]
            found.append(([left, top, right - left, bottom - top], float(scores[i]), int(classes[i])))
    return found


def yolov3_tiny(outputs: list[Any], size: int) -> Found:
    """Decode two maps (1, h, w, 3 * (5 + C)) cell by cell."""
    found = []
    for output in outputs:
        cells = output.shape[1]
        stride = size // cells
        table = output.reshape(cells, cells, 3, -1)
        table[..., :2] = 1 / (1 + np.exp(-table[..., :2]))
        table[..., 4:] = 1 / (1 + np.exp(-table[..., 4:]))
        for y in range(cells):
            for x in range(cells):
                for a in range(3):
                    row = table[y, x, a]
                    if row[4] < MIN_SCORE:
                        continue
                    best = int(np.argmax(row[5:]))
                    score = float(row[4] * row[5 + best])
                    if score >= MIN_SCORE:
                        w, h = np.exp(row[2:4]) * ANCHORS[stride][a] / size
                        found.append(([(x + row[0]) / cells - w / 2, (y + row[1]) / cells - h / 2, w, h], score, best))
    return found


def main() -> None:
    """Annotate the pictures whose paths come on stdin."""
    decode = {"yolov8": yolov8, "ssd": ssd, "yolov3-tiny": yolov3_tiny}[sys.argv[2]]
    interpreter = Interpreter(model_path=sys.argv[1], num_threads=1)
    interpreter.allocate_tensors()
    wanted = interpreter.get_input_details()[0]
    _, height, width, _ = wanted["shape"]
    client = None
    if len(sys.argv) > 3:
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        client.connect("127.0.0.1", int(sys.argv[3]))
        client.loop_start()

    def annotate(path: str) -> int:
        image = cv2.imread(path)
        rgb = cv2.cvtColor(cv2.resize(image, (width, height)), cv2.COLOR_BGR2RGB)
        tensor = np.expand_dims(rgb, 0)
        scale, zero_point = wanted["quantization"]
        if wanted["dtype"] == np.float32:
            tensor = tensor.astype(np.float32) / 255.0
        elif wanted["dtype"] == np.int8:
            tensor = (tensor / 255.0 / scale + zero_point).astype(np.int8)
        interpreter.set_tensor(wanted["index"], tensor)
        interpreter.invoke()
        found = decode([real(interpreter, detail) for detail in interpreter.get_output_details()], width)
        boxes = [[float(n) for n in box] for box, _, _ in found]
        kept = cv2.dnn.NMSBoxes(boxes, [score for _, score, _ in found], MIN_SCORE, IOU) if boxes else []
        objects = []
        for i in np.array(kept, int).flatten():
            x, y, w, h = boxes[i]
            box = [round(x * image.shape[1]), round(y * image.shape[0]), round(w * image.shape[1]), round(h * image.shape[0])]
            objects.append({"class": found[i][2], "score": found[i][1], "box": box})
        if client is not None:
            client.publish("tutorial/detections", json.dumps({"file": path, "objects": objects}), qos=1)
        return len(objects)

    serve(annotate, opencv=cv2.__version__, numpy=np.__version__)


if __name__ == "__main__":
    main()
