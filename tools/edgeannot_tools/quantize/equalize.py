"""Scales the channels of a float network against each other, so that one int8 step fits all channels of a tensor.

Where channels differ a hundredfold, the step that the strongest needs leaves nothing of the weak ones. Dividing a channel by a factor
and multiplying the weights that read it changes nothing in float (see `graph.channels`). Through x * logistic(x) a factor does not
pass; there it needs a gate: y / r = x / r * logistic(r * (x / r)), where a depthwise convolution with one exact weight a channel
multiplies by r again, for one more small operator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeannot_tools.graph.blas import one_thread
from edgeannot_tools.graph.channels import FREE_LAYERS, Numbers, Silu, channel_numbers, find_silus
from edgeannot_tools.graph.edits import collect_garbage
from edgeannot_tools.graph.graph import Graph, Op, Operator, schema
from edgeannot_tools.graph.interpreter import Runtime
from edgeannot_tools.graph.layers import Array
from edgeannot_tools.graph.reference_run import run_layers
from edgeannot_tools.quantize.calibrate import padded_for_maximum

__all__ = ["Equalized", "equalize_rectified", "gate_silus"]

SAMPLES = 8
"""That channels are looked at on."""
TOO_NOISY = 10**-2.7
"""Noise to signal, 27 dB, that rounding one SiLU's results leaves in the layers behind: above it, the SiLU gets a gate."""
WORTH_IT = 2.0
"""How many times less noise a gate has to leave."""
DEEPEST = 5.0
"""x * logistic(x) is -0.03 here and nearer to 0 below; what lies deeper is stored as this."""
KAPPAS = (0.02, 0.04, 0.06, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)
"""Candidates for how far a gated tensor reaches below 0 when it reaches 1 above."""
WEAKEST = 1e-3
"""Of a tensor's strongest channel: a channel that the samples show weaker than this is taken for this strong."""
LEVELS = 255
Floats = NDArray[np.float64]
Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Equalized:
    """A graph that computes the same, and what is known of it."""

    graph: Graph
    ranges: dict[str, Range]
    """Tensors, by name, whose range is known beforehand."""
    layers: int
    """How many layers have other weights now."""
    gates: int


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one tensor's channels were seen to hold, each array as `Numbers` but with a value for every channel."""

    lowest: Floats
    highest: Floats
    square: Floats
    """The mean square."""

    @property
    def reach(self) -> Floats:
        """How far from 0 each channel gets."""
        reach: Floats = np.maximum(np.abs(self.lowest), np.abs(self.highest))
        return reach.clip(WEAKEST * max(float(reach.max(initial=0.0)), 1e-6))


def equalize_rectified(graph: Graph, samples: Sequence[Sequence[Array]], runtime: Runtime | None = None) -> Equalized | None:
    """Return the graph with every channel scaled to reach 1 that rectifiers and layers alone stand around; None where there is none."""
    numbers = channel_numbers(graph)
    if not any(n.any() for n in numbers.values()):
        return None
    seen = _see(graph, numbers, samples, runtime)
    return _scaled(graph, numbers, _strongest(numbers, {t: s.reach for t, s in seen.items()}), {})


def gate_silus(graph: Graph, samples: Sequence[Sequence[Array]], runtime: Runtime | None = None) -> Equalized | None:
    """Return the graph with a gate for each SiLU that one step for all channels leaves too noisy; None where there is none."""
    silus = [silu for silu in find_silus(graph) if len(graph.shape(silu.data)) == 4]
    numbers = channel_numbers(graph, silus)
    seen = _see(graph, numbers, samples, runtime)
    noisy = [silu for silu in silus if _needs_gate(graph, silu, numbers, seen)]
    numbers = channel_numbers(graph, noisy)
    # A channel that is added to one that has to stay has to stay as well; and a convolution needs the channels last.
    free = [silu for silu in noisy if numbers[silu.data].any() and numbers[silu.data].size == graph.shape(silu.data)[-1]]
    if not free:
        return None
    wanted, kappas = {}, {}
    for silu in free:
        wanted[silu.data], kappas[silu] = _reach_of_gated(seen[silu.data], seen[silu.product.outputs[0]])
    return _scaled(graph, numbers, _strongest(numbers, wanted), kappas)


def _see(graph: Graph, numbers: Mapping[int, Numbers], samples: Sequence[Sequence[Array]], runtime: Runtime | None) -> dict[int, _Seen]:
    """Return what the channels of layers' results, and of all tensors that may be scaled, hold on some of the samples."""
    chosen = [samples[i * len(samples) // min(SAMPLES, len(samples))] for i in range(min(SAMPLES, len(samples)))]
    last = max((i for i, o in enumerate(graph.operators) if graph.code(o) in FREE_LAYERS), default=-1)
    seen, padded = {}, padded_for_maximum(graph)  # minus infinity beside its numbers is no reach
    with one_thread():
        for step in run_layers(graph, chosen, runtime, last):
            for tensor in step.operator.outputs:
                if tensor in numbers and tensor not in padded and (graph.code(step.operator) in FREE_LAYERS or numbers[tensor].any()):
                    axes = tuple(a for a, n in enumerate(numbers[tensor].shape[:-1]) if n == 1)
                    maps = step.values[tensor]
                    seen[tensor] = _Seen(
                        np.min([m.min(axis=axes, keepdims=True) for m in maps], axis=0).astype(np.float64),
                        np.max([m.max(axis=axes, keepdims=True) for m in maps], axis=0).astype(np.float64),
                        np.mean([np.square(m, dtype=np.float64).mean(axis=axes, keepdims=True) for m in maps], axis=0),
                    )
    return seen


def _strongest(numbers: Mapping[int, Numbers], reaches: Mapping[int, Floats]) -> Floats:
    """Return a factor for each number: how far the strongest channel of that number reaches. Numbers without one keep 1."""
    factors = np.zeros(1 + max(int(n.max(initial=0)) for n in numbers.values()))
    for tensor, reach in reaches.items():
        np.maximum.at(factors, np.broadcast_to(numbers[tensor], reach.shape).ravel(), reach.ravel())
    factors[0] = 1.0
    return np.where(factors > 0, factors, 1.0)


def _needs_gate(graph: Graph, silu: Silu, numbers: Mapping[int, Numbers], seen: Mapping[int, _Seen]) -> bool:
    """Tell whether rounding the SiLU's results leaves too much noise in the layers that read them, and a gate would leave much less."""
    made = seen.get(silu.product.outputs[0])
    if made is None:
        return False
    owned = {int(n): i for i, n in enumerate(np.broadcast_to(numbers[silu.data], made.highest.shape).ravel()) if n}
    plain, gated = (float(made.highest.max()) - float(made.lowest.min())) / LEVELS, made.reach.ravel() * 1.1 / LEVELS
    noise = np.zeros(2)
    for operator in graph.operators:
        data, result = operator.inputs[0], operator.outputs[0]
        if graph.code(operator) not in (Op.CONV_2D, Op.DEPTHWISE_CONV_2D) or result not in seen or data not in numbers:
            continue
        weights = graph.constant(operator.inputs[1]).astype(np.float64)
        channels = np.broadcast_to(numbers[data].ravel(), graph.shape(data)[-1:])
        signal = seen[result].square.ravel() + 1e-9
        if graph.code(operator) == Op.DEPTHWISE_CONV_2D:
            share = (np.square(weights).sum(axis=(0, 1, 2)) / signal).reshape(channels.size, -1).mean(axis=1) / channels.size
        elif weights.shape[3] == channels.size:
            share = (np.square(weights).sum(axis=(1, 2)) / signal[:, None]).mean(axis=0)
        else:
            continue
        for position, number in enumerate(channels):
            if int(number) in owned:
                noise += share[position] * np.square([plain, gated[owned[int(number)]]]) / 12
    return bool(noise[0] > TOO_NOISY and noise[0] > WORTH_IT * noise[1])


def _reach_of_gated(data: _Seen, result: _Seen) -> tuple[Floats, float]:
    """Return the factor that each channel of x needs, and how far x / factor reaches below 0, which leaves the least noise."""
    below = np.minimum(-data.lowest, DEEPEST).clip(1e-6)
    above = data.highest.clip(1e-6)

    def noise(kappa: float) -> float:
        step = np.maximum(above, below / kappa) * (1 + kappa) / LEVELS
        return float(np.minimum(np.square(step) / 12 / (result.square + 1e-12), 1).sum())

    kappa = min(KAPPAS, key=noise)
    return np.maximum(above, below / kappa), kappa


def _scaled(graph: Graph, numbers: Mapping[int, Numbers], factors: Floats, kappas: Mapping[Silu, float]) -> Equalized:
    """Return a copy of the graph with the factors in its layers' weights, and a gate at each of the SiLUs."""
    copy = Graph.from_bytes(graph.to_bytes(), graph.where)
    layers = sum([_scale_layer(copy, operator, numbers, factors) for operator in copy.operators])
    gates = [(silu, copy.operators[_position(graph, silu.logistic)]) for silu in kappas]
    for silu, logistic in gates:
        values = factors[np.broadcast_to(numbers[silu.data].ravel(), copy.shape(silu.data)[-1:])]
        _add_gate(copy, logistic, values)
    ranges = {copy.name(silu.data): (-kappa, 1.0) for silu, kappa in kappas.items()}
    collect_garbage(copy)
    return Equalized(copy, ranges, layers, len(gates))


def _position(graph: Graph, operator: Operator) -> int:
    return next(i for i, o in enumerate(graph.operators) if o is operator)


def _scale_layer(graph: Graph, operator: Operator, numbers: Mapping[int, Numbers], factors: Floats) -> bool:
    """Give a layer other weights for the factors of what it reads and makes; tell whether it needed them."""
    data, result = operator.inputs[0], operator.outputs[0]
    if graph.code(operator) not in FREE_LAYERS or data not in numbers or result not in numbers or not graph.is_constant(operator.inputs[1]):
        return False
    weights = graph.constant(operator.inputs[1]).astype(np.float64)
    into, made = _factors_read(graph, operator, weights.shape, numbers[data], factors), factors[numbers[result].ravel()]
    if (into == 1).all() and (made == 1).all():
        return False
    last = graph.code(operator) == Op.DEPTHWISE_CONV_2D  # has its outputs there, the others first
    out = made if last else made.reshape(-1, *[1] * (weights.ndim - 1))
    operator.inputs[1] = graph.add_constant(graph.name(operator.inputs[1]), (weights * into / out).astype(np.float32))
    if len(operator.inputs) > 2 and operator.inputs[2] >= 0:
        bias = graph.constant(operator.inputs[2]).astype(np.float64) / made
        operator.inputs[2] = graph.add_constant(graph.name(operator.inputs[2]), bias.astype(np.float32))
    return True


def _factors_read(graph: Graph, operator: Operator, weights: tuple[int, ...], numbers: Numbers, factors: Floats) -> Floats:
    """Return the factor of what each weight is multiplied with, in an array that can be broadcast to the weights' shape."""
    shape = graph.shape(operator.inputs[0])
    if graph.code(operator) == Op.FULLY_CONNECTED:
        rows: Floats = factors[np.broadcast_to(numbers, shape)].reshape(-1, weights[1])
        return rows[:1]
    channels = factors[np.broadcast_to(numbers.ravel(), shape[-1:])]
    if graph.code(operator) == Op.DEPTHWISE_CONV_2D:
        return channels.repeat(weights[3] // channels.size)
    groups = channels.size // weights[3]
    return channels.reshape(groups, -1).repeat(weights[0] // groups, axis=0)[:, None, None]


def _add_gate(graph: Graph, logistic: Operator, factors: Floats) -> None:
    """Put a multiplication by the factors before a logistic function."""
    data = logistic.inputs[0]
    name = graph.name(data)
    options = schema.DepthwiseConv2DOptionsT()
    options.padding, options.strideH, options.strideW, options.depthMultiplier = schema.Padding.SAME, 1, 1, 1
    options.dilationHFactor = options.dilationWFactor = 1
    weights = graph.add_constant(f"{name}/channel_scale", factors.astype(np.float32).reshape(1, 1, 1, -1))
    bias = graph.add_constant(f"{name}/channel_zero", np.zeros(factors.size, np.float32))
    gate = graph.add_tensor(f"{name}/gate", graph.shape(data))
    graph.add_operator(Op.DEPTHWISE_CONV_2D, [data, weights, bias], [gate], options, position=_position(graph, logistic))
    logistic.inputs = [gate]
