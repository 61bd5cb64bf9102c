"""Memory of intermediate results: counted by hand on small graphs, and beside what the runtime plans."""

from __future__ import annotations

import numpy as np
import pytest

from edgeannot.tflite.file import parse_tflite, read_tflite
from edgeannot.vision.engine import installed_runtimes
from edgeannot_tools.graph.graph import Graph, Op, schema
from edgeannot_tools.graph.writer import Net
from edgeannot_tools.inspect.delegate import ask_runtime, peak_memory, tensor_bytes


def chain(net: Net, x: int, count: int) -> int:
    for number in range(count):
        x = net.activation(f"step{number}", x, "tanh")
    return x


def peak_of(graph: Graph):
    return peak_memory(parse_tflite(graph.to_bytes()))


def test_a_graph_without_operators_holds_its_input():
    net = Net()
    x = net.input("x", (1, 2, 2, 3))
    peak = peak_of(net.outputs([x]))

    assert (peak.bytes, peak.operator) == (48, None)


def test_a_chain_holds_the_input_and_the_two_ends_of_the_widest_step():
    net = Net()
    x = net.input("x", (1, 10))
    peak = peak_of(net.outputs([chain(net, x, 5)]))

    assert peak.bytes == 3 * 40
    assert peak.operator.index == 1  # the first step has the input at one end


def test_what_is_read_again_later_is_held_until_then():
    net = Net()
    x = net.input("x", (1, 10))
    first = chain(net, x, 1)
    peak = peak_of(net.outputs([net.add("sum", chain(net, first, 3), first)]))

    assert peak.bytes == 4 * 40
    assert sum(map(tensor_bytes, peak.tensors)) == peak.bytes


def test_outputs_are_held_to_the_end():
    net = Net()
    x = net.input("x", (1, 10))
    early = chain(net, x, 1)
    last = chain(net, chain(net, early, 1), 3)

    assert peak_of(net.outputs([last])).bytes == 3 * 40
    net.graph.sub.outputs = [early, last]
    assert peak_of(net.graph).bytes == 4 * 40


def test_constants_are_not_counted_but_what_is_expanded_from_them_is():
    net = Net()
    x = net.input("x", (1, 10))
    half = net.graph.add_constant("half", np.ones((1, 10), np.float16))
    wide = net.graph.add_tensor("wide", (1, 10))
    net.graph.add_operator(Op.DEQUANTIZE, [half], [wide], schema.DequantizeOptionsT())
    peak = peak_of(net.outputs([chain(net, net.add("sum", x, wide), 4)]))

    assert peak.bytes == 4 * 40  # the input, the expanded constant, both ends of a step


def test_the_runtime_plans_no_less(models_dir, data_dir):
    """Kernels need scratch space besides, so the plan may be larger; for these nets without any it is the same to the byte."""
    for path in (models_dir / "efficientnet-lite0.tflite", data_dir / "models" / "mobilenet_v2_1.0_224_quant.tflite"):
        model = read_tflite(path)
        view = ask_runtime(model, path, installed_runtimes()[0])

        assert view.planned_bytes_without_delegate == pytest.approx(peak_memory(model).bytes, abs=64)
