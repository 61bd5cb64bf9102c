"""FOMO: a coarse map of class scores in which an object is a blob of cells, without any box numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from edgeannot.base.errors import CardError
from edgeannot.vision.data import Detections, FloatArray, IntArray, Outputs, RawTensor, TensorRef, TensorSpec
from edgeannot.vision.heads._boxes import candidates
from edgeannot.vision.heads._grids import Layout, table_of
from edgeannot.vision.heads._scores import activate, passing_rows, softmax, stored_threshold, take_rows
from edgeannot.vision.heads._tensors import OneOutput, check_score_step, inner_shape, output_spec, shape_error

__all__ = ["Fomo"]

_LATER = ((0, 1), (1, -1), (1, 0), (1, 1))
"""From a cell to those of its eight neighbours that come later row by row, as (rows, columns): each pair of neighbours once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fomo(OneOutput):
    """One map (1, h, w, C) of class scores: neighbouring cells of one class that reach the minimum score are one object.

    Neighbours share a side or a corner. The box is what the cells cover, each input size / map size large; the score is that of the best
    cell. Edge Impulse's own decoder joins cells so: https://github.com/edgeimpulse/inferencing-sdk-cpp, `ei_handle_cube`.
    The minimum score decides what touches: a lower one gives larger and perhaps fewer objects. With 0 each cell stands for itself.
    """

    suppress: ClassVar[bool] = False
    """Never: a cell belongs to one object of its class."""

    kind: Literal["fomo"] = "fomo"
    output: TensorRef = 0
    layout: Layout = "channels-last"
    """channels-last: (1, h, w, C); channels-first: (1, C, h, w)."""
    background: int | None = None
    """The column that stands for no object, which is never reported; None: there is none."""
    activation: Literal["none", "sigmoid", "softmax"] = "none"
    """What makes scores of the stored numbers; none: the graph has done it."""

    def check(self, outputs: tuple[TensorSpec, ...], input_wh: tuple[int, int]) -> int | None:
        """Return the number of columns, background included. Raises CardError."""
        spec = output_spec(outputs, self.output, "output")
        shape = inner_shape(spec.shape, 3)
        if len(shape) != 3:
            raise shape_error(spec, "output", "(1, h, w, C)" if self.layout == "channels-last" else "(1, C, h, w)")
        height, width, columns = shape if self.layout == "channels-last" else (*shape[1:], shape[0])
        if not (0 < height <= input_wh[1] and 0 < width <= input_wh[0]):
            raise shape_error(spec, "output", f"a map of at most the input's {input_wh[0]}x{input_wh[1]}", "correct head.layout")
        if columns < 1 or (self.background is not None and not (0 <= self.background < columns and columns > 1)):
            raise CardError(
                f"head.background: wanted one of {columns} columns beside another, found {self.background}; correct it, or leave it out"
            )
        if self.activation == "none":
            check_score_step(spec, "output")
        return columns

    def decode(self, outputs: Outputs, input_wh: tuple[int, int], min_score: float) -> Detections:
        """Return one box a blob of cells that reach `min_score`."""
        height, width, cells, columns, scores = self._passing(outputs[self.output], min_score)
        y, x = np.divmod(cells, width)
        blobs = np.arange(len(cells)) if min_score <= 0 else _blobs(y, x, columns, (height, width))
        first, members = np.unique(blobs, return_inverse=True)
        low = np.full((len(first), 2), max(height, width), np.int64)
        high, best = np.zeros_like(low), np.zeros(len(first), np.float32)
        corners = np.stack([x, y], axis=1)
        np.minimum.at(low, members, corners)
        np.maximum.at(high, members, corners + 1)
        np.maximum.at(best, members, scores)
        cell_wh = np.array([input_wh[0] / width, input_wh[1] / height], np.float32)
        return candidates(np.concatenate([low * cell_wh, high * cell_wh], axis=1), best, columns[first], min_score)

    def _passing(self, tensor: RawTensor, min_score: float) -> tuple[int, int, IntArray, IntArray, FloatArray]:
        """Return the map's height and width, and cell (row by row), class and score of all that reaches `min_score`."""
        stored = tensor.values.reshape(inner_shape(tensor.values.shape, 3))
        height, width = stored.shape[:2] if self.layout == "channels-last" else stored.shape[1:]
        table = table_of(stored[None], self.layout)
        objects = np.array([c for c in range(table.shape[1]) if c != self.background])
        if self.activation == "softmax":  # a share depends on its whole cell, so no cell can be left out before
            rows = np.arange(len(table), dtype=np.int64)
        else:
            rows = passing_rows(table[:, objects], stored_threshold(tensor, self.activation, min_score))
        rows, numbers = take_rows(table, rows, tensor.spec)
        scores = (softmax(numbers) if self.activation == "softmax" else activate(numbers, self.activation))[:, objects]
        cells, found = np.nonzero(scores >= np.float32(min_score))
        return height, width, rows[cells], objects[found], scores[cells, found]


def _blobs(y: IntArray, x: IntArray, columns: IntArray, map_hw: tuple[int, int]) -> IntArray:
    """Return for each cell the index of the first one of its blob. Cells touch where they share class and a side or corner."""
    where = np.full((int(columns.max(initial=0)) + 1, map_hw[0] + 2, map_hw[1] + 2), -1, np.int64)  # a border, so that all have neighbours
    where[columns, y + 1, x + 1] = np.arange(len(y))
    pairs = [np.stack([np.arange(len(y)), where[columns, y + 1 + down, x + 1 + right]]) for down, right in _LATER]
    one, other = np.concatenate([pair[:, pair[1] >= 0] for pair in pairs], axis=1)
    root = np.arange(len(y))
    while True:  # each round joins every blob that is in parts with a neighbouring part
        low = np.minimum(root[one], root[other])
        before = root.copy()
        np.minimum.at(root, before[one], low)
        np.minimum.at(root, before[other], low)
        while (root[root] != root).any():
            root = root[root]
        if (root == before).all():
            return root
