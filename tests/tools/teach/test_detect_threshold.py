"""The scores of a taught detector: made alike between bands and classes, and from which on detections count."""

from __future__ import annotations

import numpy as np
import pytest

from edgeannot.vision.data import Detections
from edgeannot_tools.evaluate.average_precision import Truth
from edgeannot_tools.teach.detect.bands import Band
from edgeannot_tools.teach.detect.calibration import Judged, best_threshold, calibrated
from edgeannot_tools.teach.detect.fit import Layer
from edgeannot_tools.teach.detect.held_out import small_alone

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


def test_objects_with_low_scores_are_found_where_little_else_is_so_high():
    """As with few examples of small objects: their scores spread far down, and only a few wrong ones are among them."""
    rng = np.random.default_rng(0)
    objects, other = 1 / (1 + np.exp(-rng.normal(-1.4, 0.9, 60))), 1 / (1 + np.exp(-rng.normal(-3.2, 0.5, 400)))
    threshold = best_threshold([*map(seen, objects), *(one(EMPTY, (ELSEWHERE, score)) for score in other)])

    assert (objects >= threshold).mean() > 0.7
    assert (other >= threshold).sum() < 12


def test_faint_mistakes_do_not_bend_it_where_it_lies():
    """A picture of background has hundreds of them; how sure the middle is, the middle says."""
    rng = np.random.default_rng(0)
    middle = np.sort(rng.uniform(0.1, 0.9, 200))
    right = rng.random(200) < np.where(middle < 0.5, 0.1, 0.9)  # from .5 on it pays, and hardly below
    pairs = [seen(score) if is_right else one(EMPTY, (ELSEWHERE, score)) for score, is_right in zip(middle, right, strict=True)]
    faint = one(EMPTY, *[(ELSEWHERE, 0.03)] * 3000)

    assert best_threshold([*pairs, faint]) == pytest.approx(best_threshold(pairs), abs=0.015)


def judged(*groups):
    """Detections: groups of (band, class, mean of the objectness logits, share that is right around it, how many)."""
    rng, columns = np.random.default_rng(1), []
    for band, kind, middle, share, count in groups:
        logits = rng.normal(middle, 1.5, count)
        right = rng.random(count) < share / (share + (1 - share) * np.exp(-2 * (logits - middle)))
        columns.append((logits, np.full(count, 3.0), np.full(count, band), np.full(count, kind), np.zeros(count, int), right))
    return Judged(*map(np.concatenate, zip(*columns, strict=True)))


def layers_of(bands, classes):
    return [
        Layer(Band(band, 0.0, np.inf, (10.0, 10.0)), np.ones((4, 5 + classes), np.float32), np.zeros(5 + classes)) for band in range(bands)
    ]


def objectness(layer, logit):
    """What the layer gives where the uncalibrated one, of ones, gives this."""
    return layer.weights[0, 4] * logit + layer.bias[4]


@pytest.mark.parametrize(("bands", "classes"), [(1, 1), (2, 1), (2, 3)])
def test_without_detections_the_layers_stay(bands, classes):
    before = layers_of(bands, classes)
    nothing = Judged(*(np.zeros(0), np.zeros(0), *[np.zeros(0, int)] * 3, np.zeros(0, bool)))

    for old, new in zip(before, calibrated(before, nothing), strict=True):
        assert new.weights == pytest.approx(old.weights)
        assert new.bias == pytest.approx(old.bias)


def test_a_score_means_the_same_in_every_band():
    """Half of what has a logit of 0 is right in the first band, of -2 in the second."""
    first, second = calibrated(layers_of(2, 1), judged((0, 0, 0.0, 0.5, 600), (1, 0, -2.0, 0.5, 600)))

    assert objectness(first, 0.0) == pytest.approx(objectness(second, -2.0), abs=0.4)
    assert objectness(first, 0.0) < -0.5  # the middle of both stays: scores are not driven apart
    assert (first.weights[:, :4] == 1).all()  # boxes stay


def test_a_class_that_is_wrong_more_often_gets_lower_scores():
    (layer,) = calibrated(layers_of(1, 2), judged((0, 0, 0.0, 0.6, 600), (0, 1, 0.0, 0.1, 600)))

    assert layer.bias[6] < layer.bias[5] - 0.5


def test_a_few_detections_of_a_band_do_not_move_it_far():
    few = judged((0, 0, 0.0, 0.5, 600), (1, 0, 0.0, 0.5, 3))
    first, second = calibrated(layers_of(2, 1), few)

    assert objectness(second, 0.0) == pytest.approx(objectness(first, 0.0), abs=1.0)


def test_small_objects_are_judged_alone():
    """In a picture of 1,000 pixels those below 50: the large one counts neither found nor missed, nor does what was found in its place."""
    small, large = (0, 0, 40, 40), (100, 100, 400, 400)
    missed, found = one(Truth.of([small, large], [0, 0]), (large, 0.9)), one(Truth.of([small, large], [0, 0]), (small, 0.8), (large, 0.9))
    size = (1000, 700)

    assert small_alone([], []).objects == 0
    assert (small_alone([missed], [size]).objects, small_alone([missed], [size]).map50) == (1, 0)
    assert small_alone([found], [size]).map50 == 1
    assert small_alone([found, one(EMPTY, (large, 0.95))], [size, size]).map50 == 1
