"""What the runtimes tell of their delegates, in a process of their own."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from edgeannot.tflite.file import parse_tflite, read_tflite
from edgeannot.vision.engine import installed_runtimes, load_runtime
from edgeannot_tools.graph.graph import Graph
from edgeannot_tools.graph.writer import Net
from edgeannot_tools.inspect.delegate import ask_runtime, replaced_operators
from tests.tflite_maker import Maker, write

RNG = np.random.default_rng(9)


def float_net() -> Graph:
    """Two convolutions with an operator between them that XNNPACK does not take."""
    net = Net()
    x = net.input("x", (1, 8, 8, 3))
    x = net.conv("first", x, RNG.normal(0, 1, (4, 3, 3, 3)).astype(np.float32), np.zeros(4, np.float32), activation="leaky")
    x = net.resize_nearest("large", x, 2)
    return net.outputs([net.conv("last", x, RNG.normal(0, 1, (2, 4, 1, 1)).astype(np.float32), np.zeros(2, np.float32))])


def test_without_delegates_nothing_was_replaced():
    assert replaced_operators(parse_tflite(float_net().to_bytes()).graph, []) == ()


def test_replaced_operators_are_those_between_what_a_delegate_takes_and_gives():
    graph = parse_tflite(float_net().to_bytes()).graph
    conv, leaky, _, last = graph.operators

    first = ([conv.inputs[0], *conv.inputs[1:]], leaky.outputs)
    second = (last.inputs, last.outputs)

    assert replaced_operators(graph, [first, second]) == (frozenset({0, 1}), frozenset({3}))


@pytest.mark.runtime
@pytest.mark.parametrize("runtime", installed_runtimes())
def test_operators_that_the_delegate_leaves_split_it(runtime, tmp_path):
    path = write(tmp_path / "m.tflite", float_net().to_bytes())
    view = ask_runtime(read_tflite(path), path, runtime)

    assert view.refused == view.note == ""
    assert view.partitions == (frozenset({0, 1}), frozenset({3}))
    assert view.taken == {0, 1, 3}
    assert view.planned_bytes > 0
    assert view.planned_bytes_without_delegate >= 4 * (192 + 256 + 256)


@pytest.mark.runtime
@pytest.mark.parametrize("runtime", installed_runtimes())
def test_memory_agrees_with_the_operators_that_were_found(runtime, models_dir):
    """A second way to tell: what lives inside a delegate has no memory of the interpreter's, everything else has."""
    path = models_dir / "yolov3-tiny.tflite"
    model = read_tflite(path)
    view = ask_runtime(model, path, runtime)
    interpreter = load_runtime(runtime)[1].Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    outputs = {t for part in view.partitions for t in leaving(model.graph, part)}

    for operator in model.graph.operators:
        inside = operator.index in view.taken and not set(operator.outputs) & outputs
        assert has_memory(interpreter, operator.outputs[0]) != inside


def leaving(graph, part: frozenset[int]) -> set[int]:
    """The tensors that a part makes and others read."""
    made = {t for op in graph.operators if op.index in part for t in op.outputs}
    read = {t for op in graph.operators if op.index not in part for t in op.inputs}
    return made & (read | set(graph.outputs))


def has_memory(interpreter, tensor: int) -> bool:
    try:
        interpreter.tensor(tensor)()
    except ValueError:
        return False
    return True


def test_a_model_that_a_runtime_refuses_is_an_answer(tmp_path):
    maker = Maker()
    x = maker.input((1, 4, 4, 3))
    path = write(tmp_path / "m.tflite", maker.outputs(*maker.custom("nobody-knows", [x], [(1, 2)])))
    view = ask_runtime(read_tflite(path), path, installed_runtimes()[0])

    assert "nobody-knows" in view.refused
    assert not view.crashed
    assert view.partitions is None


@pytest.mark.parametrize(
    ("program", "said"),
    [("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "(SIGSEGV)"), ("raise SystemError('boom')", "SystemError: boom")],
)
def test_a_runtime_that_dies_takes_nothing_with_it(tmp_path, program, said):
    path = write(tmp_path / "m.tflite", float_net().to_bytes())
    view = ask_runtime(read_tflite(path), path, installed_runtimes()[0], command=(sys.executable, "-c", program))

    assert view.crashed
    assert said in view.refused


def test_a_runtime_that_does_not_tell_is_said(tmp_path):
    """The operators come from a private function of the interpreter, which a version may not have."""
    path = write(tmp_path / "m.tflite", float_net().to_bytes())
    answer = '{"ran": {"delegates": null, "planned": 3000, "planned_plain": null, "unsized": 0}}'
    view = ask_runtime(read_tflite(path), path, installed_runtimes()[0], command=(sys.executable, "-c", f"print({answer!r})"))

    assert view.partitions is None
    assert "_get_ops_details" in view.note
    assert (view.taken, view.planned_bytes) == (frozenset(), 3000)


def test_a_dead_operator_is_not_counted_for_a_delegate():
    """The one thing that going back from a delegate's results cannot see: an operator that nobody reads."""
    net = Net()
    x = net.input("x", (1, 4))
    net.activation("unread", x, "tanh")
    y = net.activation("read", x, "tanh")
    graph = parse_tflite(net.outputs([y]).to_bytes()).graph

    assert replaced_operators(graph, [([x], [y])]) == (frozenset({1}),)
