"""YOLO whose outputs are the last feature maps: v2, v3, v4 and scaled v4, the Darknet "fastest" ones, v5 cut before its decoder."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from edgeannot.base.errors import CardError
from edgeannot.vision.data import Detections, FloatArray, IntArray, Outputs, RawTensor, TensorRef, TensorSpec
from edgeannot.vision.geometry import cxcywh_to_xyxy
from edgeannot.vision.heads._boxes import candidates, safe_exp
from edgeannot.vision.heads._grids import locate
from edgeannot.vision.heads._scores import Activation, activate, best_columns, joined_rows, softmax, stored_threshold
from edgeannot.vision.heads._tensors import CardTable, check_score_step, output_spec, shape_error

__all__ = ["Grid", "YoloGrid"]

_STRIDES = (8, 16, 32, 64)
"""Of nearly all networks. They need not divide the input: at 300 pixels one of 32 gives 10 cells of 32 pixels, not of 30, as the network
pads what is left over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid(CardTable):
    """One output map and the anchors (width, height) of its cells, in the order of its channels."""

    output: TensorRef
    anchors: tuple[tuple[float, float], ...]
    xy_scale: float | None = None
    """This map's own, where the maps differ (v4's `scale_x_y`); None: the head's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class YoloGrid(CardTable):
    """Maps with, per cell and anchor, x, y, w, h, objectness and C class numbers; score = objectness * best class.

    The stride is the input size over the map's, or one of 8 to 64 whose last cells reach over the input's edge. With s the logistic
    function, c the cell and a the anchor:
    centre = (s(t) * xy_scale - (xy_scale - 1) / 2 + c) * stride; size = exp(t) * a, or (2 s(t))^2 * a.

    v2: `class_activation = "softmax"`, `anchor_units = "cells"`. v3, v4: as it is, with the cfg's `scale_x_y` as `xy_scale`.
    Scaled v4 (`new_coords = 1`): `size = "square"`, `activation = "none"`, `class_activation = "none"`, `xy_scale = 2`.
    v5 and v7 cut before their decoder: `size = "square"`, `xy_scale = 2`. https://arxiv.org/abs/1804.02767, section 2.1
    """

    suppress: ClassVar[bool] = True
    """Always: neighbouring cells find the same object."""

    kind: Literal["yolo-grid"] = "yolo-grid"
    grids: tuple[Grid, ...]
    layout: Literal["NHWC", "NCHW", "NAHWC"] = "NHWC"
    """NHWC: (1, h, w, a * (5 + C)) or (1, h, w, a, 5 + C); NCHW: (1, a * (5 + C), h, w) or (1, a, 5 + C, h, w);
    NAHWC: (1, a, h, w, 5 + C), as PyTorch's v5 arranges it."""
    activation: Activation = "sigmoid"
    """What is still to be done to x, y, objectness (and to w, h where size is "square"); none: the graph has done it."""
    class_activation: Literal["sigmoid", "softmax", "none"] = "sigmoid"
    size: Literal["exp", "square"] = "exp"
    xy_scale: float = 1.0
    anchor_units: Literal["pixels", "cells"] = "pixels"
    """Pixels of the input the anchors were made for, or cells of the map (v2)."""

    @property
    def score_outputs(self) -> tuple[TensorRef, ...]:
        """The outputs that hold scores."""
        return tuple(grid.output for grid in self.grids)

    def check(self, outputs: tuple[TensorSpec, ...], input_wh: tuple[int, int]) -> int | None:
        """Return the number of classes. Raises CardError."""
        if not self.grids:
            raise CardError("head.grids: wanted one or more output maps, found none")
        found = {
            self._count_classes(output_spec(outputs, grid.output, f"grids[{i}]"), grid, f"grids[{i}]", input_wh)
            for i, grid in enumerate(self.grids)
        }
        if len(found) != 1:
            raise CardError(f"head.grids: wanted the same number of classes in every map, found {sorted(found)}; correct the anchors")
        return found.pop()

    def decode(self, outputs: Outputs, input_wh: tuple[int, int], min_score: float) -> Detections:
        """Return the best class of each cell and anchor that reaches `min_score`."""
        parts, strides, cells, anchors, usable = [], [], 0, 0, True
        for grid in self.grids:
            tensor = outputs[grid.output]
            table, map_wh = self._by_anchor(tensor.values, len(grid.anchors))
            strides.append(_stride(input_wh, map_wh) or 1)
            threshold = stored_threshold(tensor, self.activation, min_score)
            found = (table[:, :, 4] >= threshold).reshape(-1).nonzero()[0]
            if len(found):
                anchor, cell = np.divmod(found, table.shape[1])
                real = RawTensor(table[anchor, cell], tensor.spec).real()
                parts.append((real, cells + cell, anchors + anchor))
                usable &= tensor.spec.usable
            cells, anchors = cells + table.shape[1], anchors + table.shape[0]
        if not parts:  # most pictures of a camera: a small board has better use for the time than arithmetic over nothing
            return Detections.empty()
        real, cell, anchor = joined_rows(parts, usable=usable)
        return self._boxes(real, cell, anchor, tuple(strides), input_wh, min_score)

    def _boxes(
        self, real: FloatArray, cell: IntArray, anchor: IntArray, strides: tuple[int, ...], input_wh: tuple[int, int], min_score: float
    ) -> Detections:
        """Return detections from the real numbers (n, 5 + C) of cells, and from their numbers and those of their anchors over all maps."""
        cells, stride = locate(cell, strides, input_wh)
        scale, shift, sizes = _anchor_facts(self, strides)
        classes, class_scores = self._best_class(real[:, 5:])
        ready = activate(real[:, :5], self.activation)
        boxes = np.empty((len(real), 4), np.float32)
        if scale is None:
            np.add(ready[:, :2], cells, out=boxes[:, :2])
        else:
            np.add(ready[:, :2] * scale[anchor] - shift[anchor], cells, out=boxes[:, :2])
        boxes[:, :2] *= stride
        shares = safe_exp(real[:, 2:4]) if self.size == "exp" else (np.float32(2) * ready[:, 2:4]) ** 2
        np.multiply(shares, sizes[anchor], out=boxes[:, 2:])
        return candidates(cxcywh_to_xyxy(boxes), ready[:, 4] * class_scores, classes, min_score)

    def _best_class(self, numbers: FloatArray) -> tuple[IntArray, FloatArray]:
        """Return class ids and scores from the class numbers (n, C) of the cells that are left."""
        classes = best_columns(numbers)
        if self.class_activation == "softmax":
            return classes, softmax(numbers).max(axis=1)
        return classes, activate(numbers.max(axis=1), self.class_activation)

    def _by_anchor(self, values: NDArray[Any], anchors: int) -> tuple[NDArray[Any], tuple[int, int]]:
        """Return (a, h * w, 5 + C) whatever the layout, a view, and the map's width and height."""
        if self.layout == "NHWC":
            height, width = values.shape[1:3]
            return values.reshape(height * width, anchors, -1).transpose(1, 0, 2), (width, height)
        if self.layout == "NAHWC":
            height, width = values.shape[-3:-1]
            return values.reshape(anchors, height * width, -1), (width, height)
        height, width = values.shape[-2:]
        return values.reshape(anchors, -1, height * width).transpose(0, 2, 1), (width, height)

    def _count_classes(self, spec: TensorSpec, grid: Grid, role: str, input_wh: tuple[int, int]) -> int:
        shape, anchors = spec.shape, len(grid.anchors)
        wanted = {
            "NHWC": f"(1, h, w, {anchors} * (5 + C)) or (1, h, w, {anchors}, 5 + C)",
            "NCHW": f"(1, {anchors} * (5 + C), h, w) or (1, {anchors}, 5 + C, h, w)",
            "NAHWC": f"(1, {anchors}, h, w, 5 + C)",
        }[self.layout]
        if len(shape) not in (4, 5) or shape[0] != 1 or not anchors or (self.layout == "NAHWC" and len(shape) != 5):
            raise shape_error(spec, role, wanted)
        split = {"NHWC": shape[3:], "NCHW": shape[1:-2], "NAHWC": (shape[1], shape[-1])}[self.layout]
        numbers = split[-1] if len(split) == 2 else split[0] // anchors
        if (len(split) == 2 and split[0] != anchors) or (len(split) == 1 and split[0] % anchors) or numbers < 6:
            raise shape_error(spec, role, f"{wanted}, as there are {anchors} anchors", "correct head.grids.anchors or head.layout")
        height, width = {"NHWC": shape[1:3], "NCHW": shape[-2:], "NAHWC": shape[2:4]}[self.layout]
        if _stride(input_wh, (width, height)) is None:
            raise shape_error(
                spec,
                role,
                f"a map with one stride for the input of {input_wh[0]}x{input_wh[1]}, found {width}x{height} cells",
                "correct head.layout or the input size",
            )
        if self.activation == "none":
            check_score_step(spec, role)
        return numbers - 5


@lru_cache(maxsize=8)
def _anchor_facts(head: YoloGrid, strides: tuple[int, ...]) -> tuple[FloatArray | None, FloatArray, FloatArray]:
    """Return of all anchors: xy_scale (a, 1), None where all are 1; its shift (a, 1); width and height in pixels (a, 2)."""
    scales = [head.xy_scale if grid.xy_scale is None else grid.xy_scale for grid in head.grids for _ in grid.anchors]
    cells = [stride if head.anchor_units == "cells" else 1 for grid, stride in zip(head.grids, strides, strict=True) for _ in grid.anchors]
    scale = np.array(scales, np.float32)[:, None]
    sizes = np.array([size for grid in head.grids for size in grid.anchors], np.float32) * np.array(cells, np.float32)[:, None]
    return None if (scale == 1).all() else scale, np.array([(one - 1) / 2 for one in scales], np.float32)[:, None], sizes


def _stride(input_wh: tuple[int, int], map_wh: tuple[int, int]) -> int | None:
    """Return the side of a cell in pixels of the input; None where no side fits both directions."""
    for one in _STRIDES:
        if (-(-input_wh[0] // one), -(-input_wh[1] // one)) == map_wh:
            return one
    if input_wh[0] % map_wh[0] or input_wh[1] % map_wh[1] or input_wh[0] // map_wh[0] != input_wh[1] // map_wh[1]:
        return None
    return input_wh[0] // map_wh[0]
