"""What is measured of a model, and what is left out."""

from __future__ import annotations

from dataclasses import replace

from edgeannot.choice.plan import Point, next_point
from edgeannot.probe.measurements import Record
from tests.choice.test_choose import YOLO, facts, sample


def plan(card, speed, budget_ms, thread_counts):
    """The points that are measured, where `speed(size, threads)` is what each takes."""
    record, points = Record(), []
    while (point := next_point(card, record, budget_ms, thread_counts)) is not None:
        assert point not in points, "nothing is measured twice"
        points.append(point)
        record = record.with_sample(sample(point.size, speed(point.size, point.threads), point.threads, closely=point.closely))
    return points


def by_area(size, threads):
    return 10 * (size / 192) ** 2 / threads


def test_a_model_of_one_size_is_measured_at_each_thread_count():
    assert plan(facts("ssd"), by_area, 100, (1, 2)) == [Point(416, 1), Point(416, 2)]


def test_all_sizes_are_measured_where_all_fit_and_threads_only_at_the_largest():
    points = plan(YOLO, by_area, 100, (1, 2, 3))

    assert {p.size for p in points} == {192, 224, 320, 416}
    assert [p.threads for p in points if p.size == 416] == [1, 2, 3]
    assert len(points) == 1 + 3 + 3


def test_sizes_far_beyond_the_budget_are_not_measured():
    assert {p.size for p in plan(YOLO, by_area, 9, (1,))} == {192, 224}


def test_a_size_that_does_not_fit_after_all_leads_to_the_next_smaller():
    """Prediction says that 416 fits with two threads, which do not help it; so the threads are tried at 320, too."""
    points = plan(YOLO, lambda size, threads: 56 if size == 416 else by_area(size, threads), 48, (1, 2))

    assert {p.threads for p in points if p.size == 416} == {1, 2}
    assert {p.threads for p in points if p.size == 320} == {1, 2}


def test_more_threads_are_no_longer_tried_when_they_only_slow_down():
    points = plan(facts("ssd"), lambda size, threads: [40, 25, 26, 27, 28, 29][threads - 1], 100, (1, 2, 3, 4, 5, 6))

    assert [p.threads for p in points] == [1, 2, 3, 4]


def test_what_lies_near_the_budget_is_measured_once_more_and_longer():
    def times(size, threads):
        return {192: 20, 224: 40, 320: 64 if threads == 1 else 44, 416: 90}[size]

    again = [point for point in plan(YOLO, times, 42, (1, 2)) if point.closely]

    assert again == [Point(224, 1, closely=True), Point(320, 2, closely=True)]
    assert not [point for point in plan(YOLO, times, 28, (1, 2)) if point.closely]


def test_what_was_measured_for_long_is_not_measured_again():
    record = Record((sample(416, 99, closely=True),))

    assert next_point(facts("ssd"), record, 100, (1,)) is None


def test_what_failed_for_good_is_not_tried_again_and_what_may_pass_only_below_that_size():
    failed = Record((sample(192, 10),), failure="died of SIGKILL", failed_size=320)

    assert next_point(YOLO, Record(failure="died", lasting=True), 100, (1,)) is None
    assert next_point(YOLO, replace(failed, lasting=True), 100, (1,)) is None
    assert next_point(YOLO, failed, 100, (1,)) == Point(224, 1)
