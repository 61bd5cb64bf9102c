"""Whether the outputs of a model for one picture are plausible. Looked at for every picture, so it has to cost next to nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeannot.base.errors import OutputError
from edgeannot.vision.data import Detections, Outputs, TensorRef
from edgeannot.vision.heads import Head

__all__ = ["float_outputs", "refuse_certainty", "refuse_not_finite"]

_SURE = 0.995
_MANY_SLOTS = 16
"""Fewer may well be sure all together: a classifier of one class, a grid of a few cells."""
_MANY_OBJECTS = 100
"""The same where the graph itself has left out what overlaps and what is not used."""


def float_outputs(head: Head, outputs: Outputs) -> tuple[TensorRef, ...]:
    """Of the outputs that hold scores those that may hold something else than finite numbers: whole numbers always are."""
    return tuple(ref for ref in head.score_outputs if outputs[ref].values.dtype.kind == "f")


def refuse_not_finite(outputs: Outputs, refs: Sequence[TensorRef]) -> None:
    """Raises OutputError where a number is not finite. A sum says so of all at once: 0.1 ms for the largest tables that are known."""
    for ref in refs:
        values = outputs[ref].values
        with np.errstate(over="ignore", invalid="ignore"):
            may_not_be = not np.isfinite(values.sum(dtype=np.float32))
        if may_not_be and not np.isfinite(values).all():
            count = int(values.size - np.isfinite(values).sum())
            raise OutputError(f"the model gave {count} of {values.size} scores that are not finite")


def refuse_certainty(found: Detections, head: Head, outputs: Outputs, input_wh: tuple[int, int]) -> None:
    """Raises OutputError where every place that could hold an object is as good as sure to hold one. found: what `head` decoded."""
    many = _MANY_SLOTS if head.suppress else _MANY_OBJECTS
    if len(found) < many or found.scores.min() < _SURE:
        return
    slots = head.decode(outputs, input_wh, 0.0)  # rare: as a rule something is less sure
    if slots.scores.min() >= _SURE:
        raise OutputError(f"its outputs are implausible: an object of score {_SURE:g} or more at each of the {len(slots)} places")
