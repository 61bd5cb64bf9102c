"""The values that a TFLite file is read into, and the names that its numbers stand for.

Numbers and field orders are those of the public schema,
https://github.com/google-ai-edge/LiteRT/blob/main/tflite/converter/schema/schema.fbs (version 3 of the format).
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeannot.tflite.flatbuffer import Table

__all__ = ["BUILTIN_NAMES", "TYPE_BITS", "TYPE_NAMES", "Operator", "Signature", "SubGraph", "TFLiteModel", "Tensor"]

_BUILTIN = """
ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE EMBEDDING_LOOKUP FLOOR FULLY_CONNECTED
HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D LOCAL_RESPONSE_NORMALIZATION LOGISTIC LSH_PROJECTION LSTM MAX_POOL_2D MUL RELU RELU_N1_TO_1
RELU6 RESHAPE RESIZE_BILINEAR RNN SOFTMAX SPACE_TO_DEPTH SVDF TANH CONCAT_EMBEDDINGS SKIP_GRAM CALL CUSTOM EMBEDDING_LOOKUP_SPARSE PAD
UNIDIRECTIONAL_SEQUENCE_RNN GATHER BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND TRANSPOSE MEAN SUB DIV SQUEEZE UNIDIRECTIONAL_SEQUENCE_LSTM
STRIDED_SLICE BIDIRECTIONAL_SEQUENCE_RNN EXP TOPK_V2 SPLIT LOG_SOFTMAX DELEGATE BIDIRECTIONAL_SEQUENCE_LSTM CAST PRELU MAXIMUM ARG_MAX
MINIMUM LESS NEG PADV2 GREATER GREATER_EQUAL LESS_EQUAL SELECT SLICE SIN TRANSPOSE_CONV SPARSE_TO_DENSE TILE EXPAND_DIMS EQUAL NOT_EQUAL
LOG SUM SQRT RSQRT SHAPE POW ARG_MIN FAKE_QUANT REDUCE_PROD REDUCE_MAX PACK LOGICAL_OR ONE_HOT LOGICAL_AND LOGICAL_NOT UNPACK REDUCE_MIN
FLOOR_DIV REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD RANGE RESIZE_NEAREST_NEIGHBOR LEAKY_RELU SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V
UNIQUE CEIL REVERSE_V2 ADD_N GATHER_ND COS WHERE RANK ELU REVERSE_SEQUENCE MATRIX_DIAG QUANTIZE MATRIX_SET_DIAG ROUND HARD_SWISH IF
WHILE NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 SCATTER_ND SELECT_V2 DENSIFY SEGMENT_SUM BATCH_MATMUL
PLACEHOLDER_FOR_GREATER_OP_CODES CUMSUM CALL_ONCE BROADCAST_TO RFFT2D CONV_3D IMAG REAL COMPLEX_ABS HASHTABLE HASHTABLE_FIND
HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL CONV_3D_TRANSPOSE VAR_HANDLE READ_VARIABLE ASSIGN_VARIABLE BROADCAST_ARGS
RANDOM_STANDARD_NORMAL BUCKETIZE RANDOM_UNIFORM MULTINOMIAL GELU DYNAMIC_UPDATE_SLICE RELU_0_TO_1 UNSORTED_SEGMENT_PROD
UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_SUM ATAN2 UNSORTED_SEGMENT_MIN SIGN BITCAST BITWISE_XOR RIGHT_SHIFT STABLEHLO_LOGISTIC
STABLEHLO_ADD STABLEHLO_DIVIDE STABLEHLO_MULTIPLY STABLEHLO_MAXIMUM STABLEHLO_RESHAPE STABLEHLO_CLAMP STABLEHLO_CONCATENATE
STABLEHLO_BROADCAST_IN_DIM STABLEHLO_CONVOLUTION STABLEHLO_SLICE STABLEHLO_CUSTOM_CALL STABLEHLO_REDUCE STABLEHLO_ABS STABLEHLO_AND
STABLEHLO_COSINE STABLEHLO_EXPONENTIAL STABLEHLO_FLOOR STABLEHLO_LOG STABLEHLO_MINIMUM STABLEHLO_NEGATE STABLEHLO_OR STABLEHLO_POWER
STABLEHLO_REMAINDER STABLEHLO_RSQRT STABLEHLO_SELECT STABLEHLO_SUBTRACT STABLEHLO_TANH STABLEHLO_SCATTER STABLEHLO_COMPARE
STABLEHLO_CONVERT STABLEHLO_DYNAMIC_SLICE STABLEHLO_DYNAMIC_UPDATE_SLICE STABLEHLO_PAD STABLEHLO_IOTA STABLEHLO_DOT_GENERAL
STABLEHLO_REDUCE_WINDOW STABLEHLO_SORT STABLEHLO_WHILE STABLEHLO_GATHER STABLEHLO_TRANSPOSE DILATE STABLEHLO_RNG_BIT_GENERATOR
REDUCE_WINDOW STABLEHLO_COMPOSITE STABLEHLO_SHIFT_LEFT STABLEHLO_CBRT STABLEHLO_CASE
"""
BUILTIN_NAMES = tuple(_BUILTIN.split())
"""enum BuiltinOperator, from 0."""

_TYPES = "float32 float16 int32 uint8 int64 string bool int16 complex64 int8 float64 complex128 uint64 resource variant uint32 uint16 int4"
TYPE_NAMES = tuple(_TYPES.split())
"""enum TensorType, from 0, in numpy's words where numpy has one."""

TYPE_BITS = {
    "float32": 32, "float16": 16, "int32": 32, "uint8": 8, "int64": 64, "bool": 8, "int16": 16, "complex64": 64, "int8": 8, "float64": 64,
    "complex128": 128, "uint64": 64, "uint32": 32, "uint16": 16, "int4": 4,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a subgraph. Byte positions count from the start of the file; 0 means: not in the file."""

    index: int
    name: str
    shape: tuple[int, ...]
    shape_signature: tuple[int, ...]
    """As `shape`, with -1 where the size is free; empty where the file states none."""
    dtype: str
    """A name of TYPE_NAMES, or "type<N>"."""
    scales: tuple[float, ...]
    """Empty: not quantized; one: per tensor; several: one for each slice of `axis`."""
    zero_points: tuple[int, ...]
    axis: int
    buffer: int
    data_at: int
    data_size: int
    """Bytes of constant data; 0 for an activation."""
    shape_at: int
    """Where the int32 numbers of `shape` start."""
    signature_at: int

    @property
    def constant(self) -> bool:
        """Whether the file holds this tensor's values."""
        return self.data_size > 0

    @property
    def scale(self) -> float:
        """The step of a per-tensor quantization, 0 where there is none."""
        return self.scales[0] if len(self.scales) == 1 else 0.0

    @property
    def zero_point(self) -> int:
        """The stored number that stands for 0.0."""
        return self.zero_points[0] if len(self.zero_points) == 1 else 0

    @property
    def quantized(self) -> bool:
        """Whether stored integers are steps of `scale`; a scale of 0 means that they are not."""
        return self.scale != 0.0 and self.dtype in {"uint8", "int8", "int16", "uint16"}

    @property
    def real_range(self) -> tuple[float, float]:
        """The smallest and largest real value that a quantized tensor can hold."""
        bits = TYPE_BITS[self.dtype]
        low, high = (0, (1 << bits) - 1) if self.dtype.startswith("u") else (-(1 << bits - 1), (1 << bits - 1) - 1)
        return (low - self.zero_point) * self.scale, (high - self.zero_point) * self.scale


@dataclass(frozen=True, slots=True)
class Operator:
    """One step of a subgraph; tensors by index, -1 for an optional input that is absent."""

    index: int
    name: str
    """A name of BUILTIN_NAMES; "CUSTOM" has its own name in `custom_name`."""
    version: int
    custom_name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Table | None
    """The operator's own table of builtin options."""
    custom_options: bytes

    def option(self, field: int, code: str = "i", default: int = 0) -> int:
        """Return a number of the builtin options by its position in the schema."""
        return default if self.options is None else self.options.number(field, code, default)


@dataclass(frozen=True, slots=True)
class SubGraph:
    """Tensors and the operators between them, in the order in which they run."""

    name: str
    tensors: tuple[Tensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: tuple[Operator, ...]

    def producer(self, tensor: int) -> Operator | None:
        """Return the operator that writes a tensor, or None for an input or a constant."""
        for operator in self.operators:
            if tensor in operator.outputs:
                return operator
        return None

    def consumers(self, tensor: int) -> tuple[Operator, ...]:
        """Return the operators that read a tensor."""
        return tuple(operator for operator in self.operators if tensor in operator.inputs)


@dataclass(frozen=True, slots=True)
class Signature:
    """The names by which a program may call the graph: name -> tensor index."""

    key: str
    inputs: dict[str, int]
    outputs: dict[str, int]


@dataclass(frozen=True, slots=True)
class TFLiteModel:
    """A whole file. `graph` is the first subgraph, which is the one that runs."""

    raw: bytes
    version: int
    description: str
    subgraphs: tuple[SubGraph, ...]
    metadata: dict[str, bytes]
    signatures: tuple[Signature, ...]
    buffer_users: dict[int, int]
    """How many tensors of the whole file share a buffer of constants."""

    @property
    def graph(self) -> SubGraph:
        """The subgraph that runs."""
        return self.subgraphs[0]

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The input tensors, in graph order."""
        return tuple(self.graph.tensors[i] for i in self.graph.inputs)

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """The output tensors, in graph order."""
        return tuple(self.graph.tensors[i] for i in self.graph.outputs)

    def constant(self, tensor: Tensor) -> memoryview:
        """Return the bytes of a constant tensor, empty for an activation."""
        return memoryview(self.raw)[tensor.data_at : tensor.data_at + tensor.data_size]
