"""What the rule's page says is what its figures say."""

from __future__ import annotations

from benchmarks.rule.page import Figures, Point, page


def point(model, family, common, *ms, numbers="int8", size=300):
    return Point(model, family, numbers, "bundled", size, common, 9, common, dict(zip((1.0, 0.5, 0.25), ms, strict=False)))


def words(*points, **fields):
    figures = Figures(points, ("cat", "dog"), **{"missing": (), "no_quota": "", "machine": "a board", **fields})
    return " ".join(page(figures).split())


FAST_YOLO = point("y", "yolo", 0.25, 8, 16, 35)
GOOD_SSD = point("s", "ssd", 0.4, 18, 40, 90)
GREAT_YOLO = point("z", "yolo", 0.6, 30, 60, 120)


def test_the_rule_holds_where_ssd_leads_at_a_full_core_and_yolo_at_a_quarter():
    said = words(FAST_YOLO, GOOD_SSD)

    assert "So it is here within 50 ms. " in said
    assert "At a full core:** within 10 ms only YOLO fits (0.25); within 20 ms SSD leads (0.40 against 0.25 of YOLO)" in said
    assert "At a quarter of a core:** nothing fits within 20 ms; within 50 ms only YOLO fits (0.25)" in said
    assert "| 50 ms | s@300 int8, 0.40 | s@300 int8, 0.40 | y@300 int8, 0.25 |" in said


def test_the_rule_does_not_hold_where_a_large_yolo_leads_everywhere():
    said = words(FAST_YOLO, GOOD_SSD, GREAT_YOLO)

    assert "So it is here within none of these budgets; the other way round it is within 100 ms" in said
    assert "within 50 ms YOLO leads (0.60 against 0.40 of SSD)" in said
    assert "the largest input of the larger network wins" in said


def test_what_differs_by_chance_only_is_called_alike():
    assert "within 20 ms YOLO and SSD are alike (0.41 and 0.40)" in words(GOOD_SSD, point("y", "yolo", 0.41, 18, 40, 90))


def test_missing_shares_are_said_and_the_rule_is_not_judged():
    said = words(point("y", "yolo", 0.25, 8), no_quota="no control group can be made here")

    assert "Half and quarter cores are missing: no control group can be made here." in said
    assert "**The rule** cannot be judged" in said


def test_what_int8_buys_is_a_ratio_and_a_difference():
    said = words(FAST_YOLO, point("y", "yolo", 0.24, 16, 32, 70, numbers="float32"))

    assert "y@300 2.0 times as fast at +0.01" in said


def test_models_without_files_are_named():
    assert "their files were not at hand: a, b." in words(FAST_YOLO, missing=("a", "b"))


def test_a_third_family_stands_beside_the_two():
    said = words(FAST_YOLO, GOOD_SSD, point("n", "nanodet", 0.31, 12, 24, 50))

    assert "within 50 ms SSD leads (0.40 against 0.31 of NanoDet and 0.25 of YOLO)" in said
    assert "So it is here within none of these budgets. With NanoDet in YOLO's place it is so within 50 ms." in said


def test_the_page_says_from_which_speed_on_a_family_is_the_most_accurate():
    said = words(FAST_YOLO, GOOD_SSD, point("n", "nanodet", 0.31, 12, 24, 50), point("m", "nanodet", 0.41, 30, 60, 120))

    assert "at a full core YOLO from 8 ms on (y@300 int8, 0.25), NanoDet from 12 ms on (n@300 int8, 0.31)" in said
    assert "SSD from 18 ms on (s@300 int8, 0.40); at half a core YOLO from 16 ms on" in said


def test_classes_are_listed_only_where_the_models_know_different_ones():
    alike = words(Point("y", "yolo", "int8", "bundled", 300, 0.25, 2, 0.25, {1.0: 8.0, 0.5: 16.0, 0.25: 35.0}))

    assert "All of them know its 2 classes." in alike
    assert "count only the 2 classes that all of them know (cat, dog)" in words(FAST_YOLO)
