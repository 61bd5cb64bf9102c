"""The choice of a model in words: a table for people, and the same as values for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgeannot.choice.choose import Candidate, Decision
from edgeannot.choice.measurements import BUSY, Conditions

__all__ = ["as_dict", "as_table", "columns"]

_HEAD = ("", "MODEL", "NUMBERS", "THREADS", "MS", "P95", "CPU MS", "MEMORY", "ACCURACY", "WHY")
_NOTE = "ms: decode, preprocessing, inference and postprocessing of one picture of 0.8 megapixels; ~: by its size, not measured"


def as_table(decision: Decision, conditions: Conditions | None) -> str:
    """The candidates with their figures and why each won or lost, lines without an end."""
    lines = [f"budget: {decision.budget.why}"]
    if conditions is not None and any(c.shown for c in decision.candidates):
        lines += [f"measured on: {conditions.words()}", _NOTE]
    else:
        lines.append("nothing was measured; `edgeannot probe --explain` measures")
    if conditions is not None and conditions.quota is None and (busy := [c.shown.waited for c in decision.candidates if c.shown]):
        worst = max(busy)
        if worst > BUSY:
            lines.append(f"the board was busy: others had the core up to {worst:.0%} of the time; --remeasure when it is idle")
    lines += ["", *columns([_HEAD, *(_row(c, won=c is decision.winner) for c in decision.candidates)])]
    lines += [f"{'' if i else chr(10)}{reason}" for i, reason in enumerate(decision.reasons[1:])]
    return "\n".join(lines)


def as_dict(decision: Decision, conditions: Conditions | None) -> dict[str, Any]:
    """The same, ready for JSON; figures that are not known are null."""
    return {
        "budget_ms": round(decision.budget.ms, 1),
        "budget": decision.budget.why,
        "measured": decision.measured,
        "conditions": None if conditions is None else conditions.words(),
        "reasons": list(decision.reasons),
        "candidates": [_entry(c, won=c is decision.winner) for c in decision.candidates],
    }


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines, each column as wide as its widest cell."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _row(candidate: Candidate, *, won: bool) -> tuple[str, ...]:
    sample, accuracy = candidate.shown, candidate.accuracy
    about = "" if candidate.predicted_ms is None else f"~{candidate.predicted_ms:.0f}"
    figures = ("", str(candidate.threads) if won else "", about, "", "", "")
    if sample is not None:
        figures = (
            sample.numbers,
            str(sample.threads),
            f"{sample.ms:.1f}",
            f"{sample.p95_ms:.1f}",
            f"{sample.cpu_ms:.1f}",
            f"{sample.peak_bytes / 1e6:.0f} MB",
        )
    other = f" in {accuracy.numbers}" if accuracy and sample and accuracy.numbers != sample.numbers else ""
    shown = "" if accuracy is None else f"{accuracy.value:.2f} {accuracy.measure}{other}"
    return (">" if won else "", candidate.name, *figures, shown, candidate.words)


def _entry(candidate: Candidate, *, won: bool) -> dict[str, Any]:
    sample, accuracy = candidate.shown, candidate.accuracy
    return {
        "model": candidate.name,
        "family": candidate.facts.family,
        "won": won,
        "why": candidate.words,
        "threads": candidate.threads,
        "disturbed": candidate.disturbed is not None,
        "numbers": None if sample is None else sample.numbers,
        "ms": None if sample is None else round(sample.ms, 2),
        "p95_ms": None if sample is None else round(sample.p95_ms, 2),
        "cpu_ms": None if sample is None else round(sample.cpu_ms, 2),
        "peak_bytes": None if sample is None else sample.peak_bytes,
        "predicted_ms": None if candidate.predicted_ms is None else round(candidate.predicted_ms, 1),
        "accuracy": None
        if accuracy is None
        else {"value": accuracy.value, "measure": accuracy.measure, "dataset": accuracy.dataset, "numbers": accuracy.numbers},
    }
