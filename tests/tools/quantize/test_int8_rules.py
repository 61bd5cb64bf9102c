"""Every operator that the rules call int8-able is quantized and run, and means the same as in float, on each runtime that is here."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgeannot.base.errors import ModelError
from edgeannot_tools.graph.edits import set_signature
from edgeannot_tools.graph.graph import Graph, Op, schema
from edgeannot_tools.graph.interpreter import open_interpreter
from edgeannot_tools.graph.reference_run import run_layers
from edgeannot_tools.quantize.calibrate import calibrate
from edgeannot_tools.quantize.graph_quantizer import Recipe, prepare_graph, quantize_graph
from edgeannot_tools.quantize.rules import RULES

pytestmark = pytest.mark.runtime

SHAPE = (1, 4, 4, 8)
Builder = Callable[[Graph, int], int]
CASES: dict[str, tuple[int, Builder]] = {}
"""Per test name: the operator, and what puts it behind a tensor of SHAPE."""
RNG = np.random.default_rng(7)


def case(code: int, name: str | None = None):
    def enter(build: Builder) -> Builder:
        CASES[name or build.__name__] = (code, build)
        return build

    return enter


def put(graph: Graph, code: int, inputs: list[int], shape, options=None, dtype=np.float32) -> int:
    y = graph.add_tensor(f"y{len(graph.tensors)}", shape, dtype)
    graph.add_operator(code, inputs, [y], options)
    return y


def options(kind: str, **values):
    made = getattr(schema, kind)()
    for name, value in values.items():
        setattr(made, name, value)
    return made


def const(graph: Graph, values, dtype=np.float32) -> int:
    return graph.add_constant(f"c{len(graph.tensors)}", np.asarray(values, dtype))


def weights(*shape: int) -> np.ndarray:
    return RNG.normal(0, 0.3, shape)


# -- with weights ------------------------------------------------------------------------------------------------------------


@case(Op.CONV_2D)
def conv(g, x):
    o = options("Conv2DOptionsT", strideH=1, strideW=1, dilationHFactor=1, dilationWFactor=1)
    return put(g, Op.CONV_2D, [x, const(g, weights(6, 3, 3, 8)), const(g, weights(6))], (1, 4, 4, 6), o)


@case(Op.CONV_2D)
def grouped_conv_with_relu(g, x):
    o = options("Conv2DOptionsT", strideH=2, strideW=2, dilationHFactor=1, dilationWFactor=1, fusedActivationFunction=1)
    return put(g, Op.CONV_2D, [x, const(g, weights(6, 3, 3, 4)), const(g, weights(6))], (1, 2, 2, 6), o)


@case(Op.DEPTHWISE_CONV_2D)
def depthwise(g, x):
    o = options("DepthwiseConv2DOptionsT", strideH=1, strideW=1, dilationHFactor=1, dilationWFactor=1, depthMultiplier=2)
    return put(g, Op.DEPTHWISE_CONV_2D, [x, const(g, weights(1, 3, 3, 16)), const(g, weights(16))], (1, 4, 4, 16), o)


@case(Op.FULLY_CONNECTED)
def fully_connected(g, x):
    o = options("FullyConnectedOptionsT", keepNumDims=True)
    return put(g, Op.FULLY_CONNECTED, [x, const(g, weights(5, 8)), const(g, weights(5))], (1, 4, 4, 5), o)


@case(Op.TRANSPOSE_CONV)
def transpose_conv(g, x):
    o = options("TransposeConvOptionsT", strideH=2, strideW=2)
    size = const(g, (1, 8, 8, 3), np.int32)
    y = put(g, Op.TRANSPOSE_CONV, [size, const(g, weights(3, 2, 2, 8)), x, const(g, weights(3))], (1, 8, 8, 3), o)
    g.operators[-1].opcodeIndex = g.opcode(Op.TRANSPOSE_CONV, 3)  # the first version with a bias
    return y


# -- arithmetic --------------------------------------------------------------------------------------------------------------

BINARY = {"ADD": "AddOptionsT", "SUB": "SubOptionsT", "MUL": "MulOptionsT", "SQUARED_DIFFERENCE": "SquaredDifferenceOptionsT"}
for op_name, kind in BINARY.items():
    op_code = getattr(Op, op_name)
    constant = RNG.normal(0.5, 1, 8)
    CASES[f"{op_name.lower()}_constant"] = (
        op_code,
        lambda g, x, c=op_code, k=kind, v=constant: put(g, c, [x, const(g, v)], SHAPE, options(k)),
    )
    CASES[f"{op_name.lower()}_tensors"] = (
        op_code,
        lambda g, x, c=op_code, k=kind: put(g, c, [x, put(g, Op.LOGISTIC, [x], SHAPE)], SHAPE, options(k)),
    )
CASES["sub_constant_first"] = (Op.SUB, lambda g, x: put(g, Op.SUB, [const(g, 1.0), x], SHAPE, options("SubOptionsT")))
for op_name in ("MAXIMUM", "MINIMUM"):
    op_code = getattr(Op, op_name)
    CASES[op_name.lower()] = (op_code, lambda g, x, c=op_code: put(g, c, [x, const(g, 0.25)], SHAPE, options("MaximumMinimumOptionsT")))


@case(Op.BATCH_MATMUL)
def batch_matmul_constant(g, x):
    return put(g, Op.BATCH_MATMUL, [x, const(g, weights(1, 4, 8, 5))], (1, 4, 4, 5), options("BatchMatMulOptionsT"))


@case(Op.BATCH_MATMUL)
def batch_matmul_tensors(g, x):
    return put(g, Op.BATCH_MATMUL, [x, x], (1, 4, 4, 4), options("BatchMatMulOptionsT", adjY=True))


@case(Op.MEAN)
def mean(g, x):
    return put(g, Op.MEAN, [x, const(g, (1, 2), np.int32)], (1, 1, 1, 8), options("ReducerOptionsT", keepDims=True))


@case(Op.SUM)
def sum_(g, x):
    return put(g, Op.SUM, [x, const(g, (1, 2), np.int32)], (1, 8), options("ReducerOptionsT"))


@case(Op.REDUCE_MAX)
def reduce_max(g, x):
    return put(g, Op.REDUCE_MAX, [x, const(g, (3,), np.int32)], (1, 4, 4, 1), options("ReducerOptionsT", keepDims=True))


@case(Op.REDUCE_MIN)
def reduce_min(g, x):
    return put(g, Op.REDUCE_MIN, [x, const(g, (3,), np.int32)], (1, 4, 4), options("ReducerOptionsT"))


def positive(g: Graph, x: int) -> int:
    """The input squashed to 0.5 .. 1.5."""
    return put(g, Op.ADD, [put(g, Op.LOGISTIC, [x], SHAPE), const(g, 0.5)], SHAPE, options("AddOptionsT"))


CASES["abs"] = (Op.ABS, lambda g, x: put(g, Op.ABS, [x], SHAPE, options("AbsOptionsT")))
CASES["rsqrt"] = (Op.RSQRT, lambda g, x: put(g, Op.RSQRT, [positive(g, x)], SHAPE))
CASES["exp"] = (Op.EXP, lambda g, x: put(g, Op.EXP, [x], SHAPE, options("ExpOptionsT")))

# -- activations -------------------------------------------------------------------------------------------------------------

for op_name in ("RELU", "RELU6", "RELU_N1_TO_1", "ELU", "LOGISTIC", "TANH"):
    op_code = getattr(Op, op_name)
    CASES[op_name.lower()] = (op_code, lambda g, x, c=op_code: put(g, c, [x], SHAPE))
CASES["leaky_relu"] = (Op.LEAKY_RELU, lambda g, x: put(g, Op.LEAKY_RELU, [x], SHAPE, options("LeakyReluOptionsT", alpha=0.1)))
CASES["prelu"] = (Op.PRELU, lambda g, x: put(g, Op.PRELU, [x, const(g, RNG.uniform(0, 0.5, (1, 1, 8)))], SHAPE))
CASES["hard_swish"] = (Op.HARD_SWISH, lambda g, x: put(g, Op.HARD_SWISH, [x], SHAPE, options("HardSwishOptionsT")))
CASES["gelu"] = (Op.GELU, lambda g, x: put(g, Op.GELU, [x], SHAPE, options("GeluOptionsT")))
CASES["softmax"] = (Op.SOFTMAX, lambda g, x: put(g, Op.SOFTMAX, [x], SHAPE, options("SoftmaxOptionsT", beta=1.0)))
CASES["log_softmax"] = (Op.LOG_SOFTMAX, lambda g, x: put(g, Op.LOG_SOFTMAX, [x], SHAPE, options("LogSoftmaxOptionsT")))
CASES["l2_normalization"] = (Op.L2_NORMALIZATION, lambda g, x: put(g, Op.L2_NORMALIZATION, [x], SHAPE, options("L2NormOptionsT")))

# -- choosing and moving numbers ---------------------------------------------------------------------------------------------

POOL = {"strideH": 2, "strideW": 2, "filterHeight": 2, "filterWidth": 2}
CASES["max_pool"] = (Op.MAX_POOL_2D, lambda g, x: put(g, Op.MAX_POOL_2D, [x], (1, 2, 2, 8), options("Pool2DOptionsT", **POOL)))
CASES["average_pool"] = (Op.AVERAGE_POOL_2D, lambda g, x: put(g, Op.AVERAGE_POOL_2D, [x], (1, 2, 2, 8), options("Pool2DOptionsT", **POOL)))


@case(Op.RESIZE_BILINEAR)
def resize_bilinear(g, x):
    o = options("ResizeBilinearOptionsT", halfPixelCenters=True)
    y = put(g, Op.RESIZE_BILINEAR, [x, const(g, (8, 8), np.int32)], (1, 8, 8, 8), o)
    g.operators[-1].opcodeIndex = g.opcode(Op.RESIZE_BILINEAR, 3)
    return y


@case(Op.RESIZE_NEAREST_NEIGHBOR)
def resize_nearest(g, x):
    return put(g, Op.RESIZE_NEAREST_NEIGHBOR, [x, const(g, (8, 8), np.int32)], (1, 8, 8, 8), options("ResizeNearestNeighborOptionsT"))


@case(Op.RESHAPE)
def reshape(g, x):
    return put(g, Op.RESHAPE, [x, const(g, (1, 128), np.int32)], (1, 128), options("ReshapeOptionsT", newShape=[1, 128]))


@case(Op.SQUEEZE)
def squeeze(g, x):
    return put(g, Op.SQUEEZE, [x], (4, 4, 8), options("SqueezeOptionsT", squeezeDims=[0]))


@case(Op.EXPAND_DIMS)
def expand_dims(g, x):
    return put(g, Op.EXPAND_DIMS, [x, const(g, 1, np.int32)], (1, 1, 4, 4, 8), options("ExpandDimsOptionsT"))


@case(Op.TRANSPOSE)
def transpose(g, x):
    return put(g, Op.TRANSPOSE, [x, const(g, (0, 3, 1, 2), np.int32)], (1, 8, 4, 4), options("TransposeOptionsT"))


@case(Op.CONCATENATION)
def concatenation_with_constant(g, x):
    return put(g, Op.CONCATENATION, [x, const(g, weights(1, 4, 4, 2))], (1, 4, 4, 10), options("ConcatenationOptionsT", axis=3))


@case(Op.CONCATENATION)
def concatenation_of_features_and_scores_amid_the_network(g, x):
    scores = put(g, Op.LOGISTIC, [x], SHAPE)
    return conv(
        g,
        put(
            g,
            Op.ADD,
            [half(g, put(g, Op.CONCATENATION, [x, scores], (1, 4, 4, 16), options("ConcatenationOptionsT", axis=3))), x],
            SHAPE,
            options("AddOptionsT"),
        ),
    )


def half(g: Graph, x: int) -> int:
    begin, size = const(g, (0, 0, 0, 4), np.int32), const(g, SHAPE, np.int32)
    return put(g, Op.SLICE, [x, begin, size], SHAPE, options("SliceOptionsT"))


@case(Op.PACK)
def pack(g, x):
    return put(g, Op.PACK, [x, x], (1, 2, 4, 4, 8), options("PackOptionsT", axis=1, valuesCount=2))


@case(Op.UNPACK)
def unpack(g, x):
    y = put(g, Op.UNPACK, [x], (1, 4, 8), options("UnpackOptionsT", axis=1, num=4))
    g.operators[-1].outputs += [g.add_tensor(f"rest{i}", (1, 4, 8)) for i in range(3)]
    return y


@case(Op.SPLIT)
def split(g, x):
    y = put(g, Op.SPLIT, [const(g, 3, np.int32), x], (1, 4, 4, 4), options("SplitOptionsT", numSplits=2))
    g.operators[-1].outputs.append(g.add_tensor("rest", (1, 4, 4, 4)))
    return y


@case(Op.SPLIT_V)
def split_v(g, x):
    o = options("SplitVOptionsT", numSplits=2)
    y = put(g, Op.SPLIT_V, [x, const(g, (3, 5), np.int32), const(g, 3, np.int32)], (1, 4, 4, 3), o)
    g.operators[-1].outputs.append(g.add_tensor("rest", (1, 4, 4, 5)))
    return y


CASES["slice"] = (Op.SLICE, lambda g, x: half(g, put(g, Op.CONCATENATION, [x, x], (1, 4, 4, 16), options("ConcatenationOptionsT", axis=3))))


@case(Op.STRIDED_SLICE)
def strided_slice(g, x):
    bounds = [const(g, v, np.int32) for v in ((0, 0, 1, 0), (1, 4, 4, 8), (1, 2, 1, 2))]
    return put(g, Op.STRIDED_SLICE, [x, *bounds], (1, 2, 3, 4), options("StridedSliceOptionsT"))


@case(Op.GATHER)
def gather(g, x):
    return put(g, Op.GATHER, [x, const(g, (5, 0, 2), np.int32)], (1, 4, 4, 3), options("GatherOptionsT", axis=3))


@case(Op.GATHER_ND)
def gather_nd(g, x):
    return put(g, Op.GATHER_ND, [x, const(g, ((0, 1), (0, 3)), np.int32)], (2, 4, 8), options("GatherNdOptionsT"))


AROUND = ((0, 0), (1, 0), (0, 1), (0, 0))


@case(Op.PAD)
def pad(g, x):
    return put(g, Op.PAD, [x, const(g, AROUND, np.int32)], (1, 5, 5, 8), options("PadOptionsT"))


@case(Op.PADV2)
def pad_with_value(g, x):
    return put(g, Op.PADV2, [x, const(g, AROUND, np.int32), const(g, [-4.0])], (1, 5, 5, 8), options("PadV2OptionsT"))


@case(Op.PADV2)
def pad_with_the_lowest_float_before_a_maximum(g, x):
    y = put(g, Op.PADV2, [x, const(g, AROUND, np.int32), const(g, [np.finfo(np.float32).min])], (1, 5, 5, 8), options("PadV2OptionsT"))
    return put(g, Op.MAX_POOL_2D, [y], (1, 2, 2, 8), options("Pool2DOptionsT", padding=1, **(POOL | {"filterHeight": 3, "filterWidth": 3})))


@case(Op.MIRROR_PAD)
def mirror_pad(g, x):
    return put(g, Op.MIRROR_PAD, [x, const(g, AROUND, np.int32)], (1, 5, 5, 8), options("MirrorPadOptionsT"))


@case(Op.SPACE_TO_DEPTH)
def space_to_depth(g, x):
    return put(g, Op.SPACE_TO_DEPTH, [x], (1, 2, 2, 32), options("SpaceToDepthOptionsT", blockSize=2))


@case(Op.DEPTH_TO_SPACE)
def depth_to_space(g, x):
    return put(g, Op.DEPTH_TO_SPACE, [x], (1, 8, 8, 2), options("DepthToSpaceOptionsT", blockSize=2))


@case(Op.SPACE_TO_BATCH_ND)
def space_to_batch(g, x):
    constants = [const(g, (2, 2), np.int32), const(g, ((0, 0), (0, 0)), np.int32)]
    return put(g, Op.SPACE_TO_BATCH_ND, [x, *constants], (4, 2, 2, 8), options("SpaceToBatchNDOptionsT"))


@case(Op.BATCH_TO_SPACE_ND)
def batch_to_space(g, x):
    constants = [const(g, (2, 2), np.int32), const(g, ((0, 0), (0, 0)), np.int32)]
    return put(g, Op.BATCH_TO_SPACE_ND, [space_to_batch(g, x), *constants], SHAPE, options("BatchToSpaceNDOptionsT"))


@case(Op.TILE)
def tile(g, x):
    return put(g, Op.TILE, [x, const(g, (1, 2, 1, 1), np.int32)], (1, 8, 4, 8), options("TileOptionsT"))


@case(Op.BROADCAST_TO)
def broadcast_to(g, x):
    y = put(g, Op.BROADCAST_TO, [x, const(g, (2, 4, 4, 8), np.int32)], (2, 4, 4, 8), options("BroadcastToOptionsT"))
    g.operators[-1].opcodeIndex = g.opcode(Op.BROADCAST_TO, 2)
    return y


@case(Op.REVERSE_V2)
def reverse(g, x):
    return put(g, Op.REVERSE_V2, [x, const(g, (2,), np.int32)], SHAPE, options("ReverseV2OptionsT"))


@case(Op.TOPK_V2)
def top_k(g, x):
    y = put(g, Op.TOPK_V2, [x, const(g, 3, np.int32)], (1, 4, 4, 3), options("TopKV2OptionsT"))
    g.operators[-1].outputs.append(g.add_tensor("indices", (1, 4, 4, 3), np.int32))
    return y


def condition(g: Graph) -> int:
    return const(g, RNG.random(SHAPE) > 0.5, np.bool_)


CASES["select"] = (
    Op.SELECT,
    lambda g, x: put(g, Op.SELECT, [condition(g), x, const(g, weights(*SHAPE))], SHAPE, options("SelectOptionsT")),
)
CASES["select_v2"] = (Op.SELECT_V2, lambda g, x: put(g, Op.SELECT_V2, [condition(g), x, const(g, 0.5)], SHAPE, options("SelectV2OptionsT")))

# -- outcomes ----------------------------------------------------------------------------------------------------------------


def chosen(code: int, kind: str) -> Builder:
    """Largest or smallest of channels that are clearly apart."""

    def build(g: Graph, x: int) -> int:
        apart = put(g, Op.ADD, [x, const(g, [0, 30, -30, 0, 0, 0, 0, 0])], SHAPE, options("AddOptionsT"))
        return put(g, code, [apart, const(g, 3, np.int32)], (1, 4, 4), options(kind, outputType=schema.TensorType.INT32), np.int32)

    return build


CASES["arg_max"] = (Op.ARG_MAX, chosen(Op.ARG_MAX, "ArgMaxOptionsT"))
CASES["arg_min"] = (Op.ARG_MIN, chosen(Op.ARG_MIN, "ArgMinOptionsT"))
COMPARED = {
    "EQUAL": "Equal",
    "NOT_EQUAL": "NotEqual",
    "LESS": "Less",
    "LESS_EQUAL": "LessEqual",
    "GREATER": "Greater",
    "GREATER_EQUAL": "GreaterEqual",
}
for op_name, kind in COMPARED.items():
    op_code = getattr(Op, op_name)
    CASES[op_name.lower()] = (
        op_code,
        lambda g, x, c=op_code, k=kind: put(g, c, [x, const(g, 50.0)], SHAPE, options(f"{k}OptionsT"), np.bool_),
    )
CASES["shape"] = (Op.SHAPE, lambda g, x: put(g, Op.SHAPE, [x], (4,), options("ShapeOptionsT", outType=schema.TensorType.INT32), np.int32))


def float_graph(build: Builder) -> Graph:
    """A graph of one case between an input and an output."""
    graph = Graph()
    x = graph.add_tensor("x", SHAPE)
    graph.sub.inputs = [x]
    y = build(graph, x)
    graph.sub.outputs = [y]
    set_signature(graph)
    return graph


def run(model: bytes, runtime, x: np.ndarray) -> np.ndarray:
    interpreter = open_interpreter(model, runtime)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def test_every_rule_has_a_case():
    assert {code for code, _ in CASES.values()} >= set(RULES)


@pytest.mark.parametrize("runtime", ["litert", pytest.param("tflite-runtime", marks=pytest.mark.older)])
@pytest.mark.parametrize("name", sorted(CASES))
def test_int8_means_the_same_as_float(name, runtime):
    pytest.importorskip({"litert": "ai_edge_litert.interpreter", "tflite-runtime": "tflite_runtime.interpreter"}[runtime])
    code, build = CASES[name]
    prepared = prepare_graph(float_graph(build))
    samples = [np.random.default_rng(seed).normal(0, 2, SHAPE).astype(np.float32).clip(-4, 4) for seed in range(4)]
    result = quantize_graph(
        prepared,
        calibrate(prepared, ([x] for x in samples), runtime),
        Recipe(input_type="float32", output_type="float32", float_tail=False),
    )
    assert not result.float_operators
    assert code in {result.graph.code(operator) for operator in result.graph.operators}
    wanted = run(prepared.to_bytes(), runtime, samples[0])
    found = run(result.graph.to_bytes(), runtime, samples[0])
    if wanted.dtype != np.float32:
        assert np.array_equal(found, wanted)
        return
    # What int8 allows: a step of the widest tensor on the way, as a share of the output's range.
    assert np.abs(found - wanted).max() <= 0.04 * np.ptp(wanted) + 0.01


@pytest.mark.parametrize("name", sorted(CASES.keys() - {"broadcast_to"}))  # which has no first version in the runtimes
def test_the_reference_run_means_the_same_as_the_runtime(name):
    graph = float_graph(CASES[name][1])
    x = np.random.default_rng(5).normal(0, 2, SHAPE).astype(np.float32)

    steps = {t: step.values[t][0] for step in run_layers(graph, [[x]]) for t in step.operator.outputs}

    wanted = run(graph.to_bytes(), None, x)
    found = steps[graph.outputs[0]]
    assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5)


def test_an_unknown_runtime_model_is_an_error_of_ours():
    with pytest.raises(ModelError, match="cannot load"):
        open_interpreter(b"\0" * 64)
