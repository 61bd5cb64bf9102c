"""One small example of every kind of head: what the tests of the common contract run through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeannot.vision.data import Outputs, RawTensor, TensorSpec
from edgeannot.vision.heads import Head
from edgeannot.vision.heads.classify import Classify
from edgeannot.vision.heads.dfl import Dfl
from edgeannot.vision.heads.embed import Embed
from edgeannot.vision.heads.end_to_end import EndToEnd
from edgeannot.vision.heads.fastestdet import FastestDet
from edgeannot.vision.heads.fomo import Fomo
from edgeannot.vision.heads.joined import Joined
from edgeannot.vision.heads.split import Split
from edgeannot.vision.heads.ssd_anchors import AnchorLayer, ScaledAnchors, SsdAnchors
from edgeannot.vision.heads.ssd_postprocess import SsdPostprocess
from edgeannot.vision.heads.yolo_fastestv2 import YoloFastestV2
from edgeannot.vision.heads.yolo_grid import Grid, YoloGrid
from edgeannot.vision.heads.yolo_rows import YoloRows
from edgeannot.vision.heads.yolox import Yolox

INPUT_WH = (64, 32)
PAIR = ((6.0, 9.0), (20.0, 12.0))
CELLS = 8 * 4 + 4 * 2  # of strides 8 and 16


@dataclass(frozen=True)
class Example:
    """A head, the shapes of its outputs, the classes they hold, and which outputs are never quantized."""

    head: Head
    shapes: tuple[tuple[int, ...], ...]
    classes: int | None
    whole: tuple[int, ...] = ()
    """Outputs that hold class ids or counts."""
    joins: bool = False
    """Whether the minimum score decides which places are one object."""


def spec(shape: tuple[int, ...], index: int = 0, dtype: Any = np.float32, scale: float = 0.0, zero_point: int = 0) -> TensorSpec:
    return TensorSpec(f"out{index}", index, shape, np.dtype(dtype), scale, zero_point)


def specs(*shapes: tuple[int, ...]) -> tuple[TensorSpec, ...]:
    return tuple(spec(shape, i) for i, shape in enumerate(shapes))


def outputs(*arrays: Any) -> Outputs:
    """Float outputs."""
    floats = [np.asarray(array, np.float32) for array in arrays]
    return Outputs([RawTensor(array, spec(array.shape, i)) for i, array in enumerate(floats)])


def quantized(array: NDArray[Any], dtype: Any, scale: float, zero_point: int, index: int = 0) -> RawTensor:
    """The nearest stored numbers, saturating."""
    limits = np.iinfo(dtype)
    stored = np.clip(np.round(array / scale) + zero_point, limits.min, limits.max).astype(dtype)
    return RawTensor(stored, spec(stored.shape, index, dtype, scale, zero_point))


def dequantized(raw: Sequence[RawTensor]) -> Outputs:
    """The same real values as floats."""
    return outputs(*[tensor.real() for tensor in raw])


EXAMPLES = {
    "ssd-postprocess": Example(SsdPostprocess(boxes=0, classes=1, scores=2, count=3), ((1, 6, 4), (1, 6), (1, 6), (1,)), None, (1, 3)),
    "ssd-postprocess without count": Example(SsdPostprocess(boxes=2, classes=1, scores=0), ((1, 6), (1, 6), (1, 6, 4)), None, (1,)),
    "ssd-anchors sigmoid": Example(
        SsdAnchors(boxes=(0,), scores=(1,), activation="sigmoid", background=0, scaled=ScaledAnchors(strides=(16, 32), reduce_lowest=True)),
        ((1, 8 * 3 + 2 * 6, 4), (1, 36, 5)),
        5,
    ),
    "ssd-anchors softmax": Example(
        SsdAnchors(boxes=(0,), scores=(1,), activation="softmax", background=0, scaled=ScaledAnchors(strides=(16,))),
        ((1, 48, 4), (1, 48, 4)),
        4,
    ),
    "ssd-anchors softmax, background in the middle": Example(
        SsdAnchors(boxes=(0,), scores=(1,), activation="softmax", background=2, scaled=ScaledAnchors(strides=(16,))),
        ((1, 48, 4), (1, 48, 4)),
        4,
    ),
    "ssd-anchors softmax, no background": Example(
        SsdAnchors(boxes=(0,), scores=(1,), activation="softmax", scaled=ScaledAnchors(strides=(16,))), ((1, 48, 4), (1, 48, 4)), 4
    ),
    "ssd-anchors, one output a layer": Example(
        SsdAnchors(
            boxes=(0, 2),
            scores=(1, 3),
            activation="none",
            code="xywh",
            layers=(AnchorLayer(stride=16, sizes=PAIR), AnchorLayer(stride=32, sizes=(*PAIR, (30, 30)))),
        ),
        ((1, 2, 4, 8), (1, 2, 4, 6), (1, 6, 4), (1, 6, 3)),
        3,
    ),
    "ssd-anchors from a tensor": Example(
        SsdAnchors(boxes=(0,), scores=(1,), anchor_tensor=2, activation="none", background=0, code="corners", scales=(1, 1, 1, 1)),
        ((1, 9, 4), (1, 9, 2), (1, 9, 4)),
        2,
    ),
    "joined": Example(
        Joined(
            parts=(
                SsdAnchors(boxes=(0,), scores=(1,), activation="sigmoid", scaled=ScaledAnchors(strides=(16,))),
                YoloGrid(grids=(Grid(output=2, anchors=PAIR),)),
            ),
            first_ids=(0, 4),
        ),
        ((1, 48, 4), (1, 48, 4), (1, 2, 4, 2 * 8)),
        7,
    ),
    "yolo-grid": Example(
        YoloGrid(grids=(Grid(output=0, anchors=PAIR), Grid(output=1, anchors=PAIR))), ((1, 2, 4, 2 * 8), (1, 4, 8, 2 * 8)), 3
    ),
    "yolo-grid NCHW": Example(YoloGrid(grids=(Grid(output=0, anchors=PAIR),), layout="NCHW"), ((1, 2 * 8, 2, 4),), 3),
    "yolo-grid NAHWC": Example(
        YoloGrid(grids=(Grid(output=0, anchors=PAIR),), layout="NAHWC", size="square", xy_scale=2), ((1, 2, 2, 4, 8),), 3
    ),
    "yolo-grid v2": Example(
        YoloGrid(grids=(Grid(output=0, anchors=PAIR),), class_activation="softmax", anchor_units="cells"), ((1, 2, 4, 2 * 8),), 3
    ),
    "yolo-grid scaled v4": Example(
        YoloGrid(grids=(Grid(output=0, anchors=PAIR),), size="square", activation="none", class_activation="none", xy_scale=2),
        ((1, 2, 4, 2, 8),),
        3,
    ),
    "yolo-fastestv2": Example(YoloFastestV2(outputs=(0,), strides=(8, 16), anchors=(PAIR, PAIR)), ((CELLS, 10 + 3),), 3),
    "yolo-fastestv2, three outputs a stride": Example(
        YoloFastestV2(
            outputs=(0, 1, 2), strides=(16,), anchors=(PAIR,), layout="channels-first", activation="sigmoid", class_activation="softmax"
        ),
        ((1, 8, 2, 4), (1, 2, 2, 4), (1, 3, 2, 4)),
        3,
    ),
    "yolo-rows v5": Example(YoloRows(output=0, layout="rows", objectness=True, box_units="normalized"), ((1, 30, 5 + 3),), 3),
    "yolo-rows v8": Example(YoloRows(output=0, layout="columns", objectness=False, box_units="normalized"), ((1, 4 + 3, 30),), 3),
    "yolo-rows v8 with masks": Example(
        YoloRows(output=0, layout="columns", objectness=False, box_units="pixels", extra_columns=5), ((1, 4 + 3 + 5, 30),), 3
    ),
    "yolo-rows RT-DETR": Example(
        YoloRows(output=0, layout="rows", objectness=False, box_units="normalized", suppressed=True), ((1, 30, 4 + 3),), 3
    ),
    "yolo-rows, logits and corners": Example(
        YoloRows(output=0, layout="rows", objectness=True, box_units="pixels", box_form="xyxy", activation="sigmoid"), ((30, 5 + 3),), 3
    ),
    "yolox": Example(Yolox(outputs=(0,), strides=(8, 16)), ((1, CELLS, 5 + 3),), 3),
    "yolox, one output a stride": Example(
        Yolox(outputs=(0, 1), strides=(8, 16), layout="channels-first", activation="sigmoid"), ((1, 8, 4, 8), (1, 8, 2, 4)), 3
    ),
    "split": Example(Split(boxes=0, scores=1, box_layout="rows", box_units="normalized", box_form="xyxy"), ((1, 30, 4), (1, 30, 3)), 3),
    "split columns": Example(
        Split(boxes=1, scores=0, box_layout="columns", score_layout="columns", box_units="pixels", box_form="cxcywh", activation="sigmoid"),
        ((1, 3, 30), (1, 4, 30)),
        3,
    ),
    "split DETR, the last column is no object": Example(
        Split(boxes=0, scores=1, box_layout="rows", box_units="normalized", box_form="cxcywh", activation="softmax", background=3),
        ((1, 30, 4), (1, 30, 4)),
        3,
    ),
    "split DETR of TensorFlow, y first": Example(
        Split(
            boxes=0,
            scores=1,
            box_layout="rows",
            box_units="normalized",
            box_form="cycxhw",
            activation="softmax",
            background=0,
            suppressed=True,
        ),
        ((1, 30, 4), (1, 30, 4)),
        4,
    ),
    "split, probabilities with a background in the middle": Example(
        Split(boxes=0, scores=1, box_layout="rows", score_layout="columns", box_units="pixels", box_form="xyxy", background=1),
        ((1, 30, 4), (1, 3, 30)),
        3,
    ),
    "split with class ids": Example(
        Split(boxes=0, scores=1, classes=2, box_layout="rows", box_units="pixels", box_form="xyxy"),
        ((1, 30, 4), (1, 30), (1, 30)),
        None,
        (2,),
    ),
    "split with objectness": Example(
        Split(boxes=0, scores=1, objectness=2, box_layout="rows", box_units="normalized", box_form="yxyx"),
        ((1, 30, 4), (1, 30, 3), (1, 30, 1)),
        3,
    ),
    "dfl": Example(
        Dfl(strides=(8, 16), boxes=(0, 1), scores=(2, 3), activation="sigmoid"),
        ((1, 4, 8, 64), (1, 2, 4, 64), (1, 4, 8, 3), (1, 2, 4, 3)),
        3,
    ),
    "dfl with score sums": Example(
        Dfl(strides=(8, 16), boxes=(0, 1), scores=(2, 3), score_sums=(4, 5), activation="none", layout="channels-first"),
        ((1, 64, 4, 8), (1, 64, 2, 4), (1, 3, 4, 8), (1, 3, 2, 4), (1, 1, 4, 8), (1, 1, 2, 4)),
        3,
    ),
    "dfl NanoDet": Example(
        Dfl(strides=(16, 8), boxes=(0, 2), scores=(1, 3), bins=8, activation="none"), ((1, 8, 32), (1, 8, 3), (1, 32, 32), (1, 32, 3)), 3
    ),
    "dfl joined": Example(Dfl(strides=(8, 16), boxes=(0,), joined="scores-first", bins=8, activation="none"), ((1, CELLS, 32 + 3),), 3),
    "dfl distances": Example(Dfl(strides=(8, 16), boxes=(0,), scores=(1,), bins=1, activation="none"), ((1, CELLS, 4), (1, CELLS, 3)), 3),
    "dfl NanoDet-g, 11 bins": Example(
        Dfl(strides=(8, 16), boxes=(0,), joined="scores-first", bins=11, activation="none"), ((1, CELLS, 44 + 3),), 3
    ),
    "fastestdet": Example(FastestDet(output=0, stride=8), ((1, 4, 8, 5 + 3),), 3),
    "fastestdet, logits": Example(
        FastestDet(output=0, layout="channels-first", activation="sigmoid", class_activation="softmax", objectness_power=1, class_power=1),
        ((1, 5 + 3, 2, 4),),
        3,
    ),
    "fomo": Example(Fomo(output=0, background=0), ((1, 4, 8, 4),), 4, joins=True),
    "fomo, logits": Example(Fomo(output=0, layout="channels-first", activation="softmax", background=3), ((1, 4, 4, 8),), 4, joins=True),
    "fomo, a sigmoid each and no background": Example(Fomo(output=0, activation="sigmoid"), ((4, 8, 2),), 2, joins=True),
    "end-to-end": Example(EndToEnd(output=0, box_units="normalized"), ((1, 20, 6),), None),
    "yolo-rows with angles": Example(
        YoloRows(output=0, layout="columns", objectness=False, box_units="pixels", rotated=True), ((1, 4 + 3 + 1, 30),), 3
    ),
    "end-to-end with angles": Example(EndToEnd(output=0, box_units="pixels", box_form="cxcywh", rotated=True), ((1, 20, 7),), None),
    "end-to-end pixels with masks": Example(EndToEnd(output=0, box_units="pixels", extra_columns=3), ((1, 20, 9),), None),
    "end-to-end without suppression": Example(
        EndToEnd(output=0, box_units="pixels", box_form="cxcywh", suppressed=False), ((1, 20, 6),), None
    ),
    "classify": Example(Classify(output=0), ((1, 7),), 7),
    "classify softmax": Example(Classify(output=0, activation="softmax", top_k=2), ((1, 1, 1, 7),), 7),
    "embed": Example(Embed(output=0), ((1, 1, 1, 12),), None),
}
