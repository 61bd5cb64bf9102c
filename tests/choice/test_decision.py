"""The choice of a model: only cards that can do what is asked; the prior without measurements, budget and accuracy with them."""

from dataclasses import replace
from pathlib import Path

import pytest

from edgeannot.base.errors import ConfigError
from edgeannot.choice.candidates import Accuracy, CardFacts, Requirements, best_sample, predict_ms
from edgeannot.choice.decision import BUDGET_MS, budget_of, decide
from edgeannot.choice.measurements import Conditions, Measurements, Record, Sample
from edgeannot.choice.selection import Evaluation
from edgeannot.payload import Origin, decode, encode, info_payload
from edgeannot.vision.data import ModelFacts

COCO = "COCO, 50 pictures"
HERE = Conditions("x86_64 board", "0-1", None, "", "litert 2.3.0")


def facts(name, family="yolo", *, labels=("person",), sizes=(), task="detect", network=None, maps=(), dataset=COCO, file_bytes=1 << 20):
    """maps: (size, int8 mAP50)."""
    return CardFacts(
        name=name,
        sha256=f"sha of {name}",
        task=task,
        family=family,
        network=network or name,
        width=416,
        height=416,
        sizes=sizes or (416,),
        named_sizes=bool(sizes),
        macs=0,
        file_bytes=file_bytes,
        file_time_ns=7,
        labels=labels,
        accuracies=tuple(Accuracy(dataset, "mAP50", size, "int8", value) for size, value in maps),
    )


def sample(size, ms, threads=1, **fields):
    values = {
        "p95_ms": ms,
        "stages": {"decode": 0.0},
        "p95_stages": {},
        "cpu_ms": ms,
        "peak_bytes": 100 << 20,
        "runs": 9,
        "dtype": "int8",
    }
    return Sample(size=size, threads=threads, ms=ms, **{**values, **fields})


def measured(card, *samples, **fields):
    return {card.key: Record(samples, **fields)}


def requirements(profile="mid", ms=None, **fields):
    return Requirements(profile, budget_of(profile, ms, None), **fields)


YOLO = facts("yolo", labels=("person", "dog"), sizes=(192, 224, 320, 416), maps=((192, 0.30), (224, 0.36), (320, 0.46), (416, 0.51)))
SSD = facts("ssd", "ssd", labels=("person", "mug"))
YOLO_TIMES = [sample(192, 10), sample(224, 14), sample(320, 28), sample(416, 47)]


def evaluation(decision, conditions=HERE):
    return Evaluation(decision, Measurements(Path("none.json"), conditions))


def explanation(decision, name):
    return next(c.explanation for c in decision.candidates if c.name == name)


def test_no_model_at_all_is_an_error_that_says_how_to_add_one():
    with pytest.raises(ConfigError, match="edgeannot models add"):
        decide([], requirements(), {})


@pytest.mark.parametrize(("profile", "name"), [("low", "nanodet@224"), ("mid", "ssd"), ("high", "ssd")])
def test_without_measurements_a_weak_board_gets_a_small_nanodet_and_all_others_the_ssd(profile, name):
    decision = decide([SSD, replace(YOLO, name="nanodet", family="nanodet"), YOLO], requirements(profile), {})

    assert decision.winner.name == name
    assert not decision.measured
    assert "nothing was measured" in decision.reasons


@pytest.mark.parametrize(("profile", "name"), [("low", "yolo@224"), ("mid", "yolo@320"), ("high", "yolo@416")])
def test_without_measurements_the_input_is_as_large_as_the_profile_takes(profile, name):
    decision = decide([YOLO], requirements(profile), {})

    assert decision.winner.name == name
    assert any("the largest offered up to" in reason for reason in decision.reasons)


def test_without_measurements_a_larger_input_that_is_no_more_accurate_is_not_taken():
    card = facts("ssd", "ssd", sizes=(236, 300, 364), maps=((236, 0.76), (300, 0.851), (364, 0.855)))
    decision = decide([card], requirements("high"), {})

    assert decision.winner.name == "ssd@300"
    assert "input 300 px: larger ones up to 416 px for this profile are no more accurate by the card" in decision.reasons
    assert decide([replace(card, accuracies=())], requirements("high"), {}).winner.name == "ssd@364"


@pytest.mark.parametrize("sizes", [(640,), (500, 640)])
def test_without_measurements_the_smallest_input_is_taken_where_all_are_larger_than_the_profile_takes(sizes):
    assert decide([facts("big", sizes=sizes)], requirements("low"), {}).winner.size == sizes[0]


def test_labels_that_only_one_model_knows_decide():
    assert decide([SSD, YOLO], requirements("low", labels=("mug",)), {}).winner.name == "ssd"


def test_labels_that_no_model_knows_are_an_error():
    with pytest.raises(ConfigError, match="zebra"):
        decide([SSD, YOLO], requirements("low", labels=("zebra",)), {})


def test_the_task_is_respected():
    assert decide([YOLO, facts("net", "mobilenet", task="classify")], requirements(task="classify"), {}).winner.name == "net"


def test_a_card_without_its_label_file_is_no_obstacle_where_no_label_is_asked_for():
    assert decide([YOLO, facts("zlost", labels=None)], requirements("low"), {}).winner.name == "yolo@224"


@pytest.mark.parametrize(
    ("max_ms", "min_fps", "ms"), [(None, None, BUDGET_MS["mid"]), (30, None, 30), (None, 50, 20), (30, 50, 20), (10, 50, 10)]
)
def test_the_budget_is_the_stricter_of_what_was_asked_for(max_ms, min_fps, ms):
    assert budget_of("mid", max_ms, min_fps).ms == ms


@pytest.mark.parametrize(("ms", "name"), [(100, "yolo@416"), (47, "yolo@416"), (46, "yolo@320"), (20, "yolo@224"), (10, "yolo@192")])
def test_the_most_accurate_that_fits_the_budget_wins(ms, name):
    decision = decide([YOLO], requirements(ms=ms), measured(YOLO, *YOLO_TIMES))

    assert decision.winner.name == name
    assert decision.measured


def test_the_fastest_wins_when_none_fits():
    decision = decide([YOLO, SSD], requirements(ms=5), measured(YOLO, *YOLO_TIMES) | measured(SSD, sample(416, 8)))

    assert decision.winner.name == "ssd"
    assert "none takes at most 5 ms" in decision.reasons[0]
    assert explanation(decision, "yolo@192") == "slower"


def test_a_card_that_fails_says_nothing_of_another_card_of_the_same_file():
    mine = replace(facts("mine"), sha256=YOLO.sha256)
    found = decide([mine, YOLO], requirements(), {mine.key: Record(failure="its head has no such output", lasting=True)})

    assert found.winner.facts is YOLO


def test_what_was_added_does_not_take_a_bundled_models_place_by_its_name():
    mine = facts("aaa", maps=((416, 0.68),), dataset="streets")
    bundled = replace(facts("yolo", maps=((416, 0.51),)), bundled=True)
    unmeasured = decide([mine, bundled], requirements(), {})
    timed = decide([mine, bundled], requirements(), {**measured(mine, sample(416, 20)), **measured(bundled, sample(416, 40))})

    assert (unmeasured.winner.name, timed.winner.name) == ("yolo", "yolo")
    assert timed.winner.explanation.startswith("the most accurate of what can be compared that takes at most")
    assert timed.candidates[1].explanation.startswith(
        "fits, but yolo comes first (bundled), and their accuracies were not measured on the same"
    )


def test_an_added_model_that_is_known_to_be_more_accurate_takes_the_place():
    mine = facts("mine", maps=((416, 0.68),))
    bundled = replace(facts("yolo", maps=((416, 0.51),)), bundled=True)

    assert (
        decide([mine, bundled], requirements(), {**measured(mine, sample(416, 40)), **measured(bundled, sample(416, 20))}).winner.name
        == "mine"
    )


def test_of_equally_fast_ones_that_do_not_fit_the_prior_decides():
    records = measured(YOLO, sample(192, 9.8)) | measured(SSD, sample(416, 10))

    assert decide([YOLO, SSD], requirements(ms=5), records).winner.name == "ssd"


@pytest.mark.parametrize(("profile", "name"), [("low", "nanodet@416"), ("high", "ssd")])
def test_accuracies_of_different_sets_are_not_compared_and_the_prior_stands(profile, name):
    other = facts("ssd", "ssd", maps=((416, 0.9),), dataset="another set")
    nanodet = replace(YOLO, name="nanodet", family="nanodet")
    records = measured(nanodet, *YOLO_TIMES) | measured(other, sample(416, 20))
    decision = decide([nanodet, other], requirements(profile, 100), records)

    assert decision.winner.name == name
    loser = "ssd" if name != "ssd" else "nanodet@416"
    assert "not measured on the same pictures" in explanation(decision, loser)


def test_a_family_that_is_slower_and_less_accurate_on_the_same_pictures_loses_its_turn():
    ssd = facts("ssd", "ssd", maps=((416, 0.2),))
    decision = decide([YOLO, ssd], requirements("high", 100), measured(YOLO, *YOLO_TIMES) | measured(ssd, sample(416, 60)))

    assert decision.winner.name == "yolo@416"
    assert decision.reasons[1:] == (
        "ssd would come first, but ssd is slower and less accurate (0.20 against 0.51 mAP50 on COCO, 50 pictures)",
    )
    assert explanation(decision, "ssd") == "slower and less accurate"


def test_of_equally_accurate_ones_the_faster_wins():
    ssd = facts("ssd", "ssd", maps=((416, 0.505),))

    assert decide([YOLO, ssd], requirements("low", 100), measured(YOLO, *YOLO_TIMES) | measured(ssd, sample(416, 20))).winner.name == "ssd"


def test_a_model_of_other_labels_is_taken_only_where_they_are_asked_for():
    faces = facts("a-faces", "ssd", labels=("face",))
    records = measured(YOLO, *YOLO_TIMES) | measured(faces, sample(416, 1))

    for times in ({}, records):
        decision = decide([faces, YOLO], requirements("high", 5), times)
        assert decision.winner.name.startswith("yolo")
        assert "taken only by its name" in explanation(decision, "a-faces")
    assert decide([faces, YOLO], requirements("high", 100, labels=("face",)), records).winner.name == "a-faces"


def test_of_one_family_what_was_measured_on_labelled_pictures_comes_first():
    assert decide([facts("a"), facts("b", maps=((416, 0.4),))], requirements("low"), {}).winner.name == "b"


def test_a_small_difference_between_two_networks_is_none():
    """They were measured on fifty pictures: the profile's first family stays, unless it is slower."""
    ssd = facts("ssd", "ssd", maps=((416, 0.475),))

    assert decide([YOLO, ssd], requirements("high", 200), measured(YOLO, *YOLO_TIMES) | measured(ssd, sample(416, 10))).winner.name == "ssd"


def test_three_that_beat_each_other_in_a_ring_come_to_an_end():
    """Closeness is not transitive: a is clearly better than c, but b is as good as both."""
    cards = [facts("a", maps=((416, 0.515),)), facts("b", maps=((416, 0.509),)), facts("c", maps=((416, 0.503),))]
    times = [sample(416, 30), sample(416, 20), sample(416, 10)]
    records = {card.key: Record((time,)) for card, time in zip(cards, times, strict=True)}

    assert decide(cards, requirements(ms=100), records).winner.name in {"a", "b", "c"}


def test_what_another_dominates_is_not_taken_though_each_step_to_it_is_an_improvement():
    """b is as accurate as a, and faster; c is more accurate than b, its smaller input; but a dominates c."""
    a, b = facts("a", "ssd", maps=((416, 0.64),)), facts("b", "nanodet", sizes=(320, 416), maps=((320, 0.60), (416, 0.62)))
    decision = decide([a, b], requirements(ms=100), measured(a, sample(416, 25)) | measured(b, sample(320, 20), sample(416, 30)))

    assert decision.winner.name == "b@320"


def test_what_another_dominates_by_little_is_not_taken_for_its_family():
    a, b = facts("a", "ssd", maps=((416, 0.60),)), facts("b", "nanodet", maps=((416, 0.61),))
    records = measured(a, sample(416, 10.1)) | measured(b, sample(416, 10))

    for ms in (100, 5):  # within the budget, and where none is
        assert decide([a, b], requirements("mid", ms), records).winner.name == "b"


def test_what_the_next_better_one_costs_is_said():
    slow = decide([YOLO], requirements(ms=20), measured(YOLO, *YOLO_TIMES[:3]))
    best = decide([YOLO], requirements(ms=100), measured(YOLO, *YOLO_TIMES))

    assert "better:    yolo@320, .460: 28 ms, 140% of the budget" in evaluation(slow).table()
    assert explanation(slow, "yolo@320") == "more accurate, but over the budget"
    assert explanation(slow, "yolo@416") == "more accurate, but over the budget, by its size"
    assert best.next_better is None
    assert evaluation(best).as_dict()["better"] == "no other one is known to be more accurate"


def test_the_table_goes_from_the_quickest_to_the_slowest_and_the_winner_without_a_time_comes_first():
    def names(decision):
        return [line[3:].split()[0] for line in evaluation(decision).table().partition("MODEL")[2].splitlines()[1:]]

    timed = decide([YOLO, SSD], requirements(ms=30), measured(YOLO, *YOLO_TIMES) | measured(SSD, sample(416, 20)))

    assert names(timed) == ["yolo@192", "yolo@224", "ssd", "yolo@320", "yolo@416"]
    assert names(decide([YOLO, SSD], requirements("mid"), {})) == ["ssd", "yolo@192", "yolo@224", "yolo@320", "yolo@416"]


def test_a_margin_is_shown_with_its_accuracy_and_the_data_set_once():
    rows = (Accuracy(COCO, "mAP50", 416, "int8", 0.512, 0.083), Accuracy(COCO, "mAP50", 320, "int8", 0.46))
    table = evaluation(decide([replace(YOLO, sizes=(320, 416), accuracies=rows)], requirements(), {})).table()

    assert ".512 ±.08" in table
    assert table.count("mAP50 on COCO") == 1


def test_float_and_int8_files_of_one_network_stand_for_one_another_and_the_faster_wins():
    """int8 can be the slower one on some runtimes."""
    int8, real = facts("net", sizes=(320,)), facts("net-f32", sizes=(320,), network="net")
    slow_int8 = measured(int8, sample(320, 50)) | measured(real, sample(320, 30, dtype="float32"))
    fast_int8 = measured(int8, sample(320, 20)) | measured(real, sample(320, 30, dtype="float32"))

    assert decide([int8, real], requirements(ms=100), slow_int8).winner.name == "net-f32@320"
    assert decide([int8, real], requirements(ms=100), fast_int8).winner.name == "net@320"


def test_the_accuracy_is_that_of_the_numbers_the_file_calculates_with():
    card = replace(YOLO, accuracies=(Accuracy(COCO, "mAP50", 416, "float32", 0.9), *YOLO.accuracies))
    (one,) = [c for c in decide([card], requirements(ms=100), measured(card, *YOLO_TIMES)).candidates if c.size == 416]
    (unmeasured,) = [c for c in decide([card], requirements(ms=100), {}).candidates if c.size == 416]

    assert one.accuracy.value == 0.51
    assert unmeasured.accuracy.value == 0.51


def test_a_variant_without_accuracies_has_those_of_its_network_for_its_own_numbers():
    card = replace(YOLO, accuracies=(*YOLO.accuracies, Accuracy(COCO, "mAP50", 416, "float32", 0.55)))
    twin = facts("yolo-f32", sizes=(416,), network="yolo")
    decision = decide([card, twin], requirements(ms=100), measured(card, *YOLO_TIMES) | measured(twin, sample(416, 90, dtype="float32")))

    assert decision.winner.name == "yolo-f32@416"
    assert decision.winner.accuracy.value == 0.55


def test_the_retained_info_message_carries_the_candidates():
    choice = evaluation(decide([YOLO, SSD], requirements(ms=30), measured(YOLO, *YOLO_TIMES))).as_dict()
    model = ModelFacts("yolo@320", "0" * 64, "yolo", "mid")
    info = decode(encode(info_payload(Origin("porch", "b"), "1", model, ("why",), {}, choice)))

    assert [c["model"] for c in info["choice"]["candidates"] if c["won"]] == ["yolo@320"]
    assert "choice" not in info_payload(Origin("porch", "b"), "1", model, ("why",), {})


def test_the_best_thread_count_is_taken_and_the_smaller_of_equal_ones():
    times = [sample(320, 60, 1), sample(320, 34, 2), sample(320, 33.5, 3), sample(320, 50, 4)]

    assert best_sample(times, 320, (1, 2, 3, 4)).threads == 2
    assert best_sample(times, 320, (4,)).threads == 4
    assert best_sample([], 320, (1,)) is None


def test_a_model_that_died_is_out_and_the_others_are_chosen_from():
    dead = {YOLO.key: Record(failure="died of an illegal instruction", failed_size=192, lasting=True)}
    decision = decide([YOLO, SSD], requirements(), dead | measured(SSD, sample(416, 20)))

    assert decision.winner.name == "ssd"
    assert explanation(decision, "yolo@416") == "died of an illegal instruction"


def test_what_was_measured_before_a_death_still_counts():
    records = measured(YOLO, sample(192, 10), failure="died of SIGKILL", failed_size=320)
    decision = decide([YOLO], requirements(), records)

    assert decision.winner.name == "yolo@192"
    assert explanation(decision, "yolo@416") == "died of SIGKILL"
    assert explanation(decision, "yolo@224").startswith("not measured")


def test_models_that_all_died_for_good_are_an_error_with_the_reasons():
    with pytest.raises(ConfigError, match="no model runs here: yolo died of an illegal instruction"):
        decide([YOLO], requirements(), {YOLO.key: Record(failure="died of an illegal instruction", lasting=True)})


def test_a_failure_that_may_pass_leaves_a_model_to_run():
    assert decide([YOLO], requirements(), {YOLO.key: Record(failure="gave no figures within 40 s")}).winner.facts is YOLO


def test_a_model_that_needs_more_memory_than_there_is_is_out():
    big = facts("big", file_bytes=400 << 20)
    decision = decide([big, SSD], requirements(memory_bytes=512 << 20), {})

    assert decision.winner.name == "ssd"
    assert "MB of memory" in explanation(decision, "big")


def test_where_memory_is_too_short_for_all_the_one_that_needs_least_is_taken():
    big = facts("big", file_bytes=400 << 20)

    assert decide([big, SSD], requirements(memory_bytes=64 << 20), {}).winner.name == "ssd"


def test_prediction_is_linear_in_the_area_of_the_input():
    decode = {"stages": {"decode": 2.0}}

    assert predict_ms(YOLO, [], 416, (1,)) is None
    assert predict_ms(YOLO, [sample(192, 12, **decode)], 384, (1,)) == pytest.approx(2 + 10 * 4)
    two = [sample(192, 10), sample(416, 47)]
    assert predict_ms(YOLO, two, 320, (1,)) == pytest.approx(10 + 37 * (320**2 - 192**2) / (416**2 - 192**2))


def test_the_table_and_the_json_show_every_candidate_with_figures_and_words():
    decision = decide([YOLO, SSD], requirements(ms=30), measured(YOLO, *YOLO_TIMES))
    table, value = evaluation(decision).table(), evaluation(decision).as_dict()

    assert [line.split()[1] for line in table.splitlines() if line.startswith(">")] == ["yolo@320"]
    assert all(
        name in table for name in ("yolo@192", "yolo@416", "ssd", "30 ms a picture (max_ms), of which it takes 28 ms", "litert 2.3.0")
    )
    assert "  93%  " in next(line for line in table.splitlines() if line.startswith(">"))
    assert [c["model"] for c in value["candidates"] if c["won"]] == ["yolo@320"]
    assert len(value["candidates"]) == 5
    assert all(c["why"] for c in value["candidates"])
    assert next(c for c in value["candidates"] if c["model"] == "ssd")["ms"] is None


def test_a_model_whose_file_is_missing_is_not_taken():
    gone = facts("a", file_bytes=0)
    decision = decide([gone, YOLO], requirements(), {})

    assert decision.winner.facts is YOLO
    assert "missing" in next(c.explanation for c in decision.candidates if c.facts == gone)
    with pytest.raises(ConfigError, match="no model runs here: a its model file is missing"):
        decide([gone], requirements(), {})


def test_a_busy_board_is_said():
    decision = decide([YOLO], requirements(), measured(YOLO, sample(192, 20, wait_share=0.5)))

    assert "CPU contention up to 50%" in evaluation(decision).table()
    assert "CPU contention" not in evaluation(decision, replace(HERE, quota=0.25)).table()
