"""The levels below a model: its smaller inputs first, then other models, each cheaper than the last."""

from dataclasses import replace

from edgeannot.choice.candidates import Accuracy, Candidate, CardFacts
from edgeannot.choice.measurements import Sample
from edgeannot.daemon.idle import levels_below


def facts(name, width=416, sizes=(192, 320, 416), macs=1000):
    return CardFacts(name, name * 8, "detect", "yolo", name, width, width, sizes, len(sizes) > 1, macs, 1, (), ())


def candidate(card, size, ms=None, predicted_ms=None, rejection="", cpu_ms=None):
    cpu_ms = cpu_ms or ms
    sample = ms and Sample(
        size=size, threads=1, ms=ms, p95_ms=ms, stages={}, p95_stages={}, cpu_ms=cpu_ms, peak_bytes=1, runs=5, dtype="int8"
    )
    return Candidate(card, size, 1, sample, predicted_ms, rejection)


def names(levels):
    return [level.name for level in levels]


BIG = facts("big")
SMALL = facts("small", 300, (300,), 300)


def test_a_model_that_nobody_compared_stands_alone():
    assert names(levels_below("other", [])) == ["other"]
    assert names(levels_below("other", [candidate(BIG, 416)])) == ["other"]


def test_without_measurements_the_work_on_paper_orders_them():
    """At 192 px big does 213 of its 1000 operations, so small, with 300, is no step below that; it is below 320 px alone."""
    every = [candidate(BIG, size) for size in (192, 320, 416)] + [candidate(SMALL, 300)]

    assert names(levels_below("big@416", every)) == ["big@416", "big@320", "big@192"]
    assert names(levels_below("big@320", [c for c in every if c.size != 192])) == ["big@320", "small"]


def test_measurements_count_and_predictions_where_there_are_none():
    every = [candidate(BIG, 416, 100.0), candidate(BIG, 320, 60.0), candidate(BIG, 192, None, 25.0), candidate(SMALL, 300, 10.0)]
    levels = levels_below("big@416", every)

    assert names(levels) == ["big@416", "big@320", "big@192", "small"]
    assert [level.cost for level in levels] == [100.0, 60.0, 25.0, 10.0]


def test_others_that_had_the_core_while_one_was_measured_do_not_hide_that_it_is_cheaper():
    every = [candidate(BIG, 416, 11.4, cpu_ms=7.5), candidate(SMALL, 300, 15.4, cpu_ms=5.0)]

    [_, small] = levels_below("big@416", every)

    assert (small.name, round(small.cost, 1)) == ("small", 7.6)


def test_what_was_never_measured_is_estimated_by_its_operations():
    levels = levels_below("big@416", [candidate(BIG, 416, 100.0), candidate(SMALL, 300)])

    assert [(level.name, level.cost) for level in levels] == [("big@416", 100.0), ("small", 30.0)]


def test_a_step_that_would_not_be_felt_is_left_out():
    every = [candidate(BIG, 416, 100.0), candidate(BIG, 320, 95.0), candidate(BIG, 192, 50.0)]

    assert names(levels_below("big@416", every)) == ["big@416", "big@192"]


def test_what_costs_no_less_than_a_more_accurate_one_is_no_rung():
    def measured(name, value):
        return replace(facts(name, 300, (300,)), accuracies=(Accuracy("streets", "mAP50", 300, "int8", value),))

    every = [candidate(measured("top", 0.8), 300, 100.0), candidate(measured("worse", 0.5), 300, 60.0)]
    better = candidate(measured("better", 0.7), 300, 50.0)

    assert names(levels_below("top", every)) == ["top", "worse"]
    assert names(levels_below("top", [*every, better])) == ["top", "better"]


def test_what_cannot_be_used_is_no_rung():
    every = [candidate(BIG, 416, 100.0), candidate(BIG, 320, 60.0, rejection="died of an illegal instruction"), candidate(SMALL, 300, 20.0)]

    assert names(levels_below("big@416", every)) == ["big@416", "small"]


def test_without_operations_and_measurements_a_model_has_only_its_own_sizes():
    unknown = facts("unknown", macs=0)
    every = [candidate(unknown, size) for size in (192, 320, 416)] + [candidate(SMALL, 300)]

    assert names(levels_below("unknown@416", every)) == ["unknown@416", "unknown@320", "unknown@192"]
