"""The facts that every rule needs: of the graph, its picture input and outputs, and why it cannot run; of runs on pictures, its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgeannot.base.errors import ModelError
from edgeannot.base.runtimes import Runtime
from edgeannot.tflite.metadata import ModelMetadata, read_metadata
from edgeannot.tflite.schema import TYPE_BITS, Operator, SubGraph, Tensor, TFLiteModel
from edgeannot.tflite.trace import makers
from edgeannot.trial.loads import sorts_results, try_model
from edgeannot.vision.cards import MAX_SIDE
from edgeannot.vision.data import FloatArray, Outputs, RawTensor, TensorRef, TensorSpec, UInt8Array

__all__ = [
    "FOLLOWS",
    "POSTPROCESS",
    "Facts",
    "GridFit",
    "Out",
    "Picture",
    "SampleRun",
    "cell_centres",
    "fitted",
    "grid_fit",
    "invented_pictures",
    "read_facts",
    "run_samples",
    "whole_numbers",
]

POSTPROCESS = "TFLite_Detection_PostProcess"
"""The only custom operator that both runtimes bring along."""
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
            if operator.name != "CUSTOM" or name == POSTPROCESS:
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


@dataclass(frozen=True, slots=True)
class SampleRun:
    """What the outputs held: `values[picture][output]`, real numbers in the shapes that the run gave."""

    values: tuple[tuple[FloatArray, ...], ...]
    input: TensorSpec
    """What the runtime says of the input."""
    specs: tuple[TensorSpec, ...]
    """What it says of the outputs."""
    outputs: Outputs
    """The last run's outputs as they are stored."""

    def of(self, position: int) -> FloatArray:
        """Return all numbers of an output over the pictures, (pictures, *shape)."""
        return np.stack([run[position] for run in self.values])

    def shape(self, position: int) -> tuple[int, ...]:
        """Return an output's shape as the run gave it (the file of an SSD's post-process operator often states none)."""
        return tuple(int(n) for n in self.values[0][position].shape)

    def batched(self, position: int) -> FloatArray:
        """As `of`, with the batch's axis that some converters leave out of the shape."""
        numbers = self.of(position)
        return numbers[:, None] if numbers.ndim == 3 and numbers.shape[1] != 1 else numbers

    def constant(self, position: int) -> bool:
        """Tell whether an output is the same for different pictures, as anchors are."""
        numbers = self.of(position)
        return bool(np.all(numbers == numbers[0]))

    def span(self, position: int) -> tuple[float, float]:
        """Return smallest and largest number of an output."""
        numbers = self.of(position)
        return (float(numbers.min()), float(numbers.max())) if numbers.size else (0.0, 0.0)


def run_samples(
    facts: Facts, pictures: Sequence[UInt8Array], mean: Sequence[float], std: Sequence[float], runtime: Runtime = "auto"
) -> SampleRun:
    """Run the model on pictures of exactly its input size, (H, W, channels) bytes.

    mean, std: `real = (byte - mean) / std`. It is loaded several times, in a process of its own. Raises ModelError when the runtime refuses
    the model or dies of it, when a run fails, or when the numbers are not finite or not the same each time.
    """
    inputs = [_tensor(facts.picture, picture, mean, std) for picture in pictures]
    ran = try_model(f"model {facts.path}", facts.model.raw, inputs, runtime, reorders=sorts_results(facts.graph))
    outputs = [[RawTensor(values, spec) for values, spec in zip(run, ran.outputs, strict=True)] for run in ran.values]
    values = [tuple(output.real() for output in run) for run in outputs]
    for position in range(len(ran.outputs)):
        shapes = sorted({run[position].shape for run in values})
        if len(shapes) > 1:
            raise ModelError(
                f"model {facts.path}: {facts.outputs[position]} changes its shape from picture to picture ({shapes[0]}, {shapes[-1]}); "
                "export it with a fixed number of results, or without suppression in the graph"
            )
        if 0 in shapes[0]:
            how = "its classes" if 0 in shapes[0][2:] else "a fixed number of results, or without suppression in the graph"
            says = f"wanted boxes or scores, found {facts.outputs[position]} without any number"
            raise ModelError(f"model {facts.path}: {says}; export it again with {how}")
    return SampleRun(tuple(values), ran.input, ran.outputs, Outputs(outputs[-1]))


def _tensor(picture: Picture, pixels: UInt8Array, mean: Sequence[float], std: Sequence[float]) -> NDArray[np.generic]:
    real = (pixels.astype(np.float32) - np.array(mean, np.float32)) / np.array(std, np.float32)
    tensor = picture.tensor
    stored: NDArray[np.generic] = real
    if tensor.dtype != "float32":
        limits = np.iinfo(tensor.dtype)
        steps = np.round(real / tensor.scale) + tensor.zero_point if tensor.quantized else np.round(real)
        stored = np.clip(steps, limits.min, limits.max).astype(tensor.dtype)
    if picture.layout == "NCHW":
        stored = stored.transpose(2, 0, 1)
    return np.ascontiguousarray(stored[None])


def invented_pictures(picture: Picture) -> list[UInt8Array]:
    """Return two pictures with smooth colours, hard edges and a little noise, the same ones each time: enough to move every number."""
    rng = np.random.default_rng(20)
    rows, columns = np.mgrid[0 : picture.height, 0 : picture.width].astype(np.float64)
    made = []
    for i in range(2):
        image = np.zeros((picture.height, picture.width, picture.channels))
        for channel in range(picture.channels):
            fx, fy, phase = rng.uniform(0.5, 3, 3)
            image[..., channel] = 128 + 90 * np.sin(fx * 6 * columns / picture.width + fy * 6 * rows / picture.height + phase)
        for _ in range(6 + i):
            x, y = (rng.integers(0, max(side * 3 // 4, 1)) for side in picture.size_wh)
            w, h = (rng.integers(side // 8 + 1, side // 2 + 2) for side in picture.size_wh)
            image[y : y + h, x : x + w] = rng.integers(0, 256, picture.channels)
        image += rng.normal(0, 6, image.shape)
        made.append(np.clip(image, 0, 255).astype(np.uint8))
    return made


def fitted(photo_bgr: UInt8Array, picture: Picture) -> UInt8Array:
    """Return a photo at the input's size, R, G, B or gray: nearest pixels, which is good enough for a sample run."""
    rows = np.arange(picture.height) * photo_bgr.shape[0] // picture.height
    columns = np.arange(picture.width) * photo_bgr.shape[1] // picture.width
    pixels = photo_bgr[rows[:, None], columns[None]]
    fitting: UInt8Array = pixels.mean(axis=2, keepdims=True).astype(np.uint8) if picture.channels == 1 else pixels[..., ::-1]
    return fitting


FOLLOWS = 0.75
"""A decoded centre correlates with its cell's at least so much (seen: 0.98 at 224 px in int8, 0.998 at 640); a raw number hardly."""


def cell_centres(picture: Picture, strides: Sequence[int], anchors: int = 1) -> FloatArray:
    """Return (N, 2) x and y of cell centres in input pixels, row by row, stride after stride, each repeated for its anchors."""
    layers = []
    for stride in strides:
        rows, columns = -(-picture.height // stride), -(-picture.width // stride)
        y, x = np.mgrid[0:rows, 0:columns]
        layers.append(np.repeat(np.stack([x, y], -1).reshape(-1, 2), anchors, axis=0) * float(stride) + stride / 2)
    return np.concatenate(layers).astype(np.float32)


@dataclass(frozen=True, slots=True)
class GridFit:
    """How a candidate's numbers follow its cell: correlation and slope (1: pixels; 1 / input size: shares of the input)."""

    correlation: float
    slope: float


def grid_fit(numbers: NDArray[np.float32], centres: NDArray[np.float32]) -> GridFit:
    """Fit `numbers` (pictures, N) to cell centres (N,) in input pixels."""
    spread = centres.std()
    moved = numbers.astype(np.float64)
    if spread == 0 or moved.std() == 0:
        return GridFit(0.0, 0.0)
    x = np.broadcast_to(centres, moved.shape).astype(np.float64)
    covariance = ((x - x.mean()) * (moved - moved.mean())).mean()
    return GridFit(float(covariance / (x.std() * moved.std())), float(covariance / x.var()))


def whole_numbers(ids: NDArray[np.float32], step: float = 0.0) -> bool:
    """Tell whether numbers may be class ids."""
    return bool(np.abs(ids - np.round(ids)).max(initial=0) <= max(1e-3, step))
