"""Decoded boxes and scores in outputs of their own: v8 cut before its last concatenation, YOLO-NAS, DETR and its kin, NPU exports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgeannot.base.errors import CardError
from edgeannot.vision.data import Detections, FloatArray, IntArray, Outputs, RawTensor, TensorRef, TensorSpec
from edgeannot.vision.heads._boxes import BoxForm, BoxUnits, candidates, to_model_pixels
from edgeannot.vision.heads._scores import (
    ScoreActivation,
    activate,
    best_classes,
    passing_rows,
    rows_above,
    stored_threshold,
    usable_rows,
    without_column,
)
from edgeannot.vision.heads._tensors import CardTable, check_box_step, check_score_step, inner_shape, output_spec, shape_error

__all__ = ["Split"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Split(CardTable):
    """Boxes for N candidates in one output, class scores in another; or the best score and its class id in two more."""

    kind: Literal["split"] = "split"
    boxes: TensorRef
    scores: TensorRef
    """(1, N, C) or (1, C, N); with `classes` the best score of each candidate, (1, N)."""
    classes: TensorRef | None = None
    """(1, N) class ids of the best scores, where the graph has picked them."""
    objectness: TensorRef | None = None
    """(1, N), multiplied into the scores, where the model has one."""
    box_layout: Literal["rows", "columns"]
    """rows: (1, N, 4); columns: (1, 4, N)."""
    score_layout: Literal["rows", "columns"] = "rows"
    """rows: (1, N, C); columns: (1, C, N). Not used with `classes`."""
    box_units: BoxUnits
    box_form: BoxForm
    activation: ScoreActivation | Literal["softmax"] = "none"
    """What is still to be done to scores and objectness; percent: they are 0 to 100; softmax: over the class scores, as in DETR."""
    background: int | None = None
    """The column of `scores` that stands for no object, which never wins; None: there is none. The last one is not counted as a class."""
    suppressed: bool = False
    """Whether the model gives each object once: the graph removes overlapping boxes, or it was trained so (DETR and its kin)."""

    @property
    def score_outputs(self) -> tuple[TensorRef, ...]:
        """The outputs that hold scores."""
        return (self.scores,) if self.objectness is None else (self.scores, self.objectness)

    @property
    def suppress(self) -> bool:
        """Unless the model has done it."""
        return not self.suppressed

    def check(self, outputs: tuple[TensorSpec, ...], input_wh: tuple[int, int]) -> int | None:
        """Return the number of classes, or None where the graph picks the class. Raises CardError."""
        boxes = output_spec(outputs, self.boxes, "boxes")
        shape = inner_shape(boxes.shape, 2)
        if len(shape) < 2 or shape[-1 if self.box_layout == "rows" else 0] != 4:
            raise shape_error(boxes, "boxes", "(1, N, 4)" if self.box_layout == "rows" else "(1, 4, N)", "correct head.box_layout")
        rows = int(np.prod(shape)) // 4
        for role, ref in (("classes", self.classes), ("objectness", self.objectness)):
            if ref is not None and int(np.prod(output_spec(outputs, ref, role).shape)) != rows:
                raise shape_error(output_spec(outputs, ref, role), role, f"(1, {rows}) as there are {rows} boxes")
        scores = output_spec(outputs, self.scores, "scores")
        classes = self._count_classes(scores, rows)
        check_box_step(boxes, "boxes", self.box_units, input_wh)
        if self.activation == "none":
            for role, ref in (("scores", self.scores), ("objectness", self.objectness)):
                if ref is not None:
                    check_score_step(output_spec(outputs, ref, role), role)
        return classes

    def decode(self, outputs: Outputs, input_wh: tuple[int, int], min_score: float) -> Detections:
        """Return the best class of each candidate that reaches `min_score`."""
        boxes = _table(outputs[self.boxes], self.box_layout, numbers=4)
        rows = len(boxes.values)
        if rows == 0:
            return Detections.empty()
        scores = _table(outputs[self.scores], "rows" if self.classes is not None else self.score_layout, rows=rows)
        gate = scores if self.objectness is None else _table(outputs[self.objectness], "rows", rows=rows)
        if self.activation == "softmax":
            passing = rows_above(scores, self.background, min_score)
        else:
            columns = without_column(gate.values, self.background if self.objectness is None else None)
            passing = passing_rows(columns, stored_threshold(gate, self.activation, min_score))
        real_boxes, real_scores, real_gate = boxes.real(passing), scores.real(passing), gate.real(passing)
        single: ScoreActivation = "none" if self.activation == "softmax" else self.activation  # a softmax needs all classes
        usable = usable_rows(real_boxes) & usable_rows(real_scores) & usable_rows(real_gate)
        if self.classes is None:
            ids, best = best_classes(real_scores[usable], self.activation, self.background)
        else:
            picked = _whole(_table(outputs[self.classes], "rows", rows=rows).real(passing))
            usable &= picked >= 0
            ids, best = picked[usable], activate(real_scores[usable].max(axis=1), single)
        if self.objectness is not None:
            best = best * activate(real_gate[usable, 0], single)
        boxes_xyxy = to_model_pixels(real_boxes[usable], self.box_form, self.box_units, input_wh)
        return candidates(boxes_xyxy, best, ids, min_score)

    def _count_classes(self, scores: TensorSpec, rows: int) -> int | None:
        shape = inner_shape(scores.shape, 2)
        if self.classes is not None:
            if int(np.prod(shape)) != rows:
                raise shape_error(scores, "scores", f"(1, {rows}), the best score of each of {rows} boxes")
            return None
        if len(shape) != 2 or shape[0 if self.score_layout == "rows" else 1] != rows:
            wanted = f"(1, {rows}, C)" if self.score_layout == "rows" else f"(1, C, {rows})"
            raise shape_error(scores, "scores", f"{wanted} as there are {rows} boxes", "correct head.score_layout")
        columns = shape[1 if self.score_layout == "rows" else 0]
        if self.background is not None and not (0 <= self.background < columns and columns > 1):
            raise CardError(
                f"head.background: wanted one of {columns} columns beside another, found {self.background}; correct it, or leave it out"
            )
        return columns - 1 if self.background == columns - 1 else columns


def _table(tensor: RawTensor, layout: Literal["rows", "columns"], *, rows: int | None = None, numbers: int = 1) -> RawTensor:
    """Return (N, numbers) whatever the layout, a view; with `rows` given, as many numbers as there are."""
    size = tensor.values.size
    shape = (size // numbers, numbers) if rows is None else (rows, size // max(rows, 1))
    return RawTensor(tensor.values.reshape(shape) if layout == "rows" else tensor.values.reshape(shape[::-1]).T, tensor.spec)


def _whole(numbers: FloatArray) -> IntArray:
    """Return class ids from real numbers (n, 1); -1 where there is none."""
    known = usable_rows(numbers)
    return np.where(known, np.rint(np.where(known, numbers[:, 0], 0)), -1).astype(np.int64)
