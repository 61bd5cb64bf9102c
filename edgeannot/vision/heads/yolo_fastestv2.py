"""Yolo-FastestV2: grids whose cells have one class distribution for all their anchors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from edgeannot.base.errors import CardError
from edgeannot.vision.data import Detections, IntArray, Outputs, RawTensor, TensorRef, TensorSpec
from edgeannot.vision.geometry import cxcywh_to_xyxy
from edgeannot.vision.heads._boxes import candidates, concatenate
from edgeannot.vision.heads._grids import Layout, check_cells, locate, table_of
from edgeannot.vision.heads._scores import Activation, activate, best_columns, passing_rows, softmax, stored_threshold, usable_rows
from edgeannot.vision.heads._tensors import CardTable, check_score_step, output_spec

__all__ = ["YoloFastestV2"]


@dataclass(frozen=True, slots=True, kw_only=True)
class YoloFastestV2(CardTable):
    """Per cell: 4 box numbers for each of A anchors, A objectness, C classes (a softmax); score = objectness * class.

    `outputs` are one tensor with the rows of all strides, (N, 5 * A + C); or one a stride, (1, h, w, 5 * A + C); or three a
    stride in the order box (4 * A), objectness (A), class (C). centre = (2 s(t) - 0.5 + cell) * stride; size = (2 s(t))^2 * anchor.
    https://github.com/dog-qiuqiu/Yolo-FastestV2
    """

    suppress: ClassVar[bool] = True
    """Always: neighbouring cells find the same object."""

    kind: Literal["yolo-fastestv2"] = "yolo-fastestv2"
    outputs: tuple[TensorRef, ...]
    strides: tuple[int, ...] = (16, 32)
    anchors: tuple[tuple[tuple[float, float], ...], ...]
    """For each stride the A anchors (width, height) in input pixels."""
    layout: Layout = "channels-last"
    activation: Activation = "none"
    """What is still to be done to boxes and objectness."""
    class_activation: Literal["softmax", "none"] = "none"

    @property
    def score_outputs(self) -> tuple[TensorRef, ...]:
        """The outputs that hold scores."""
        return self.outputs

    def check(self, outputs: tuple[TensorSpec, ...], input_wh: tuple[int, int]) -> int | None:
        """Return the number of classes. Raises CardError."""
        count = len(self.anchors[0]) if self.anchors else 0
        if not count or len(self.anchors) != len(self.strides) or any(len(pairs) != count for pairs in self.anchors):
            raise CardError(
                f"head.anchors: wanted as many for each of {len(self.strides)} strides, found {[len(pairs) for pairs in self.anchors]}"
            )
        if len(self.outputs) not in (1, len(self.strides), 3 * len(self.strides)):
            raise CardError(f"head.outputs: wanted 1, {len(self.strides)} or {3 * len(self.strides)} outputs, found {len(self.outputs)}")
        found = set()
        for refs, strides in self._groups():
            specs = [output_spec(outputs, ref, "outputs") for ref in refs]
            channels = [check_cells(spec, "outputs", self.layout, strides, input_wh) for spec in specs]
            if len(refs) == 3 and channels[:2] != [4 * count, count]:
                raise CardError(
                    f"head.outputs: wanted {4 * count}, {count} and C channels for {count} anchors, found {channels}; correct their order"
                )
            found.add(channels[-1] if len(refs) == 3 else channels[0] - 5 * count)
            if self.activation == "none":
                check_score_step(specs[len(refs) // 2], "outputs")
        if len(found) != 1 or min(found) < 1:
            raise CardError(f"head.outputs: wanted {5 * count} + C channels for {count} anchors at every stride, found C = {sorted(found)}")
        return found.pop()

    def decode(self, outputs: Outputs, input_wh: tuple[int, int], min_score: float) -> Detections:
        """Return the cells and anchors that reach `min_score`."""
        parts = []
        for refs, strides in self._groups():
            box, gate, share = self._parts(outputs, refs)
            rows = passing_rows(gate.values, stored_threshold(gate, self.activation, min_score))
            if len(rows):
                parts.append(self._decode((box, gate, share), rows, strides, input_wh, min_score))
        return concatenate(parts)

    def _decode(
        self, tables: tuple[RawTensor, ...], rows: IntArray, strides: tuple[int, ...], input_wh: tuple[int, int], min_score: float
    ) -> Detections:
        """Return detections of some rows of one group: every anchor of those cells, thresholded once more by the product."""
        box, objectness, numbers = (table.real(rows) for table in tables)
        usable = usable_rows(np.concatenate([box, objectness, numbers], axis=1))
        rows, box, objectness, numbers = rows[usable], box[usable], objectness[usable], numbers[usable]
        count = objectness.shape[1]
        classes = best_columns(numbers)
        class_scores = (softmax(numbers) if self.class_activation == "softmax" else numbers).max(axis=1)
        scores = activate(objectness, self.activation) * class_scores[:, None]
        cells, stride = locate(rows, strides, input_wh)
        anchors = np.array(self.anchors, np.float32)[[self.strides.index(int(s)) for s in stride[:, 0]]].reshape(-1, count, 2)
        shares = activate(box, self.activation).reshape(-1, count, 4) * np.float32(2)
        centers = (shares[..., :2] - np.float32(0.5) + cells[:, None]) * stride[:, None]
        boxes = np.concatenate([centers, shares[..., 2:] ** 2 * anchors], axis=2).reshape(-1, 4)
        return candidates(cxcywh_to_xyxy(boxes), scores.reshape(-1), np.repeat(classes, count), min_score)

    def _groups(self) -> list[tuple[tuple[TensorRef, ...], tuple[int, ...]]]:
        """Return outputs that belong together, with the strides of the cells in them."""
        if len(self.outputs) == 1:
            return [(self.outputs, self.strides)]
        each = len(self.outputs) // len(self.strides)
        return [(self.outputs[i * each : (i + 1) * each], (stride,)) for i, stride in enumerate(self.strides)]

    def _parts(self, outputs: Outputs, refs: tuple[TensorRef, ...]) -> tuple[RawTensor, RawTensor, RawTensor]:
        """Return tables (n, 4 * A), (n, A) and (n, C) of a group, views."""
        tables = [RawTensor(table_of(outputs[ref].values, self.layout), outputs[ref].spec) for ref in refs]
        if len(tables) == 3:
            return tables[0], tables[1], tables[2]
        count = len(self.anchors[0])
        whole, spec = tables[0].values, tables[0].spec
        return (
            RawTensor(whole[:, : 4 * count], spec),
            RawTensor(whole[:, 4 * count : 5 * count], spec),
            RawTensor(whole[:, 5 * count :], spec),
        )
