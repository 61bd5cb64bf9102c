"""What a network calculates with, told from its weights and activations."""

from __future__ import annotations

import numpy as np
import pytest

from edgeannot.tflite.file import parse_tflite, read_tflite
from edgeannot_tools.graph.graph import Graph, Op, schema
from edgeannot_tools.graph.writer import Net
from edgeannot_tools.inspect.inspection import read_dtypes
from edgeannot_tools.quantize.graph_quantizer import Recipe, calibrate_and_quantize

RNG = np.random.default_rng(21)


def float_net() -> Graph:
    net = Net()
    x = net.input("x", (1, 8, 8, 3))
    for number, channels in enumerate((3, 8, 8)):
        weights = RNG.normal(0, 1, (8, channels, 3, 3)).astype(np.float32)
        x = net.conv(f"layer{number}", x, weights, np.zeros(8, np.float32), activation="leaky")
    return net.outputs([x])


def dtype_of(graph: Graph):
    return read_dtypes(parse_tflite(graph.to_bytes()))


def test_a_graph_without_layers_has_no_kind():
    net = Net()
    x = net.input("x", (1, 4))
    numbers = dtype_of(net.outputs([net.activation("y", x, "tanh")]))

    assert (numbers.kind, numbers.layers, str(numbers)) == ("none", {}, "no layer with weights")


def test_float_is_float():
    assert str(dtype_of(float_net())) == "float32"


def test_full_integer_with_a_scale_a_channel():
    samples = [[RNG.random((1, 8, 8, 3)).astype(np.float32)] for _ in range(3)]
    made = calibrate_and_quantize(float_net().to_bytes(), samples, Recipe())
    numbers = dtype_of(made.graph)

    assert (numbers.kind, numbers.per_channel, numbers.float_operators) == ("integer", 3, ())
    assert str(numbers) == "full integer, int8 activations, int8 weights (per channel)"


def stored_as(dtype: type, *, layers: int, expanded: bool = True) -> Graph:
    """The float net with the weights of its first layers stored smaller; expanded: by a DEQUANTIZE behind them."""
    graph = float_net()
    for layer in [op for op in graph.operators if graph.code(op) == Op.CONV_2D][:layers]:
        wide = layer.inputs[1]
        small = graph.add_constant(f"{graph.name(wide)}_small", graph.constant(wide).astype(dtype))
        if dtype is np.int8:
            graph.set_quantization(small, 0.1, 0)
        if not expanded:
            layer.inputs[1] = small
            continue
        layer.inputs[1] = graph.add_tensor(f"{graph.name(wide)}_wide", graph.shape(wide))
        graph.add_operator(Op.DEQUANTIZE, [small], [layer.inputs[1]], schema.DequantizeOptionsT(), position=0)
    return graph


@pytest.mark.parametrize(("dtype", "kind"), [(np.float16, "float16"), (np.int8, "weight-only")])
def test_weights_behind_dequantize_are_only_stored_smaller(dtype, kind):
    numbers = dtype_of(stored_as(dtype, layers=3))

    assert numbers.kind == kind
    assert numbers.layers == {kind: 3}


def test_int8_weights_that_float_layers_take_as_they_are_are_dynamic_range():
    numbers = dtype_of(stored_as(np.int8, layers=3, expanded=False))

    assert (numbers.kind, numbers.activations, numbers.weights) == ("dynamic-range", "float32", "int8")
    assert str(numbers).endswith("(dynamic range) (per tensor)")


def test_layers_of_another_kind_are_counted():
    numbers = dtype_of(stored_as(np.float16, layers=1))

    assert numbers.layers == {"float32": 2, "float16": 1}
    assert str(numbers) == "float32; of 3 layers with weights: 1 float16"


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("mobilenet_v2_1.0_224_quant", "full integer, uint8 activations, uint8 weights (per tensor)"),
        ("yolov5n_640_uint8", "full integer, int8 activations, int8 weights (per channel)"),
        ("ssd_mnv1_coco_quant_pp", "integer, uint8 activations, uint8 weights (per tensor), in float32: 1 TFLite_Detection_PostProcess"),
        ("yolov5n_640_fp16", "float16 weights that are expanded to float32, calculated in float32"),
        ("blazeface_front_f32", "float32"),
    ],
)
def test_real_files_are_told_apart(data_dir, file, text):
    assert str(read_dtypes(read_tflite(data_dir / "models" / f"{file}.tflite"))) == text


def test_weights_named_int8_in_a_float_network_are_not_integer_arithmetic(data_dir):
    assert read_dtypes(read_tflite(data_dir / "models" / "yolov8n_640_int8w_f32io.tflite")).kind == "dynamic-range"
