"""The reader of .tflite files, and other input sizes by patching one."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest

from edgeannot.base.errors import MissingError, ModelError
from edgeannot.tflite.file import at_size, open_at_size, parse_tflite, read_tflite
from edgeannot.tflite.schema import BUILTIN_NAMES
from edgeannot.tflite.trace import input_affine
from edgeannot.vision.engine import Engine
from edgeannot_tools.graph.writer import Net
from tests.tflite_maker import Maker, schema


def random_net(size: int, channels: int = 3) -> bytes:
    """Strided, padded, dilated, depthwise and pooled layers, a RESIZE, a CONCATENATION: two maps as a small YOLO has them."""
    rng = np.random.default_rng(3)
    net = Net()

    def weights(out: int, depth: int, kernel: int) -> tuple[np.ndarray, np.ndarray]:
        return rng.normal(0, 0.3, (out, depth, kernel, kernel)).astype(np.float32), rng.normal(0, 0.1, out).astype(np.float32)

    x = net.input("picture", (1, size, size, channels))
    x = net.conv("stem", x, *weights(8, channels, 3), stride=2, pads=(1, 1, 1, 1), activation="leaky")
    x = net.conv("deep", x, *weights(8, 1, 3), groups=8, activation="relu6")
    x = net.max_pool("pool", x, 2, 2)
    fine = net.conv("fine", x, *weights(12, 8, 3), stride=2, pads=(1, 1, 1, 1), activation="swish")
    coarse = net.conv("coarse", net.max_pool("pool2", fine, 2, 2), *weights(12, 12, 3), dilation=2, activation="leaky")
    coarse = net.max_pool("same", coarse, 5, 1)
    joined = net.concat("joined", [net.resize_nearest("up", coarse, 2), net.slice_channels("half", fine, 4, 8)])
    gate = net.activation("gate", net.mean_hw("mean", coarse), "logistic")
    out = net.mul("scaled", coarse, gate)
    return net.outputs([net.conv("head_a", out, *weights(18, 12, 1)), net.conv("head_b", joined, *weights(18, 20, 1))]).to_bytes()


# -- reading ---------------------------------------------------------------------------------------------------------------


def test_an_empty_file_is_refused_in_one_sentence() -> None:
    with pytest.raises(ModelError, match="empty file"):
        parse_tflite(b"", "x.tflite")


@pytest.mark.parametrize(
    ("start", "says"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b"PK\x03\x04zipzipzip", "zip archive"),
        (b"\x89HDF\r\n\x1a\n0000", "convert"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"\x00" * 32, "32 bytes"),
    ],
)
def test_a_foreign_file_is_named_for_what_it_is(start: bytes, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        parse_tflite(start, "x.tflite")


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no such file"):
        read_tflite(tmp_path / "none.tflite")


def test_no_cut_or_damaged_file_does_more_than_raise_a_model_error() -> None:
    """Whatever the bytes are, the reader stays within them; damage that it cannot see is left to the runtime."""
    raw = random_net(32)
    whole = parse_tflite(raw)
    refused = [_refusal(raw[:cut]) for cut in [*range(8, 200, 7), *range(200, len(raw), len(raw) // 60)]]
    picker = random.Random(5)
    for _ in range(300):
        hurt = bytearray(raw)
        for _ in range(4):
            hurt[picker.randrange(8, len(hurt))] = picker.randrange(256)
        refused.append(_refusal(bytes(hurt)))

    assert {"cut off or damaged" in text for text in refused if text} == {True}
    assert all(refused[:20])
    assert parse_tflite(raw).graph == whole.graph


def _refusal(raw: bytes) -> str:
    try:
        parse_tflite(raw)
    except ModelError as exc:
        return str(exc)
    return ""


def test_the_operators_names_are_those_of_the_public_schema() -> None:
    numbers = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}

    assert [numbers[i] for i in range(len(BUILTIN_NAMES))] == list(BUILTIN_NAMES)


def test_tensors_operators_and_constants_are_read() -> None:
    maker = Maker("made for a test")
    x = maker.input((1, 8, 8, 3), "uint8", 0.5, 7, name="picture")
    y = maker.op("MUL", [x, maker.constant([1.0, 2.0, 3.0], name="factors")], (1, 8, 8, 3), options=schema.MulOptionsT())
    maker.metadata("note", b"hello")
    model = parse_tflite(maker.outputs(maker.quantized(y, "int8", 0.25, -3, name="result")))

    assert (model.version, model.description, model.metadata) == (3, "made for a test", {"note": b"hello"})
    (picture,), (result,) = model.inputs, model.outputs
    assert (picture.name, picture.shape, picture.dtype, picture.scale, picture.zero_point) == ("picture", (1, 8, 8, 3), "uint8", 0.5, 7)
    assert picture.real_range == (-3.5, 124.0)
    assert (result.name, result.dtype, result.scale, result.zero_point, result.quantized) == ("result", "int8", 0.25, -3, True)
    assert [op.name for op in model.graph.operators] == ["DEQUANTIZE", "MUL", "QUANTIZE"]
    factors = next(t for t in model.graph.tensors if t.name == "factors")
    assert np.frombuffer(model.constant(factors), np.float32).tolist() == [1.0, 2.0, 3.0]
    assert model.graph.producer(result.index) == model.graph.operators[2]


def test_constants_outside_of_the_tables_are_found() -> None:
    """Large files, and those of LiteRT's quantizer, keep weights behind the tables, by Buffer.offset and size."""
    maker = Maker()
    x = maker.input((1, 4, 4, 1))
    y = maker.op("MUL", [x, maker.constant([5.0], name="factor")], (1, 4, 4, 1), options=schema.MulOptionsT())
    model = schema.ModelT.InitFromPackedBuf(maker.outputs(y), 0)
    number = next(t.buffer for t in model.subgraphs[0].tensors if t.name == b"factor")
    import flatbuffers

    def packed(offset: int) -> bytes:
        model.buffers[number].data, model.buffers[number].offset, model.buffers[number].size = None, offset, 4
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    at = -(-len(packed(1 << 20)) // 16) * 16
    raw = packed(at).ljust(at, b"\0") + np.float32([6.0]).tobytes()
    factor = next(t for t in parse_tflite(raw).graph.tensors if t.name == "factor")

    assert np.frombuffer(parse_tflite(raw).constant(factor), np.float32).tolist() == [6.0]
    with pytest.raises(ModelError, match="constant data"):
        parse_tflite(raw[:-2])


def test_every_real_model_reads_as_the_runtime_reads_it(data_dir: Path) -> None:
    for path in sorted((data_dir / "models").glob("*.tflite")):
        model = read_tflite(path)
        if any(op.custom_name == "edgetpu-custom-op" for op in model.graph.operators):
            continue
        engine = Engine(path)
        assert engine.input.name == model.inputs[0].name
        assert engine.input.shape == model.inputs[0].shape
        assert (engine.input.scale, engine.input.zero_point) == (model.inputs[0].scale, model.inputs[0].zero_point)
        assert [spec.name for spec in engine.outputs] == [tensor.name for tensor in model.outputs]
        assert [spec.dtype.name for spec in engine.outputs] == [tensor.dtype for tensor in model.outputs]


# -- other sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.runtime
@pytest.mark.parametrize("size", [32, 48, 160])
def test_a_derived_size_computes_what_the_same_net_built_at_that_size_does(size: int) -> None:
    derived, built = at_size(random_net(64), size), random_net(size)
    picture = np.random.default_rng(1).uniform(0, 1, (1, size, size, 3)).astype(np.float32)
    ours, wanted = Engine(derived).run(picture), Engine(built).run(picture)

    assert len(derived) == len(random_net(64))
    for one, other in zip(ours, wanted, strict=True):
        assert one.values.shape == other.values.shape
        np.testing.assert_allclose(one.values, other.values, atol=1e-5)


def test_the_own_size_gives_the_same_bytes() -> None:
    raw = random_net(64)

    assert at_size(raw, 64) == raw


def test_a_size_that_strides_do_not_divide_is_refused_with_the_place() -> None:
    """40 / 16 is no whole number of cells: the enlarged coarse map would not fit the fine one."""
    with pytest.raises(ModelError, match=r"CONCATENATION.*every stride divides"):
        at_size(random_net(64), 40)


@pytest.mark.parametrize("size", [0, -32])
def test_no_size_is_refused(size: int) -> None:
    with pytest.raises(ModelError, match="above 0"):
        at_size(random_net(64), size)


def flattened() -> bytes:
    maker = Maker()
    x = maker.input((1, 8, 8, 1))
    options = schema.ReshapeOptionsT()
    options.newShape = [1, 64]
    return maker.outputs(maker.op("RESHAPE", [x, maker.constant([1, 64], "int32")], (1, 64), options=options))


def cropped() -> bytes:
    maker = Maker()
    x = maker.input((1, 8, 8, 1))
    begin, size = maker.constant([0, 2, 2, 0], "int32"), maker.constant([1, 4, 4, 1], "int32")
    return maker.outputs(maker.op("SLICE", [x, begin, size], (1, 4, 4, 1), options=schema.SliceOptionsT()))


def added_position() -> bytes:
    maker = Maker()
    x = maker.input((1, 8, 8, 1))
    return maker.outputs(maker.op("ADD", [x, maker.constant(np.zeros((1, 8, 8, 1)))], (1, 8, 8, 1), options=schema.AddOptionsT()))


@pytest.mark.parametrize(("raw", "operator"), [(flattened(), "RESHAPE"), (cropped(), "SLICE"), (added_position(), "ADD")])
def test_a_graph_that_holds_its_size_elsewhere_is_refused(raw: bytes, operator: str) -> None:
    with pytest.raises(ModelError, match=operator):
        at_size(raw, 16)


def test_a_dense_layer_behind_global_pooling_does_not_mind_the_size() -> None:
    net = Net()
    x = net.mean_hw("mean", net.input("picture", (1, 16, 16, 3)), keep_dims=False)
    raw = net.outputs([net.fully_connected("dense", x, np.ones((5, 3), np.float32), np.zeros(5, np.float32))]).to_bytes()

    (result,) = Engine(at_size(raw, 24)).run(np.ones((1, 24, 24, 3), np.float32))

    assert result.values.tolist() == [[3.0] * 5]


def test_resizes_that_share_one_constant_are_refused_when_they_need_two() -> None:
    maker = Maker()
    x = maker.input((1, 8, 8, 1))
    shared = maker.constant([16, 16], "int32", "size")
    up = maker.op("RESIZE_NEAREST_NEIGHBOR", [x, shared], (1, 16, 16, 1), options=schema.ResizeNearestNeighborOptionsT())
    reshape = schema.ReshapeOptionsT()
    other = maker.op(
        "RESHAPE", [maker.constant(np.zeros((256,))), maker.constant([1, 16, 16, 1], "int32")], (1, 16, 16, 1), options=reshape
    )
    used = maker.op("RESIZE_BILINEAR", [other, shared], (1, 16, 16, 1), options=schema.ResizeBilinearOptionsT())

    with pytest.raises(ModelError, match="shares its constant size"):
        at_size(maker.outputs(up, used), 12)


def odd_axes() -> bytes:
    maker = Maker()
    x = maker.input((1, 32, 32, 3))
    axes = maker.constant([1, 2], "int32")
    y = maker.op("MEAN", [x, axes], (1, 3), options=schema.ReducerOptionsT())
    maker._model.buffers[-1].data = np.frombuffer(b"\1\0\0\0\2\0", np.uint8)
    return maker.outputs(y)


def flat_weights() -> bytes:
    maker = Maker()
    x = maker.input((1, 32, 32, 3))
    return maker.outputs(maker.op("CONV_2D", [x, maker.constant([1.0, 2.0])], (1, 16, 16, 2), options=schema.Conv2DOptionsT()))


def turned_too_far() -> bytes:
    maker = Maker()
    x = maker.input((1, 32, 32, 3))
    return maker.outputs(maker.op("TRANSPOSE", [x, maker.constant([0, 3, 1, 9], "int32")], (1, 3, 32, 32)))


def blown_up() -> bytes:
    maker = Maker()
    x = maker.input((1, 32, 32, 3))
    amounts = maker.constant([[0, 0], [2**31 - 41, 0], [0, 0], [0, 0]], "int32")
    return maker.outputs(maker.op("PAD", [x, amounts], (1, 2**31 - 9, 32, 3), options=schema.PadOptionsT()))


@pytest.mark.parametrize("raw", [odd_axes(), flat_weights(), turned_too_far(), blown_up()])
def test_a_graph_whose_numbers_fit_no_operator_is_refused_another_size(raw: bytes) -> None:
    with pytest.raises(ModelError, match=r"another input size, 64: .*operator 0"):
        at_size(raw, 64)


@pytest.mark.parametrize("kind", ["MUL", "RESHAPE"])
def test_an_operator_that_gives_nothing_ends_the_way_from_the_input(kind):
    net = Net()
    x = net.input("image", (1, 4, 4, 3))
    y = net.mul("scaled", x, net.constant("factor", np.array(2), np.float32)) if kind == "MUL" else net.reshape("moved", x, (1, 48))
    graph = net.outputs([y])
    assert (input_affine(parse_tflite(graph.to_bytes(), "net")) is None) == (kind == "RESHAPE")
    graph.operators[0].outputs = []

    assert input_affine(parse_tflite(graph.to_bytes(), "net")) is None


@pytest.mark.parametrize("content", [b"", b"no model"])
def test_what_is_no_model_cannot_be_opened_at_a_size(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "it.tflite"
    path.write_bytes(content)
    with pytest.raises(ModelError):
        open_at_size(path, 64)


def test_a_model_opened_at_a_size_is_the_one_that_is_made(tmp_path: Path) -> None:
    path = tmp_path / "it.tflite"
    path.write_bytes(random_net(64))
    fd = open_at_size(path, 32)
    try:
        assert os.pread(fd, 1 << 24, 0) == at_size(random_net(64), 32)
    finally:
        os.close(fd)
    assert path.read_bytes() == random_net(64)
