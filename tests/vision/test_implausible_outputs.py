"""What a model gave for one picture: not finite, or sure of everything; and what looks alike but is all right."""

from __future__ import annotations

import numpy as np
import pytest

from edgeannot.base.errors import OutputError
from edgeannot.vision.data import Outputs, RawTensor, TensorSpec
from edgeannot.vision.heads.classify import Classify
from edgeannot.vision.heads.end_to_end import EndToEnd
from edgeannot.vision.heads.yolo_rows import YoloRows
from edgeannot.vision.pipeline import refuse_certainty, refuse_not_finite

WH = (64, 64)
ROWS = YoloRows(output=0, layout="rows", objectness=False, box_units="pixels")
END = EndToEnd(output=0, box_units="pixels")


def outputs_of(*arrays, scale=0.0):
    specs = [TensorSpec(f"out{i}", i, array.shape, array.dtype, scale, 0) for i, array in enumerate(arrays)]
    return Outputs([RawTensor(array, spec) for array, spec in zip(arrays, specs, strict=True)])


def rows(scores):
    """A table of boxes in pixels with one class each."""
    boxes = np.tile(np.float32([20, 20, 10, 10]), (len(scores), 1))
    return np.concatenate([boxes, np.float32(scores)[:, None]], axis=1)[None]


def look(head, outputs, min_score=0.3):
    refuse_not_finite(outputs, head)
    found = head.decode(outputs, WH, min_score)
    refuse_certainty(found, head, outputs, WH)
    return found


def test_nothing_found_is_plausible():
    assert len(look(ROWS, outputs_of(rows([0.0] * 40)))) == 0
    assert len(look(ROWS, outputs_of(np.zeros((1, 0, 5), np.float32)))) == 0


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_no_number_is_implausible(number):
    with pytest.raises(OutputError, match="1 of 200 scores that are not finite"):
        look(ROWS, outputs_of(rows([0.1] * 39 + [number])))


def test_an_output_that_holds_no_scores_may_be_anything():
    masks = np.full((1, 8, 8, 4), np.nan, np.float32)

    assert len(look(ROWS, outputs_of(rows([0.5] * 40), masks))) == 40


def test_finite_numbers_whose_sum_is_not_are_plausible():
    huge = np.full((1, 8), 3e38, np.float32)

    refuse_not_finite(outputs_of(huge), Classify(output=0))


def test_whole_numbers_are_plausible():
    refuse_not_finite(outputs_of(np.full((1, 4), 255, np.uint8), scale=1 / 256), Classify(output=0))


def test_to_be_sure_of_an_object_at_every_place_is_implausible():
    with pytest.raises(OutputError, match="at each of the 40 places"):
        look(ROWS, outputs_of(rows([1.0] * 20 + [0.996] * 20)))


def test_many_objects_of_which_it_is_sure_are_plausible_where_one_place_has_none():
    assert len(look(ROWS, outputs_of(rows([1.0] * 39 + [0.1])))) == 39


def test_a_head_with_few_places_may_be_sure_of_them_all():
    assert len(look(ROWS, outputs_of(rows([1.0] * 4)))) == 4
    assert len(look(Classify(output=0), outputs_of(np.float32([[1.0]])))) == 1


def test_rows_that_the_graph_left_empty_are_no_places():
    """Twenty objects of which it is sure, and 280 rows that it did not fill."""
    table = np.zeros((1, 300, 6), np.float32)
    table[0, :20] = [5, 5, 20, 20, 0.999, 1]

    assert len(look(END, outputs_of(table))) == 20
    table[0] = [5, 5, 20, 20, 1.0, 1]
    with pytest.raises(OutputError, match="each of the 300 places"):
        look(END, outputs_of(table))
