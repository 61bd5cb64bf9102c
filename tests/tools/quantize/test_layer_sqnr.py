"""Signal to noise by layer: nothing lost is nothing reported, and a damaged layer is the one that is named."""

from __future__ import annotations

import numpy as np
import pytest

from edgeannot_tools.graph.graph import Graph
from edgeannot_tools.graph.writer import Net
from edgeannot_tools.quantize.calibrate import calibrate
from edgeannot_tools.quantize.graph_quantizer import Recipe, prepare_graph, quantize_graph
from edgeannot_tools.quantize.layer_sqnr import EXACT_DB, measure_sqnr, worst_layers

RNG = np.random.default_rng(4)
SAMPLES = [[RNG.random((1, 16, 16, 3)).astype(np.float32)] for _ in range(3)]


def weights(out: int, channels: int) -> tuple[np.ndarray, np.ndarray]:
    return RNG.normal(0, 0.3, (out, channels, 3, 3)).astype(np.float32), RNG.normal(0, 0.2, out).astype(np.float32)


def network() -> Graph:
    net = Net()
    x = net.conv("first", net.input("images", (1, 16, 16, 3)), *weights(8, 3), activation="swish")
    x = net.conv("second", x, *weights(8, 8), activation="swish")
    return prepare_graph(net.outputs([net.conv("third", x, *weights(8, 8))]))


def quantized(graph: Graph) -> Graph:
    return quantize_graph(graph, calibrate(graph, SAMPLES), Recipe(input_range=(0.0, 1.0))).graph


def test_without_samples_no_layer_has_lost_anything():
    graph = network()

    assert {layer.sqnr_db for layer in measure_sqnr(graph, quantized(graph), [])} == {EXACT_DB}


@pytest.mark.runtime
def test_a_graph_against_itself_has_no_noise():
    graph = network()

    layers = measure_sqnr(graph, graph, SAMPLES)

    assert [layer.tensor for layer in layers] == ["first_swish", "second_swish", "third"]
    assert {(layer.sqnr_db, layer.lost_db) for layer in layers} == {(EXACT_DB, 0.0)}
    assert [layer.is_output for layer in layers] == [False, False, True]


@pytest.mark.runtime
def test_int8_keeps_most_of_the_signal_and_each_layer_adds_a_little():
    graph = network()

    layers = measure_sqnr(graph, quantized(graph), SAMPLES)

    assert len(layers) == 3
    assert all(25 < layer.sqnr_db < 60 for layer in layers)
    assert layers[0].lost_db > layers[1].lost_db, "what the first layer lost counts as its own"


def test_what_an_activation_throws_away_is_no_loss():
    """Before a swish, int8 clips far negative numbers on purpose; only its result is looked at."""
    graph = network()

    names = {layer.tensor for layer in measure_sqnr(graph, quantized(graph), SAMPLES)}

    assert not {"first", "first_logistic", "second", "second_logistic"} & names


def test_a_damaged_layer_is_named_first():
    graph = network()
    int8 = quantized(graph)
    second = next(o for o in int8.operators if int8.name(o.outputs[0]) == "second")
    kept = int8.constant(second.inputs[1]).copy()
    scheme = int8.quantization(second.inputs[1])
    kept[:4] = 0
    int8.set_constant(second.inputs[1], kept)
    int8.set_quantization(second.inputs[1], scheme.scale, scheme.zero_point, scheme.axis)

    layers = measure_sqnr(graph, int8, SAMPLES)

    by_name = {layer.tensor: layer for layer in layers}
    assert by_name["second_swish"].sqnr_db < 10
    assert worst_layers([layer for layer in layers if layer.tensor != "first_swish"], 1)[0].tensor == "second_swish"
