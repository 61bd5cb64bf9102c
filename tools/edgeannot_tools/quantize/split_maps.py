"""Takes the last join out of graphs whose table holds undecoded cells, as `split_rows` does for decoded rows.

Yolo-FastestV2 leaves its box numbers, objectness and classes for each stride; heads of distance distributions (v8 cut early,
NanoDet) leave distances and scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from edgeannot.vision.data import TensorRef
from edgeannot.vision.heads import AnyHead
from edgeannot.vision.heads.dfl import Dfl
from edgeannot.vision.heads.yolo_fastestv2 import YoloFastestV2
from edgeannot_tools.graph.graph import Graph, retarget_outputs
from edgeannot_tools.quantize.split_rows import Taker

__all__ = ["split_maps"]


def split_maps(graph: Graph, head: AnyHead, input_wh: tuple[int, int]) -> AnyHead | None:
    """Changes the graph so that numbers of unlike units are outputs of their own; gives the head that reads them.

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
    """The axis of the cells (the last of them) and that of a cell's numbers."""
    rank = len(graph.shape(tensor))
    if layout == "channels-last":
        return rank - 2, rank - 1
    has_batch = rank > 2 and graph.shape(tensor)[0] == 1
    return rank - 1, 1 if has_batch else 0


def _columns(taker: Taker, tensor: int, axis: int, bounds: Sequence[int]) -> list[int]:
    """A tensor for each stretch of columns; empty where one of them was not joined there."""
    parts = [taker.take(tensor, axis, start, stop) for start, stop in pairwise(bounds)]
    found = [part for part in parts if part is not None]
    return found if len(found) == len(parts) else []


def _use(graph: Graph, trial: Graph, parts: Sequence[int]) -> list[str]:
    """Makes the parts the outputs of the graph; their names. Tensors that were there before keep theirs."""
    names = [trial.name(part) for part in parts]
    retarget_outputs(trial, names)
    graph.model = trial.model
    return names
