"""Runs a model on a few pictures and asks its numbers what they are: ranges, changes, and whether boxes follow the grid of cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeannot.base.errors import ModelError
from edgeannot.base.runtimes import Runtime
from edgeannot.card_inference.facts import Facts, Picture
from edgeannot.trial.loads import sorts_results, try_model
from edgeannot.vision.data import FloatArray, Outputs, RawTensor, TensorSpec, UInt8Array

__all__ = [
    "FOLLOWS",
    "GridFit",
    "SampleRun",
    "cell_centres",
    "fitted",
    "grid_fit",
    "invented_pictures",
    "run_samples",
    "whole_numbers",
]


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
    stored: NDArray[np.generic]
    if tensor.dtype == "float32":
        stored = real.astype(np.float32)
    else:
        limits = np.iinfo(tensor.dtype)
        steps = np.round(real / tensor.scale) + tensor.zero_point if tensor.quantized else np.round(real)
        stored = np.clip(steps, limits.min, limits.max).astype(tensor.dtype)
    if picture.layout == "NCHW":
        stored = stored.transpose(2, 0, 1)
    return np.ascontiguousarray(stored[None])


def invented_pictures(picture: Picture, count: int = 2) -> list[UInt8Array]:
    """Return pictures with smooth colours, hard edges and a little noise, the same ones each time: enough to move every number."""
    rng = np.random.default_rng(20)
    rows, columns = np.mgrid[0 : picture.height, 0 : picture.width].astype(np.float64)
    made = []
    for i in range(count):
        image = np.zeros((picture.height, picture.width, picture.channels))
        for channel in range(picture.channels):
            fx, fy, phase = rng.uniform(0.5, 3, 3)
            image[..., channel] = 128 + 90 * np.sin(fx * 6 * columns / picture.width + fy * 6 * rows / picture.height + phase)
        for _ in range(6 + i):
            x, y = rng.integers(0, max(picture.width * 3 // 4, 1)), rng.integers(0, max(picture.height * 3 // 4, 1))
            w, h = (
                rng.integers(picture.width // 8 + 1, picture.width // 2 + 2),
                rng.integers(picture.height // 8 + 1, picture.height // 2 + 2),
            )
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
