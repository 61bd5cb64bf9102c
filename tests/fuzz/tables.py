"""Changes of a .tflite through the tables of its schema: what is written is a whole file that says something else."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tests.fuzz.numbers import INTEGERS, REALS, WORDS, flip, nasty_integer, spoil

__all__ = ["change_tables"]


def change_tables(rng: Random, raw: bytes) -> bytes:
    """The file with one field changed; spoiled bytes where it cannot be read or written any more."""
    try:
        model: Any = schema.ModelT.InitFromPackedBuf(raw, 0)
        graph = model.subgraphs[0]
        rng.choice(CHANGES)(rng, model, graph)
        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())
    except Exception:  # noqa: BLE001 - the library's own errors are of any kind: a number too large for its field, a table that is damaged
        return spoil(rng, raw)


def _size(rng: Random, near: int) -> int:
    number = nasty_integer(rng, near)
    return max(min(number, 2**31 - 1), -(2**31))


def _change_list(rng: Random, values: Any, new: int) -> list[int]:
    numbers = [int(value) for value in (values if values is not None else [])]
    choice = rng.random()
    if choice < 0.6 and numbers:
        numbers[rng.randrange(len(numbers))] = new
    elif choice < 0.8:
        numbers.insert(rng.randrange(len(numbers) + 1), new)
    elif numbers:
        del numbers[rng.randrange(len(numbers))]
    return numbers


def _shape(rng: Random, _: Any, graph: Any) -> None:
    tensor = rng.choice(graph.tensors)
    near = [int(n) for n in (tensor.shape if tensor.shape is not None else [])] or [1]
    field = "shape" if rng.random() < 0.8 else "shapeSignature"
    setattr(tensor, field, _change_list(rng, getattr(tensor, field), _size(rng, rng.choice(near))))


def _type(rng: Random, _: Any, graph: Any) -> None:
    rng.choice(graph.tensors).type = rng.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 17, 19, 99, -1))


def _buffer_index(rng: Random, model: Any, graph: Any) -> None:
    rng.choice(graph.tensors).buffer = rng.choice((0, rng.randrange(len(model.buffers)), len(model.buffers), 2**32 - 1))


def _name(rng: Random, model: Any, graph: Any) -> None:
    name: Any = rng.choice((*(word.encode() for word in WORDS), b"\xff\xfe", b"\0", b"a\0b", b"\xed\xa0\x80", b"x" * 5000, None))
    tables = [*graph.tensors, graph, *(model.metadata or []), *(model.signatureDefs or [])]
    if rng.random() < 0.2:
        model.description = name
    else:
        rng.choice(tables).name = name


def _quantization(rng: Random, _: Any, graph: Any) -> None:
    tensor = rng.choice(graph.tensors)
    found = tensor.quantization or schema.QuantizationParametersT()
    tensor.quantization = found if rng.random() < 0.95 else None
    field = rng.choice(("scale", "zeroPoint", "quantizedDimension", "both"))
    count = rng.choice((1, 1, 1, 0, 2, 3, 300))
    if field in {"scale", "both"}:
        found.scale = [rng.choice(REALS) for _ in range(count)]
    if field in {"zeroPoint", "both"}:
        found.zeroPoint = [rng.choice((0, -128, 127, 255, 2**31, -(2**63), 2**63 - 1)) for _ in range(count)]
    if field == "quantizedDimension":
        found.quantizedDimension = rng.choice((0, 1, 3, 4, 100, -1))


def _wiring(rng: Random, _: Any, graph: Any) -> None:
    count = len(graph.tensors)
    new = rng.choice((rng.randrange(count), rng.randrange(count), rng.randrange(count), -1, -2, count, 10**6))
    table, field = (graph, rng.choice(("inputs", "outputs"))) if rng.random() < 0.25 or not graph.operators else (
        rng.choice(graph.operators), rng.choice(("inputs", "outputs")))  # fmt: skip
    setattr(table, field, _change_list(rng, getattr(table, field), new))


def _operator_code(rng: Random, model: Any, graph: Any) -> None:
    if rng.random() < 0.5 and graph.operators:
        rng.choice(graph.operators).opcodeIndex = rng.choice((*range(len(model.operatorCodes)), len(model.operatorCodes), 2**32 - 1))
        return
    code = rng.choice(model.operatorCodes)
    field = rng.choice(("builtinCode", "customCode", "version", "deprecatedBuiltinCode"))
    if field == "customCode":
        code.customCode = rng.choice((*WORDS, "TFLite_Detection_PostProcess", "edgetpu-custom-op", "FlexConv2D", None))
    elif field == "version":
        code.version = rng.choice((0, 1, 2, 5, 99, -1, 2**31 - 1))
    else:
        code.builtinCode = rng.choice((*range(32), 32, *range(33, 210), 999, -1))
        code.deprecatedBuiltinCode = max(min(code.builtinCode, 127), -128)


def _options(rng: Random, _: Any, graph: Any) -> None:
    operator = rng.choice(graph.operators)
    choice = rng.random()
    if operator.builtinOptions is not None and choice < 0.8:
        fields = [key for key, value in vars(operator.builtinOptions).items() if isinstance(value, int | float)]
        key = rng.choice(fields)
        old = getattr(operator.builtinOptions, key)
        setattr(
            operator.builtinOptions,
            key,
            rng.choice(REALS) if isinstance(old, float) else rng.choice((0, 1, 2, 5, 127, _size(rng, int(old)))),
        )
    elif choice < 0.9:
        operator.builtinOptions, operator.builtinOptionsType = None, 0
    else:
        operator.customOptions = list(spoil(rng, bytes(operator.customOptions if operator.customOptions is not None else b"\1\2\3")))


def _data(rng: Random, model: Any, _: Any) -> None:
    full = [buffer for buffer in model.buffers if buffer.data is not None and len(buffer.data)]
    if not full:
        raise ValueError("no constant data")
    buffer = rng.choice(full)
    data = bytes(bytearray(buffer.data))
    if rng.random() < 0.4:
        at = 4 * rng.randrange(max(len(data) // 4, 1))
        number = np.float32(rng.choice(REALS)) if rng.random() < 0.5 else np.int32(rng.choice(INTEGERS) % 2**31)
        data = data[:at] + number.tobytes() + data[at + 4 :]
    else:
        data = rng.choice((flip(rng, data), data[: rng.randrange(len(data))], data * 2, b""))
    buffer.data = np.frombuffer(data, np.uint8)


def _lists(rng: Random, model: Any, graph: Any) -> None:
    """An operator, a tensor, a buffer or a graph left out, doubled or moved."""
    rows = rng.choice((graph.operators, graph.operators, graph.tensors, model.buffers, model.operatorCodes, model.subgraphs))
    at = rng.randrange(len(rows))
    choice = rng.random()
    if choice < 0.4:
        del rows[at]
    elif choice < 0.7:
        rows.insert(rng.randrange(len(rows) + 1), rows[at])
    else:
        rows.insert(rng.randrange(len(rows)), rows.pop(at))


def _metadata(rng: Random, model: Any, graph: Any) -> None:
    from tests.metadata_maker import detector_metadata, tflite_metadata

    outputs = graph.outputs if graph.outputs is not None else []
    rows = max((graph.tensors[i].shape[1] for i in outputs if len(graph.tensors[i].shape or ()) == 3), default=2)
    anchors = np.tile([[0.25, 0.5, 0.1, 0.2]], (min(int(rows), 4096), 1))
    blob = tflite_metadata(rng.choice((None, detector_metadata(anchors, classes=rng.choice((1, 2, 4))))))
    for _ in range(rng.randrange(3)):
        blob = spoil(rng, blob)
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(blob, np.uint8)
    model.buffers.append(buffer)
    entry.name, entry.buffer = "TFLITE_METADATA", rng.choice((len(model.buffers) - 1,) * 4 + (len(model.buffers), 2**32 - 1, 0))
    model.metadata = [*(model.metadata or []), entry]


def _signature(rng: Random, model: Any, graph: Any) -> None:
    signature, entry = schema.SignatureDefT(), schema.TensorMapT()
    entry.name, entry.tensorIndex = rng.choice(WORDS), rng.choice((0, len(graph.tensors) - 1, len(graph.tensors), 2**32 - 1))
    signature.inputs, signature.outputs, signature.signatureKey = [entry] * rng.randrange(3), [entry], rng.choice(WORDS)
    signature.subgraphIndex = rng.choice((0, 1, 2**32 - 1))
    model.signatureDefs = [signature] * rng.choice((1, 2))


CHANGES: tuple[Callable[[Random, Any, Any], None], ...] = (
    _shape, _shape, _shape, _type, _buffer_index, _name, _quantization, _quantization, _wiring, _wiring, _operator_code, _options, _options,
    _data, _data, _lists, _metadata, _signature,
)  # fmt: skip
