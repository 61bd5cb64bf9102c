"""Acceptance: what counts as lost between a float and an int8 model, and what a result needs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgeannot.vision.data import Detections
from edgeannot_tools.quantize.acceptance import VectorAgreement, check_agreement, compare_boxes, compare_classes, share_interval

T = 0.3


def found(*rows: tuple[float, float, int]) -> Detections:
    """Boxes of 10 x 10 pixels from (x1, score, class)."""
    boxes = np.array([[x, 0, x + 10, 10] for x, _, _ in rows], np.float32).reshape(-1, 4)
    return Detections(boxes, np.array([s for _, s, _ in rows], np.float32), np.array([c for *_, c in rows], np.int64))


def many(score: float, count: int = 40, class_id: int = 0) -> Detections:
    return found(*((20.0 * i, score, class_id) for i in range(count)))


def test_without_pictures_nothing_is_lost_and_the_result_warns():
    agreement = compare_boxes([], T)

    assert (agreement.reference, agreement.sure, agreement.drop) == (0, 0, 0.0)
    assert math.isnan(agreement.mean_iou)
    assert "too few to judge" in check_agreement(agreement, 0.02).warning


def test_pictures_in_which_neither_finds_anything_are_no_loss():
    agreement = compare_boxes([(Detections.empty(), Detections.empty())], T)

    assert (agreement.pictures, agreement.matched, agreement.drop) == (1, 0, 0.0)


def test_the_same_boxes_agree():
    agreement = compare_boxes([(many(0.9), many(0.85))], T)

    assert (agreement.reference, agreement.found, agreement.matched) == (40, 40, 40)
    assert agreement.mean_iou == pytest.approx(1)
    assert agreement.score_shift == pytest.approx(0.05)
    result = check_agreement(agreement, 0.02)
    assert result.accepted
    assert not result.warning


def test_boxes_near_the_threshold_may_come_and_go():
    agreement = compare_boxes([(found((0, 0.9, 0), (50, T + 0.01, 0)), found((0, 0.9, 0), (90, T + 0.02, 0)))], T)

    assert (agreement.matched, agreement.missing, agreement.invented) == (1, 0, 0)


def test_a_sure_box_without_partner_is_lost_or_invented():
    wanted, other = found((0, 0.9, 0), (50, 0.8, 0)), found((0, 0.9, 0), (90, 0.8, 0))

    agreement = compare_boxes([(wanted, other)], T)

    assert (agreement.sure, agreement.missing, agreement.invented) == (4, 1, 1)
    assert agreement.drop == 0.5


def test_another_class_at_the_same_place_is_both():
    agreement = compare_boxes([(found((0, 0.9, 0)), found((0, 0.9, 1)))], T)

    assert (agreement.matched, agreement.missing, agreement.invented) == (0, 1, 1)


def test_a_box_has_one_partner_only():
    """Two int8 boxes on one object: the better placed one is its partner."""
    agreement = compare_boxes([(found((0, 0.9, 0)), found((2, 0.9, 0), (0, 0.8, 0)))], T)

    assert (agreement.matched, agreement.invented) == (1, 1)
    assert agreement.mean_iou == pytest.approx(1)


def test_a_single_changed_box_never_decides():
    wanted = many(0.9, 12)

    assert check_agreement(compare_boxes([(wanted, wanted[:11])], T), 0.02).accepted
    assert not check_agreement(compare_boxes([(wanted, wanted[:9])], T), 0.02).accepted


def test_one_changed_box_of_a_handful_decides_nothing_and_the_verdict_says_so():
    few, wanted = many(0.9, 12), many(0.9, 400)

    unsure = check_agreement(compare_boxes([(few, few[:11])], T), 0.02)
    sure = check_agreement(compare_boxes([(wanted, wanted[:399])], T), 0.02)

    assert (unsure.accepted, sure.accepted) == (True, True)
    assert unsure.certainty.startswith("not sure: with 95 % confidence the loss is 0.005 to ")
    assert sure.certainty.startswith("sure: with 95 % confidence the loss is 0.000 to 0.0")
    assert check_agreement(compare_boxes([(wanted, wanted[:360])], T), 0.02).certainty.startswith("sure: ")


@pytest.mark.parametrize(
    ("share", "total", "low", "high"), [(0.0, 0, 0, 1), (0.0, 100, 0, 0.037), (0.05, 100, 0.022, 0.112), (1.0, 4, 0.51, 1)]
)
def test_the_interval_is_wilson_s(share, total, low, high):
    assert share_interval(share, total) == pytest.approx((low, high), abs=6e-4)


def test_a_model_that_finds_nothing_any_more_is_refused_however_few_the_boxes():
    result = check_agreement(compare_boxes([(found((0, 0.9, 0)), Detections.empty())], T), 0.02)

    assert not result.accepted
    assert result.warning


def test_a_classifier_is_judged_by_the_pictures_on_which_the_float_model_is_sure():
    sure, unsure = found((0, 0.8, 3), (0, 0.1, 5)), found((0, 0.32, 3), (0, 0.3, 5))
    swapped = found((0, 0.32, 5), (0, 0.3, 3))

    result = compare_classes([(sure, sure)] * 20 + [(unsure, swapped)] * 5)

    assert (result.pictures, result.same, result.sure, result.sure_same) == (25, 20, 20, 20)
    assert check_agreement(result, 0.02).accepted
    assert not check_agreement(compare_classes([(sure, sure)] * 18 + [(sure, swapped)] * 2), 0.02).accepted


def test_a_classifier_that_answers_nothing_has_changed_its_class():
    result = compare_classes([(found((0, 0.8, 3)), Detections.empty())])

    assert (result.same, result.sure_same) == (0, 0)
    assert result.score_shift == pytest.approx(0.8)


def test_embeddings_are_judged_by_their_mean_cosine():
    assert check_agreement(VectorAgreement(5, 0.99, 0.97), 0.02).accepted
    assert not check_agreement(VectorAgreement(5, 0.97, 0.9), 0.02).accepted


def test_scores_that_moved_far_are_refused_though_every_box_is_found():
    result = check_agreement(compare_boxes([(many(0.95), many(0.75))], T), 0.02)

    assert not result.accepted
    assert "scores moved by 0.20" in result.reason
