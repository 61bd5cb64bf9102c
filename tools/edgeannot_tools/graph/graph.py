"""A TFLite model as an object: read, look at, add to, write.

A `Graph` wraps the object API of LiteRT's generated schema (`ModelT` and friends) for models with one subgraph. Tensors are known
by their number in the file. Nothing here runs a model.

Schema: https://github.com/tensorflow/tensorflow/blob/master/tensorflow/compiler/mlir/lite/schema/schema.fbs
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgeannot.base import atomicfile
from edgeannot.base.errors import InputError, MissingError

__all__ = ["FILE_IDENTIFIER", "Graph", "Op", "Operator", "Quantization", "Type", "or_empty", "schema"]

FILE_IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3
Op = schema.BuiltinOperator
Type = schema.TensorType

Operator = Any
"""A schema `OperatorT`: `inputs` and `outputs` hold tensor numbers, -1 in `inputs` stands for an absent one."""

_TYPES = "float32 float16 float64 int8 uint8 int16 uint16 int32 uint32 int64 uint64 bool"
DTYPES: dict[int, np.dtype[Any]] = {getattr(Type, name.upper()): np.dtype(name) for name in _TYPES.split()}
TYPES = {dtype: code for code, dtype in DTYPES.items()}
OPERATOR_NAMES: dict[int, str] = {code: name for name, code in vars(Op).items() if not name.startswith("_")}
# Files from before 2020 have the operator's number in a signed byte; newer numbers put this into it and the number beside it.
LAST_OLD_OPERATOR = 127


@dataclass(frozen=True, slots=True)
class Quantization:
    """How a tensor's integers stand for reals: `real = (stored - zero_point) * scale`, one pair or one a slice along `axis`."""

    scale: NDArray[np.float32]
    zero_point: NDArray[np.int64]
    axis: int = 0

    def real(self, stored: NDArray[Any]) -> NDArray[np.float32]:
        """Return the real values of the tensor's whole content."""
        shape = [1] * stored.ndim
        if self.scale.size > 1:
            shape[self.axis] = -1
        scale, zero_point = self.scale.reshape(shape), self.zero_point.reshape(shape)
        return ((stored.astype(np.float64) - zero_point) * scale).astype(np.float32)


class _AlignedBuilder(flatbuffers.Builder):  # type: ignore[misc] # flatbuffers ships no types
    """The schema asks for 16-byte alignment of weights (`force_align`), which the Python code generator leaves out.

    Without it a 32-bit Arm kernel may fault on a float that starts at an odd address.
    """

    def CreateNumpyVector(self, x: NDArray[Any]) -> int:  # noqa: N802 - the base class's name
        if x.dtype != np.uint8:
            return cast("int", super().CreateNumpyVector(x))
        self.StartVector(1, x.size, 16)
        start = self.Head() - x.size
        self.head: int = start
        self.Bytes[start : start + x.size] = x.tobytes()
        return cast("int", self.EndVector())


class Graph:
    """A TFLite model with one subgraph. `model` is the schema's object tree, for what has no method here."""

    def __init__(self, model: Any = None, where: str = "the model") -> None:
        """Make an empty graph, or one around an object tree. `where` names the model in messages."""
        self.where = where
        self.model = model if model is not None else _empty_model()
        if self.model.subgraphs is None or len(self.model.subgraphs) != 1:
            found = len(self.model.subgraphs or [])
            raise InputError(f"{where}: wanted a model with one subgraph, found {found}; export it without control flow and functions")
        self._normalise()

    @classmethod
    def read(cls, path: Path) -> Graph:
        """Return the model in a file. Raises MissingError where there is none and InputError where it is not TFLite."""
        try:
            data = path.read_bytes()
        except OSError as exc:
            raise MissingError(f"the model {path} cannot be read: {exc.strerror}") from exc
        return cls.from_bytes(data, str(path))

    @classmethod
    def from_bytes(cls, data: bytes, where: str = "the model") -> Graph:
        """Return the model in these bytes. Weights that lie behind the flatbuffer (`Buffer.offset`) are read too."""
        if data[4:8] != FILE_IDENTIFIER:
            raise InputError(f"{where} is not a TFLite model: wanted the letters TFL3 at byte 4, found {data[4:8]!r}")
        try:
            model = schema.ModelT.InitFromPackedBuf(data, 0)
        except Exception as exc:  # the generated reader raises whatever struct, numpy or indexing raise on broken bytes
            raise InputError(f"{where} is a damaged TFLite model ({exc}); fetch or export it again") from exc
        for buffer in model.buffers or []:
            if buffer.offset > 1:  # 0 and 1 mean: the bytes are inside
                end = buffer.offset + buffer.size
                if end > len(data):
                    raise InputError(f"{where} is truncated: weights end at byte {end}, the file has {len(data)}; fetch it again")
                buffer.data = np.frombuffer(data, np.uint8, buffer.size, buffer.offset)
                buffer.offset = buffer.size = 0
        return cls(model, where)

    def to_bytes(self) -> bytes:
        """Return the model as a file's content; the same graph gives the same bytes."""
        builder = _AlignedBuilder(1 << 20)
        builder.Finish(self.model.Pack(builder), FILE_IDENTIFIER)
        return bytes(builder.Output())

    def write(self, path: Path) -> None:
        """Write the model file; an interrupted run leaves no half of it."""
        atomicfile.write(path, self.to_bytes())

    def _normalise(self) -> None:
        """Lists for arrays and str for bytes, so that edits need no case distinctions."""
        self.model.description = _text(self.model.description)
        self.sub.operators, self.sub.tensors = list(or_empty(self.sub.operators)), list(or_empty(self.sub.tensors))
        self.model.buffers, self.model.operatorCodes = list(or_empty(self.model.buffers)), list(or_empty(self.model.operatorCodes))
        for operator in self.operators:
            operator.inputs = [int(i) for i in or_empty(operator.inputs)]
            operator.outputs = [int(i) for i in or_empty(operator.outputs)]
        self.sub.inputs = [int(i) for i in or_empty(self.sub.inputs)]
        self.sub.outputs = [int(i) for i in or_empty(self.sub.outputs)]
        for tensor in self.tensors:
            tensor.name = _text(tensor.name)
        for code in self.model.operatorCodes:
            # Unpacked here, so that the byte and the int agree for every reader.
            code.builtinCode = max(code.builtinCode, code.deprecatedBuiltinCode)

    # -- looking -------------------------------------------------------------------------------------------------------------

    @property
    def sub(self) -> Any:
        """The schema's `SubGraphT`."""
        return self.model.subgraphs[0]

    @property
    def tensors(self) -> list[Any]:
        """The schema's `TensorT` objects by number."""
        return self.sub.tensors  # type: ignore[no-any-return] # the schema is untyped

    @property
    def operators(self) -> list[Operator]:
        """The operators in the order of execution."""
        return self.sub.operators  # type: ignore[no-any-return]

    @property
    def inputs(self) -> list[int]:
        """The numbers of the graph's input tensors."""
        return self.sub.inputs  # type: ignore[no-any-return]

    @property
    def outputs(self) -> list[int]:
        """The numbers of the graph's output tensors."""
        return self.sub.outputs  # type: ignore[no-any-return]

    def name(self, tensor: int) -> str:
        """Return the tensor's name in the file."""
        return cast("str", self.tensors[tensor].name)

    def shape(self, tensor: int) -> tuple[int, ...]:
        """Return the tensor's shape; () for a scalar."""
        return tuple(int(n) for n in or_empty(self.tensors[tensor].shape))

    def dtype(self, tensor: int) -> np.dtype[Any]:
        """Return the tensor's number type. Raises InputError for types that have no numpy counterpart (strings, 4-bit, resources)."""
        code = self.tensors[tensor].type
        if code not in DTYPES:
            raise InputError(f"{self.where}: tensor {self.name(tensor)!r} has type number {code}, which cannot be handled here")
        return DTYPES[code]

    def is_constant(self, tensor: int) -> bool:
        """Tell whether the tensor's values are in the file."""
        data = self.model.buffers[self.tensors[tensor].buffer].data
        return data is not None and len(data) > 0

    def constant(self, tensor: int) -> NDArray[Any]:
        """Return the stored values of a constant tensor (read-only). Raises InputError where it is none, or has too few bytes."""
        if not self.is_constant(tensor):
            raise InputError(f"{self.where}: tensor {self.name(tensor)!r} was expected to be a constant, but is computed")
        raw = np.asarray(self.model.buffers[self.tensors[tensor].buffer].data, np.uint8)
        dtype, shape = self.dtype(tensor), self.shape(tensor)
        if raw.size != int(np.prod(shape, dtype=np.int64)) * dtype.itemsize:
            what = f"tensor {self.name(tensor)!r} of shape {shape}"
            raise InputError(f"{self.where}: {what} has {raw.size} bytes of {dtype}; the file is damaged")
        return np.frombuffer(raw.tobytes(), dtype).reshape(shape)

    def quantization(self, tensor: int) -> Quantization | None:
        """Return the tensor's scale and zero point; None where its numbers are the values themselves (no scale, or scale 0)."""
        found = self.tensors[tensor].quantization
        scale = np.asarray(or_empty(found.scale if found is not None else None), np.float32)
        if scale.size == 0 or not scale.any():
            return None
        zero_point = np.asarray(or_empty(found.zeroPoint), np.int64)
        if zero_point.size != scale.size:
            zero_point = np.resize(zero_point, scale.size) if zero_point.size else np.zeros(scale.size, np.int64)
        return Quantization(scale, zero_point, int(found.quantizedDimension))

    def find(self, name: str) -> int:
        """Return the number of the tensor called `name`. Raises InputError with names that look alike."""
        names = [tensor.name for tensor in self.tensors]
        if name in names:
            return names.index(name)
        last = name.rsplit("/", 1)[-1].lower()
        near = [other for other in names if last and last in other.lower()][:5]
        raise InputError(f"{self.where} has no tensor called {name!r}" + (f"; near are: {', '.join(near)}" if near else ""))

    def code(self, operator: Operator) -> int:
        """Return the operator's kind, a number of `schema.BuiltinOperator`."""
        return int(self.model.operatorCodes[operator.opcodeIndex].builtinCode)

    def code_name(self, operator: Operator) -> str:
        """Return the operator's kind in words: "CONV_2D", or a custom operator's own name."""
        code = self.code(operator)
        if code == Op.CUSTOM:
            return _text(self.model.operatorCodes[operator.opcodeIndex].customCode) or "CUSTOM"
        return OPERATOR_NAMES.get(code, f"operator {code}")

    def version(self, operator: Operator) -> int:
        """Return the operator's version as the file states it."""
        return int(self.model.operatorCodes[operator.opcodeIndex].version)

    def place(self, operator: Operator) -> str:
        """Return where an operator is, for messages: "DIV, operator 31 of 120, which gives 'model/div'"."""
        number = next(i for i, o in enumerate(self.operators) if o is operator)
        gives = ", ".join(repr(self.name(t)) for t in operator.outputs)
        return f"{self.code_name(operator)}, operator {number} of {len(self.operators)}, which gives {gives}"

    def producers(self) -> dict[int, Operator]:
        """Return the operator that computes each computed tensor."""
        return {tensor: operator for operator in self.operators for tensor in operator.outputs}

    def consumers(self) -> dict[int, list[Operator]]:
        """Return the operators that read each tensor, in the order of execution."""
        found: dict[int, list[Operator]] = {}
        for operator in self.operators:
            for tensor in dict.fromkeys(operator.inputs):
                if tensor >= 0:
                    found.setdefault(tensor, []).append(operator)
        return found

    # -- adding --------------------------------------------------------------------------------------------------------------

    def add_tensor(self, name: str, shape: Sequence[int], dtype: Any = np.float32) -> int:
        """Return a new computed tensor; gives its number."""
        tensor = schema.TensorT()
        tensor.name, tensor.shape = name, [int(n) for n in shape]
        tensor.type, tensor.buffer = TYPES[np.dtype(dtype)], 0
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def add_constant(self, name: str, values: NDArray[Any]) -> int:
        """Return a new constant tensor; gives its number."""
        number = self.add_tensor(name, values.shape, values.dtype)
        self.set_constant(number, values)
        return number

    def set_constant(self, tensor: int, values: NDArray[Any]) -> None:
        """Give a tensor new values, with their type and shape; other tensors that shared its buffer keep theirs."""
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        self.model.buffers.append(buffer)
        target = self.tensors[tensor]
        target.buffer = len(self.model.buffers) - 1
        target.type, target.shape = TYPES[np.dtype(values.dtype)], [int(n) for n in values.shape]

    def set_quantization(self, tensor: int, scale: Any, zero_point: Any, axis: int = 0) -> None:
        """State scale and zero point of a tensor, one pair or one for each slice along `axis`."""
        found = schema.QuantizationParametersT()
        found.scale = np.atleast_1d(np.asarray(scale, np.float32)).tolist()
        found.zeroPoint = np.atleast_1d(np.asarray(zero_point, np.int64)).tolist()
        found.quantizedDimension = axis
        self.tensors[tensor].quantization = found

    def opcode(self, code: int, version: int = 1, custom: str | None = None) -> int:
        """Return the index for `OperatorT.opcodeIndex`, entering the kind and version in the model's table where it is new."""
        for i, known in enumerate(self.model.operatorCodes):
            if known.builtinCode == code and known.version == version and _text(known.customCode) == (custom or ""):
                return i
        entry = schema.OperatorCodeT()
        entry.builtinCode, entry.deprecatedBuiltinCode = code, min(code, LAST_OLD_OPERATOR)
        entry.version, entry.customCode = version, custom
        self.model.operatorCodes.append(entry)
        return len(self.model.operatorCodes) - 1

    def add_operator(
        self,
        code: int,
        inputs: Sequence[int],
        outputs: Sequence[int],
        options: Any = None,
        *,
        version: int = 1,
        position: int | None = None,
    ) -> Operator:
        """Return a new operator, last or at `position`. `options` is a schema object such as `Conv2DOptionsT`; its class names its kind."""
        operator = schema.OperatorT()
        operator.opcodeIndex = self.opcode(code, version)
        operator.inputs, operator.outputs = [int(i) for i in inputs], [int(i) for i in outputs]
        if options is not None:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
            operator.builtinOptions = options
        self.operators.insert(len(self.operators) if position is None else position, operator)
        return operator


def _empty_model() -> Any:
    model, sub = schema.ModelT(), schema.SubGraphT()
    model.version, model.description = SCHEMA_VERSION, "edgeannot"
    model.operatorCodes, model.buffers, model.subgraphs = [], [schema.BufferT()], [sub]
    sub.name, sub.tensors, sub.operators, sub.inputs, sub.outputs = "main", [], [], [], []
    return model


def or_empty(values: Any) -> Any:
    """Return the vector, or an empty list where the file leaves it out."""
    return [] if values is None else values


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else (value or "")
