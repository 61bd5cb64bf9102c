"""A head: one score a class; a class that is sure enough is an object in the middle of the picture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from edgeannot.plugin import CardError, Detections, Outputs, TensorRef, TensorSpec

__all__ = ["CentreBox"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CentreBox:
    """One output with C scores, (1, C) or (1, 1, 1, C)."""

    __pydantic_config__: ClassVar[dict[str, object]] = {"extra": "forbid", "allow_inf_nan": False}

    kind: Literal["centre-box"] = "centre-box"
    output: TensorRef = 0
    share: float = 0.5
    """Side of the box as a part of the picture's."""

    @property
    def score_outputs(self) -> tuple[TensorRef, ...]:
        """The one output."""
        return (self.output,)

    @property
    def suppress(self) -> bool:
        """Boxes of one class never overlap: there is one."""
        return False

    def check(self, outputs: tuple[TensorSpec, ...], input_wh: tuple[int, int]) -> int | None:
        """The number of classes. Raises CardError."""
        del input_wh
        (spec,) = (spec for spec in outputs if self.output in (spec.index, spec.name))
        if math.prod(spec.shape[:-1]) != 1:
            raise CardError(f"head.output: output {spec.name!r} has shape {spec.shape}, wanted (1, C)")
        return spec.shape[-1]

    def decode(self, outputs: Outputs, input_wh: tuple[int, int], min_score: float) -> Detections:
        """An object for each class whose score is at least `min_score`."""
        scores = np.clip(outputs[self.output].real().reshape(-1), 0, 1)
        classes = np.flatnonzero(scores >= min_score)
        size = np.array(input_wh * 2, np.float32)
        near, far = (1 - self.share) / 2, (1 + self.share) / 2
        box = size * np.array([near, near, far, far], np.float32)
        return Detections(np.tile(box, (len(classes), 1)), scores[classes], classes.astype(np.int64))
