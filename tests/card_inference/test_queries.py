"""Detectors of the DETR kind: boxes and class scores of queries, in no order."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeannot.base.errors import CardError, ModelError
from edgeannot.card_inference import AmbiguousModelError
from tests.card_inference.made import CELLS, SIZE, STRIDES, Propose, head_of, raw_numbers, scores
from tests.tflite_maker import Maker, cell_table

COUNT = 100


@pytest.mark.parametrize("head", [None, "split"])
def test_queries_without_a_class_are_refused(propose_raw: Propose, head: str | None) -> None:
    with pytest.raises(ModelError, match="without any number"):
        propose_raw(detr(np.zeros((1, COUNT, 0), np.float32)), head=head)


def centres() -> NDArray[np.float32]:
    rng = np.random.default_rng(6)
    return np.concatenate([rng.uniform(0.05, 0.95, (1, COUNT, 2)), rng.uniform(0.02, 0.4, (1, COUNT, 2))], axis=2).astype(np.float32)


def detr(numbers: NDArray[np.float32], *, softmax: bool = False, corners: bool = False, transformer: bool = True) -> bytes:
    maker = Maker()
    x = maker.input((1, SIZE, SIZE, 3))
    if transformer:
        maker.op("BATCH_MATMUL", [maker.constant(np.ones((1, 2, 2))), maker.constant(np.ones((1, 2, 2)))], (1, 2, 2))
    boxes = centres()
    if corners:
        boxes = np.concatenate([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], axis=2)
    logits = maker.stirred(x, numbers, name="logits")
    return maker.outputs(maker.softmax(logits, name="logits") if softmax else logits, maker.stirred(x, boxes, name="boxes"))


def led_by(column: int, columns: int = 4) -> NDArray[np.float32]:
    """Logits of which one column is the greatest for nearly all queries."""
    numbers = raw_numbers(1, COUNT, columns) - 2
    numbers[..., column] += 8
    return numbers


@pytest.mark.parametrize("names", [[], ["a", "b", "c"], ["a", "b", "c", "no object"]])
def test_a_last_column_that_leads_reads_as_detrs_no_object(propose_raw: Propose, names: list[str]) -> None:
    proposal = propose_raw(detr(led_by(3)), names=names)

    assert head_of(proposal) == {
        **head_of(proposal),
        "kind": "split",
        "activation": "softmax",
        "background": 3,
        "box_form": "cxcywh",
        "box_units": "normalized",
        "suppressed": True,
    }
    assert proposal.card.label_names() == tuple(names)
    assert proposal.card.input.resize == "stretch"
    assert any("--set head.background" in assumption for assumption in proposal.assumptions)
    assert any("--set head.box_form=cycxhw" in assumption for assumption in proposal.assumptions)


def test_a_softmax_in_the_graph_is_not_taken_twice(propose_raw: Propose) -> None:
    head = head_of(propose_raw(detr(led_by(3), softmax=True)))

    assert (head["activation"], head["background"]) == ("none", 3)


@pytest.mark.parametrize(("corners", "form"), [(False, "cycxhw"), (True, "yxyx")])
def test_a_first_column_that_leads_reads_as_tensorflows_detr_with_y_first(propose_raw: Propose, corners: bool, form: str) -> None:
    proposal = propose_raw(detr(led_by(0), corners=corners), names=["a", "b", "c"])

    assert (head_of(proposal)["background"], head_of(proposal)["box_form"]) == (0, form)
    assert proposal.card.label_names() == ("background", "a", "b", "c")


def test_labels_one_fewer_than_columns_read_as_a_softmax(propose_raw: Propose) -> None:
    """Where the numbers do not tell; and the user has the last word."""
    raw = detr(3 * raw_numbers(1, COUNT, 4))
    assert (head_of(propose_raw(raw))["activation"], head_of(propose_raw(raw))["background"]) == ("sigmoid", None)
    head = head_of(propose_raw(raw, names=["a", "b", "c"]))
    assert (head["activation"], head["background"]) == ("softmax", 3)
    with pytest.raises(CardError, match=r"4 classes.*3 lines"):
        propose_raw(raw, names=["a", "b", "c"], extra={"head.activation": "sigmoid"})
    assert head_of(propose_raw(raw, extra={"head.activation": "softmax", "head.background": 1}))["background"] == 1


def test_labels_one_fewer_than_columns_are_asked_about_where_sigmoids_are_likelier(propose_raw: Propose) -> None:
    """Deformable DETR: 91 columns for COCO's ids, of which many lists have 90. Nearly no query has a number above 0."""
    raw = detr(raw_numbers(1, COUNT, 4) - 5)
    assert head_of(propose_raw(raw, names=list("abcd")))["activation"] == "sigmoid"

    with pytest.raises(AmbiguousModelError, match=r"4 columns for 3 labels.*--set head\.activation=softmax.*sigmoid"):
        propose_raw(raw, names=list("abc"))
    assert head_of(propose_raw(raw, names=list("abc"), extra={"head.activation": "softmax"}))["background"] == 3


def test_queries_are_known_by_their_lack_of_order_where_no_operator_tells(propose_raw: Propose) -> None:
    """A converter may have written a transformer's products as other operators."""
    head = head_of(propose_raw(detr(led_by(3), transformer=False)))

    assert (head["kind"], head["background"], head["box_form"]) == ("split", 3, "cxcywh")


def test_boxes_behind_a_sigmoid_are_not_taken_for_four_class_scores(propose_raw: Propose) -> None:
    """DETR with three classes has four columns of both, and the sigmoid is the boxes'."""
    maker = Maker()
    x = maker.input((1, SIZE, SIZE, 3))
    maker.op("BATCH_MATMUL", [maker.constant(np.ones((1, 2, 2))), maker.constant(np.ones((1, 2, 2)))], (1, 2, 2))
    boxes = centres()
    outputs = maker.stirred(x, led_by(3), name="one"), maker.logistic(maker.stirred(x, np.log(boxes / (1 - boxes))), name="other")
    head = head_of(propose_raw(maker.outputs(*outputs)))

    assert (head["scores"], head["boxes"], head["background"]) == ("one", "other", 3)


# -- YOLO-NAS and YOLOv9 -------------------------------------------------------------------------------------------------------------


def test_corners_in_pixels_and_probabilities_apart_read_as_yolo_nas(propose_raw: Propose) -> None:
    boxes = cell_table(SIZE, STRIDES)
    corners = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1)
    maker = Maker()
    x = maker.input((1, 3, SIZE, SIZE))
    proposal = propose_raw(maker.outputs(maker.stirred(x, corners[None]), maker.stirred(x, scores(CELLS, 80)[None], 1e-5)))
    head = head_of(proposal)

    assert (head["kind"], head["box_form"], head["box_units"], head["activation"]) == ("split", "xyxy", "pixels", "none")
    assert (proposal.card.input.resize, proposal.card.input.color, proposal.card.input.std) == ("letterbox", "RGB", (255.0,))


def test_the_second_of_two_alike_outputs_is_yolov9s_main_branch(propose_raw: Propose) -> None:
    maker = Maker()
    x = maker.input((1, SIZE, SIZE, 3))
    table = np.concatenate([cell_table(SIZE, STRIDES), scores(CELLS, 5)], axis=1).T[None]
    raw = maker.outputs(maker.stirred(x, table, name="help"), maker.stirred(x, table, name="main"))
    proposal = propose_raw(raw)

    assert (head_of(proposal)["kind"], head_of(proposal)["output"]) == ("yolo-rows", "main")
    assert any("--set head.output=help" in assumption for assumption in proposal.assumptions)
    assert head_of(propose_raw(raw, extra={"head.output": "help"}))["output"] == "help"
