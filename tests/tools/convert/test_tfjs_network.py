"""TensorFlow.js graphs become TFLite networks that give the same numbers, with as few operators as the graph allows.

Expected numbers are calculated here in numpy, in TensorFlow's own layout and padding.
"""

from __future__ import annotations

import json
from collections import Counter
from contextlib import suppress
from random import Random

import cv2
import numpy as np
import pytest

from edgeannot.base.errors import EdgeannotError, InputError, ModelError
from edgeannot.vision.engine import Engine
from edgeannot_tools.convert.tfjs.files import read_model
from edgeannot_tools.convert.tfjs.network import build
from edgeannot_tools.graph.edits import at_size
from edgeannot_tools.graph.graph import Graph
from tests.tools.convert.tfjs_maker import GraphMaker, numbers

RNG = np.random.default_rng(5)
IMAGE = RNG.normal(0, 1, (1, 8, 8, 3)).astype(np.float32)
KERNEL = RNG.normal(0, 0.5, (3, 3, 3, 4)).astype(np.float32)
POINT = RNG.normal(0, 0.5, (1, 1, 4, 4)).astype(np.float32)
VECTOR = RNG.normal(0, 1, 4).astype(np.float32)
TO_LAST, TO_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]


def start(shape=(1, 8, 8, 3)):
    maker = GraphMaker()
    return maker, maker.picture(*shape)


def built(maker, folder, *outputs, size_wh=None):
    return build(read_model(maker.write(folder)), outputs, size_wh)


def kinds(graph):
    return dict(Counter(graph.code_name(operator) for operator in graph.operators))


def run(graph: Graph, image=IMAGE):
    return [output.real() for output in Engine(graph.to_bytes()).run(image)]


def conv(x, weights, stride=1, pads=None, depthwise=False):
    """A convolution with TensorFlow's SAME, or zeros around and VALID."""
    kernel = weights.shape[0]
    if pads is None:
        out = -(-x.shape[1] // stride)
        missing = max((out - 1) * stride + kernel - x.shape[1], 0)
        pads = (missing // 2, missing - missing // 2)
    x = np.pad(x, ((0, 0), pads, pads, (0, 0))).astype(np.float64)
    out = (x.shape[1] - kernel) // stride + 1
    y = 0
    for row in range(kernel):
        for column in range(kernel):
            part = x[:, row : row + (out - 1) * stride + 1 : stride, column : column + (out - 1) * stride + 1 : stride]
            y = y + (part[..., None] * weights[row, column]).reshape(*part.shape[:3], -1) if depthwise else y + part @ weights[row, column]
    return y


def close(found, wanted, atol=2e-5):
    np.testing.assert_allclose(found, wanted, atol=atol)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_a_graph_whose_output_is_the_picture_is_refused(tmp_path):
    maker, x = start()
    maker.node("Identity", "same", x)

    with pytest.raises(InputError, match="no output was found that depends on a picture"):
        built(maker, tmp_path)


@pytest.mark.runtime
def test_batch_normalisation_and_activation_become_part_of_the_convolution(tmp_path):
    maker, x = start()
    maker.conv("conv", x, KERNEL, stride=2)
    scale, offset, mean, variance = (np.abs(VECTOR) + 0.5, VECTOR, VECTOR[::-1], np.abs(VECTOR) + 1)
    for name, values in zip(("scale", "offset", "mean", "variance"), (scale, offset, mean, variance), strict=True):
        maker.constant(name, values)
    maker.node("FusedBatchNormV3", "norm", "conv", "scale", "offset", "mean", "variance", epsilon=0.001, is_training=False)
    maker.node("Relu6", "out", "norm")
    graph = built(maker, tmp_path).graph

    assert kinds(graph) == {"CONV_2D": 1}
    assert graph.name(graph.outputs[0]) == "out"
    wanted = (conv(IMAGE, KERNEL, 2) - mean) / np.sqrt(variance + 0.001) * scale + offset
    close(run(graph)[0], wanted.clip(0, 6))


@pytest.mark.runtime
def test_a_depthwise_convolution_with_a_product_and_a_sum_is_one_layer(tmp_path):
    maker, x = start()
    weights = RNG.normal(0, 1, (3, 3, 3, 2)).astype(np.float32)
    maker.conv("conv", x, weights, op="DepthwiseConv2dNative")
    maker.constant("factor", RNG.normal(1, 1, 6))
    maker.constant("shift", RNG.normal(0, 1, 6))
    maker.node("Mul", "times", "factor", "conv")
    maker.node("Add", "plus", "times", "shift")
    graph = built(maker, tmp_path).graph

    assert kinds(graph) == {"DEPTHWISE_CONV_2D": 1}
    close(run(graph)[0], conv(IMAGE, weights, depthwise=True) * maker.weights["factor"] + maker.weights["shift"])


@pytest.mark.runtime
@pytest.mark.parametrize("op", ["_FusedConv2D", "FusedConv2D"])
@pytest.mark.parametrize(("activation", "function"), [("Relu", lambda x: x.clip(0)), ("LeakyRelu", lambda x: np.where(x > 0, x, x * 0.25))])
def test_a_fused_convolution_has_its_bias_and_activation(tmp_path, op, activation, function):
    maker, x = start()
    kernel, bias = maker.constant("kernel", KERNEL), maker.constant("bias", VECTOR)
    attributes = {"padding": "SAME", "strides": (1, 1, 1, 1), "fused_ops": ["BiasAdd", activation], "leakyrelu_alpha": 0.25}
    maker.node(op, "out", x, kernel, bias, **attributes)
    graph = built(maker, tmp_path).graph

    assert len([name for name in map(graph.name, range(len(graph.tensors))) if name == "out"]) == 1
    close(run(graph)[0], function(conv(IMAGE, KERNEL) + VECTOR))


@pytest.mark.runtime
def test_a_constant_behind_a_residual_sum_becomes_a_bias(tmp_path):
    """As TensorFlow's optimizer leaves MobileNetV2's blocks: (product + residual) + shift."""
    maker, x = start()
    maker.conv("first", x, KERNEL)
    maker.conv("second", "first", POINT)
    maker.node("AddN", "leaf", "second", "first")
    maker.node("Add", "sum", "leaf", maker.constant("shift", VECTOR))
    maker.node("Relu", "out", "sum")
    graph = built(maker, tmp_path).graph

    assert kinds(graph) == {"CONV_2D": 2, "ADD": 1}
    first = conv(IMAGE, KERNEL)
    close(run(graph)[0], (conv(first, POINT) + first + VECTOR).clip(0))


@pytest.mark.runtime
def test_a_convolution_that_two_nodes_read_stays_as_it_is(tmp_path):
    maker, x = start()
    maker.conv("conv", x, KERNEL)
    maker.node("Add", "plus", "conv", maker.constant("shift", VECTOR))
    maker.node("Mul", "out", "plus", "conv")
    graph = built(maker, tmp_path).graph

    found = conv(IMAGE, KERNEL)
    close(run(graph)[0], (found + VECTOR) * found)


@pytest.mark.runtime
def test_swish_softmax_mean_and_a_dense_layer(tmp_path):
    maker, x = start()
    maker.conv("conv", x, KERNEL)
    maker.node("Sigmoid", "gate", "conv")
    maker.node("Mul", "swish", "conv", "gate")
    maker.node("Mean", "mean", "swish", maker.integers("axes", [1, 2]), keep_dims=False)
    weights = maker.constant("matrix", RNG.normal(0, 1, (4, 5)))
    maker.node("MatMul", "product", "mean", weights, transpose_a=False, transpose_b=False)
    maker.node("BiasAdd", "logits", "product", maker.constant("bias", RNG.normal(0, 1, 5)))
    maker.node("Softmax", "scores", "logits")
    graph = built(maker, tmp_path).graph

    assert kinds(graph) == {"CONV_2D": 1, "LOGISTIC": 1, "MUL": 1, "MEAN": 1, "FULLY_CONNECTED": 1, "SOFTMAX": 1}
    y = conv(IMAGE, KERNEL)
    logits = (y * sigmoid(y)).mean((1, 2)) @ maker.weights["matrix"] + maker.weights["bias"]
    close(run(graph)[0], np.exp(logits) / np.exp(logits).sum())


def channels_first(maker, name, x, weights, pads=1):
    """A convolution as exporters from ONNX write it: zeros around, axes to the end, the layer, axes back."""
    amounts = maker.integers(f"{name}/amounts", [[0, 0], [0, 0], [pads, pads], [pads, pads]])
    maker.node("Pad", f"{name}/pad", x, amounts)
    maker.node("Transpose", f"{name}/last", f"{name}/pad", maker.integers(f"{name}/to_last", TO_LAST))
    maker.conv(f"{name}/conv", f"{name}/last", weights, padding="VALID")
    return maker.node("Transpose", name, f"{name}/conv", maker.integers(f"{name}/to_first", TO_FIRST))


@pytest.mark.runtime
def test_moving_axes_around_a_convolution_costs_no_operator(tmp_path):
    maker, x = start((1, 3, 8, 8))
    channels_first(maker, "first", x, KERNEL)
    maker.node("AddV2", "biased", "first", maker.constant("bias", VECTOR.reshape(4, 1, 1)))
    maker.node("LeakyRelu", "leaky", "biased", alpha=0.1)
    channels_first(maker, "second", "leaky", POINT, pads=0)
    maker.node("ConcatV2", "joined", "leaky", "second", maker.integers("axis", 1))
    graph = built(maker, tmp_path).graph

    assert kinds(graph) == {"CONV_2D": 2, "LEAKY_RELU": 1, "CONCATENATION": 1}
    y = conv(IMAGE, KERNEL) + VECTOR
    y = np.where(y > 0, y, y * 0.1)
    close(run(graph)[0], np.concatenate([y, conv(y, POINT)], 3))


@pytest.mark.runtime
def test_a_table_of_cells_made_with_channels_first_needs_no_transpose(tmp_path):
    maker, x = start((1, 3, 8, 8))
    channels_first(maker, "map", x, KERNEL)
    maker.node("Reshape", "cells", "map", maker.integers("shape", [1, 4, 64]))
    maker.node("Transpose", "rows", "cells", maker.integers("order", [0, 2, 1]))
    graph = built(maker, tmp_path).graph

    assert kinds(graph) == {"CONV_2D": 1, "RESHAPE": 1}
    close(run(graph)[0], conv(IMAGE, KERNEL).reshape(1, 64, 4))


@pytest.mark.runtime
def test_another_reshape_of_channels_first_moves_the_numbers(tmp_path):
    maker, x = start((1, 3, 8, 8))
    channels_first(maker, "map", x, KERNEL)
    maker.node("Reshape", "pairs", "map", maker.integers("shape", [1, 2, 2, -1]))
    maker.node("Reshape", "out", "pairs", maker.integers("flat", [-1, 128]))
    graph = built(maker, tmp_path).graph

    close(run(graph)[0], conv(IMAGE, KERNEL).transpose(TO_FIRST).reshape(2, 128))


@pytest.mark.runtime
def test_a_convolution_that_is_split_by_channels_becomes_one_for_each_part(tmp_path):
    maker, x = start((1, 3, 8, 8))
    channels_first(maker, "map", x, KERNEL)
    maker.node("SplitV", "parts", "map", maker.integers("sizes", [3, 1]), maker.integers("axis", 1), num_split=2)
    maker.node("Sigmoid", "scores", "parts")
    graph = built(maker, tmp_path, "scores", "parts:1").graph

    assert kinds(graph) == {"CONV_2D": 2, "LOGISTIC": 1}
    assert [graph.name(t) for t in graph.outputs] == ["scores", "parts:1"]
    y = conv(IMAGE, KERNEL)
    scores, boxes = run(graph)
    close(scores, sigmoid(y[..., :3]))
    close(boxes, y[..., 3:])


@pytest.mark.runtime
@pytest.mark.parametrize("axis", [1, 3])
def test_parts_of_a_tensor_are_slices(tmp_path, axis):
    maker, x = start()
    maker.conv("conv", x, KERNEL)
    maker.node("Relu", "relu", "conv")
    maker.node("Split", "parts", maker.integers("axis", axis), "relu", num_split=2)
    maker.node("ConcatV2", "turned", "parts:1", "parts", "axis")
    graph = built(maker, tmp_path).graph

    first, second = np.split(conv(IMAGE, KERNEL).clip(0), 2, axis)
    close(run(graph)[0], np.concatenate([second, first], axis))


@pytest.mark.runtime
@pytest.mark.parametrize("lowest", [-10000.0, -3.4e38, -np.inf])
def test_padding_before_a_largest_number_keeps_its_value(tmp_path, lowest):
    maker, x = start()
    maker.conv("conv", x, KERNEL)
    amounts, value = maker.integers("amounts", [[0, 0], [1, 1], [1, 1], [0, 0]]), maker.constant("value", lowest)
    maker.node("PadV2", "pad", "conv", amounts, value)
    maker.node("MaxPool", "pool", "pad", ksize=(1, 3, 3, 1), strides=(1, 2, 2, 1), padding="VALID")
    graph = built(maker, tmp_path).graph

    assert all(np.isfinite(graph.constant(t)).all() for t in range(len(graph.tensors)) if graph.is_constant(t))
    y = np.pad(conv(IMAGE, KERNEL), ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-1e9)
    windows = np.lib.stride_tricks.sliding_window_view(y, (3, 3), (1, 2))[:, ::2, ::2]
    close(run(graph)[0], windows.max((-2, -1)))


@pytest.mark.runtime
def test_zeros_before_a_largest_number_count(tmp_path):
    maker, x = start()
    amounts = maker.integers("amounts", [[0, 0], [1, 0], [1, 0], [0, 0]])
    maker.node("Neg", "below", x)
    maker.node("Relu", "positive", "below")
    maker.node("Neg", "negative", "positive")
    maker.node("Pad", "pad", "negative", amounts)
    maker.node("MaxPool", "pool", "pad", ksize=(1, 2, 2, 1), strides=(1, 1, 1, 1), padding="VALID")

    assert run(built(maker, tmp_path).graph)[0][0, 0, 0].tolist() == [0, 0, 0]


@pytest.mark.runtime
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_the_mean_of_windows(tmp_path, padding):
    maker, x = start()
    maker.node("AvgPool", "pool", x, ksize=(1, 2, 2, 1), strides=(1, 2, 2, 1), padding=padding)

    close(run(built(maker, tmp_path).graph)[0], IMAGE.reshape(1, 4, 2, 4, 2, 3).mean((2, 4)))


def resized(tmp_path, op, **attributes):
    maker, x = start()
    maker.conv("conv", x, KERNEL)
    maker.node(op, "large", "conv", maker.integers("size", [16, 16]), **attributes)
    return built(maker, tmp_path).graph


@pytest.mark.runtime
def test_a_picture_is_made_larger_between_the_centres_of_its_pixels(tmp_path):
    """OpenCV's linear interpolation is the rule with half pixels."""
    graph = resized(tmp_path, "ResizeBilinear", half_pixel_centers=True, align_corners=False)

    close(run(graph)[0][0], cv2.resize(conv(IMAGE, KERNEL)[0], (16, 16), interpolation=cv2.INTER_LINEAR))


@pytest.mark.runtime
@pytest.mark.parametrize(
    ("attributes", "places"),
    [
        ({}, np.arange(16) / 2),
        ({"align_corners": True}, np.linspace(0, 7, 16)),
        ({"half_pixel_centers": True}, (np.arange(16) + 0.5) / 2 - 0.5),
    ],
)
def test_each_rule_for_the_places_of_pixels(tmp_path, attributes, places):
    y = conv(IMAGE, KERNEL)[0]
    places = places.clip(0, 7)
    low, share = np.floor(places).astype(int), places - np.floor(places)
    high = (low + 1).clip(max=7)
    y = y[low] * (1 - share)[:, None, None] + y[high] * share[:, None, None]
    y = y[:, low] * (1 - share)[None, :, None] + y[:, high] * share[None, :, None]

    close(run(resized(tmp_path, "ResizeBilinear", **attributes))[0][0], y)


@pytest.mark.runtime
def test_the_nearest_pixel_is_repeated(tmp_path):
    close(run(resized(tmp_path, "ResizeNearestNeighbor"))[0], conv(IMAGE, KERNEL).repeat(2, 1).repeat(2, 2))


@pytest.mark.runtime
def test_another_input_size_keeps_the_rule_with_half_pixels(tmp_path):
    graph = resized(tmp_path, "ResizeBilinear", half_pixel_centers=True)
    at_size(graph, 12)
    image = RNG.normal(0, 1, (1, 12, 12, 3)).astype(np.float32)

    close(run(graph, image)[0][0], cv2.resize(conv(image, KERNEL)[0], (24, 24), interpolation=cv2.INTER_LINEAR))


@pytest.mark.runtime
def test_what_depends_on_shapes_only_is_worked_out(tmp_path):
    """As TensorFlow's detection API writes its reshapes."""
    maker, x = start()
    maker.conv("conv", x, KERNEL)
    maker.node("Shape", "shape", "conv")
    for name, values in (("zero", [0]), ("one", [1])):
        maker.integers(name, values)
    maker.node("StridedSlice", "batch", "shape", "zero", "one", "one", shrink_axis_mask=1)
    maker.node("Pack", "sizes", "batch", maker.integers("rest", -1), maker.integers("four", 4), axis=0, N=3)
    maker.node("Reshape", "rows", "conv", "sizes")
    maker.node("ExpandDims", "boxes", "rows", maker.integers("axis", 2))
    maker.node("Squeeze", "out", "boxes", squeeze_dims=numbers(2))
    graph = built(maker, tmp_path).graph

    assert graph.shape(graph.outputs[0]) == (1, 64, 4)
    close(run(graph)[0], conv(IMAGE, KERNEL).reshape(1, 64, 4))


@pytest.mark.runtime
def test_arithmetic_of_two_parts(tmp_path):
    """As a decoder of boxes does it: unpacked, exponents, and packed again."""
    maker, x = start((1, 8, 8, 3))
    maker.conv("conv", x, KERNEL)
    maker.node("Reshape", "rows", "conv", maker.integers("shape", [64, 4]))
    maker.node("Unpack", "parts", "rows", axis=1, num=4)
    maker.node("Exp", "exp", "parts:2")
    maker.node("Mul", "large", "exp", maker.constant("widths", np.arange(64) / 64))
    maker.node("Sub", "less", maker.constant("half", 0.5), "parts:1")
    maker.node("RealDiv", "share", "parts", maker.constant("ten", 10.0))
    maker.node("Maximum", "most", "share", "less")
    maker.node("Pack", "out", "most", "large", axis=1, N=2)
    a, b, c, _ = conv(IMAGE, KERNEL).reshape(64, 4).T

    close(run(built(maker, tmp_path).graph)[0], np.stack([np.maximum(a / 10, 0.5 - b), np.exp(c) * np.arange(64) / 64], 1))


# The picture


def test_the_scaling_of_the_picture_is_said_and_not_calculated(tmp_path):
    maker, x = start()
    maker.node("Mul", "times", maker.constant("factor", 2 / 255), x)
    maker.node("Sub", "minus", "times", maker.constant("one", 1.0))
    maker.conv("conv", "minus", KERNEL)
    found = built(maker, tmp_path)

    assert kinds(found.graph) == {"CONV_2D": 1}
    assert found.input_range == ((127.5,), (127.5,))


def test_a_scaling_for_each_channel_is_said(tmp_path):
    maker, x = start()
    maker.node("Sub", "minus", x, maker.constant("mean", [1.0, 2.0, 3.0]))
    maker.node("RealDiv", "over", "minus", maker.constant("std", [2.0, 4.0, 8.0]))
    maker.conv("conv", "over", KERNEL)

    assert built(maker, tmp_path).input_range == ((1, 2, 3), (2, 4, 8))


def test_bytes_are_said_and_plain_floats_are_not(tmp_path):
    maker = GraphMaker()
    maker.node("Cast", "floats", maker.picture(-1, 8, 8, 3, dtype="DT_UINT8"), SrcT={"type": "DT_UINT8"}, DstT={"type": "DT_FLOAT"})
    maker.conv("conv", "floats", KERNEL)
    plain, x = start()
    plain.conv("conv", x, KERNEL)

    assert built(maker, tmp_path / "bytes").input_range == ((0,), (1,))
    assert built(plain, tmp_path / "plain").input_range is None


def test_the_network_begins_behind_a_loop_that_resizes_a_batch(tmp_path):
    """As TensorFlow's detection API resizes pictures one by one, in a loop that TFLite has not."""
    maker, x = start((-1, -1, -1, 3))
    maker.node("Merge", "merge", x, "next")
    maker.node("NextIteration", "next", "merge")
    sizes = {"shape": {"dim": [{"size": "8"}, {"size": "8"}, {"size": "3"}]}}
    maker.node("TensorArrayGatherV3", "pictures", "merge", element_shape=sizes)
    maker.conv("conv", "pictures", KERNEL)
    graph = built(maker, tmp_path).graph

    assert graph.shape(graph.inputs[0]) == (1, 8, 8, 3)


def test_an_open_size_is_asked_for(tmp_path):
    maker, x = start((-1, -1, -1, 3))
    maker.conv("conv", x, KERNEL)
    with pytest.raises(InputError, match="choose one with --size"):
        built(maker, tmp_path)

    graph = built(maker, tmp_path, size_wh=(16, 8)).graph
    assert graph.shape(graph.inputs[0]) == (1, 8, 16, 3)


# What cannot be


def test_operators_that_tflite_has_not_are_named_with_a_way_out(tmp_path):
    maker, x = start()
    maker.conv("conv", x, KERNEL)
    maker.node("NonMaxSuppressionV5", "nms", "conv")
    maker.node("Where", "where", "nms")

    with pytest.raises(ModelError, match=r"Where \('where'\).*--outputs"):
        built(maker, tmp_path)
    assert kinds(built(maker, tmp_path, "conv").graph) == {"CONV_2D": 1}


def test_numbers_that_are_joined_along_an_axis_that_the_picture_gives_are_refused(tmp_path):
    maker, x = start()
    maker.node("ConcatV2", "joined", maker.constant("a", VECTOR), maker.constant("b", VECTOR), x)
    with pytest.raises(EdgeannotError, match="depends on the picture stands where a constant was expected"):
        built(maker, tmp_path)


def test_a_loop_is_refused(tmp_path):
    maker, x = start()
    maker.node("Add", "a", x, "b")
    maker.node("Relu", "b", "a")
    with pytest.raises(ModelError, match="part of a loop"):
        built(maker, tmp_path, "b")


def test_an_output_that_is_not_there_is_answered_with_names_that_are_near(tmp_path):
    maker, x = start()
    maker.conv("net/conv", x, KERNEL)
    with pytest.raises(InputError, match="has no node 'conv'; near are: 'net/conv/weights', 'net/conv'"):
        built(maker, tmp_path, "conv")
    with pytest.raises(InputError, match="no output 'net/conv:1'"):
        built(maker, tmp_path, "net/conv:1")


@pytest.mark.parametrize(
    "change",
    [
        lambda maker: maker.nodes[-1].update(input=["conv"]),
        lambda maker: maker.nodes[-1].update(input=["conv", "nothing"]),
        lambda maker: maker.nodes[-1].update(op="MatMul"),
        lambda maker: maker.nodes[-1].update(op="Relu7"),
        lambda maker: maker.weights.update({"size": np.array([1 << 30, 1 << 30], np.int32)}),
        lambda maker: maker.weights.update({"size": np.array([-4, 0], np.int32)}),
        lambda maker: maker.weights.update({"size": np.array([4], np.int32)}),
        lambda maker: maker.nodes[-1]["attr"].update(half_pixel_centers={"b": True}, align_corners={"b": True}),
        lambda maker: maker.nodes[2]["attr"].update(strides=numbers(1, 2, 3, 1)),
        lambda maker: maker.nodes[2]["attr"].update(strides=numbers()),
        lambda maker: maker.nodes[2]["attr"].update(padding={"s": "??"}),
        lambda maker: maker.nodes[2]["attr"].update(strides={"list": {"i": ["9" * 5000] * 4}}),
        lambda maker: maker.nodes[0]["attr"].update(shape={"shape": {"unknownRank": True}}),
        lambda maker: maker.nodes[0]["attr"].update(shape={"shape": {"dim": [{"size": "2"}] * 4}}),
        lambda maker: maker.nodes[0]["attr"].update(shape={"shape": {"dim": [{"size": str(1 << 40)}] * 3 + [{"size": "3"}]}}),
        lambda maker: maker.weights.update({"conv/weights": KERNEL[:, :, :2]}),
        lambda maker: maker.weights.update({"conv/weights": VECTOR}),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(tmp_path, change):
    maker, x = start()
    maker.conv("conv", x, KERNEL)
    maker.node("ResizeBilinear", "large", "conv", maker.integers("size", [16, 16]))
    change(maker)
    with pytest.raises(EdgeannotError) as told:
        built(maker, tmp_path)

    assert str(told.value).isprintable()
    assert len(str(told.value)) < 600


def test_spoiled_graphs_end_in_a_network_or_in_one_sentence(tmp_path):
    """Words of the JSON change places; whatever comes of it, nothing but our own errors is raised."""
    maker, x = start((1, 3, 8, 8))
    channels_first(maker, "map", x, KERNEL)
    maker.node("SplitV", "parts", "map", maker.integers("sizes", [3, 1]), maker.integers("axis", 1), num_split=2)
    maker.node("ConcatV2", "joined", "parts:1", "parts", "axis")
    maker.node("Reshape", "rows", "joined", maker.integers("shape", [1, 4, 64]))
    path = maker.write(tmp_path)
    text = json.loads(path.read_text())
    random = Random(7)
    for _ in range(300):
        table = json.loads(json.dumps(text))
        node = random.choice(table["modelTopology"]["node"])
        other = random.choice(table["modelTopology"]["node"])
        field = random.choice(("op", "input", "attr"))
        node[field] = random.choice((other.get(field, []), [], {}, "", None, ["map", "map", "axis"]))
        path.write_text(json.dumps(table))
        with suppress(EdgeannotError):
            build(read_model(path)).graph.to_bytes()
