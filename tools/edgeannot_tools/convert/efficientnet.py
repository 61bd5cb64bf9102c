"""EfficientNet-Lite0 from a PyTorch state: MobileNet's inverted residuals without the parts that quantize badly.

No squeeze-and-excitation, ReLU6 in place of swish. https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite
and the paper, https://arxiv.org/abs/1905.11946, table 1. Tensor names are those of the PyTorch ports: `_blocks.3._expand_conv.weight`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeannot.base.errors import InputError
from edgeannot.base.foreign import sha256_of
from edgeannot_tools.convert.conversion import CLASS_NAMES_HINT, Converted, Request, label_names
from edgeannot_tools.convert.torch_state import read_state
from edgeannot_tools.graph.graph import Graph
from edgeannot_tools.graph.writer import Activation, Net

__all__ = ["EMBEDDING", "INPUT_SIZE", "LOGITS", "convert_torch", "efficientnet_lite0"]

INPUT_SIZE = 224
BATCH_NORM_EPSILON = 1e-3
LOGITS, EMBEDDING = "logits", "embedding"

State = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Stage:
    """Blocks of one kind; the first of them has the stride."""

    blocks: int
    stride: int


STAGES = (Stage(1, 1), Stage(2, 2), Stage(2, 2), Stage(3, 2), Stage(3, 1), Stage(4, 2), Stage(1, 1))


def efficientnet_lite0(state: State) -> Graph:
    """The float network: (1, 224, 224, 3) RGB in, (byte - 127) / 128; out 1000 logits and the 1280 numbers they are made of.

    The last layer is written as a 1x1 convolution, which int8 kernels give one scale a class, where a dense layer has one in all.
    Raises InputError where a tensor is missing or has another shape.
    """
    net = Net()
    x = net.input("images", (1, INPUT_SIZE, INPUT_SIZE, 3))
    x = _conv(net, state, "stem", x, "_conv_stem", "_bn0", stride=2)
    number = 0
    for stage in STAGES:
        for repeat in range(stage.blocks):
            x = _block(net, state, number, x, stage.stride if repeat == 0 else 1)
            number += 1
    x = _conv(net, state, "top", x, "_conv_head", "_bn1")
    embedding = net.mean_hw(EMBEDDING, x)
    weights, bias = _tensor(state, "_fc.weight"), _tensor(state, "_fc.bias")
    logits = net.conv(LOGITS, embedding, weights[:, :, None, None], bias)
    return net.outputs([logits, embedding])


def _block(net: Net, state: State, number: int, x: int, stride: int) -> int:
    """Widen, filter each channel, narrow; added to the input where both have one shape."""
    prefix, name = f"_blocks.{number}.", f"block{number}"
    y = x
    if f"{prefix}_expand_conv.weight" in state:
        y = _conv(net, state, f"{name}_expand", y, f"{prefix}_expand_conv", f"{prefix}_bn0")
    channels = net.shape(y)[3]
    y = _conv(net, state, f"{name}_depthwise", y, f"{prefix}_depthwise_conv", f"{prefix}_bn1", stride=stride, groups=channels)
    y = _conv(net, state, f"{name}_project", y, f"{prefix}_project_conv", f"{prefix}_bn2", activation="linear")
    return net.add(f"{name}_add", y, x) if net.shape(y) == net.shape(x) else y


def _conv(
    net: Net,
    state: State,
    name: str,
    x: int,
    conv: str,
    norm: str,
    *,
    stride: int = 1,
    groups: int = 1,
    activation: Activation = "relu6",
) -> int:
    """A convolution with its batch normalisation folded in."""
    weights = _tensor(state, f"{conv}.weight").astype(np.float64)
    scale, shift, mean, variance = (
        _tensor(state, f"{norm}.{part}").astype(np.float64) for part in ("weight", "bias", "running_mean", "running_var")
    )
    factor = scale / np.sqrt(variance + BATCH_NORM_EPSILON)
    weights = weights * factor[:, None, None, None]
    bias = shift - mean * factor
    return net.conv(name, x, weights.astype(np.float32), bias.astype(np.float32), stride=stride, groups=groups, activation=activation)


def _tensor(state: State, name: str) -> NDArray[Any]:
    if name not in state:
        raise InputError(f"the state has no tensor {name}; is it an EfficientNet-Lite0?")
    return state[name]


MEAN, STD = 127.0, 128.0
"""EfficientNet-Lite's preprocessing, in bytes."""


def convert_torch(sources: Sequence[Path], request: Request) -> Converted:
    """The classifier of a state file. Raises MissingError, or InputError for what is no such state."""
    (path,) = sources
    if request.size_wh not in (None, (INPUT_SIZE, INPUT_SIZE)):
        raise InputError(f"--size: an EfficientNet-Lite0 takes {INPUT_SIZE}x{INPUT_SIZE} only")
    try:
        graph = efficientnet_lite0(read_state(path))
    except InputError as exc:
        advice = "only states of EfficientNet-Lite0 are read directly; export another network to ONNX and convert that"
        raise InputError(f"{str(exc).rstrip('.')} ({advice})") from exc
    labels = request.hints.labels
    classes = graph.shape(graph.find(LOGITS))[-1]
    card = {
        "task": "classify",
        "family": "mobilenet",
        "input": {"width": INPUT_SIZE, "height": INPUT_SIZE, "resize": "stretch", "color": "RGB", "mean": [MEAN], "std": [STD]},
        "head": {"kind": "classify", "output": LOGITS, "activation": "softmax"},
        "defaults": {"min_score": 0.1},
        "provenance": {"source_sha256": sha256_of(path)},
    }
    names = () if labels is None else label_names(labels, classes)
    return Converted(
        graph,
        source=path.name,
        card=card,
        names=names,
        evidence=("converted from a PyTorch state whose tensors have the names and shapes of EfficientNet-Lite0",),
        notes=() if names else (CLASS_NAMES_HINT,),
    )
