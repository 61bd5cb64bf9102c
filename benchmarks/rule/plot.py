"""The plot of docs/rule.md: one panel for each share of a core, a colour for each family, int8 filled and float hollow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from benchmarks.rule.page import SHARE_NAMES, Figures, Point

__all__ = ["save_plot"]

SHADES = {
    "yolo": ("#c2410c", "#eab308", "#7c2d12"),
    "ssd": ("#1d4ed8", "#0891b2", "#6d28d9"),
    "nanodet": ("#15803d", "#84cc16", "#064e3b"),
}
"""By family, one a model: warm for YOLO, cold for SSD, green for NanoDet."""
MARKERS = "osD^v"


def save_plot(figures: Figures, path: Path) -> None:
    """Write the PNG."""
    panels = len(figures.shares)
    figure = Figure(figsize=(9.5, 1.6 + 2.7 * panels), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(panels, 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    looks = _looks(figures)
    for panel, share in zip(axes, figures.shares, strict=True):
        for (model, dtype), look in looks.items():
            points = sorted((p for p in figures.points if (p.model, p.dtype) == (model, dtype)), key=lambda p: p.size)
            _line(panel, points, share, look, f"{model}, {dtype}")
        panel.set_title(f"At {SHARE_NAMES[share]}, one thread (numbers: input size in pixels)", fontsize=10, loc="left")
        panel.grid(visible=True, which="both", alpha=0.25)
        panel.set_ylabel("mAP50, common classes", fontsize=9)
    _scale(axes[-1], figures)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    figure.savefig(path)


def _looks(figures: Figures) -> dict[tuple[str, str], dict[str, Any]]:
    """(model, dtype) -> how it is drawn; the dtypes of one model share colour and marker."""
    models: dict[str, list[str]] = {family: [] for family in SHADES}
    for point in figures.points:
        if point.model not in models[point.family]:
            models[point.family].append(point.model)
    looks = {}
    for family, names in models.items():
        for number, name in enumerate(names):
            colour = SHADES[family][number % len(SHADES[family])]
            for dtype, style, fill in (("int8", "-", colour), ("float32", "--", "white")):
                if any((p.model, p.dtype) == (name, dtype) for p in figures.points):
                    marker = MARKERS[(number + 2 * list(SHADES).index(family)) % len(MARKERS)]
                    looks[name, dtype] = {"color": colour, "linestyle": style, "markerfacecolor": fill, "marker": marker}
    return looks


def _line(panel: Any, points: list[Point], share: float, look: dict[str, Any], label: str) -> None:
    xs, ys = [p.ms[share] for p in points], [p.common for p in points]
    panel.plot(xs, ys, label=label, linewidth=1.2, markersize=6.5, markeredgewidth=1.3, **look)
    if len(points) < 2:
        return
    above = points[0].dtype == "int8"  # the two lines of one model run side by side: int8 is left of float
    for point, x, y in zip(points, xs, ys, strict=True):
        offset, place = ((-5, 4), "right") if above else ((5, -4), "left")
        vertical = "bottom" if above else "top"
        text = panel.annotate(f"{point.size}", (x, y), offset, textcoords="offset points", fontsize=7, ha=place, va=vertical)
        text.set(color=look["color"], path_effects=[withStroke(linewidth=2.5, foreground="white")])


def _scale(panel: Any, figures: Figures) -> None:
    panel.set_xscale("log")
    everything = [ms for point in figures.points for ms in point.ms.values()]
    panel.set_xlim(min(everything) / 1.4, max(everything) * 1.4)
    heights = [point.common for point in figures.points]
    room = max(0.2 * (max(heights) - min(heights)), 0.05)
    panel.set_ylim(min(heights) - room, max(heights) + room)
    panel.set_xlabel("ms a picture, from JPEG to boxes")
    panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    panel.xaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else "")
    panel.tick_params(axis="x", which="both", labelsize=8)
