"""Small real classifiers whose numbers are not finite: for an even black picture, or for all of them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tests.tflite_maker import Maker

__all__ = ["add_model", "nan_always", "nan_on_black"]

CLASSES = 4
CARD = """schema = 1
name = "{name}"
file = "{name}.tflite"
sha256 = "{sha256}"
task = "classify"
family = "mobilenet"
[input]
width = 32
height = 32
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


def add_model(folder: Path, name: str, raw: bytes) -> Path:
    """The model with its card in a folder of models; the card's path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.tflite").write_bytes(raw)
    labels = ", ".join(f'"class-{i}"' for i in range(CLASSES))
    path = folder / f"{name}.toml"
    path.write_text(CARD.format(name=name, sha256=hashlib.sha256(raw).hexdigest(), labels=labels))
    return path
