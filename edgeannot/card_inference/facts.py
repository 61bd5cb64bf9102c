"""The facts of a graph that every rule needs: its picture input, its outputs, and why it could not run at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgeannot.base.errors import ModelError
from edgeannot.tflite.metadata import ModelMetadata, read_metadata
from edgeannot.tflite.schema import TYPE_BITS, Operator, SubGraph, Tensor, TFLiteModel
from edgeannot.tflite.trace import makers
from edgeannot.vision.cards import MAX_SIDE
from edgeannot.vision.data import TensorRef

__all__ = ["POSTPROCESS", "Facts", "Out", "Picture", "read_facts"]

POSTPROCESS = "TFLite_Detection_PostProcess"
RUNNABLE_CUSTOM = frozenset((POSTPROCESS,))
"""Custom operators that both runtimes bring along."""
KNOWN_CUSTOM = {
    "edgetpu-custom-op": "it is compiled for the Edge TPU and runs on nothing else; add the .tflite from before the Edge TPU compiler",
    "ethos-u": "it is compiled for an Arm Ethos-U NPU (Vela); add the .tflite from before Vela",
    "vsi-npu": "it is compiled for a VeriSilicon NPU; add the .tflite from before the NPU compiler",
    "neutronGraph": "it is compiled for NXP's Neutron NPU; add the .tflite from before the NPU compiler",
    "DELEGATE": "it was saved with a delegate's nodes inside; add the file from before",
}
NUMBERS = frozenset(("float32", "uint8", "int8", "int16"))


@dataclass(frozen=True, slots=True)
class Picture:
    """The input tensor as a picture."""

    tensor: Tensor
    layout: Literal["NHWC", "NCHW"]
    width: int
    height: int
    channels: Literal[1, 3]

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.width, self.height


@dataclass(frozen=True, slots=True)
class Out:
    """An output of the graph. `shape` is without the batch axis."""

    ref: TensorRef
    """How the card names it: by name, or by position where names repeat."""
    position: int
    tensor: Tensor
    shape: tuple[int, ...]
    makers: tuple[Operator, ...]
    """The operators that made its numbers."""

    @property
    def made_by(self) -> str:
        """The name of the operator that made its numbers, of one of them where parts are joined; "" for none."""
        return (self.makers[0].custom_name or self.makers[0].name) if self.makers else ""

    @property
    def step(self) -> float:
        """The smallest difference of its numbers; 0 for floats."""
        return self.tensor.scale if self.tensor.quantized else 0.0

    def __str__(self) -> str:
        return f"output {self.position} {self.tensor.name!r} {self.tensor.shape} {self.tensor.dtype}"


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the file says by itself."""

    path: str
    model: TFLiteModel
    metadata: ModelMetadata
    picture: Picture
    outputs: tuple[Out, ...]

    @property
    def graph(self) -> SubGraph:
        """The graph that runs."""
        return self.model.graph

    def describe_outputs(self) -> str:
        """Return all outputs in one line, for messages."""
        return ", ".join(str(out) for out in self.outputs)

    def cells(self, strides: tuple[int, ...]) -> int:
        """Return how many cells the maps of these strides have together, for the model's input."""
        return sum(-(-self.picture.height // s) * -(-self.picture.width // s) for s in strides)


def read_facts(model: TFLiteModel, path: str) -> Facts:
    """Return the facts of a file. Raises ModelError with the reason when it cannot run here or has no picture input."""
    _refuse_operators(model, path)
    names = [tensor.name for tensor in model.outputs]
    outputs = tuple(
        Out(
            ref=tensor.name if tensor.name and names.count(tensor.name) == 1 else position,
            position=position,
            tensor=tensor,
            shape=tensor.shape[1:] if tensor.shape[:1] == (1,) else tensor.shape,
            makers=tuple(makers(model.graph, tensor.index)),
        )
        for position, tensor in enumerate(model.outputs)
    )
    if not outputs:
        raise ModelError(f"model {path}: the graph has no output")
    for out in outputs:
        if out.tensor.dtype not in TYPE_BITS or out.tensor.dtype.startswith("complex"):
            raise ModelError(f"model {path}: {out} holds no plain numbers, so it is neither boxes nor classes")
    return Facts(path, model, read_metadata(model), _picture(model, path), outputs)


def _refuse_operators(model: TFLiteModel, path: str) -> None:
    for graph in model.subgraphs:
        for operator in graph.operators:
            name = operator.custom_name
            if operator.name == "DELEGATE":
                raise ModelError(f"model {path}: {KNOWN_CUSTOM['DELEGATE']}")
            if operator.name != "CUSTOM" or name in RUNNABLE_CUSTOM:
                continue
            if name in KNOWN_CUSTOM:
                raise ModelError(f"model {path}: cannot run on a CPU: custom operator {name!r}: {KNOWN_CUSTOM[name]}")
            if name.startswith("Flex"):
                raise ModelError(
                    f"model {path}: needs TensorFlow's own operator {name[4:]!r} (Flex / Select TF ops), which the small runtime "
                    "does not have; convert it again with TFLite builtin operators only (for a detector: without NMS in the graph)"
                )
            raise ModelError(
                f"model {path}: cannot run here: operator {operator.index} is the custom operator {name!r}, "
                "which no runtime used here knows"
            )


def _picture(model: TFLiteModel, path: str) -> Picture:
    inputs = model.inputs
    if len(inputs) != 1:
        found = ", ".join(f"{t.name!r} {t.shape}" for t in inputs) or "none"
        raise ModelError(f"model {path}: wanted one input, a picture; found {len(inputs)}: {found}")
    tensor = inputs[0]
    shape, signature = tensor.shape, tensor.shape_signature or tensor.shape
    what = f"input {tensor.name!r} has shape {tuple(signature)} and type {tensor.dtype}"
    if len(shape) != 4 or tensor.dtype not in NUMBERS:
        raise ModelError(f"model {path}: wanted a picture (1, height, width, channels) of float32, uint8, int8 or int16 as input; {what}")
    layout: Literal["NHWC", "NCHW"]
    if shape[3] in {1, 3}:
        layout, height, width, channels = "NHWC", shape[1], shape[2], shape[3]
    elif shape[1] in {1, 3}:
        layout, height, width, channels = "NCHW", shape[2], shape[3], shape[1]
    else:
        raise ModelError(f"model {path}: wanted a picture of 1 or 3 channels; {what}")
    if shape[0] != 1:
        raise ModelError(f"model {path}: wanted a batch of one picture; {what}; export it with batch 1")
    if min(height, width) <= 1:  # a converter writes 1 where the size was left open
        raise ModelError(f"model {path}: the input size is not fixed in the file; {what}; export it with a fixed height and width")
    if max(height, width) > MAX_SIDE:
        raise ModelError(f"model {path}: wanted a picture of at most {MAX_SIDE} pixels a side as input; {what}")
    if len(tensor.scales) > 1:
        raise ModelError(f"model {path}: the input is quantized per channel, which the runtime cannot be fed; quantize it again")
    return Picture(tensor, layout, width, height, 3 if channels == 3 else 1)
