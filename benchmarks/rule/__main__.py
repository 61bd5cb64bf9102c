"""Writes docs/rule.md and docs/rule.png: accuracy against time at full, half and quarter of a core, YOLO and SSD, float and int8.

    EDGEANNOT_TEST_DATA=DATA .venv/bin/python -m benchmarks.rule

`--tiny` tries it with two models and few runs, into a folder given with `--out`. The quotas need root (a control group of its own);
without them their columns are left out, and the page says why.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks.bundled import voc_words
from benchmarks.networks import Places
from benchmarks.quota import CpuGroup, NoQuotaError
from benchmarks.rule.models import Line, lines_of, not_at_hand
from benchmarks.rule.page import Figures, Point, page
from benchmarks.rule.plot import save_plot
from edgeannot.base.child import Child
from edgeannot.choice.measure import CHILD, Effort
from edgeannot.vision.cards import ModelCard
from edgeannot.vision.engine import installed_runtimes
from edgeannot_tools.datasets import load_dataset
from edgeannot_tools.evaluate.measure import common_classes, evaluate_model, match_model

ROOT = Path(__file__).resolve().parents[2]
SHARES = (1.0, 0.5, 0.25)
PATIENCE_S = 120.0


@dataclass(frozen=True, slots=True)
class Accuracy:
    """On the labelled set: over all classes that the model knows, and over those that all models know."""

    own: float
    classes: int
    common: float


def accuracies(lines: Sequence[Line], data: Path) -> tuple[dict[str, Accuracy], tuple[str, ...]]:
    """By card (`key_of`), and the common classes. The share of CPU plays no part in it, so it is measured once."""
    dataset = load_dataset(data / "detection" / "voc50_formats" / "voc_xml")
    cards = [(key_of(line, card), card) for line in lines for card in line.cards]
    own = [match_model(card, dataset, voc_words(card)) for _, card in cards]
    shared = common_classes(own, dataset.class_names)
    found = {}
    for (key, card), all_known, common in zip(cards, own, shared, strict=True):
        whole = evaluate_model(card, dataset, all_known, threads=2, coco=False)
        part = evaluate_model(card, dataset, common, threads=2, coco=False)
        found[key] = Accuracy(whole.accuracy.map50, len(set(all_known.set_class_of.values())), part.accuracy.map50)
        print(f"{key}: mAP50 {whole.accuracy.map50:.3f}, on common classes {part.accuracy.map50:.3f}", flush=True)
    names = sorted({dataset.class_names[number] for number in shared[0].set_class_of.values()})
    return found, tuple(names)


def key_of(line: Line, card: ModelCard) -> str:
    """A name for one measured point."""
    return f"{line.name}@{card.input.width} {line.dtype}"


def times(lines: Sequence[Line], seconds: float, rounds: int) -> tuple[dict[str, dict[float, float]], str]:
    """Milliseconds a picture, by card and share of a core, with one thread; and why shares are missing, if they are.

    The median of rounds over all cards, so that a machine whose speed drifts slows no model alone.
    """
    found: dict[str, list[dict[float, float]]] = {}
    with ExitStack() as stack:
        try:
            group: CpuGroup | None = stack.enter_context(CpuGroup())
            why = ""
        except NoQuotaError as exc:
            group, why = None, str(exc)
        cards = {key_of(line, card): card for line in lines for card in line.cards}
        for key, card in list(cards.items()) * rounds:
            row = _times_of(card, group, seconds)
            found.setdefault(key, []).append(row)
            print(f"{key}: {', '.join(f'{share:g}: {ms:.1f} ms' for share, ms in row.items())}", flush=True)
    return {key: {share: statistics.median(row[share] for row in rows) for share in rows[0]} for key, rows in found.items()}, why


def _times_of(card: ModelCard, group: CpuGroup | None, seconds: float) -> dict[float, float]:
    """One child process for the model, as the daemon measures it; Python starts before the quota holds."""
    row: dict[float, float] = {}
    command = CHILD if group is None else group.inside(CHILD)
    request = {"points": [{"model": card.name, "threads": 1}], "folders": [str(card.folder)], "runtime": "auto"}
    with Child(command) as child:
        for share in SHARES if group is not None else SHARES[:1]:
            if group is not None:
                group.limit(None if share == 1 else share)
            # The kernel deals a quota out in periods of 0.1 s: the mean over many of them is the rate that is had.
            effort = replace(Effort(), seconds=seconds if share == 1 else 2 * seconds, mean=share < 1)
            row[share] = float(child.ask({**request, **asdict(effort)}, PATIENCE_S)["samples"][0]["ms"])
        if group is not None:
            group.limit(None)
    return row


def main() -> None:
    """Measure, then write the page and the plot."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.rule", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("EDGEANNOT_TEST_DATA", ROOT.parent / "shared" / "data")))
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache" / "models", help="packages with the float originals")
    parser.add_argument("--out", type=Path, default=ROOT / "docs")
    parser.add_argument("--seconds", type=float, default=1.0, help="how long a point is timed at a full core; twice that at a share of it")
    parser.add_argument("--rounds", type=int, default=3, help="how often, one round over all models after another")
    parser.add_argument("--tiny", action="store_true", help="two models, few runs")
    args = parser.parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        places = Places(args.data, args.cache, Path(name), None, None, None)
        lines = lines_of(places, tiny=args.tiny)
        clock, why = times(lines, 0.3 if args.tiny else args.seconds, 1 if args.tiny else args.rounds)
        quality, common = accuracies(lines, args.data)
        points = tuple(_point(line, card, quality, clock) for line in lines for card in line.cards)
        missing = tuple(not_at_hand(places))
    figures = Figures(points, common, missing, why, _machine())
    save_plot(figures, args.out / "rule.png")
    (args.out / "rule.md").write_text(page(figures), encoding="utf-8")
    print(f"wrote {args.out / 'rule.md'} and rule.png; load {os.getloadavg()[0]:.1f}")


def _point(line: Line, card: ModelCard, quality: dict[str, Accuracy], clock: dict[str, dict[float, float]]) -> Point:
    key = key_of(line, card)
    found = quality[key]
    return Point(line.name, line.family, line.dtype, line.made, card.input.width, found.own, found.classes, found.common, clock[key])


def _machine() -> str:
    model = next(
        (line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), ""
    )
    return f"{model or platform.machine()}, {installed_runtimes()[0]}, Python {platform.python_version()}"


if __name__ == "__main__":
    sys.exit(main())
