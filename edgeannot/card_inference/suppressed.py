"""Interprets graphs that pick the best boxes themselves: TFLite_Detection_PostProcess, builtin suppression, end-to-end rows."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgeannot.base.errors import ModelError
from edgeannot.card_inference.boxes import candidate_cells, decoded_boxes, units_by_range
from edgeannot.card_inference.facts import POSTPROCESS, Out, whole_numbers
from edgeannot.card_inference.interpretation import Assumed, Assumption, Convention, Interpretation, Known
from edgeannot.card_inference.scores import is_angle
from edgeannot.tflite.flatbuffer import flexbuffer_integer
from edgeannot.tflite.schema import Operator
from edgeannot.tflite.trace import maker
from edgeannot.vision.heads.end_to_end import EndToEnd
from edgeannot.vision.heads.split import Split
from edgeannot.vision.heads.ssd_postprocess import SsdPostprocess

__all__ = ["read_end_to_end", "read_postprocess", "read_suppressed"]

ROLES = ("boxes", "classes", "scores", "count")
"""Order of the operator's own outputs: `detection_postprocess.cc`, kOutputTensorDetectionBoxes and the following."""


def read_postprocess(known: Known) -> list[Interpretation]:
    """Interpret SSD with TFLite_Detection_PostProcess: the operator's own output list says which graph output is which."""
    facts = known.facts
    found = [op for op in facts.graph.operators if op.custom_name == POSTPROCESS]
    if not found:
        return []
    operator = found[-1]
    roles: dict[str, Out] = {}
    for out in facts.outputs:
        if maker(facts.graph, out.tensor.index, through_cuts=False) is operator:
            roles[ROLES[operator.outputs.index(_made_tensor(known, out, operator))]] = out
    if not {"boxes", "classes", "scores"} <= set(roles):
        raise ModelError(
            f"model {facts.path}: the operator {POSTPROCESS} gives boxes, classes and scores, "
            f"but only {', '.join(roles) or 'none of them'} leave the graph ({facts.describe_outputs()}); export it with all of its outputs"
        )
    order = ", ".join(f"{role} = {out.position} {out.tensor.name!r}" for role, out in roles.items())
    classes, why = _class_count(known, operator)
    boxes, labels, scores = (roles[role].ref for role in ROLES[:3])
    head = SsdPostprocess(boxes=boxes, classes=labels, scores=scores, count=roles["count"].ref if "count" in roles else None)
    evidence = (f"the graph ends in {POSTPROCESS}; its own output list says which output is which: {order}", why)
    return [Interpretation(head, Convention.SSD, evidence, classes=classes)]


def _made_tensor(known: Known, out: Out, operator: Operator) -> int:
    """Return the operator's own tensor that an output hands on."""
    index = out.tensor.index
    while index not in operator.outputs:
        step = known.facts.graph.producer(index)
        assert step is not None  # noqa: S101 - maker() has walked the same way and reached the operator
        index = step.inputs[0]
    return index


def _class_count(known: Known, operator: Operator) -> tuple[int | None, str]:
    columns = known.facts.graph.tensors[operator.inputs[1]].shape[-1:]
    stated = flexbuffer_integer(operator.custom_options, "num_classes")
    if stated and columns and columns[0] >= stated:
        background = f", of {columns[0]} columns with {columns[0] - stated} for the background" if columns[0] > stated else ""
        return stated, f"the operator's options say {stated} classes{background}; it counts them from 0"
    if columns and columns[0] > 1:
        return None, f"the operator reads {columns[0]} score columns, the background's perhaps among them"
    return None, "the file does not say how many classes there are"


def read_suppressed(known: Known) -> list[Interpretation]:
    """Interpret boxes (1, N, 4), scores (1, N), classes (1, N) and perhaps a count: the graph picks each candidate's class itself."""
    outputs = known.facts.outputs
    if any(op.custom_name == POSTPROCESS for op in known.facts.graph.operators) or len(outputs) not in {3, 4}:
        return []
    shapes = {out.position: tuple(n for n in known.run.shape(out.position) if n != 1) for out in outputs}
    boxes = [out for out in outputs if shapes[out.position][1:] == (4,)]
    if len(boxes) != 1:
        return []
    rows = shapes[boxes[0].position][0]
    vectors = [out for out in outputs if shapes[out.position] == (rows,)]
    counts = [out for out in outputs if shapes[out.position] == ()]
    whole = [out for out in vectors if _class_ids(known, out)]
    named = [out for out in vectors if any(word in out.tensor.name.lower() for word in ("class", "cls"))]
    classes = whole if len(whole) == 1 else named
    if len(vectors) != 2 or len(vectors) + len(counts) + 1 != len(outputs) or len(classes) != 1:
        return []
    scores = next(out for out in vectors if out is not classes[0])
    says = f"{boxes[0]} holds {rows} boxes, {classes[0]} class ids, {scores} their scores"
    return [_picked(known, boxes[0], scores, classes[0], says, counted=bool(counts))]


def _picked(known: Known, boxes: Out, scores: Out, classes: Out, says: str, *, counted: bool) -> Interpretation:
    """Interpret such outputs: who has suppressed what, and what the box numbers are.

    counted: whether a count of the boxes is among them, as TensorFlow's exporter always writes and PyTorch's people do not.
    """
    numbers = known.run.of(boxes.position).reshape(len(known.run.values), -1, 4)
    names = {op.name for op in known.facts.graph.operators}
    suppressed, picks = any(name.startswith("NON_MAX_SUPPRESSION") for name in names), "TOPK_V2" in names
    cells = candidate_cells(known.facts, numbers.shape[1])
    decoded = decoded_boxes(known, numbers, cells) if cells is not None else None
    assumptions: tuple[Assumed, ...] = ()
    convention = Convention.ULTRALYTICS
    form: Literal["cxcywh", "xyxy", "yxyx"]
    if decoded is not None:
        form, units, why = decoded.form, known.hints.box_units or decoded.units, decoded.evidence
    else:
        units = units_by_range(known, numbers, str(boxes))
        corners = bool(np.mean((numbers[..., 2] >= numbers[..., 0]) & (numbers[..., 3] >= numbers[..., 1])) > 0.95)
        form = "xyxy" if corners else "cxcywh"
        why = f"in a sample run boxes reach {np.abs(numbers).max():.4g}: {units}, {'corners' if corners else 'centre and size'}"
        if corners and picks and not suppressed and counted:
            form, convention = "yxyx", Convention.CENTERNET
            assumptions = (Assumption.Y_FIRST.of(),)
        elif corners:
            assumptions = (Assumption.X_FIRST.of(),)
    head = Split(
        boxes=boxes.ref,
        scores=scores.ref,
        classes=classes.ref,
        box_layout="rows",
        box_units=units,
        box_form=form,
        suppressed=suppressed or (picks and cells is None),
    )
    picked = "the graph has picked the best boxes itself"
    done = picked if head.suppressed else "the graph does not suppress overlapping boxes, so that follows"
    return Interpretation(head, convention, (says, why, done), assumptions=assumptions)


def _class_ids(known: Known, out: Out) -> bool:
    """Tell whether an output holds class ids: integers by type, or whole numbers in a sample run."""
    if out.tensor.dtype != "float32" and not out.tensor.quantized:
        return True
    numbers = known.run.of(out.position)
    return bool(np.all(numbers == np.round(numbers))) and float(numbers.max(initial=0)) >= 1


def read_end_to_end(known: Known) -> list[Interpretation]:
    """Interpret (1, N, 6 or more): a box, score, class id; at most a thousand rows, best first."""
    interpretations = []
    names = {operator.name for operator in known.facts.graph.operators}
    for out in known.facts.outputs:
        numbers = known.run.batched(out.position)
        shape = numbers.shape[1:]
        if len(shape) != 3 or shape[0] != 1 or shape[2] < 6 or shape[1] > 1000 or candidate_cells(known.facts, shape[2]):
            continue
        numbers = numbers[:, 0]
        ids, scores = numbers[..., 5], numbers[..., 4]
        step = out.tensor.scale if out.tensor.quantized else 0.0
        whole = whole_numbers(ids, step)
        sorted_ = bool(np.all(np.diff(scores, axis=1) <= 1e-6 + step))
        exporter = known.facts.metadata.exporter
        said = exporter is not None and bool(exporter.end_to_end or exporter.arguments.get("nms"))
        chosen = bool(names & {"TOPK_V2", "NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5"})
        are_scores = scores.min() >= -1e-3 - step and scores.max() <= 1.001 + step
        in_order = sorted_ and not candidate_cells(known.facts, shape[1])
        if not (whole and ids.min() >= -step and are_scores and (in_order or said or chosen)):
            continue
        form = _row_form(numbers[..., :4], step)
        if form is None:
            continue
        units = _end_to_end_units(known, numbers[..., :4], out)
        obb = exporter is not None and exporter.task == "obb"
        rotated = shape[2] == 7 and form == "cxcywh" and (obb or is_angle(numbers[..., 6], step))
        head = EndToEnd(output=out.ref, box_units=units, box_form=form, rotated=rotated, extra_columns=shape[2] - 6 - int(rotated))
        what = "corners" if form == "xyxy" else "centre and size"
        reach = float(np.abs(numbers[..., :4]).max())
        evidence = [
            f"{out} has {shape[1]} rows of {what}, score and class: scores fall from row to row, class ids are whole numbers",
            f"in a sample run coordinates reach {reach:.4g}, the input is {known.facts.picture.width} wide: {units}",
        ]
        if said and exporter:
            evidence.append(f"{exporter.file} says that it is end-to-end")
        if rotated:
            evidence.append("the last number of a row is an angle: the upright boxes around the rotated ones are given")
        elif shape[2] > 6:
            evidence.append(f"the last {shape[2] - 6} numbers of a row (masks or keypoints) are not used")
        classes = len(exporter.names) if exporter and exporter.names else None
        assumptions = (Assumption.X_FIRST.of(),) if form == "xyxy" and exporter is None else ()
        interpretations.append(Interpretation(head, Convention.ULTRALYTICS, tuple(evidence), classes=classes, assumptions=assumptions))
    return interpretations


def _row_form(boxes: NDArray[np.float32], step: float) -> Literal["xyxy", "cxcywh"] | None:
    """Return what the numbers of rows that are used may be; corners where none are used. Which of x and y comes first, they do not tell."""
    used = boxes[np.abs(boxes).max(axis=-1) > step]
    if not len(used) or np.mean((used[:, 2] >= used[:, 0] - step) & (used[:, 3] >= used[:, 1] - step)) > 0.95:
        return "xyxy"
    return "cxcywh" if np.mean((used[:, 2:] > 0).all(axis=1) & (used[:, :2] >= -step).all(axis=1)) > 0.95 else None


def _end_to_end_units(known: Known, boxes: NDArray[np.float32], out: Out) -> Literal["normalized", "pixels"]:
    """By range; where the sample run found nothing, by what the exporter is known to write."""
    if known.facts.metadata.exporter is not None and not known.hints.box_units and not boxes.any():
        # Ultralytics' older way to TFLite (onnx2tf, NHWC) divides by the input size, the newer one (litert-torch, NCHW) does not.
        return "normalized" if known.facts.picture.layout == "NHWC" else "pixels"
    return units_by_range(known, boxes, str(out))
