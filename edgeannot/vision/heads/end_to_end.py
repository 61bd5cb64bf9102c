"""Detectors whose graph picks the class: one row an object (v10, 26, exports with NMS in the graph), or one a candidate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgeannot.vision.data import Detections, Outputs, TensorRef, TensorSpec
from edgeannot.vision.heads._boxes import BoxUnits, candidates, to_model_pixels, upright
from edgeannot.vision.heads._scores import take_rows
from edgeannot.vision.heads._tensors import OneOutput, check_box_step, check_score_step, inner_shape, output_spec, shape_error

__all__ = ["EndToEnd"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EndToEnd(OneOutput):
    """One output (1, N, 6): four box numbers, score, class id; rows that are not used have score 0."""

    kind: Literal["end-to-end"] = "end-to-end"
    output: TensorRef
    box_units: BoxUnits
    """Shares of the input's width and height, or its pixels."""
    box_form: Literal["xyxy", "yxyx", "cxcywh"] = "xyxy"
    suppressed: bool = True
    """Whether overlapping rows are out already; exports that only pick each candidate's class still need that."""
    rotated: bool = False
    """Whether the seventh number is the angle of the box in radians (Ultralytics' OBB): the upright box around it is given."""
    extra_columns: int = 0
    """Numbers at the end of a row that are not used (mask coefficients, keypoints)."""

    @property
    def suppress(self) -> bool:
        """Never where each object has one row."""
        return not self.suppressed

    def check(self, outputs: tuple[TensorSpec, ...], input_wh: tuple[int, int]) -> int | None:
        """Return None, as the tensor does not tell the number of classes. Raises CardError."""
        spec = output_spec(outputs, self.output, "output")
        shape = inner_shape(spec.shape, 2)
        wanted = 6 + int(self.rotated) + self.extra_columns
        if len(shape) != 2 or shape[1] != wanted:
            raise shape_error(spec, "output", f"(1, N, {wanted})")
        check_box_step(spec, "output", self.box_units, input_wh)
        check_score_step(spec, "output")
        return None

    def decode(self, outputs: Outputs, input_wh: tuple[int, int], min_score: float) -> Detections:
        """Return the rows that reach `min_score`."""
        tensor = outputs[self.output]
        table = tensor.values.reshape(inner_shape(tensor.values.shape, 2))
        rows = np.flatnonzero(table[:, 4] >= tensor.stored_at_least(min_score))
        _, real = take_rows(table[:, : 6 + int(self.rotated)], rows, tensor.spec)
        real = real[(real[:, 4] > 0) & (real[:, 5] > -0.5)]
        boxes = to_model_pixels(real[:, :4], self.box_form, self.box_units, input_wh)
        boxes = upright(boxes, real[:, 6]) if self.rotated else boxes
        return candidates(boxes, real[:, 4], np.rint(real[:, 5]).astype(np.int64), min_score)
