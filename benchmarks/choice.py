"""Whether the choice of a model is right: against measuring every model, size and thread count at length; and what probing costs.

    .venv/bin/python benchmarks/choice.py [--seconds 1] [--task detect]

Each budget is decided twice: by a cold evaluation, as the daemon makes it, and by the same rule on exhaustive figures. The model chosen
must hold the budget by those figures, or be the fastest where none does, and be as accurate and as fast as the best, all within 5 %.
Everything is measured right before each evaluation and right after it, since a virtual machine's speed drifts by more than 5 % from
minute to minute; the mean of the two decides. The points are interleaved, picture by picture: measured one after the other for a second
each, the ratio of two of them was found to scatter by 14 %, interleaved by 2.5 %. Run it on an idle machine. `--task classify` makes
sense with more than the one bundled classifier installed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeannot.base.child import Child
from edgeannot.base.places import model_folders
from edgeannot.choice.auto_profile import grade, micro_of
from edgeannot.choice.candidates import Budget, Candidate, CardFacts, Requirements, read_card_index
from edgeannot.choice.decision import BUDGET_MS, Decision, decide
from edgeannot.choice.measure import CHILD, Effort, ask_for_samples
from edgeannot.choice.measure_child import Stopwatch
from edgeannot.choice.measure_plan import Point
from edgeannot.choice.measurements import Record, Sample, thread_counts
from edgeannot.choice.selection import evaluate
from edgeannot.probe import read_board

COMMAND = [sys.executable, "-c", "from edgeannot.cli.start import main; main()"]
INSTALLED = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""With bytecode kept, as `pip install` leaves it: compiling the modules anew is no part of a warm start."""
WITHIN = 1.05
COLD_S, WARM_S = 15.0, 0.2
PATIENCE_S = 60.0
"""For loading everything."""


def exhaustive(index: list[CardFacts], counts: tuple[int, ...], seconds: float, folder: Path) -> dict[str, Record]:
    """Measure every model, size and thread count, interleaved in one process."""
    points = [(card, Point(size, threads)) for card in index for size in card.sizes for threads in counts]
    effort = Effort(seconds=seconds)
    with Child(CHILD) as child:
        samples = ask_for_samples(child, points, model_folders(folder), "auto", effort, PATIENCE_S + 10 * seconds * len(points))
    records: dict[str, Record] = {}
    for (card, _), sample in zip(points, samples, strict=True):
        records[card.key] = records.get(card.key, Record()).with_sample(sample)
    return records


def mean_of(rounds: Sequence[dict[str, Record]]) -> dict[str, Record]:
    """The rounds as one: the mean of each point's times."""

    def samples(key: str) -> Iterable[Sample]:
        for first in rounds[0][key].samples:
            same = [s for found in rounds for s in found[key].samples if (s.size, s.threads) == (first.size, first.threads)]
            yield replace(first, ms=statistics.fmean(s.ms for s in same))

    return {key: Record(tuple(samples(key))) for key in rounds[0]}


def verdict(
    chosen: Candidate, required: Requirements, index: list[CardFacts], before: dict[str, Record], after: dict[str, Record]
) -> dict[str, Any]:
    """The choice against the best by the exhaustive figures right before the evaluation and right after it."""
    mean = mean_of([before, after])
    best = decide(index, required, mean).winner
    return {
        "budget_ms": round(required.budget.ms, 1),
        "chosen": f"{chosen.name} x{chosen.threads}",
        "chosen_survey_ms": round(chosen.ms or 0.0, 2),
        "chosen_ms": [round(ms_of(chosen, records), 2) for records in (before, after)],
        "best": f"{best.name} x{best.threads}",
        "best_ms": [round(ms_of(best, records), 2) for records in (before, after)],
        "ok": is_right(chosen, required, index, mean),
    }


def ms_of(candidate: Candidate, records: dict[str, Record]) -> float:
    """What it takes by these figures, at its size and threads."""
    samples = records[candidate.facts.key].samples
    return next(s.ms for s in samples if (s.size, s.threads) == (candidate.size, candidate.threads))


def is_right(chosen: Candidate, required: Requirements, index: list[CardFacts], records: dict[str, Record]) -> bool:
    """Whether it is as good as the best by these figures, for the budget as it is or 5 % to either side of it."""
    bests = (
        decide(index, replace(required, budget=replace(required.budget, ms=required.budget.ms * f)), records)
        for f in (1, 1 / WITHIN, WITHIN)
    )
    return any(as_good(chosen, ms_of(chosen, records), best) for best in bests)


def as_good(chosen: Candidate, ms: float, best: Decision) -> bool:
    """Whether a choice that takes `ms` is as good as the best one, within 5 %."""
    winner, best_ms, budget_ms = best.winner, best.winner.ms or 0.0, best.budget.ms
    held = ms <= budget_ms * WITHIN or (best_ms > budget_ms and ms <= best_ms * WITHIN)
    mine, its = (c.accuracy.value if c.accuracy else 0.0 for c in (chosen, winner))
    if chosen.name != winner.name:
        return held and chosen.facts.family == winner.facts.family and mine * WITHIN >= its
    return held and ms <= best_ms * WITHIN


def budgets(records: dict[str, Record]) -> list[float]:
    """The profiles' own, and some between the fastest and the slowest model of this machine, and under the fastest."""
    times = [s.ms for record in records.values() for s in record.samples]
    low, high = min(times), max(times)
    return sorted({*BUDGET_MS.values(), *(round(low * (high / low) ** x, 1) for x in (-0.2, 0.15, 0.4, 0.65, 0.9, 1.1))})


def timed(*args: str) -> float:
    """Seconds that a command takes."""
    before = time.perf_counter()
    subprocess.run([*COMMAND, *args], check=True, capture_output=True, env=INSTALLED)
    return time.perf_counter() - before


def probing() -> dict[str, Any]:
    """Seconds of a cold probe of all bundled models, micro-benchmark included, and of warm ones."""
    with tempfile.TemporaryDirectory() as folder:
        cold = timed("probe", "--explain", "--data-dir", folder)
        classify = timed("run", "--explain", "--task", "classify", "--data-dir", folder)
        warm = [timed("probe", "--explain", "--data-dir", folder) for _ in range(11)]
    return {
        "cold_s": round(cold, 2),
        "cold_with_classifiers_s": round(cold + classify, 2),
        "warm_s": round(statistics.median(warm), 3),
        "ok": cold + classify <= COLD_S and statistics.median(warm) <= WARM_S,
    }


def choices(task: str, seconds: float) -> dict[str, Any]:
    """Evaluate for each budget between two exhaustive measurements."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        board = read_board()
        counts = thread_counts(board, None, 4)
        profile = grade(board, micro_of(board, folder)).profile
        index = [card for card in read_card_index(model_folders(folder), folder / "models.json") if card.task == task]
        rounds = [exhaustive(index, counts, seconds, folder)]
        verdicts = []
        for number, ms in enumerate(budgets(rounds[0])):
            required = Requirements(
                profile, Budget(ms, f"{ms:g} ms a picture", asked=True), task, thread_counts=counts, memory_bytes=board.memory_bytes
            )
            chosen = evaluate(required, folder / str(number), board, measuring="again").decision.winner
            rounds.append(exhaustive(index, counts, seconds, folder))
            verdicts.append(verdict(chosen, required, index, *rounds[-2:]))
            print(json.dumps(verdicts[-1]), file=sys.stderr)
    points = [(card, sample) for card in index for sample in rounds[0][card.key].samples]
    times = {f"{card.name_at(s.size)} x{s.threads}": [times_at(found[card.key], s) for found in rounds] for card, s in points}
    return {"profile": profile, "choices": verdicts, "exhaustive_ms": times}


def times_at(record: Record, like: Sample) -> float:
    """The ms of a record at another sample's size and threads."""
    return round(next(s.ms for s in record.samples if (s.size, s.threads) == (like.size, like.threads)), 1)


def main() -> None:
    """Measure, compare, print; exit code 1 where a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0, help="how long each point is measured in an exhaustive round")
    parser.add_argument("--task", choices=("detect", "classify"), default="detect")
    args = parser.parse_args()
    since = Stopwatch.start()
    figures: dict[str, Any] = {"load_before": os.getloadavg()[0], "probing": probing()}
    figures |= choices(args.task, args.seconds)
    figures["stolen"] = round(since.wait_share(), 3)  # this process itself waits for its children only
    right = [choice["ok"] for choice in figures["choices"]]
    figures["right"] = f"{sum(right)} of {len(right)}"
    figures["ok"] = figures["probing"]["ok"] and all(right)
    print(json.dumps(figures, indent=2))
    sys.exit(not figures["ok"])


if __name__ == "__main__":
    main()
