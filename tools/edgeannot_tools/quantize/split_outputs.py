"""Takes the last join out of graphs whose table holds undecoded cells, as `split_rows` does for decoded rows.

Yolo-FastestV2 leaves its box numbers, objectness and classes for each stride; heads of distance distributions (v8 cut early,
NanoDet) leave distances and scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from edgeannot.vision.cards import ModelCard
from edgeannot.vision.data import TensorRef
from edgeannot.vision.heads import Head
from edgeannot.vision.heads.dfl import Dfl
from edgeannot.vision.heads.split import Split
from edgeannot.vision.heads.yolo_fastestv2 import YoloFastestV2
from edgeannot.vision.heads.yolo_rows import YoloRows
from edgeannot_tools.graph.edits import collect_garbage, retarget_outputs
from edgeannot_tools.graph.graph import Graph, Op, Operator, Type, schema

__all__ = ["separate_slices", "split_card", "split_maps", "split_rows"]


def split_maps(graph: Graph, head: Head, input_wh: tuple[int, int]) -> Head | None:
    """Change the graph so that numbers of unlike units are outputs of their own; give the head that reads them.

    None, and no change, for other heads and where the parts were not joined but made together.
    """
    if isinstance(head, YoloFastestV2) and len(head.outputs) == 1:
        return _split_fastest(graph, head, input_wh)
    if isinstance(head, Dfl) and head.joined != "no":
        return _split_distances(graph, head)
    return None


def _split_fastest(graph: Graph, head: YoloFastestV2, input_wh: tuple[int, int]) -> YoloFastestV2 | None:
    """For each stride: 4 numbers an anchor, one objectness an anchor, the classes."""
    trial = Graph.from_bytes(graph.to_bytes(), graph.where)
    taker, output = Taker(trial), _output(trial, head.outputs[0])
    cells_axis, axis = _axes(trial, output, head.layout)
    count, columns = len(head.anchors[0]), trial.shape(output)[axis]
    bounds = (0, 4 * count, 5 * count, columns)
    parts: list[int] = []
    first = 0
    for stride in head.strides:
        last = first + -(-input_wh[0] // stride) * -(-input_wh[1] // stride)
        table = taker.take(output, cells_axis, first, last)
        found = [] if table is None else _columns(taker, table, axis, bounds)
        if not found:
            return None
        parts += found
        first = last
    names = _use(graph, trial, parts)
    return replace(head, outputs=tuple(names))


def _split_distances(graph: Graph, head: Dfl) -> Dfl | None:
    trial = Graph.from_bytes(graph.to_bytes(), graph.where)
    taker = Taker(trial)
    boxes: list[int] = []
    scores: list[int] = []
    for ref in head.boxes:
        output = _output(trial, ref)
        _, axis = _axes(trial, output, head.layout)
        columns = trial.shape(output)[axis]
        edge = 4 * head.bins if head.joined == "boxes-first" else columns - 4 * head.bins
        found = _columns(taker, output, axis, (0, edge, columns))
        if not found:
            return None
        boxes.append(found[0 if head.joined == "boxes-first" else 1])
        scores.append(found[1 if head.joined == "boxes-first" else 0])
    names = _use(graph, trial, [*boxes, *scores])
    return replace(head, joined="no", boxes=tuple(names[: len(boxes)]), scores=tuple(names[len(boxes) :]))


def _output(graph: Graph, ref: TensorRef) -> int:
    return graph.outputs[ref] if isinstance(ref, int) else graph.find(ref)


def _axes(graph: Graph, tensor: int, layout: str) -> tuple[int, int]:
    """Return the axis of the cells (the last of them) and that of a cell's numbers."""
    rank = len(graph.shape(tensor))
    if layout == "channels-last":
        return rank - 2, rank - 1
    has_batch = rank > 2 and graph.shape(tensor)[0] == 1
    return rank - 1, 1 if has_batch else 0


def _columns(taker: Taker, tensor: int, axis: int, bounds: Sequence[int]) -> list[int]:
    """Return a tensor for each stretch of columns; empty where one of them was not joined there."""
    parts = [taker.take(tensor, axis, start, stop) for start, stop in pairwise(bounds)]
    found = [part for part in parts if part is not None]
    return found if len(found) == len(parts) else []


def _use(graph: Graph, trial: Graph, parts: Sequence[int]) -> list[str]:
    """Make the parts the outputs of the graph; their names. Tensors that were there before keep theirs."""
    names = [trial.name(part) for part in parts]
    retarget_outputs(trial, names)
    graph.model = trial.model
    return names


BOX_NUMBERS = 4


def split_rows(graph: Graph, head: YoloRows) -> Split | None:
    """Change the graph so that boxes, scores and objectness are outputs of their own; give the head that reads them.

    None, and no change, where the output was not joined of boxes and the rest (it comes out of one layer, or was multiplied as a
    whole), or where the graph has other outputs too.
    """
    if len(graph.outputs) != 1 or head.extra_columns or head.rotated:
        return None
    output = graph.outputs[0]
    name, rank = graph.name(output), len(graph.shape(output))
    axis = rank - 1 if head.layout == "rows" else rank - 2
    columns = graph.shape(output)[axis] if axis >= 0 else 0
    if columns <= BOX_NUMBERS + head.objectness or graph.tensors[output].type != Type.FLOAT32:
        return None
    trial = Graph.from_bytes(graph.to_bytes(), graph.where)
    taker = Taker(trial)
    boxes = taker.take(output, axis, 0, BOX_NUMBERS)
    rest = taker.take(output, axis, BOX_NUMBERS, columns)
    if boxes is None or rest is None:
        return None
    first = int(head.objectness)
    parts = {"boxes": boxes, "scores": taker.cut(rest, axis, first, columns - BOX_NUMBERS) if first else rest}
    if first:
        parts["objectness"] = taker.cut(rest, axis, 0, first)
    names = {role: f"{name}/{role}" for role in parts}
    for role, tensor in parts.items():
        trial.tensors[tensor].name = names[role]
    retarget_outputs(trial, names.values())
    graph.model = trial.model
    return Split(
        boxes=names["boxes"],
        scores=names["scores"],
        objectness=names.get("objectness"),
        box_layout=head.layout,
        score_layout=head.layout,
        box_units=head.box_units,
        box_form=head.box_form,
        activation=head.activation,
    )


def split_card(graph: Graph, card: ModelCard) -> ModelCard:
    """Return the card for the graph with its last join taken out; both as they were where there is nothing to split."""
    head = split_rows(graph, card.head) if isinstance(card.head, YoloRows) else split_maps(graph, card.head, card.input_wh)
    return card if head is None else card.model_copy(update={"head": head})


def separate_slices(graph: Graph) -> int:
    """Replace slices of a join by what was joined there, or by a smaller join; give how many. The results stay the same.

    YOLOv8 and later join the numbers for boxes with those for classes, move them around and take them apart again; in int8 they would
    share one step on the way.
    """
    taker, found = Taker(graph), 0
    for operator in list(graph.operators):
        place = _one_axis_slice(graph, operator)
        part = taker.take(operator.inputs[0], *place) if place is not None else None
        if part is None:
            continue
        for reader in graph.operators:
            reader.inputs = [part if t == operator.outputs[0] else t for t in reader.inputs]
        found += 1
    if found:
        _sort(graph)
    return found


def _one_axis_slice(graph: Graph, operator: Operator) -> tuple[int, int, int] | None:
    """Return (axis, start, stop) of a slice by constants along one axis, or None for any other operator."""
    code = graph.code(operator)
    if code not in (Op.SLICE, Op.STRIDED_SLICE) or not all(graph.is_constant(t) for t in operator.inputs[1:]):
        return None
    before, after = graph.shape(operator.inputs[0]), graph.shape(operator.outputs[0])
    axes = [axis for axis, length in enumerate(before) if len(after) == len(before) and length != after[axis]]
    if len(axes) != 1 or graph.tensors[operator.outputs[0]].type != Type.FLOAT32 or operator.outputs[0] in graph.outputs:
        return None
    axis = axes[0]
    start = int(graph.constant(operator.inputs[1]).ravel()[axis])
    if code == Op.STRIDED_SLICE:
        options = operator.builtinOptions
        masks = (options.ellipsisMask, options.newAxisMask, options.shrinkAxisMask)
        if any(masks) or (graph.constant(operator.inputs[3]) != 1).any():
            return None
        start = 0 if options.beginMask >> axis & 1 else start
    start += before[axis] if start < 0 else 0
    return axis, start, start + after[axis]


def _sort(graph: Graph) -> None:
    """Put the operators in an order in which each follows what it reads, and drop those that no output needs."""
    producers = graph.producers()
    needed: list[Operator] = []
    seen: set[int] = set()

    stack = [(tensor, False) for tensor in reversed(graph.outputs)]
    while stack:
        tensor, ready = stack.pop()
        operator = producers.get(tensor)
        if operator is None or id(operator) in seen:
            continue
        if ready:
            seen.add(id(operator))
            needed.append(operator)
        else:
            stack.append((tensor, True))
            stack += [(t, False) for t in reversed(operator.inputs) if t >= 0]
    graph.sub.operators = needed
    collect_garbage(graph)


class Taker:
    """Finds or makes tensors that hold some of another's columns. New operators go to the end, old ones stay for `retarget_outputs`."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.producers = graph.producers()

    def take(self, tensor: int, axis: int, start: int, stop: int) -> int | None:
        """Return a tensor with the columns start..stop along `axis`; None where they were not joined at these places."""
        if (start, stop) == (0, self.graph.shape(tensor)[axis]):
            return tensor
        operator = self.producers.get(tensor)
        code = -1 if operator is None else self.graph.code(operator)
        if operator is None or code not in (Op.CONCATENATION, Op.RESHAPE, Op.TRANSPOSE):
            return None
        shape = list(self.graph.shape(tensor))
        shape[axis] = stop - start
        if code == Op.CONCATENATION:
            return self._through_join(operator, axis, start, stop, shape)
        if code == Op.RESHAPE:
            return self._through_reshape(operator, axis, start, stop, shape)
        return self._through_transpose(operator, axis, start, stop, shape)

    def _through_join(self, operator: Operator, axis: int, start: int, stop: int, shape: list[int]) -> int | None:
        graph, options = self.graph, operator.builtinOptions
        if options.fusedActivationFunction != schema.ActivationFunctionType.NONE:
            return None
        joined = options.axis % len(shape)
        parts: list[int | None] = []
        if joined != axis:
            parts = [self.take(t, axis, start, stop) for t in operator.inputs]
        else:
            first = 0
            for t in operator.inputs:
                last = first + graph.shape(t)[axis]
                if first < stop and last > start:
                    parts.append(self.take(t, axis, max(start, first) - first, min(stop, last) - first))
                first = last
        known = [part for part in parts if part is not None]
        if len(known) < len(parts):
            return None
        if len(known) == 1:
            return known[0]
        again = schema.ConcatenationOptionsT()
        again.axis = joined
        return self._add(Op.CONCATENATION, known, operator, shape, again)

    def _through_reshape(self, operator: Operator, axis: int, start: int, stop: int, shape: list[int]) -> int | None:
        graph, source = self.graph, operator.inputs[0]
        before, after = graph.shape(source), graph.shape(operator.outputs[0])
        places = [
            place
            for place, length in enumerate(before)
            if length == after[axis] and int(np.prod(before[:place])) == int(np.prod(after[:axis]))
        ]
        part = self.take(source, places[0], start, stop) if places else None
        if part is None:
            return None
        options = schema.ReshapeOptionsT()
        options.newShape = shape
        size = graph.add_constant(f"{graph.name(operator.outputs[0])}/shape{start}", np.array(shape, np.int32))
        return self._add(Op.RESHAPE, [part, size], operator, shape, options)

    def _through_transpose(self, operator: Operator, axis: int, start: int, stop: int, shape: list[int]) -> int | None:
        source, order = operator.inputs[:2]
        if not self.graph.is_constant(order):
            return None
        part = self.take(source, int(self.graph.constant(order).ravel()[axis]), start, stop)
        return None if part is None else self._add(Op.TRANSPOSE, [part, order], operator, shape, schema.TransposeOptionsT())

    def cut(self, tensor: int, axis: int, start: int, stop: int) -> int:
        """Return the columns as a tensor of its own, cut out of the other where they were not joined."""
        found = self.take(tensor, axis, start, stop)
        if found is not None:
            return found
        graph = self.graph
        name, shape = graph.name(tensor), list(graph.shape(tensor))
        begin = np.zeros(len(shape), np.int32)
        begin[axis], shape[axis] = start, stop - start
        constants = [
            graph.add_constant(f"{name}/begin{start}", begin),
            graph.add_constant(f"{name}/size{start}", np.array(shape, np.int32)),
        ]
        return self._add_named(Op.SLICE, [tensor, *constants], f"{name}/from{start}", shape, schema.SliceOptionsT())

    def _add(self, code: int, inputs: list[int], like: Operator, shape: list[int], options: object) -> int:
        name = f"{self.graph.name(like.outputs[0])}/part{len(self.graph.operators)}"
        return self._add_named(code, inputs, name, shape, options)

    def _add_named(self, code: int, inputs: list[int], name: str, shape: list[int], options: object) -> int:
        made = self.graph.add_tensor(name, shape)
        operator = self.graph.add_operator(code, inputs, [made], options)
        self.producers[made] = operator
        return made
