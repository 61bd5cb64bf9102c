"""The words and tables of docs/rule.md, made from the figures: every sentence that compares is computed."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["SHARE_NAMES", "Figures", "Point", "page"]

BUDGETS_MS = (10, 20, 50, 100, 200, 500)
SHARE_NAMES = {1.0: "a full core", 0.5: "half a core", 0.25: "a quarter of a core"}
FAMILY_NAMES = {"yolo": "YOLO", "ssd": "SSD", "nanodet": "NanoDet"}
CLOSE = 0.03
"""Differences of mAP50 below this are the weather of 50 pictures."""


@dataclass(frozen=True, slots=True)
class Point:
    """One model at one size with one dtype."""

    model: str
    family: str
    dtype: str
    made: str
    size: int
    own: float
    """mAP50 over the classes that it knows."""
    classes: int
    common: float
    """mAP50 over the classes that all know."""
    ms: dict[float, float]
    """A picture, by share of a core."""

    @property
    def name(self) -> str:
        """As in the table."""
        return f"{self.model}@{self.size} {self.dtype}"


@dataclass(frozen=True, slots=True)
class Figures:
    """All that was measured."""

    points: tuple[Point, ...]
    common: tuple[str, ...]
    missing: tuple[str, ...]
    no_quota: str
    machine: str

    @property
    def shares(self) -> tuple[float, ...]:
        """The shares that were measured."""
        return tuple(self.points[0].ms)


def page(figures: Figures) -> str:
    """docs/rule.md."""
    parts = [
        "# SSD on good processors, YOLO on weak ones?",
        "Made by `python -m benchmarks.rule`; do not edit. " + _intro(figures),
        "![Accuracy against time](rule.png)",
        "## What the figures say of the rule\n\n" + "\n\n".join(_verdicts(figures)),
        "## The most accurate that fits\n\n" + _fits(figures),
        "## All points\n\n" + _table(figures),
    ]
    if figures.missing:
        parts.append(f"Not in it, as their files were not at hand: {', '.join(figures.missing)}.")
    return "\n\n".join(_wrapped(block) for part in parts for block in part.split("\n\n") if block) + "\n"


def _wrapped(block: str) -> str:
    """A paragraph in lines of the width that the other pages have; tables and headings as they are."""
    return block if block[0] in "#|!" else textwrap.fill(block, 140, break_long_words=False, break_on_hyphens=False)


def _intro(figures: Figures) -> str:
    text = (
        "A published comparison of detectors for small boards comes to a rule: SSD-MobileNet where the processor is good, YOLO where it is "
        "weak. NanoDet came later, a third family. "
        "Here the bundled models and those of the [catalogue](models.md#from-the-catalogue) whose files were at hand stand beside "
        f"each other on {figures.machine}: one thread, at a full, a half and a quarter of one core (a CPU quota of the kernel). Times are "
        "from a JPEG file of 0.8 megapixels to boxes, as the daemon works. Accuracy is mAP50 on 50 pictures of Pascal VOC, on which "
        f"differences below {CLOSE:g} mean little; it is the same at any speed. (Some of the networks were trained on "
        "pictures of COCO's validation sets.) "
    )
    count = len(figures.common)
    if all(point.classes == count for point in figures.points):
        text += f"All of them know its {count} classes."
    else:
        text += (
            f"The models do not know the same things: the plot and all comparisons count only the {count} classes that all of them know "
            f"({', '.join(figures.common)}), and the table has the figure over each model's own classes as well."
        )
    return text + (f"\n\nHalf and quarter cores are missing: {figures.no_quota}." if figures.no_quota else "")


def best_within(points: Sequence[Point], share: float, budget_ms: float) -> Point | None:
    """The most accurate of the points that keep to the budget; the faster of two alike."""
    fitting = [point for point in points if point.ms[share] <= budget_ms]
    return max(fitting, key=lambda point: (round(point.common, 3), -point.ms[share]), default=None)


def _fits(figures: Figures) -> str:
    rows = ["| budget a picture | " + " | ".join(SHARE_NAMES[share] for share in figures.shares) + " |"]
    rows.append("|---|" + "---|" * len(figures.shares))
    for budget in BUDGETS_MS:
        cells = []
        for share in figures.shares:
            best = best_within(figures.points, share, budget)
            cells.append("none" if best is None else f"{best.name}, {best.common:.2f}")
        rows.append(f"| {budget} ms | {' | '.join(cells)} |")
    return "\n".join(rows)


def _verdicts(figures: Figures) -> list[str]:
    return [
        _rule_verdict(figures),
        _speed_verdict(figures),
        *(_verdict(figures, share) for share in figures.shares),
        _dtype_verdict(figures),
        _size_verdict(figures),
    ]


def _verdict(figures: Figures, share: float) -> str:
    """Which family leads at which budgets, at one share."""
    possible = [budget for budget in BUDGETS_MS if best_within(figures.points, share, budget) is not None]
    said = [_at_budget(figures, share, budget) for budget in possible]
    if len(possible) < len(BUDGETS_MS):
        said.insert(0, f"nothing fits within {BUDGETS_MS[len(BUDGETS_MS) - len(possible) - 1]} ms")
    return f"**At {SHARE_NAMES[share]}:** {'; '.join(said)}."


def _ranked(figures: Figures, share: float, budget: float) -> list[tuple[float, str]]:
    """The best of each family that fits a budget, the more accurate first: (mAP50, family)."""
    best = {family: best_within([p for p in figures.points if p.family == family], share, budget) for family in FAMILY_NAMES}
    return sorted(((p.common, FAMILY_NAMES[family]) for family, p in best.items() if p is not None), reverse=True)


def _leader(figures: Figures, share: float, budget: float) -> str:
    """The family that leads by more than chance; empty where none fits or they are alike."""
    ranked = _ranked(figures, share, budget)
    return ranked[0][1] if ranked and (len(ranked) == 1 or ranked[0][0] - ranked[1][0] >= CLOSE) else ""


def _at_budget(figures: Figures, share: float, budget: float) -> str:
    """Which family is more accurate within a budget that something fits, and by how much."""
    (first, leader), *others = _ranked(figures, share, budget)
    if not others:
        return f"within {budget} ms only {leader} fits ({first:.2f})"
    second, other = others[0]
    if first - second < CLOSE:
        return f"within {budget} ms {leader} and {other} are alike ({first:.2f} and {second:.2f})"
    return f"within {budget} ms {leader} leads ({first:.2f} against {' and '.join(f'{found:.2f} of {family}' for found, family in others)})"


def reigns(points: Sequence[Point], share: float) -> list[Point]:
    """The points from whose time on another family is the most accurate that fits; one of another family has to be better by `CLOSE`."""
    found: list[Point] = []
    best: Point | None = None
    for point in sorted(points, key=lambda p: (p.ms[share], -p.common)):
        ahead = 0.0 if best is None else best.common + (CLOSE if point.family != best.family else 0.0)
        if best is None or point.common > ahead:
            found += [] if best is not None and best.family == point.family else [point]
            best = point
    return found


def _speed_verdict(figures: Figures) -> str:
    """From which time a picture on which family is the most accurate that fits."""
    rows = []
    for share in figures.shares:
        steps = [f"{FAMILY_NAMES[p.family]} from {p.ms[share]:.0f} ms on ({p.name}, {p.common:.2f})" for p in reigns(figures.points, share)]
        rows.append(f"at {SHARE_NAMES[share]} {', '.join(steps)}")
    return (
        f"**From which speed on** a family is the most accurate that fits: {'; '.join(rows)}. It takes the place of another here only "
        f"where it is {CLOSE:g} better."
    )


def _rule_verdict(figures: Figures) -> str:
    """Whether the rule holds: SSD with the whole core and YOLO with the smallest share of it, within one budget."""
    full, least = figures.shares[0], figures.shares[-1]
    if full == least:
        return "**The rule** cannot be judged without the shares of a core."
    leaders = {budget: (_leader(figures, full, budget), _leader(figures, least, budget)) for budget in BUDGETS_MS}
    holds = [f"{budget} ms" for budget, pair in leaders.items() if pair == ("SSD", "YOLO")]
    against = [f"{budget} ms" for budget, pair in leaders.items() if pair == ("YOLO", "SSD")]
    text = f"**The rule** says that within one budget SSD leads at {SHARE_NAMES[full]} and YOLO at {SHARE_NAMES[least]}. "
    text += f"So it is here within {' and '.join(holds)}" if holds else "So it is here within none of these budgets"
    text += f"; the other way round it is within {' and '.join(against)}. " if against else ". "
    third = [f"{budget} ms" for budget, pair in leaders.items() if pair == ("SSD", "NanoDet")]
    text += f"With NanoDet in YOLO's place it is so within {' and '.join(third)}. " if third else ""
    text += "Where time is plenty, the largest input of the larger network wins, whichever family it is of."
    return text if _largest_wins(figures) else text.rpartition(" Where")[0]


def _largest_wins(figures: Figures) -> bool:
    """Whether the most accurate point of all is also the slowest of its dtype at a full core."""
    best = max(figures.points, key=lambda p: p.common)
    return best.ms[figures.shares[0]] >= max(p.ms[figures.shares[0]] for p in figures.points if p.dtype == best.dtype)


def _dtype_verdict(figures: Figures) -> str:
    """What int8 buys."""
    share = figures.shares[0]
    pairs = [
        (p, q)
        for p in figures.points
        for q in figures.points
        if (p.model, p.size, p.dtype, q.dtype) == (q.model, q.size, "int8", "float32")
    ]
    if not pairs:
        return "**int8 against float:** no model was measured in both."
    words = [f"{p.model}@{p.size} {q.ms[share] / p.ms[share]:.1f} times as fast at {p.common - q.common:+.2f}" for p, q in pairs]
    return f"**int8 against float** (speed at a full core, change of mAP50): {'; '.join(words)}."


def _size_verdict(figures: Figures) -> str:
    """What the input size of one model does, beside changing the model."""
    share = figures.shares[-1]
    sizes = sorted((p for p in figures.points if p.model == "yolov3-tiny" and p.dtype == "int8"), key=lambda p: p.size)
    if len(sizes) < 2:
        return ""
    small, large = sizes[0], sizes[-1]
    return (
        f"**Input size:** at {SHARE_NAMES[share]}, {small.model} takes {small.ms[share]:.0f} ms at {small.size} pixels "
        f"({small.common:.2f}) and {large.ms[share]:.0f} ms at {large.size} ({large.common:.2f}). One file spans a range of speeds that "
        "the rule changes the family for, and which point of it fits depends on the board: edgeannot measures models and sizes where they "
        "run instead of following a rule."
    )


def _table(figures: Figures) -> str:
    heads = [
        "model",
        "dtype",
        "from",
        "mAP50, common",
        "mAP50, own (classes)",
        *(f"ms, {SHARE_NAMES[share]}" for share in figures.shares),
    ]
    rows = [f"| {' | '.join(heads)} |", "|---|---|---|" + "---:|" * (len(heads) - 3)]
    for p in sorted(figures.points, key=lambda p: p.ms[figures.shares[0]]):
        times = [f"{p.ms[share]:.1f}" for share in figures.shares]
        cells = [f"{p.model}@{p.size}", p.dtype, p.made, f"{p.common:.3f}", f"{p.own:.3f} ({p.classes})", *times]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)
