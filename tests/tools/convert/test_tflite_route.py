"""`edgeannot convert` for TFLite with small weights: expanded, taken apart, and the same numbers come out."""

from __future__ import annotations

import numpy as np
import pytest
from typer.testing import CliRunner

from edgeannot.base.errors import InputError
from edgeannot.vision.cards import read_card
from edgeannot.vision.data import TensorRef
from edgeannot.vision.engine import Engine
from edgeannot.vision.heads.split import Split
from edgeannot_tools.convert.command import convert_app
from edgeannot_tools.graph.graph import Graph, Op, schema
from edgeannot_tools.graph.writer import Net


def convert(source, out, *words):
    result = CliRunner().invoke(convert_app, [str(source), "-o", str(out), *words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def small_weights(kind):
    """A convolution whose weights are float16 or int8 behind a DEQUANTIZE, or int8 as they are (hybrid)."""
    net = Net()
    x = net.input("images", (1, 8, 8, 3))
    weights = np.random.default_rng(0).normal(0, 1, (16, 3, 3, 3)).astype(np.float32)
    y = net.conv("conv", x, weights, np.zeros(16, np.float32))
    graph = net.outputs([net.softmax("probabilities", net.mean_hw("mean", y, keep_dims=False))])
    convolution = graph.producers()[y]
    wide = convolution.inputs[1]
    values = graph.constant(wide)
    if kind == "float16":
        stored = graph.add_constant("small", values.astype(np.float16))
    else:
        scale = np.abs(values).max(axis=(1, 2, 3)) / 127
        stored = graph.add_constant("small", np.round(values / scale[:, None, None, None]).astype(np.int8))
        graph.set_quantization(stored, scale, np.zeros(16), 0)
    if kind == "hybrid":
        convolution.inputs[1] = stored
        convolution.opcodeIndex = graph.opcode(Op.CONV_2D, 5)
    else:
        computed = graph.add_tensor("wide", values.shape)
        graph.add_operator(Op.DEQUANTIZE, [stored], [computed], schema.DequantizeOptionsT(), version=5, position=0)
        convolution.inputs[1] = computed
    return graph


@pytest.mark.runtime
@pytest.mark.parametrize(("kind", "tolerance"), [("float16", 1e-6), ("int8", 1e-6), ("hybrid", 0.02)])
def test_small_weights_are_expanded_and_the_results_stay(kind, tolerance, tmp_path):
    source = tmp_path / "small.tflite"
    source.write_bytes(small_weights(kind).to_bytes())
    said = convert(source, tmp_path / "wide.tflite", "--no-card")

    assert "1 constants in float16 or int8 were expanded" in said
    wide = Graph.read(tmp_path / "wide.tflite")
    assert {str(wide.dtype(t)) for t in range(len(wide.tensors))} <= {"float32", "int32"}
    image = np.random.default_rng(1).random((1, 8, 8, 3), np.float32)
    before, after = (Engine(path).run(image)[0].real() for path in (source, tmp_path / "wide.tflite"))
    assert np.abs(before - after).max() <= tolerance


def test_a_float_model_is_said_to_be_one(tmp_path):
    net = Net()
    x = net.input("images", (1, 8, 8, 3))
    graph = net.outputs([net.softmax("probabilities", net.mean_hw("mean", x, keep_dims=False))])
    (tmp_path / "f.tflite").write_bytes(graph.to_bytes())

    assert "float32 already" in convert(tmp_path / "f.tflite", tmp_path / "g.tflite")


def test_a_model_that_computes_in_integers_is_refused(tmp_path):
    graph = small_weights("float16")
    number = graph.inputs[0]
    graph.tensors[number].type = schema.TensorType.UINT8
    graph.set_quantization(number, 1 / 255, 0)
    (tmp_path / "q.tflite").write_bytes(graph.to_bytes())
    with pytest.raises(InputError, match=r"computes in integers already .*give the float model"):
        convert(tmp_path / "q.tflite", tmp_path / "out" / "x.tflite")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["yolov5n_640_fp16", "yolov8n_640_int8w_f32io"])
@pytest.mark.long
def test_a_real_detector_is_taken_apart_without_changing_a_number(name, data_dir, tmp_path):
    source = data_dir / "models" / f"{name}.tflite"
    convert(source, tmp_path / "apart.tflite", "--labels", str(data_dir / "models" / "labels_coco80.txt"))
    convert(source, tmp_path / "joined.tflite", "--no-card", "--keep-join")
    card = read_card(tmp_path / "apart.toml")
    assert isinstance(card.head, Split)

    image = np.random.default_rng(1).random((1, 640, 640, 3), np.float32)
    joined = Engine(tmp_path / "joined.tflite", threads=2).run(image)[0].real()
    apart = Engine(card.model_path, threads=2).run(image)
    refs: list[TensorRef] = [ref for ref in (card.head.boxes, card.head.objectness, card.head.scores) if ref is not None]
    parts = np.concatenate([apart[ref].real() for ref in refs], axis=1 if card.head.box_layout == "columns" else 2)
    assert np.abs(joined - parts).max() < 1e-5
