"""Quantizing: what int8 would spoil is noticed, kept in float or refused by name; the bytes do not depend on the runtime."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from edgeannot.base.errors import InputError
from edgeannot_tools.graph.edits import retarget_outputs
from edgeannot_tools.graph.graph import Graph, Op, schema
from edgeannot_tools.graph.interpreter import open_interpreter
from edgeannot_tools.graph.writer import Net
from edgeannot_tools.quantize.calibrate import calibrate, merged
from edgeannot_tools.quantize.graph_quantizer import (
    QuantizedGraph,
    Recipe,
    calibrate_and_quantize,
    prepare_graph,
    quantize_graph,
    quantize_graph_weights,
)
from edgeannot_tools.quantize.scales import scale_for
from tests.patience import DEADLINE_S

RNG = np.random.default_rng(11)
IMAGES = [RNG.random((1, 16, 16, 3)).astype(np.float32) for _ in range(6)]


def conv_weights(out: int, channels: int, kernel: int = 3) -> tuple[np.ndarray, np.ndarray]:
    return RNG.normal(0, 0.3, (out, channels, kernel, kernel)).astype(np.float32), RNG.normal(0, 0.2, out).astype(np.float32)


def backbone(net: Net) -> int:
    x = net.input("images", (1, 16, 16, 3))
    x = net.conv("a", x, *conv_weights(8, 3), activation="leaky")
    y = net.conv("b", net.max_pool("pool", x, 2, 2), *conv_weights(8, 8), activation="swish")
    return net.concat("joined", [net.resize_nearest("large", y, 2), x])


def grid_network() -> Graph:
    net = Net()
    return net.outputs([net.conv("head", backbone(net), *conv_weights(14, 16, 1))])


def decoded_network() -> Graph:
    """Boxes in pixels and scores in one output, as exporters of YOLO write them."""
    net = Net()
    features = backbone(net)
    boxes = net.reshape("boxes", net.conv("box", features, *conv_weights(4, 16, 1)), (1, 256, 4))
    pixels = net.mul("pixels", boxes, net.constant("stride", np.array(100.0), np.float32))
    scores = net.reshape("scores", net.conv("class", features, *conv_weights(3, 16, 1)), (1, 256, 3))
    return net.outputs([net.concat("rows", [pixels, net.activation("scores", scores, "logistic")], axis=2)])


def made(graph: Graph, recipe: Recipe, runtime=None) -> QuantizedGraph:
    prepared = prepare_graph(graph)
    return quantize_graph(prepared, calibrate(prepared, ([image] for image in IMAGES), runtime), recipe)


def run(graph: Graph, image: np.ndarray, runtime=None) -> list[np.ndarray]:
    """Real values in and out."""
    interpreter = open_interpreter(graph.to_bytes(), runtime)
    detail = interpreter.get_input_details()[0]
    if detail["dtype"] != np.float32:
        scale, zero_point = detail["quantization"]
        image = np.round(image / scale + zero_point).astype(detail["dtype"])
    interpreter.set_tensor(detail["index"], image)
    interpreter.invoke()
    values = []
    for detail in interpreter.get_output_details():
        found = interpreter.get_tensor(detail["index"])
        scale, zero_point = detail["quantization"]
        values.append(found if found.dtype == np.float32 else (found.astype(np.float32) - zero_point) * np.float32(scale))
    return values


def noise(graph: Graph, reference: Graph) -> float:
    """The largest error as a share of the range."""
    found, wanted = run(graph, IMAGES[0])[0], run(reference, IMAGES[0])[0]
    return float(np.abs(found - wanted).max() / np.ptp(wanted))


def test_nothing_to_calibrate_with_is_an_error():
    with pytest.raises(InputError, match="no sample was given"):
        calibrate_and_quantize(grid_network().to_bytes(), [], Recipe())
    with pytest.raises(InputError, match="no sample was given"):
        merged([])


@pytest.mark.runtime
@pytest.mark.parametrize("input_type", ["uint8", "int8", "float32"])
@pytest.mark.parametrize("output_type", ["auto", "int8", "float32"])
def test_a_grid_network_means_the_same_with_every_kind_of_input_and_output(input_type, output_type):
    graph = grid_network()
    result = made(graph, Recipe(input_type=input_type, output_type=output_type, input_range=(0, 1)))
    assert result.float_operators == ()
    assert noise(result.graph, graph) < 0.05
    assert result.graph.dtype(result.graph.inputs[0]) == input_type
    assert result.graph.dtype(result.graph.outputs[0]) == ("float32" if output_type == "float32" else "int8")
    assert result.graph.name(result.graph.inputs[0]) == "images"
    assert result.graph.name(result.graph.outputs[0]) == "head"


def test_camera_bytes_go_in_as_they_are():
    result = made(grid_network(), Recipe(input_range=(0, 1)))
    scheme = result.graph.quantization(result.graph.inputs[0])
    assert scheme is not None
    assert scheme.scale[0] == np.float32(1 / 255)
    assert scheme.zero_point[0] == 0


def test_the_given_graph_is_not_changed():
    prepared = prepare_graph(grid_network())
    before = prepared.to_bytes()
    quantize_graph(prepared, calibrate(prepared, ([image] for image in IMAGES)), Recipe())
    assert prepared.to_bytes() == before


@pytest.mark.older
def test_both_runtimes_calibrate_to_the_same_bytes():
    pytest.importorskip("tflite_runtime")
    pytest.importorskip("ai_edge_litert.interpreter")
    graph = decoded_network()
    first, second = (made(graph, Recipe(), runtime).graph.to_bytes() for runtime in ("litert", "tflite-runtime"))
    assert first == second


@pytest.mark.runtime
def test_boxes_and_scores_in_one_output_stay_apart():
    """One int8 scale for both would make every score 0."""
    graph = decoded_network()
    result = made(graph, Recipe())
    assert any("unlike ranges" in note for note in result.notes)
    assert all("rows" not in place or "CONCATENATION" in place for place in result.float_operators)
    wanted, found = run(graph, IMAGES[0])[0], run(result.graph, IMAGES[0])[0]
    assert np.abs(found[..., 4:] - wanted[..., 4:]).max() < 0.05
    assert found.dtype == np.float32


def test_boxes_and_scores_in_one_int8_output_are_refused_with_the_place():
    with pytest.raises(InputError, match=r"CONCATENATION, operator .* which gives 'rows' joins values of unlike ranges"):
        made(decoded_network(), Recipe(output_type="int8"))


def with_division() -> Graph:
    """x / (|x| + 1) amid the network."""
    net = Net()
    x = net.conv("a", net.input("images", (1, 16, 16, 3)), *conv_weights(8, 3))
    size = net.graph.add_tensor("size", net.shape(x))
    net.graph.add_operator(Op.ABS, [x], [size], schema.AbsOptionsT())
    below = net.add("below", size, net.constant("one", np.array(1.0), np.float32))
    soft = net.graph.add_tensor("soft", net.shape(x))
    net.graph.add_operator(Op.DIV, [x, below], [soft], schema.DivOptionsT())
    return net.outputs([net.conv("head", soft, *conv_weights(4, 8))])


def test_an_operator_without_int8_kernel_is_named_with_its_place():
    with pytest.raises(InputError, match="no int8 kernel for DIV, operator 3 of 5, which gives 'soft'"):
        made(with_division(), Recipe())


@pytest.mark.runtime
def test_an_operator_without_int8_kernel_may_stay_in_float():
    graph = with_division()
    result = made(graph, Recipe(allow_float=True))
    assert [place.split(",")[0] for place in result.float_operators] == ["DIV"]
    assert noise(result.graph, graph) < 0.05


@pytest.mark.runtime
def test_a_division_by_a_constant_becomes_a_product():
    net = Net()
    x = net.input("images", (1, 16, 16, 3))
    y = net.graph.add_tensor("scaled", net.shape(x))
    net.graph.add_operator(Op.DIV, [x, net.constant("by", np.array([2.0, 4.0, 8.0]), np.float32)], [y], schema.DivOptionsT())
    graph = net.outputs([net.conv("head", y, *conv_weights(4, 3))])
    result = made(graph, Recipe())
    assert result.float_operators == ()
    assert noise(result.graph, graph) < 0.03


@pytest.mark.runtime
@pytest.mark.parametrize(("slopes", "kind"), [([0.25], "LEAKY_RELU"), ([0.25] * 8, "LEAKY_RELU"), ([0.25] * 7 + [0.5], "PRELU")])
def test_a_prelu_with_one_slope_becomes_a_leaky_relu(slopes, kind):
    net = Net()
    x = net.conv("a", net.input("images", (1, 16, 16, 3)), *conv_weights(8, 3))
    y = net.graph.add_tensor("y", net.shape(x))
    net.graph.add_operator(Op.PRELU, [x, net.constant("slopes", np.array(slopes).reshape(1, 1, -1), np.float32)], [y])
    graph = net.outputs([y])

    prepared = prepare_graph(graph)

    assert [prepared.code_name(operator) for operator in prepared.operators] == ["CONV_2D", kind]
    if len(slopes) == 8:  # fewer slopes than channels are more than one runtime's float kernel can do
        assert noise(prepared, graph) < 1e-6
    assert noise(made(graph, Recipe(output_type="float32")).graph, prepared) < 0.03


def test_a_channel_without_weights_keeps_its_bias():
    """Trained MobileNets have many; a scale made from the weights alone would let the bias overflow."""
    weights, bias = conv_weights(8, 3)
    weights[:4] = [[[[0]]], [[[1e-9]]], [[[1e-20]]], [[[1e-5]]]]
    bias[:4] = [0.75, -0.5, 1.5, 0.25]
    net = Net()
    graph = net.outputs([net.conv("head", net.input("images", (1, 16, 16, 3)), weights, bias)])
    result = made(graph, Recipe(input_range=(0, 1)))
    wanted, found = run(graph, IMAGES[0])[0], run(result.graph, IMAGES[0])[0]
    scheme = result.graph.quantization(result.graph.outputs[0])
    assert scheme is not None
    assert np.abs(found[..., :4] - wanted[..., :4]).max() <= scheme.scale[0]


def test_outputs_are_clipped_to_the_head_range():
    result = made(grid_network(), Recipe(output_type="int8", head_ranges={"head": (-0.25, 0.25)}))
    scheme = result.graph.quantization(result.graph.outputs[0])
    assert scheme is not None
    assert scheme.scale[0] == pytest.approx(0.5 / 255, rel=0.02)


def test_logits_reach_a_sure_score_whatever_calibration_saw():
    """Else no object could be surer than the surest in a few pictures."""
    net = Net()
    weights, bias = conv_weights(14, 16, 1)
    graph = net.outputs([net.conv("head", backbone(net), weights * 0.05, bias * 0.05)])
    highest = []
    for logits in (frozenset[str](), frozenset({"head"})):
        result = made(graph, Recipe(output_type="int8", head_ranges={"head": (-8, 8)}, logits=logits))
        scheme = result.graph.quantization(result.graph.outputs[0])
        assert scheme is not None
        highest.append(float(scheme.real(np.array(127, np.int8)).item()))

    assert highest[0] < 1
    assert highest[1] >= 3.95


@pytest.mark.parametrize("keep_peaks", [False, True])
def test_peaks_that_few_pictures_show_are_clipped_unless_they_are_to_stay(keep_peaks):
    """Before an activation and behind it: a map is strongest where the network is surest."""
    prepared = prepare_graph(grid_network())
    dark = [[image * 0.2] for image in IMAGES]
    calibration = calibrate(prepared, [*dark, [IMAGES[0] * 5]])
    graph = quantize_graph(prepared, calibration, Recipe(keep_peaks=keep_peaks)).graph
    inside = [t for t in range(len(prepared.tensors)) if t in calibration and t not in (*prepared.inputs, *prepared.outputs)]
    scales = {graph.name(t): graph.quantization(t) for t in range(len(graph.tensors)) if not graph.is_constant(t)}
    pairs = [(scales.get(prepared.name(tensor)), calibration.widest(tensor)[1]) for tensor in inside]
    kept = [scheme.real(np.array(127, np.int8)).item() + scheme.scale[0] >= highest for scheme, highest in pairs if scheme is not None]

    assert kept
    assert all(kept) == keep_peaks


@pytest.mark.parametrize("keep_bounded", [False, True])
def test_rare_peaks_of_a_bounded_rectifier_stay_where_asked_for_and_those_of_other_layers_are_clipped(keep_bounded):
    net = Net()
    bounded = net.conv("bounded", net.input("images", (1, 16, 16, 3)), *conv_weights(8, 3), activation="relu6")
    plain = net.conv("plain", bounded, *conv_weights(8, 8))
    prepared = prepare_graph(net.outputs([net.conv("head", plain, *conv_weights(4, 8))]))
    calibration = calibrate(prepared, [*([image * 0.1] for image in IMAGES), [IMAGES[0] * 5]])
    graph = quantize_graph(prepared, calibration, Recipe(keep_bounded=keep_bounded)).graph

    def is_kept(tensor: int) -> bool:
        scheme = graph.quantization(graph.find(prepared.name(tensor)))
        assert scheme is not None
        return bool(scheme.real(np.array(127, np.int8)).item() + scheme.scale[0] >= calibration.widest(tensor)[1])

    assert (is_kept(bounded), is_kept(plain)) == (keep_bounded, False)


@pytest.mark.runtime
def test_score_tensors_have_the_scale_that_kernels_insist_on():
    net = Net()
    graph = net.outputs([net.activation("score", net.conv("head", backbone(net), *conv_weights(4, 16, 1)), "logistic")])
    result = made(graph, Recipe(output_type="int8"))
    scheme = result.graph.quantization(result.graph.outputs[0])
    assert scheme is not None
    assert (scheme.scale[0], scheme.zero_point[0]) == (1 / 256, -128)
    assert noise(result.graph, graph) < 0.05


def test_a_quantized_model_is_refused():
    quantized = made(grid_network(), Recipe()).graph
    with pytest.raises(InputError, match="quantized already"):
        prepare_graph(quantized)


def test_a_sample_of_another_shape_is_refused():
    with pytest.raises(InputError, match=r"sample 0 has shape \(1, 8, 8, 3\), the input wants \(1, 16, 16, 3\)"):
        calibrate_and_quantize(grid_network().to_bytes(), [[np.zeros((1, 8, 8, 3), np.float32)]], Recipe())


def test_values_that_are_not_finite_are_refused():
    with pytest.raises(InputError, match="not finite"):
        calibrate_and_quantize(grid_network().to_bytes(), [[np.full((1, 16, 16, 3), np.nan, np.float32)]], Recipe())


@pytest.mark.runtime
def test_dynamic_range_is_small_and_close():
    net = Net()
    x = net.conv("a", net.input("images", (1, 16, 16, 3)), *conv_weights(64, 3), activation="relu")
    graph = net.outputs([net.conv("head", x, *conv_weights(64, 64))])
    small = quantize_graph_weights(graph)
    assert len(small.to_bytes()) < 0.4 * len(graph.to_bytes())
    assert noise(small, graph) < 0.01
    assert small.dtype(small.inputs[0]) == np.float32


def test_a_part_of_a_quantized_graph_still_runs():
    result = made(grid_network(), Recipe())
    retarget_outputs(result.graph, ["joined"])
    assert run(result.graph, IMAGES[0])[0].shape == (1, 16, 16, 16)


@pytest.mark.parametrize(("lowest", "highest"), [(0, 0), (0, 1), (-3, 5), (2, 7), (-9, -4)])
def test_zero_has_an_integer_of_its_own(lowest, highest):
    """Padding and rectifiers write exactly 0."""
    scale, zero_point = scale_for(lowest, highest)
    assert -128 <= zero_point <= 127
    assert (-128 - zero_point) * scale <= min(lowest, 0) + scale
    assert (127 - zero_point) * scale >= max(highest, 0) - scale


def test_scales_hide_what_float_kernels_differ_by():
    """Another processor sums in another order; the file should not depend on that."""
    for highest in np.random.default_rng(5).uniform(0.01, 100, 200):
        scales = {scale_for(-1.0, highest * (1 + noise)) for noise in (-2e-7, 0, 2e-7)}
        assert len(scales) == 1


LITERT_SCRIPT = """
import sys, numpy as np
from ai_edge_litert import _pywrap_tensorflow_lite_calibration_wrapper as wrapper
model, samples, out = sys.argv[1:]
images = np.load(samples)
data = open(model, "rb").read()  # the wrapper points into it
calibrator = wrapper.CalibrationWrapper(data, [], [])
calibrator.Prepare([list(images[:1].shape)])
for image in images:
    calibrator.FeedTensor([image[None]])
f32, i8, i32 = (np.dtype(t).num for t in ("float32", "int8", "int32"))
open(out, "wb").write(calibrator.QuantizeModel(i8, f32, False, i8, i32, False, False))
"""


def test_it_is_as_close_to_float_as_what_litert_itself_makes(tmp_path):
    """LiteRT's quantizer is private and may crash, so it runs in a process of its own."""
    pytest.importorskip("ai_edge_litert._pywrap_tensorflow_lite_calibration_wrapper")
    graph = grid_network()
    graph.write(tmp_path / "float.tflite")
    np.save(tmp_path / "samples.npy", np.concatenate(IMAGES))
    command = [sys.executable, "-c", LITERT_SCRIPT, *(str(tmp_path / name) for name in ("float.tflite", "samples.npy", "int8.tflite"))]
    subprocess.run(command, check=True, timeout=DEADLINE_S)
    theirs = Graph.read(tmp_path / "int8.tflite")
    ours = made(graph, Recipe(input_type="int8", output_type="float32", input_range=(0, 1))).graph

    def mean_error(quantized: Graph) -> float:
        return float(np.mean([np.abs(run(quantized, image)[0] - run(graph, image)[0]).mean() for image in IMAGES]))

    assert mean_error(ours) < 1.25 * mean_error(theirs)
