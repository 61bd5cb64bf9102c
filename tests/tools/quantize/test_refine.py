"""Rounding weights together: it helps where inputs go together, changes nothing where they do not, and is the same everywhere."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys

import numpy as np
import pytest

from edgeannot_tools.graph.blas import threads_settings
from edgeannot_tools.graph.graph import Graph, Op, schema
from edgeannot_tools.graph.reference_run import run_layers
from edgeannot_tools.graph.writer import Net
from edgeannot_tools.quantize.calibrate import calibrate
from edgeannot_tools.quantize.graph_quantizer import Recipe, prepare_graph, quantize_graph
from edgeannot_tools.quantize.layer_sqnr import measure_sqnr
from edgeannot_tools.quantize.refine import Refiner, round_rows, second_moments
from tests.patience import DEADLINE_S

RNG = np.random.default_rng(2)


def smooth(count: int) -> list[list[np.ndarray]]:
    """Pictures in which neighbours are alike, as in photos."""
    noise = RNG.normal(0, 1, (count, 1, 20, 20, 3)).cumsum(axis=2).cumsum(axis=3)
    return [[(0.5 + n / np.abs(n).max() / 2).astype(np.float32)] for n in noise]


SAMPLES, OTHERS = smooth(8), smooth(4)


def conv_weights(out: int, channels: int, kernel: int = 3) -> tuple[np.ndarray, np.ndarray]:
    return RNG.normal(0, 0.3, (out, channels, kernel, kernel)).astype(np.float32), RNG.normal(0, 0.2, out).astype(np.float32)


def network() -> Graph:
    net = Net()
    x = net.conv("first", net.input("images", (1, 20, 20, 3)), *conv_weights(16, 3), stride=2, activation="relu")
    x = net.conv("depthwise", x, *conv_weights(16, 1), groups=16, activation="leaky")
    x = net.conv("groups", x, *conv_weights(24, 4), groups=4, activation="relu")
    x = transposed(net, net.conv("point", x, *conv_weights(12, 24, 1), activation="swish"))
    dense = RNG.normal(0, 0.3, (5, 8)).astype(np.float32), np.zeros(5, np.float32)
    return prepare_graph(net.outputs([net.fully_connected("dense", net.mean_hw("mean", x, keep_dims=False), *dense)]))


def transposed(net: Net, x: int) -> int:
    n, height, width, depth = net.shape(x)
    options = schema.TransposeConvOptionsT()
    options.strideH = options.strideW = 2
    size = net.constant("size", np.array([n, 2 * height, 2 * width, 8]), np.int32)
    weights = net.constant("up_w", RNG.normal(0, 0.3, (8, 2, 2, depth)), np.float32)
    y = net.graph.add_tensor("up", (n, 2 * height, 2 * width, 8))
    net.graph.add_operator(Op.TRANSPOSE_CONV, [size, weights, x], [y], options)
    return y


def loss(weights: np.ndarray, scale: np.ndarray, steps: np.ndarray, moments: np.ndarray) -> np.ndarray:
    lost = weights - steps * scale[:, :, None]
    return ((lost @ moments) * lost).sum(axis=2)


def test_no_rows_are_no_weights():
    assert round_rows(np.zeros((1, 0, 4)), np.zeros((1, 0)), np.eye(4)[None]).shape == (1, 0, 4)


def test_inputs_that_have_nothing_in_common_leave_nearest_rounding():
    weights, scale = RNG.normal(0, 1, (3, 5, 7)), np.full((3, 5), 0.05)

    steps = round_rows(weights, scale, np.broadcast_to(np.eye(7), (3, 7, 7)).copy())

    assert np.array_equal(steps, np.rint(weights / 0.05))


def test_inputs_that_never_change_are_rounded_to_the_nearest_step():
    weights = RNG.normal(0, 1, (1, 2, 4))

    assert np.array_equal(round_rows(weights, np.full((1, 2), 0.1), np.zeros((1, 4, 4))), np.rint(weights / 0.1))


@pytest.mark.parametrize("width", [9, 150, 1100])
def test_inputs_that_go_together_lose_less_than_by_nearest_rounding(width):
    rows = (RNG.normal(0, 1, (2, 1500, 5)) @ RNG.normal(0, 1, (2, 5, width)) + RNG.normal(0, 0.2, (2, 1500, width))).astype(np.float32)
    moments, _ = second_moments(rows)
    weights = RNG.normal(0, 1, (2, 6, width))
    scale = np.abs(weights).max(axis=2) / 127

    steps = round_rows(weights, scale, moments)

    assert np.abs(steps).max() <= 127
    nearest = np.rint(weights / scale[:, :, None])
    assert loss(weights, scale, steps, moments).sum() < 0.5 * loss(weights, scale, nearest, moments).sum()


def test_second_moments_are_those_of_the_rows():
    rows = RNG.normal(1, 2, (3, 2500, 6)).astype(np.float32)

    moments, mean = second_moments(rows)

    np.testing.assert_allclose(moments, rows.transpose(0, 2, 1).astype(float) @ rows / 2500, rtol=1e-5)
    np.testing.assert_allclose(mean, rows.mean(axis=1, dtype=float), rtol=1e-4, atol=1e-6)


@pytest.mark.runtime
def test_every_layer_keeps_more_of_its_signal_on_other_pictures_too():
    graph = network()
    calibration, recipe = calibrate(graph, SAMPLES), Recipe(input_range=(0.0, 1.0))

    plain, refined = (quantize_graph(graph, calibration, recipe, refiner).graph for refiner in (None, Refiner(graph, SAMPLES)))

    before, after = (measure_sqnr(graph, int8, OTHERS) for int8 in (plain, refined))
    assert [layer.tensor for layer in after if layer.is_output] == ["dense"]
    assert all(now.sqnr_db > then.sqnr_db for now, then in zip(after, before, strict=True))
    assert np.mean([layer.sqnr_db for layer in after]) > np.mean([layer.sqnr_db for layer in before]) + 0.5


def test_the_mean_of_a_layer_with_a_bias_stays():
    net = Net()
    weights, bias = conv_weights(8, 3)
    graph = prepare_graph(net.outputs([net.conv("only", net.input("images", (1, 20, 20, 3)), weights, bias, pads=(0, 0, 0, 0))]))
    scale = np.abs(weights).max(axis=(1, 2, 3)).astype(np.float64) / 127

    rounded = Refiner(graph, SAMPLES).round({0: scale})[0]

    changed = Graph.from_bytes(graph.to_bytes())
    changed.set_constant(changed.operators[0].inputs[1], (rounded.stored * scale[:, None, None, None]).astype(np.float32))
    changed.set_constant(changed.operators[0].inputs[2], (bias + rounded.shift).astype(np.float32))
    means = []
    for each in (graph, changed):
        means += [np.mean(step.values[each.outputs[0]], axis=(0, 1, 2, 3)) for step in run_layers(each, SAMPLES)]
    np.testing.assert_allclose(means[0], means[1], atol=2e-3)


def test_a_layer_is_looked_at_once_for_each_scale(monkeypatch):
    graph, runs = network(), []
    refiner = Refiner(graph, SAMPLES)
    monkeypatch.setattr("edgeannot_tools.quantize.refine.run_layers", lambda *a: runs.append(a) or run_layers(*a))
    scales = {0: np.full(16, 0.01)}

    first, again, other = refiner.round(scales), refiner.round(scales), refiner.round({0: np.full(16, 0.02)})

    assert len(runs) == 2
    assert np.array_equal(first[0].stored, again[0].stored)
    assert not np.array_equal(first[0].stored, other[0].stored)


def test_without_samples_weights_are_rounded_to_the_nearest_step():
    assert Refiner(network(), []).round({0: np.full(16, 0.01)}) == {}


def test_numpy_takes_one_thread_meanwhile_and_as_many_as_before_afterwards(monkeypatch):
    """Whichever other OpenBLAS is loaded beside numpy's."""
    importlib.import_module("cv2")  # its wheels bring one
    settings, graph, seen = threads_settings(), network(), []
    if not settings:
        pytest.skip("this numpy came without OpenBLAS")
    before = [get() for get, _ in settings]
    for _, put in settings:
        put(2)
    monkeypatch.setattr(
        "edgeannot_tools.quantize.refine.run_layers", lambda *a: seen.extend(get() for get, _ in settings) or run_layers(*a)
    )

    try:
        Refiner(graph, SAMPLES).round({0: np.full(16, 0.01)})

        assert set(seen) == {1}
        assert {get() for get, _ in settings} == {2}
    finally:
        for (_, put), count in zip(settings, before, strict=True):
            put(count)


PROGRAM = """
import hashlib
from tests.tools.quantize.test_refine import Refiner, SAMPLES, network
import numpy as np
graph = network()
weights = {p: graph.constant(o.inputs[1]) for p, o in enumerate(graph.operators) if graph.code_name(o) == "CONV_2D"}
scales = {p: np.abs(w).max(axis=(1, 2, 3)) / 127 for p, w in weights.items()}
rounded = Refiner(graph, SAMPLES).round(scales)
print(hashlib.sha256(b"".join(r.stored.tobytes() for r in rounded.values())).hexdigest())
"""


def test_all_processors_and_numbers_of_threads_round_the_same():
    digests = set()
    for core, threads in (("Haswell", "1"), ("SkylakeX", "2"), ("Prescott", "2")):
        environment = {**os.environ, "OPENBLAS_CORETYPE": core, "OPENBLAS_NUM_THREADS": threads}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False
        )
        if done.returncode >= 0:  # else: this processor has not the instructions of that one
            assert done.returncode == 0, done.stderr
            digests.add(done.stdout)

    assert len(digests) == 1
