"""How sure an accuracy is: sets drawn from the pictures give an interval."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgeannot.vision.data import Detections
from edgeannot_tools.evaluate.average_precision import IOU_THRESHOLDS, Truth, evaluate_detections
from edgeannot_tools.evaluate.bootstrap import bootstrap_maps, margin

BOX = (10.0, 10.0, 60.0, 60.0)


def found(*rows):
    """rows: (box, class, score)."""
    boxes = np.array([box for box, _, _ in rows], np.float32).reshape(-1, 4)
    return Detections(boxes, np.array([s for _, _, s in rows], np.float32), np.array([c for _, c, _ in rows], np.int64))


def random_pairs(count, seed=1):
    """Pictures with some objects of three classes, found more or less well, among false alarms, crowds and difficult ones."""
    rng, pairs = np.random.default_rng(seed), []
    for _ in range(count):
        corners = rng.uniform(0, 200, (rng.integers(0, 5), 2))
        boxes = np.concatenate([corners, corners + rng.uniform(20, 90, corners.shape)], axis=1)
        classes = rng.integers(0, 3, len(boxes))
        truth = Truth(boxes, classes, rng.random(len(boxes)) < 0.1, rng.random(len(boxes)) < 0.1)
        rows = [(b + rng.normal(0, 8, 4), c, rng.random()) for b, c in zip(boxes, classes, strict=True) if rng.random() < 0.8]
        rows += [(np.array([5, 5, 50, 50]) + rng.uniform(0, 99), int(rng.integers(0, 4)), rng.random()) for _ in range(3)]
        pairs.append((truth, found(*rows)))
    return pairs


@pytest.mark.parametrize("pairs", [[], [(Truth.of([], []), found())]])
def test_without_any_object_nothing_is_known(pairs):
    drawn = bootstrap_maps(pairs, draws=3)

    assert drawn.shape == (3, len(IOU_THRESHOLDS))
    assert math.isnan(margin(drawn[:, 0]))


def test_pictures_that_are_all_alike_leave_no_doubt():
    pairs = [(Truth.of([BOX], [0]), found((BOX, 0, 0.9)))] * 5

    assert bootstrap_maps(pairs, draws=4).tolist() == [[1.0] * 10] * 4
    assert margin(bootstrap_maps(pairs)[:, 0]) == 0


def test_each_draw_is_what_the_evaluation_says_of_the_pictures_drawn():
    pairs = random_pairs(12)
    drawn = bootstrap_maps(pairs, draws=5, seed=3)

    rng = np.random.default_rng(3)
    for row in drawn:
        chosen = [pairs[i] for i in rng.integers(0, len(pairs), len(pairs))]
        one = evaluate_detections(chosen)
        assert row[0] == pytest.approx(one.map50)
        assert row.mean() == pytest.approx(one.map50_95)


def test_four_times_the_pictures_halve_the_margin():
    few, many = (margin(bootstrap_maps(random_pairs(count), (0.5,))[:, 0]) for count in (40, 160))

    assert many == pytest.approx(few / 2, rel=0.3)
