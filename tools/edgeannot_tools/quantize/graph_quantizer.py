"""Float TFLite to full-integer int8, with numpy alone: weights per output channel, activations from calibration.

    prepared = prepare(Graph.read(path))
    calibration = calibrate(prepared, samples)
    result = quantize(prepared, calibration, Recipe(input_range=(0, 1)))
    result.graph.write(out)

The scheme is TFLite's own (https://ai.google.dev/edge/litert/models/quantization_spec; Jacob et al.,
https://arxiv.org/abs/1712.05877): `real = (stored - zero_point) * scale`. `dynamic_range` needs no samples: it stores the weights
small and computes in float.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeannot.base.errors import InputError
from edgeannot_tools.graph.edits import collect_garbage, fold_dequantize
from edgeannot_tools.graph.graph import Graph, Op, Operator, Type, schema
from edgeannot_tools.graph.interpreter import Runtime
from edgeannot_tools.quantize.assignment import Assignment, assign
from edgeannot_tools.quantize.calibrate import Calibration, calibrate
from edgeannot_tools.quantize.refine import WEIGHT_LIMIT, Refiner, Rounded
from edgeannot_tools.quantize.rules import RULES, Scales, WeightSlots
from edgeannot_tools.quantize.scales import Recipe, ScaleZero, is_real, scale_for

__all__ = ["QuantizedGraph", "Recipe", "calibrate_and_quantize", "prepare_graph", "quantize_graph", "quantize_graph_weights"]

BIAS_LIMIT = 2**30
"""A bias is kept below this many steps of its scale, half of what int32 holds; the sum of products is added to it."""
SMALLEST_MULTIPLIER = 2.0**-31
"""Of input scale * weight scale / output scale; XNNPACK refuses channels below 2^-32."""
SMALL_CONSTANT = 1024
"""Weights with fewer numbers stay in float in a dynamic-range model, as with TensorFlow's converter."""


@dataclass(frozen=True, slots=True)
class QuantizedGraph:
    """An int8 graph, and what had to be decided on the way."""

    graph: Graph
    float_operators: tuple[str, ...]
    """The kinds and places of operators that still compute in float."""
    notes: tuple[str, ...]
    """Sentences for the user."""


def calibrate_and_quantize(
    data: bytes, samples: Iterable[Sequence[NDArray[Any]]], recipe: Recipe, runtime: Runtime | None = None
) -> QuantizedGraph:
    """Prepares, calibrates and quantizes a float TFLite model; each sample has one array an input, as the float model takes it."""
    prepared = prepare_graph(Graph.from_bytes(data))
    return quantize_graph(prepared, calibrate(prepared, samples, runtime), recipe)


def prepare_graph(graph: Graph) -> Graph:
    """Return a copy that is ready to be calibrated: all numbers float32, and operators replaced by equal ones that int8 knows.

    float16 constants and int8 weights are expanded, divisions by a constant become products, squares and negations too, and a PRELU
    with one slope for all channels becomes LEAKY_RELU.
    Raises InputError for a model whose activations are integers already.
    """
    copy = Graph.from_bytes(graph.to_bytes(), graph.where)
    fold_dequantize(copy)
    for operator in copy.operators:
        if copy.code(operator) in (Op.QUANTIZE, Op.DEQUANTIZE, Op.FAKE_QUANT):
            raise InputError(f"{graph.where} is quantized already ({copy.place(operator)}); give the float model")
    quantized = [t for t in copy.inputs + copy.outputs if copy.quantization(t) is not None]
    if quantized:
        raise InputError(f"{graph.where} is quantized already (tensor {copy.name(quantized[0])!r}); give the float model")
    for operator in copy.operators:
        _use_product(copy, operator)
        _use_one_slope(copy, operator)
    collect_garbage(copy)
    return copy


def _use_one_slope(graph: Graph, operator: Operator) -> None:
    """Replace a PRELU whose slopes are all the same by LEAKY_RELU.

    XNNPACK takes LEAKY_RELU in int8 and PRELU not (NanoDet runs three times as fast); that of tflite-runtime 2.14 reads past the end of
    a PRELU's slopes when there are fewer than channels, and gives numbers that are not finite.
    """
    if graph.code(operator) != Op.PRELU or not graph.is_constant(operator.inputs[1]):
        return
    slopes = graph.constant(operator.inputs[1]).ravel()
    if not slopes.size or (slopes != slopes[0]).any():
        return
    options = schema.LeakyReluOptionsT()
    options.alpha = float(slopes[0])
    operator.inputs = [operator.inputs[0]]
    operator.opcodeIndex = graph.opcode(Op.LEAKY_RELU)
    operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.LeakyReluOptions, options


def _use_product(graph: Graph, operator: Operator) -> None:
    """Replace x / constant, x * x as SQUARE and -x by MUL, which has an int8 kernel where those have none."""
    code, name = graph.code(operator), graph.name(operator.outputs[0]) if operator.outputs else ""
    if not operator.outputs or graph.tensors[operator.outputs[0]].type != Type.FLOAT32:
        return
    options = schema.MulOptionsT()
    if code == Op.DIV and graph.is_constant(operator.inputs[1]):
        divisor = graph.constant(operator.inputs[1])
        if not divisor.all():
            return
        options.fusedActivationFunction = operator.builtinOptions.fusedActivationFunction if operator.builtinOptions else 0
        operator.inputs[1] = graph.add_constant(f"{name}/reciprocal", (1 / divisor.astype(np.float64)).astype(np.float32))
    elif code == Op.SQUARE:
        operator.inputs = [operator.inputs[0]] * 2
    elif code == Op.NEG:
        operator.inputs = [operator.inputs[0], graph.add_constant(f"{name}/minus", np.array(-1, np.float32))]
    else:
        return
    operator.opcodeIndex = graph.opcode(Op.MUL)
    operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.MulOptions, options


def quantize_graph(graph: Graph, calibration: Calibration, recipe: Recipe, refiner: Refiner | None = None) -> QuantizedGraph:
    """Return the int8 model of a prepared float graph, which is not changed. Raises InputError for what int8 cannot hold.

    refiner: of this graph, rounds its weights together; None rounds each to the nearest step.
    """
    plan = assign(graph, calibration, recipe)
    copy = Graph.from_bytes(graph.to_bytes(), graph.where)
    kept = tuple(copy.place(copy.operators[i]) for i in sorted(plan.float_positions))
    _Writer(copy, plan, refiner).rewrite(recipe)
    collect_garbage(copy)
    return QuantizedGraph(copy, kept, tuple(plan.notes))


class _Writer:
    """Rewrites a graph after a plan, operator by operator; conversions are put in where an int8 and a float part meet."""

    def __init__(self, graph: Graph, plan: Assignment, refiner: Refiner | None) -> None:
        self.graph, self.plan = graph, plan
        self.operators = graph.operators
        self.written: list[Operator] = []
        self.real = {t for t in range(len(graph.tensors)) if is_real(graph, t)}
        self.float_made = {t for i in plan.float_positions for t in self.operators[i].outputs}
        self.float_copies: dict[int, int] = {}
        self.int8_copies: dict[int, int] = {}
        self.constants: dict[tuple[int, ScaleZero], int] = {}
        self.steps = {i: self._weight_scale(o, slots) for i, o in enumerate(self.operators) if (slots := self._weight_slots(i)) is not None}
        self.rounded: dict[int, Rounded] = {} if refiner is None else refiner.round(self.steps)

    def _weight_slots(self, position: int) -> WeightSlots | None:
        """Return where the operator at this position has the weights that become integers; None where it has none."""
        rule = RULES.get(self.graph.code(self.operators[position]))
        return None if rule is None or position in self.plan.float_positions else rule.weights

    def rewrite(self, recipe: Recipe) -> None:
        """Change the graph."""
        graph = self.graph
        graph.sub.operators = self.written
        for tensor in self.real - self.float_made:
            graph.tensors[tensor].type = Type.INT8
            graph.set_quantization(tensor, *self.plan.scales[tensor])
        graph.sub.inputs = [self._input(t, recipe) for t in graph.inputs]
        for position, operator in enumerate(self.operators):
            if position in self.plan.float_positions:
                operator.inputs = [self._as_float(t) if t in self.real else t for t in operator.inputs]
            elif any(t in self.real for t in (*operator.inputs, *operator.outputs)):
                self._write_int8(position, operator)
            self.written.append(operator)
        graph.sub.outputs = [self._output(t, recipe) for t in graph.outputs]

    # -- edges of the graph and between its parts ----------------------------------------------------------------------------

    def _input(self, tensor: int, recipe: Recipe) -> int:
        if tensor not in self.real or recipe.input_type == "int8":
            return tensor
        outer = self._take_name(tensor, np.uint8 if recipe.input_type == "uint8" else np.float32)
        if recipe.input_type == "uint8":
            scale, zero_point = self.plan.scales[tensor]
            self.graph.set_quantization(outer, scale, zero_point + 128)
        self._convert(Op.QUANTIZE, outer, tensor)
        return outer

    def _output(self, tensor: int, recipe: Recipe) -> int:
        if tensor not in self.real:
            return tensor
        if recipe.output_type == "float32" and tensor not in self.float_made:
            outer = self._take_name(tensor, np.float32)
            self._convert(Op.DEQUANTIZE, tensor, outer)
            return outer
        if recipe.output_type == "int8" and tensor in self.float_made:
            return self._as_int8(tensor)
        return tensor

    def _take_name(self, tensor: int, dtype: Any) -> int:
        """Return a new tensor under the name of an old one, which gets another: the names users see stay."""
        name = self.graph.name(tensor)
        self.graph.tensors[tensor].name = f"{name}/int8"
        return self.graph.add_tensor(name, self.graph.shape(tensor), dtype)

    def _convert(self, code: int, source: int, target: int) -> None:
        options = schema.QuantizeOptionsT() if code == Op.QUANTIZE else schema.DequantizeOptionsT()
        requantize = code == Op.QUANTIZE and self.graph.tensors[source].type != Type.FLOAT32
        version = 2 if code == Op.DEQUANTIZE or requantize else 1
        self.graph.add_operator(code, [source], [target], options, version=version)

    def _as_float(self, tensor: int) -> int:
        """Return the real values of a tensor."""
        if tensor in self.float_made:
            return tensor
        if tensor not in self.float_copies:
            self.float_copies[tensor] = self.graph.add_tensor(f"{self.graph.name(tensor)}/float", self.graph.shape(tensor))
            self._convert(Op.DEQUANTIZE, tensor, self.float_copies[tensor])
        return self.float_copies[tensor]

    def _as_int8(self, tensor: int) -> int:
        """Return the stored values of a tensor."""
        if tensor not in self.float_made:
            return tensor
        if tensor not in self.int8_copies:
            self.int8_copies[tensor] = self._new_int8(f"{self.graph.name(tensor)}/int8", tensor, self.plan.scales[tensor])
            self._convert(Op.QUANTIZE, tensor, self.int8_copies[tensor])
        return self.int8_copies[tensor]

    def _new_int8(self, name: str, like: int, scale: ScaleZero) -> int:
        number = self.graph.add_tensor(name, self.graph.shape(like), np.int8)
        self.graph.set_quantization(number, *scale)
        return number

    # -- operators -----------------------------------------------------------------------------------------------------------

    def _write_int8(self, position: int, operator: Operator) -> None:
        graph = self.graph
        rule = RULES[graph.code(operator)]
        originals = list(operator.inputs)
        operator.inputs = [self._as_int8(t) if t in self.real else t for t in originals]
        for slot in range(len(originals)):
            if (position, slot) in self.plan.requantized:
                target = next(t for t in operator.outputs if t in self.real)
                copy = self._new_int8(f"{graph.name(originals[slot])}/rescaled{position}", originals[slot], self.plan.scales[target])
                self._convert(Op.QUANTIZE, operator.inputs[slot], copy)
                operator.inputs[slot] = copy
        if rule.weights is not None:
            self._write_weights(position, rule.weights, originals[rule.weights.data])
        else:
            shared = next((self.plan.scales[t] for t in (*operator.outputs, *originals) if t in self.real), None)
            for slot, tensor in enumerate(originals):
                if tensor >= 0 and tensor not in self.real and graph.tensors[tensor].type == Type.FLOAT32:
                    scale = shared if rule.scales is Scales.SHARED else self._own_scale(tensor, graph.code(operator))
                    operator.inputs[slot] = self._constant(tensor, scale or scale_for(0, 0))
        kind = graph.model.operatorCodes[operator.opcodeIndex]
        operator.opcodeIndex = graph.opcode(kind.builtinCode, max(rule.version, kind.version))

    def _own_scale(self, tensor: int, code: int) -> ScaleZero:
        """Return the scale for a constant operand that needs not share one."""
        values = self.graph.constant(tensor).astype(np.float64)
        if code == Op.BATCH_MATMUL:  # a matrix of weights: symmetric, as the kernels have them for layers
            return max(float(np.abs(values).max()) / WEIGHT_LIMIT, 1e-12), 0
        return scale_for(float(values.min()), float(values.max()), exact=True) if values.size else scale_for(0, 0)

    def _constant(self, tensor: int, scale: ScaleZero) -> int:
        """Return a float constant as int8."""
        if (tensor, scale) not in self.constants:
            values = self.graph.constant(tensor).astype(np.float64)
            stored = np.clip(np.round(np.clip(values, -1e30, 1e30) / scale[0]) + scale[1], -128, 127).astype(np.int8)
            number = self.graph.add_constant(f"{self.graph.name(tensor)}/int8", stored)
            self.graph.set_quantization(number, *scale)
            self.constants[tensor, scale] = number
        return self.constants[tensor, scale]

    def _weight_scale(self, operator: Operator, slots: WeightSlots) -> NDArray[np.float64]:
        """Return the step of each output's weights, or of all.

        A channel with (almost) no weights but a bias, which trained MobileNets have in numbers, would get a scale so small that
        its bias overflows int32; the scale is raised to what the bias needs instead.
        """
        weights = self.graph.constant(operator.inputs[slots.weights]).astype(np.float64)
        scale_in, scale_out = self.plan.scales[operator.inputs[slots.data]][0], self.plan.scales[operator.outputs[0]][0]
        others = None if slots.axis is None else tuple(a for a in range(weights.ndim) if a != slots.axis)
        scale = np.atleast_1d(np.abs(weights).max(axis=others)) / WEIGHT_LIMIT
        for_bias = np.abs(self._bias(operator, slots)) / (BIAS_LIMIT * scale_in)
        scale = np.maximum(scale, for_bias.max() if slots.axis is None else for_bias)
        return np.maximum(scale, SMALLEST_MULTIPLIER * scale_out / scale_in).astype(np.float32).astype(np.float64)

    def _bias(self, operator: Operator, slots: WeightSlots) -> NDArray[np.float64]:
        """Return the bias, or 0 for an operator without."""
        present = len(operator.inputs) > slots.bias and operator.inputs[slots.bias] >= 0
        return self.graph.constant(operator.inputs[slots.bias]).astype(np.float64) if present else np.zeros(1)

    def _write_weights(self, position: int, slots: WeightSlots, data: int) -> None:
        """Store weights and bias as integers."""
        graph, operator, axis, scale = self.graph, self.operators[position], slots.axis, self.steps[position]
        bias = self._bias(operator, slots)
        if position in self.rounded:
            stored = self.rounded[position].stored
            bias = bias + self.rounded[position].shift
        else:
            weights = graph.constant(operator.inputs[slots.weights]).astype(np.float64)
            shape = [1] * weights.ndim
            if axis is not None:
                shape[axis] = -1
            stored = np.clip(np.round(weights / scale.reshape(shape)), -WEIGHT_LIMIT, WEIGHT_LIMIT).astype(np.int8)
        number = graph.add_constant(graph.name(operator.inputs[slots.weights]), stored)
        graph.set_quantization(number, scale, np.zeros(scale.size), axis or 0)
        operator.inputs[slots.weights] = number
        if len(operator.inputs) > slots.bias and operator.inputs[slots.bias] >= 0:
            steps = self.plan.scales[data][0] * scale
            number = graph.add_constant(graph.name(operator.inputs[slots.bias]), np.round(bias / steps).astype(np.int32))
            graph.set_quantization(number, steps, np.zeros(steps.size), 0)
            operator.inputs[slots.bias] = number


def quantize_graph_weights(graph: Graph) -> Graph:
    """Return a copy with int8 weights that computes in float: a quarter of the size and no calibration, but no faster everywhere.

    The weights are expanded once at load by a DEQUANTIZE operator behind each, so that every kernel and delegate takes them.
    """
    copy = prepare_graph(graph)
    for operator in list(copy.operators):
        rule = RULES.get(copy.code(operator))
        if rule is None or rule.weights is None or not copy.is_constant(operator.inputs[rule.weights.weights]):
            continue
        tensor = operator.inputs[rule.weights.weights]
        weights = copy.constant(tensor).astype(np.float64)
        if weights.size < SMALL_CONSTANT:
            continue
        axis = rule.weights.axis or 0
        others = tuple(a for a in range(weights.ndim) if a != axis)
        scale = np.maximum(np.abs(weights).max(axis=others, keepdims=True) / WEIGHT_LIMIT, 1e-12).astype(np.float32).astype(np.float64)
        stored = np.round(weights / scale).astype(np.int8)
        number = copy.add_constant(f"{copy.name(tensor)}/int8", stored)
        copy.set_quantization(number, scale.ravel(), np.zeros(scale.size), axis)
        wide = copy.add_tensor(copy.name(tensor), copy.shape(tensor))
        position = next(i for i, o in enumerate(copy.operators) if o is operator)
        # The converter's version for scales per channel.
        copy.add_operator(Op.DEQUANTIZE, [number], [wide], schema.DequantizeOptionsT(), version=5, position=position)
        operator.inputs[rule.weights.weights] = wide
    collect_garbage(copy)
    return copy
