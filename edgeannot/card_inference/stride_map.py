"""An output that belongs to one stride of a detector, and how it is laid out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from edgeannot.card_inference.facts import Out

__all__ = ["Form", "StrideMap"]

Form = Literal["hwc", "chw", "hwac", "ahwc", "achw", "nc", "cn"]
"""The axes of a map behind the batch's: height, width, channels, anchors, or n cells in a row."""


@dataclass(frozen=True, slots=True)
class StrideMap:
    """An output that belongs to one stride: `form` says where its cells and its channels are."""

    out: Out
    stride: int
    channels: int
    form: Form

    @property
    def channels_last(self) -> bool:
        """Whether a cell's numbers lie together."""
        return self.form in {"hwc", "hwac", "nc", "ahwc"}
