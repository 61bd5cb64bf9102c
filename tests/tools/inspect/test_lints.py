"""Each finding has a file that shows it, and one beside it that does not."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from edgeannot.tflite.file import parse_tflite, read_tflite
from edgeannot_tools.graph.graph import Graph, Op, schema
from edgeannot_tools.graph.macs import operator_costs
from edgeannot_tools.graph.writer import Net
from edgeannot_tools.inspect.delegate import RuntimeView
from edgeannot_tools.inspect.inspection import read_dtypes
from edgeannot_tools.inspect.lints import Code, Finding, find
from edgeannot_tools.quantize.graph_quantizer import Recipe, calibrate_and_quantize
from tests.tflite_maker import Maker

RNG = np.random.default_rng(33)


def findings(raw: bytes, *views: RuntimeView) -> dict[str, Finding]:
    model = parse_tflite(raw)
    return {found.code: found for found in find(model, read_dtypes(model), operator_costs(model), views)}


def float_net() -> Graph:
    net = Net()
    x = net.input("x", (1, 8, 8, 3))
    x = net.conv("first", x, RNG.normal(0, 1, (4, 3, 3, 3)).astype(np.float32), np.ones(4, np.float32), activation="leaky")
    return net.outputs([net.conv("last", x, RNG.normal(0, 1, (2, 4, 1, 1)).astype(np.float32), np.ones(2, np.float32))])


def int8_net() -> Graph:
    samples = [[RNG.random((1, 8, 8, 3)).astype(np.float32)] for _ in range(3)]
    return calibrate_and_quantize(float_net().to_bytes(), samples, Recipe()).graph


def test_a_clean_network_has_no_findings():
    assert findings(float_net().to_bytes()) == {}
    assert findings(int8_net().to_bytes()) == {}


def image(scale: float, zero_point: int, dtype: str = "uint8") -> bytes:
    maker = Maker()
    return maker.outputs(maker.input((1, 4, 4, 3), dtype, scale, zero_point))


@pytest.mark.parametrize(("scale", "zero_point"), [(1 / 255, 0), (1 / 127.5, 127), (1 / 128, 128), (1.0, 0), (1.0, 104), (4.76 / 255, 114)])
def test_usual_input_ranges_are_not_mentioned(scale, zero_point):
    assert "input-range" not in findings(image(scale, zero_point))


@pytest.mark.parametrize(("scale", "zero_point"), [(0.0031, 0), (0.0171, 37), (2 / 255, 100)])
def test_an_input_of_an_odd_range_is_doubted(scale, zero_point):
    found = findings(image(scale, zero_point))["input-range"]

    assert found.severity == "warning"
    low, high = -zero_point * scale, (255 - zero_point) * scale
    assert f"{low:.4g}..{high:.4g}" in found.text


def test_an_integer_input_of_scale_0_is_told():
    maker = Maker()
    assert "taken as they are" in findings(maker.outputs(maker.input((1, 4, 4, 3), "uint8")))["zero-scale"].text


def rows(scale: float, *, mixed: bool = True) -> bytes:
    """(1, 50, 6) rows of a detector: 4 box numbers and 2 scores, as one int8 tensor."""
    maker = Maker()
    x = maker.input((1, 40, 40, 3))
    boxes = maker.stirred(x, RNG.random((1, 50, 4)))
    scores = maker.stirred(x, RNG.random((1, 50, 2)))
    parts = [maker.op("MUL", [boxes, boxes], (1, 50, 4)), maker.logistic(scores)]
    joined = maker.concat(parts if mixed else [boxes, scores])
    return maker.outputs(maker.quantized(joined, "int8", scale, -128, "rows"))


def test_boxes_and_scores_under_one_scale_are_warned_of():
    found = findings(rows(1 / 200))["mixed-output"]

    assert found.severity == "warning"
    assert "scores of 0..1 have 200 levels, boxes move in steps of 0.2 px" in found.text
    assert "mixed-output" not in findings(rows(1 / 200, mixed=False))


def test_scores_without_levels_are_an_error():
    found = findings(rows(1.9))["mixed-output"]

    assert found.severity == "error"
    assert "have 0 levels, boxes move in steps of 1.9 px" in found.text


def test_biases_that_were_cut_off_are_counted():
    graph = int8_net()
    bias = next(op for op in graph.operators if graph.code(op) == Op.CONV_2D).inputs[2]
    values = graph.constant(bias).copy()
    values[:2] = (2**31 - 1, -(2**31))
    scheme = graph.quantization(bias)
    graph.set_constant(bias, values)
    graph.set_quantization(bias, scheme.scale, scheme.zero_point)

    assert "2 of 4 biases of CONV_2D (operator " in findings(graph.to_bytes())["saturated-bias"].text


def test_channels_of_scale_0_are_counted():
    graph = int8_net()
    weights = next(op for op in graph.operators if graph.code(op) == Op.CONV_2D).inputs[1]
    graph.set_quantization(weights, [0.1, 0.0, float("nan"), 0.2], [0, 0, 0, 0])

    assert "2 of 4 scales of" in findings(graph.to_bytes())["zero-scale"].text


def with_island() -> Graph:
    """The integer net with its LEAKY_RELU calculated in float."""
    graph = int8_net()
    position, leaky = next((i, op) for i, op in enumerate(graph.operators) if graph.code(op) == Op.LEAKY_RELU)
    before, after = leaky.inputs[0], leaky.outputs[0]
    wide, result = (graph.add_tensor(name, graph.shape(before)) for name in ("wide", "result"))
    leaky.inputs, leaky.outputs = [wide], [result]
    graph.add_operator(Op.QUANTIZE, [result], [after], schema.QuantizeOptionsT(), position=position + 1)
    graph.add_operator(Op.DEQUANTIZE, [before], [wide], schema.DequantizeOptionsT(), position=position)
    return graph


def test_float_islands_are_found():
    found = findings(with_island().to_bytes())["float-islands"]

    assert found.severity == "warning"
    assert "1 part of" in found.text
    assert "(1 LEAKY_RELU)" in found.text


def test_a_float_end_is_no_island():
    graph = int8_net()
    end = graph.add_tensor("end", graph.shape(graph.outputs[0]))
    result = graph.add_tensor("result", graph.shape(graph.outputs[0]))
    graph.add_operator(Op.DEQUANTIZE, [graph.outputs[0]], [end], schema.DequantizeOptionsT())
    graph.add_operator(Op.LOGISTIC, [end], [result])
    graph.sub.outputs = [result]

    assert "float-islands" not in findings(graph.to_bytes())


def test_a_float_beginning_is_no_island(models_dir):
    assert "float-islands" not in findings((models_dir / "nanodet-g.tflite").read_bytes())


def test_float16_constants_are_told():
    graph = float_net()
    layer = graph.operators[0]
    half = graph.add_constant("half", graph.constant(layer.inputs[1]).astype(np.float16))
    layer.inputs[1] = graph.add_tensor("wide", graph.shape(half))
    graph.add_operator(Op.DEQUANTIZE, [half], [layer.inputs[1]], schema.DequantizeOptionsT(), position=0)

    assert findings(graph.to_bytes())["float16-constants"].severity == "note"


def test_a_missing_signature_is_told():
    graph = float_net()
    graph.model.signatureDefs = None

    assert findings(graph.to_bytes()).keys() == {"no-signature"}


@pytest.mark.parametrize(("signature", "code"), [([-1, 8, 8, 3], "open-batch"), ([1, -1, -1, 3], "no-fixed-size")])
def test_open_sizes_are_told(signature, code):
    graph = float_net()
    graph.tensors[graph.inputs[0]].shapeSignature = signature

    assert findings(graph.to_bytes()).keys() == {code}


@pytest.mark.parametrize(("name", "said"), [("FlexNonMaxSuppressionV3", "Select TF ops"), ("edgetpu-custom-op", "is custom")])
def test_operators_that_no_runtime_has_are_errors_and_come_first(name, said):
    maker = Maker()
    raw = maker.outputs(*maker.custom(name, [maker.input((1, 4, 4, 3))], [(1, 2)]))
    found = list(findings(raw).values())

    assert (found[0].severity, found[0].code) == ("error", "custom-operator")
    assert said in found[0].text


def test_two_inputs_are_an_error():
    maker = Maker()
    a, b = maker.input((1, 4, 4, 3)), maker.input((1, 4, 4, 3))

    assert findings(maker.outputs(a, b))["several-inputs"].severity == "error"


def test_a_runtime_that_does_the_arithmetic_without_its_delegate_is_named():
    raw = float_net().to_bytes()
    everything = frozenset(range(len(parse_tflite(raw).graph.operators)))
    slow = RuntimeView("tflite-runtime", "2.14.0", partitions=())
    fast = RuntimeView("litert", "2.3.0", partitions=(everything,))

    assert "runs 100% of the arithmetic outside XNNPACK" in findings(raw, slow)["not-accelerated"].text
    assert findings(raw, fast, RuntimeView("tflite-runtime", "1")) == {}
    assert "does not load it: no" in findings(raw, RuntimeView("litert", "1", refused="no"))["refused"].text


def test_real_files_have_the_findings_that_are_known_of_them(data_dir: Path):
    known = {
        "yolov5n_640_uint8": {"mixed-output"},
        "yolov8n_224_int8io": {"mixed-output"},
        "yolox_nano_mask3_nchw_fp16": {"float16-constants"},
        "NEG_edgetpu_compiled": {"custom-operator", "no-signature"},
        "st_ssd_mnv1_025_person224_raw_anchors": {"open-batch"},
        "mobilenet_v2_1.0_224_quant": {"no-signature"},
    }
    for name, codes in known.items():
        assert findings(read_tflite(data_dir / "models" / f"{name}.tflite").raw).keys() == codes, name


def test_every_finding_is_in_the_documents():
    page = (Path(__file__).resolve().parents[3] / "docs" / "tools.md").read_text(encoding="utf-8")

    assert [code for code in get_args(Code) if f"`{code}`" not in page] == []
