"""Spoiled inputs for every door, and a table of what came of them.

    python -m tests.fuzz [DOOR ...] [--seed N] [--count N] [--minutes N] [--only INDEX | --file CASE]

Ends with 1 where there are findings, where fewer than a quarter of a door's inputs come past its first parser, or (all doors, 1,000
inputs or more) where fewer than 85 % of the lines of the parsing modules run.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from pathlib import Path

from tests.fuzz.door import DOORS, load_door
from tests.fuzz.run import Plan, Tally, play

ROOT = Path(__file__).resolve().parent.parent.parent
WANTED_PAST = 0.25
WANTED_LINES = 0.85
ENOUGH = 1000
"""Inputs a door, from which on the shares are judged."""


def main() -> int:
    """Play the doors; the exit code."""
    asked = _arguments()
    seed = int(time.time()) if asked.seed is None else asked.seed
    minutes = asked.minutes or float("inf")
    print(f"seed {seed}, {asked.count} inputs a door, runtime {os.environ.get('EDGEANNOT_RUNTIME', 'auto')}", flush=True)
    tallies = []
    for i, name in enumerate(asked.doors):
        single = asked.only is not None or asked.file is not None
        share = (minutes * 60 - sum(tally.seconds for tally in tallies)) / (len(asked.doors) - i)
        plan = Plan(
            seed,
            1 if single else asked.count,
            asked.folder,
            time.monotonic() + share,
            asked.only or 0,
            asked.lines and not single,
            asked.file,
        )
        tallies.append(play(name, plan, _progress))
        print(f"{chr(13) * sys.stdout.isatty()}{_line(tallies[-1])}", flush=True)
    failed = _say_findings(tallies, asked.folder)
    played = min(tally.inputs for tally in tallies)
    failed |= played >= ENOUGH and any(tally.share_past < WANTED_PAST for tally in tallies)
    if asked.lines and any(asked.folder.glob("lines.*")):
        share = _say_lines(asked.doors, asked.folder)
        failed |= played >= ENOUGH and set(asked.doors) >= set(DOORS) and share < WANTED_LINES
    return int(failed)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("doors", nargs="*", default=list(DOORS), metavar="DOOR", help=", ".join(DOORS))
    parser.add_argument("--seed", type=int, help="what all inputs follow from; the clock where not given")
    parser.add_argument("--count", type=int, default=5000, help="inputs a door")
    parser.add_argument("--minutes", type=float, help="end after this time, whatever is left")
    parser.add_argument("--only", type=int, metavar="INDEX", help="only this input")
    parser.add_argument("--file", type=Path, metavar="CASE", help="an input that was kept")
    parser.add_argument("--folder", type=Path, default=ROOT / ".cache" / "fuzz" / os.environ.get("EDGEANNOT_RUNTIME", "auto"))
    parser.add_argument("--no-lines", dest="lines", action="store_false", help="do not count lines: a third quicker")
    asked = parser.parse_args()
    for old in [*asked.folder.glob("lines.*"), *(asked.folder / "findings").glob("*")]:
        if asked.only is None and asked.file is None:
            old.unlink()
    return asked


_told_at = time.monotonic()


def _progress(tally: Tally) -> None:
    global _told_at  # noqa: PLW0603 - one terminal, one clock
    terminal = sys.stdout.isatty()
    if time.monotonic() - _told_at > (0.5 if terminal else 60):
        _told_at = time.monotonic()
        print(f"{chr(13) * terminal}{_line(tally)}", end="" if terminal else "\n", flush=True)


def _line(tally: Tally) -> str:
    refused = tally.inputs - tally.accepted - len(tally.findings)
    return (
        f"{tally.door:<12} {tally.inputs:>6} inputs  {tally.share_past:>6.1%} past the first parser  {tally.accepted:>5} accepted  "
        f"{refused:>5} refused  {len(tally.findings):>3} findings  {tally.seconds:>6.0f} s"
    )


def _say_findings(tallies: list[Tally], folder: Path) -> bool:
    for tally in tallies:
        for where, count in Counter(finding.where for finding in tally.findings).most_common():
            first = next(finding for finding in tally.findings if finding.where == where)
            print(f"{tally.door}: {first.kind}, {count} times: {where}: {first.what} (input {first.index}; {folder}/findings)")
    return any(tally.findings for tally in tallies)


def _say_lines(doors: list[str], folder: Path) -> float:
    """The share of lines that ran in the modules of these doors, and in each."""
    import coverage

    lines = coverage.Coverage(data_file=str(folder / "lines"), config_file=False)
    lines.combine([str(folder)], keep=True)
    modules = sorted({module for name in doors for module in load_door(name).modules})
    all_lines = all_missed = 0
    for module in modules:
        _, statements, _, missed, shown = lines.analysis2(str(ROOT / module))
        all_lines, all_missed = all_lines + len(statements), all_missed + len(missed)
        print(f"{1 - len(missed) / max(len(statements), 1):>6.1%} of {len(statements):>4} lines  {module}  {shown[:100]}")
    share = 1 - all_missed / max(all_lines, 1)
    print(f"{share:>6.1%} of {all_lines:>4} lines of the parsing modules")
    return share


if __name__ == "__main__":
    sys.exit(main())
