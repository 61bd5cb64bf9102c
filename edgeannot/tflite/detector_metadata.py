"""How a detector's raw outputs become boxes, as MediaPipe's model maker and metadata writers note it inside a model.

The notes are a FlatBuffer of their own, the custom metadata DETECTOR_METADATA of the subgraph. Its schema is
`object_detector_metadata_schema.fbs` of https://github.com/google-ai-edge/mediapipe (identifier V001). The reader there
(`detection_postprocessing_graph.cc`) takes a box's numbers y first, and the largest of its class scores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeannot.tflite.flatbuffer import Broken, Table, root

__all__ = ["DETECTOR_METADATA", "DetectorMetadata", "parse_detector_metadata"]

DETECTOR_METADATA = "DETECTOR_METADATA"
"""Name of the entry."""
MAX_ANCHORS = 1 << 18
"""EfficientDet-Lite4 at 640 pixels has 76,725."""
MAX_COUNT = 1 << 16
"""Classes, and numbers a box."""


@dataclass(frozen=True, slots=True)
class DetectorMetadata:
    """What the notes say. All of it is finite and usable."""

    classes: int
    """Columns of class scores, a background's included."""
    numbers: int
    """Numbers a box: y, x, height, width, then those of keypoints."""
    scales_yxhw: tuple[float, float, float, float]
    """The first four numbers are divided by these."""
    exponential: bool
    """Whether sizes are exp(t) times the anchor's rather than t times it."""
    sigmoid: bool
    """Whether the scores still need a sigmoid."""
    anchors: NDArray[np.float32] = field(compare=False)
    """(N, 4) centre x, centre y, width, height in shares of the input, in the order of the rows."""


def parse_detector_metadata(blob: bytes) -> DetectorMetadata:
    """Return what the entry's content says. Raises Broken with what is wrong."""
    # table ObjectDetectorOptions: min_parser_version, ssd_anchors_options, tensors_decoding_options
    top = root(blob)
    anchors, decoding = _anchors(top), top.table(2)
    if decoding is None:
        raise Broken("it holds no way to decode")
    # table TensorsDecodingOptions: num_classes, num_boxes, num_coords, keypoint_coord_offset, num_keypoints, num_values_per_keypoint,
    # x_scale, y_scale, w_scale, h_scale, apply_exponential_on_box_size, sigmoid_score
    classes, boxes, numbers = (decoding.number(slot, "i") for slot in range(3))
    x, y, w, h = (decoding.real(slot) for slot in range(6, 10))
    if not 0 < classes <= MAX_COUNT:
        raise Broken(f"it states {classes} classes")
    if not 4 <= numbers <= MAX_COUNT:
        raise Broken(f"it states {numbers} numbers a box")
    if boxes != len(anchors):
        raise Broken(f"it states {boxes} boxes and has {len(anchors)} anchors")
    if not all(math.isfinite(scale) and scale > 0 for scale in (x, y, w, h)):
        raise Broken(f"it states scales of {x:g}, {y:g}, {w:g} and {h:g}")
    return DetectorMetadata(
        classes=classes,
        numbers=numbers,
        scales_yxhw=(y, x, h, w),
        exponential=decoding.number(10, "B") != 0,
        sigmoid=decoding.number(11, "B") != 0,
        anchors=anchors,
    )


def _anchors(top: Table) -> NDArray[np.float32]:
    # table SsdAnchorsOptions: fixed_anchors_schema; table FixedAnchorsSchema: anchors; table FixedAnchor: x_center, y_center, width, height
    options = top.table(1)
    fixed = options.table(0) if options else None
    start, count = fixed.vector(0, 4) if fixed else (0, 0)
    if not count:
        raise Broken("it holds no anchors")
    if count > MAX_ANCHORS:
        raise Broken(f"it claims {count} anchors")
    anchors = _float_rows(top.raw, start, count, 4)
    if not np.isfinite(anchors).all() or (anchors[:, 2:] <= 0).any():
        raise Broken("it holds an anchor without a size or a place")
    return anchors


def _float_rows(raw: bytes, start: int, count: int, columns: int) -> NDArray[np.float32]:
    """Return the first `columns` float fields of a vector's tables, all at once, since a loop takes a second for fifty thousand.

    start: where the vector's offsets begin. A field that is not stored is 0. Raises Broken where an offset leads outside.
    """
    slots = start + 4 * np.arange(count, dtype=np.int64)
    tables = slots + _at(raw, slots, "<u4")
    vtables = tables - _at(raw, tables, "<i4")
    lengths = _at(raw, vtables, "<u2")
    rows = np.zeros((count, columns), np.float32)
    for column in range(columns):
        slot = 4 + 2 * column
        held = np.flatnonzero(lengths >= slot + 2)
        offsets = _at(raw, vtables[held] + slot, "<u2").astype(np.int64)
        held, offsets = held[offsets > 0], offsets[offsets > 0]
        rows[held, column] = _at(raw, tables[held] + offsets, "<f4")
    return rows


def _at(raw: bytes, places: NDArray[np.int64], kind: str) -> NDArray[Any]:
    """Return the numbers of a type that stand at these bytes. Raises Broken where one is not inside."""
    width = np.dtype(kind).itemsize
    outside = places[(places < 0) | (places + width > len(raw))]
    if len(outside):
        raise Broken(f"{width} bytes are wanted at byte {outside[0]}, and it ends at {len(raw)}")
    numbers: NDArray[Any] = np.frombuffer(raw, np.uint8)[places[:, None] + np.arange(width)].view(kind).reshape(-1)
    return numbers
