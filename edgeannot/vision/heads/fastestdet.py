"""FastestDet: one grid without anchors, whose objectness comes before the box."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from edgeannot.base.errors import CardError
from edgeannot.vision.data import Detections, Outputs, TensorRef, TensorSpec
from edgeannot.vision.geometry import cxcywh_to_xyxy
from edgeannot.vision.heads._boxes import candidates
from edgeannot.vision.heads._grids import Layout, check_cells, grid_wh, locate, table_of
from edgeannot.vision.heads._scores import best_columns, passing_rows, sigmoid, softmax, stored_threshold, take_rows
from edgeannot.vision.heads._tensors import OneOutput, check_score_step, output_spec, shape_error

__all__ = ["FastestDet"]

_MOST = 10.0
"""A larger power leaves no score but 0 and 1."""
_ROUNDING = 1 - 1e-5
"""Powers in float32 end a few millionths beside those in float64."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FastestDet(OneOutput):
    """Per cell: objectness, 4 box numbers, C class scores; score = objectness ** 0.6 * class ** 0.4.

    centre = (tanh(t) + cell) / cells of the grid, size = sigmoid(t), both in shares of the input.
    https://github.com/dog-qiuqiu/FastestDet, its script for TFLite; other scripts there multiply the scores as they are (powers of 1).
    """

    suppress: ClassVar[bool] = True
    """Always: neighbouring cells find the same object."""

    kind: Literal["fastestdet"] = "fastestdet"
    output: TensorRef = 0
    """(1, h, w, 5 + C) or (1, n, 5 + C), or with the channels first."""
    stride: int = 16
    layout: Layout = "channels-last"
    activation: Literal["none", "sigmoid"] = "none"
    """What is still to be done to the objectness; none: the graph has done it, as FastestDet's own export does."""
    class_activation: Literal["none", "softmax"] = "none"
    """Likewise for the class scores of a cell."""
    objectness_power: float = 0.6
    class_power: float = 0.4

    def check(self, outputs: tuple[TensorSpec, ...], input_wh: tuple[int, int]) -> int | None:
        """Return the number of classes. Raises CardError."""
        if self.stride < 1 or not (0 < self.objectness_power <= _MOST and 0 < self.class_power <= _MOST):
            raise CardError(
                f"head: wanted a stride of at least 1 and powers over 0 and up to {_MOST:g}, "
                f"found {self.stride}, {self.objectness_power} and {self.class_power}"
            )
        spec = output_spec(outputs, self.output, "output")
        classes = check_cells(spec, "output", self.layout, (self.stride,), input_wh) - 5
        if classes < 1:
            raise shape_error(spec, "output", "5 + C channels", "correct head.layout or head.stride")
        if self.activation == "none":
            check_score_step(spec, "output")
        return classes

    def decode(self, outputs: Outputs, input_wh: tuple[int, int], min_score: float) -> Detections:
        """Return the best class of each cell that reaches `min_score`."""
        tensor = outputs[self.output]
        table = table_of(tensor.values, self.layout)
        # No class score is more than 1, so the objectness alone has to reach what the product has to reach.
        least = min_score ** (1 / self.objectness_power)
        passing = passing_rows(table[:, :1], stored_threshold(tensor, self.activation, least * _ROUNDING))
        rows, real = take_rows(table, passing, tensor.spec)
        if not len(rows):
            return Detections.empty()
        objectness = sigmoid(real[:, 0]) if self.activation == "sigmoid" else real[:, 0]
        classes = softmax(real[:, 5:]) if self.class_activation == "softmax" else real[:, 5:]
        best = np.clip(classes.max(axis=1), 0, 1)
        scores = np.clip(objectness, 0, 1) ** np.float32(self.objectness_power) * best ** np.float32(self.class_power)
        cells, _ = locate(rows, (self.stride,), input_wh)
        centers = (np.tanh(real[:, 1:3]) + cells) / np.array(grid_wh(self.stride, input_wh), np.float32)
        boxes = np.concatenate([centers, sigmoid(real[:, 3:5])], axis=1) * np.array(input_wh * 2, np.float32)
        return candidates(cxcywh_to_xyxy(boxes), scores, best_columns(classes), min_score)
