"""What `edgeannot models add` makes of .tflite files from anywhere: added, or what it asks and where each answer leads, or refused.

    .venv/bin/python -m benchmarks.wild FOLDER... [--keep DIR] > wild.md

Each file is added without options into a data directory of its own (`--keep` names one that stays, to run the models afterwards). Where
the message names options, each of them is tried; of those that want a label file, NAME.labels.txt beside the file is it. A card beside a
file is not used. Prints a Markdown table; it says what was understood, not that it is right: for that, look at pictures.
"""

from __future__ import annotations

import argparse
import re
import shlex
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from typer.testing import CliRunner

from edgeannot.base.errors import EdgeannotError
from edgeannot.card_inference import AmbiguousModelError
from edgeannot.choice.auto_runtime import find_runtime
from edgeannot.cli.commands.models import models_app
from edgeannot.vision.cards import read_card
from edgeannot.vision.pipeline import load_pipeline

__all__ = ["Outcome", "add", "answers", "models_in", "outcomes"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one call of the command came to."""

    file: str
    options: str
    result: str
    """added, asks, refused, or the class of an error that is none of edgeannot's."""
    seconds: float
    read_as: str = ""
    """Head and classes."""
    says: str = ""
    """The assumptions, or the sentence."""
    choices: tuple[str, ...] = ()

    def row(self) -> str:
        """Return the row of the table."""
        cells = (self.file, self.options and f"`{self.options}`", self.result, self.read_as, f"{self.seconds:.1f}", self.says)
        return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


def models_in(folders: Sequence[Path]) -> list[Path]:
    """Return the .tflite files in and below folders, each content once."""
    found = {path.read_bytes(): path for folder in folders for path in sorted(folder.rglob("*.tflite"), reverse=True)}
    return sorted(found.values())


def add(path: Path, options: str, data_dir: Path) -> Outcome:
    """Add a model with options as they are typed."""
    words = ["add", str(path), "--yes", "--replace", "--data-dir", str(data_dir), *shlex.split(options)]
    started = time.perf_counter()
    done = CliRunner().invoke(models_app, words)
    seconds = time.perf_counter() - started
    error = done.exception
    if error is None:
        return Outcome(path.name, options, "added", seconds, *_card_of(done.output, data_dir))
    says = str(error).replace(str(path), path.name)
    if isinstance(error, AmbiguousModelError):
        return Outcome(path.name, options, "asks", seconds, says=says, choices=error.choices)
    if isinstance(error, EdgeannotError):
        return Outcome(path.name, options, "refused", seconds, says=says)
    return Outcome(path.name, options, type(error).__name__, seconds, says=f"{says} {done.output[-200:]}".replace("\n", " "))


def _card_of(printed: str, data_dir: Path) -> tuple[str, str]:
    """Return head, classes and names of the card, and what was assumed."""
    name = re.findall(r"^added (\S+) to", printed, re.MULTILINE)[-1]
    card = read_card(data_dir / "models" / f"{name}.toml")
    classes = card.head.check(load_pipeline(card, runtime=find_runtime()).engine.outputs, card.input_wh)
    names = [label for label in card.label_names() if label not in card.labels.ignore]
    shown = f": {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}" if names else ", no names"
    assumed = printed.partition("assumed (not stated in the file):\n")[2].partition("\nadded ")[0]
    heads = f"{card.head.kind}, {'?' if classes is None else classes} columns of classes{shown}"
    return heads, "; ".join(line.strip(" -") for line in assumed.splitlines() if line.startswith("  - "))


def answers(outcome: Outcome, path: Path) -> Iterator[str]:
    """Yield the options that the message names and that can be given as they stand; of a label file, the one beside the model."""
    labels = path.with_name(f"{path.stem}.labels.txt")
    for choice in outcome.choices:
        typed = " ".join(re.findall(r"--[a-z-]+ (?:'[^']*'|[^\s;,]+)", choice))
        if "FILE" in typed:
            typed = typed.replace("FILE", shlex.quote(str(labels))) if labels.is_file() else ""
        if typed and "..." not in typed:
            yield typed


def outcomes(path: Path, data_dir: Path) -> Iterator[Outcome]:
    """Yield what comes of no options, then of each option that the message names."""
    first = add(path, "", data_dir)
    yield first
    for options in answers(first, path):
        yield add(path, options, data_dir)


def main() -> None:
    """Print the table, and how many files ended how."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--keep", type=Path)
    asked = parser.parse_args()
    results: list[str] = []
    print("| file | option | outcome | head, classes | seconds | assumptions or sentence |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for path in models_in(asked.folders):
            found = list(outcomes(path, asked.keep or Path(folder)))
            results.append(found[0].result)
            for outcome in found:
                print(outcome.row(), flush=True)
    print(f"\n{len(results)} files: " + ", ".join(f"{results.count(result)} {result}" for result in sorted(set(results))))


if __name__ == "__main__":
    main()
