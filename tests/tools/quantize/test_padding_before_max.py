"""Padding that stands for minus infinity before a maximum: its value takes nothing of the 256 steps, and the layers are not blamed."""

from __future__ import annotations

import numpy as np
import pytest

from edgeannot_tools.graph.graph import Graph, Op, schema
from edgeannot_tools.graph.writer import Net
from edgeannot_tools.quantize.calibrate import calibrate, padded_for_maximum
from edgeannot_tools.quantize.graph_quantizer import Recipe, prepare_graph, quantize_graph
from edgeannot_tools.quantize.layer_sqnr import measure_sqnr

RNG = np.random.default_rng(7)
SAMPLES = [[RNG.random((1, 16, 16, 3)).astype(np.float32)] for _ in range(4)]


def conv_weights(out: int, channels: int) -> tuple[np.ndarray, np.ndarray]:
    return RNG.normal(0, 0.3, (out, channels, 3, 3)).astype(np.float32), RNG.normal(0, 0.2, out).astype(np.float32)


def padded(net: Net, x: int, value: float) -> int:
    """The picture with a row and a column of `value` around it, as TensorFlow.js and ONNX exports write a padded maximum."""
    n, height, width, depth = net.shape(x)
    operands = [
        x,
        net.constant("rows", np.array([[0, 0], [1, 1], [1, 1], [0, 0]]), np.int32),
        net.constant("low", np.array([value]), np.float32),
    ]
    y = net.graph.add_tensor("padded", (n, height + 2, width + 2, depth))
    net.graph.add_operator(Op.PADV2, operands, [y], schema.PadV2OptionsT())
    return y


def joined(net: Net, x: int, value: float) -> int:
    """The same by a concatenation with constant rows."""
    n, height, width, depth = net.shape(x)
    wide = net.constant("wide", np.full((n, 1, width, depth), value), np.float32)
    tall = net.constant("tall", np.full((n, height + 2, 1, depth), value), np.float32)
    return net.concat("padded", [tall, net.concat("rows", [wide, x, wide], axis=1), tall], axis=2)


def moved(net: Net, x: int, value: float) -> int:
    """A transposition there and back between padding and maximum."""
    there = net.transpose("there", padded(net, x, value), (0, 2, 1, 3))
    return net.transpose("back", there, (0, 2, 1, 3))


def network(pad, value: float, *, also_elsewhere: bool = False) -> Graph:
    net = Net()
    x = net.conv("first", net.input("images", (1, 16, 16, 3)), *conv_weights(8, 3), activation="leaky")
    edge = pad(net, x, value)
    pooled = net.max_pool("pool", edge, 3, 2, pads=(0, 0, 0, 0))
    outputs = [net.conv("second", pooled, *conv_weights(8, 8))]
    if also_elsewhere:
        outputs.append(net.conv("third", edge, *conv_weights(4, 8)))
    return prepare_graph(net.outputs(outputs))


def worst_output_db(graph: Graph) -> float:
    int8 = quantize_graph(graph, calibrate(graph, SAMPLES), Recipe(input_range=(0.0, 1.0))).graph
    return min(layer.sqnr_db for layer in measure_sqnr(graph, int8, SAMPLES) if layer.is_output)


def test_a_network_without_padding_has_none_to_leave_out():
    net = Net()
    x = net.conv("first", net.input("images", (1, 16, 16, 3)), *conv_weights(8, 3))

    assert not padded_for_maximum(net.outputs([net.max_pool("pool", x, 2, 2)]))


@pytest.mark.runtime
@pytest.mark.parametrize("value", [-3.0, -128.0, -10_000.0, -3.4e38])
@pytest.mark.parametrize("pad", [padded, joined, moved])
def test_the_value_does_not_count_for_the_range_whatever_its_size(pad, value):
    assert worst_output_db(network(pad, value)) > 25


@pytest.mark.runtime
def test_no_layer_is_blamed_for_storing_it_saturated():
    graph = network(moved, -10_000.0)
    int8 = quantize_graph(graph, calibrate(graph, SAMPLES), Recipe(input_range=(0.0, 1.0))).graph

    layers = measure_sqnr(graph, int8, SAMPLES)

    assert min(layer.sqnr_db for layer in layers) > 25, layers


@pytest.mark.runtime
def test_a_value_that_the_maximum_sees_counts():
    """Above all others it is the result wherever a window reaches it."""
    assert worst_output_db(network(padded, 40.0)) > 25


def test_a_value_that_others_read_too_counts():
    graph = network(padded, -40.0, also_elsewhere=True)

    int8 = quantize_graph(graph, calibrate(graph, SAMPLES), Recipe(input_range=(0.0, 1.0))).graph

    scheme = int8.quantization(int8.find("padded"))
    assert scheme is not None
    assert (-128 - scheme.zero_point[0]) * scheme.scale[0] <= -39.9
