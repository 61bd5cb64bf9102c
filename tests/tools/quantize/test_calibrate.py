"""Calibration: what is seen of each tensor, and what range is made of it."""

from __future__ import annotations

import numpy as np
import pytest

from edgeannot_tools.graph.graph import Graph, Op, schema
from edgeannot_tools.graph.writer import Net
from edgeannot_tools.quantize.calibrate import VALUES_A_TENSOR, activation_behind, best_range, calibrate, merged, swish

EYE = np.eye(4, dtype=np.float32)[:, :, None, None]


def network(activation: str, size: int = 8) -> Graph:
    """A convolution that passes its input on, an activation, and a second one, so that the first is inside the network."""
    net = Net()
    x = net.conv("first", net.input("images", (1, size, size, 4)), EYE, np.zeros(4, np.float32), activation=activation)
    return net.outputs([net.conv("last", x, EYE, np.zeros(4, np.float32))])


def image(low: float, high: float, size: int = 8) -> np.ndarray:
    return np.linspace(low, high, size * size * 4, dtype=np.float32).reshape(1, size, size, 4)


@pytest.mark.runtime
def test_widest_is_the_extreme_and_usual_the_mean_of_the_samples_extremes():
    graph = network("leaky")
    seen = calibrate(graph, [[image(-1, 2)], [image(-3, 4)]])
    first = graph.find("first")
    assert seen.samples == 2
    assert seen.widest(first) == (-3, 4)
    assert seen.usual(first) == (-2, 3)


@pytest.mark.runtime
def test_operands_that_a_kernel_overwrites_are_seen_as_they_were():
    """tflite-runtime lets ADD write its sum over an operand, even when it is asked to preserve all tensors."""
    net = Net()
    x = net.conv("first", net.input("images", (1, 8, 8, 4)), EYE, np.zeros(4, np.float32))
    y = net.conv("second", x, EYE, np.zeros(4, np.float32))
    graph = net.outputs([net.conv("last", net.add("sum", y, x), EYE, np.zeros(4, np.float32))])
    seen = calibrate(graph, [[image(0, 5)]])
    assert seen.widest(graph.find("second")) == (0, 5)
    assert seen.widest(graph.find("sum")) == (0, 10)


def test_merged_calibrations_count_all_samples():
    graph = network("leaky")
    both = merged([calibrate(graph, [[image(-1, 2)]]), calibrate(graph, [[image(-3, 4)], [image(0, 1)]])])
    assert both.samples == 3
    assert both.widest(graph.find("first")) == (-3, 4)
    assert both.values[graph.find("first")].size == 3 * 8 * 8 * 4


def test_what_is_kept_of_many_samples_is_bounded_and_even():
    graph = network("leaky", size=32)
    samples = ([image(n, n + 1, 32)] for n in range(200))
    kept = calibrate(graph, samples).values[graph.find("first")]
    assert VALUES_A_TENSOR / 4 < kept.size <= VALUES_A_TENSOR
    counts, _ = np.histogram(kept, 10, (0, 201))
    assert counts.min() > 0.8 * counts.max()


def test_activations_are_found_behind_layers():
    def behind(activation: str):
        graph = network(activation)
        return activation_behind(graph, graph.find("first"), graph.consumers())

    assert behind("linear") is None
    assert behind("swish") is swish
    leaky = behind("leaky")
    assert leaky is not None
    assert leaky(np.array([-10.0, 5.0])).tolist() == pytest.approx([-1.0, 5.0])


def test_activations_are_found_behind_a_transposition():
    net = Net()
    x = net.conv("first", net.input("images", (1, 8, 8, 4)), EYE, np.zeros(4, np.float32))
    y = net.activation("out", net.transpose("turned", x, (0, 3, 1, 2)), "swish")
    graph = net.outputs([net.transpose("back", y, (0, 2, 3, 1))])
    assert activation_behind(graph, x, graph.consumers()) is swish


def test_a_product_with_another_tensor_is_no_swish():
    net = Net()
    images = net.input("images", (1, 8, 8, 4))
    x = net.conv("first", images, EYE, np.zeros(4, np.float32))
    gate = net.activation("gate", x, "logistic")
    other = net.graph.add_tensor("other", net.shape(x))
    net.graph.add_operator(Op.MUL, [gate, images], [other], schema.MulOptionsT())
    graph = net.outputs([net.add("sum", other, x)])
    assert activation_behind(graph, x, graph.consumers()) is None


def test_an_empty_range_stays_empty():
    assert best_range(np.zeros(0, np.float32), 0, 0, swish) == (0, 0)
    assert best_range(np.zeros(10, np.float32), 0, 0, swish) == (0, 0)


def test_what_a_rectifier_cuts_off_gets_no_range():
    values = np.linspace(-10, 10, 10_001, dtype=np.float32)
    low, high = best_range(values, -10, 10, lambda x: np.maximum(x, 0))
    assert low > -1
    assert high == 10


def test_what_a_leaky_rectifier_shrinks_gets_less_range():
    values = np.random.default_rng(0).normal(0, 3, 100_000).astype(np.float32)
    low, high = best_range(values, float(values.min()), float(values.max()), lambda x: np.where(x < 0, 0.1 * x, x))
    assert low > 0.7 * values.min()
    assert high > 0.7 * values.max()
