"""SSD whose graph ends in the TFLite_Detection_PostProcess operator: boxes come decoded and suppressed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from edgeannot.vision.data import Detections, Outputs, TensorRef, TensorSpec
from edgeannot.vision.heads._boxes import candidates, to_model_pixels
from edgeannot.vision.heads._scores import joined_rows
from edgeannot.vision.heads._tensors import CardTable, inner_shape, output_spec, shape_error

__all__ = ["SsdPostprocess"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SsdPostprocess(CardTable):
    """Four outputs: boxes (1, N, 4) as ymin, xmin, ymax, xmax in 0..1 of the input, classes (1, N), scores (1, N), count (1).

    Which output is which depends on the exporter; the operator's own output list in the graph tells, so the card states it.
    Specification: `detection_postprocess.cc` of TensorFlow Lite. Boxes may reach a little outside of 0..1.
    """

    suppress: ClassVar[bool] = False
    """Never: the operator has done it."""

    kind: Literal["ssd-postprocess"] = "ssd-postprocess"
    boxes: TensorRef
    classes: TensorRef
    scores: TensorRef
    count: TensorRef | None = None
    """How many of the N rows are filled; without it, rows of score 0 are taken as not filled."""

    @property
    def score_outputs(self) -> tuple[TensorRef, ...]:
        """The outputs that hold scores."""
        return (self.scores,)

    def check(self, outputs: tuple[TensorSpec, ...], input_wh: tuple[int, int]) -> int | None:  # noqa: ARG002 - the Head protocol
        """Return None, as the tensors do not tell the number of classes. Raises CardError."""
        boxes = output_spec(outputs, self.boxes, "boxes")
        shape = inner_shape(boxes.shape, 2)
        if len(shape) != 2 or shape[1] != 4:
            raise shape_error(boxes, "boxes", "(1, N, 4)")
        for role, ref in (("classes", self.classes), ("scores", self.scores)):
            spec = output_spec(outputs, ref, role)
            if inner_shape(spec.shape, 1) != shape[:1]:
                raise shape_error(spec, role, f"(1, {shape[0]}) as there are {shape[0]} boxes")
        if self.count is not None:
            spec = output_spec(outputs, self.count, "count")
            if int(np.prod(spec.shape)) != 1:
                raise shape_error(spec, "count", "one number")
        return None

    def decode(self, outputs: Outputs, input_wh: tuple[int, int], min_score: float) -> Detections:
        """Return the operator's rows that reach `min_score`."""
        scores = outputs[self.scores].real().reshape(-1)
        filled = len(scores)
        if self.count is not None:
            count = float(outputs[self.count].real().reshape(-1)[0])
            filled = min(filled, max(int(count), 0)) if np.isfinite(count) else 0
        # Slots that the operator did not fill hold zeros or what an earlier run left.
        least = float(np.float32(min_score))
        rows = [row for row, score in enumerate(scores[:filled].tolist()) if score >= least and score > 0]
        if not rows:
            return Detections.empty()
        numbers = np.empty((len(rows), 6), np.float32)
        numbers[:, :4] = outputs[self.boxes].real().reshape(-1, 4)[rows]
        numbers[:, 4], numbers[:, 5] = scores[rows], outputs[self.classes].real().reshape(-1)[rows]
        _, numbers = joined_rows([(np.array(rows), numbers)], usable=False)
        numbers = numbers[numbers[:, 5] > np.float32(-0.5)]
        boxes_xyxy = to_model_pixels(numbers[:, :4], "yxyx", "normalized", input_wh)
        return candidates(boxes_xyxy, numbers[:, 4], np.rint(numbers[:, 5]).astype(np.int64), min_score)
