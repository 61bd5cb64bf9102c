"""Embedding extractors: a vector that describes the picture, for a classifier trained on top of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from edgeannot.vision.data import Detections, FloatArray, Outputs, TensorRef, TensorSpec
from edgeannot.vision.heads._tensors import OneOutput, inner_shape, output_spec, shape_error

__all__ = ["Embed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Embed(OneOutput):
    """One output with D numbers, (1, D) or (1, 1, 1, D); it finds nothing by itself."""

    suppress: ClassVar[bool] = False
    """Never: there are no boxes."""

    kind: Literal["embed"] = "embed"
    output: TensorRef = 0

    def check(self, outputs: tuple[TensorSpec, ...], input_wh: tuple[int, int]) -> int | None:  # noqa: ARG002 - the Head protocol
        """Return None, as a vector has no classes. Raises CardError."""
        spec = output_spec(outputs, self.output, "output")
        if len(inner_shape(spec.shape, 1)) != 1:
            raise shape_error(spec, "output", "(1, D) or (1, 1, 1, D)")
        return None

    def decode(self, outputs: Outputs, input_wh: tuple[int, int], min_score: float) -> Detections:  # noqa: ARG002 - the Head protocol
        """Return no object."""
        return Detections.empty()

    def vector(self, outputs: Outputs) -> FloatArray:
        """Return the (D,) real values."""
        return outputs[self.output].real().reshape(-1)
