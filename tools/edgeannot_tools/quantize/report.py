"""What `edgeannot quantize` prints: both models side by side, the layers that lose most, and sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from edgeannot_tools.evaluate.classifier_accuracy import Ranking
from edgeannot_tools.evaluate.measure import Result
from edgeannot_tools.output import plain_table
from edgeannot_tools.quantize.acceptance import BoxAgreement, ClassAgreement, VectorAgreement
from edgeannot_tools.quantize.layer_sqnr import LayerSqnr, worst_layers

__all__ = ["print_accuracy", "print_agreement", "print_sqnr", "print_top1", "say"]

WORST = 5
"""Layers that are named."""
NAME_ROOM = 60
"""Characters of a tensor's name that are shown, from its end, where names differ."""


def say(console: Console, line: str) -> None:
    """Print a line as it is, however long."""
    console.print(line, soft_wrap=True)


def print_accuracy(reference: Result, int8: Result, bytes_before: int, bytes_after: int, console: Console) -> None:
    """Print both models on a labelled set."""
    table = plain_table(f"on {reference.pictures} labelled pictures", words=[""], numbers=["float", "int8", "change"])
    rows = {"mAP50": "map50", "mAP50-95": "map50_95", "mean IoU of matches": "mean_iou", "best F1": "f1"}
    for name, field in rows.items():
        before, after = getattr(reference.accuracy, field), getattr(int8.accuracy, field)
        table.add_row(name, _number(before), _number(after), f"{after - before:+.3f}")
    table.add_row(f"ms a picture ({int8.runtime})", f"{reference.timing.inference:.1f}", f"{int8.timing.inference:.1f}", "")
    _add_size(table, bytes_before, bytes_after)
    console.print(table)


def print_top1(reference: Ranking, int8: Ranking, bytes_before: int, bytes_after: int, console: Console) -> None:
    """Print both classifiers on pictures in a folder a class."""
    table = plain_table(f"on {reference.pictures} labelled pictures", words=[""], numbers=["float", "int8", "change"])
    for name, before, after in (("top-1", reference.top1, int8.top1), ("top-5", reference.top5, int8.top5)):
        table.add_row(name, _number(before), _number(after), f"{after - before:+.3f}")
    _add_size(table, bytes_before, bytes_after)
    console.print(table)


def print_agreement(found: BoxAgreement | ClassAgreement | VectorAgreement, bytes_before: int, bytes_after: int, console: Console) -> None:
    """Print what both models find in pictures without labels."""
    table = plain_table(f"on {found.pictures} pictures without labels", words=[""], numbers=["float", "int8", "both"])
    if isinstance(found, BoxAgreement):
        table.add_row("boxes", str(found.reference), str(found.found), f"{found.matched} matched")
        table.add_row("sure boxes without a partner", str(found.missing), str(found.invented), f"of {found.sure}")
        table.add_row("mean IoU of matches", "", "", _number(found.mean_iou))
        table.add_row("mean score shift", "", "", _number(found.score_shift))
    elif isinstance(found, ClassAgreement):
        table.add_row("same best class", "", "", f"{found.same} of {found.pictures}")
        table.add_row("same, where float is sure", "", "", f"{found.sure_same} of {found.sure}")
        table.add_row("mean score shift", "", "", _number(found.score_shift))
    else:
        table.add_row("cosine of the vectors", "", "", f"mean {found.mean_cosine:.4f}, worst {found.worst_cosine:.4f}")
    _add_size(table, bytes_before, bytes_after)
    console.print(table)


def print_sqnr(layers: Sequence[LayerSqnr], console: Console) -> None:
    """Print the layers that add the most noise, and what is left of the signal at the outputs."""
    table = plain_table("signal to noise, int8 against float", words=[""], numbers=["dB", "lost here, dB"])
    table.add_column("operator")
    for layer in worst_layers(layers, WORST):
        table.add_row(_short(layer.tensor), f"{layer.sqnr_db:.1f}", f"{layer.lost_db:.1f}", f"{layer.operator}, number {layer.position}")
    for layer in layers:
        if layer.is_output:
            table.add_row(f"output {_short(layer.tensor)}", f"{layer.sqnr_db:.1f}", "", layer.operator)
    console.print(table)


def _add_size(table: Table, before: int, after: int) -> None:
    table.add_row("file, kB", f"{before / 1e3:,.0f}", f"{after / 1e3:,.0f}", f"{after / before:.0%}")


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _short(name: str) -> str:
    return name if len(name) <= NAME_ROOM else f"...{name[-NAME_ROOM:]}"
