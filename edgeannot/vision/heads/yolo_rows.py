"""YOLO whose graph decodes its boxes and answers with one table: v5, v6, v7, YOLOX (objectness), v8, v9, 11, 12 (none)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray

from edgeannot.vision.data import Detections, Outputs, TensorRef, TensorSpec
from edgeannot.vision.heads._boxes import BoxUnits, candidates, to_model_pixels, upright
from edgeannot.vision.heads._scores import ScoreActivation, activate, best_columns, passing_rows, stored_threshold, take_rows
from edgeannot.vision.heads._tensors import OneOutput, check_box_step, check_score_step, inner_shape, output_spec, shape_error

__all__ = ["YoloRows"]


@dataclass(frozen=True, slots=True, kw_only=True)
class YoloRows(OneOutput):
    """One output with N candidates: four box numbers, objectness where there is one, C class scores."""

    kind: Literal["yolo-rows"] = "yolo-rows"
    output: TensorRef
    layout: Literal["rows", "columns"]
    """rows: (1, N, 4 + C), a candidate after the other; columns: (1, 4 + C, N), as v8 and later write it."""
    objectness: bool
    """Whether the fifth number is an objectness, by which the class scores are multiplied."""
    box_units: BoxUnits
    """Shares of the input's width and height, or its pixels."""
    box_form: Literal["cxcywh", "xyxy"] = "cxcywh"
    activation: ScoreActivation = "none"
    """What is still to be done to objectness and class scores; percent: they are 0 to 100."""
    rotated: bool = False
    """Whether the number behind the class scores is the angle of the box in radians, as in Ultralytics' OBB: the upright box around it
    is given."""
    extra_columns: int = 0
    """Numbers at the end of a candidate that are not used (mask coefficients, keypoints)."""

    suppressed: bool = False
    """Whether the model was trained to give each object once, as RT-DETR is; else neighbouring candidates find the same one."""

    @property
    def suppress(self) -> bool:
        """Unless the model gives each object once."""
        return not self.suppressed

    def check(self, outputs: tuple[TensorSpec, ...], input_wh: tuple[int, int]) -> int | None:
        """Return the number of classes. Raises CardError."""
        spec = output_spec(outputs, self.output, "output")
        shape = inner_shape(spec.shape, 2)
        columns = shape[-1] if self.layout == "rows" else shape[0]
        classes = columns - self._first_class - int(self.rotated) - self.extra_columns
        if len(shape) != 2 or classes < 1:
            behind = int(self.rotated) + self.extra_columns
            numbers = f"{self._first_class} + C{f' + {behind}' if behind else ''}"
            raise shape_error(spec, "output", f"(1, N, {numbers})" if self.layout == "rows" else f"(1, {numbers}, N)")
        if self.activation == "none":
            check_score_step(spec, "output")
        check_box_step(spec, "output", self.box_units, input_wh)
        return classes

    def decode(self, outputs: Outputs, input_wh: tuple[int, int], min_score: float) -> Detections:
        """Return the best class of each candidate that reaches `min_score`."""
        tensor = outputs[self.output]
        table = self._table(tensor.values)
        first, last = self._first_class, table.shape[1] - int(self.rotated)
        gate = table[:, 4:5] if self.objectness else table[:, first:last]
        _, real = take_rows(table, passing_rows(gate, stored_threshold(tensor, self.activation, min_score)), tensor.spec)
        classes = best_columns(real[:, first:last])
        scores = activate(real[:, first:last].max(axis=1), self.activation)
        if self.objectness:
            scores = scores * activate(real[:, 4], self.activation)
        boxes_xyxy = to_model_pixels(real[:, :4], self.box_form, self.box_units, input_wh)
        return candidates(upright(boxes_xyxy, real[:, -1]) if self.rotated else boxes_xyxy, scores, classes, min_score)

    @property
    def _first_class(self) -> int:
        return 5 if self.objectness else 4

    def _table(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return (N, 4 + C) whatever the layout, a view; with an angle at the end where boxes are rotated."""
        table = values.reshape(inner_shape(values.shape, 2))
        table = table if self.layout == "rows" else table.T
        return table[:, : table.shape[1] - self.extra_columns]
