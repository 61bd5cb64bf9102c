"""What the recipes of the TensorFlow.js models change in a network, on small ones made here."""

from __future__ import annotations

import numpy as np
import pytest

from edgeannot.vision.engine import Engine
from edgeannot_maintain.tfjs_models import keep_channels, take_bytes
from edgeannot_tools.graph.writer import Net

RNG = np.random.default_rng(4)
MEAN, STD = np.array([103.53, 116.28, 123.675]), np.array([57.375, 57.12, 58.395])
BYTES = RNG.integers(0, 256, (1, 12, 12, 3)).astype(np.float64)


def network(pads):
    net = Net()
    x = net.input("image", (1, 12, 12, 3))
    weights = RNG.normal(0, 1, (6, 3, 3, 3)).astype(np.float32)
    return net.outputs([net.conv("conv", x, weights, RNG.normal(0, 1, 6).astype(np.float32), stride=2, pads=pads)])


def run(graph, image):
    return Engine(graph.to_bytes()).run(image.astype(np.float32))[0].real()


@pytest.mark.runtime
@pytest.mark.parametrize("pads", [(1, 1, 1, 1), None, (0, 0, 0, 0)])
def test_one_mean_and_step_for_all_channels_give_the_same_inside_the_picture(pads):
    graph = network(pads)
    before = run(graph, (BYTES - MEAN) / STD)
    take_bytes(graph, MEAN, STD, 114.0, 57.63)
    after = run(graph, (BYTES - 114) / 57.63)

    np.testing.assert_allclose(after[:, 1:-1, 1:-1], before[:, 1:-1, 1:-1], atol=1e-4)
    assert np.abs(after - before).max() < 0.25 * before.std()


@pytest.mark.runtime
def test_only_the_channels_that_are_wanted_are_left():
    graph = network(None)
    image = (BYTES - MEAN) / STD
    before = run(graph, image)
    keep_channels(graph, "conv", [4, 0, 5])

    assert graph.shape(graph.outputs[0]) == (1, 6, 6, 3)
    np.testing.assert_allclose(run(graph, image), before[..., [4, 0, 5]], atol=1e-5)
