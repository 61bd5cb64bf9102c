"""What is printed and drawn of a taught model."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
from rich.console import Console

from edgeannot.base.foreign import number_of
from edgeannot_tools.output import write_whole
from edgeannot_tools.teach.classify.drawings import confusion_picture, contact_sheet
from edgeannot_tools.teach.classify.teaching import Taught
from edgeannot_tools.terminal import plain_table, print_note

__all__ = ["print_taught", "write_report"]

_PAIRS = 5
_SHOWN = 30
"""Pictures on a contact sheet."""


def print_taught(taught: Taught, console: Console) -> None:
    """Print the accuracy with its interval, each class, the most confused pairs, the threshold, and the warnings."""
    names, learned = taught.seen.class_names, taught.learned
    matrix = taught.confusion
    table = plain_table(title=f"{taught.card.name}: pictures that were not learned from")
    for column in ("class", "pictures", "right", "mistaken for"):
        table.add_column(column, justify="left" if column in ("class", "mistaken for") else "right")
    for number, name in enumerate(names):
        row = matrix[number].copy()
        right, count = int(row[number]), int(row.sum())
        row[number] = 0
        said = f"{names[int(row.argmax())]} ({row.max()})" if row.any() else ""
        table.add_row(name, str(int((taught.seen.classes == number).sum())), f"{right / count:.3f}" if count else "-", said)
    console.print(table)
    if learned.tested.any():
        low, high = taught.interval
        tested = int(learned.tested.sum())
        console.print(f"accuracy {taught.accuracy:.3f}, with 95 % confidence {low:.3f} to {high:.3f} ({number_of(tested, 'picture')})")
    for pair in taught.confused[:_PAIRS]:
        console.print(f"  {number_of(pair.count, 'picture')} of {names[pair.shown]} taken for {names[pair.said]}")
    if taught.card.input.resize == "crop":
        console.print("it looks at the middle of a long picture, as far as that is square, and sees nothing beside it", soft_wrap=True)
    refused = "" if learned.foreign_refused is None else f", {learned.foreign_refused:.0%} of the pictures of a class that it never saw"
    console.print(
        f'below {learned.threshold:g} a picture is "none of these": {1 - learned.kept:.0%} of the right answers{refused}', soft_wrap=True
    )
    wrong = _wrong(taught)
    if len(wrong):
        first = ", ".join(str(taught.seen.paths[row]) for row in wrong[:3])
        console.print(f"{number_of(len(wrong), 'label')} may be wrong, first: {first} (--relabel CLASS PICTURE moves one)", soft_wrap=True)
    for sentence in taught.warnings():
        print_note(console, sentence)


def _wrong(taught: Taught) -> list[int]:
    """Return rows of pictures that another class fits better than their own, the least likely label first."""
    return [row for row in taught.suspicious if not taught.right[row]]


def write_report(taught: Taught, folder: Path) -> None:
    """Write confusion.png, unsure.png, suspicious.png and suspicious.csv, which lists all pictures, the least likely label first.

    Raises InputError when the folder cannot be written.
    """
    names, seen, learned = taught.seen.class_names, taught.seen, taught.learned
    write_whole(folder / "confusion.png", confusion_picture(taught.confusion, names, taught.card.name))
    best = learned.probabilities.max(axis=1)
    unsure = [int(row) for row in np.argsort(best, kind="stable") if learned.tested[row]][:_SHOWN]
    wrong = _wrong(taught)[:_SHOWN]
    said = taught.said

    def lines(row: int) -> tuple[str, str, str]:
        own, answer = names[int(seen.classes[row])], names[int(said[row])]
        return own, f"said so, {best[row]:.2f}" if own == answer else f"said: {answer} {best[row]:.2f}", seen.paths[row].name

    for file, rows, title in (
        ("unsure.png", unsure, "the pictures it is least sure of"),
        ("suspicious.png", wrong, "labels that may be wrong, the least likely first"),
    ):
        write_whole(folder / file, contact_sheet([(seen.paths[row], lines(row)) for row in rows], f"{taught.card.name}: {title}"))
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(("file", "class", "said", "probability_of_class", "probability_of_said", "may_be_wrong"))
    for row in taught.suspicious:
        own = learned.probabilities[row, seen.classes[row]]
        own_name, answer = names[int(seen.classes[row])], names[int(said[row])]
        writer.writerow((seen.paths[row], own_name, answer, f"{own:.4f}", f"{best[row]:.4f}", "no" if own_name == answer else "yes"))
    write_whole(folder / "suspicious.csv", text.getvalue())
