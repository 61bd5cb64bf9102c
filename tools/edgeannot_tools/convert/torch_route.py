"""`edgeannot convert` for PyTorch: the state of an EfficientNet-Lite0, read without PyTorch. Other networks go through ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgeannot.base.errors import InputError
from edgeannot_tools.convert.conversion import CLASS_NAMES_HINT, Converted, Request, label_names, sha256_of
from edgeannot_tools.convert.efficientnet import INPUT_SIZE, LOGITS, efficientnet_lite0
from edgeannot_tools.convert.torch_state import read_state

__all__ = ["convert_torch"]

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
