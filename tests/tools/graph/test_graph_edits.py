"""The graph edits as `docs/tools.md` describes them, beyond what converting and quantizing need of them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from edgeannot.base.errors import InputError
from edgeannot.tflite.file import parse_tflite
from edgeannot_tools.graph.edits import collect_garbage, cut, fold_dequantize, retarget_outputs, set_signature
from edgeannot_tools.graph.graph import Graph, Op, schema
from edgeannot_tools.graph.interpreter import open_interpreter
from edgeannot_tools.graph.writer import Net

RNG = np.random.default_rng(17)
IMAGE = RNG.random((1, 8, 8, 3)).astype(np.float32)


def conv(net: Net, name: str, x: int, channels: int, **options) -> int:
    weights = RNG.normal(0, 0.5, (channels, net.shape(x)[3], 3, 3)).astype(np.float32)
    return net.conv(name, x, weights, RNG.normal(0, 0.5, channels).astype(np.float32), **options)


def detector() -> Graph:
    """Boxes and scores of a backbone, joined into one output, as exporters do."""
    net = Net()
    x = conv(net, "backbone", net.input("images", (1, 8, 8, 3)), 8, activation="relu")
    boxes = net.reshape("boxes", conv(net, "box_head", x, 4), (1, 64, 4))
    scores = net.activation("scores", net.reshape("rows", conv(net, "score_head", x, 2), (1, 64, 2)), "logistic")
    return net.outputs([net.concat("joined", [boxes, scores], axis=2)])


def run(graph: Graph, image: np.ndarray = IMAGE) -> list[np.ndarray]:
    interpreter = open_interpreter(graph.to_bytes())
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


def test_no_outputs_is_refused():
    with pytest.raises(InputError, match="no output was named"):
        retarget_outputs(detector(), [])


def test_outputs_that_are_constants_are_refused():
    graph = detector()
    graph.add_constant("fixed", np.zeros((1, 2), np.float32))
    with pytest.raises(InputError, match="fixed do not depend on any input"):
        retarget_outputs(graph, ["fixed"])


@pytest.mark.runtime
def test_the_last_join_can_be_cut_off_so_that_its_parts_are_outputs():
    graph = detector()
    (joined,) = run(graph)
    join = next(op for op in graph.operators if graph.code(op) == Op.CONCATENATION)

    cut(graph, [graph.name(t) for t in join.inputs])

    assert "CONCATENATION" not in {graph.code_name(op) for op in graph.operators}
    boxes, scores = run(graph)
    assert np.array_equal(np.concatenate([boxes, scores], axis=2), joined)


@pytest.mark.runtime
def test_a_backbone_can_be_cut_out_as_an_embedding():
    graph = detector()
    cut(graph, ["backbone"])

    assert [graph.code_name(op) for op in graph.operators] == ["CONV_2D"]
    assert run(graph)[0].shape == (1, 8, 8, 8)
    assert len(graph.tensors) == 4  # input, weights, bias, output


def test_a_signature_names_inputs_and_outputs():
    graph = detector()
    graph.model.signatureDefs = None
    set_signature(graph)
    model = parse_tflite(graph.to_bytes())

    assert model.signatures[0].key == "serving_default"
    assert model.signatures[0].inputs == {"images": model.graph.inputs[0]}
    assert model.signatures[0].outputs == {"joined": model.graph.outputs[0]}


@pytest.mark.runtime
@pytest.mark.parametrize("expanded", [True, False], ids=["DEQUANTIZE behind them", "taken as they are"])
def test_folding_int8_weights_gives_float_weights_of_the_same_values(expanded):
    """Both ways in which exporters store weights alone as int8."""
    graph, wanted = detector(), detector()
    for layer, twin in zip(layers(graph), layers(wanted), strict=True):
        weights = graph.constant(layer.inputs[1])
        scale = np.abs(weights).max(axis=(1, 2, 3)) / 127
        stored = np.round(weights / scale[:, None, None, None]).astype(np.int8)
        wanted.set_constant(twin.inputs[1], (stored * scale[:, None, None, None]).astype(np.float32))
        wanted.set_constant(twin.inputs[2], graph.constant(layer.inputs[2]))
        small = graph.add_constant("stored", stored)
        graph.set_quantization(small, scale, np.zeros(len(scale), np.int64))
        if expanded:
            wide = graph.add_tensor("wide", stored.shape)
            graph.add_operator(Op.DEQUANTIZE, [small], [wide], schema.DequantizeOptionsT(), version=5, position=0)
            small = wide
        layer.inputs[1] = small

    assert fold_dequantize(graph) == 3

    assert not any(tensor.type == schema.TensorType.INT8 for tensor in graph.tensors)
    assert graph.quantization(layers(graph)[0].inputs[1]) is None
    assert np.allclose(run(graph)[0], run(wanted)[0], atol=1e-5)


def layers(graph: Graph) -> list:
    return [op for op in graph.operators if graph.code(op) == Op.CONV_2D]


def test_folding_an_ordinary_graph_changes_nothing():
    graph = detector()
    collect_garbage(graph)
    before = graph.to_bytes()

    assert fold_dequantize(graph) == 0
    assert graph.to_bytes() == before


def test_the_example_of_the_documents_runs(tmp_path, monkeypatch):
    page = (Path(__file__).resolve().parents[3] / "docs" / "tools.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    detector().write(Path("detector.tflite"))

    exec(compile(example, "docs/tools.md", "exec"), {})

    assert run(Graph.read(Path("embedding.tflite")))[0].shape == (1, 8, 8, 8)
