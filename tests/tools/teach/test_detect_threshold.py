"""The score from which on a taught detector's detections count."""

from __future__ import annotations

import numpy as np
import pytest

from edgeannot.vision.data import Detections
from edgeannot_tools.evaluate.average_precision import Truth
from edgeannot_tools.teach.detect.held_out import best_threshold, small_alone

BOX, ELSEWHERE = (0, 0, 10, 10), (50, 50, 60, 60)
EMPTY = Truth.of([], [])


def one(truth, *found):
    """A picture with detections of one class: (box, score)."""
    return truth, Detections(
        np.float32([box for box, _ in found]).reshape(-1, 4), np.float32([score for _, score in found]), np.zeros(len(found), np.int64)
    )


def seen(score):
    return one(Truth.of([BOX], [0]), (BOX, score))


def test_without_detections_there_is_a_threshold_all_the_same():
    assert 0.05 <= best_threshold([]) <= 0.9
    assert 0.05 <= best_threshold([one(Truth.of([BOX], [0]))]) <= 0.9


def test_it_lies_well_below_the_objects_where_nothing_wrong_is_near():
    assert best_threshold([seen(0.8), seen(0.85), seen(0.9)]) < 0.5


def test_it_lies_between_objects_and_what_is_wrong():
    pairs = [seen(0.8), seen(0.85), seen(0.9), one(EMPTY, (ELSEWHERE, 0.3)), one(EMPTY, (ELSEWHERE, 0.25))]

    assert 0.35 < best_threshold(pairs) < 0.75


def test_more_false_alarms_raise_it():
    few = [seen(0.6), seen(0.8), one(EMPTY, (ELSEWHERE, 0.5))]

    assert best_threshold([*few, *[one(EMPTY, (ELSEWHERE, 0.55))] * 20]) > best_threshold(few)


def test_what_lies_in_a_crowd_counts_neither_way():
    crowd = Truth(np.array([ELSEWHERE], float), np.zeros(1, np.int64), np.array([False]), np.array([True]))
    pairs = [seen(0.7), seen(0.8)]

    assert best_threshold([*pairs, *[one(crowd, (ELSEWHERE, 0.69))] * 9]) == pytest.approx(best_threshold(pairs))


def test_small_objects_are_judged_alone():
    """In a picture of 1,000 pixels those below 50: the large one counts neither found nor missed, nor does what was found in its place."""
    small, large = (0, 0, 40, 40), (100, 100, 400, 400)
    missed, found = one(Truth.of([small, large], [0, 0]), (large, 0.9)), one(Truth.of([small, large], [0, 0]), (small, 0.8), (large, 0.9))
    size = (1000, 700)

    assert small_alone([], []).objects == 0
    assert (small_alone([missed], [size]).objects, small_alone([missed], [size]).map50) == (1, 0)
    assert small_alone([found], [size]).map50 == 1
    assert small_alone([found, one(EMPTY, (large, 0.95))], [size, size]).map50 == 1
