"""Heads: how a model's raw outputs become detections. One file a kind; a kind is a frozen dataclass of the facts a card states.

A head's fields are the card's `[head]` table (without `kind`). Its methods are functions of values:

* `check(outputs, input_wh)` says at load whether the tensors fit what the card claims, and counts the classes;
* `decode(outputs, input_wh, min_score)` gives candidates in *model* pixels, before suppression, in any order.

A head is a stdlib dataclass with a `kind: Literal[...]` field, so that pydantic reads it from a card. A new kind is one file and one
line in `HEADS`.
"""

from __future__ import annotations

from dataclasses import is_dataclass
from typing import Any, ClassVar, Protocol

from edgeannot.base.registry import Registry
from edgeannot.vision.data import Detections, Outputs, TensorRef, TensorSpec
from edgeannot.vision.heads._isolated import IsolatedHead
from edgeannot.vision.heads.classify import Classify
from edgeannot.vision.heads.dfl import Dfl
from edgeannot.vision.heads.embed import Embed
from edgeannot.vision.heads.end_to_end import EndToEnd
from edgeannot.vision.heads.fastestdet import FastestDet
from edgeannot.vision.heads.fomo import Fomo
from edgeannot.vision.heads.joined import Joined
from edgeannot.vision.heads.split import Split
from edgeannot.vision.heads.ssd_anchors import SsdAnchors
from edgeannot.vision.heads.ssd_postprocess import SsdPostprocess
from edgeannot.vision.heads.yolo_fastestv2 import YoloFastestV2
from edgeannot.vision.heads.yolo_grid import YoloGrid
from edgeannot.vision.heads.yolo_rows import YoloRows
from edgeannot.vision.heads.yolox import Yolox

__all__ = ["HEADS", "Head", "reader_of"]


class Head(Protocol):
    """What every kind of head provides."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

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
        """Return the number of classes that the tensors hold, or None where they do not tell (an SSD's post-process op).

        Raises CardError, with both values in it, when a tensor is missing or has another shape than the fields claim.
        """

    def decode(self, outputs: Outputs, input_wh: tuple[int, int], min_score: float) -> Detections:
        """Return candidates with `score >= min_score`; boxes xyxy in model pixels; class ids as the model counts them."""


def _problem(name: str, kind: object) -> str:
    if not (isinstance(kind, type) and is_dataclass(kind)):
        return "is no dataclass"
    if missing := [word for word in ("kind", "score_outputs", "suppress", "check", "decode") if not hasattr(kind, word)]:
        return f"has no {missing[0]}"
    found = kind.__dataclass_fields__["kind"].default
    return "" if found == name else f"has the kind {found!r}"


_BUILT_IN: dict[str, type[Head]] = {
    "ssd-postprocess": SsdPostprocess,
    "ssd-anchors": SsdAnchors,
    "yolo-grid": YoloGrid,
    "yolo-fastestv2": YoloFastestV2,
    "yolo-rows": YoloRows,
    "yolox": Yolox,
    "fastestdet": FastestDet,
    "split": Split,
    "dfl": Dfl,
    "end-to-end": EndToEnd,
    "fomo": Fomo,
    "joined": Joined,
    "classify": Classify,
    "embed": Embed,
}
HEADS: Registry[type[Head]] = Registry("head", "edgeannot.heads", _BUILT_IN, _problem)


def reader_of(head: Head) -> Head:
    """Return what reads outputs as the head says: itself, or, for one of a package, a guard round it. Raises CardError."""
    package = HEADS.package(head.kind)
    return IsolatedHead(head, package) if package else head
