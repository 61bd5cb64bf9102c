"""From a picture to the model's input tensor: resize, colour order, numbers; and the Fit that maps boxes back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeannot.base.errors import CardError
from edgeannot.vision.data import Fit, TensorSpec, UInt8Array
from edgeannot.vision.geometry import Resize, place

__all__ = ["ToTensor", "byte_table"]

_NumbersInto = Callable[[NDArray[Any], NDArray[Any]], object]
"""What writes the numbers of pixels (H, W, C) into a part of the tensor of that shape, which for bytes may be the pixels themselves."""
_CONVERSION = {"RGB": cv2.COLOR_BGR2RGB, "GRAY": cv2.COLOR_BGR2GRAY}


def byte_table(mean: tuple[float, ...], std: tuple[float, ...], spec: TensorSpec) -> NDArray[Any]:
    """Return what each byte becomes in the input tensor: (256, 1 or C) of the tensor's type, `quantize((byte - mean) / std)`.

    All arithmetic of preprocessing is in this table, so it is exact and costs one look-up a byte, or less (`_quicker`). Rounding is
    half away from zero and saturating, as in the runtime's own QUANTIZE.
    """
    real: NDArray[Any] = (np.arange(256, dtype=np.float64)[:, None] - np.array(mean)) / np.array(std)
    if spec.dtype.kind == "f":
        return real.astype(spec.dtype)
    if spec.dtype == np.uint8 and not spec.quantized:
        plain: NDArray[Any] = np.clip(np.rint(real), 0, 255).astype(np.uint8)
        return plain  # the graph begins with a CAST: it wants the bytes themselves
    if not spec.quantized:
        raise CardError(
            f"input {spec.name!r} is {spec.dtype} without a scale: the file says nothing of what its numbers mean; quantize it again"
        )
    # float32 division like the runtime's; the sum of a half goes away from zero.
    steps = (real.astype(np.float32) / np.float32(spec.scale)).astype(np.float64)
    stored: NDArray[Any] = np.trunc(steps + np.copysign(0.5, steps)) + spec.zero_point
    limits = np.iinfo(spec.dtype)
    clipped: NDArray[Any] = np.clip(stored, limits.min, limits.max).astype(spec.dtype)
    return clipped


@dataclass(frozen=True, slots=True)
class ToTensor:
    """A function from pictures to input tensors, with the byte table made once.

    Call: (H, W, 3) uint8 BGR -> (tensor of exactly spec.shape and type, Fit). The picture is not written to.
    """

    spec: TensorSpec
    size_wh: tuple[int, int]
    resize: Resize = "stretch"
    pad: int = 114
    color: Literal["RGB", "BGR", "GRAY"] = "RGB"
    layout: Literal["NHWC", "NCHW"] = "NHWC"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (255.0,)
    _numbers_into: _NumbersInto = field(init=False, compare=False)
    _pad_numbers: NDArray[Any] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        table = byte_table(self.mean, self.std, self.spec)
        object.__setattr__(self, "_numbers_into", _quicker(table, self.mean, self.std) or _look_up(table[None]))
        object.__setattr__(self, "_pad_numbers", table[min(max(self.pad, 0), 255)])

    def __call__(self, image_bgr: UInt8Array) -> tuple[NDArray[Any], Fit]:
        """Return the input tensor for a picture, and how the picture was placed on it."""
        height, width = image_bgr.shape[:2]
        fit, inner_wh = place((width, height), self.size_wh, self.resize)
        cut_x, cut_y = fit.cut_xy
        seen = image_bgr[cut_y : height - cut_y, cut_x : width - cut_x]
        # Bilinear, however far the picture shrinks: what the exporters of all these families evaluate their models with.
        as_large = inner_wh == (seen.shape[1], seen.shape[0])
        (left, top), (inner_w, inner_h) = fit.pad_xy, inner_wh
        numbers: NDArray[Any] = np.empty((*self.size_wh[::-1], 1 if self.color == "GRAY" else 3), self.spec.dtype)
        inner = numbers[top : top + inner_h, left : left + inner_w]
        if inner_wh != self.size_wh:
            numbers[:top], numbers[top + inner_h :] = self._pad_numbers, self._pad_numbers
            inner_rows = numbers[top : top + inner_h]
            inner_rows[:, :left], inner_rows[:, left + inner_w :] = self._pad_numbers, self._pad_numbers
        # Bytes are put where the tensor has them, and become others there.
        place_for_bytes = inner.view(np.uint8) if self.spec.dtype.itemsize == 1 else None
        pixels: NDArray[Any] = seen
        if not as_large:
            convert = self.color in _CONVERSION
            pixels = cv2.resize(seen, inner_wh, dst=None if convert else place_for_bytes, interpolation=cv2.INTER_LINEAR)
        if self.color in _CONVERSION:
            pixels = cv2.cvtColor(pixels, _CONVERSION[self.color], dst=place_for_bytes)
        self._numbers_into(pixels.reshape(inner.shape), inner)
        if self.layout == "NCHW":
            numbers = np.ascontiguousarray(numbers.transpose(2, 0, 1))
        return numbers.reshape(self.spec.shape), fit


def _quicker(table: NDArray[Any], mean: tuple[float, ...], std: tuple[float, ...]) -> _NumbersInto | None:
    """Return arithmetic that gives the table's numbers to the last bit, as a processor does it on many bytes at a time; None: none known.

    Of one byte: one number added to it, modulo 256. Of floats: the subtraction and division themselves.
    """
    every = np.arange(256, dtype=np.uint8)
    if table.shape[1] > 1:
        return None
    if table.itemsize == 1:
        first = table.view(np.uint8)[0, 0]
        if (every + first != table.view(np.uint8)[:, 0]).any():
            return None
        return lambda pixels, numbers: np.add(pixels, first, out=numbers.view(np.uint8))
    less, by = np.float32(mean[0]), np.float32(std[0])

    def compute(pixels: NDArray[Any], numbers: NDArray[Any]) -> None:
        # The type is named: numpy before 2 would calculate with halves.
        if less:
            np.subtract(pixels, less, out=numbers, dtype=np.float32)
        else:
            np.copyto(numbers, pixels)
        if by != 1:
            numbers /= by

    if table.dtype != np.float32:
        return None
    compute(every, computed := np.empty(256, np.float32))
    return compute if (computed == table[:, 0]).all() else None


def _look_up(table: NDArray[Any]) -> _NumbersInto:
    def look_up(pixels: NDArray[Any], numbers: NDArray[Any]) -> None:
        channels = pixels.shape[2]
        if table.shape[2] not in (1, channels):
            raise CardError(f"preprocessing has {table.shape[2]} numbers a channel set, the picture has {channels} channels")
        numbers[:] = cv2.LUT(pixels, table).reshape(pixels.shape)

    return look_up
