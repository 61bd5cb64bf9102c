"""A float and an int8 file of one network: both are measured through the real runtime, and the faster runs."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from edgeannot.choice.candidates import Requirements
from edgeannot.choice.decision import budget_of
from edgeannot.choice.selection import evaluate
from edgeannot.probe import read_board
from edgeannot_tools.graph.graph import Graph
from edgeannot_tools.graph.writer import Net
from edgeannot_tools.quantize.graph_quantizer import Recipe, calibrate_and_quantize

CARD = """
schema = 1
name = "{name}"
file = "{name}.tflite"
sha256 = "{sha256}"
task = "classify"
family = "mobilenet"
variant_of = "{variant_of}"
input = {{ width = 64, height = 64 }}
head = {{ kind = "classify", output = 0, activation = "softmax" }}
labels = {{ names = ["ivory", "ebony"] }}
"""


def classifier() -> Graph:
    rng = np.random.default_rng(3)
    net = Net()
    x = net.input("picture", (1, 64, 64, 3))
    for number, channels in enumerate((3, 32, 32)):
        weights = rng.normal(0, 0.1, (32, channels, 3, 3)).astype(np.float32)
        x = net.conv(f"layer{number}", x, weights, np.zeros(32, np.float32), activation="relu")
    weights = rng.normal(0, 0.1, (2, 32)).astype(np.float32)
    return net.outputs([net.fully_connected("logits", net.mean_hw("mean", x, keep_dims=False), weights, np.zeros(2, np.float32))])


@pytest.mark.runtime
def test_both_files_of_a_network_are_measured_and_the_faster_is_chosen(tmp_path):
    real = classifier().to_bytes()
    samples = [[np.random.default_rng(i).random((1, 64, 64, 3), np.float32)] for i in range(3)]
    (tmp_path / "models").mkdir()
    for name, content, variant_of in (
        ("ivory", calibrate_and_quantize(real, samples, Recipe()).graph.to_bytes(), ""),
        ("ivory-f32", real, "ivory"),
    ):
        (tmp_path / "models" / f"{name}.tflite").write_bytes(content)
        card = CARD.format(name=name, sha256=hashlib.sha256(content).hexdigest(), variant_of=variant_of)
        (tmp_path / "models" / f"{name}.toml").write_text(card)
    requirements = Requirements("mid", budget_of("mid", 10_000, None), "classify", ("ebony",))
    decision = evaluate(requirements, tmp_path, read_board(), measuring="missing").decision
    times = {c.sample.dtype: c for c in decision.candidates if c.sample}

    assert set(times) == {"int8", "float32"}, [c.words for c in decision.candidates]
    fastest = min(times.values(), key=lambda c: c.ms)
    assert decision.winner.ms <= fastest.ms * 1.05
