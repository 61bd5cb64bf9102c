"""Classifiers: one score a class for the whole picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from edgeannot.base.errors import CardError
from edgeannot.vision.data import Detections, Outputs, TensorRef, TensorSpec
from edgeannot.vision.heads._scores import activate, softmax, usable_rows
from edgeannot.vision.heads._tensors import OneOutput, check_score_step, inner_shape, output_spec, shape_error

__all__ = ["Classify"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Classify(OneOutput):
    """One output with C numbers, (1, C) or (1, 1, 1, C). Each class found is a detection whose box is the whole input."""

    suppress: ClassVar[bool] = False
    """Never: all boxes are the whole picture."""

    kind: Literal["classify"] = "classify"
    output: TensorRef = 0
    activation: Literal["none", "softmax", "sigmoid"] = "none"
    """What makes probabilities of the stored numbers; none: the graph has done it."""
    top_k: int = 5
    """At most so many classes, the best ones."""

    def check(self, outputs: tuple[TensorSpec, ...], input_wh: tuple[int, int]) -> int | None:  # noqa: ARG002 - the Head protocol
        """Return the number of classes. Raises CardError."""
        spec = output_spec(outputs, self.output, "output")
        shape = inner_shape(spec.shape, 1)
        if len(shape) != 1:
            raise shape_error(spec, "output", "(1, C) or (1, 1, 1, C)")
        if self.activation == "none":
            check_score_step(spec, "output")
        if self.top_k < 1:
            raise CardError(f"head.top_k: wanted at least 1, found {self.top_k}")
        return shape[0]

    def decode(self, outputs: Outputs, input_wh: tuple[int, int], min_score: float) -> Detections:
        """Return the best `top_k` classes that reach `min_score`, best first; of equal scores the lower class id first."""
        numbers = outputs[self.output].real().reshape(-1)
        if not usable_rows(numbers[None]).all():
            return Detections.empty()
        scores = softmax(numbers) if self.activation == "softmax" else activate(numbers, self.activation)
        best = np.argsort(-scores, kind="stable")[: self.top_k].astype(np.int64)
        best = best[scores[best] >= np.float32(min_score)]
        boxes = np.tile(np.array((0, 0, *input_wh), np.float32), (len(best), 1))
        return Detections(boxes, np.minimum(scores[best], np.float32(1)), best)
