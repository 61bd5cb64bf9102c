"""Several detectors behind one backbone in one file: each part reads its own outputs, and its classes follow those of the part before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

from edgeannot.base.errors import CardError
from edgeannot.vision.data import Detections, Outputs, TensorRef, TensorSpec
from edgeannot.vision.heads._boxes import concatenate
from edgeannot.vision.heads._tensors import CardTable

__all__ = ["Joined"]


class _Part(Protocol):
    """What is needed of a part: a head of another kind."""

    @property
    def kind(self) -> str: ...

    @property
    def score_outputs(self) -> tuple[TensorRef, ...]: ...

    @property
    def suppress(self) -> bool: ...

    def check(self, outputs: tuple[TensorSpec, ...], input_wh: tuple[int, int]) -> int | None: ...

    def decode(self, outputs: Outputs, input_wh: tuple[int, int], min_score: float) -> Detections: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined(CardTable):
    """The detections of all parts together. A class id is the part's own plus the part's first one.

    As `edgeannot teach detect --keep` writes it: the old head of the backbone, then one of the taught rows.
    """

    kind: Literal["joined"] = "joined"
    parts: tuple[Any, ...]
    """Heads of other kinds, as in `[head]`."""
    first_ids: tuple[int, ...]
    """The first class id of each part: 0, then as many more as the part before has classes."""

    @property
    def score_outputs(self) -> tuple[TensorRef, ...]:
        """The outputs that hold scores, of all parts."""
        return tuple(output for part in self._parts() for output in part.score_outputs)

    @property
    def suppress(self) -> bool:
        """Where one of the parts needs it."""
        return any(part.suppress for part in self._parts())

    def check(self, outputs: tuple[TensorSpec, ...], input_wh: tuple[int, int]) -> int | None:
        """Return the number of classes of all parts. Raises CardError."""
        if not self.parts or len(self.parts) != len(self.first_ids):
            raise CardError(f"head.first_ids: wanted one id for each of the {len(self.parts)} parts, found {len(self.first_ids)}")
        total = 0
        for number, (part, first) in enumerate(zip(self._parts(), self.first_ids, strict=True)):
            if part.kind in ("joined", "classify", "embed"):
                raise CardError(f"head.parts[{number}]: wanted a head that finds objects, found {part.kind!r}")
            classes = part.check(outputs, input_wh)
            if classes is None:
                raise CardError(f"head.parts[{number}]: a head of kind {part.kind!r} does not tell how many classes it has")
            if first != total:
                raise CardError(f"head.first_ids[{number}]: wanted {total}, as so many classes come before, found {first}")
            total += classes
        return total

    def decode(self, outputs: Outputs, input_wh: tuple[int, int], min_score: float) -> Detections:
        """Return the candidates of all parts."""
        found = [part.decode(outputs, input_wh, min_score) for part in self._parts()]
        moved = [Detections(one.boxes, one.scores, one.classes + first) for one, first in zip(found, self.first_ids, strict=True)]
        return concatenate(moved)

    def _parts(self) -> tuple[_Part, ...]:
        return self.parts
