"""TFLite graphs: what is written is read again, and edits change what they should and nothing else."""

from __future__ import annotations

import flatbuffers
import numpy as np
import pytest

from edgeannot.base import atomicfile
from edgeannot.base.errors import InputError, MissingError
from edgeannot_tools.graph.edits import at_size, collect_garbage, cut, fold_dequantize, multiply_accumulates, retarget_outputs
from edgeannot_tools.graph.graph import FILE_IDENTIFIER, Graph, Op, schema
from edgeannot_tools.graph.interpreter import open_interpreter
from edgeannot_tools.graph.writer import Net

RNG = np.random.default_rng(3)
WEIGHTS = RNG.normal(0, 0.5, (4, 3, 3, 3)).astype(np.float32)
BIAS = RNG.normal(0, 0.5, 4).astype(np.float32)


def small(size: int = 8) -> Graph:
    """conv -> leaky -> pool -> upsample, and a second output at the conv."""
    net = Net()
    x = net.input("images", (1, size, size, 3))
    first = net.conv("first", x, WEIGHTS, BIAS, activation="leaky")
    y = net.resize_nearest("large", net.max_pool("pool", first, 2, 2), 2)
    return net.outputs([net.concat("joined", [y, first]), first])


def run(graph: Graph, image: np.ndarray) -> list[np.ndarray]:
    interpreter = open_interpreter(graph.to_bytes())
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


IMAGE = RNG.random((1, 8, 8, 3)).astype(np.float32)


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "m.tflite").write_bytes(b"")
    with pytest.raises(InputError, match="not a TFLite model"):
        Graph.read(tmp_path / "m.tflite")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(MissingError, match=r"m\.tflite cannot be read"):
        Graph.read(tmp_path / "m.tflite")


@pytest.mark.parametrize("length", [8, 40, 1000])
def test_a_damaged_file_is_refused(length):
    with pytest.raises(InputError, match="damaged"):
        Graph.from_bytes(b"\xff\xff\xff\x7f" + FILE_IDENTIFIER + b"\xff" * length)


def test_the_same_graph_gives_the_same_bytes():
    assert small().to_bytes() == small().to_bytes()
    assert Graph.from_bytes(small().to_bytes()).to_bytes() == small().to_bytes()


def test_weights_start_at_multiples_of_sixteen():
    """Kernels of 32-bit Arm read them with instructions that fault elsewhere."""
    data = small().to_bytes()
    assert data.index(BIAS.tobytes()) % 16 == 0
    assert data.index(np.ascontiguousarray(WEIGHTS.transpose(0, 2, 3, 1)).tobytes()) % 16 == 0


def test_weights_behind_the_flatbuffer_are_read():
    """Some quantizers write them there, for files beyond 2 GB."""
    graph = small()
    tail = b"".join(bytes(buffer.data) for buffer in graph.model.buffers[1:])

    def packed(start: int) -> bytes:
        position = start
        for buffer in graph.model.buffers[1:]:
            buffer.size, buffer.offset = buffer.size or len(buffer.data), position
            buffer.data = None
            position += buffer.size
        builder = flatbuffers.Builder(1024)
        builder.Finish(graph.model.Pack(builder), FILE_IDENTIFIER)
        return bytes(builder.Output())

    data = packed(len(packed(1_000_000))) + tail
    read = Graph.from_bytes(data)
    assert np.array_equal(read.constant(read.find("first_b")), BIAS)
    with pytest.raises(InputError, match="truncated"):
        Graph.from_bytes(data[:-8])


def test_constants_and_quantization_are_read_back():
    graph = small()
    tensor = graph.add_constant("weights", np.array([[1, -2], [3, 4]], np.int8))
    graph.set_quantization(tensor, [0.5, 2.0], [0, 1], axis=1)
    scheme = graph.quantization(tensor)
    assert scheme is not None
    assert scheme.real(graph.constant(tensor)).tolist() == [[0.5, -6.0], [1.5, 6.0]]
    assert graph.quantization(graph.find("first")) is None


def test_an_unknown_name_is_answered_with_names_like_it():
    with pytest.raises(InputError, match="near are: first"):
        small().find("some/First")


def test_retargeting_keeps_only_what_the_outputs_need():
    graph = small()
    wanted = run(graph, IMAGE)[1]
    retarget_outputs(graph, ["first_leaky"])
    assert [graph.code_name(operator) for operator in graph.operators] == ["CONV_2D", "LEAKY_RELU"]
    assert np.array_equal(run(graph, IMAGE)[0], wanted)
    assert len(graph.tensors) == 5
    assert graph.model.signatureDefs[0].outputs[0].name == "first_leaky"


def test_a_cut_out_part_computes_what_it_did_inside():
    whole = run(small(), IMAGE)
    graph = small()
    cut(graph, ["joined"], ["first_leaky"])
    assert graph.name(graph.inputs[0]) == "first_leaky"
    assert np.array_equal(run(graph, whole[1])[0], whole[0])


def test_a_cut_that_leaves_something_behind_is_refused():
    with pytest.raises(InputError, match="needs 'images' from before the new inputs"):
        cut(small(), ["joined"], ["large"])


def test_garbage_is_collected_without_changing_results():
    graph = small()
    wanted = run(graph, IMAGE)
    graph.add_constant("unused", np.zeros(1000, np.float32))
    before = len(graph.to_bytes())
    collect_garbage(graph)
    assert len(graph.to_bytes()) < before - 4000
    assert all(np.array_equal(a, b) for a, b in zip(run(graph, IMAGE), wanted, strict=True))


def half_precision(graph: Graph) -> Graph:
    """The graph with its weights in float16 and DEQUANTIZE behind them, as converters write them."""
    convolution = graph.operators[0]
    stored = graph.add_constant("half", graph.constant(convolution.inputs[1]).astype(np.float16))
    wide = graph.add_tensor("wide", graph.shape(stored))
    graph.add_operator(Op.DEQUANTIZE, [stored], [wide], schema.DequantizeOptionsT(), version=3, position=0)
    convolution.inputs[1] = wide
    collect_garbage(graph)
    return graph


@pytest.mark.runtime
def test_folding_float16_changes_no_result():
    graph = half_precision(small())
    wanted = run(graph, IMAGE)
    assert fold_dequantize(graph) == 1
    assert "DEQUANTIZE" not in {graph.code_name(operator) for operator in graph.operators}
    assert all(np.array_equal(a, b) for a, b in zip(run(graph, IMAGE), wanted, strict=True))


@pytest.mark.runtime
@pytest.mark.parametrize("size", [8, 16, 32])
def test_another_size_gives_what_a_network_written_at_that_size_gives(size):
    graph = small()
    at_size(graph, size)
    image = RNG.random((1, size, size, 3)).astype(np.float32)
    assert all(np.array_equal(a, b) for a, b in zip(run(graph, image), run(small(size), image), strict=True))


def test_sizes_that_do_not_divide_are_refused():
    with pytest.raises(InputError, match="choose a size that every stride divides"):
        at_size(small(), 9)


def test_sizes_are_refused_past_operators_that_know_theirs():
    net = Net()
    x = net.input("images", (1, 8, 8, 3))
    graph = net.outputs([net.reshape("flat", x, (1, 192))])
    with pytest.raises(InputError, match=r"RESHAPE.*runs at its own size only"):
        at_size(graph, 16)


def test_multiply_accumulates_count_one_a_weight_and_output():
    assert multiply_accumulates(small()) == 8 * 8 * 4 * 27


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "m.tflite"
    atomicfile.write(path, b"old")
    with pytest.raises(TypeError):
        atomicfile.write(path, "not bytes")  # type: ignore[arg-type] # the failure is the point
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["m.tflite"]
