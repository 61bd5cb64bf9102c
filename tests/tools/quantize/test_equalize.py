"""Scaled channels: the network computes the same in float, what has to stay stays, and int8 keeps more of the weak channels."""

from __future__ import annotations

import numpy as np
import pytest

from edgeannot_tools.graph.channels import channel_numbers, find_silus
from edgeannot_tools.graph.graph import Graph, Op, schema
from edgeannot_tools.graph.reference_run import run_layers
from edgeannot_tools.graph.writer import Net
from edgeannot_tools.quantize.calibrate import calibrate
from edgeannot_tools.quantize.equalize import equalize_rectified, gate_silus
from edgeannot_tools.quantize.graph_quantizer import Recipe, prepare_graph, quantize_graph
from edgeannot_tools.quantize.layer_sqnr import measure_sqnr

RNG = np.random.default_rng(9)
SAMPLES = [[RNG.random((1, 12, 12, 3)).astype(np.float32)] for _ in range(4)]
SIZES = np.geomspace(0.02, 20, 8).astype(np.float32)
"""How strong the channels of the first layer are."""


def conv_weights(out: int, channels: int, kernel: int = 3) -> tuple[np.ndarray, np.ndarray]:
    return RNG.normal(0, 0.3, (out, channels, kernel, kernel)).astype(np.float32), RNG.normal(0, 0.2, out).astype(np.float32)


def first(net: Net, activation: str) -> int:
    weights, bias = conv_weights(8, 3)
    return net.conv("first", net.input("images", (1, 12, 12, 3)), weights * SIZES[:, None, None, None], bias * SIZES, activation=activation)


def reader(net: Net, name: str, x: int, out: int = 8) -> int:
    """A layer to which all channels count the same."""
    weights, bias = conv_weights(out, 8)
    return net.conv(name, x, weights / SIZES[:, None, None], bias, activation="relu")


def rectified() -> Graph:
    """What may stand between the layers of rectified networks: sums, joins, more channels, a shuffle, a mean and a dense layer."""
    net = Net()
    x = first(net, "relu")
    y = net.conv("depthwise", x, *conv_weights(8, 1), groups=8, activation="leaky")
    both = net.add("sum", net.max_pool("pool", y, 2, 2), net.conv("half", x, *conv_weights(8, 8), stride=2), activation="relu")
    wide = net.pad("wide", both, (0, 0, 0, 0), channels=4)
    joined = net.concat("joined", [wide, net.conv("side", both, *conv_weights(4, 8, 1), activation="relu")])
    parts = net.transpose("swap", net.reshape("parts", joined, (1, 6, 6, 2, 8)), (0, 1, 2, 4, 3))
    shuffled = net.conv("after", net.reshape("shuffled", parts, (1, 6, 6, 16)), *conv_weights(8, 8), groups=2, activation="relu")
    dense = RNG.normal(0, 0.3, (5, 8)).astype(np.float32), np.ones(5, np.float32)
    return prepare_graph(net.outputs([net.fully_connected("dense", net.mean_hw("mean", shuffled, keep_dims=False), *dense)]))


def with_silu(*, added: bool = False) -> Graph:
    net = Net()
    x = first(net, "swish")
    y = reader(net, "second", x)
    y = net.add("sum", y, x) if added else y
    return prepare_graph(net.outputs([net.conv("last", y, *conv_weights(4, 8))]))


def outputs(graph: Graph) -> list[np.ndarray]:
    found = []
    for step in run_layers(graph, SAMPLES):
        found += [np.stack(step.values[t]) for t in step.operator.outputs if t in graph.outputs]
    return found


def output_db(graph: Graph, ranges: dict | None = None) -> float:
    int8 = quantize_graph(graph, calibrate(graph, SAMPLES), Recipe(input_range=(0.0, 1.0), ranges=ranges or {})).graph
    return min(layer.sqnr_db for layer in measure_sqnr(graph, int8, SAMPLES) if layer.is_output)


def test_a_network_of_one_layer_has_nothing_to_scale():
    net = Net()
    graph = net.outputs([net.conv("only", net.input("images", (1, 12, 12, 3)), *conv_weights(4, 3))])

    assert equalize_rectified(graph, SAMPLES) is None
    assert gate_silus(graph, SAMPLES) is None


def test_the_scaled_network_computes_the_same():
    graph = rectified()

    equalized = equalize_rectified(graph, SAMPLES)

    assert equalized is not None
    assert equalized.layers == 6
    for wanted, found in zip(outputs(graph), outputs(equalized.graph), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.runtime
def test_int8_keeps_more_of_weak_channels():
    net = Net()
    graph = prepare_graph(net.outputs([net.conv("last", reader(net, "second", first(net, "relu")), *conv_weights(4, 8))]))

    equalized = equalize_rectified(graph, SAMPLES)

    assert output_db(equalized.graph) > output_db(graph) + 6


def test_what_a_layer_with_relu6_reads_may_be_scaled():
    """MobileNetV2's narrow layers have no activation, and those behind them this one."""
    net = Net()
    weights, bias = conv_weights(8, 8)
    wide = net.conv("wide", first(net, "linear"), weights / SIZES[:, None, None], bias, activation="relu6")
    graph = prepare_graph(net.outputs([net.conv("last", wide, *conv_weights(4, 8))]))

    equalized = equalize_rectified(graph, SAMPLES)

    assert equalized is not None
    assert equalized.layers == 2
    for wanted, found in zip(outputs(graph), outputs(equalized.graph), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=5e-3)


@pytest.mark.parametrize("activation", ["relu6", "logistic", "tanh", "hard_swish", "swish"])
def test_what_another_function_reads_stays_as_it_is(activation):
    net = Net()
    x = first(net, activation)
    graph = prepare_graph(net.outputs([net.conv("last", x, *conv_weights(4, 8))]))

    assert not any(numbers.any() for numbers in channel_numbers(graph).values())
    assert equalize_rectified(graph, SAMPLES) is None


@pytest.mark.runtime
def test_a_gate_lets_a_silu_be_scaled_and_computes_the_same():
    graph = with_silu()

    gated = gate_silus(graph, SAMPLES)

    assert gated is not None
    assert gated.gates == 1
    for wanted, found in zip(outputs(graph), outputs(gated.graph), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=5e-3)
    [(name, (low, high))] = gated.ranges.items()
    assert (name, high) == ("first", 1.0)
    assert -1 <= low < 0
    assert output_db(gated.graph, gated.ranges) > output_db(graph) + 6


def test_a_silu_that_is_not_noisy_gets_no_gate():
    net = Net()
    x = net.conv("first", net.input("images", (1, 12, 12, 3)), *conv_weights(8, 3), activation="swish")
    graph = prepare_graph(net.outputs([net.conv("last", x, *conv_weights(4, 8))]))

    assert len(find_silus(graph)) == 1
    assert gate_silus(graph, SAMPLES) is None


def test_channels_that_are_added_get_one_factor():
    graph = with_silu(added=True)

    gated = gate_silus(graph, SAMPLES)

    assert gated is not None
    for wanted, found in zip(outputs(graph), outputs(gated.graph), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=5e-3)


def test_the_given_graph_is_not_changed():
    graph = with_silu()
    before = graph.to_bytes()

    gate_silus(graph, SAMPLES)
    equalize_rectified(graph, SAMPLES)

    assert graph.to_bytes() == before


def padded_for_a_maximum(value: float, *, also_elsewhere: bool = False) -> Graph:
    """What stands before a maximum that pads by itself, in exports of TensorFlow.js and ONNX."""
    net = Net()
    x = first(net, "leaky")
    operands = [
        x,
        net.constant("rows", np.array([[0, 0], [1, 1], [1, 1], [0, 0]]), np.int32),
        net.constant("value", np.array([value]), np.float32),
    ]
    edge = net.graph.add_tensor("padded", (1, 14, 14, 8))
    net.graph.add_operator(Op.PADV2, operands, [edge], schema.PadV2OptionsT())
    last = [net.conv("last", reader(net, "second", net.max_pool("pool", edge, 3, 2, pads=(0, 0, 0, 0))), *conv_weights(4, 8))]
    return prepare_graph(net.outputs([*last, net.conv("edge", edge, *conv_weights(4, 8))] if also_elsewhere else last))


@pytest.mark.runtime
@pytest.mark.parametrize("value", [-10000.0, -3e38])
def test_padding_that_stands_for_minus_infinity_before_a_maximum_is_no_obstacle(value):
    graph = padded_for_a_maximum(value)

    equalized = equalize_rectified(graph, SAMPLES)

    assert equalized is not None
    assert equalized.layers == 3
    for wanted, found in zip(outputs(graph), outputs(equalized.graph), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=5e-3)
    assert output_db(equalized.graph) > output_db(graph) + 6


@pytest.mark.parametrize(("value", "also_elsewhere"), [(-1.0, False), (-10000.0, True)])
def test_padding_that_is_a_number_as_others_keeps_its_channels(value, also_elsewhere):
    graph = padded_for_a_maximum(value, also_elsewhere=also_elsewhere)
    first_result = graph.operators[0].outputs[0]

    assert not channel_numbers(graph)[first_result].any()
