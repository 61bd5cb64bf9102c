"""Fits a list of names to the classes of a head: which line is class 0."""

from __future__ import annotations

from edgeannot.base.errors import CardError
from edgeannot.card_inference.hints import Hints
from edgeannot.card_inference.interpretation import Interpretation, is_background

__all__ = ["fit_names", "names_by_class"]

NOTHING = "background"
"""The name of a class that stands for no object; cards ignore it."""


def names_by_class(names: tuple[str, ...], offset: int, interpretation: Interpretation) -> tuple[tuple[str, ...], int]:
    """The names and offset as the card holds them: a background that the list lacks gets its line, so that it is never reported."""
    if offset < 0:
        return (NOTHING,) * -offset + names, 0
    if interpretation.background == 0 and not names and interpretation.classes:
        return (NOTHING, *(str(i) for i in range(1, interpretation.classes))), 0
    counted = interpretation.background == 0 or (interpretation.task == "classify" and bool(names) and is_background(names[0]))
    if counted and names and offset == 0:
        return (NOTHING, *names[1:]), 0
    return names, offset


def fit_names(names: tuple[str, ...], where: str, interpretation: Interpretation, hints: Hints) -> tuple[int, str]:
    """The offset (line = class id + offset) and why. Raises CardError, with both counts, when the names do not fit the classes."""
    lines, classes = len(names), interpretation.classes
    if not names:
        return 0, "there are no class names, so numbers will be shown (--labels FILE)"
    if hints.label_offset is not None:
        if classes is not None and classes + hints.label_offset > lines:
            raise CardError(f"--label-offset {hints.label_offset}: the model has {classes} classes, {where} has {lines} lines")
        return hints.label_offset, f"{where} has {lines} lines; line = class {hints.label_offset:+d}, as given"
    if classes is None:
        return (
            (1, f"{where} starts with {names[0]!r}, so class 0 is its second line")
            if is_background(names[0])
            else (0, f"{where} has {lines} lines")
        )
    both = f"{where} has {lines} lines for {classes} classes"
    counts_nothing = interpretation.task == "classify" or interpretation.background is not None or not is_background(names[0])
    if lines == classes and counts_nothing:
        return 0, f"{both}: line = class"
    if lines == classes + 1 and interpretation.background is None and is_background(names[0]):
        return 1, f"{both}, its first line is {names[0]!r}: line = class + 1"
    if lines == classes - 1 and (interpretation.background == 0 or classes == 1001):
        return -1, f"{both}, the first of which is the background: line = class - 1"
    gaps = "; COCO's own ids run to 90 with gaps, so its 90-line list is wanted" if (classes, lines) in {(90, 80), (91, 80)} else ""
    raise CardError(
        f"the model has {classes} classes{' (column 0 is the background)' if interpretation.background == 0 else ''}, "
        f"{where} has {lines} lines, the first is {names[0]!r}{gaps}; "
        "give the label file that belongs to this model (--labels), or say which line is class 0 (--label-offset)"
    )
