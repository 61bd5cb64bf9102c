"""What can be done to a TFLite graph: cut, fold, retarget, resize, count.

Edits change a `Graph` in place and leave no holes: `collect_garbage` renumbers tensors, so keep their names, not their numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from edgeannot.base.errors import InputError, ModelError
from edgeannot.tflite import file as tflite
from edgeannot_tools.graph.graph import Graph, Op, Type, schema
from edgeannot_tools.graph.macs import operator_costs

__all__ = ["at_size", "collect_garbage", "cut", "fold_dequantize", "multiply_accumulates", "retarget_outputs", "set_signature"]


def set_signature(graph: Graph) -> None:
    """State inputs and outputs by tensor name as the signature `serving_default`, which some converters insist on."""
    definition = schema.SignatureDefT()
    definition.signatureKey, definition.subgraphIndex = "serving_default", 0

    def entry(tensor: int) -> Any:
        item = schema.TensorMapT()
        item.name, item.tensorIndex = graph.name(tensor), tensor
        return item

    definition.inputs = [entry(t) for t in graph.inputs]
    definition.outputs = [entry(t) for t in graph.outputs]
    graph.model.signatureDefs = [definition]


def collect_garbage(graph: Graph) -> None:
    """Drop tensors, buffers and operator kinds that nothing uses, renumber the rest in their order, and renew the signature.

    The model's metadata stay, with their buffers. Operators stay as they are: see `cut`.
    """
    used = set(graph.inputs) | set(graph.outputs)
    for operator in graph.operators:
        used |= {t for t in (*operator.inputs, *operator.outputs) if t >= 0}
    new_number = {old: new for new, old in enumerate(sorted(used))}
    graph.sub.tensors = [graph.tensors[t] for t in sorted(used)]
    for operator in graph.operators:
        operator.inputs = [new_number.get(t, -1) for t in operator.inputs]
        operator.outputs = [new_number[t] for t in operator.outputs]
        operator.intermediates = None
    graph.sub.inputs = [new_number[t] for t in graph.inputs]
    graph.sub.outputs = [new_number[t] for t in graph.outputs]
    kinds = sorted({operator.opcodeIndex for operator in graph.operators})
    graph.model.operatorCodes = [graph.model.operatorCodes[i] for i in kinds]
    for operator in graph.operators:
        operator.opcodeIndex = kinds.index(operator.opcodeIndex)
    _collect_buffers(graph)
    set_signature(graph)


def _collect_buffers(graph: Graph) -> None:
    """Keep the buffers that tensors and metadata name; buffer 0 is empty by the schema's rule."""
    kept, new_number = [schema.BufferT()], {0: 0}
    metadata = graph.model.metadata or []
    for owner in (*graph.tensors, *metadata):
        if owner.buffer not in new_number:
            new_number[owner.buffer] = len(kept)
            kept.append(graph.model.buffers[owner.buffer])
        owner.buffer = new_number[owner.buffer]
    graph.model.buffers = kept
    graph.model.metadataBuffer = None  # unused since `metadata` has names


def retarget_outputs(graph: Graph, names: Iterable[str]) -> None:
    """Make the named tensors the graph's outputs, in this order, and drop the operators that only served others."""
    wanted = [graph.find(name) for name in names]
    if not wanted:
        raise InputError(f"{graph.where}: no output was named")
    needed, kept = set(wanted), []
    for operator in reversed(graph.operators):
        if needed & set(operator.outputs):
            kept.append(operator)
            needed |= {t for t in operator.inputs if t >= 0}
    graph.sub.operators = kept[::-1]
    graph.sub.outputs = wanted
    lost = [t for t in graph.inputs if t not in needed]
    if len(lost) == len(graph.inputs):
        raise InputError(f"{graph.where}: the outputs {', '.join(map(graph.name, wanted))} do not depend on any input of the graph")
    graph.sub.inputs = [t for t in graph.inputs if t in needed]
    collect_garbage(graph)


def cut(graph: Graph, outputs: Iterable[str], inputs: Iterable[str] | None = None) -> None:
    """Reduce the graph to what lies between the named tensors; without `inputs` it begins where it did.

    Raises InputError where an output also needs something from before the new inputs.
    """
    if inputs is not None:
        starts = [graph.find(name) for name in inputs]
        graph.sub.operators = [o for o in graph.operators if not set(o.outputs) & set(starts)]
        old, graph.sub.inputs = set(graph.inputs) - set(starts), starts
        retarget_outputs(graph, outputs)
        names = {graph.name(t) for t in graph.inputs}
        given = set(graph.inputs)
        for operator in graph.operators:
            missing = [t for t in operator.inputs if t >= 0 and t not in given and not graph.is_constant(t)]
            if missing:
                raise InputError(
                    f"{graph.where}: {graph.place(operator)} needs {graph.name(missing[0])!r} from before the new inputs "
                    f"({', '.join(sorted(names))}; {len(old)} old inputs were cut off)"
                )
            given |= set(operator.outputs)
    else:
        retarget_outputs(graph, outputs)


def fold_dequantize(graph: Graph) -> int:
    """Turn constants that are stored smaller (float16, or int8 weights) and expanded at run time into float32 constants.

    Two styles are known: a DEQUANTIZE operator behind the constant, and int8 weights that a float operator takes as they are
    (dynamic range). Gives the number of constants that were folded; the results do not change, apart from dynamic-range
    operators, which then no longer round their activations.
    """
    folded, kept = 0, []
    for operator in graph.operators:
        if graph.code(operator) == Op.DEQUANTIZE and graph.is_constant(operator.inputs[0]):
            _expand(graph, operator.inputs[0], operator.outputs[0])
            folded += 1
        else:
            kept.append(operator)
    graph.sub.operators = kept
    for operator in kept:
        if graph.code(operator) in (Op.DEQUANTIZE, Op.QUANTIZE) or not any(_is_float(graph, t) for t in operator.outputs):
            continue
        for slot, tensor in enumerate(operator.inputs):
            if tensor >= 0 and graph.is_constant(tensor) and graph.tensors[tensor].type == Type.INT8 and graph.quantization(tensor):
                wide = graph.add_tensor(graph.name(tensor), graph.shape(tensor))
                _expand(graph, tensor, wide)
                operator.inputs[slot] = wide
                folded += 1
    collect_garbage(graph)
    return folded


def multiply_accumulates(graph: Graph) -> int:
    """Count the multiply-accumulates of one run, over the operators with weights and over matrix products (see `macs`)."""
    return sum(cost.macs for cost in operator_costs(tflite.parse_tflite(graph.to_bytes())))


def _is_float(graph: Graph, tensor: int) -> bool:
    return bool(graph.tensors[tensor].type == Type.FLOAT32)


def _expand(graph: Graph, stored: int, wide: int) -> None:
    """Make `wide` a float32 constant with the real values of the constant `stored`."""
    values = graph.constant(stored)
    scheme = graph.quantization(stored)
    graph.set_constant(wide, scheme.real(values) if scheme is not None else values.astype(np.float32))
    graph.tensors[wide].quantization = None


def at_size(graph: Graph, size: int) -> None:
    """Change the square input size of a fully convolutional graph in place, without touching any weight.

    Raises InputError where the graph or its strides do not allow it.
    """
    try:
        graph.model = Graph.from_bytes(tflite.at_size(graph.to_bytes(), size), graph.where).model
    except ModelError as exc:
        raise InputError(f"{graph.where}: {exc}") from exc
