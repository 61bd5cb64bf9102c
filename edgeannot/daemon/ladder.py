"""The governor's ladder of models: the one in force at the top, then cheaper ones, from what was measured or, else, from the cards."""

from __future__ import annotations

from collections.abc import Sequence

from edgeannot.choice.candidates import Candidate
from edgeannot.daemon.governor import DegradationLevel

__all__ = ["levels_below"]

_CHEAPER = 0.9
"""A level must cost at most this part of the one above it; smaller steps would not be felt."""


def levels_below(name: str, candidates: Sequence[Candidate]) -> list[DegradationLevel]:
    """The levels from the model `name` (NAME[@SIZE]) downwards: its own smaller inputs, then other models, each cheaper than the last.

    The candidates are those of the choice: they do the task and know the labels. Only the top where the name is not among them, or
    its cost is not known.
    """
    usable = [c for c in candidates if not c.rejection]
    top = next((c for c in usable if c.name == name), None)
    if top is None or (top_cost := _cost(top, top)) is None:
        return [DegradationLevel(name, 1.0)]
    costs = [(c, cost) for c in usable if (cost := _cost(c, top)) is not None]
    own = sorted(((c, cost) for c, cost in costs if c.facts is top.facts), key=lambda row: -row[1])
    others = sorted(((c, cost) for c, cost in costs if c.facts is not top.facts), key=lambda row: -row[1])
    levels = [DegradationLevel(name, top_cost)]
    for candidate, cost in own + others:
        if cost <= _CHEAPER * levels[-1].cost:
            levels.append(DegradationLevel(candidate.name, cost))
    return levels


def _cost(candidate: Candidate, top: Candidate) -> float | None:
    """What one picture costs: ms where the top was measured, else multiply-accumulates; None where it cannot be compared to the top."""
    if top.ms is None and not _macs(top):
        return candidate.facts.area(candidate.size) if candidate.facts is top.facts else None
    if top.ms is None:
        return _macs(candidate) or None
    if (ms := candidate.ms or candidate.predicted_ms) is not None:
        return ms
    macs, top_macs = _macs(candidate), _macs(top)
    return top.ms * macs / top_macs if macs and top_macs else None


def _macs(candidate: Candidate) -> float:
    """Multiply-accumulates at its size; 0: not known. The work of a convolutional network is proportional to its input's area."""
    facts = candidate.facts
    return facts.macs * facts.area(candidate.size) / (facts.width * facts.height)
