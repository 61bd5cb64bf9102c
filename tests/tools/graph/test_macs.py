"""Multiply-accumulates and parameters: counted by hand on small graphs, and against the figures of published networks."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from edgeannot.tflite.file import parse_tflite, read_tflite
from edgeannot_tools.graph.edits import multiply_accumulates
from edgeannot_tools.graph.graph import Op, schema
from edgeannot_tools.graph.macs import operator_costs, operator_macs, total_parameters
from edgeannot_tools.graph.writer import Net

RNG = np.random.default_rng(5)


def weights(*shape: int) -> np.ndarray:
    return RNG.normal(0, 1, shape).astype(np.float32)


def test_a_graph_without_layers_costs_nothing():
    net = Net()
    x = net.input("x", (1, 4, 4, 3))
    model = parse_tflite(net.outputs([net.reshape("flat", x, (1, 48))]).to_bytes())

    assert [(cost.macs, cost.parameters) for cost in operator_costs(model)] == [(0, 0)]
    assert total_parameters(model) == 0


@pytest.mark.parametrize(
    ("name", "inputs", "output", "macs"),
    [
        ("CONV_2D", [(1, 8, 8, 6), (10, 3, 5, 6), (10,)], (1, 4, 4, 10), 4 * 4 * 10 * 3 * 5 * 6),
        ("CONV_2D", [(1, 8, 8, 6), (10, 3, 3, 3), (10,)], (1, 8, 8, 10), 8 * 8 * 10 * 3 * 3 * 3),  # two groups
        ("DEPTHWISE_CONV_2D", [(1, 8, 8, 6), (1, 3, 3, 12), (12,)], (1, 8, 8, 12), 8 * 8 * 12 * 9),  # two outputs a channel
        ("FULLY_CONNECTED", [(1, 20), (7, 20), (7,)], (1, 7), 140),
        ("FULLY_CONNECTED", [(3, 20), (7, 20), ()], (3, 7), 420),
        ("TRANSPOSE_CONV", [(4,), (10, 2, 2, 6), (1, 4, 4, 6)], (1, 8, 8, 10), 4 * 4 * 6 * 2 * 2 * 10),
        ("CONV_3D", [(1, 4, 8, 8, 2), (3, 3, 3, 2, 5)], (1, 4, 8, 8, 5), 4 * 8 * 8 * 5 * 27 * 2),
        ("BATCH_MATMUL", [(2, 3, 4), (2, 4, 5)], (2, 3, 5), 2 * 3 * 5 * 4),
        ("ADD", [(1, 8), (1, 8)], (1, 8), 0),
    ],
)
def test_each_kind_of_layer_by_its_formula(name, inputs, output, macs):
    assert operator_macs(name, inputs, output) == macs


def test_a_transposed_left_matrix_is_as_deep_as_it_has_rows():
    assert operator_macs("BATCH_MATMUL", [(2, 4, 3), (2, 4, 5)], (2, 3, 5), transposed_left=True) == 2 * 3 * 5 * 4


def network() -> SimpleNamespace:
    """A convolution of two groups, a depthwise one, a dense layer and a product of two computed matrices, of which one is transposed."""
    net = Net()
    x = net.input("x", (1, 6, 6, 4))
    x = net.conv("grouped", x, weights(8, 2, 3, 3), weights(8), groups=2)
    x = net.conv("depth", x, weights(8, 1, 3, 3), weights(8), groups=8)
    y = net.fully_connected("dense", net.reshape("flat", net.mean_hw("mean", x), (1, 8)), weights(5, 8), weights(5))
    product = net.graph.add_tensor("product", (1, 8, 8))
    rows = net.reshape("rows", x, (1, 36, 8))
    options = schema.BatchMatMulOptionsT()
    options.adjX = True
    net.graph.add_operator(Op.BATCH_MATMUL, [rows, rows], [product], options)
    graph = net.outputs([y, product])
    macs = {"CONV_2D": 36 * 8 * 9 * 2, "DEPTHWISE_CONV_2D": 36 * 8 * 9, "FULLY_CONNECTED": 40, "BATCH_MATMUL": 8 * 8 * 36}
    return SimpleNamespace(graph=graph, macs=macs, parameters={"CONV_2D": 144 + 8, "DEPTHWISE_CONV_2D": 72 + 8, "FULLY_CONNECTED": 45})


def test_costs_are_found_in_a_file():
    made = network()
    model = parse_tflite(made.graph.to_bytes())
    costs = operator_costs(model)

    assert {cost.operator.name: cost.macs for cost in costs if cost.macs} == made.macs
    assert {cost.operator.name: cost.parameters for cost in costs if cost.parameters} == made.parameters
    assert all(cost.weight_bytes == 4 * cost.parameters for cost in costs)
    assert total_parameters(model) == sum(made.parameters.values())
    assert multiply_accumulates(made.graph) == sum(made.macs.values())


def test_weights_that_two_layers_share_count_once():
    net = Net()
    x = net.input("x", (1, 6, 6, 3))
    net.conv("first", x, weights(3, 3, 1, 1), weights(3))
    second = net.conv("second", x, weights(3, 3, 1, 1), weights(3))
    first, last = net.graph.operators
    last.inputs[1:] = first.inputs[1:]
    model = parse_tflite(net.outputs([second]).to_bytes())

    assert [cost.parameters for cost in operator_costs(model)] == [12, 12]
    assert total_parameters(model) == 12


def test_weights_are_found_behind_dequantize():
    net = Net()
    x = net.input("x", (1, 6, 6, 3))
    y = net.conv("layer", x, weights(4, 3, 1, 1), weights(4))
    layer = net.graph.operators[0]
    half = net.graph.add_constant("half", net.graph.constant(layer.inputs[1]).astype(np.float16))
    wide = net.graph.add_tensor("wide", net.graph.shape(half))
    net.graph.add_operator(Op.DEQUANTIZE, [half], [wide], schema.DequantizeOptionsT(), position=0)
    layer.inputs[1] = wide
    cost = operator_costs(parse_tflite(net.outputs([y]).to_bytes()))[1]

    assert (cost.parameters, cost.weight_bytes) == (12 + 4, 2 * 12 + 4 * 4)


@pytest.mark.parametrize(
    ("file", "millions_of_macs", "millions_of_parameters"),
    [
        # MobileNetV2 1.0 at 224 has 300 M and 3.4 M (Sandler et al. 2018, table 4), MobileNetV1 1.0 569 M with the last layer that
        # the embedding lacks and 4.2 M of which 1.0 M are in it (Howard et al. 2017, table 4); V1 0.25 at 128 has 14 M and 0.47 M.
        ("mobilenet_v2_1.0_224_quant.tflite", 300, 3.45),
        ("mobilenet_v1_1.0_224_embedding_quant.tflite", 568, 3.2),
        ("mobilenet_v1_0.25_128_quant.tflite", 13.7, 0.47),
        # https://docs.ultralytics.com/models/yolov8/: 8.7 G FLOPs (two a MAC) at 640, 3.2 M parameters; yolov5n: 4.5 G, 1.9 M.
        ("yolov8n_640_int8w_f32io.tflite", 4370, 3.15),
        ("yolov5n_640_fp16.tflite", 2250, 1.87),
    ],
)
def test_published_figures_are_met(data_dir, file, millions_of_macs, millions_of_parameters):
    model = read_tflite(data_dir / "models" / file)

    assert sum(cost.macs for cost in operator_costs(model)) / 1e6 == pytest.approx(millions_of_macs, rel=0.02)
    assert total_parameters(model) / 1e6 == pytest.approx(millions_of_parameters, rel=0.02)


def test_the_bundled_yolo_has_the_macs_of_its_cfg(models_dir):
    """Darknet prints 5.571 BFLOPs (two a MAC) for yolov3-tiny at 416, of which 5.565 are convolutions."""
    assert sum(cost.macs for cost in operator_costs(read_tflite(models_dir / "yolov3-tiny.tflite"))) == 2_782_480_896
