"""Builds a float TFLite network of a TensorFlow.js graph model, without TensorFlow.

Batch normalisation, products and sums behind a convolution become part of it, what depends on no picture is worked out, and where
the graph moves axes around to have the channels first, the network keeps them last. Operators are those of TensorFlow's raw
operations, https://www.tensorflow.org/api_docs/python/tf/raw_ops
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from edgeannot.base.errors import EdgeannotError, InputError, ModelError
from edgeannot.base.foreign import shorten
from edgeannot_tools.convert.tfjs.constants import MAX_NUMBERS, computed, has_rule
from edgeannot_tools.convert.tfjs.files import GraphModel, Node
from edgeannot_tools.convert.tfjs.layers import LAYERS
from edgeannot_tools.convert.tfjs.shapes import SHAPES
from edgeannot_tools.convert.tfjs.values import CHANNELS_FIRST, CHANNELS_LAST, Given, Layer, Maker, Order, Picture, Tensor, straight
from edgeannot_tools.graph.graph import Graph

__all__ = ["Network", "build"]

COLOURS = (1, 3)
IMAGE_RANK = 4
PASSING = frozenset(["Identity", "StopGradient", "PreventGradient", "CheckNumerics", "Snapshot", "PlaceholderWithDefault"])
"""Operators that give what they get."""
KNOWN: dict[str, Layer] = {**LAYERS, **SHAPES}
BYTES, FLOAT = 4, 1
"""TensorFlow's numbers of types."""


@dataclass(frozen=True, slots=True)
class Network:
    """The float network, and what its graph said about the numbers of the picture."""

    graph: Graph
    input_range: tuple[tuple[float, ...], tuple[float, ...]] | None
    """Mean and std in bytes, where the graph scaled the picture itself: `(byte - mean) / std` is the input now."""


def build(model: GraphModel, outputs: Sequence[str] = (), size_wh: tuple[int, int] | None = None) -> Network:
    """Return the network that gives `outputs`, names of nodes (with `:1` and so on for later outputs); none: those of the model.

    size_wh: the input size where the model leaves it open. Maps with their channels first come out with the channels last.
    Raises InputError for names that are not there and for a size that is missing, ModelError for what TFLite cannot do.
    """
    return _Builder(model, size_wh).build(tuple(outputs) or model.outputs)


class _Builder:
    """One network in the making."""

    def __init__(self, model: GraphModel, size_wh: tuple[int, int] | None) -> None:
        self.model, self.size_wh = model, size_wh
        self.maker = Maker()
        self.values: dict[str, Given] = {}
        self.uses: Counter[str] = Counter()

    def build(self, outputs: Sequence[str]) -> Network:
        names = tuple(name.removesuffix(":0") for name in outputs)
        for name in names:
            if name.partition(":")[0] not in self.model.nodes:
                last = name.rsplit("/", 1)[-1].lower()
                near = [known for known in self.model.nodes if last in known.lower()][:5]
                raise InputError(
                    f"{self.model.where} has no node {shorten(name)}" + (f"; near are: {', '.join(map(shorten, near))}" if near else "")
                )
        order = self._in_order([name.partition(":")[0] for name in names])
        self.uses.update(source for node in order for source in node.inputs)
        self.uses.update(names)
        for node in order:
            self._enter(node)
        return self._finish(names)

    # -- which nodes, in which order -----------------------------------------------------------------------------------------

    def _in_order(self, wanted: Sequence[str]) -> list[Node]:
        """Return the nodes that are needed, each behind those that it reads. Raises ModelError that names what TFLite lacks."""
        order: list[Node] = []
        unknown: list[Node] = []
        state: dict[str, bool] = {}  # False while what a node reads is being followed
        stack = [(name, False) for name in reversed(wanted)]
        while stack:
            name, done = stack.pop()
            node = self.model.nodes[name]
            if done:
                state[name] = True
                order.append(node)
                continue
            if state.get(name, False):
                continue
            if name in state:
                raise self._cannot(node, "is part of a loop, which TFLite does not have")
            state[name] = False
            if not self._is_known(node):
                unknown.append(node)
                state[name] = True
                continue
            stack.append((name, True))
            for source in reversed(self._sources(node)):
                if source not in self.model.nodes:
                    raise InputError(f"{self.model.where}: node {shorten(name)} reads {shorten(source)}, and there is no such node")
                if not state.get(source, False):
                    stack.append((source, False))
        if unknown:
            kinds = {node.op: node.name for node in reversed(unknown)}
            listed = ", ".join(f"{op} ({shorten(name)})" for op, name in sorted(kinds.items())[:5])
            raise ModelError(
                f"{self.model.where}: TFLite has no operator for {listed}; let the network end before with --outputs NODE,NODE, "
                "or export it without"
            )
        return order

    def _sources(self, node: Node) -> list[str]:
        """Return the nodes that a node needs; none for where a picture enters."""
        if node.op in ("Const", "Placeholder") or _element_shape(node):
            return []
        return [source.partition(":")[0] for source in node.inputs]

    def _is_known(self, node: Node) -> bool:
        return (
            node.op in ("Const", "Placeholder")
            or node.op in PASSING
            or node.op in KNOWN
            or has_rule(node.op)
            or _element_shape(node) is not None
        )

    # -- one node ------------------------------------------------------------------------------------------------------------

    def _enter(self, node: Node) -> None:
        """Put what a node gives into `values`."""
        try:
            found = self._outputs_of(node)
        except EdgeannotError:
            raise
        except (
            ValueError,
            IndexError,
            TypeError,
            KeyError,
            ZeroDivisionError,
            OverflowError,
            AttributeError,
        ) as exc:  # a file may state anything
            raise self._cannot(node, f"has inputs or attributes that do not fit it ({shorten(str(exc), 120)})") from exc
        for number, value in enumerate(found):
            shape = value.shape if isinstance(value, np.ndarray) else self.maker.shape(value)
            if not isinstance(value, np.ndarray) and (min(shape, default=1) <= 0 or prod(shape) > MAX_NUMBERS):
                raise self._cannot(
                    node, f"gives a tensor of shape {shorten(shape)}, wanted sizes above 0 and at most {MAX_NUMBERS} numbers"
                )
            self.values[f"{node.name}:{number}" if number else node.name] = value

    def _outputs_of(self, node: Node) -> Sequence[Given]:
        if node.op == "Const":
            return [self.model.weights[node.name]]
        if node.op == "Placeholder":
            return [self._placeholder(node)]
        if (sizes := _element_shape(node)) is not None:
            return [self._picture(node, (1, *sizes), as_bytes=False)]
        return self._made(node, [self._value(source) for source in node.inputs])

    def _made(self, node: Node, inputs: list[Given]) -> Sequence[Given]:
        """Return what a node gives for its inputs."""
        if node.op in PASSING:
            return inputs[:1]
        if node.op == "Shape" and not isinstance(inputs[0], np.ndarray):
            return [np.array(self.maker.shape(inputs[0]), np.int32)]
        constants = [value for value in inputs if isinstance(value, np.ndarray)]
        if len(constants) == len(inputs) and has_rule(node.op):
            return computed(node, constants)
        if node.op not in KNOWN:
            raise self._cannot(node, "depends on the picture, which is known for constants only")
        found = KNOWN[node.op](self.maker, node, inputs)
        return found if isinstance(found, list) else [found]

    def _value(self, name: str) -> Given:
        """Return an input; one that several nodes read is a tensor from here on."""
        if name not in self.values:
            raise InputError(f"{self.model.where}: there is no output {shorten(name)}")
        value = self.values[name]
        if not isinstance(value, np.ndarray | Tensor | Picture) and self.uses[name] > 1:
            value = self.values[name] = self.maker.settle(value)
        return value

    # -- where the picture enters --------------------------------------------------------------------------------------------

    def _placeholder(self, node: Node) -> Picture:
        stated = node.shape("shape")
        if stated is None or len(stated) != IMAGE_RANK:
            raise InputError(
                f"{self.model.where}: wanted an input of 4 dimensions, a picture; "
                f"found {shorten(node.name)} of shape {'unknown' if stated is None else shorten(stated)}"
            )
        return self._picture(node, stated, as_bytes=node.data_type("dtype") not in (0, FLOAT))

    def _picture(self, node: Node, stated: Sequence[int], *, as_bytes: bool) -> Picture:
        known = [size if size > 0 else None for size in stated]
        order: Order = CHANNELS_FIRST if known[1] in COLOURS and known[3] not in COLOURS else CHANNELS_LAST
        rows, columns = (2, 3) if order == CHANNELS_FIRST else (1, 2)
        where, name = self.model.where, shorten(node.name)
        if known[0] not in (None, 1):
            raise InputError(
                f"{where}: wanted a batch of 1, found the input {name} of shape {shorten(tuple(stated))}; export it with batch 1"
            )
        if self.size_wh is not None and known[rows] is None and known[columns] is None:
            known[columns], known[rows] = self.size_wh
        if known[rows] is None or known[columns] is None:
            raise InputError(f"{where}: the size of the input {name} is not fixed; choose one with --size N or WxH")
        channels = 1 if order == CHANNELS_FIRST else 3
        known[0], known[channels] = 1, known[channels] or 3
        shape = tuple(size or 1 for size in known)
        if self.maker.picture is not None and self.maker.picture.shape != shape:
            raise InputError(f"{where}: wanted one input, a picture; found several")
        return Picture(shape, order, np.ones(1), np.zeros(1), scaled=as_bytes)

    # -- the end -------------------------------------------------------------------------------------------------------------

    def _finish(self, names: Sequence[str]) -> Network:
        tensors: list[int] = []
        for name in names:
            value = self._value(name)
            if isinstance(value, np.ndarray):
                raise InputError(f"{self.model.where}: the output {shorten(name)} does not depend on the picture")
            tensor = self.maker.settle(value)
            if len(tensor.order) != IMAGE_RANK:
                tensor = self.maker.ordered(tensor, straight(len(tensor.order)), name)
            if tensor.number not in tensors:
                tensors.append(tensor.number)
                self.maker.net.graph.tensors[tensor.number].name = name
        picture = self.maker.picture
        if picture is None or self.maker.input is None or self.maker.input in tensors or not tensors:
            raise InputError(f"{self.model.where}: no output was found that depends on a picture")
        graph = self.maker.net.outputs(tensors)
        graph.where = self.model.where
        return Network(graph, _input_range(picture))

    def _cannot(self, node: Node, why: str) -> ModelError:
        return ModelError(f"{self.model.where}: node {shorten(node.name)} ({shorten(node.op)}) {why}")


def _element_shape(node: Node) -> tuple[int, ...] | None:
    """Return (h, w, c) of the pictures that a loop over a batch has collected: the network begins there, as the loop only resizes them."""
    if node.op != "TensorArrayGatherV3":
        return None
    sizes = node.shape("element_shape") or ()
    return sizes if len(sizes) == IMAGE_RANK - 1 and min(sizes) > 0 and sizes[2] in COLOURS else None


def _input_range(picture: Picture) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Return mean and std in bytes of a picture that was `byte * factor + offset`."""
    if not picture.scaled or not picture.factor.all():
        return None
    factor, offset = np.broadcast_arrays(picture.factor, picture.offset)
    mean, std = -offset / factor, 1 / factor
    return tuple(round(float(number), 4) for number in mean), tuple(round(float(number), 4) for number in std)
