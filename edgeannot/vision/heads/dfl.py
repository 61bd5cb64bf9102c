"""Heads that give, for each cell, the distances to the four sides of a box as distributions: v8 before its decoder, NanoDet, PicoDet."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from edgeannot.base.errors import CardError
from edgeannot.vision.data import Detections, FloatArray, IntArray, Outputs, RawTensor, TensorRef, TensorSpec
from edgeannot.vision.heads._boxes import candidates
from edgeannot.vision.heads._grids import Layout, check_cells, check_strides, locate, pair_with_strides, table_of
from edgeannot.vision.heads._scores import Activation, best_scores, joined_rows, passing_rows, softmax, stored_threshold
from edgeannot.vision.heads._tensors import CardTable, check_score_step, output_spec, shape_error

__all__ = ["Dfl"]

_Group = tuple[TensorRef, TensorRef, TensorRef | None, tuple[int, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dfl(CardTable):
    """Per cell 4 x `bins` numbers (left, top, right, bottom) and C class scores.

    distance = sum(softmax(numbers) * 0..bins-1) * stride from the centre (cell + center) * stride. Cells run row by row.
    Generalized Focal Loss, https://arxiv.org/abs/2006.04388, section 3.2
    """

    suppress: ClassVar[bool] = True
    """Always: neighbouring cells find the same object."""

    kind: Literal["dfl"] = "dfl"
    strides: tuple[int, ...]
    boxes: tuple[TensorRef, ...]
    """One output a stride, or one with the cells of all strides in order: (1, h, w, 4 * bins), (1, n, 4 * bins), or channels first."""
    scores: tuple[TensorRef, ...] = ()
    """As `boxes`, with C numbers a cell; not used when `joined` says that `boxes` hold them too."""
    score_sums: tuple[TensorRef, ...] = ()
    """Where the model has them, one a stride: the sum of a cell's scores (1 number, activated), to reject cells quickly."""
    joined: Literal["no", "boxes-first", "scores-first"] = "no"
    """Whether `boxes` are tensors of 4 * bins + C channels, and which part comes first."""
    bins: int = 16
    """16 in v8 and later, 8 in NanoDet, 11 in NanoDet-g, 17 in DAMO-YOLO; 1: the numbers are the distances themselves, in strides."""
    layout: Layout = "channels-last"
    activation: Activation
    """What is still to be done to class scores."""
    center: float = 0.5
    """Where in a cell its point is, 0..1."""

    @property
    def score_outputs(self) -> tuple[TensorRef, ...]:
        """The outputs that hold scores."""
        return self.scores if self.joined == "no" else self.boxes

    def check(self, outputs: tuple[TensorSpec, ...], input_wh: tuple[int, int]) -> int | None:
        """Return the number of classes. Raises CardError."""
        if self.bins < 1:
            raise CardError(f"head.bins: wanted at least 1, found {self.bins}")
        check_strides(self.boxes, self.strides, "boxes")
        found = set()
        for boxes, scores, score_sum, strides in _groups(self):
            spec = output_spec(outputs, boxes, "boxes")
            channels = check_cells(spec, "boxes", self.layout, strides, input_wh)
            if self.joined == "no" and channels != 4 * self.bins:
                raise shape_error(
                    spec,
                    "boxes",
                    f"{4 * self.bins} channels (4 sides x {self.bins} bins), found {channels}",
                    "correct head.bins or head.layout",
                )
            scores_spec = output_spec(outputs, scores, "scores")
            found.add(check_cells(scores_spec, "scores", self.layout, strides, input_wh) - (0 if self.joined == "no" else 4 * self.bins))
            if self.activation == "none":
                check_score_step(scores_spec, "scores")
            if (
                score_sum is not None
                and check_cells(output_spec(outputs, score_sum, "score_sums"), "score_sums", self.layout, strides, input_wh) != 1
            ):
                raise shape_error(output_spec(outputs, score_sum, "score_sums"), "score_sums", "1 channel")
        if len(found) != 1 or min(found) < 1:
            raise CardError(f"head.scores: wanted the same number of classes at every stride, at least 1; found {sorted(found)}")
        return found.pop()

    def decode(self, outputs: Outputs, input_wh: tuple[int, int], min_score: float) -> Detections:
        """Return the best class of each cell that reaches `min_score`."""
        parts, start, usable = [], 0, True
        for boxes, scores, score_sum, _ in _groups(self):
            box_tensor, score_tensor = outputs[boxes], outputs[scores]
            box_table, score_table = self._tables(box_tensor.values, score_tensor.values)
            threshold = stored_threshold(score_tensor, self.activation, min_score)
            if score_sum is None:
                rows = passing_rows(score_table, threshold)
            else:
                rows = _possible_rows(outputs[score_sum], self.layout, min_score)
                rows = rows[passing_rows(score_table[rows], threshold)]
            if len(rows):
                numbers, sides = RawTensor(score_table[rows], score_tensor.spec), RawTensor(box_table[rows], box_tensor.spec)
                parts.append((start + rows, numbers.real(), sides.real()))
                usable &= score_tensor.spec.usable and box_tensor.spec.usable
            start += len(score_table)
        if not parts:
            return Detections.empty()
        found, class_numbers, side_numbers = joined_rows(parts, usable=usable)
        distances = self._distances(side_numbers)
        cells, stride = locate(found, self.strides, input_wh)
        points = cells + np.float32(self.center)
        boxes_xyxy = np.empty((len(found), 4), np.float32)
        np.subtract(points, distances[:, :2], out=boxes_xyxy[:, :2])
        np.add(points, distances[:, 2:], out=boxes_xyxy[:, 2:])
        boxes_xyxy *= stride
        return candidates(boxes_xyxy, *best_scores(class_numbers, self.activation), min_score)

    def _distances(self, numbers: FloatArray) -> FloatArray:
        """Return (n, 4) left, top, right, bottom in strides."""
        if self.bins == 1:
            return numbers
        shares = softmax(numbers.reshape(-1, 4, self.bins))
        return np.asarray(shares @ _bins(self.bins), np.float32)

    def _tables(self, boxes: NDArray[Any], scores: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return (n, 4 * bins) and (n, C), views."""
        box_table, score_table, bins = table_of(boxes, self.layout), table_of(scores, self.layout), 4 * self.bins
        if self.joined == "boxes-first":
            return box_table[:, :bins], score_table[:, bins:]
        if self.joined == "scores-first":
            return box_table[:, -bins:], score_table[:, :-bins]
        return box_table, score_table


@lru_cache(maxsize=8)
def _groups(head: Dfl) -> tuple[_Group, ...]:
    """Return outputs that belong together: boxes, scores, score sum, strides of their cells."""
    scores = head.scores if head.joined == "no" else head.boxes
    if len(scores) != len(head.boxes) or (head.joined != "no" and head.scores):
        raise CardError(f"head.scores: wanted {len(head.boxes) if head.joined == 'no' else 'no'} outputs, found {len(head.scores)}")
    if head.score_sums and len(head.score_sums) != len(head.boxes):
        raise CardError(f"head.score_sums: wanted none or {len(head.boxes)} outputs, found {len(head.score_sums)}")
    sums = head.score_sums or (None,) * len(head.boxes)
    strides = [strides for _, strides in pair_with_strides(head.boxes, head.strides)]
    return tuple(zip(head.boxes, scores, sums, strides, strict=True))


@lru_cache(maxsize=8)
def _bins(count: int) -> FloatArray:
    return np.arange(count, dtype=np.float32)


def _possible_rows(sums: RawTensor, layout: Layout, min_score: float) -> IntArray:
    """Return cells whose best score may reach `min_score`: a sum is never less, but for the rounding of one step."""
    return passing_rows(table_of(sums.values, layout), sums.stored_at_least(min_score - sums.spec.scale))
