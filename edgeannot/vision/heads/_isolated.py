"""A head of an installed package: one that raises or hangs makes its model unusable, in the words of an error that names it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from edgeannot.base.errors import CardError, OutputError, PluginError
from edgeannot.base.isolation import Isolated
from edgeannot.vision.data import Detections, Outputs, TensorRef, TensorSpec

if TYPE_CHECKING:
    from edgeannot.vision.heads import Head

__all__ = ["IsolatedHead"]


class IsolatedHead:
    """Reads outputs as the head does. What the head raises becomes CardError at load and OutputError for a picture."""

    __dataclass_fields__: ClassVar[dict[str, Any]] = {}

    def __init__(self, head: Head, package: str) -> None:
        """Raises CardError where the head does not say what it reads."""
        self.kind = head.kind
        self._head = head
        self._isolated = Isolated(f"the head {head.kind!r} of the package {package}")
        try:
            self.score_outputs: tuple[TensorRef, ...] = self._isolated.call(lambda: tuple(head.score_outputs))
            self.suppress: bool = self._isolated.call(lambda: bool(head.suppress))
        except PluginError as exc:
            raise CardError(str(exc)) from exc

    def check(self, outputs: tuple[TensorSpec, ...], input_wh: tuple[int, int]) -> int | None:
        """Check as the head does. Raises CardError."""
        known = {ref for spec in outputs for ref in (spec.index, spec.name)}
        if unknown := [ref for ref in self.score_outputs if ref not in known]:
            raise CardError(f"{self._isolated.whose} reads the output {unknown[0]!r}, which the model does not have")
        try:
            return self._isolated.call(self._head.check, outputs, input_wh)
        except PluginError as exc:
            raise exc.__cause__ if isinstance(exc.__cause__, CardError) else CardError(str(exc)) from exc

    def decode(self, outputs: Outputs, input_wh: tuple[int, int], min_score: float) -> Detections:
        """Decode as the head does. Raises OutputError."""
        try:
            found: object = self._isolated.call(self._head.decode, outputs, input_wh, min_score)
        except PluginError as exc:
            raise OutputError(str(exc)) from exc
        if not isinstance(found, Detections):
            raise OutputError(f"{self._isolated.whose} gave a {type(found).__name__}, wanted Detections")
        return found
