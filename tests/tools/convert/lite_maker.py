"""Makes states of EfficientNet-Lite as the paper's width and depth rules shape them, since no real one is small enough to keep."""

from __future__ import annotations

import io
import math
import zipfile

import numpy as np

from tests.tools.convert.pickle_maker import pickled, tensor

NETWORKS = {
    "EfficientNet-Lite0": (1.0, 1.0, 224, 4.7),
    "EfficientNet-Lite1": (1.0, 1.1, 240, 5.4),
    "EfficientNet-Lite2": (1.1, 1.2, 260, 6.1),
    "EfficientNet-Lite3": (1.2, 1.4, 280, 8.2),
    "EfficientNet-Lite4": (1.4, 1.8, 300, 13.0),
}
"""Width and depth multipliers, input size, millions of parameters: https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite"""
STAGES = ((1, 3, 16, 1), (2, 3, 24, 6), (2, 5, 40, 6), (3, 3, 80, 6), (3, 5, 112, 6), (4, 5, 192, 6), (1, 3, 320, 6))
"""Repeats, side of the kernel, channels, expansion of EfficientNet-B0."""


def widened(channels: int, width: float) -> int:
    """The paper's rule: the nearest multiple of 8 that is no more than a tenth less."""
    nearest = max(8, int(channels * width + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels * width else nearest + 8


def lite_state(width: float, depth: float) -> dict[str, np.ndarray]:
    """The tensors by name, of noise that neither dies nor explodes on its way through the network; the lite form keeps stem, first and last
    stage as they are.
    """
    random = np.random.default_rng(0)
    state: dict[str, np.ndarray] = {}

    def conv(name: str, norm: str, shape: tuple[int, int, int, int]) -> None:
        state[f"{name}.weight"] = random.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape).astype(np.float32)
        for part, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            state[f"{norm}.{part}"] = np.full(shape[0], value, np.float32)

    conv("_conv_stem", "_bn0", (32, 3, 3, 3))
    before, number = 32, 0
    for stage, (repeats, side, channels, expansion) in enumerate(STAGES):
        fixed = stage in (0, len(STAGES) - 1)
        after = widened(channels, width)
        for _ in range(repeats if fixed else math.ceil(repeats * depth)):
            block, wide = f"_blocks.{number}.", before * expansion
            if expansion > 1:
                conv(f"{block}_expand_conv", f"{block}_bn0", (wide, before, 1, 1))
            conv(f"{block}_depthwise_conv", f"{block}_bn1", (wide, 1, side, side))
            conv(f"{block}_project_conv", f"{block}_bn2", (after, wide, 1, 1))
            before, number = after, number + 1
    conv("_conv_head", "_bn1", (1280, before, 1, 1))
    state["_fc.weight"] = random.normal(0, 0.05, (1000, 1280)).astype(np.float32)
    state["_fc.bias"] = np.zeros(1000, np.float32)
    return state


def state_file(state: dict[str, np.ndarray]) -> bytes:
    """The state as torch.save writes it."""
    tensors = {
        name: tensor(str(i), "FloatStorage", values.size, values.shape, tuple(n // values.itemsize for n in values.strides))
        for i, (name, values) in enumerate(state.items())
    }
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickled(tensors))
        for i, values in enumerate(state.values()):
            archive.writestr(f"archive/data/{i}", values.tobytes())
    return file.getvalue()
