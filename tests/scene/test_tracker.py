"""The tracker on made scenes whose truth is known, and its parts against exhaustive search and straight lines."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from edgeannot.scene.tracker import Motion, Tracker, assign
from edgeannot.vision.data import Detections

WH = (640, 480)


def detections(*rows):
    """Rows of (box, score)."""
    if not rows:
        return Detections.empty()
    boxes, scores = zip(*rows, strict=True)
    return Detections(np.array(boxes, np.float32), np.array(scores, np.float32), np.zeros(len(rows), np.int64))


def box(x, y, side=40):
    return (x, y, x + side, y + side)


def test_nothing_is_assigned_to_nothing():
    assert assign(np.zeros((0, 3)), 1.0) == []
    assert assign(np.zeros((3, 0)), 1.0) == []


@pytest.mark.parametrize("seed", range(30))
def test_the_assignment_has_the_least_cost_of_all(seed):
    rng = np.random.default_rng(seed)
    rows, columns = int(rng.integers(1, 6)), int(rng.integers(1, 6))
    cost, limit = rng.random((rows, columns)), 0.7
    cost[rng.random(cost.shape) < 0.2] = np.inf

    def total(pairs):
        return sum(cost[pair] for pair in pairs) + limit * (rows - len(pairs))

    best = min(
        total([(r, c) for r, c in enumerate(choice) if c < columns and cost[r, c] < limit])
        for choice in itertools.permutations(range(columns + rows), rows)
    )
    pairs = assign(cost, limit)

    assert total(pairs) == pytest.approx(best)
    assert len({r for r, _ in pairs}) == len({c for _, c in pairs}) == len(pairs)


def test_a_box_in_steady_motion_is_predicted_where_it_will_be():
    motion = Motion.at(np.array(box(0, 0), np.float32))
    for step in range(1, 30):
        motion = motion.after(1).seen(np.array(box(5 * step, 2 * step), np.float32))

    np.testing.assert_allclose(motion.after(3).box, box(5 * 32, 2 * 32), atol=2)
    np.testing.assert_allclose(motion.growing_no_more().box, motion.box)


def test_an_empty_picture_has_no_tracks():
    ids, ended = Tracker(3.0).update(detections(), [], 0.4, 0.0, WH)

    assert len(ids) == 0
    assert ended == []


def test_objects_that_pass_each_other_keep_their_ids():
    tracker = Tracker(3.0)
    for step in range(40):
        found = detections((box(10 * step, 100), 0.9), (box(400 - 10 * step, 112), 0.9))
        ids, _ = tracker.update(found, ["car", "car"], 0.4, step / 10, WH)

        assert ids.tolist() == ([1, 2] if step else [-1, -1])


def test_a_low_score_continues_a_track_and_begins_none():
    tracker = Tracker(3.0)
    for step in range(20):
        score = 0.2 if 5 <= step < 15 else 0.9
        ids, _ = tracker.update(detections((box(4 * step, 50), score), (box(300, 300), 0.2)), ["dog", "dog"], 0.4, step / 5, WH)

        assert ids.tolist() == [1 if step else -1, -1]


def test_an_object_that_is_hidden_for_a_while_keeps_its_id_and_one_that_is_gone_ends():
    tracker = Tracker(patience_s=1.9)
    ended = []
    for step in range(60):
        there = not 10 <= step < 17 and step < 40
        found = detections((box(3 * step, 50), 0.9)) if there else detections()
        _, over = tracker.update(found, ["dog"] * len(found), 0.4, step / 5, WH)
        ended += [(step, track.id) for track in over]

    assert ended == [(49, 1)]
    assert tracker.next_id == 2


def followed(places, hidden):
    """Return the ids of a box of 40 by 120 with its left side at each of these places; in the pictures of `hidden` it is not seen."""
    tracker, ids = Tracker(patience_s=3.0), []
    for step, x in enumerate(places):
        there = detections(((x, 200, x + 40, 320), 0.9)) if step not in hidden else detections()
        ids += tracker.update(there, ["person"] * len(there), 0.4, step / 5, WH)[0].tolist()
    return ids


@pytest.mark.parametrize(
    "places",
    [
        pytest.param([*range(50, 130, 8), *[130] * 10], id="stops"),
        pytest.param([*[200] * 10, *range(208, 288, 8)], id="goes on"),
    ],
)
def test_what_stops_or_goes_on_while_it_is_hidden_keeps_its_id(places):
    """It hardly overlaps where it was expected, and is not far from there."""
    assert followed(places, range(10, 17))[1:] == [1] * (len(places) - 8)


def test_what_comes_where_another_has_left_the_picture_is_another():
    leaves, comes = [*range(480, 610, 10)], [600, 585, 570]

    assert followed([*leaves, *[None] * 6, *comes], range(len(leaves), len(leaves) + 6))[-1] == 2


def test_what_appears_far_from_a_hidden_object_is_another():
    assert followed([*[200] * 10, *[400] * 3], [10])[-1] == 2


def test_what_was_seen_once_is_no_object():
    tracker = Tracker(1.0)
    ended = []
    for step in range(20):
        found = detections((box(50, 50), 0.9)) if step == 3 else detections()
        _, over = tracker.update(found, ["dog"] * len(found), 0.4, step / 5, WH)
        ended += over

    assert ended == []
    assert tracker.tracks == []


@pytest.mark.parametrize(("score", "without_id"), [(0.9, 1), (0.45, 2)])
def test_an_object_that_is_named_differently_keeps_its_id_and_has_the_label_that_was_seen_most(score, without_id):
    """What is seen faintly is an object from the third picture on."""
    tracker = Tracker(3.0)
    for step, label in enumerate(["car", "truck", "car", "car", "truck"]):
        ids, _ = tracker.update(detections((box(4 * step, 50), score)), [label], 0.4, step / 5, WH)

        assert ids.tolist() == [-1 if step < without_id else 1]
    assert tracker.tracks[0].label == "car"


def test_hours_without_a_picture_end_no_track_by_themselves():
    """The motion gate was closed: what stands there still stands there."""
    tracker = Tracker(patience_s=3.0)
    for at_s in (0.0, 0.2, 3600.0, 7200.0):
        ids, ended = tracker.update(detections((box(50, 50), 0.9)), ["car"], 0.4, at_s, WH)

        assert (ids.tolist(), ended) == ([1 if at_s else -1], [])


def test_a_resumed_track_takes_its_object_up_again_or_ends():
    tracker = Tracker(patience_s=1.0, next_id=9)
    tracker.resume(4, "car", np.array(box(50, 50), np.float32))
    tracker.resume(5, "dog", np.array(box(300, 50), np.float32))
    ended = []
    for step in range(10):
        ids, over = tracker.update(detections((box(52, 50), 0.9)), ["car"], 0.4, step / 5, WH)
        ended += over
        assert ids.tolist() == [4]

    assert [(track.id, track.resumed) for track in ended] == [(5, True)]


def test_what_is_seen_once_has_no_id():
    """A false alarm is no object, and a box that fits its object badly gives it no second id for one picture."""
    tracker = Tracker(patience_s=1.0)
    told = [
        tracker.update(detections(*rows), ["dog"] * len(rows), 0.5, number / 5, WH)[0].tolist()
        for number, rows in enumerate([[(box(0, 0), 0.9)], [(box(0, 0), 0.9), (box(300, 0), 0.9)], [(box(0, 0), 0.9)]])
    ]

    assert told == [[-1], [1, -1], [1]]


def test_one_object_under_two_names_in_one_picture_is_one_track():
    """Suppression looks at each label for itself; the better box has the id. Two objects side by side are two."""
    tracker = Tracker(3.0)
    for step in range(10):
        x = 4 * step
        found = detections((box(x, 50), 0.9), (box(x + 3, 52), 0.6), (box(x + 20, 50), 0.7))
        ids, _ = tracker.update(found, ["car", "truck", "dog"], 0.4, step / 5, WH)

        assert ids.tolist() == ([1, -1, 2] if step else [-1, -1, -1])
    assert tracker.next_id == 3


@pytest.mark.parametrize("min_score", [0.2, 0.4, 0.6])
def test_an_object_is_followed_alike_whatever_scores_its_detector_gives(min_score):
    """Boxes of scores just over what is reported, which fit badly: from detector to detector that is another number."""
    tracker = Tracker(3.0)
    for step in range(20):
        found = detections((box(100 + (9 if step % 2 else 0), 50), min_score + 0.05))
        ids, _ = tracker.update(found, ["dog"], min_score, step / 5, WH)

        assert ids.tolist() == [1 if step >= 2 else -1]


def test_a_box_of_another_name_shows_where_a_track_goes_and_neither_begins_nor_keeps_one():
    tracker = Tracker(patience_s=1.0)
    ended = []
    for step in range(30):
        found = detections((box(6 * step, 50), 0.9), (box(500, 300), 0.9))
        ids, over = tracker.update(found, ["bottle" if step < 10 else "vase", "cup"], 0.4, step / 5, WH, wanted=["bottle"])
        ended += [(step, track.box.tolist(), track.label) for track in over]

        assert ids.tolist() == [1 if 1 <= step < 10 else -1, -1]
    assert ended == [(15, list(box(90, 50)), "bottle")]
    assert tracker.next_id == 2
