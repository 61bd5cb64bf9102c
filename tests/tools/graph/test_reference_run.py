"""The run in numpy gives what the runtime gives, to the last bit the same however a library adds, and holds no more than it needs."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from edgeannot_tools.graph.graph import Graph, Op, schema
from edgeannot_tools.graph.interpreter import open_interpreter
from edgeannot_tools.graph.layers import in_steps, whole_bits
from edgeannot_tools.graph.reference_run import foreign_kinds, largest_state, run_layers
from edgeannot_tools.graph.writer import Net
from tests.patience import DEADLINE_S

RNG = np.random.default_rng(3)
IMAGE = RNG.normal(0, 1, (1, 12, 10, 3)).astype(np.float32)


def conv_weights(out: int, channels: int, kernel: int = 3) -> tuple[np.ndarray, np.ndarray]:
    return RNG.normal(0, 0.3, (out, channels, kernel, kernel)).astype(np.float32), RNG.normal(0, 0.2, out).astype(np.float32)


def put(net: Net, code: int, inputs: list[int], shape, **values) -> int:
    kind = {
        Op.RESIZE_BILINEAR: schema.ResizeBilinearOptionsT,
        Op.RESIZE_NEAREST_NEIGHBOR: schema.ResizeNearestNeighborOptionsT,
        Op.DIV: schema.DivOptionsT,
        Op.SQRT: lambda: None,
        Op.SIN: lambda: None,
        Op.MIRROR_PAD: schema.MirrorPadOptionsT,
    }[code]()
    for name, value in values.items():
        setattr(kind, name, value)
    y = net.graph.add_tensor(f"y{len(net.graph.tensors)}", shape)
    net.graph.add_operator(code, inputs, [y], kind, version=3 if values.get("halfPixelCenters") else 1)
    return y


def values_of(graph: Graph, *images: np.ndarray) -> dict[str, list[np.ndarray]]:
    found = {}
    for step in run_layers(graph, [[image] for image in images]):
        found.update({graph.name(t): list(step.values[t]) for t in step.operator.outputs})
    return found


def by_runtime(graph: Graph, image: np.ndarray) -> np.ndarray:
    interpreter = open_interpreter(graph.to_bytes())
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def same_as_the_runtime(graph: Graph) -> None:
    [found] = values_of(graph, IMAGE)[graph.name(graph.outputs[0])]
    np.testing.assert_allclose(found, by_runtime(graph, IMAGE), rtol=2e-5, atol=2e-5)


def test_without_samples_every_operator_is_passed_without_numbers():
    net = Net()
    graph = net.outputs([net.conv("a", net.input("x", IMAGE.shape), *conv_weights(4, 3), activation="relu")])

    assert [(step.position, list(step.values[step.operator.outputs[0]])) for step in run_layers(graph, [])] == [(0, [])]


@pytest.mark.runtime
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2)])  # no framework has both
@pytest.mark.parametrize("pads", [None, (0, 0, 0, 0), (1, 1, 1, 1)])
@pytest.mark.parametrize("groups", [1, 3])
def test_convolutions(stride, dilation, pads, groups):
    net = Net()
    x = net.input("x", IMAGE.shape)
    weights = conv_weights(6, 3 // groups)
    same_as_the_runtime(net.outputs([net.conv("a", x, *weights, stride=stride, dilation=dilation, pads=pads, groups=groups)]))


@pytest.mark.runtime
@pytest.mark.parametrize("activation", ["relu", "relu6", "leaky", "logistic", "swish", "mish", "tanh", "hard_swish"])
def test_activations(activation):
    net = Net()
    same_as_the_runtime(net.outputs([net.conv("a", net.input("x", IMAGE.shape), *conv_weights(4, 3), activation=activation)]))


@pytest.mark.runtime
@pytest.mark.parametrize("size", [(24, 20), (17, 31), (5, 3)])
@pytest.mark.parametrize("flags", [{}, {"halfPixelCenters": True}, {"alignCorners": True}])
@pytest.mark.parametrize("code", [Op.RESIZE_BILINEAR, Op.RESIZE_NEAREST_NEIGHBOR])
def test_resizing(code, flags, size):
    net = Net()
    x = net.input("x", IMAGE.shape)
    target = net.constant("size", np.array(size), np.int32)
    same_as_the_runtime(net.outputs([put(net, code, [x, target], (1, *size, 3), **flags)]))


@pytest.mark.runtime
def test_pooling_with_padding():
    net = Net()
    x = net.max_pool("pool", net.input("x", IMAGE.shape), 3, 2)
    options = schema.Pool2DOptionsT()
    options.strideH = options.strideW = 1
    options.filterHeight, options.filterWidth, options.padding = 3, 3, schema.Padding.SAME
    y = net.graph.add_tensor("mean", net.shape(x))
    net.graph.add_operator(Op.AVERAGE_POOL_2D, [x], [y], options)
    same_as_the_runtime(net.outputs([y]))


@pytest.mark.runtime
def test_what_is_not_known_runs_in_the_runtime():
    net = Net()
    x = net.conv("a", net.input("x", IMAGE.shape), *conv_weights(4, 3))
    y = put(net, Op.SIN, [x], net.shape(x))
    graph = net.outputs([net.conv("b", y, *conv_weights(2, 4))])

    assert foreign_kinds(graph) == ("SIN",)
    assert foreign_kinds(graph, 0) == ()
    same_as_the_runtime(graph)


def test_each_sample_has_its_own_numbers_and_only_needed_layers_run():
    net = Net()
    first = net.conv("a", net.input("x", IMAGE.shape), *conv_weights(4, 3))
    graph = net.outputs([net.conv("b", first, *conv_weights(2, 4))])

    steps = list(run_layers(graph, [[IMAGE], [IMAGE * 2]], last=0))

    assert [step.position for step in steps] == [0]
    both = values_of(graph, IMAGE, IMAGE * 2)["b"]
    assert np.abs(both[0] - both[1]).max() > 0.1


def test_maps_go_when_nothing_reads_them_any_more():
    net = Net()
    x = net.input("x", (1, 8, 8, 1))
    for name in "abcdef":
        x = net.conv(name, x, *conv_weights(1, 1))
    graph = net.outputs([x])

    assert largest_state(graph) == 2 * 8 * 8 * 4
    assert max(len(step.values) for step in run_layers(graph, [[np.zeros((1, 8, 8, 1), np.float32)]])) <= 2


def test_sums_of_whole_numbers_are_exact_in_any_order():
    values, weights = RNG.normal(0, 3, 4608), RNG.normal(0, 1, 4608)
    bits = whole_bits(4608)
    (a, step_a), (b, step_b) = in_steps(values, bits), in_steps(weights, bits)

    sums = {float((a[order] * b[order]).sum()) for order in (np.arange(4608), np.argsort(a), np.argsort(-b))}

    assert len(sums) == 1
    assert sums.pop() * step_a * step_b == pytest.approx(float(values @ weights), rel=1e-4)


PROGRAM = """
import hashlib, numpy as np
from edgeannot_tools.graph.writer import Net
from edgeannot_tools.graph.reference_run import run_layers
rng, net = np.random.default_rng(1), Net()
x = net.input("x", (1, 40, 40, 3))
for n, c in enumerate((3, 24, 32, 40)):
    w = rng.normal(0, 0.2, ((24, 32, 40, 48)[n], c, 3, 3)).astype(np.float32)
    x = net.conv(f"l{n}", x, w, rng.normal(0, 0.1, len(w)).astype(np.float32), activation="swish")
graph = net.outputs([x])
images = [[rng.normal(0, 1, (1, 40, 40, 3)).astype(np.float32)] for _ in range(3)]
for step in run_layers(graph, images):
    print(hashlib.sha256(b"".join(v.tobytes() for v in step.values[step.operator.outputs[0]])).hexdigest())
"""


def test_all_processors_give_the_same_bytes():
    """OpenBLAS has other kernels for each processor, which add in other orders."""
    digests = set()
    for core, threads in (("Haswell", "1"), ("SkylakeX", "2"), ("Prescott", "1")):
        environment = {**os.environ, "OPENBLAS_CORETYPE": core, "OPENBLAS_NUM_THREADS": threads}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False
        )
        if done.returncode < 0:  # this processor has not the instructions of that one
            continue
        assert done.returncode == 0, done.stderr
        digests.add(done.stdout)

    assert len(digests) == 1
