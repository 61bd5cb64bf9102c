"""Score arithmetic: no overflow, and the same answer on stored numbers as on real ones."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgeannot.vision.data import RawTensor
from edgeannot.vision.heads._boxes import candidates, concatenate
from edgeannot.vision.heads._scores import best_columns, logit, passing_rows, sigmoid, softmax, stored_threshold, take_rows
from tests.vision.heads.examples import spec


def test_no_numbers_give_no_scores():
    assert sigmoid(np.zeros(0, np.float32)).shape == (0,)
    assert softmax(np.zeros((0, 3), np.float32)).shape == (0, 3)
    assert passing_rows(np.zeros((0, 3), np.int8), 1).shape == (0,)
    assert passing_rows(np.zeros((4, 0), np.int8), 1).shape == (0,)


def test_sigmoid_reaches_both_ends_without_overflow():
    assert sigmoid(np.array([-1e30, -100, 0, 100, 1e30], np.float32)).tolist() == pytest.approx([0, 0, 0.5, 1, 1], abs=1e-30)


def test_softmax_adds_up_to_one_whatever_the_size_of_the_numbers():
    assert softmax(np.array([[1e8, 1e8, 0], [-1e8, 0, -1e8]], np.float32)).tolist() == [[0.5, 0.5, 0.0], [0.0, 1.0, 0.0]]


@pytest.mark.parametrize("score", [0.001, 0.3, 0.5, 0.97])
def test_logit_is_the_inverse_of_sigmoid(score):
    assert float(sigmoid(np.array([logit(score)], np.float32))[0]) == pytest.approx(score, rel=1e-5)


def test_logit_of_the_ends_lets_all_or_only_certainty_through():
    assert logit(0.0) == -math.inf
    assert float(sigmoid(np.array([logit(1.0)], np.float32))[0]) == 1.0


@pytest.mark.parametrize(
    ("dtype", "scale", "zero_point"), [(np.int8, 0.05, 3), (np.uint8, 0.0392, 128), (np.int16, 0.0003, 0), (np.int8, 2.5, -120)]
)
@pytest.mark.parametrize("minimum", [0.0, 0.01, 0.3, 0.5, 0.75, 1.0])
def test_a_threshold_splits_every_stored_number_as_it_splits_its_score(dtype, scale, zero_point, minimum):
    limits = np.iinfo(dtype)
    stored = np.arange(limits.min, limits.max + 1).astype(dtype)
    tensor = RawTensor(stored, spec(stored.shape, 0, dtype, scale, zero_point))
    exact = (stored.astype(np.float64) - zero_point) * scale
    for activation, scores in (("none", exact), ("sigmoid", 1 / (1 + np.exp(-exact)))):
        if activation == "sigmoid" and minimum == 1.0:
            continue  # float32 has reached 1 before float64 does
        passed = stored >= stored_threshold(tensor, activation, minimum)
        assert passed[scores > minimum + 1e-6].all()
        assert not passed[scores < minimum - 1e-6].any()


def test_a_threshold_of_a_quantized_tensor_is_a_whole_number_so_that_no_tensor_is_converted():
    tensor = RawTensor(np.zeros(1, np.int8), spec((1,), 0, np.int8, 0.1, 0))
    for minimum in (-math.inf, -1e9, 0.3, 1e9, math.inf):
        threshold = tensor.stored_at_least(minimum)
        assert isinstance(threshold, int)
        assert -128 <= threshold <= 128


def test_a_float_tensor_is_compared_with_the_score_itself():
    tensor = RawTensor(np.zeros(1, np.float32), spec((1,)))
    assert stored_threshold(tensor, "none", 0.3) == 0.3


def test_rows_pass_by_their_best_number_and_nan_does_not_pass():
    table = np.array([[0.1, 0.9], [0.1, 0.2], [np.nan, 0.9], [0.5, 0.5]], np.float32)
    assert passing_rows(table, 0.5).tolist() == [0, 3]


def test_of_equal_numbers_the_first_column_is_the_best():
    assert best_columns(np.array([[3, 7, 7], [1, 1, 1]], np.int8)).tolist() == [1, 0]


def test_taken_rows_are_real_numbers_less_the_rows_that_are_not_usable():
    table = np.array([[1, 2], [np.inf, 0], [3, 1e20], [5, 6]], np.float32)
    rows, real = take_rows(table, np.array([0, 1, 2, 3]), spec(table.shape))
    assert rows.tolist() == [0, 3]
    assert real.tolist() == [[1, 2], [5, 6]]


@pytest.mark.parametrize("dtype", [np.int8, np.float32])
@pytest.mark.parametrize("count", [1, 3, 40, 400])
def test_few_and_many_rows_pass_alike(dtype, count):
    table = (np.random.default_rng(count).random((count, 5)) * 100).astype(dtype)

    for columns in (table, table[:, 1:], np.asfortranarray(table)):
        assert passing_rows(columns, 60).tolist() == [row for row, numbers in enumerate(columns.tolist()) if max(numbers) >= 60]


def test_few_and_many_candidates_are_kept_alike():
    rng = np.random.default_rng(1)
    boxes = rng.uniform(0, 100, (200, 4)).astype(np.float32)
    boxes[::7, 2] = np.nan
    boxes[::11, 3] = np.inf
    boxes[::13, 0] = -1e8
    scores = rng.uniform(0, 1.2, 200).astype(np.float32)
    classes = np.arange(200)

    kept = candidates(boxes, scores, classes, 0.3)
    one_by_one = concatenate([candidates(boxes[[i]], scores[[i]], classes[[i]], 0.3) for i in range(200)])

    assert 20 < len(kept) < 60
    assert kept.boxes.tolist() == one_by_one.boxes.tolist()
    assert kept.scores.tolist() == one_by_one.scores.tolist()
    assert kept.classes.tolist() == one_by_one.classes.tolist()
