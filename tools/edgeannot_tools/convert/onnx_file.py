"""Reads what an .onnx file says of itself, without the onnx package: inputs, operators, and notes that the exporter left.

Only the few fields that are needed are looked at; weights are skipped. Protocol Buffers' wire format:
https://protobuf.dev/programming-guides/encoding/ and the fields of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeannot.base.errors import InputError, MissingError

__all__ = ["OnnxFacts", "OnnxInput", "read_onnx"]

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Wire types."""
MODEL_PRODUCER, MODEL_GRAPH, MODEL_METADATA = 2, 7, 14
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_INPUT = 1, 5, 11
TENSOR_NAME, TENSOR_EXTERNAL, NODE_TYPE, VALUE_NAME, VALUE_TYPE = 8, 13, 4, 1, 2
MAX_SHIFT = 63


@dataclass(frozen=True, slots=True)
class OnnxInput:
    """An input that is no constant; a size that is not fixed is None."""

    name: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class OnnxFacts:
    """What was read."""

    producer: str
    inputs: tuple[OnnxInput, ...]
    operators: frozenset[str]
    metadata: Mapping[str, str]
    data_files: frozenset[str] = frozenset()
    """Files beside the model that hold weights, as paths relative to it."""

    def class_names(self) -> tuple[str, ...]:
        """The names that Ultralytics' exporter leaves, `{0: 'person', ...}`; empty where there are none."""
        try:
            found = ast.literal_eval(self.metadata.get("names", ""))
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return ()
        if isinstance(found, dict) and sorted(found) == list(range(len(found))):
            return tuple(str(found[i]) for i in range(len(found)))
        return tuple(map(str, found)) if isinstance(found, list | tuple) else ()


def read_onnx(path: Path) -> OnnxFacts:
    """The facts of a file. Raises MissingError, or InputError for what is no ONNX model or a truncated one."""
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise MissingError(f"{path} cannot be read: {exc.strerror}") from exc
    try:
        facts = _model(memoryview(data))
    except (ValueError, IndexError, UnicodeDecodeError, TypeError) as exc:
        raise InputError(f"{path} is not an ONNX model, or a truncated one; export or fetch it again") from exc
    if not facts.operators or not facts.inputs:
        missing = "operators" if not facts.operators else "inputs"
        raise InputError(f"{path} is not an ONNX model that can run: it holds no {missing}")
    return facts


def _model(data: memoryview) -> OnnxFacts:
    producer, metadata = "", {}
    inputs: list[OnnxInput] = []
    constants: set[str] = set()
    operators: set[str] = set()
    data_files: set[str] = set()
    for number, value in _fields(data):
        if number == MODEL_PRODUCER:
            producer = _text(value)
        elif number == MODEL_METADATA:
            key, text = _pair(value)
            metadata[key] = text
        elif number == MODEL_GRAPH:
            for inner, part in _fields(_message(value)):
                if inner == GRAPH_NODE:
                    operators.add(_text(dict(_fields(_message(part))).get(NODE_TYPE, b"")))
                elif inner == GRAPH_INITIALIZER:
                    tensor = list(_fields(_message(part)))
                    constants.add(_text(dict(tensor).get(TENSOR_NAME, b"")))
                    pairs = dict(_pair(entry) for field, entry in tensor if field == TENSOR_EXTERNAL)
                    data_files |= {pairs["location"]} if "location" in pairs else set()
                elif inner == GRAPH_INPUT:
                    inputs.append(_input(_message(part)))
    # Files from before 2019 list their weights among the inputs.
    return OnnxFacts(producer, tuple(i for i in inputs if i.name not in constants), frozenset(operators), metadata, frozenset(data_files))


def _pair(value: int | memoryview) -> tuple[str, str]:
    """StringStringEntryProto: a key and a value."""
    fields = dict(_fields(_message(value)))
    return _text(fields.get(1, b"")), _text(fields.get(2, b""))


def _input(data: memoryview) -> OnnxInput:
    """ValueInfoProto -> TypeProto.tensor_type -> shape -> dim -> value (1) or the name of a size that is not fixed (2)."""
    fields = dict(_fields(data))
    shape: list[int | None] = []
    tensor = dict(_fields(_message(fields[VALUE_TYPE]))).get(1) if VALUE_TYPE in fields else None
    if tensor is not None:
        for number, value in _fields(_message(tensor)):
            if number == 2:
                shape = [_dimension(_message(dim)) for _, dim in _fields(_message(value))]
    return OnnxInput(_text(fields.get(VALUE_NAME, b"")), tuple(shape))


def _dimension(data: memoryview) -> int | None:
    size = dict(_fields(data)).get(1)
    return size if isinstance(size, int) and size > 0 else None


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(field number, value) of a message, in order. Raises ValueError or IndexError where it ends in the middle."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        wire = key & 7
        if wire == VARINT:
            number, position = _varint(data, position)
            yield key >> 3, number
            continue
        if wire == BYTES:
            length, position = _varint(data, position)
        elif wire in (FIXED64, FIXED32):
            length = 8 if wire == FIXED64 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if position + length > len(data) or not key >> 3:
            raise ValueError("the message is truncated")
        yield key >> 3, data[position : position + length]
        position += length


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > MAX_SHIFT:
            raise ValueError("a number is too long")


def _message(value: int | memoryview | bytes) -> memoryview:
    if isinstance(value, int):
        raise TypeError("wanted a message, found a number")
    return memoryview(value)


def _text(value: int | memoryview | bytes) -> str:
    return bytes(_message(value)).decode("utf-8")
