"""Small networks in the forms that families' exporters give them, made with the tools' own writer where no real file is at hand.

A layer or two with random weights, always the same ones, so that the numbers follow the picture: they find nothing that means anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from edgeannot_tools.graph.graph import Graph, Op, schema
from edgeannot_tools.graph.writer import Net

__all__ = [
    "QUERIES",
    "SIDE",
    "STRIDES",
    "bins_apart_network",
    "bins_joined_network",
    "decoded_network",
    "fastestdet_network",
    "fomo_network",
    "nanodet_plus_network",
    "queries_network",
    "yolox_network",
]

SIDE = 96
"""Of the input, in pixels."""
STRIDES = (8, 16, 32)
QUERIES = 50


def layer(net: Net, x: int, name: str, stride: int, channels: int, *, bias: float = 0.0, gain: float = 8.0, tone: float = 0.0) -> int:
    """Return a map of one stride whose numbers say how a cell's pixels differ from each other; tone: and how much of each colour it has."""
    rng = np.random.default_rng(sum(map(ord, name)))
    weights = rng.normal(0, gain / stride, (channels, 3, stride, stride))
    weights -= weights.mean(axis=(2, 3), keepdims=True)
    weights += rng.normal(0, tone / stride**2, (channels, 3, 1, 1))
    return net.conv(name, x, weights.astype(np.float32), np.full(channels, bias, np.float32), stride=stride)


def fomo_network() -> Graph:
    """Make a network as Edge Impulse's: a softmax over background and classes at each cell of 8 pixels."""
    net = Net()
    x = net.input("image", (1, SIDE, SIDE, 3))
    scores = layer(net, x, "head", 8, 4, gain=30)
    background = net.constant("lean", np.float32([3, 0, 0, 0]).reshape(1, 1, 1, 4), np.float32)
    return net.outputs([net.softmax("map", net.add("leaning", scores, background))])


def fastestdet_network() -> Graph:
    """Make a network as FastestDet's `DetectHead`, channels first as its TFLite file is."""
    net = Net()
    x = net.transpose("hwc", net.input("image", (1, 3, SIDE, SIDE)), (0, 2, 3, 1))
    objectness = net.activation("objectness", layer(net, x, "obj", 16, 1, gain=30), "logistic")
    classes = net.softmax("classes", layer(net, x, "cls", 16, 3, gain=30))
    joined = net.concat("joined", [objectness, layer(net, x, "reg", 16, 4), classes])
    return net.outputs([net.transpose("chw", joined, (0, 3, 1, 2))])


def bins_joined_network(bins: int, classes: int) -> Graph:
    """Make a network as NanoDet's exporter: for the cells of all strides, class scores behind a sigmoid, then 4 x `bins` numbers."""
    net = Net()
    x = net.input("image", (1, SIDE, SIDE, 3))
    rows = []
    for stride in STRIDES:
        scores = net.activation(f"scores{stride}", layer(net, x, f"cls{stride}", stride, classes, bias=-1.5, gain=12), "logistic")
        joined = net.concat(f"joined{stride}", [scores, layer(net, x, f"reg{stride}", stride, 4 * bins)])
        rows.append(net.reshape(f"rows{stride}", joined, (1, (SIDE // stride) ** 2, classes + 4 * bins)))
    return net.outputs([net.concat("out", rows, axis=1)])


def trunk(net: Net, strides: Sequence[int], brightest: float) -> dict[int, int]:
    """Return a map of 8 channels for each stride, each made of the one before; `brightest` is the number of a white pixel."""
    rng = np.random.default_rng(8)
    x, found, channels = net.input("image", (1, SIDE, SIDE, 3)), {}, 3
    for level in range(1, strides[-1].bit_length()):
        weights = rng.normal(0, 0.4 / (brightest if level == 1 else 1), (8, channels, 3, 3)).astype(np.float32)
        x, channels = net.conv(f"level{level}", x, weights, np.zeros(8, np.float32), stride=2, activation="relu6"), 8
        if 2**level in strides:
            found[2**level] = x
    return found


def candidates(net: Net, maps: dict[int, int], parts: Sequence[tuple[str, int, bool]]) -> int:
    """Return a row for each cell of all maps, with the parts (name, channels, whether behind a sigmoid); no score reaches 0.1."""
    rng = np.random.default_rng(9)
    rows = []
    for stride, x in maps.items():
        made = []
        for name, channels, sigmoid in parts:
            weights = rng.normal(0, 0.03 if sigmoid else 0.2, (channels, 8, 1, 1)).astype(np.float32)
            y = net.conv(f"{name}{stride}", x, weights, np.full(channels, -6 if sigmoid else 0, np.float32))
            made.append(net.activation(f"{name}score{stride}", y, "logistic") if sigmoid else y)
        columns = sum(channels for _, channels, _ in parts)
        rows.append(net.reshape(f"rows{stride}", net.concat(f"joined{stride}", made), (1, (-(-SIDE // stride)) ** 2, columns)))
    return net.concat("out", rows, axis=1)


def nanodet_plus_network(classes: int) -> Graph:
    """Make a network as NanoDet-Plus's `_forward_onnx`: at four strides class scores behind a sigmoid, then 4 x 8 numbers."""
    net = Net()
    maps = trunk(net, (8, 16, 32, 64), brightest=2.5)
    return net.outputs([candidates(net, maps, [("cls", classes, True), ("reg", 32, False)])])


def yolox_network(classes: int) -> Graph:
    """Make a network as YOLOX's exporter: boxes that are not decoded, then objectness and classes behind sigmoids."""
    net = Net()
    maps = trunk(net, STRIDES, brightest=255)
    return net.outputs([candidates(net, maps, [("box", 4, False), ("obj", 1, True), ("cls", classes, True)])])


def bins_apart_network(bins: int, classes: int, strides: Sequence[int] = STRIDES, top: float = 255, tone: float = 0) -> Graph:
    """Make a network as DAMO-YOLO's head before its decoding: for each stride class scores behind a sigmoid, and 4 x `bins` numbers.

    top: the largest number that the input takes; the weights are the smaller for it. tone: what a colour counts beside what is in it.
    """
    net = Net()
    x = net.input("image", (1, SIDE, SIDE, 3))
    outputs = []
    for stride in strides:
        scores = layer(net, x, f"cls{stride}", stride, classes, bias=-1.5, gain=12 / top, tone=tone)
        outputs += [net.activation(f"score{stride}", scores, "logistic"), layer(net, x, f"reg{stride}", stride, 4 * bins, gain=8 / top)]
    return net.outputs(outputs)


def queries_network(columns: int, *, joined: bool = False, no_object: int | None = None, activation: str = "linear") -> Graph:
    """Make a network as DETR's: queries that look at all cells, each with a box (four sigmoids) and `columns` class numbers.

    no_object: a column that leads for most queries. joined: both in one output, as RT-DETR's exporter gives them.
    """
    rng = np.random.default_rng(columns)
    net = Net()
    cells = layer(net, net.input("image", (1, SIDE, SIDE, 3)), "cells", 16, 16)
    values = net.reshape("values", cells, (1, 36, 16))
    looks = net.constant("looks", rng.normal(0, 0.02, (1, QUERIES, 36)), np.float32)
    seen = net.graph.add_tensor("seen", (1, QUERIES, 16))
    net.graph.add_operator(Op.BATCH_MATMUL, [looks, values], [seen], schema.BatchMatMulOptionsT())
    known = net.add("known", seen, net.constant("queries", rng.normal(0, 1, (1, QUERIES, 16)), np.float32))
    flat = net.reshape("flat", known, (QUERIES, 16))
    bias = np.full(columns, -2.0, np.float32)
    if no_object is not None:
        bias[no_object] = 3
    boxes = net.fully_connected("box_layer", flat, rng.normal(0, 0.4, (4, 16)).astype(np.float32), np.float32([0, 0, -1, -1]))
    classes = net.fully_connected("class_layer", flat, rng.normal(0, 0.5, (columns, 16)).astype(np.float32), bias)
    boxes = net.reshape("boxes", net.activation("box", boxes, "logistic"), (1, QUERIES, 4))
    scores = net.activation("score", net.reshape("classes", classes, (1, QUERIES, columns)), activation)
    return net.outputs([net.concat("out", [boxes, scores], axis=2)] if joined else [scores, boxes])


def decoded_network(form: Literal["cxcywh", "xyxy"], classes: int, *, apart: bool, branches: int = 1) -> Graph:
    """Make a network that decodes its boxes itself, in pixels: YOLO-NAS (corners, scores apart), YOLOv9 (a candidate a column)."""
    net = Net()
    x = net.input("image", (1, SIDE, SIDE, 3))
    outputs = []
    for branch in range(branches):
        boxes, scores = [], []
        for stride in STRIDES:
            n = SIDE // stride
            name = f"b{branch}s{stride}"
            y, x_of = np.mgrid[0:n, 0:n].astype(np.float32)
            middle = (np.stack([x_of, y], axis=-1) + np.float32(0.5)) * stride
            if form == "xyxy":
                points, factors = np.tile(middle, 2), np.float32([-1, -1, 1, 1]) * 2 * stride
            else:
                points, factors = np.concatenate([middle, np.zeros_like(middle)], axis=-1), np.float32([0.5, 0.5, 4, 4]) * stride
            shares = net.activation(f"share{name}", layer(net, x, f"reg{name}", stride, 4), "logistic")
            spread = net.mul(f"spread{name}", shares, net.constant(f"factor{name}", factors.reshape(1, 1, 1, 4), np.float32))
            placed = net.add(f"placed{name}", spread, net.constant(f"point{name}", points[None], np.float32))
            boxes.append(net.reshape(f"box{name}", placed, (1, n * n, 4)))
            found = net.activation(f"score{name}", layer(net, x, f"cls{name}", stride, classes, bias=-5, gain=12), "logistic")
            scores.append(net.reshape(f"found{name}", found, (1, n * n, classes)))
        parts = [net.concat(f"boxes{branch}", boxes, axis=1), net.concat(f"scores{branch}", scores, axis=1)]
        outputs += parts if apart else [net.transpose(f"out{branch}", net.concat(f"rows{branch}", parts, axis=2), (0, 2, 1))]
    return net.outputs(outputs)
