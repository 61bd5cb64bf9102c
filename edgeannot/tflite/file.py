"""Reads a .tflite file into plain values, and derives another input size by patching the file's own bytes.

The reader needs neither the runtime nor the `flatbuffers` package: the daemon reads graphs on boards that have little of either.
Field positions are those of the public schema (see `tflite_schema`).
"""

from __future__ import annotations

import mmap
import os
import shutil
import struct
from collections import Counter
from pathlib import Path
from typing import Literal, cast

from edgeannot.base.errors import MissingError, ModelError
from edgeannot.tflite.flatbuffer import Broken, Table, root
from edgeannot.tflite.schema import BUILTIN_NAMES, TYPE_NAMES, Operator, Signature, SubGraph, Tensor, TFLiteModel
from edgeannot.tflite.shapes import Unsizable, shapes_at

__all__ = ["at_size", "dtype_of", "open_at_size", "parse_tflite", "read_tflite"]

IDENTIFIER = b"TFL3"
MAX_BYTES = 2 << 30
"""Offsets of the format are 32 bits wide and signed in places; larger files cannot be valid."""

_WITH_WEIGHTS = {"CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED"}

FOREIGN = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself; fetch it with `git lfs pull`"),
    (b"PK\x03\x04", "a zip archive (a PyTorch or Keras file, perhaps, or a packed model); convert it, or unpack it and give the .tflite"),
    (b"\x89HDF", "an HDF5 file (Keras); convert it with `edgeannot convert`"),
    (b"<!DOCTYPE", "a web page; download the file itself"),
    (b"<html", "a web page; download the file itself"),
    (b"\x1f\x8b", "a gzip file; unpack it first"),
    (b"\x08", "perhaps an ONNX file; convert it with `edgeannot convert`"),
)
"""What people hand over instead of a model, by the file's first bytes."""


def read_tflite(path: Path) -> TFLiteModel:
    """Return the file at `path`. Raises MissingError where there is none, ModelError where it is not a whole TFLite file."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ModelError(f"model {path}: wanted a TFLite file of at most 2 GiB, found {path.stat().st_size} bytes")
        raw = path.read_bytes()
    except FileNotFoundError as exc:
        raise MissingError(f"model {path}: there is no such file") from exc
    except OSError as exc:
        raise ModelError(f"model {path}: cannot be read ({exc.strerror})") from exc
    return parse_tflite(raw, str(path))


def parse_tflite(raw: bytes, name: str = "model") -> TFLiteModel:
    """Return the file whose bytes are `raw`; `name` is what error messages call it. Raises ModelError."""
    if len(raw) < 8 or raw[4:8] != IDENTIFIER:
        raise ModelError(f"model {name}: wanted a TFLite file (bytes 4 to 7 are 'TFL3'), found {_foreign(raw)}")
    try:
        return _model(raw)
    except (Broken, struct.error, IndexError) as exc:
        raise ModelError(f"model {name}: the TFLite file is cut off or damaged ({exc}); copy or download it again") from exc


def dtype_of(path: Path) -> Literal["int8", "float32"]:
    """Return what most layers with weights calculate with; weights that are only stored as int8 do not count.

    Raises MissingError or ModelError where the file cannot be read.
    """
    graph = read_tflite(path).graph
    made = [graph.tensors[operator.outputs[0]].dtype for operator in graph.operators if operator.name in _WITH_WEIGHTS]
    return "int8" if 2 * sum(dtype in {"int8", "uint8", "int16"} for dtype in made) > len(made) else "float32"


def at_size(raw: bytes, size: int) -> bytes:
    """Return the model for a square input of `size` pixels: tensor shapes and the sizes that RESIZE operators hold are patched.

    Weights and offsets stay where they are, so the result has the length of `raw`. Raises ModelError for a graph whose result
    depends on the size in another way (a fixed RESHAPE, a fully connected layer, ...), and for a size that does not fit its strides.
    """
    patched = bytearray(raw)
    _resize_into(patched, size)
    return bytes(patched)


def open_at_size(path: Path, size: int) -> int:
    """Return a descriptor of a file in memory with the model `at_size`, so that it can be mapped: its weights are never on the heap.

    Raises ModelError as `at_size` does, and where there is no memory.
    """
    try:
        fd = os.memfd_create(path.name)
        try:
            shutil.copyfile(path, f"/proc/self/fd/{fd}")
            with mmap.mmap(fd, 0) as patched:
                _resize_into(patched, size)
        except BaseException:
            os.close(fd)
            raise
    except (OSError, ValueError) as exc:  # ValueError: an empty file
        raise ModelError(f"another input size, {size}: the file cannot be copied into memory ({exc})") from exc
    return fd


def _resize_into(patched: bytearray | mmap.mmap, size: int) -> None:
    """Patch a model's bytes where they are."""
    raw = cast("bytes", patched)  # what reads them only takes slices
    model = parse_tflite(raw)
    try:
        shapes, constants = shapes_at(model, size)
    except Unsizable as exc:
        raise ModelError(f"another input size, {size}: {exc}") from exc
    for tensor, shape in zip(model.graph.tensors, shapes, strict=True):
        if shape == tensor.shape:
            continue
        if not tensor.shape_at:
            raise ModelError(f"another input size, {size}: tensor '{tensor.name}' has no shape in the file that could be changed")
        struct.pack_into(f"<{len(shape)}i", patched, tensor.shape_at, *shape)
        if tensor.signature_at and len(tensor.shape_signature) == len(shape):
            signature = [new if old >= 0 else old for new, old in zip(shape, tensor.shape_signature, strict=True)]
            struct.pack_into(f"<{len(shape)}i", patched, tensor.signature_at, *signature)
    for data_at, values in constants.items():
        struct.pack_into(f"<{len(values)}i", patched, data_at, *values)
    derived = parse_tflite(raw)
    wrong = [t.name for t, shape in zip(derived.graph.tensors, shapes, strict=True) if t.shape != shape]
    if wrong:
        raise ModelError(f"another input size, {size}: tensors {wrong[:3]} share one shape in the file but need different ones")


def _foreign(raw: bytes) -> str:
    if not raw:
        return "an empty file"
    start = raw[:64].lstrip()
    for magic, what in FOREIGN:
        if start.lower().startswith(magic.lower()):
            return what
    return f"{len(raw)} bytes that start with {raw[:8]!r}"


def _model(raw: bytes) -> TFLiteModel:
    # table Model: version, operator_codes, subgraphs, description, buffers, metadata_buffer, metadata, signature_defs
    table = root(raw)
    codes = [_operator_code(code) for code in table.tables(1)]
    buffers = [_buffer(raw, buffer) for buffer in table.tables(4)]
    subgraphs = tuple(_subgraph(graph, codes, buffers) for graph in table.tables(2))
    if not subgraphs:
        raise Broken("it holds no graph")
    metadata: dict[str, bytes] = {}
    for entry in table.tables(6):  # table Metadata: name, buffer
        at, size = buffers[entry.number(1, "I")]
        metadata[entry.text(0)] = bytes(raw[at : at + size])
    users = Counter(tensor.buffer for graph in subgraphs for tensor in graph.tensors if tensor.constant)
    return TFLiteModel(
        raw=raw,
        version=table.number(0, "I"),
        description=table.text(3),
        subgraphs=subgraphs,
        metadata=metadata,
        signatures=tuple(_signature(signature) for signature in table.tables(7)),
        buffer_users=dict(users),
    )


def _operator_code(code: Table) -> tuple[str, str, int]:
    # table OperatorCode: deprecated_builtin_code (int8), custom_code, version = 1, builtin_code (int32).
    # Old writers fill only the first, which cannot count past 127; the larger of both is the operator.
    number = max(code.number(0, "b"), code.number(3, "i"))
    name = BUILTIN_NAMES[number] if 0 <= number < len(BUILTIN_NAMES) else f"BUILTIN_{number}"
    return name, code.text(1), code.number(2, "i", 1)


def _buffer(raw: bytes, buffer: Table) -> tuple[int, int]:
    # table Buffer: data, offset, size. With an offset above 1 the bytes lie outside the tables (large models, LiteRT's quantizer).
    offset, size = buffer.number(1, "Q"), buffer.number(2, "Q")
    if offset <= 1:
        return buffer.vector(0, 1)
    if offset + size > len(raw):
        raise Broken(f"constant data is said to be at bytes {offset} to {offset + size}, and the file ends at {len(raw)}")
    return offset, size


def _subgraph(graph: Table, codes: list[tuple[str, str, int]], buffers: list[tuple[int, int]]) -> SubGraph:
    # table SubGraph: tensors, inputs, outputs, operators, name
    tensors = tuple(_tensor(i, tensor, buffers) for i, tensor in enumerate(graph.tables(0)))
    operators = tuple(_operator(i, operator, codes) for i, operator in enumerate(graph.tables(3)))
    inputs, outputs = graph.numbers(1, "i"), graph.numbers(2, "i")
    used = [*inputs, *outputs, *(i for op in operators for i in (*op.inputs, *op.outputs) if i != -1)]
    if any(not 0 <= i < len(tensors) for i in used):
        raise Broken(f"an operator names tensor {max(used)}, and the graph has {len(tensors)}")
    return SubGraph(graph.text(4), tensors, inputs, outputs, operators)


def _tensor(index: int, tensor: Table, buffers: list[tuple[int, int]]) -> Tensor:
    # table Tensor: shape, type, buffer, name, quantization, is_variable, sparsity, shape_signature
    kind, buffer = tensor.number(1, "b"), tensor.number(2, "I")
    quantization = tensor.table(4)  # table QuantizationParameters: min, max, scale, zero_point, details_type, details, quantized_dimension
    shape = tensor.numbers(0, "i")
    data_at, data_size = buffers[buffer]
    return Tensor(
        index=index,
        name=tensor.text(3),
        shape=shape,
        shape_signature=tensor.numbers(7, "i"),
        dtype=TYPE_NAMES[kind] if 0 <= kind < len(TYPE_NAMES) else f"type{kind}",
        scales=() if quantization is None else quantization.reals(2),
        zero_points=() if quantization is None else quantization.numbers(3, "q"),
        axis=0 if quantization is None else quantization.number(6, "i"),
        buffer=buffer,
        data_at=data_at if data_size else 0,
        data_size=data_size,
        shape_at=tensor.vector(0, 4)[0] if shape else 0,
        signature_at=tensor.vector(7, 4)[0],
    )


def _operator(index: int, operator: Table, codes: list[tuple[str, str, int]]) -> Operator:
    # table Operator: opcode_index, inputs, outputs, builtin_options_type, builtin_options, custom_options
    name, custom_name, version = codes[operator.number(0, "I")]
    return Operator(
        index=index,
        name=name,
        version=version,
        custom_name=custom_name if name == "CUSTOM" else "",
        inputs=operator.numbers(1, "i"),
        outputs=operator.numbers(2, "i"),
        options=operator.table(4),
        custom_options=operator.blob(5),
    )


def _signature(signature: Table) -> Signature:
    # table SignatureDef: inputs, outputs, signature_key; table TensorMap: name, tensor_index
    inputs, outputs = ({entry.text(0): entry.number(1, "I") for entry in signature.tables(field)} for field in (0, 1))
    return Signature(signature.text(2), inputs, outputs)
