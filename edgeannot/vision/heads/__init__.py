"""Heads: how a model's raw outputs become detections. One file a kind; a kind is a frozen dataclass of the facts a card states.

A head's fields are the card's `[head]` table (without `kind`). Its methods are functions of values:

* `check(outputs, input_wh)` says at load whether the tensors fit what the card claims, and counts the classes;
* `decode(outputs, input_wh, min_score)` gives candidates in *model* pixels, before suppression, in any order.

A head is a stdlib dataclass with a `kind: Literal[...]` field, so that pydantic reads it from a card; `AnyHead` is the union of all.
"""

from __future__ import annotations

from typing import Protocol

from edgeannot.vision.data import Detections, Outputs, TensorRef, TensorSpec
from edgeannot.vision.heads.classify import Classify
from edgeannot.vision.heads.dfl import Dfl
from edgeannot.vision.heads.embed import Embed
from edgeannot.vision.heads.end_to_end import EndToEnd
from edgeannot.vision.heads.split import Split
from edgeannot.vision.heads.ssd_anchors import SsdAnchors
from edgeannot.vision.heads.ssd_postprocess import SsdPostprocess
from edgeannot.vision.heads.yolo_fastestv2 import YoloFastestV2
from edgeannot.vision.heads.yolo_grid import YoloGrid
from edgeannot.vision.heads.yolo_rows import YoloRows
from edgeannot.vision.heads.yolox import Yolox

__all__ = ["AnyHead", "Head"]

AnyHead = SsdPostprocess | SsdAnchors | YoloGrid | YoloFastestV2 | YoloRows | Yolox | Split | Dfl | EndToEnd | Classify | Embed
"""Every kind, for the card's `[head]` table."""


class Head(Protocol):
    """What every kind of head provides."""

    @property
    def kind(self) -> str:
        """The word in the card's `[head] kind = "..."`."""

    @property
    def score_outputs(self) -> tuple[TensorRef, ...]:
        """The outputs that hold scores (and perhaps boxes beside them), whose numbers have to be finite."""

    @property
    def suppress(self) -> bool:
        """Whether `decode` may answer with overlapping boxes of one object, so that NMS must follow."""

    def check(self, outputs: tuple[TensorSpec, ...], input_wh: tuple[int, int]) -> int | None:
        """The number of classes that the tensors hold, or None where they do not tell (an SSD's post-process op).

        Raises CardError, with both values in it, when a tensor is missing or has another shape than the fields claim.
        """

    def decode(self, outputs: Outputs, input_wh: tuple[int, int], min_score: float) -> Detections:
        """Candidates with `score >= min_score`; boxes xyxy in model pixels; class ids as the model counts them."""
