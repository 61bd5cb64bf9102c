"""Reads detectors with one candidate a row or column: YOLOv5 to v11, YOLOX, NanoDet-Plus, and the end-to-end ones (v10, 26)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgeannot.card_inference.boxes import (
    BoxFacts,
    Cells,
    JoinedColumns,
    candidate_cells,
    cell_orders,
    decoded_boxes,
    fastestv2_anchors,
    query_boxes,
)
from edgeannot.card_inference.facts import Out, whole_numbers
from edgeannot.card_inference.interpretation import Assumed, Assumption, Convention, Interpretation, Known
from edgeannot.card_inference.scores import BODY_POINTS, activation_of, beside_classes, keypoints_behind, score_activation_of
from edgeannot.tflite.trace import Piece, pieces
from edgeannot.vision.heads.end_to_end import EndToEnd
from edgeannot.vision.heads.yolo_fastestv2 import YoloFastestV2
from edgeannot.vision.heads.yolo_rows import YoloRows

__all__ = ["read_rows"]


@dataclass(frozen=True, slots=True)
class _Table:
    """An output as N candidates of C columns."""

    out: Out
    layout: Literal["rows", "columns"]
    cells: Cells
    columns: int
    numbers: NDArray[np.float32]
    """(pictures, N, C) from the sample run."""


def read_rows(known: Known) -> list[Interpretation]:
    """Interpret one output with the candidates of all strides."""
    tables = [table for out in known.facts.outputs if (table := _table(known, out)) is not None]
    if not tables and len(known.facts.outputs) == 1:
        return _queries(known, known.facts.outputs[0])
    if len(tables) != 1:
        return _second_branch(known, tables)
    table = tables[0]
    made = pieces(known.facts.graph, table.out.tensor.index, table.columns)
    if _has_companion(known, table) and keypoints_behind(table.numbers, cell_orders(known, table.cells)) == (table.columns // 3, 3):
        return []  # keypoints, for boxes in another output
    decoded = decoded_boxes(known, table.numbers[..., :4], table.cells)
    if decoded is None:
        return _undecoded(known, table, made) if table.cells.anchors == 1 and not _has_companion(known, table) else []
    if (picked := _picked_class(known, table, decoded)) is not None:
        return [picked]
    return _decoded(known, table, made, decoded)


def _second_branch(known: Known, tables: list[_Table]) -> list[Interpretation]:
    """Interpret two outputs that are alike: YOLOv9's branch that helps in training, and the one that counts."""
    if not len(tables) == 2 == len(known.facts.outputs):
        return []
    first, second = tables
    boxes = decoded_boxes(known, second.numbers[..., :4], second.cells)
    if first.numbers.shape != second.numbers.shape or boxes is None or decoded_boxes(known, first.numbers[..., :4], first.cells) is None:
        return []
    said = known.hints.extra.get("head.output")
    table = first if said in {first.out.ref, first.out.position} and said is not None else second
    found = _decoded(known, table, pieces(known.facts.graph, table.out.tensor.index, table.columns), boxes)
    assumed = () if said is not None else (Assumption.SECOND_OF_TWO.of(other=first.out.ref),)
    return [replace(one, assumptions=(*one.assumptions, *assumed)) for one in found]


def _has_companion(known: Known, table: _Table) -> bool:
    """Tell whether another output has numbers for the same candidates: then this one holds their scores, or their distances, only."""
    count = table.numbers.shape[1]
    return any(out is not table.out and count in known.run.shape(out.position)[1:3] for out in known.facts.outputs)


def _picked_class(known: Known, table: _Table, boxes: BoxFacts) -> Interpretation | None:
    """Interpret a box, best score and its class id for each candidate: whole numbers beyond 1 are no scores."""
    scores, ids = table.numbers[..., 4], table.numbers[..., -1]
    are_ids = whole_numbers(ids) and 1 < float(ids.max()) < len(ids[0]) and float(ids.min()) >= 0
    if table.layout != "rows" or table.columns != 6 or not are_ids or float(scores.min()) < -0.01 or float(scores.max()) > 1.01:
        return None
    head = EndToEnd(output=table.out.ref, box_units=known.hints.box_units or boxes.units, box_form=boxes.form, suppressed=False)
    evidence = (
        f"{table.out} has a box, a score and a class id for {table.cells}: the last column holds whole numbers to {ids.max():.0f}",
        boxes.evidence,
        "the graph does not suppress overlapping boxes, so that follows",
    )
    return Interpretation(head, Convention.ULTRALYTICS, evidence)


def _queries(known: Known, out: Out) -> list[Interpretation]:
    """Interpret (1, N, 4 + C): box and class scores of a transformer's queries, as RT-DETR writes them."""
    shape = known.run.shape(out.position)
    if len(shape) != 3 or shape[0] != 1 or shape[2] < 5:
        return []
    numbers = known.run.of(out.position)[:, 0]
    facts = query_boxes(known, numbers[..., :4])
    ids = [c for c in range(4, shape[2]) if float(numbers[..., c].max()) > 1 and whole_numbers(numbers[..., c])]
    if facts is None or ids:
        return []
    activation, why = score_activation_of(known, numbers[..., 4:], "", out.step)
    head = YoloRows(
        output=out.ref,
        layout="rows",
        objectness=False,
        box_units=known.hints.box_units or facts.units,
        box_form="xyxy" if facts.form == "xyxy" else "cxcywh",
        activation=activation,
        suppressed=True,
    )
    evidence = (f"{out} has {shape[1]} rows of a box and {shape[2] - 4} class scores", facts.evidence, why)
    return [Interpretation(head, Convention.RT_DETR, evidence, classes=shape[2] - 4)]


def _table(known: Known, out: Out) -> _Table | None:
    numbers = known.run.batched(out.position)
    shape = numbers.shape[1:]
    if len(shape) != 3 or shape[0] != 1:
        return None
    numbers = numbers[:, 0]
    by_rows, by_columns = candidate_cells(known.facts, shape[1]), candidate_cells(known.facts, shape[2])
    if by_rows is not None and (by_columns is None or shape[1] > shape[2]):
        layout: Literal["rows", "columns"] = "rows"
        cells, columns = by_rows, shape[2]
    elif by_columns is not None:
        layout, cells, columns, numbers = "columns", by_columns, shape[1], numbers.transpose(0, 2, 1)
    else:
        return None
    return _Table(out, layout, cells, columns, numbers) if columns >= 5 else None


def _decoded(known: Known, table: _Table, made: list[Piece], boxes: BoxFacts) -> list[Interpretation]:
    orders = cell_orders(known, table.cells)
    beside = beside_classes(known, table.out, table.numbers, orders, made, objectness=table.cells.anchors >= 2)
    last = table.columns - beside.total
    if last < 5:
        return []
    scored = _without_last(made, beside.total)
    objectness, why, assumed = _objectness(known, table, scored, last - 4)
    score_maker = scored[-1].made_by if len(scored) > 1 else ""
    activation, score_why = score_activation_of(known, table.numbers[..., 4:last], score_maker, table.out.step)
    head = YoloRows(
        output=table.out.ref,
        layout=table.layout,
        objectness=objectness,
        box_units=known.hints.box_units or boxes.units,
        box_form="xyxy" if boxes.form == "xyxy" else "cxcywh",
        activation=activation,
        rotated=beside.rotated,
        extra_columns=beside.count,
    )
    evidence = [f"{table.out} has one candidate a {table.layout[:-1]} for {table.cells}", boxes.evidence, why, score_why]
    if beside.why:
        evidence.append(beside.why)
    # YOLOv6 keeps the column of YOLOX's objectness and fills it with ones.
    constant = objectness and float(table.numbers[..., 4].min()) > 0.99
    convention = Convention.YOLOX if objectness and table.cells.anchors == 1 and not constant else Convention.ULTRALYTICS
    classes = last - 4 - int(objectness)
    thing = "person" if beside.points == BODY_POINTS else ""
    return [Interpretation(head, convention, tuple(evidence), classes=classes, thing=thing, assumptions=assumed)]


def _without_last(made: list[Piece], columns: int) -> list[Piece]:
    """Return the pieces without the last columns; of a piece that is cut, what is left."""
    kept = list(made)
    while columns and kept:
        piece = kept.pop()
        if piece.width > columns:
            kept.append(Piece(piece.width - columns, piece.maker))
        columns -= min(columns, piece.width)
    return kept


def _objectness(  # noqa: PLR0911 - one answer a source, the surest first
    known: Known, table: _Table, made: list[Piece], free: int
) -> tuple[bool, str, tuple[Assumed, ...]]:
    """Tell whether the first of `free` numbers is an objectness: by the names, by how the graph joins the columns, by the family."""
    counts = known.class_counts()
    hint = known.hints.extra.get("head.objectness")
    if isinstance(hint, bool):
        return hint, f"{'with' if hint else 'without'} objectness, as given", ()
    if free == 1:
        return False, "one number after the box: its score", ()
    exporter = known.facts.metadata.exporter
    if exporter and exporter.names and len(exporter.names) in {free, free - 1}:
        objectness = len(exporter.names) == free - 1
        with_it = f"{free} score columns {'with' if objectness else 'without'} objectness"
        return objectness, f"{exporter.file} names {len(exporter.names)} classes: {with_it}", ()
    widths = _joined_widths(made)
    if widths[:2] == [4, 1] and len(widths) >= 3:
        return True, f"the graph joins the columns from parts of {widths}: the single one is an objectness", ()
    if table.cells.anchors >= 2:
        return True, f"{table.cells.anchors} anchors a cell: a YOLOv5 or v7 kind, whose fifth number is the objectness", ()
    if len({free, free - 1} & counts) == 1:
        objectness = free - 1 in counts
        why = f"the {len(known.names)} labels fit {free} score columns only {'with' if objectness else 'without'} objectness"
        return objectness, why, ()
    if table.layout == "columns":
        without = Assumption.OBJECTNESS.of(free=free, form="without an", other="true")
        return False, "one candidate a column, as YOLOv8 and later write it: no objectness", (without,)
    if free in {80, 81}:
        form, other = ("with an", "false") if free == 81 else ("without an", "true")
        assumed = Assumption.OBJECTNESS.of(free=free, form=form, other=other)
        return free == 81, f"{free} score columns are the 80 classes of COCO {form} objectness", (assumed,)
    raise known.ambiguous(
        f"{table.out} has {free} numbers after the box, either {free} classes (YOLOv8 kind) "
        f"or objectness and {free - 1} classes (YOLOX kind)",
        ["--labels FILE with the names of the classes", "--set head.objectness=true", "--set head.objectness=false"],
    )


def _joined_widths(made: list[Piece]) -> list[int]:
    """Return widths of the parts of a candidate, with parts of the box added up to four."""
    widths = [piece.width for piece in made]
    while len(widths) > 1 and widths[0] < 4:
        widths[:2] = [widths[0] + widths[1]]
    return widths


def _undecoded(known: Known, table: _Table, made: list[Piece]) -> list[Interpretation]:
    """Interpret YOLOX before its decoder, or distance distributions (NanoDet-Plus, v8 cut early) joined with scores."""
    if (fastest := _fastestv2(known, table, made)) is not None:
        return [fastest]
    candidates = f"{table.out} has one candidate a {table.layout[:-1]} for {table.cells}"
    joined = JoinedColumns(
        outputs=(table.out.ref,),
        strides=table.cells.strides,
        numbers=table.numbers,
        layout="channels-last" if table.layout == "rows" else "channels-first",
        made=made,
        evidence=f"{candidates}; in a sample run its numbers do not follow the cells: not decoded",
    )
    if (found := joined.distances(known)) is not None:
        return [found]
    counts = known.class_counts()
    yolox = _joined_widths(made)[:2] == [4, 1] or not counts or table.columns - 5 in counts
    return [joined.yolox(known)] if yolox else []


def _fastestv2(known: Known, table: _Table, made: list[Piece]) -> Interpretation | None:
    """Interpret YOLO-FastestV2: for each cell 3 x 4 box numbers, 3 objectness, then classes that add up to 1."""
    classes = table.columns - 15
    if table.cells.strides != (16, 32) or classes < 1:
        return None
    tail = table.numbers[..., 15:]
    joined = [piece.width for piece in made] == [12, 3, classes]
    summed = classes > 1 and bool(np.all(np.abs(tail.sum(axis=2) - 1) < 0.05))
    if not (joined or summed):
        return None
    activation, why = activation_of(known, table.numbers[..., 12:15], made[1].made_by if joined else "")
    head = YoloFastestV2(
        outputs=(table.out.ref,),
        strides=table.cells.strides,
        anchors=fastestv2_anchors(known, 3),
        layout="channels-last" if table.layout == "rows" else "channels-first",
        activation=activation,
        class_activation="none" if summed else "softmax",
    )
    evidence = (f"{table.out} has, for {table.cells}, 12 box numbers, 3 objectness and {classes} classes: YOLO-FastestV2", why)
    return Interpretation(head, Convention.FASTESTV2, evidence, classes=classes)
