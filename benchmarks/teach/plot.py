"""The curve of a taught detector by the number of pictures, beside published figures of networks that were trained whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

__all__ = ["save_plot"]

PUBLISHED = {"SSD, all layers trained": (0.83, 0.74, "#1d4ed8", ":"), "YOLOv3, all layers trained": (0.85, 0.69, "#c2410c", "-.")}
"""mAP and mean IoU of a published comparison on other pictures, 11 to 12 minutes an epoch on an i7; a colour, and a line without it."""
PANELS = (("map50", "mAP50"), ("mean_iou", "mean IoU"))


def save_plot(curves: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> None:
    """Write the PNG. curves: rows of the benchmark by what the line is called."""
    figure = Figure(figsize=(9.5, 3.9), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    for number, (panel, (key, name)) in enumerate(zip(figure.subplots(1, 2), PANELS, strict=True)):
        for (label, rows), style in zip(curves.items(), ("-o", "--s", ":^", "-.v"), strict=False):
            points = sorted((row["pictures"], row[key]) for row in rows)
            panel.plot(*zip(*points, strict=True), style, color="#15803d", label=label, linewidth=1.6)
        for label, (*heights, colour, line) in PUBLISHED.items():
            panel.axhline(heights[number], color=colour, linewidth=1.6, linestyle=line, label=f"{label} (published)")
        pictures = sorted({row["pictures"] for rows in curves.values() for row in rows})
        panel.set_xticks(pictures)
        panel.set_ylim(0.6, 1.0)
        panel.set_xlabel("pictures taught")
        panel.set_title(name, fontsize=10, loc="left")
        panel.grid(visible=True, alpha=0.25)
    handles, labels = panel.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    figure.savefig(path)
