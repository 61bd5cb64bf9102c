"""YOLOX exported without its decoder (`decode_in_inference = False`): rows of offsets from grid cells, no anchors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from edgeannot.base.errors import CardError
from edgeannot.vision.data import Detections, Outputs, RawTensor, TensorRef, TensorSpec
from edgeannot.vision.geometry import cxcywh_to_xyxy
from edgeannot.vision.heads._boxes import candidates, concatenate, safe_exp
from edgeannot.vision.heads._grids import Layout, check_cells, check_strides, locate, pair_with_strides, table_of
from edgeannot.vision.heads._scores import Activation, activate, best_columns, passing_rows, stored_threshold, take_rows
from edgeannot.vision.heads._tensors import CardTable, check_score_step, output_spec

__all__ = ["Yolox"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Yolox(CardTable):
    """Rows (1, N, 5 + C) for the cells of all strides in order: x = (t + cell) * stride, w = exp(t) * stride.

    https://arxiv.org/abs/2107.08430; an export that decodes in the graph is of the kind `yolo-rows`.
    """

    suppress: ClassVar[bool] = True
    """Always: neighbouring cells find the same object."""

    kind: Literal["yolox"] = "yolox"
    outputs: tuple[TensorRef, ...]
    """One output with the rows of all strides, or one a stride: (1, n, 5 + C) or (1, h, w, 5 + C), or with the channels first."""
    strides: tuple[int, ...] = (8, 16, 32)
    layout: Layout = "channels-last"
    activation: Activation = "none"
    """What is still to be done to objectness and class scores."""

    @property
    def score_outputs(self) -> tuple[TensorRef, ...]:
        """The outputs that hold scores."""
        return self.outputs

    def check(self, outputs: tuple[TensorSpec, ...], input_wh: tuple[int, int]) -> int | None:
        """Return the number of classes. Raises CardError."""
        check_strides(self.outputs, self.strides, "outputs")
        found = set()
        for ref, strides in pair_with_strides(self.outputs, self.strides):
            spec = output_spec(outputs, ref, "outputs")
            found.add(check_cells(spec, "outputs", self.layout, strides, input_wh) - 5)
            if self.activation == "none":
                check_score_step(spec, "outputs")
        if len(found) != 1 or min(found) < 1:
            raise CardError(f"head.outputs: wanted 5 + C channels in every output, found C = {sorted(found)}; correct [head]")
        return found.pop()

    def decode(self, outputs: Outputs, input_wh: tuple[int, int], min_score: float) -> Detections:
        """Return the best class of each cell that reaches `min_score`."""
        pairs = pair_with_strides(self.outputs, self.strides)
        return concatenate([self._decode(outputs[ref], strides, input_wh, min_score) for ref, strides in pairs])

    def _decode(self, tensor: RawTensor, strides: tuple[int, ...], input_wh: tuple[int, int], min_score: float) -> Detections:
        table = table_of(tensor.values, self.layout)
        passing = passing_rows(table[:, 4:5], stored_threshold(tensor, self.activation, min_score))
        if not len(passing):
            return Detections.empty()
        rows, real = take_rows(table, passing, tensor.spec)
        classes = best_columns(real[:, 5:])
        scores = activate(real[:, 4], self.activation) * activate(real[:, 5:].max(axis=1), self.activation)
        cells, stride = locate(rows, strides, input_wh)
        boxes = np.empty((len(rows), 4), np.float32)
        np.add(real[:, :2], cells, out=boxes[:, :2])
        boxes[:, 2:] = safe_exp(real[:, 2:4])
        boxes *= stride
        return candidates(cxcywh_to_xyxy(boxes), scores, classes, min_score)
