"""The last join of undecoded cells is taken out, and the same detections come out of the parts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeannot.vision.engine import Engine
from edgeannot.vision.heads.dfl import Dfl
from edgeannot.vision.heads.yolo_fastestv2 import YoloFastestV2
from edgeannot_tools.graph.graph import Graph
from edgeannot_tools.graph.writer import Net
from edgeannot_tools.quantize.split_outputs import split_maps

SIDE, CLASSES = 64, 5
ANCHORS = (((8.0, 8.0), (12.0, 12.0), (16.0, 16.0)), ((20.0, 20.0), (30.0, 30.0), (40.0, 40.0)))


def table(widths, activations, strides, *, joined=True):
    """Cells of all strides as rows; each cell's numbers joined of convolutions of these widths, or made by one."""
    net, random = Net(), np.random.default_rng(0)
    x = net.input("images", (1, SIDE, SIDE, 3))
    rows = []
    for stride in strides:
        body = net.conv(f"body{stride}", x, random.normal(0, 0.2, (6, 3, 3, 3)).astype(np.float32), np.zeros(6, np.float32), stride=stride)
        parts = []
        for i, (width, kind) in enumerate(zip(widths if joined else [sum(widths)], activations, strict=False)):
            weights = random.normal(0, 0.5, (width, 6, 1, 1)).astype(np.float32)
            y = net.conv(f"part{stride}_{i}", body, weights, np.zeros(width, np.float32))
            y = net.reshape(f"flat{stride}_{i}", y, (1, (SIDE // stride) ** 2, width))
            parts.append(net.activation(f"on{stride}_{i}", y, kind))
        rows.append(net.concat(f"cells{stride}", parts, axis=2) if len(parts) > 1 else parts[0])
    return net.outputs([net.concat("table", rows, axis=1)])


def run(graph: Graph):
    image = np.random.default_rng(1).random((1, SIDE, SIDE, 3), np.float32)
    return Engine(graph.to_bytes()).run(image)


def assert_same(head, split, joined_graph, graph):
    before = head.decode(run(joined_graph), (SIDE, SIDE), 0.0)
    after = split.decode(run(graph), (SIDE, SIDE), 0.0)
    order, other = np.lexsort(before.boxes.T), np.lexsort(after.boxes.T)
    assert len(before)
    np.testing.assert_allclose(before.boxes[order], after.boxes[other], atol=1e-4)
    np.testing.assert_allclose(before.scores[order], after.scores[other], atol=1e-6)


def test_fastestv2_leaves_boxes_objectness_and_classes_of_each_stride():
    graph = table((12, 3, CLASSES), ("logistic", "logistic", "linear"), (16, 32))
    joined = Graph.from_bytes(graph.to_bytes())
    head = YoloFastestV2(outputs=("table",), anchors=ANCHORS, class_activation="softmax")
    split = split_maps(graph, head, (SIDE, SIDE))

    assert isinstance(split, YoloFastestV2)
    assert [graph.shape(t) for t in graph.outputs] == [(1, 16, 12), (1, 16, 3), (1, 16, CLASSES), (1, 4, 12), (1, 4, 3), (1, 4, CLASSES)]
    assert split.outputs == tuple(graph.name(t) for t in graph.outputs)
    assert_same(head, split, joined, graph)


@pytest.mark.parametrize("joined", ["boxes-first", "scores-first"])
def test_distributions_leave_distances_and_scores(joined):
    widths, kinds = ((32, CLASSES), ("linear", "logistic"))
    if joined == "scores-first":
        widths, kinds = widths[::-1], kinds[::-1]
    graph = table(widths, kinds, (8, 16))
    before = Graph.from_bytes(graph.to_bytes())
    head = Dfl(strides=(8, 16), boxes=(0,), joined=joined, bins=8, activation="none")
    split = split_maps(graph, head, (SIDE, SIDE))

    assert isinstance(split, Dfl)
    assert (split.joined, len(split.boxes), len(split.scores)) == ("no", 1, 1)
    assert [graph.shape(t)[2] for t in graph.outputs] == [32, CLASSES]
    assert_same(head, split, before, graph)


def test_numbers_that_were_made_together_stay_together():
    graph = table((12, 3, CLASSES), ("linear",), (16, 32), joined=False)
    before = graph.to_bytes()
    head = YoloFastestV2(outputs=("table",), anchors=ANCHORS)

    assert split_maps(graph, head, (SIDE, SIDE)) is None
    assert graph.to_bytes() == before


def test_other_heads_and_those_in_parts_already_are_left_alone():
    graph = table((12, 3, CLASSES), ("linear",) * 3, (16, 32))
    head = YoloFastestV2(outputs=("a", "b", "c", "d", "e", "f"), anchors=ANCHORS)

    assert split_maps(graph, head, (SIDE, SIDE)) is None
    assert split_maps(graph, replace(Dfl(strides=(8,), boxes=(0,), activation="none")), (SIDE, SIDE)) is None
