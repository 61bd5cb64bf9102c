"""Which channels of a float network may be scaled freely, and which of them only together.

A channel that a layer writes and other layers read through nothing but rectifiers, maxima and moves may be divided by any positive
factor, if the weights that read it are multiplied by it: the network computes the same (Nagel et al., https://arxiv.org/abs/1906.04721).
Every such channel has a number here, and channels that are added to each other have the same. Number 0 stands for channels that have
to stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeannot_tools.graph.elementwise import ELEMENTWISE
from edgeannot_tools.graph.graph import Graph, Op, Operator, Type, schema
from edgeannot_tools.graph.layers import option

__all__ = ["FREE_LAYERS", "Numbers", "Silu", "channel_numbers", "find_silus"]

Numbers = NDArray[np.int64]
"""A number for each channel of a tensor, in an array that can be broadcast to the tensor's shape."""

Fused = schema.ActivationFunctionType
FREE_LAYERS = frozenset({Op.CONV_2D, Op.DEPTHWISE_CONV_2D, Op.FULLY_CONNECTED})
"""Layers whose weights can take a factor of each channel."""
POSITIVE = frozenset({Op.RELU, Op.LEAKY_RELU, Op.PRELU})
"""f(a x) = a f(x) for positive a."""
NEIGHBOURS = frozenset({Op.MAX_POOL_2D, Op.AVERAGE_POOL_2D, Op.RESIZE_BILINEAR, Op.RESIZE_NEAREST_NEIGHBOR})
"""The same, for pixels that lie side by side."""
MOVES = frozenset({Op.RESHAPE, Op.SQUEEZE, Op.EXPAND_DIMS, Op.TRANSPOSE, Op.CONCATENATION, Op.PACK, Op.UNPACK, Op.SPLIT, Op.SPLIT_V})
MOVES |= {Op.SLICE, Op.STRIDED_SLICE, Op.GATHER, Op.SPACE_TO_DEPTH, Op.DEPTH_TO_SPACE}

MINUS_INFINITY = -1000.0
"""What lies below is smaller than any number of a scaled channel, which reaches about 1."""


@dataclass(frozen=True, slots=True)
class Silu:
    """x * logistic(x), as two operators."""

    data: int
    """x, the tensor that both read."""
    logistic: Operator
    product: Operator


def find_silus(graph: Graph) -> list[Silu]:
    """Return the SiLU activations whose x and gate nothing else reads."""
    consumers, found = graph.consumers(), []
    for operator in graph.operators:
        if graph.code(operator) != Op.LOGISTIC or {operator.inputs[0], operator.outputs[0]} & set(graph.outputs):
            continue
        data, gate = operator.inputs[0], operator.outputs[0]
        products = [o for o in consumers.get(data, []) if graph.code(o) == Op.MUL and set(o.inputs) == {data, gate}]
        if (
            len(consumers[data]) == 2
            and len(products) == 1
            and consumers.get(gate) == products
            and not option(products[0], "fusedActivationFunction")
        ):
            found.append(Silu(data, operator, products[0]))
    return found


def channel_numbers(graph: Graph, gated: Collection[Silu] = ()) -> dict[int, Numbers]:
    """Return the numbers of every computed float tensor's channels; `gated`: SiLUs that will get a factor for their gate."""
    return _Numbering(graph, gated).numbers()


class _Numbering:
    """Walks the graph once; numbers that turn out to be the same are joined in a union-find forest, 0 being the root of its tree."""

    def __init__(self, graph: Graph, gated: Collection[Silu]) -> None:
        self.graph, self.consumers = graph, graph.consumers()
        self.parent = [0]
        self.of: dict[int, Numbers] = {}
        self.gates = {id(silu.logistic) for silu in gated}
        self.products = {id(silu.product): silu.data for silu in gated}

    def numbers(self) -> dict[int, Numbers]:
        """Return the final numbers."""
        graph = self.graph
        self.of = {t: _single(graph, t) for t in graph.inputs}
        for operator in graph.operators:
            inputs = [t for t in operator.inputs if self._is_real(t)]
            outputs = [t for t in operator.outputs if self._is_real(t)]
            given = self._given(operator, inputs, outputs)
            if given is None:
                self._pin(inputs)
                given = [_single(graph, t) for t in outputs]
            self.of.update(zip(outputs, given, strict=True))
        self._pin([t for t in graph.outputs if t in self.of])
        joined = [o.outputs[0] for o in graph.operators if graph.code(o) == Op.CONCATENATION and o.outputs[0] in self.of]
        while pinned := [t for t in joined if self._is_pinned_in_part(t)]:  # in one int8 tensor all are scaled, or none
            self._pin(pinned)
        roots = np.array([self._find(n) for n in range(len(self.parent))])
        return {t: roots[numbers] for t, numbers in self.of.items()}

    def _given(self, operator: Operator, inputs: Sequence[int], outputs: Sequence[int]) -> list[Numbers] | None:
        """Return the numbers of an operator's results; None where its inputs have to stay as they are."""
        if id(operator) in self.gates:
            return [_single(self.graph, outputs[0])]
        if id(operator) in self.products:
            return [self.of[self.products[id(operator)]]]
        code = self.graph.code(operator)
        rule = _Numbering.moved if code in MOVES else RULES.get(code)
        plain = option(operator, "fusedActivationFunction") in (Fused.NONE, Fused.RELU)
        if code in FREE_LAYERS and not plain and self.layer(operator, inputs, outputs) is not None:
            return [_single(self.graph, outputs[0])]  # what it reads may be scaled all the same
        return rule(self, operator, inputs, outputs) if rule is not None and plain else None

    def same(self, _operator: Operator, inputs: Sequence[int], _outputs: Sequence[int]) -> list[Numbers] | None:
        """Return the input's numbers."""
        return [self.of[inputs[0]]] if len(inputs) == 1 else None

    def neighbours(self, operator: Operator, inputs: Sequence[int], outputs: Sequence[int]) -> list[Numbers] | None:
        """Return the input's numbers where pixels that lie side by side have the same."""
        return self.same(operator, inputs, outputs) if self._along_channels(inputs[0]) else None

    def mean(self, _operator: Operator, inputs: Sequence[int], outputs: Sequence[int]) -> list[Numbers] | None:
        """Return the numbers of a mean over pixels."""
        before, after = self.graph.shape(inputs[0]), self.graph.shape(outputs[0])
        if not self._along_channels(inputs[0]) or before[-1:] != after[-1:]:
            return None
        return [self.of[inputs[0]].reshape([1] * (len(after) - 1) + [-1])]

    def add(self, _operator: Operator, inputs: Sequence[int], _outputs: Sequence[int]) -> list[Numbers] | None:
        """Join what is added to each other."""
        if len(inputs) != 2 or self.graph.shape(inputs[0]) != self.graph.shape(inputs[1]):
            return None
        first, second = np.broadcast_arrays(self.of[inputs[0]], self.of[inputs[1]])
        for a, b in {(int(a), int(b)) for a, b in zip(first.flat, second.flat, strict=True)}:
            self._join(a, b)
        return [first.copy()]

    def layer(self, operator: Operator, _inputs: Sequence[int], outputs: Sequence[int]) -> list[Numbers] | None:
        """Return new numbers, one a channel of the result."""
        output, data = outputs[0], operator.inputs[0]
        if not self.graph.is_constant(operator.inputs[1]):
            return None
        if self.graph.code(operator) == Op.FULLY_CONNECTED:
            width = self.graph.shape(operator.inputs[1])[1]
            rows = np.broadcast_to(self.of[data], self.graph.shape(data)).reshape(-1, width)
            readable = bool((rows == rows[0]).all())
        else:
            readable = self._along_channels(data)
        if not readable:
            self._pin([data])
        shape = self.graph.shape(output)
        return [self._fresh(shape[-1]).reshape([1] * (len(shape) - 1) + [-1])]

    def padded(self, operator: Operator, inputs: Sequence[int], _outputs: Sequence[int]) -> list[Numbers] | None:
        """Return the numbers beside zeros, which may be scaled by anything."""
        if not self.graph.is_constant(operator.inputs[1]) or not self._along_channels(inputs[0]):
            return None
        before, after = (int(n) for n in self.graph.constant(operator.inputs[1])[-1])
        numbers = self.of[inputs[0]]
        if before + after == 0 or numbers.shape[-1] == 1:
            return [numbers]
        parts = [self._fresh(before), numbers.ravel(), self._fresh(after)]
        return [np.concatenate(parts).reshape([1] * (numbers.ndim - 1) + [-1])]

    def padded_below(self, operator: Operator, inputs: Sequence[int], outputs: Sequence[int]) -> list[Numbers] | None:
        """Return the numbers beside a constant that stands for minus infinity, as pads before a maximum do."""
        readers = self.consumers.get(outputs[0], [])
        if not all(self.graph.code(reader) == Op.MAX_POOL_2D for reader in readers) or outputs[0] in self.graph.outputs:
            return None
        constant = operator.inputs[2]
        below = self.graph.is_constant(constant) and bool((self.graph.constant(constant) <= MINUS_INFINITY).all())
        return self.padded(operator, inputs, outputs) if below else None

    def moved(self, operator: Operator, _inputs: Sequence[int], outputs: Sequence[int]) -> list[Numbers] | None:
        """Return the numbers moved as the operator moves what they stand for; those of constants are 0."""
        kernel = ELEMENTWISE[self.graph.code(operator)](self.graph, operator)
        if kernel is None or len(outputs) != len(operator.outputs):
            return None
        arrays = []
        for tensor in operator.inputs:
            if self._is_real(tensor):
                arrays.append(np.broadcast_to(self.of[tensor], self.graph.shape(tensor)))
            elif tensor >= 0 and self.graph.tensors[tensor].type == Type.FLOAT32:
                arrays.append(np.zeros(self.graph.shape(tensor), np.int64))
            else:
                arrays.append(self.graph.constant(tensor))
        return [_squeezed(made) for made in kernel(arrays)]

    # -- the forest ----------------------------------------------------------------------------------------------------------

    def _fresh(self, count: int) -> Numbers:
        first = len(self.parent)
        self.parent.extend(range(first, first + count))
        return np.arange(first, first + count)

    def _find(self, number: int) -> int:
        while self.parent[number] != number:
            self.parent[number] = self.parent[self.parent[number]]
            number = self.parent[number]
        return number

    def _join(self, a: int, b: int) -> None:
        a, b = self._find(a), self._find(b)
        self.parent[max(a, b)] = min(a, b)

    def _pin(self, tensors: Collection[int]) -> None:
        for tensor in tensors:
            for number in np.unique(self.of[tensor]):
                self._join(int(number), 0)

    def _is_pinned_in_part(self, tensor: int) -> bool:
        roots = {self._find(int(n)) for n in np.unique(self.of[tensor])}
        return 0 in roots and len(roots) > 1

    def _is_real(self, tensor: int) -> bool:
        return tensor >= 0 and bool(self.graph.tensors[tensor].type == Type.FLOAT32) and not self.graph.is_constant(tensor)

    def _along_channels(self, tensor: int) -> bool:
        """Tell whether a channel has one number at all places."""
        return all(n == 1 for n in self.of[tensor].shape[:-1])


RULES: dict[int, Callable[[_Numbering, Operator, Sequence[int], Sequence[int]], list[Numbers] | None]] = {
    **dict.fromkeys(FREE_LAYERS, _Numbering.layer),
    **dict.fromkeys(POSITIVE, _Numbering.same),
    **dict.fromkeys(NEIGHBOURS, _Numbering.neighbours),
    Op.PAD: _Numbering.padded,
    Op.PADV2: _Numbering.padded_below,
    Op.MEAN: _Numbering.mean,
    Op.ADD: _Numbering.add,
}


def _single(graph: Graph, tensor: int) -> Numbers:
    """Return the number 0 for all channels."""
    return np.zeros([1] * len(graph.shape(tensor)), np.int64)


def _squeezed(numbers: Numbers) -> Numbers:
    """Return the numbers without the axes along which they are all the same."""
    for axis in range(numbers.ndim):
        if numbers.shape[axis] > 1 and (numbers == numbers.take([0], axis)).all():
            numbers = numbers.take([0], axis)
    return numbers
