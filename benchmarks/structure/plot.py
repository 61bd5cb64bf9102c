"""Draws the rooms as boxes, each above all that it imports, and an arrow for each pair.

All arrows to one room join, in its colour, on their way down. An arrow that cannot point down is red: between rooms in a circle, or from
edgeannot/ to tools and benchmarks, which are always on top.
"""

from __future__ import annotations

import colorsys
from bisect import bisect_right, insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path as Curve

__all__ = ["Room", "levels", "reached", "save_plot"]

ON_TOP = ("tools", "benchmarks")
BOX_WIDTH, BOX_HEIGHT = 1.45, 0.46
LEVEL_HEIGHT = 1.08
"""From one level to the next; all these are inches."""
GAP, LANE = 0.3, 0.17
"""Between two boxes, and between two arrows that pass side by side."""
HEAD = 1.1
"""For the words on top."""
STRAIGHT = 8.0
"""How much more a lane follows its lane than a box its neighbours."""
ROUNDS = 30
AGAINST, SOFT = "#dc2626", "#444444"

Colour = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Room:
    """A room, its size, and the rooms it imports."""

    name: str
    modules: int
    lines: int
    imports: frozenset[str]


@dataclass(eq=False, slots=True)
class Spot:
    """A box or, without a room, a lane: where arrows to `target` pass a level."""

    level: int
    target: str
    room: Room | None = None
    x: float = 0.0

    @property
    def width(self) -> float:
        """Leave room for two lines of text, or for a line."""
        return LANE if self.room is None else max(BOX_WIDTH, 0.105 * len(self.room.name) + 0.25)


def reached(rooms: Iterable[Room]) -> dict[str, set[str]]:
    """Say for each room which ones it reaches along arrows; itself where it is in a circle."""
    found = {room.name: set(room.imports) for room in rooms}
    for via, beyond in found.items():
        for far in found.values():
            if via in far:
                far.update(beyond)
    return found


def levels(rooms: Sequence[Room]) -> dict[str, int]:
    """Give each room the length of its longest chain of imports; rooms in one circle stand side by side, tools and benchmarks on top."""
    below = {room.name: room.imports if room.name in ON_TOP else room.imports - set(ON_TOP) for room in rooms}
    far = reached(Room(name, 0, 0, frozenset(names)) for name, names in below.items())
    found: dict[str, int] = {}
    # What a room reaches outside its own circle reaches less than the room does, so the order is settled by counting.
    for name in sorted(below, key=lambda name: len(far[name] | {name})):
        circle = {name} | {other for other in far[name] if name in far[other]}
        found[name] = max((found[other] + 1 for one in circle for other in below[one] - circle), default=0)
    for name in ON_TOP:
        if name in found:
            others = (level for other, level in found.items() if other not in ON_TOP[ON_TOP.index(name) :])
            found[name] = max(others, default=-1) + 1
    return found


class Plan:
    """Where everything is: boxes and lanes level by level, and the arrows as pieces between neighbouring levels."""

    def __init__(self, rooms: Sequence[Room]) -> None:
        self.level = levels(rooms)
        self.boxes = {room.name: Spot(self.level[room.name], room.name, room) for room in rooms}
        self.rows: list[list[Spot]] = [[] for _ in range(max(self.level.values(), default=-1) + 1)]
        for box in self.boxes.values():
            self.rows[box.level].append(box)
        self.pieces: list[tuple[Spot, Spot]] = []
        self.against: list[tuple[Spot, Spot]] = []
        for target, end in self.boxes.items():
            self._lead([self.boxes[room.name] for room in rooms if target in room.imports], end)
        self._above: dict[Spot, list[Spot]] = {}
        self._below: dict[Spot, list[Spot]] = {}
        for upper, lower in self.pieces:
            self._above.setdefault(lower, []).append(upper)
            self._below.setdefault(upper, []).append(lower)

    def _lead(self, importers: Sequence[Spot], end: Spot) -> None:
        """Lay the arrows to one room: one lane through each level between, which all share."""
        self.against += [(box, end) for box in importers if box.level <= end.level]
        importers = [box for box in importers if box.level > end.level]
        lanes = [end]
        for level in range(end.level + 1, max((box.level for box in importers), default=0)):
            lanes.append(Spot(level, end.target))
            self.rows[level].append(lanes[-1])
            self.pieces.append((lanes[-1], lanes[-2]))
        self.pieces += [(box, lanes[box.level - 1 - end.level]) for box in importers]

    def arrange(self) -> None:
        """Order each level so that few arrows cross, then move everything towards what it is joined to."""
        for row in self.rows:
            _spread(row)
        best, rows = self.crossings(), [list(row) for row in self.rows]
        for number in range(2 * ROUNDS):
            down = number % 2 == 0
            beside = self._above if down else self._below
            for row in self.rows[::-1] if down else self.rows:
                wish = {spot: fmean(other.x for other in beside[spot]) if beside.get(spot) else spot.x for spot in row}
                row.sort(key=wish.__getitem__)
                _spread(row)
            self._swap_neighbours()
            if (crossings := self.crossings()) < best:
                best, rows = crossings, [list(row) for row in self.rows]
        self.rows = rows
        for row in self.rows:
            _spread(row)
        for _ in range(ROUNDS):
            for row in [*self.rows, *self.rows[::-1]]:
                _settle(row, {spot: self._pull(spot) for spot in row})

    def _swap_neighbours(self) -> None:
        """Exchange two that stand side by side wherever that saves crossings."""
        for row in self.rows:
            for number in range(len(row) - 1):
                left, right = row[number : number + 2]
                pairs = [
                    (ours.x, theirs.x)
                    for side in (self._above, self._below)
                    for ours in side.get(left, [])
                    for theirs in side.get(right, [])
                ]
                if sum(ours > theirs for ours, theirs in pairs) > sum(ours < theirs for ours, theirs in pairs):
                    row[number : number + 2] = right, left
            _spread(row)

    def crossings(self) -> int:
        """Count the pairs of pieces that cross between two levels."""
        found = 0
        for row in self.rows:
            seen: list[float] = []
            for upper in row:
                for x in sorted(lower.x for lower in self._below.get(upper, [])):
                    found += len(seen) - bisect_right(seen, x)
                    insort(seen, x)
        return found

    def _pull(self, spot: Spot) -> tuple[float, float]:
        """Say where a spot would like to be, and how much: a lane wants to be straight before all."""
        beside = [*self._below.get(spot, []), *self._above.get(spot, [])]
        joined = [(other.x, STRAIGHT if other.room is None and spot.room is None else 1.0) for other in beside]
        weight = sum(share for _, share in joined)
        return (sum(x * share for x, share in joined) / weight, weight) if joined else (spot.x, 0.1)


def _distance(left: Spot, right: Spot) -> float:
    lanes = left.room is None and right.room is None
    return (left.width + right.width) / 2 + (0.0 if lanes else GAP / 2 if left.room is None or right.room is None else GAP)


def _spread(row: Sequence[Spot]) -> None:
    """Set the spots side by side, centred."""
    x = 0.0
    for number, spot in enumerate(row):
        x += _distance(row[number - 1], spot) if number else 0.0
        spot.x = x
    for spot in row:
        spot.x -= x / 2


def _settle(row: Sequence[Spot], wish: Mapping[Spot, tuple[float, float]]) -> None:
    """Bring each spot as near to its wish as order and distances allow (least squares: neighbours that would overlap move as one)."""
    groups: list[tuple[float, float, list[Spot]]] = []
    offset: dict[Spot, float] = {}
    for number, spot in enumerate(row):
        offset[spot] = offset[row[number - 1]] + _distance(row[number - 1], spot) if number else 0.0
        x, weight = wish[spot]
        groups.append((x - offset[spot], weight, [spot]))
        while len(groups) > 1 and groups[-2][0] > groups[-1][0]:
            (a, wa, left), (b, wb, right) = groups[-2:]
            groups[-2:] = [((a * wa + b * wb) / (wa + wb), wa + wb, left + right)]
    for x, _, spots in groups:
        for spot in spots:
            spot.x = x + offset[spot]


def save_plot(rooms: Sequence[Room], path: Path) -> None:
    """Write the PNG."""
    plan = Plan(rooms)
    plan.arrange()
    spots = [spot for row in plan.rows for spot in row]
    left = min((spot.x - spot.width / 2 for spot in spots), default=0) - 0.3
    right = max(max((spot.x + spot.width / 2 for spot in spots), default=0) + 0.3, left + 5)
    bottom, top = -0.5, LEVEL_HEIGHT * max(len(plan.rows) - 1, 0) + HEAD
    figure = Figure(figsize=(right - left, top - bottom), dpi=120, facecolor="white")
    FigureCanvasAgg(figure)
    axes: Any = figure.add_axes((0, 0, 1, 1), xlim=(left, right), ylim=(bottom, top))
    axes.set_axis_off()
    colours = _colours(plan)
    for upper, lower, port in _ports(plan):
        _draw_piece(axes, upper, lower, port, colours[lower.target])
    for source, target in plan.against:
        _draw_against(axes, source, target)
    for room in rooms:
        _draw_box(axes, plan.boxes[room.name], room, colours[room.name])
    title = f"{len(rooms)} rooms, {sum(len(room.imports) for room in rooms)} arrows"
    axes.text(left + 0.2, top - 0.15, title, fontsize=13, va="top")
    words = [
        "A room imports rooms below it. Its lines leave it at the bottom",
        "and end, in the colour of the imported room, at that room's top.",
    ]
    words += ["Red: against this order."] if plan.against else []
    axes.text(left + 0.2, top - 0.43, "\n".join(words), fontsize=8, va="top", color=SOFT)
    figure.savefig(path)


def _colours(plan: Plan) -> dict[str, Colour]:
    """Give each room one; those of neighbours lie far apart."""
    order = [spot.target for row in plan.rows for spot in row if spot.room is not None]
    lightness = (0.34, 0.5, 0.42)
    return {name: colorsys.hls_to_rgb(number * 0.381966 % 1, lightness[number % 3], 0.65) for number, name in enumerate(order)}


def _y(spot: Spot) -> float:
    return spot.level * LEVEL_HEIGHT


def _ports(plan: Plan) -> Iterator[tuple[Spot, Spot, float]]:
    """Yield each piece of an arrow with the x at which it begins: side by side below a box, in the order of where they go."""
    below: dict[Spot, list[Spot]] = {}
    for upper, lower in plan.pieces:
        below.setdefault(upper, []).append(lower)
    for upper, ends in below.items():
        step = min(0.13, (upper.width - 0.2) / len(ends)) if upper.room else 0.0
        for number, lower in enumerate(sorted(ends, key=lambda spot: spot.x)):
            yield upper, lower, upper.x + (number - (len(ends) - 1) / 2) * step


def _draw_piece(axes: Any, upper: Spot, lower: Spot, port: float, colour: Colour) -> None:
    top, end = _y(upper) - (BOX_HEIGHT / 2 if upper.room else 0), _y(lower) + (BOX_HEIGHT / 2 if lower.room else 0)
    middle = (top + end) / 2
    _draw_curve(axes, [(port, top), (port, middle), (lower.x, middle), (lower.x, end)], colour, 1.1, head=lower.room is not None)


def _draw_against(axes: Any, source: Spot, target: Spot) -> None:
    """Swing out to the right, behind the boxes."""
    start, end = source.x + source.width / 2, target.x + target.width / 2
    out = max(start, end) + 0.6
    _draw_curve(axes, [(start, _y(source)), (out, _y(source)), (out, _y(target)), (end, _y(target))], AGAINST, 1.8, head=True)


def _draw_curve(axes: Any, points: Sequence[tuple[float, float]], colour: Colour | str, width: float, *, head: bool) -> None:
    way = Curve(points, [Curve.MOVETO, Curve.CURVE4, Curve.CURVE4, Curve.CURVE4])
    look: dict[str, Any] = {
        "arrowstyle": "-|>,head_length=5,head_width=2.6" if head else "-",
        "color": colour,
        "linewidth": width,
        "capstyle": "round",
    }
    axes.add_patch(FancyArrowPatch(path=way, shrinkA=0, shrinkB=0, zorder=2, **look))


def _draw_box(axes: Any, box: Spot, room: Room, colour: Colour) -> None:
    corner = (box.x - box.width / 2, _y(box) - BOX_HEIGHT / 2)
    tint = tuple(1 - (1 - part) * 0.16 for part in colour)
    shape = "round,pad=0,rounding_size=0.08"
    axes.add_patch(FancyBboxPatch(corner, box.width, BOX_HEIGHT, shape, facecolor=tint, edgecolor=colour, linewidth=1.5, zorder=3))
    size = f"{room.modules} modules, {room.lines:,} lines" if room.modules > 1 else f"{room.lines:,} lines"
    axes.text(box.x, _y(box) + 0.075, room.name, ha="center", va="center", fontsize=10, fontweight="bold", zorder=5)
    axes.text(box.x, _y(box) - 0.105, size, ha="center", va="center", fontsize=7, color=SOFT, zorder=5)
