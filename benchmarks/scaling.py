"""How the daemon's rate bears on threads, size of the picture, boxes in it, and the number of sources.

    .venv/bin/python -m benchmarks.scaling [--pictures 200] [--rounds 3] [--page]

Profile low, a broker with a subscriber, ledger and label files. Each rate is of the pictures after the first that a run publishes, so
start-up does not count; it is the median of rounds in which all runs take turns. Fewer pictures are taken where they are large. The threads
are the network's. Boxes: a card that reports so many, the best whatever their score, so that from 5 boxes on each place of the network is a
candidate. --page writes the table into docs/performance.md and the plot beside it. The length of a run, a folder of 200,000 files and a
ledger of 5,000,000 rows are what `make soak` has.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.watched import SAMPLES, Counter, Run, counting_broker
from edgeannot.base.places import bundled_folder

ROOT = Path(__file__).resolve().parent.parent
PAGE, PLOT = ROOT / "docs" / "performance.md", "scaling.png"
BEGIN, END = "<!-- made by benchmarks/scaling.py -->", "<!-- end of benchmarks/scaling.py -->"
MODEL = "nanodet-g"
THREADS, THREAD_MODELS = (1, 2), (MODEL, "yolov3-tiny@416")
SIZES = {0.3: (640, 480), 1: (1152, 864), 3: (2000, 1500), 8: (3264, 2448), 12: (4000, 3000), 24: (6000, 4000)}
"""Megapixels -> width and height."""
BOXES = (0, 5, 50, 150, 500)
SOURCES = (1, 2, 4, 8, 16)
_CARD_NAME = "so-many"


@dataclass(frozen=True)
class Case:
    """One run: what is varied and its value, and how the daemon is set for it."""

    what: str
    value: float
    series: str = MODEL
    megapixels: float = 1
    threads: int = 1
    sources: int = 1
    boxes: int | None = None


@dataclass(frozen=True)
class Rate:
    """What came of a case: of each round pictures a second; boxes a picture as published."""

    case: Case
    per_s: list[float]
    boxes: float

    @property
    def median(self) -> float:
        """Of the rounds."""
        return statistics.median(self.per_s)


def cases() -> list[Case]:
    """All that is measured."""
    return [
        *(Case("threads", threads, model, threads=threads) for model in THREAD_MODELS for threads in THREADS),
        *(Case("megapixels", size, megapixels=size) for size in SIZES),
        *(Case("boxes", count, boxes=count) for count in BOXES),
        *(Case("sources", count, sources=count) for count in SOURCES),
    ]


def make_folder(folder: Path, megapixels: float, count: int) -> None:
    """`count` JPEG files of that size, each different, of the sample photos."""
    folder.mkdir(parents=True)
    photos = [cv2.resize(cv2.imread(str(path)), SIZES[megapixels]) for path in sorted(SAMPLES.glob("*.jpg"))]
    for i in range(count):
        picture = photos[i % len(photos)]
        picture[:8, :8] = np.random.default_rng(i).integers(0, 256, (8, 8, 3))
        cv2.imwrite(str(folder / f"{i:05}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 88])


def card_of_many(models: Path, boxes: int) -> None:
    """A card of the model that reports so many boxes a picture, the best whatever their score."""
    models.mkdir(parents=True)
    for name in (f"{MODEL}.tflite", f"{MODEL}.labels.txt"):
        shutil.copy(bundled_folder() / name, models / name)
    text = (bundled_folder() / f"{MODEL}.toml").read_text().replace(f'name = "{MODEL}"', f'name = "{_CARD_NAME}"', 1)
    (models / f"{_CARD_NAME}.toml").write_text(f"{text}\n[defaults]\nmax_detections = {max(boxes, 1)}\n")


def run_case(case: Case, counter: Counter, pictures: Path, count: int, data_dir: Path) -> tuple[float, float]:
    """Return pictures a second and boxes a picture."""
    model, least = case.series, ""
    if case.boxes is not None:
        card_of_many(data_dir / "data" / "models", case.boxes)
        model, least = _CARD_NAME, f"min_score = {0.999 if case.boxes == 0 else 0.0001}\niou = 1.0\n"
    files = sorted(pictures.iterdir())[:count]
    sources = ""
    for number in range(case.sources):
        folder = data_dir / f"in{number}"
        folder.mkdir(parents=True)
        for path in files[number :: case.sources]:
            os.link(path, folder / path.name)
        sources += f'[sources.s{number}]\nkind = "directory"\npath = "{folder}"\n'
    (data_dir / "settings.toml").write_text(
        f'data_dir = "{data_dir}/data"\nout_dir = "{data_dir}/out"\nmodel = "{model}"\nprofile = "low"\nthreads = {case.threads}\n{least}'
        f'{sources}[sinks.mqtt]\nurl = "{counter.url}"\n[sinks.labels]\nenabled = true\n[sinks.jsonl]\nenabled = true\n'
    )
    counter.begin()
    run = Run("--config", str(data_dir / "settings.toml"), "--once", log=data_dir / "log")
    came: list[tuple[float, int]] = []
    while run.process.poll() is None or (counter.count < count and time.perf_counter() - counter.last_at < 5):
        if counter.count and (not came or came[-1][1] != counter.count):
            came.append((time.perf_counter(), counter.count))
        time.sleep(0.005)
    if run.process.returncode or counter.count != count:
        sys.exit(
            f"{case}: exit code {run.process.returncode}, {counter.count} messages of {count} pictures\n{(data_dir / 'log').read_text()}"
        )
    (begin, first), last = came[0], (counter.last_at, count)
    lines = [json.loads(line) for path in (data_dir / "out").rglob("*.jsonl") for line in path.read_text().splitlines()]
    return (last[1] - first) / (last[0] - begin), sum(len(line["detections"]) for line in lines) / count


def measure(pictures: int, rounds: int, told: Callable[[str], None]) -> list[Rate]:
    """Run all cases in turn, so many times."""
    found: dict[Case, tuple[list[float], float]] = {}
    with tempfile.TemporaryDirectory() as name, counting_broker(Path(name) / "broker") as counter:
        counts = {size: max(8, min(pictures, int(pictures * 1.5 / size))) for size in SIZES}
        for size, count in counts.items():
            make_folder(Path(name) / f"{size}", size, count)
        for number in range(rounds):
            for i, case in enumerate(cases()):
                data_dir = Path(name) / f"run{number}-{i}"
                data_dir.mkdir()
                rate, boxes = run_case(case, counter, Path(name) / f"{case.megapixels}", counts[case.megapixels], data_dir)
                shutil.rmtree(data_dir)
                found[case] = ([*found.get(case, ([], 0.0))[0], rate], boxes)
                told(f"{case.what} {case.value:g} {case.series}: {rate:.1f} pictures/s, {boxes:.1f} boxes")
    return [Rate(case, per_s, boxes) for case, (per_s, boxes) in found.items()]


def table(rates: list[Rate]) -> str:
    """The table of the page."""
    rows = ["| what is varied | network | value | boxes a picture | pictures a second | least to most |", "|---|---|---|---|---|---|"]
    for rate in rates:
        spread = f"{min(rate.per_s):.1f} to {max(rate.per_s):.1f}"
        rows.append(f"| {rate.case.what} | {rate.case.series} | {rate.case.value:g} | {rate.boxes:.1f} | {rate.median:.1f} | {spread} |")
    return "\n".join(rows)


def save_plot(rates: list[Rate], path: Path) -> None:
    """Write the PNG: four panels, each from 0; the whiskers are least and most of the rounds."""
    figure = Figure(figsize=(10, 7), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 2)
    names = {
        "threads": "threads of the network (pictures of 1 MP)",
        "megapixels": "size of the picture, megapixels",
        "boxes": "boxes a picture, as published (1 MP)",
        "sources": "watched folders (1 MP)",
    }
    for panel, (what, name) in zip(panels.flat, names.items(), strict=True):
        for series, colour, marker in zip(THREAD_MODELS, ("#15803d", "#c2410c"), "os", strict=True):
            points = [rate for rate in rates if (rate.case.what, rate.case.series) == (what, series)]
            if not points:
                continue
            x = [rate.boxes if what == "boxes" else rate.case.value for rate in points]
            middle = [rate.median for rate in points]
            off = [
                [m - min(rate.per_s) for m, rate in zip(middle, points, strict=True)],
                [max(rate.per_s) - m for m, rate in zip(middle, points, strict=True)],
            ]
            panel.errorbar(x, middle, yerr=off, color=colour, marker=marker, capsize=3, label=series)
            for at, value in zip(x, middle, strict=True):
                panel.annotate(
                    f"{value:.0f}" if value >= 10 else f"{value:.1f}",
                    (at, value),
                    (7 if series == MODEL else -7, 3),
                    textcoords="offset points",
                    ha="left" if series == MODEL else "right",
                    fontsize=8,
                )
        if what in ("megapixels", "sources"):
            panel.set_xscale("log", base=2)
        if what != "boxes":
            ticks = sorted({rate.case.value for rate in rates if rate.case.what == what})
            panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks], minor=False)
            panel.minorticks_off()
        if what == "threads":
            panel.set_xlim(0.7, 2.3)
        panel.margins(x=0.1)
        panel.set_ylim(0, 1.18 * max([max(rate.per_s) for rate in rates if rate.case.what == what], default=1.0))
        panel.set_xlabel(name, fontsize=9)
        panel.set_ylabel("pictures a second", fontsize=9)
        panel.grid(visible=True, alpha=0.25)
        panel.legend(fontsize=8, frameon=False, loc="lower left")
    figure.suptitle("Rate of the daemon, profile low; whiskers: least and most of the rounds", fontsize=11)
    figure.savefig(path)


def main() -> None:
    """Measure, print, and write the page when asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--page", action="store_true", help="write docs/performance.md and its plot")
    parser.add_argument("--plot", type=Path, help="also write the plot there")
    args = parser.parse_args()
    rates = measure(args.pictures, args.rounds, lambda line: print(line, file=sys.stderr))
    print(table(rates))
    facts: dict[str, Any] = {"cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}
    print(json.dumps(facts))
    if args.plot:
        save_plot(rates, args.plot)
    if args.page:
        save_plot(rates, PAGE.with_name(PLOT))
        before, _, after = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(
            f"{before}{BEGIN}\n\n{table(rates)}\n\n![Rate by threads, size, boxes and sources]({PLOT})\n\n{END}{after.partition(END)[2]}"
        )


if __name__ == "__main__":
    main()
