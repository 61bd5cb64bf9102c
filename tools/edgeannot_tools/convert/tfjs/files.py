"""Reads a TensorFlow.js graph model: `model.json`, which holds the graph, and the files beside it that hold the weights.

The graph is TensorFlow's GraphDef as JSON; the weights lie one behind the other in the files that `weightsManifest` names, each as a
number type or quantized (`real = stored * scale + min`). https://www.tensorflow.org/js/guide/conversion, and for the forms
https://github.com/tensorflow/tfjs, `tfjs-core/src/io/types.ts` (WeightsManifestEntry) and `tfjs-converter/src/data/compiled_api.ts`
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeannot.base.errors import InputError
from edgeannot.base.foreign import MAX_INT, as_float, as_int, parse_json, read_bytes, shorten, shorten_path

__all__ = ["GraphModel", "Node", "read_model"]

MAX_JSON = 64 << 20
"""Bytes; a graph of a thousand operators has half a megabyte."""
MAX_WEIGHTS = 1 << 30
"""Bytes of all weights of a model."""
MAX_RANK = 8
PLAIN_TYPES = {"float32": "<f4", "int32": "<i4", "bool": "|u1", "float16": "<f2", "uint8": "|u1"}
QUANTIZED_TYPES = {"float16": "<f2", "uint8": "|u1", "uint16": "<u2"}
DATA_TYPES = {"DT_UINT8": 4, "DT_FLOAT": 1, "DT_INT32": 3}
"""TensorFlow's numbers for the types that a picture may have (`types.proto`)."""


@dataclass(frozen=True, slots=True)
class Node:
    """One operator of the graph. `inputs` are names of nodes, with `:1` and so on for later outputs, without control inputs."""

    name: str
    op: str
    inputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    where: str

    def text(self, name: str, default: str = "") -> str:
        """Return a text, as base64 or as a list of bytes in the file."""
        value = self._attribute(name, "s")
        return default if value is None else self._decoded(value, name)

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of texts; empty where there is none."""
        return tuple(self._decoded(value, name) for value in self._list(name, "s"))

    def integer(self, name: str, default: int = 0) -> int:
        """Return a whole number."""
        value = self._attribute(name, "i")
        return default if value is None else self._whole(value, name)

    def integers(self, name: str) -> tuple[int, ...]:
        """Return a list of whole numbers; empty where there is none."""
        return tuple(self._whole(value, name) for value in self._list(name, "i"))

    def number(self, name: str, default: float) -> float:
        """Return a number."""
        value = self._attribute(name, "f")
        found = default if value is None else as_float(value)
        if found is None:
            raise self._wrong(name, "a number", value)
        return found

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Return whether something is switched on."""
        value = self._attribute(name, "b")
        return default if value is None else value is True

    def data_type(self, name: str) -> int:
        """Return a number type by its number in TensorFlow's `types.proto`; 0 where none is stated."""
        value = self._attribute(name, "type")
        return DATA_TYPES.get(value, 0) if isinstance(value, str) else as_int(value or 0) or 0

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Return a shape with -1 for sizes that are open; None where nothing is known of it."""
        value = self._attribute(name, "shape")
        if not isinstance(value, Mapping) or value.get("unknownRank"):
            return None
        sizes = value.get("dim", [])
        if not isinstance(sizes, list) or len(sizes) > MAX_RANK or not all(isinstance(size, Mapping) for size in sizes):
            raise self._wrong(name, "a shape", value)
        return tuple(self._whole(size.get("size", 0), name) for size in sizes)

    def _attribute(self, name: str, kind: str) -> Any:
        entry = self.attributes.get(name)
        return entry.get(kind) if isinstance(entry, Mapping) else None

    def _list(self, name: str, kind: str) -> list[Any]:
        found = self._attribute(name, "list")
        values = found.get(kind) if isinstance(found, Mapping) else None
        return values if isinstance(values, list) else []

    def _whole(self, value: object, name: str) -> int:
        found = as_int(value)
        if found is None or abs(found) > MAX_INT:
            raise self._wrong(name, "a whole number", value)
        return found

    def _decoded(self, value: object, name: str) -> str:
        try:
            if isinstance(value, list):
                return bytes(value).decode("utf-8")
            if isinstance(value, str):
                return base64.b64decode(value, validate=True).decode("utf-8")
        except (TypeError, ValueError, binascii.Error):
            pass
        raise self._wrong(name, "a text as base64 or as bytes", value)

    def _wrong(self, attribute: str, wanted: str, found: object) -> InputError:
        return InputError(f"{self.where}: node {shorten(self.name)}, {attribute}: wanted {wanted}, found {shorten(found)}")


@dataclass(frozen=True, slots=True)
class GraphModel:
    """A graph with its weights."""

    where: str
    nodes: Mapping[str, Node]
    weights: Mapping[str, NDArray[Any]]
    """By the name of the constant; float32, int32 or bool."""
    outputs: tuple[str, ...] = field(default=())
    """Those that the file states, else the nodes that no other reads."""


def read_model(path: Path) -> GraphModel:
    """Return the graph model in a `model.json` and its weight files.

    Raises MissingError for a file that is not there, and InputError for a damaged one, a layers model, weights that do not fit their
    files, and files outside the folder.
    """
    where = shorten_path(path)
    table = parse_json(read_bytes(path, "the model", max_bytes=MAX_JSON), f"the model {where}")
    topology = table.get("modelTopology") if isinstance(table, dict) else None
    if not isinstance(topology, dict):
        raise InputError(f"{where} is no TensorFlow.js model: it has no table `modelTopology`")
    if table.get("format") == "layers-model" or "model_config" in topology:
        raise InputError(f"{where} is a TensorFlow.js layers model, wanted a graph model; convert it with tensorflowjs_converter first")
    nodes = _nodes(topology.get("node"), where)
    weights = _weights(table.get("weightsManifest"), path.parent, where)
    for node in nodes.values():
        if node.op == "Const" and node.name not in weights:
            raise InputError(f"{where}: the weights of the constant {shorten(node.name)} are not in the weights manifest")
    return GraphModel(where, nodes, weights, _outputs(table, nodes, where))


def _nodes(found: object, where: str) -> dict[str, Node]:
    if not isinstance(found, list) or not found:
        raise InputError(f"{where}: wanted a list of nodes in modelTopology, found {shorten(found)}")
    nodes: dict[str, Node] = {}
    for entry in found:
        fields = entry if isinstance(entry, dict) else {}
        name, op, inputs, attributes = fields.get("name"), fields.get("op"), fields.get("input") or [], fields.get("attr") or {}
        if (
            not isinstance(name, str)
            or not isinstance(op, str)
            or not isinstance(inputs, list)
            or not isinstance(attributes, dict)
            or not all(isinstance(source, str) for source in inputs)
        ):
            raise InputError(f"{where}: wanted a node with name, op and inputs, found {shorten(entry)}")
        if re.search("[\ud800-\udfff]", name):  # JSON can write it, and no TFLite file
            raise InputError(f"{where}: wanted names of nodes without half a character, found {shorten(name)}")
        if name in nodes:
            raise InputError(f"{where}: two nodes are called {shorten(name)}")
        data = tuple(source.removesuffix(":0") for source in inputs if not source.startswith("^"))
        nodes[name] = Node(name, op, data, attributes, where)
    return nodes


def _outputs(table: Mapping[str, Any], nodes: Mapping[str, Node], where: str) -> tuple[str, ...]:
    """Return the stated outputs in their order, else what no node reads."""
    described = table.get("userDefinedMetadata")
    signature = table.get("signature") or (described.get("signature") if isinstance(described, dict) else None)
    stated = signature.get("outputs") if isinstance(signature, dict) else None
    if isinstance(stated, dict) and stated:
        names = [entry.get("name") if isinstance(entry, dict) else None for entry in stated.values()]
        named = [name.removesuffix(":0") if isinstance(name, str) else "" for name in names]
        for name in named:
            if name.partition(":")[0] not in nodes:
                raise InputError(f"{where}: the signature names the output {shorten(name)}, and there is no such node")
        return tuple(dict.fromkeys(named))
    read = {source.partition(":")[0] for node in nodes.values() for source in node.inputs}
    return tuple(name for name, node in nodes.items() if name not in read and node.op not in ("Const", "Placeholder", "NoOp"))


def _weights(manifest: object, folder: Path, where: str) -> dict[str, NDArray[Any]]:
    if not isinstance(manifest, list):
        raise InputError(f"{where}: wanted a list `weightsManifest`, found {shorten(manifest)}")
    weights: dict[str, NDArray[Any]] = {}
    left = MAX_WEIGHTS
    for group in manifest:
        paths, entries = (group.get("paths"), group.get("weights")) if isinstance(group, dict) else (None, None)
        if not isinstance(paths, list) or not isinstance(entries, list):
            raise InputError(f"{where}: wanted groups of paths and weights in weightsManifest, found {shorten(group)}")
        parts = []
        for name in paths:
            parts.append(read_bytes(_beside(folder, name, where), "the weight file", max_bytes=left))
            left -= len(parts[-1])
        data = b"".join(parts)
        taken = 0
        for entry in entries:
            taken = _take(entry, data, taken, weights, where)
        if taken != len(data):
            files = ", ".join(map(str, paths))
            raise InputError(f"{where}: the weights are {taken} bytes, and {shorten(files)} has {len(data)}; fetch the files again")
    return weights


def _beside(folder: Path, name: object, where: str) -> Path:
    """Return the path of a weight file. Raises InputError for one that is not in the model's folder or below it."""
    parts = PurePosixPath(name).parts if isinstance(name, str) else ()
    if not isinstance(name, str) or not parts or name.startswith("/") or ".." in parts or PureWindowsPath(name).anchor or "\\" in name:
        raise InputError(f"{where}: wanted weight files in the model's own folder, found {shorten(name)}")
    return folder.joinpath(*parts)


def _take(entry: object, data: bytes, start: int, weights: dict[str, NDArray[Any]], where: str) -> int:
    """Put one entry's array into `weights`; give where the next one starts."""
    fields = entry if isinstance(entry, dict) else {}
    name, sizes, kind = fields.get("name"), fields.get("shape"), fields.get("dtype")
    if not isinstance(name, str) or name in weights or not isinstance(sizes, list):
        raise InputError(f"{where}: wanted a weight with a name of its own and a shape, found {shorten(entry)}")
    shape = [-1 if (size := as_int(raw)) is None else size for raw in sizes]
    if len(shape) > MAX_RANK or any(size < 0 for size in shape):
        raise InputError(f"{where}: weight {shorten(name)}: wanted a shape of at most {MAX_RANK} sizes, found {shorten(sizes)}")
    packing = fields.get("quantization")
    stored = packing.get("dtype") if isinstance(packing, dict) else kind
    code = (QUANTIZED_TYPES if packing else PLAIN_TYPES).get(stored) if isinstance(stored, str) else None
    if code is None:
        known = ", ".join(QUANTIZED_TYPES if packing else PLAIN_TYPES)
        raise InputError(f"{where}: weight {shorten(name)}: wanted numbers of type {known}, found {shorten(stored)}")
    count = prod(shape)
    end = start + count * np.dtype(code).itemsize
    if end > len(data):
        raise InputError(
            f"{where}: weight {shorten(name)} of shape {shorten(shape)} ends at byte {end}, and its files have {len(data)}; "
            "fetch the files again"
        )
    values = np.frombuffer(data[start:end], code).reshape(shape) if count else np.zeros(shape, code)
    weights[name] = _real(values, kind, packing, f"{where}: weight {shorten(name)}")
    return end


def _real(values: NDArray[Any], kind: object, packing: object, what: str) -> NDArray[Any]:
    """Return the numbers that are calculated with."""
    if isinstance(packing, dict) and values.dtype.kind == "u":
        scale, lowest = as_float(packing.get("scale")), as_float(packing.get("min"))
        if scale is None or lowest is None:
            raise InputError(f"{what}: wanted a scale and a min for its {values.dtype} numbers, found {shorten(packing)}")
        real = values.astype(np.float32) * np.float32(scale) + np.float32(lowest)
        return np.round(real).astype(np.int32) if kind == "int32" else real
    if kind == "bool":
        return np.asarray(values != 0)
    return values.astype(np.float32) if values.dtype.kind == "f" else values.astype(np.int32)
