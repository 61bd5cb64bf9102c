"""What `edgeannot inspect` shows a person: facts, tables, findings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from rich.bar import Bar
from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgeannot.base.foreign import number_of
from edgeannot.tflite.schema import Operator, Tensor
from edgeannot_tools.graph.macs import Cost
from edgeannot_tools.inspect.delegate import RuntimeView
from edgeannot_tools.inspect.inspection import Inspection, Suggestion
from edgeannot_tools.output import plain_table

__all__ = ["print_inspection"]

HEAVIEST = 10
"""Layers in the table where not all are asked for."""
NARROW = 120
"""Columns of a terminal below which bars are short and the names of layers left out."""
COLORS = {"error": "red", "warning": "yellow", "note": "cyan"}


def print_inspection(found: Inspection, console: Console, *, layers: bool = False, tensors: bool = False) -> None:
    """Print the tables. layers: every operator instead of the heaviest; tensors: every tensor instead of inputs and outputs."""
    for title, text in _facts(found):
        console.print(Text.assemble((f"{title:<10}", "bold"), " ", text), soft_wrap=True)
    console.print(_tensor_table(found, every=tensors))
    console.print(_operator_table(found))
    if found.runtimes:
        console.print(_runtime_table(found))
    if layers or found.macs:
        console.print(_layer_table(found, console.width, every=layers))
    for finding in found.findings:
        line = Text.assemble((f"{finding.severity}:", COLORS[finding.severity]), " ", finding.text, " ", (f"({finding.code})", "dim"))
        console.print(line, soft_wrap=True)
    if not found.findings:
        console.print("nothing to complain about")


def _facts(found: Inspection) -> Iterable[tuple[str, str]]:
    """Title and text of the lines before the tables."""
    yield "file", f"{found.path}, {_bytes(len(found.model.raw))}, sha256 {found.sha256}"
    if found.model.description:
        yield "made by", found.model.description
    yield "numbers", str(found.numbers)
    weights = sum({tensor.buffer: tensor.data_size for tensor in found.model.graph.tensors if tensor.constant}.values())
    yield "cost", f"{_count(found.macs)} multiply-accumulates a run, {_count(found.parameters)} parameters, {_bytes(weights)} of constants"
    peak = found.peak
    where = f" at operator {peak.operator.index} ({_name(peak.operator)})" if peak.operator else ""
    yield "memory", f"{_bytes(peak.bytes)} of intermediate results are alive at once{where}; what runtimes plan is below"
    yield from _metadata_facts(found)
    if found.suggestion is not None:
        yield "reads as", _reads_as(found.suggestion)


def _metadata_facts(found: Inspection) -> Iterable[tuple[str, str]]:
    metadata = found.metadata
    stated = [text for text in (metadata.name, metadata.description, metadata.license) if text]
    if stated:
        yield "metadata", "; ".join(" ".join(text.split())[:120] for text in stated)
    if metadata.exporter:
        exporter = metadata.exporter
        size = f", input {exporter.input_wh[0]}x{exporter.input_wh[1]}" if exporter.input_wh else ""
        names = number_of(len(exporter.names), "class", "classes")
        yield "exporter", f"{exporter.description or exporter.file}: {exporter.task or 'task not stated'}, {names}{size}"
    if metadata.detector:
        anchors = number_of(len(metadata.detector.anchors), "anchor")
        yield "detector", f"MediaPipe's notes: {anchors}, {number_of(metadata.detector.classes, 'class', 'classes')}"
    if labels := metadata.label_file():
        yield "labels", f"{labels[0]} in the file: {number_of(len(labels[1]), 'line')}, {', '.join(labels[1][:4])}, ..."
    keys = ", ".join(repr(signature.key) for signature in found.model.signatures)
    yield "signatures", keys or "none"
    for note in metadata.notes:
        yield "note", note


def _reads_as(suggestion: Suggestion) -> str:
    card = suggestion.card
    if card is None:
        return f"no card without help: {suggestion.refused}"
    names = f", {number_of(len(card.label_names()), 'label')}" if card.label_names() else ", no labels"
    assumptions = f" (assumed: {'; '.join(suggestion.assumptions)})" if suggestion.assumptions else ""
    wide, high = card.input_wh
    how = f"as its card {card.name}.toml says" if suggestion.written else "`edgeannot models add` makes its card"
    return f"{card.head.kind}, to {card.task}, {card.family}, input {wide}x{high}{names}{assumptions}; {how}"


def _tensor_table(found: Inspection, *, every: bool) -> Table:
    table = plain_table("tensors" if every else "inputs and outputs", words=["", "name", "shape", "type", "quantization"])
    graph = found.model.graph
    for word, tensors in (("in", found.model.inputs), ("out", found.model.outputs)):
        for tensor in tensors:
            table.add_row(word, *_tensor_cells(tensor), style="bold")
    if every:
        edge = {*graph.inputs, *graph.outputs}
        for tensor in graph.tensors:
            if tensor.index not in edge:
                table.add_row("const" if tensor.constant else "", *_tensor_cells(tensor))
    return table


def _tensor_cells(tensor: Tensor) -> tuple[str, str, str, str]:
    shape = tensor.shape_signature if any(n < 0 for n in tensor.shape_signature) else tensor.shape
    return tensor.name, "x".join(map(str, shape)) or "scalar, or shown by a run", tensor.dtype, _quantization(tensor)


def _quantization(tensor: Tensor) -> str:
    if len(tensor.scales) > 1:
        return f"{len(tensor.scales)} scales along axis {tensor.axis}, {min(tensor.scales):.3g}..{max(tensor.scales):.3g}"
    if not tensor.quantized:
        return ""
    low, high = tensor.real_range
    return f"scale {tensor.scale:.6g}, zero point {tensor.zero_point}: {low:.4g}..{high:.4g}"


def _operator_table(found: Inspection) -> Table:
    views = [view for view in found.runtimes if view.partitions is not None]
    taken_by = [f"XNNPACK in {view.runtime}" for view in views]
    table = plain_table("operators", words=["operator"], numbers=["version", "count", "MACs", *taken_by])
    for kind, costs in _by_kind(found.costs):
        count = len(costs)
        taken = [sum(cost.operator.index in view.taken for cost in costs) for view in views]
        marks = ["all" if n == count else f"{n} of {count}" if n else "none" for n in taken]
        version = str(kind[1]) + (" custom" if costs[0].operator.name == "CUSTOM" else "")
        table.add_row(kind[0], version, str(count), _count(sum(cost.macs for cost in costs)), *marks)
    return table


def _by_kind(costs: Sequence[Cost]) -> list[tuple[tuple[str, int], list[Cost]]]:
    """Return the costs by name and version of their operators, the most frequent first."""
    kinds: dict[tuple[str, int], list[Cost]] = {}
    for cost in costs:
        kinds.setdefault((_name(cost.operator), cost.operator.version), []).append(cost)
    return sorted(kinds.items(), key=lambda item: (-len(item[1]), item[0]))


def _runtime_table(found: Inspection) -> Table:
    columns = ("runtime", "XNNPACK takes", "left to the runtime", "planned memory", "without XNNPACK")
    table = plain_table("runtimes on this machine", words=columns)
    for view in found.runtimes:
        name = f"{view.runtime} {view.version}"
        if view.refused:
            table.add_row(name, f"does not load it: {view.refused}")
            continue
        memory = [_bytes(view.planned_bytes), _bytes(view.planned_bytes_without_delegate)]
        if view.sized_in_a_run:
            memory = [f"{text} (less {view.sized_in_a_run} tensors that are sized in a run)" for text in memory]
        table.add_row(name, *(_delegated(found, view) if view.partitions is not None else (view.note, "")), *memory)
    return table


def _delegated(found: Inspection, view: RuntimeView) -> tuple[str, str]:
    """Return what the delegate took, and what it left."""
    left = Counter(_name(cost.operator) for cost in found.costs if cost.operator.index not in view.taken)
    share = sum(cost.macs for cost in found.costs if cost.operator.index in view.taken) / max(found.macs, 1)
    names = [f"{count} {name}" for name, count in left.most_common(6)] + (["..."] if len(left) > 6 else [])
    parts = len(view.partitions or ())
    taken = f"{len(view.taken)} of {len(found.costs)} operators, {share:.0%} of the MACs, in {number_of(parts, 'part')}"
    return taken if parts else "nothing", ", ".join(names)


def _layer_table(found: Inspection, width: int, *, every: bool) -> Table:
    ranked = list(found.costs) if every else sorted((c for c in found.costs if c.macs), key=lambda cost: -cost.macs)[:HEAVIEST]
    narrow = width < NARROW
    bar = 8 if narrow else 24
    table = plain_table(title="operators in their order" if every else "heaviest layers")
    table.add_column("#", justify="right", no_wrap=True)
    for column in ("operator", "shape"):
        table.add_column(column, overflow="ellipsis", no_wrap=True)
    for column in ("MACs", "share"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("", width=bar)
    table.add_column("params" if narrow else "parameters", justify="right", no_wrap=True)
    if not narrow:
        table.add_column("gives", overflow="ellipsis", no_wrap=True)
    largest = max((cost.macs for cost in ranked), default=0)
    for cost in ranked:
        gives = found.model.graph.tensors[cost.operator.outputs[0]] if cost.operator.outputs else None
        table.add_row(
            str(cost.operator.index),
            _name(cost.operator),
            "x".join(map(str, gives.shape)) if gives else "",
            _count(cost.macs) if cost.macs else "",
            f"{cost.macs / found.macs:.1%}" if cost.macs else "",
            Bar(largest, 0, cost.macs, width=bar) if cost.macs else "",
            _count(cost.parameters) if cost.parameters else "",
            *([] if narrow else [gives.name[-60:] if gives else ""]),
        )
    return table


def _name(operator: Operator) -> str:
    return operator.custom_name or operator.name


def _count(number: int) -> str:
    """Three digits and a letter: 300.8 M."""
    for unit, letter in ((1_000_000_000, " G"), (1_000_000, " M"), (1_000, " k")):
        if number >= unit:
            return f"{number / unit:.{2 if number < 10 * unit else 1}f}{letter}"
    return str(number)


def _bytes(number: int | None) -> str:
    if number is None:
        return "not told"
    return f"{number / 1e6:.2f} MB" if number >= 100_000 else f"{number / 1e3:.1f} kB" if number >= 1000 else f"{number} bytes"
