"""`edgeannot convert` for TensorFlow.js graph models: read and built without TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgeannot_tools.convert.files import Converted, Request, sized, with_card
from edgeannot_tools.convert.tfjs.files import read_model
from edgeannot_tools.convert.tfjs.network import build

__all__ = ["MODEL_FILE", "convert_tfjs"]

MODEL_FILE = "model.json"
"""What the converter of TensorFlow.js calls a model."""


def convert_tfjs(sources: Sequence[Path], request: Request) -> Converted:
    """Return the network of a `model.json` (or its folder) and of the weight files beside it.

    Raises MissingError, InputError for damaged or foreign files, and ModelError for what TFLite cannot do, each naming the node.
    """
    (path,) = sources
    path = path / MODEL_FILE if path.is_dir() else path
    network = build(read_model(path), request.outputs, request.size_wh)
    notes = sized(network.graph, request.size_wh)
    hints = request.hints
    if network.input_range is not None:
        notes = (*notes, "the picture's scaling was taken out of the graph; the card says it")
        if hints.input_range is None:
            hints = replace(hints, input_range=network.input_range)
    return with_card(network.graph, path, replace(request, hints=hints, outputs=())).noting(*notes)
