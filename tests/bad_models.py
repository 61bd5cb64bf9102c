"""Small real files that a runtime should never have been given: numbers that are not finite, and what kills the runtime itself."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tests.tflite_maker import Maker

__all__ = ["add_model", "endless", "nan_always", "nan_on_black", "short_anchors", "stride_zero"]

CLASSES = 4
CARD = """schema = 1
name = "{name}"
file = "{name}.tflite"
sha256 = "{sha256}"
task = "classify"
family = "mobilenet"
[input]
width = {size}
height = {size}
[head]
kind = "classify"
output = 0
[labels]
names = [{labels}]
"""


def nan_on_black() -> bytes:
    """A classifier whose scores are multiplied by mean / mean of the picture: 1, but for a black picture 0 / 0."""
    return _classifier()


def nan_always(last: float = 2.0) -> bytes:
    """The same with (mean * 0) / (mean * 0). last: the last class's number; another makes another file."""
    return _classifier(black=False, last=last)


def _classifier(*, black: bool = True, last: float = 2.0) -> bytes:
    maker = Maker()
    picture = maker.input((1, 32, 32, 3))
    reducer = schema.ReducerOptionsT()
    reducer.keepDims = False
    mean = maker.op("MEAN", [picture, maker.constant([1, 2, 3], "int32", "axes")], (1,), options=reducer)
    if not black:
        mean = maker.op("MUL", [mean, maker.constant(np.float32([0]))], (1,), options=schema.MulOptionsT())
    one = maker.op("DIV", [mean, mean], (1,), options=schema.DivOptionsT())
    scores = maker.softmax(maker.stirred(picture, [np.linspace(0, last, CLASSES)], 0.1))
    return maker.outputs(maker.op("MUL", [scores, one], (1, CLASSES), options=schema.MulOptionsT(), tensor_name="scores"))


def endless() -> bytes:
    """A branch that leads to the graph that it is in: both runtimes go round until their stack is full (SIGSEGV), when it is loaded."""
    maker = Maker()
    picture = maker.input((1, 32, 32, 3))
    options = schema.IfOptionsT()
    options.thenSubgraphIndex = options.elseSubgraphIndex = 0
    return maker.outputs(maker.op("IF", [maker.constant([True], "bool"), picture], (1, CLASSES), options=options, tensor_name="scores"))


def short_anchors(size: int = 1024) -> bytes:
    """A post-process operator with one anchor for 786,432 boxes: both runtimes read far behind the file (SIGSEGV), when it is run."""
    maker = Maker()
    boxes = size * size * 3 // 4
    picture = maker.input((1, size, size, 3))
    table = maker.op("RESHAPE", [picture, maker.constant([1, boxes, 4], "int32")], (1, boxes, 4))
    options = {
        "max_detections": 10,
        "max_classes_per_detection": 1,
        "num_classes": 3,
        "y_scale": 10.0,
        "x_scale": 10.0,
        "h_scale": 5.0,
        "w_scale": 5.0,
        "nms_score_threshold": 0.0,
        "nms_iou_threshold": 0.5,
    }
    shapes = [(1, 10, 4), (1, 10), (1, 10), (1,)]
    return maker.outputs(*maker.custom("TFLite_Detection_PostProcess", [table, table, maker.constant(np.ones((1, 4)))], shapes, options))


def stride_zero() -> bytes:
    """An int8 convolution that moves on by 0 pixels: tflite-runtime 2.14 divides by it (SIGFPE), LiteRT refuses it."""
    maker = Maker()
    picture = maker.input((1, 32, 32, 3))
    options = schema.DepthwiseConv2DOptionsT()
    options.dilationHFactor = options.dilationWFactor = 1
    options.padding = schema.Padding.VALID
    weights = maker.tensor("weights", (1, 3, 3, 3), "int8", 0.1, data=np.ones((1, 3, 3, 3)))
    bias = maker.tensor("bias", (3,), "int32", 0.01, data=np.zeros(3))
    inputs = [maker.quantized(picture, "int8", 0.1, 0), weights, bias]
    return maker.outputs(maker.op("DEPTHWISE_CONV_2D", inputs, (1, 32, 32, 3), options=options, dtype="int8", scale=0.1))


def add_model(folder: Path, name: str, raw: bytes, size: int = 32) -> Path:
    """The model with a classifier's card in a folder of models; the card's path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.tflite").write_bytes(raw)
    labels = ", ".join(f'"class-{i}"' for i in range(CLASSES))
    path = folder / f"{name}.toml"
    path.write_text(CARD.format(name=name, sha256=hashlib.sha256(raw).hexdigest(), labels=labels, size=size))
    return path
