"""SSD without post-processing in the graph: box offsets from anchors, and scores for every class."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal

import numpy as np

from edgeannot.base.errors import CardError
from edgeannot.vision.data import Detections, FloatArray, IntArray, Outputs, RawTensor, TensorRef, TensorSpec
from edgeannot.vision.geometry import cxcywh_to_xyxy, xyxy_to_cxcywh, yxyx_to_xyxy
from edgeannot.vision.heads._anchors import AnchorLayer, AnchorRule, OctaveAnchors, ScaledAnchors, make_anchors
from edgeannot.vision.heads._boxes import candidates, safe_exp, to_model_pixels
from edgeannot.vision.heads._scores import best_classes, joined_rows, passing_rows, rows_above, stored_threshold, without_column
from edgeannot.vision.heads._tensors import CardTable, check_score_step, output_spec, shape_error

__all__ = ["AnchorLayer", "OctaveAnchors", "ScaledAnchors", "SsdAnchors"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SsdAnchors(CardTable):
    """Raw boxes (1, N, 4) and class scores (1, N, C) over N anchors; or the same in one pair of outputs a layer.

    Exactly one of `scaled`, `octaves`, `layers` and `anchor_tensor` says where the anchors come from. Class ids are columns of
    the scores, the background's included. BlazeFace and its kin are this kind too: `code = "xywh"`, `exponential = false`,
    `scales` = the input size, `scaled.unit_size = true`, `extra_columns` = the keypoints' numbers.
    """

    suppress: ClassVar[bool] = True
    """Always: neighbouring anchors find the same object."""

    kind: Literal["ssd-anchors"] = "ssd-anchors"
    boxes: tuple[TensorRef, ...]
    """One output with all rows, or one a layer, (1, n, 4), (1, n, 1, 4) or (1, h, w, a * 4), from fine to coarse."""
    scores: tuple[TensorRef, ...]
    """As `boxes`, with C numbers in place of the 4."""
    activation: Literal["none", "sigmoid", "softmax"]
    """What makes scores of the stored numbers; none: the graph has done it."""
    background: int | None = None
    """The column that stands for no object, which never wins; None: there is none (it still counts in a softmax)."""
    scaled: ScaledAnchors | None = None
    octaves: OctaveAnchors | None = None
    layers: tuple[AnchorLayer, ...] = ()
    anchor_tensor: TensorRef | None = None
    """The output that holds the anchors themselves, (1, N, 4) in 0..1."""
    anchor_form: Literal["xyxy", "yxyx", "cxcywh", "cycxhw"] = "xyxy"
    """How `anchor_tensor` writes a box."""
    code: Literal["yxhw", "xywh", "corners"] = "yxhw"
    """Offsets of the centre and size, y first (TensorFlow) or x first (Caffe, PyTorch, MediaPipe), or of x1, y1, x2, y2."""
    scales: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0)
    """Divide the four stored numbers, in their own order (the inverse of Caffe's variances); corners often use 1, 1, 1, 1."""
    exponential: bool = True
    """Whether sizes are exp(t) times the anchor's rather than t times it; corners do not use it."""
    extra_columns: int = 0
    """Numbers after a row's four that are not used (keypoints)."""

    @property
    def score_outputs(self) -> tuple[TensorRef, ...]:
        """The outputs that hold scores."""
        return self.scores

    def check(self, outputs: tuple[TensorSpec, ...], input_wh: tuple[int, int]) -> int | None:
        """Return the number of score columns, background included. Raises CardError."""
        if len(self.boxes) != len(self.scores) or not self.boxes:
            raise CardError(
                f"head.scores: wanted as many outputs as head.boxes names, at least one; found {len(self.boxes)} and {len(self.scores)}"
            )
        boxes = [output_spec(outputs, ref, "boxes") for ref in self.boxes]
        scores = [output_spec(outputs, ref, "scores") for ref in self.scores]
        rows = [self._count_rows(spec) for spec in boxes]
        anchors = self._count_anchors(outputs, input_wh)
        if sum(rows) != anchors:
            found = " + ".join(map(str, rows))
            raise CardError(
                f"head.boxes: the outputs have {found} rows, the anchors are {anchors}; correct the anchors' rule or the input size"
            )
        columns = {int(np.prod(spec.shape)) / n for spec, n in zip(scores, rows, strict=True)}
        if len(columns) != 1 or not min(columns).is_integer():
            raise shape_error(scores[0], "scores", f"{rows[0]} rows of C numbers, as boxes has {rows[0]} rows")
        classes = int(columns.pop())
        if self.background is not None and not (0 <= self.background < classes and classes > 1):
            raise CardError(
                f"head.background: wanted one of {classes} columns beside another, found {self.background}; correct it, or leave it out"
            )
        if self.activation == "none":
            for spec in scores:
                check_score_step(spec, "scores")
        return classes

    def decode(self, outputs: Outputs, input_wh: tuple[int, int], min_score: float) -> Detections:
        """Return the best class of each anchor that reaches `min_score`."""
        parts, start, usable = [], 0, True
        for box_ref, score_ref in zip(self.boxes, self.scores, strict=True):
            boxes, scores = outputs[box_ref], outputs[score_ref]
            box_table = boxes.values.reshape(-1, 4 + self.extra_columns)[:, :4]
            scores = scores.reshape(len(box_table), -1)
            rows = self._passing(scores, min_score)
            if len(rows):
                parts.append((start + rows, scores.real(rows), RawTensor(box_table, boxes.spec).real(rows)))
                usable &= scores.spec.usable and boxes.spec.usable
            start += len(box_table)
        if not parts:
            return Detections.empty()
        found, numbers, offsets = joined_rows(parts, usable=usable)
        classes, best = best_classes(numbers, self.activation, self.background)
        boxes_xyxy = self._unpack(offsets, self._anchors(outputs, found, input_wh)) * _row(input_wh * 2)
        return candidates(boxes_xyxy, best, classes, min_score)

    def _passing(self, table: RawTensor, min_score: float) -> IntArray:
        """Return rows whose best class may reach `min_score`."""
        if self.activation == "softmax":
            return rows_above(table, self.background, min_score)
        return passing_rows(without_column(table.values, self.background), stored_threshold(table, self.activation, min_score))

    def _unpack(self, numbers: FloatArray, anchors: FloatArray) -> FloatArray:
        """Return boxes xyxy in shares of the input from stored offsets (n, 4) and their anchors (n, 4) cxcywh."""
        offsets = np.asarray(numbers / _row(self.scales), np.float32)
        if self.code == "corners":
            return np.asarray(cxcywh_to_xyxy(anchors) + offsets * np.tile(anchors[:, 2:], 2), np.float32)
        if self.code == "yxhw":
            offsets = yxyx_to_xyxy(offsets)
        shares = safe_exp(offsets[:, 2:]) if self.exponential else offsets[:, 2:]
        boxes = np.empty_like(offsets)
        np.multiply(offsets[:, :2], anchors[:, 2:], out=boxes[:, :2])
        boxes[:, :2] += anchors[:, :2]
        np.multiply(shares, anchors[:, 2:], out=boxes[:, 2:])
        return cxcywh_to_xyxy(boxes)

    def _anchors(self, outputs: Outputs, rows: IntArray, input_wh: tuple[int, int]) -> FloatArray:
        """Return anchors of some rows, (n, 4) cxcywh in shares of the input."""
        if self.anchor_tensor is None:
            return make_anchors(self._rule(), input_wh)[rows]
        tensor = outputs[self.anchor_tensor]
        return xyxy_to_cxcywh(
            to_model_pixels(RawTensor(tensor.values.reshape(-1, 4)[rows], tensor.spec).real(), self.anchor_form, "pixels", input_wh)
        )

    def _rule(self) -> AnchorRule:
        rules: list[AnchorRule] = [rule for rule in (self.scaled, self.octaves, self.layers) if rule]
        if len(rules) + (self.anchor_tensor is not None) != 1:
            raise CardError("head: wanted exactly one of scaled, octaves, layers and anchor_tensor, to say where the anchors come from")
        rule = rules[0] if rules else ()
        strides = [layer.stride for layer in rule] if isinstance(rule, tuple) else getattr(rule, "strides", ())
        if any(stride < 1 for stride in strides):
            raise CardError(f"head: wanted strides of at least one pixel for the anchors, found {list(strides)}")
        return rule

    def _count_anchors(self, outputs: tuple[TensorSpec, ...], input_wh: tuple[int, int]) -> int:
        rule = self._rule()
        if self.anchor_tensor is None:
            if isinstance(rule, ScaledAnchors) and rule.scales and len(rule.scales) != len(rule.strides):
                raise CardError(f"head.scaled.scales: wanted one for each of {len(rule.strides)} strides, found {len(rule.scales)}")
            return len(make_anchors(rule, input_wh))
        spec = output_spec(outputs, self.anchor_tensor, "anchor_tensor")
        if spec.shape[-1] != 4:
            raise shape_error(spec, "anchor_tensor", "(1, N, 4)")
        return int(np.prod(spec.shape)) // 4

    def _count_rows(self, spec: TensorSpec) -> int:
        numbers = 4 + self.extra_columns
        if (len(spec.shape) < 4 and spec.shape[-1] != numbers) or spec.shape[-1] % numbers:
            raise shape_error(
                spec, "boxes", f"(1, N, {numbers}) or (1, h, w, a * {numbers})", "correct head.extra_columns, or name another output"
            )
        return int(np.prod(spec.shape)) // numbers


@lru_cache(maxsize=16)
def _row(numbers: tuple[float, ...]) -> FloatArray:
    return np.array(numbers, np.float32)
