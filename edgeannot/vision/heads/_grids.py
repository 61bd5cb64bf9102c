"""Tables of grid cells: one row a cell, cells row by row, one grid a stride, the grids in one tensor or in one each."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgeannot.base.errors import CardError
from edgeannot.vision.data import FloatArray, IntArray, TensorRef, TensorSpec
from edgeannot.vision.heads._tensors import shape_error

__all__ = ["Layout", "cell_count", "check_cells", "check_strides", "grid_wh", "locate", "pair_with_strides", "table_of"]

Layout = Literal["channels-last", "channels-first"]


def grid_wh(stride: int, input_wh: tuple[int, int]) -> tuple[int, int]:
    """Return cells on each axis; a cell that reaches over the edge counts."""
    return -(-input_wh[0] // stride), -(-input_wh[1] // stride)


def cell_count(strides: tuple[int, ...], input_wh: tuple[int, int]) -> int:
    """Return cells of all the grids."""
    return sum(w * h for w, h in (grid_wh(stride, input_wh) for stride in strides))


def locate(rows: IntArray, strides: tuple[int, ...], input_wh: tuple[int, int]) -> tuple[FloatArray, FloatArray]:
    """For row numbers of a table over all the grids: cells (n, 2) as column, row of the own grid, and strides (n, 1) in pixels."""
    cells, sides = _all_cells(strides, input_wh)
    return cells[rows], sides[rows]


@lru_cache(maxsize=8)
def _all_cells(strides: tuple[int, ...], input_wh: tuple[int, int]) -> tuple[FloatArray, FloatArray]:
    """Return what `locate` does for all rows; 100 KB for 640x640. Read only."""
    grids = [(stride, *grid_wh(stride, input_wh)) for stride in strides]
    cells = np.concatenate([np.indices((h, w), np.float32)[::-1].reshape(2, -1).T for _, w, h in grids])
    sides = np.concatenate([np.full((w * h, 1), stride, np.float32) for stride, w, h in grids])
    return cells, sides


def pair_with_strides(refs: tuple[TensorRef, ...], strides: tuple[int, ...]) -> list[tuple[TensorRef, tuple[int, ...]]]:
    """Return each output with the strides of the grids in it: all of them where there is one output, else one each."""
    if len(refs) == 1:
        return [(refs[0], strides)]
    return [(ref, (stride,)) for ref, stride in zip(refs, strides, strict=True)]


def table_of(values: NDArray[Any], layout: Layout) -> NDArray[Any]:
    """Return (1, h, w, C) or (1, n, C), or channels first, as a table (n, C); a view where memory allows."""
    if layout == "channels-last":
        return values.reshape(-1, values.shape[-1])
    channels = values.shape[1] if values.shape[0] == 1 and values.ndim > 2 else values.shape[0]
    return values.reshape(channels, -1).T


def check_cells(spec: TensorSpec, role: str, layout: Layout, strides: tuple[int, ...], input_wh: tuple[int, int]) -> int:
    """Return the channels of a tensor of cells. Raises CardError when its cells are not those of the strides."""
    shape = spec.shape[1:] if len(spec.shape) > 2 and spec.shape[0] == 1 else spec.shape
    if len(shape) not in (2, 3):
        raise shape_error(spec, role, f"(1, cells, channels) or (1, height, width, channels), {layout}")
    *cells, channels = shape if layout == "channels-last" else (*shape[1:], shape[0])
    wanted, found = cell_count(strides, input_wh), int(np.prod(cells))
    if found != wanted:
        sizes = " + ".join("x".join(map(str, grid_wh(stride, input_wh))) for stride in strides)
        why = f"{sizes} for stride {', '.join(map(str, strides))} on {input_wh[0]}x{input_wh[1]}, {layout}"
        raise shape_error(spec, role, f"{wanted} cells ({why}), found {found}", "correct head.strides or head.layout")
    if len(cells) == 2 and len(strides) == 1 and tuple(reversed(cells)) != grid_wh(strides[0], input_wh):
        raise shape_error(spec, role, f"a grid of width x height {grid_wh(strides[0], input_wh)}")
    return channels


def check_strides(refs: tuple[TensorRef, ...], strides: tuple[int, ...], role: str) -> None:
    """Raise CardError unless there is one output, or one for each stride."""
    if not strides or min(strides) < 1:
        raise CardError(f"head.strides: wanted one or more strides in pixels, found {strides}")
    if len(refs) not in (1, len(strides)):
        raise CardError(f"head.{role}: wanted one output, or one for each of {len(strides)} strides, found {len(refs)}")
