"""`edgeannot inspect FILE.tflite`: the contents and cost of a TFLite file, and how the installed runtimes execute it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edgeannot.base.foreign import json_text
from edgeannot.tflite.schema import Tensor
from edgeannot_tools.graph.macs import Cost
from edgeannot_tools.inspect.delegate import RuntimeView, tensor_bytes
from edgeannot_tools.inspect.inspection import Inspection, Suggestion, inspect_file
from edgeannot_tools.inspect.tables import print_inspection
from edgeannot_tools.output import Command, open_console

__all__ = ["as_json", "inspect_app"]

inspect_app = typer.Typer(name="inspect", add_completion=False, rich_markup_mode=None, help="Show what is inside a TFLite file.")


@inspect_app.command(cls=Command)
def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE.tflite", help="The model.")],
    *,
    layers: Annotated[bool, typer.Option("--layers", help="List every operator with its cost, not only the heaviest.")] = False,
    tensors: Annotated[bool, typer.Option("--tensors", help="List every tensor, not only inputs and outputs.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print everything as JSON instead of tables.")] = False,
    no_run: Annotated[bool, typer.Option("--no-run", help="Only read the file, do not load it into a runtime.")] = False,
) -> None:
    """Show a TFLite file: operators, tensors, quantization, cost, memory, XNNPACK delegation by runtime, and likely problems."""
    found = inspect_file(file, run=not no_run)
    if json_output:
        typer.echo(as_json(found))
        return
    print_inspection(found, open_console(), layers=layers, tensors=tensors)


REPORT_SCHEMA = 1


def as_json(found: Inspection) -> str:
    """Return everything, JSON-ready. Numbers are plain (bytes, multiply-accumulates); operators and tensors have their index."""
    model = found.model
    report = {
        "schema": REPORT_SCHEMA,
        "file": str(found.path),
        "bytes": len(model.raw),
        "sha256": found.sha256,
        "description": model.description,
        "subgraphs": len(model.subgraphs),
        "inputs": [_tensor(tensor) for tensor in model.inputs],
        "outputs": [_tensor(tensor) for tensor in model.outputs],
        "numbers": {
            "kind": found.numbers.kind,
            "text": str(found.numbers),
            "layers": found.numbers.layers,
            "activations": found.numbers.activations,
            "weights": found.numbers.weights,
            "per_channel_layers": found.numbers.per_channel,
            "float_operators": [operator.index for operator in found.numbers.float_operators],
        },
        "macs": found.macs,
        "parameters": found.parameters,
        "memory": {
            "peak_bytes": found.peak.bytes,
            "operator": None if found.peak.operator is None else found.peak.operator.index,
            "tensors": [tensor.index for tensor in found.peak.tensors],
        },
        "operators": [_layer(found, cost) for cost in found.costs],
        "tensors": [_tensor(tensor) for tensor in model.graph.tensors],
        "runtimes": [_runtime(view) for view in found.runtimes],
        "signatures": [{"key": s.key, "inputs": s.inputs, "outputs": s.outputs} for s in model.signatures],
        "metadata": _metadata(found),
        "suggestion": _suggestion(found.suggestion),
        "findings": [{"severity": f.severity, "code": f.code, "text": f.text} for f in found.findings],
    }
    return json_text(report, indent=1)


def _tensor(tensor: Tensor) -> dict[str, Any]:
    axis = tensor.axis if len(tensor.scales) > 1 else None
    quantization = {"scales": list(tensor.scales), "zero_points": list(tensor.zero_points), "axis": axis}
    return {
        "index": tensor.index,
        "name": tensor.name,
        "shape": list(tensor.shape),
        "shape_signature": list(tensor.shape_signature) or None,
        "dtype": tensor.dtype,
        "constant": tensor.constant,
        "bytes": tensor.data_size if tensor.constant else tensor_bytes(tensor),
        "quantization": quantization if tensor.scales else None,
    }


def _layer(found: Inspection, cost: Cost) -> dict[str, Any]:
    operator = cost.operator
    return {
        "index": operator.index,
        "operator": operator.custom_name or operator.name,
        "custom": operator.name == "CUSTOM",
        "version": operator.version,
        "inputs": list(operator.inputs),
        "outputs": list(operator.outputs),
        **{name: getattr(cost, name) for name in ("macs", "parameters", "weight_bytes")},
        "delegated": {view.runtime: operator.index in view.taken for view in found.runtimes if view.partitions is not None},
    }


def _runtime(view: RuntimeView) -> dict[str, Any]:
    numbers = ("runtime", "version", "planned_bytes", "planned_bytes_without_delegate", "sized_in_a_run")
    partitions = None if view.partitions is None else [sorted(part) for part in view.partitions]
    known = {name: getattr(view, name) for name in numbers}
    return {**known, "refused": view.refused or None, "partitions": partitions, "note": view.note or None}


def _metadata(found: Inspection) -> dict[str, Any]:
    metadata = found.metadata
    labels, exporter, detector = metadata.label_file(), metadata.exporter, metadata.detector
    return {
        **{name: getattr(metadata, name) for name in ("name", "description", "license")},
        "entries": {name: len(content) for name, content in found.model.metadata.items()},
        "files": {name: len(content) for name, content in metadata.files.items()},
        "labels": None if labels is None else {"file": labels[0], "names": list(labels[1])},
        "exporter": exporter
        and {
            **{name: getattr(exporter, name) for name in ("file", "description", "task", "names", "license")},
            "input": exporter.input_wh,
        },
        "detector": detector
        and {
            "anchors": len(detector.anchors),
            **{name: getattr(detector, name) for name in ("classes", "numbers", "scales_yxhw", "exponential", "sigmoid")},
        },
        "notes": list(metadata.notes),
    }


def _suggestion(suggestion: Suggestion | None) -> dict[str, Any] | None:
    if suggestion is None:
        return None
    card = suggestion.card
    if card is None:
        return {"head": None, "refused": suggestion.refused}
    return {
        "head": card.head.kind,
        "task": card.task,
        "family": card.family,
        "input": list(card.input_wh),
        "labels": len(card.label_names()),
        "card": "written" if suggestion.written else "proposed",
        "doubts": list(suggestion.assumptions),
        "refused": None,
    }
