"""What is measured of a model, and what is left out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeannot.choice.measure_plan import Point, in_measuring_order, next_point, points_to_compare
from edgeannot.choice.measurements import Record
from tests.choice.test_decision import SSD, YOLO, facts, requirements, sample


def plan(card, speed, budget_ms, thread_counts, others=()):
    """The points that are measured, where `speed(size, threads)` is what each takes. others: (card, record) of other models."""
    record, points = Record(), []
    while (point := next_point(card, record, requirements(ms=budget_ms, thread_counts=thread_counts), others)) is not None:
        assert point not in points, "nothing is measured twice"
        points.append(point)
        record = record.with_sample(sample(point.size, speed(point.size, point.threads), point.threads))
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
    assert {p.size for p in plan(YOLO, by_area, 10.5, (1,))} == {192, 224}


def test_a_size_that_does_not_fit_after_all_leads_to_the_next_smaller():
    """Prediction says that 416 fits with two threads, which do not help it; so the threads are tried at 320, too."""
    points = plan(YOLO, lambda size, threads: 56 if size == 416 else by_area(size, threads), 48, (1, 2))

    assert {p.threads for p in points if p.size == 416} == {1, 2}
    assert {p.threads for p in points if p.size == 320} == {1, 2}


def test_more_threads_are_no_longer_tried_when_they_only_slow_down():
    points = plan(facts("ssd"), lambda size, threads: [40, 25, 26, 27, 28, 29][threads - 1], 100, (1, 2, 3, 4, 5, 6))

    assert [p.threads for p in points] == [1, 2, 3, 4]


def test_a_larger_input_that_is_no_more_accurate_by_the_card_is_not_measured():
    card = facts("ssd", "ssd", sizes=(236, 300, 364), maps=((236, 0.76), (300, 0.851), (364, 0.855)))

    assert {p.size for p in plan(card, by_area, 1000, (1, 2))} == {236, 300}
    assert {p.size for p in plan(replace(card, accuracies=()), by_area, 1000, (1, 2))} == {236, 300, 364}


BETTER = facts("better", "ssd", maps=((416, 0.8),))


def test_of_a_model_that_another_beats_which_surely_fits_one_point_is_measured_with_its_threads():
    assert plan(YOLO, by_area, 100, (1, 2), [(BETTER, Record((sample(416, 70, 2),)))]) == [Point(192, 2)]


@pytest.mark.parametrize("record", [Record(), Record((sample(416, 80, 2),)), Record(failure="died", failed_size=416, lasting=True)])
def test_one_that_died_or_may_not_fit_leaves_another_model_nothing_less_to_measure(record):
    """A short measurement may be a third below the truth."""
    assert plan(YOLO, by_area, 100, (1, 2), [(BETTER, record)]) == plan(YOLO, by_area, 100, (1, 2))


def test_of_a_model_only_the_sizes_are_measured_that_may_be_as_accurate_as_one_that_fits():
    like = facts("like", "ssd", maps=((416, 0.44),))

    assert {p.size for p in plan(YOLO, by_area, 100, (1,), [(like, Record((sample(416, 20),)))])} == {320, 416}


def test_the_most_accurate_model_is_measured_first_and_others_in_the_order_given():
    other = facts("other", maps=((416, 0.9),), dataset="another set")

    assert in_measuring_order([]) == []
    assert in_measuring_order([YOLO, SSD, other, BETTER]) == [BETTER, YOLO, SSD, other]


def close(cards, ms, *records, **fields):
    """Names and threads of what is measured once more, where these are the figures."""
    known = {card.key: record for card, record in zip(cards, records, strict=True)}
    counts = fields.pop("thread_counts", (1, 2))
    wanted = requirements(ms=ms, thread_counts=counts, **fields)
    return [(card.name_at(p.size), p.threads) for card, p in points_to_compare(cards, wanted, known)]


LIKE = facts("like", "ssd", maps=((416, 0.44),))  # as accurate as YOLO@320
ONE_SIZE = facts("yolo", maps=((416, 0.46),))


def test_nothing_is_close_where_nothing_was_measured_or_nothing_can_run():
    assert close([], 100) == []
    assert close([YOLO], 100, Record()) == []
    assert close([YOLO], 100, Record(failure="died", lasting=True)) == []


def test_two_that_are_as_accurate_are_close_where_the_slower_may_be_the_faster():
    assert close([ONE_SIZE, LIKE], 100, Record((sample(416, 20),)), Record((sample(416, 26),))) == [("yolo", 1), ("like", 1)]
    assert close([ONE_SIZE, LIKE], 100, Record((sample(416, 20),)), Record((sample(416, 28),))) == []


def test_one_that_is_less_accurate_is_not_close_however_fast():
    worse = facts("worse", "ssd", maps=((416, 0.30),))

    assert close([ONE_SIZE, worse], 100, Record((sample(416, 20),)), Record((sample(416, 20),))) == []


def test_the_winner_is_doubted_where_it_just_fits_and_a_better_one_where_it_just_does_not():
    def at(budget_ms):
        return close([YOLO], budget_ms, Record((sample(192, 10), sample(224, 20), sample(320, 40), sample(416, 80))))

    assert at(24) == [("yolo@224", 1)]
    assert at(28) == []
    assert at(30) == [("yolo@224", 1), ("yolo@320", 1)]
    assert at(109) == []


def test_where_none_fits_the_fastest_and_what_is_about_as_fast_are_close():
    assert close([YOLO], 5, Record((sample(192, 10), sample(224, 13), sample(320, 40)))) == [("yolo@192", 1), ("yolo@224", 1)]


def test_thread_counts_that_are_about_as_fast_are_close():
    threads = Record((sample(416, 40, 1), sample(416, 26, 2), sample(416, 22, 3), sample(416, 23, 4)))

    assert close([ONE_SIZE], 100, threads, thread_counts=(1, 2, 3, 4)) == [("yolo", 3), ("yolo", 2), ("yolo", 4)]
    assert close([ONE_SIZE], 100, threads, thread_counts=(1, 2)) == []


def test_what_was_measured_closely_is_not_doubted_but_compared_with_what_was_not():
    first, second = (Record((sample(416, ms, thorough=True),)) for ms in (20, 21))

    assert close([ONE_SIZE, LIKE], 21, first, second) == []
    assert close([ONE_SIZE, LIKE], 100, first, Record((sample(416, 21),))) == [("yolo", 1), ("like", 1)]


def test_a_winner_far_over_the_budget_is_not_measured_again():
    assert close([ONE_SIZE], 100, Record((sample(416, 130),))) == [("yolo", 1)]
    assert close([ONE_SIZE], 100, Record((sample(416, 5000),))) == []


@pytest.mark.parametrize(("ms", "count"), [(20, 8), (1000, 7), (2000, 3), (5000, 0)])
def test_no_comparison_is_begun_that_would_take_too_long(ms, count):
    cards = [facts(f"m{i}", maps=((416, 0.40),)) for i in range(12)]

    assert len(close(cards, 10_000, *[Record((sample(416, ms + i),)) for i in range(12)])) == count


def test_no_comparison_is_begun_that_would_not_be_done_in_time():
    records = {card.key: Record((sample(416, 20),)) for card in (ONE_SIZE, LIKE)}

    assert len(points_to_compare([ONE_SIZE, LIKE], requirements(ms=100), records, left_s=8)) == 2
    assert points_to_compare([ONE_SIZE, LIKE], requirements(ms=100), records, left_s=4) == []


def test_no_more_are_side_by_side_than_the_memory_holds():
    records = [Record((sample(416, ms, peak_bytes=100 << 20),)) for ms in (20, 21)]

    assert close([ONE_SIZE, LIKE], 100, *records, memory_bytes=200 << 20) == []
    assert close([ONE_SIZE, LIKE], 100, *records, memory_bytes=300 << 20) == [("yolo", 1), ("like", 1)]


def test_what_failed_for_good_is_not_tried_again_and_what_may_pass_only_below_that_size():
    failed = Record((sample(192, 10),), failure="died of SIGKILL", failed_size=320)

    assert next_point(YOLO, Record(failure="died", lasting=True), requirements(ms=100)) is None
    assert next_point(YOLO, replace(failed, lasting=True), requirements(ms=100)) is None
    assert next_point(YOLO, failed, requirements(ms=100)) == Point(224, 1)
