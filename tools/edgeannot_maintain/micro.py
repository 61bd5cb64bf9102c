"""Writes the two little networks of the micro-benchmark: `python -m edgeannot_maintain.micro`. The same bytes on every run.

Random weights do: the time of a convolution does not depend on its numbers, as long as they are not all zero and stay in range.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgeannot.base import atomicfile
from edgeannot.choice.measure_child import CHANNELS, MODELS, PAIRS, SIDE
from edgeannot_tools.graph.graph import Graph
from edgeannot_tools.graph.writer import Net
from edgeannot_tools.quantize.graph_quantizer import calibrate_and_quantize
from edgeannot_tools.quantize.scales import Recipe

__all__ = ["float_network", "main"]


def float_network() -> Graph:
    """Depthwise 3 x 3 and pointwise convolutions in turn, each with ReLU6, as in MobileNet v1."""
    rng = np.random.default_rng(1)
    net = Net()
    x = net.input("input", (1, SIDE, SIDE, CHANNELS))
    bias = np.zeros(CHANNELS, np.float32)
    for pair in range(PAIRS):
        # Spreads of 1 / sqrt(inputs of one output) keep the activations in one range from layer to layer.
        depthwise = rng.normal(0, 1 / 3, (CHANNELS, 1, 3, 3)).astype(np.float32)
        pointwise = rng.normal(0, CHANNELS**-0.5, (CHANNELS, CHANNELS, 1, 1)).astype(np.float32)
        x = net.conv(f"depthwise{pair}", x, depthwise, bias, groups=CHANNELS, activation="relu6")
        x = net.conv(f"pointwise{pair}", x, pointwise, bias, activation="relu6")
    return net.outputs([x])


def main(arguments: Sequence[str] = ()) -> int:
    """Run the command; its only argument is another folder than the one they ship in."""
    folder = Path(arguments[0]) if arguments else MODELS
    folder.mkdir(parents=True, exist_ok=True)
    data = float_network().to_bytes()
    rng = np.random.default_rng(2)
    samples = [[rng.uniform(0, 1, (1, SIDE, SIDE, CHANNELS)).astype(np.float32)] for _ in range(2)]
    made = calibrate_and_quantize(data, samples, Recipe(input_type="int8", output_type="int8", input_range=(0.0, 1.0)))
    for name, content in (("float.tflite", data), ("int8.tflite", made.graph.to_bytes())):
        atomicfile.write(folder / name, content)
        sys.stdout.write(f"{folder / name}: {len(content):,} bytes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
