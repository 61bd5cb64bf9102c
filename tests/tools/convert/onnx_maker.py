"""Writes small .onnx files with nothing but the wire format of Protocol Buffers, so that tests need no onnx package.

Field numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

Attribute = int | str | Sequence[int]
ELEMENT_TYPES = {np.dtype(np.float32): 1, np.dtype(np.int64): 7}


def varint(value: int) -> bytes:
    out = bytearray()
    value &= (1 << 64) - 1
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: bytes | str | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def tensor(name: str, values: np.ndarray) -> bytes:
    dims = b"".join(field(1, n) for n in values.shape)
    return dims + field(2, ELEMENT_TYPES[values.dtype]) + field(8, name) + field(9, values.tobytes())


def external_tensor(name: str, shape: Sequence[int], location: str) -> bytes:
    dims = b"".join(field(1, n) for n in shape)
    return dims + field(2, 1) + field(8, name) + field(13, field(1, "location") + field(2, location)) + field(14, 1)


def value_info(name: str, shape: Sequence[int | str]) -> bytes:
    dims = b"".join(field(1, field(1, n) if isinstance(n, int) else field(2, n)) for n in shape)
    return field(1, name) + field(2, field(1, field(1, 1) + field(2, dims)))


def node(kind: str, inputs: Sequence[str], outputs: Sequence[str], *, domain: str = "", **attributes: Attribute) -> bytes:
    body = b"".join(field(1, i) for i in inputs) + b"".join(field(2, o) for o in outputs)
    body += field(3, f"{kind}_{outputs[0]}") + field(4, kind)
    for key, value in attributes.items():
        if isinstance(value, int):
            entry = field(3, value) + field(20, 2)
        elif isinstance(value, str):
            entry = field(4, value) + field(20, 3)
        else:
            entry = b"".join(field(8, n) for n in value) + field(20, 7)
        body += field(5, field(1, key) + entry)
    return body + (field(7, domain) if domain else b"")


def model(
    nodes: Sequence[bytes],
    inputs: Mapping[str, Sequence[int | str]],
    outputs: Mapping[str, Sequence[int | str]],
    constants: Mapping[str, np.ndarray],
    metadata: Mapping[str, str] | None = None,
    extra: bytes = b"",
) -> bytes:
    """A ModelProto of opset 13; `extra` goes into the graph as it is."""
    graph = b"".join(field(1, n) for n in nodes) + field(2, "graph")
    graph += b"".join(field(5, tensor(name, values)) for name, values in constants.items()) + extra
    graph += b"".join(field(11, value_info(name, shape)) for name, shape in inputs.items())
    graph += b"".join(field(12, value_info(name, shape)) for name, shape in outputs.items())
    notes = b"".join(field(14, field(1, key) + field(2, value)) for key, value in (metadata or {}).items())
    return field(1, 8) + field(2, "tests") + field(7, graph) + field(8, field(1, "") + field(2, 13)) + notes


STRIDES = (8, 16, 32)


def columns_detector(classes: int = 3, size: int = 64, *, fixed: bool = True, metadata: Mapping[str, str] | None = None) -> bytes:
    """A network that ends as YOLOv8's export does: boxes in pixels and class probabilities as (1, 4 + C, N), N cells of 3 strides."""
    random = np.random.default_rng(0)
    constants = {
        "w0": random.normal(0, 0.3, (8, 3, 3, 3)).astype(np.float32),
        "zero": np.array([0], np.int64),
        "two": np.array([2], np.int64),
        "four": np.array([4], np.int64),
        "axis": np.array([1], np.int64),
        "flat_box": np.array([1, 4, -1], np.int64),
        "flat_cls": np.array([1, classes, -1], np.int64),
    }
    nodes = [node("Conv", ["images", "w0"], ["c0"], kernel_shape=(3, 3), strides=(8, 8), pads=(1, 1, 1, 1)), node("Relu", ["c0"], ["r0"])]
    cells = []
    for level, stride in enumerate(STRIDES):
        source = f"r{level}"
        if level:
            constants[f"w{level}"] = random.normal(0, 0.3, (8, 8, 3, 3)).astype(np.float32)
            nodes.append(
                node("Conv", [f"r{level - 1}", f"w{level}"], [f"c{level}"], kernel_shape=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1))
            )
            nodes.append(node("Relu", [f"c{level}"], [source]))
        for part, count in (("box", 4), ("cls", classes)):
            constants[f"w_{part}{level}"] = random.normal(0, 0.2, (count, 8, 1, 1)).astype(np.float32)
            nodes.append(node("Conv", [source, f"w_{part}{level}"], [f"{part}{level}"], kernel_shape=(1, 1)))
            nodes.append(node("Reshape", [f"{part}{level}", f"flat_{part}"], [f"{part}{level}_flat"]))
        y, x = np.mgrid[0 : size // stride, 0 : size // stride]
        cells.append(np.stack([x.ravel(), y.ravel()]).astype(np.float32) * stride + stride / 2)
    constants["centres"] = np.concatenate(cells, axis=1)[None].astype(np.float32)
    constants["largest"] = np.full((1, 1, 1), size / 2, np.float32)
    nodes += [
        node("Concat", [f"box{i}_flat" for i in range(3)], ["box"], axis=2),
        node("Concat", [f"cls{i}_flat" for i in range(3)], ["cls"], axis=2),
        node("Sigmoid", ["cls"], ["scores"]),
        node("Slice", ["box", "zero", "two", "axis"], ["offsets"]),
        node("Slice", ["box", "two", "four", "axis"], ["sizes"]),
        node("Add", ["offsets", "centres"], ["xy"]),
        node("Sigmoid", ["sizes"], ["shares"]),
        node("Mul", ["shares", "largest"], ["wh"]),
        node("Concat", ["xy", "wh"], ["boxes"], axis=1),
        node("Concat", ["boxes", "scores"], ["output0"], axis=1),
    ]
    sides = [1, 3, size, size] if fixed else ["batch", 3, "height", "width"]
    count = constants["centres"].shape[2]
    return model(nodes, {"images": sides}, {"output0": [1, 4 + classes, count]}, constants, metadata)
