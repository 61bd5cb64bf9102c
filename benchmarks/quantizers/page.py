"""The page of `benchmarks.quantizers`: its rows as Markdown, and what they were measured on."""

from __future__ import annotations

import math
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.networks import Network, Places

__all__ = ["BY_HAND", "CALIBRATION_PICTURES", "ROUNDS", "Row", "page", "table_line"]

CALIBRATION_PICTURES = 24
ROUNDS = 15
BY_HAND = "## What limits int8"
"""The heading of the page's last section, which is written by hand and kept."""


@dataclass(frozen=True, slots=True)
class Row:
    """One file's figures."""

    made_by: str
    size: int = 0
    accuracy: str = ""
    drop: float = math.nan
    seconds: float | None = None
    """Of one core."""
    peak_mb: float | None = None
    """The most memory that making the file took."""
    ms: tuple[float | None, float | None] = (None, None)
    note: str = ""


def table_line(network: str, row: Row) -> str:
    """Return a row as a line of Markdown."""
    ms = ["-" if value is None else f"{value:.1f}" for value in row.ms]
    loss = "-" if row.made_by != "float" and math.isnan(row.drop) else "" if row.made_by == "float" else f"{row.drop:+.3f}"
    size = f"{row.size / 1e6:.2f}" if row.size else "-"
    seconds = "-" if row.seconds is None else f"{row.seconds:.1f}"
    peak = "" if row.peak_mb is None else f"{row.peak_mb:.0f}"
    return f"| {network} | {row.made_by} | {size} | {row.accuracy or '-'} | {loss} | {ms[0]} | {ms[1]} | {seconds} | {peak} |"


def page(groups: Sequence[tuple[Network, list[Row]]], places: Places, seconds: float, before: str = "") -> str:
    """The Markdown page; before: the page as it was, whose last section is kept."""
    made_on = (
        f"On {_machine()}, one thread, medians of {ROUNDS} interleaved runs; load average {os.getloadavg()[0]:.1f} at the end of a run of "
        f"{seconds / 60:.0f} minutes. LiteRT is ai-edge-litert {_version(sys.executable, 'ai-edge-litert')}, "
        f"the second runtime tflite-runtime {_version(places.second_python, 'tflite-runtime')}, "
        f"the other quantizer litert-quantizer {_version(places.litert_quantizer, 'litert-quantizer')}."
    )
    how = (
        f"Every quantizer got the same float graph, with boxes and scores apart, and the same {CALIBRATION_PICTURES} calibration pictures. "
        "mAP50 is measured on 50 labelled pictures that were not among them (0.02 is noise); where there is no such set, agreement with "
        "the float model at its score threshold on 50 pictures. The loss is that of mAP50, or the share of sure results that changed. "
        "Seconds are processor time of one core: in the float row of `edgeannot convert` as a command, in edgeannot's row of `edgeannot "
        "quantize --no-check --rescue none` as a command, in the others of quantizing with calibration in a process of its own; MB at the "
        "end of edgeannot's row are the most memory that the command took (VmHWM). Where the result lost more than the command allows, "
        "the row is that of the whole command with its check, and a further row that of `--rescue gates`. How much faster "
        "int8 is depends on the processor: with int8 dot products (VNNI on x86, dotprod on Arm) several times, without them hardly."
    )
    lines = [
        "# Converting and quantizing real networks",
        "",
        "Made by one command, `python -m benchmarks.quantizers` (its first lines say how). The last section is by hand; edit no other.",
        "",
        made_on,
        "",
        how,
        "",
        "| network | made by | MB | accuracy | loss | ms LiteRT | ms tflite-runtime | s | MB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    notes = []
    for network, rows in groups:
        for number, row in enumerate(rows):
            lines.append(table_line(network.name if number == 0 else "", row))
            if row.note:
                notes.append(f"* {network.name}, {row.made_by}: {row.note}.")
    _, heading, kept = before.partition(BY_HAND)
    return "\n".join([*lines, "", *notes, "", heading + kept]).rstrip("\n") + "\n"


def _machine() -> str:
    facts = dict(line.split(":", 1) for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if ":" in line)
    named = {key.strip(): value.strip() for key, value in facts.items()}
    features = set(named.get("flags", named.get("Features", "")).split())
    dot = "with" if features & {"avx512_vnni", "avx_vnni", "asimddp"} else "without"
    name = named.get("model name", platform.machine())
    return f"{name} ({os.cpu_count()} cores, {platform.machine()}, {dot} int8 dot products)"


def _version(python: str | None, distribution: str) -> str:
    if python is None:
        return "(not there)"
    code = f"import importlib.metadata as m; print(m.version({distribution!r}))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "(not there)"
