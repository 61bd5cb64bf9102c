"""Writes small .tflite files with exactly the outputs a test wants, for real runtimes to run."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers
from numpy.typing import ArrayLike, NDArray

from edgeannot.tflite.schema import BUILTIN_NAMES, TYPE_NAMES

__all__ = ["Maker", "cell_table", "with_files"]


class Maker:
    """A graph in the making. Tensors are numbers; `outputs` ends it and gives the file's bytes."""

    def __init__(self, description: str = "test") -> None:
        self._model = schema.ModelT()
        self._model.version = 3
        self._model.description = description
        self._model.buffers = [schema.BufferT()]
        self._model.operatorCodes = []
        self._model.metadata = []
        self._graph = schema.SubGraphT()
        self._graph.tensors, self._graph.operators, self._graph.inputs = [], [], []
        self._shapes: list[tuple[int, ...]] = []

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str = "float32",
        scale: float = 0.0,
        zero_point: int = 0,
        data: ArrayLike | None = None,
    ) -> int:
        """A tensor; with `data` a constant."""
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name, list(shape), TYPE_NAMES.index(dtype), 0
        if scale:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = [scale], [zero_point]
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data, dtype).tobytes(), np.uint8)
            self._model.buffers.append(buffer)
            tensor.buffer = len(self._model.buffers) - 1
        self._graph.tensors.append(tensor)
        self._shapes.append(tuple(shape))
        return len(self._graph.tensors) - 1

    def constant(self, data: ArrayLike, dtype: str = "float32", name: str = "constant") -> int:
        """A constant tensor."""
        values = np.asarray(data, dtype)
        return self.tensor(name, values.shape, dtype, data=values)

    def input(self, shape: Sequence[int], dtype: str = "float32", scale: float = 0.0, zero_point: int = 0, name: str = "input") -> int:
        """An input; the result is its real values as float32, whatever its type."""
        raw = self.tensor(name, shape, dtype, scale, zero_point)
        self._graph.inputs.append(raw)
        if dtype == "float32":
            return raw
        return self.op("DEQUANTIZE" if scale else "CAST", [raw], shape)

    def op(
        self,
        name: str,
        inputs: Sequence[int],
        *shapes: Sequence[int],
        options: Any = None,
        tensor_name: str = "",
        dtype: str = "float32",
        scale: float = 0.0,
        zero_point: int = 0,
    ) -> int:
        """An operator; the first of its outputs."""
        return self._operator(
            BUILTIN_NAMES.index(name),
            None,
            inputs,
            shapes,
            options,
            b"",
            [tensor_name or name.lower()] * len(shapes),
            dtype,
            scale,
            zero_point,
        )[0]

    def custom(
        self,
        name: str,
        inputs: Sequence[int],
        shapes: Sequence[Sequence[int]],
        options: Mapping[str, float] | None = None,
        names: Sequence[str] = (),
    ) -> list[int]:
        """A custom operator with FlexBuffers options; all of its outputs."""
        packed = bytes(flexbuffers.Dumps(dict(options))) if options else b""
        return self._operator(BUILTIN_NAMES.index("CUSTOM"), name, inputs, shapes, None, packed, names or [name] * len(shapes))

    def _operator(
        self,
        code: int,
        custom: str | None,
        inputs: Sequence[int],
        shapes: Sequence[Sequence[int]],
        options: Any,
        packed: bytes,
        names: Sequence[str],
        dtype: str = "float32",
        scale: float = 0.0,
        zero_point: int = 0,
    ) -> list[int]:
        entry = schema.OperatorCodeT()
        entry.builtinCode, entry.deprecatedBuiltinCode, entry.version, entry.customCode = code, min(code, 127), 1, custom
        self._model.operatorCodes.append(entry)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self._model.operatorCodes) - 1
        operator.inputs = list(inputs)
        operator.outputs = [self.tensor(name, shape, dtype, scale, zero_point) for name, shape in zip(names, shapes, strict=True)]
        if options is not None:
            operator.builtinOptions = options
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        if packed:
            operator.customOptions = list(packed)
        self._graph.operators.append(operator)
        return list(operator.outputs)

    def concat(self, parts: Sequence[int], axis: int = -1, name: str = "concat") -> int:
        """Tensors joined along an axis."""
        options = schema.ConcatenationOptionsT()
        shape = list(self._shapes[parts[0]])
        axis %= len(shape)
        options.axis = axis
        shape[axis] = sum(self._shapes[i][axis] for i in parts)
        return self.op("CONCATENATION", parts, shape, options=options, tensor_name=name)

    def stirred(self, x: int, values: ArrayLike, amount: ArrayLike = 1e-3, name: str = "values") -> int:
        """`values` plus a little of the input's mean: numbers that a test chooses, and that change with the picture."""
        wanted, amounts = np.asarray(values, np.float32), np.atleast_1d(np.float32(amount))
        options = schema.ReducerOptionsT()
        options.keepDims = False
        axes = self.constant(list(range(1, 4)), "int32", "axes")
        mean = self.op("MEAN", [x, axes], (1,), options=options)
        small = self.op("MUL", [mean, self.constant(amounts)], amounts.shape, options=schema.MulOptionsT())
        return self.op("ADD", [self.constant(wanted), small], wanted.shape, options=schema.AddOptionsT(), tensor_name=name)

    def logistic(self, x: int, name: str = "logistic") -> int:
        """The sigmoid of a tensor."""
        return self.op("LOGISTIC", [x], self._shapes[x], tensor_name=name)

    def softmax(self, x: int, name: str = "softmax") -> int:
        """The softmax over the last axis."""
        options = schema.SoftmaxOptionsT()
        options.beta = 1.0
        return self.op("SOFTMAX", [x], self._shapes[x], options=options, tensor_name=name)

    def quantized(self, x: int, dtype: str, scale: float, zero_point: int, name: str = "quantized") -> int:
        """A tensor as steps of `scale`."""
        return self.op("QUANTIZE", [x], self._shapes[x], tensor_name=name, dtype=dtype, scale=scale, zero_point=zero_point)

    def metadata(self, name: str, content: bytes) -> None:
        """An entry of the file's metadata."""
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(content, np.uint8)
        self._model.buffers.append(buffer)
        entry = schema.MetadataT()
        entry.name, entry.buffer = name, len(self._model.buffers) - 1
        self._model.metadata.append(entry)

    def rename(self, tensor: int, name: str) -> int:
        """The same tensor under another name."""
        self._graph.tensors[tensor].name = name
        return tensor

    def retype(self, tensor: int, dtype: str) -> int:
        """The same tensor with numbers of another type."""
        self._graph.tensors[tensor].type = TYPE_NAMES.index(dtype)
        return tensor

    def outputs(self, *tensors: int) -> bytes:
        """The file."""
        self._graph.outputs = list(tensors)
        self._model.subgraphs = [self._graph]
        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(self._model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def with_files(raw: bytes, files: Mapping[str, str]) -> bytes:
    """The file with a zip archive appended, as TFLite metadata and Ultralytics do."""
    file = io.BytesIO(raw)
    with zipfile.ZipFile(file, "a") as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name), text)  # no time of day: the same bytes each time
    return file.getvalue()


def cell_table(size: int, strides: Sequence[int], anchors: int = 1) -> NDArray[np.float32]:
    """(N, 4) boxes cx, cy, w, h in pixels as a detector of these strides finds nothing: each near its own cell."""
    rng = np.random.default_rng(7)
    layers = []
    for stride in strides:
        y, x = np.mgrid[0 : size // stride, 0 : size // stride]
        centres = np.repeat((np.stack([x, y], -1).reshape(-1, 2) + 0.5) * stride, anchors, axis=0)
        layers.append(
            np.concatenate([centres + rng.uniform(-stride, stride, centres.shape) / 2, rng.uniform(1, 4, centres.shape) * stride], axis=1)
        )
    return np.concatenate(layers).astype(np.float32)


def write(path: Path, raw: bytes) -> Path:
    """`raw` at `path`."""
    path.write_bytes(raw)
    return path
