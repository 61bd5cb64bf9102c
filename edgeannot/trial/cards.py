"""Tries the model of a card, on pictures as the card feeds them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgeannot.base.errors import ModelError
from edgeannot.base.foreign import printable
from edgeannot.base.places import bundled_folder
from edgeannot.base.runtimes import Runtime
from edgeannot.tflite.file import at_size, parse_tflite, read_tflite
from edgeannot.tflite.schema import TFLiteModel
from edgeannot.trial.loads import sorts_results, try_model
from edgeannot.vision.cards import ModelCard
from edgeannot.vision.data import TensorSpec, UInt8Array
from edgeannot.vision.decode import sample_photo
from edgeannot.vision.pipeline import check_input
from edgeannot.vision.preprocess import ToTensor

__all__ = ["prove", "prove_foreign"]

_GREY = 114
"""A byte that shows nothing."""
_DTYPES = ("float32", "uint8", "int8", "int16")


def prove(card: ModelCard, runtime: Runtime = "auto", *, stopped: Callable[[], bool] = lambda: False) -> None:
    """Try the card's model in a process of its own, at the card's input size. Raises CardError, and what `try_model` raises."""
    card.verify_file()
    model = read_tflite(card.model_path)
    derived = "@" in card.name
    try:
        raw = at_size(model.raw, card.input.width) if derived else model.raw
    except ModelError as exc:
        raise ModelError(f"{card.model_path}: {exc}") from exc
    graph = parse_tflite(raw, str(card.model_path)) if derived else model
    spec = _input_spec(graph, card)
    check_input(card, spec)
    facts = card.input
    to_tensor = ToTensor(spec, card.input_wh, facts.resize, facts.pad, facts.color, facts.layout, mean=facts.mean, std=facts.std)
    inputs = [to_tensor(picture)[0] for picture in _pictures()]
    name = f"model {card.model_path}"
    try_model(name, raw if derived else card.model_path, inputs, runtime, reorders=sorts_results(graph.graph), stopped=stopped)


def prove_foreign(card: ModelCard, runtime: Runtime = "auto") -> None:
    """As `prove`, but for a model that ships with this program, which needs no trial."""
    if card.folder != bundled_folder():
        prove(card, runtime)


def _input_spec(graph: TFLiteModel, card: ModelCard) -> TensorSpec:
    """Return the input as the file states it. Raises ModelError where it is no picture."""
    if len(graph.inputs) != 1 or graph.inputs[0].dtype not in _DTYPES:
        found = ", ".join(f"{tensor.name!r} {tensor.shape} {tensor.dtype}" for tensor in graph.inputs) or "none"
        raise ModelError(f"{card.model_path}: wanted one input, a picture of {', '.join(_DTYPES)}; found {printable(found)}")
    tensor = graph.inputs[0]
    scale, zero_point = (tensor.scale, tensor.zero_point) if tensor.quantized else (0.0, 0)
    return TensorSpec(tensor.name, 0, tensor.shape, np.dtype(tensor.dtype), scale, zero_point)


def _pictures() -> list[UInt8Array]:
    """Nothing to see, something to see, and noise."""
    noise = np.random.default_rng(20).integers(0, 256, (160, 160, 3), np.uint8)
    return [np.full((160, 160, 3), _GREY, np.uint8), sample_photo(), noise]
