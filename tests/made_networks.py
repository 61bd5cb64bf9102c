"""Small networks in the forms that families' exporters give them, made with the tools' own writer where no real file is at hand.

A layer or two with random weights, always the same ones, so that the numbers follow the picture: they find nothing that means anything.
"""

from __future__ import annotations

import numpy as np

from edgeannot_tools.graph.graph import Graph
from edgeannot_tools.graph.writer import Net

__all__ = ["SIDE", "STRIDES", "bins_apart_network", "bins_joined_network", "fastestdet_network", "fomo_network"]

SIDE = 96
"""Of the input, in pixels."""
STRIDES = (8, 16, 32)


def layer(net: Net, x: int, name: str, stride: int, channels: int, *, bias: float = 0.0, gain: float = 8.0) -> int:
    """Return a map of one stride whose numbers say how a cell's pixels differ from each other."""
    rng = np.random.default_rng(sum(map(ord, name)))
    weights = rng.normal(0, gain / stride, (channels, 3, stride, stride))
    weights -= weights.mean(axis=(2, 3), keepdims=True)
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


def bins_apart_network(bins: int, classes: int) -> Graph:
    """Make a network as DAMO-YOLO's head before its decoding: for each stride class scores behind a sigmoid, and 4 x `bins` numbers."""
    net = Net()
    x = net.input("image", (1, SIDE, SIDE, 3))
    outputs = []
    for stride in STRIDES:
        # The input takes 0..255, so the weights are small.
        scores = layer(net, x, f"cls{stride}", stride, classes, bias=-1.5, gain=12 / 255)
        outputs += [net.activation(f"score{stride}", scores, "logistic"), layer(net, x, f"reg{stride}", stride, 4 * bins, gain=8 / 255)]
    return net.outputs(outputs)
