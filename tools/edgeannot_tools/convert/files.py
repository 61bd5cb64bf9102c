"""`edgeannot convert` as a function, for `edgeannot models pull`: files of another framework become a model with a card in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgeannot.base.errors import CardError
from edgeannot.card_inference import Hints
from edgeannot_tools.convert.command import convert_sources
from edgeannot_tools.convert.conversion import Request, finish, write_together

__all__ = ["convert_files"]


def convert_files(sources: Sequence[Path], out: Path, name: str, labels: Path | None, made_by: str) -> tuple[str, ...]:
    """Write `out` (a .tflite), its card and its names; what was done and what may be wrong, a sentence each.

    labels: a file of class names. Raises as `convert_sources` does, and CardError where the model's use is not understood.
    """
    converted = convert_sources(sources, Request(hints=Hints(labels=labels)))
    files, card = finish(converted, out, name, made_by)
    if card is None:
        raise CardError(f"no card can be written for {converted.source}: {converted.no_card}")
    write_together(files)
    return (*converted.notes, *converted.warnings)
