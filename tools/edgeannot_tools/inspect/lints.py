"""What in a TFLite file costs accuracy or speed, or keeps it from running: one finding, one sentence, with what to do about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import isfinite, prod
from typing import TYPE_CHECKING, Literal

import numpy as np

from edgeannot.base.foreign import number_of
from edgeannot.tflite.schema import Operator, SubGraph, Tensor, TFLiteModel
from edgeannot.tflite.trace import makers
from edgeannot_tools.graph.macs import Cost
from edgeannot_tools.inspect.delegate import RuntimeView

if TYPE_CHECKING:
    from edgeannot_tools.inspect.inspection import Dtypes

__all__ = ["INTEGERS", "Code", "Finding", "find", "is_float_work"]

INTEGERS = frozenset(("int8", "uint8", "int16"))
BORDERS = frozenset(("QUANTIZE", "DEQUANTIZE"))
Code = Literal[
    "custom-operator", "several-inputs", "open-batch", "no-fixed-size", "input-range", "mixed-output", "zero-scale", "saturated-bias",
    "float-islands", "float16-constants", "no-signature", "several-subgraphs", "refused", "not-accelerated",
]  # fmt: skip
"""Stable short names of the findings; docs/tools.md lists them."""

POSTPROCESS = "TFLite_Detection_PostProcess"
USUAL_RANGES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (-128.0, 127.0), (-2.12, 2.64))
"""What a quantized picture input usually stands for; the last is ImageNet's mean and deviation."""
RANGE_TOLERANCE = 0.03
FEW_LEVELS = 20
"""Scores of 0..1 that have fewer levels than this rank nothing."""
LINEAR = frozenset(("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "ADD", "MEAN", "TILE"))
"""Operators whose results may well share a scale."""
BIAS_SLOT = {"CONV_2D": 2, "DEPTHWISE_CONV_2D": 2, "FULLY_CONNECTED": 2}
INT32_LIMIT = (1 << 31) - 128
"""Biases at or beyond this were cut off; float32 cannot tell the last 128 integers apart."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was noticed."""

    severity: Literal["error", "warning", "note"]
    """error: the model does not run, or not usefully; warning: it costs accuracy or much time; note: good to know."""
    code: Code
    text: str


def find(model: TFLiteModel, numbers: Dtypes, costs: Sequence[Cost], views: Iterable[RuntimeView]) -> tuple[Finding, ...]:
    """Return all findings, the gravest first."""
    found = [
        *_custom_operators(model),
        *_inputs(model),
        *_mixed_outputs(model),
        *_bad_scales(model),
        *_saturated_biases(model),
        *_float_islands(model, numbers),
        *_float16(model),
        *_form(model),
        *(finding for view in views for finding in _runtime(view, costs)),
    ]
    order = ("error", "warning", "note")
    return tuple(sorted(found, key=lambda finding: order.index(finding.severity)))


def _custom_operators(model: TFLiteModel) -> Iterator[Finding]:
    custom = Counter(op.custom_name for graph in model.subgraphs for op in graph.operators if op.name == "CUSTOM")
    for name, count in custom.items():
        if name.startswith("Flex"):
            why = "is TensorFlow's own (Select TF ops), which the small runtimes do not have; convert again with builtin operators only"
        else:
            why = "is custom, and no runtime used here knows it; take the file from before it was compiled or converted for other hardware"
        if name != POSTPROCESS:
            yield Finding("error", "custom-operator", f"operator {name!r} ({count}x) {why}")


def _inputs(model: TFLiteModel) -> Iterator[Finding]:
    if len(model.inputs) != 1:
        yield Finding("error", "several-inputs", f"wanted one input, a picture; the graph has {len(model.inputs)}")
    for tensor in model.inputs:
        open_axes = [axis for axis, n in enumerate(tensor.shape_signature or tensor.shape) if n <= 0]
        if open_axes == [0]:
            yield Finding(
                "note",
                "open-batch",
                f"input {tensor.name!r} leaves the number of pictures open {tensor.shape_signature}; runtimes take one, but "
                "some sizes then show only in a run, which keeps operators out of a delegate: export it with batch 1",
            )
        elif open_axes:
            yield Finding(
                "warning",
                "no-fixed-size",
                f"input {tensor.name!r} has no fixed size {tensor.shape_signature or tensor.shape}: MACs and memory here are those of "
                f"{tensor.shape}; export it with the size that is to be used",
            )
        if tensor.quantized and len(tensor.shape) == 4 and not _usual(tensor):
            low, high = tensor.real_range
            yield Finding(
                "warning",
                "input-range",
                f"input {tensor.name!r} stands for {low:.4g}..{high:.4g}, which is none of the usual ranges (0..1, -1..1, 0..255, mean and "
                "deviation of ImageNet); it was perhaps calibrated with other pictures than it will see: look up how the model was trained",
            )


def _usual(tensor: Tensor) -> bool:
    if tensor.scale == 1.0:  # raw bytes, or bytes less a mean
        return True
    low, high = tensor.real_range
    room = RANGE_TOLERANCE * (high - low)
    return any(abs(low - a) <= room and abs(high - b) <= room for a, b in USUAL_RANGES)


def _mixed_outputs(model: TFLiteModel) -> Iterator[Finding]:
    size = max((n for tensor in model.inputs for n in tensor.shape), default=0)
    for tensor in model.outputs:
        kinds = {operator.custom_name or operator.name for operator in makers(model.graph, tensor.index)}
        columns = min((n for n in tensor.shape if n > 1), default=0)
        if not tensor.quantized or len(kinds) < 2 or kinds <= LINEAR or columns < 5:
            continue
        levels = int(1 / tensor.scale)
        step = tensor.scale * size if tensor.real_range[1] <= 4 else tensor.scale  # boxes in parts of the picture, or in pixels
        yield Finding(
            "error" if levels < FEW_LEVELS else "warning",
            "mixed-output",
            f"output {tensor.name!r} joins unlike numbers ({', '.join(sorted(kinds))}), boxes and scores as it seems, under one scale "
            f"of {tensor.scale:.3g}: scores of 0..1 have {levels} levels, boxes move in steps of {step:.1f} px; quantize it again with the "
            "last CONCATENATION cut off, so that each part has a scale of its own",
        )


def _bad_scales(model: TFLiteModel) -> Iterator[Finding]:
    for tensor in (*model.inputs, *model.outputs):
        if tensor.dtype in INTEGERS and not any(tensor.scales):
            yield Finding("note", "zero-scale", f"{tensor.name!r} has no scale, or the scale 0: its integers are taken as they are")
    for tensor in model.graph.tensors:
        bad = sum(not (scale > 0 and isfinite(scale)) for scale in tensor.scales)
        if bad and any(tensor.scales) and tensor.dtype in INTEGERS | {"int32"}:
            yield Finding(
                "warning",
                "zero-scale",
                f"{bad} of {len(tensor.scales)} scales of {tensor.name!r} are 0 or no numbers: those channels give nothing; quantize again",
            )


def _saturated_biases(model: TFLiteModel) -> Iterator[Finding]:
    for operator in model.graph.operators:
        slot = BIAS_SLOT.get(operator.name, len(operator.inputs))
        if slot >= len(operator.inputs) or operator.inputs[slot] < 0:
            continue
        tensor = model.graph.tensors[operator.inputs[slot]]
        if tensor.dtype != "int32" or not tensor.constant or tensor.data_size != 4 * prod(tensor.shape):
            continue
        cut = int((np.abs(np.frombuffer(model.constant(tensor), "<i4").astype(np.int64)) >= INT32_LIMIT).sum())
        if cut:
            yield Finding(
                "warning",
                "saturated-bias",
                f"{cut} of {tensor.shape[0] if tensor.shape else 1} biases of {_place(operator, model.graph)} are at the limit of int32, "
                "because the weights of their channels are near 0 and got too fine a scale; quantize again with `edgeannot quantize`",
            )


def is_float_work(graph: SubGraph, operator: Operator) -> bool:
    """Tell whether an operator calculates in float32; turning numbers into and out of integers is not calculating."""
    return operator.name not in BORDERS and any(graph.tensors[i].dtype == "float32" for i in operator.outputs)


def _float_islands(model: TFLiteModel, numbers: Dtypes) -> Iterator[Finding]:
    islands = list(_islands(model.graph)) if numbers.kind == "integer" else []
    if islands:
        names = Counter(operator.custom_name or operator.name for island in islands for operator in island)
        listed = ", ".join(f"{count} {name}" for name, count in names.most_common())
        yield Finding(
            "warning",
            "float-islands",
            f"{number_of(len(islands), 'part')} of the integer network computed in float32 ({listed}): each costs a DEQUANTIZE, float "
            "arithmetic and a QUANTIZE; quantize again with a tool that has these operators in int8",
        )


def _islands(graph: SubGraph) -> Iterator[list[Operator]]:
    """Groups of float operators, connected by float tensors, that take from DEQUANTIZE of computed integers and give to QUANTIZE.

    A beginning in float is none: it takes the bytes of the picture, and keeps what int8 would lose there.
    """
    work = {operator.index: operator for operator in graph.operators if is_float_work(graph, operator)}
    makers_of = {tensor: operator for operator in graph.operators for tensor in operator.outputs}
    given = {*graph.inputs, *(op.outputs[0] for op in graph.operators if op.name == "QUANTIZE" and op.inputs[0] in graph.inputs)}
    readers: dict[int, list[Operator]] = {}
    for operator in graph.operators:
        for tensor in operator.inputs:
            readers.setdefault(tensor, []).append(operator)
    while work:
        group: list[Operator] = []
        enters = leaves = False
        waiting = [next(iter(work.values()))]
        while waiting:
            operator = waiting.pop()
            if work.pop(operator.index, None) is None:
                continue
            group.append(operator)
            before = [makers_of[i] for i in operator.inputs if i in makers_of]
            after = [reader for i in operator.outputs for reader in readers.get(i, ())]
            enters |= any(op.name == "DEQUANTIZE" and not graph.tensors[i].constant and i not in given for op in before for i in op.inputs)
            leaves |= any(op.name == "QUANTIZE" for op in after)
            waiting += [op for op in (*before, *after) if op.index in work]
        if enters and leaves:
            yield sorted(group, key=lambda operator: operator.index)


def _float16(model: TFLiteModel) -> Iterator[Finding]:
    half = [tensor for tensor in model.graph.tensors if tensor.constant and tensor.dtype == "float16"]
    if half:
        size = sum({tensor.buffer: tensor.data_size for tensor in half}.values())
        yield Finding(
            "note",
            "float16-constants",
            f"{len(half)} constants ({size / 1e6:.1f} MB) are float16 and expanded when the model is loaded: half the file, but neither "
            "less memory nor faster; `edgeannot quantize` takes such a file",
        )


def _form(model: TFLiteModel) -> Iterator[Finding]:
    if not model.signatures:
        yield Finding("note", "no-signature", "the file has no signature, which some tools insist on (LiteRT's quantizer for one)")
    if len(model.subgraphs) > 1:
        yield Finding(
            "note", "several-subgraphs", f"the file has {len(model.subgraphs)} graphs; what is said here is of the first, which runs"
        )


def _runtime(view: RuntimeView, costs: Sequence[Cost]) -> Iterator[Finding]:
    macs = sum(cost.macs for cost in costs)
    if view.refused:
        yield Finding("warning", "refused", f"the runtime {view.runtime} does not load it: {view.refused}")
    elif view.partitions is not None and macs:
        left = sum(cost.macs for cost in costs if cost.operator.index not in view.taken)
        if 2 * left > macs:
            yield Finding(
                "warning",
                "not-accelerated",
                f"{view.runtime} {view.version} runs {left / macs:.0%} of the arithmetic outside XNNPACK on this machine, which is often "
                "several times slower; measure it with each runtime, and in float as well",
            )


def _place(operator: Operator, graph: SubGraph) -> str:
    return f"{operator.name} (operator {operator.index}, {graph.tensors[operator.outputs[0]].name!r})"
