"""From settings to the model that runs: when it measures, what it remembers, and that the usual way stays light."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from edgeannot.base.errors import ConfigError, ModelError
from edgeannot.base.places import model_folders
from edgeannot.choice import selection
from edgeannot.choice.auto_profile import Micro, grade, micro_of
from edgeannot.choice.candidates import read_card_index
from edgeannot.choice.decision import decide, in_prior_order
from edgeannot.choice.measure_plan import Point, in_measuring_order, next_point
from edgeannot.choice.measurements import Measurements, Record, conditions_of, thread_counts
from edgeannot.choice.selection import evaluate, explain_selection, measuring_at_start, requirements_of, select_model
from edgeannot.probe import Board, Cluster, Limits, Processor, read_board
from edgeannot.settings import load_settings
from tests.choice.test_decision import sample
from tests.e2e.daemons import edgeannot
from tests.patience import DEADLINE_S

BOARD = Board(machine="aarch64", processor=Processor(clusters=(Cluster("Cortex-A72", (0, 1, 2, 3)),)), limits=Limits(cpus=(0, 1, 2, 3)))


def settings(tmp_path, profile="mid", **values):
    return load_settings({"data_dir": str(tmp_path), **values}, grade=lambda: (profile, "as the test says"))


def start(loaded, *, remeasure=False, **options):
    """Select as the daemon's start does."""
    return select_model(loaded, measuring_at_start(loaded, remeasure=remeasure), **options)


def measure_again(loaded, *, remeasure=False, **options):
    """Select as the daemon does when idle."""
    return select_model(loaded, "again" if remeasure else "noisy", **options)


def remember(tmp_path, times_ms, board=BOARD, threads=1, **fields):
    """Write measurements as if they had been taken: model name -> {size: ms}."""
    known = Measurements.load(tmp_path / "cache" / "measurements.json", conditions_of(board))
    index = {card.name: card for card in read_card_index(model_folders(tmp_path), tmp_path / "cache" / "models.json")}
    for name, times in times_ms.items():
        known.records[index[name].key] = Record(tuple(sample(size, ms, threads, **fields) for size, ms in times.items()))
    known.save({card.key for card in index.values()})


YOLO_TIMES = {192: 30.0, 224: 40.0, 256: 50.0, 320: 80.0, 416: 130.0}
NANODET_TIMES = {192: 35.0, 224: 45.0, 256: 60.0, 320: 90.0, 416: 140.0}
SSDLITE_TIMES = {236: 45.0, 300: 70.0, 364: 100.0}
ALL_TIMES = {
    "yolov3-tiny": YOLO_TIMES,
    "nanodet-g": NANODET_TIMES,
    "ssdlite-mobilenet-v2-coco": SSDLITE_TIMES,
}


@pytest.fixture
def never_measures(monkeypatch):
    """Starting a child is a failure of the test."""
    monkeypatch.setattr("edgeannot.choice.measure.measure_models", lambda *a, **k: pytest.fail("it measures"))


@pytest.mark.parametrize(
    ("limits", "threads", "counts"),
    [
        (Limits(cpus=(0, 1, 2, 3)), None, (1, 2, 3)),
        (Limits(cpus=(2,)), None, (1,)),
        (Limits(), None, (1, 2, 3)),
        (Limits(cpus=(0, 1, 2, 3), quota_cores=0.25), None, (1,)),
        (Limits(cpus=(0, 1, 2, 3), quota_cores=1.5), None, (1, 2)),
        (Limits(cpus=(0, 1, 2, 3)), 4, (4,)),
    ],
)
def test_thread_counts_follow_cores_quota_and_the_setting(limits, threads, counts):
    assert thread_counts(replace(BOARD, limits=limits), threads, 3) == counts


def test_a_board_of_which_nothing_is_known_gets_one_thread():
    assert thread_counts(Board(), None, 4) == (1,)


@pytest.mark.usefixtures("never_measures")
def test_without_a_budget_and_without_memory_the_profile_decides_and_nothing_is_measured(tmp_path):
    choice = start(settings(tmp_path), board=BOARD)

    assert choice.card.name == "ssdlite-mobilenet-v2-coco@300"
    assert choice.threads == 3
    assert not choice.evaluation.decision.measured
    assert not choice.pinned


@pytest.mark.usefixtures("never_measures")
def test_without_a_budget_what_is_remembered_decides(tmp_path):
    remember(tmp_path, ALL_TIMES, threads=2)
    choice = start(settings(tmp_path), board=BOARD)

    assert (choice.card.name, choice.threads) == ("ssdlite-mobilenet-v2-coco@300", 2)
    assert choice.threads_for("yolov3-tiny@192") == 2
    assert choice.threads_for("nonsense") == 2
    assert json.dumps(choice.as_dict())


@pytest.mark.usefixtures("never_measures")
def test_a_model_that_is_set_is_taken_as_it_is_and_never_measured(tmp_path):
    loaded = settings(tmp_path, model="yolov3-tiny@192", max_ms=1.0)

    for choice in (start(loaded, remeasure=True, board=BOARD), measure_again(loaded, board=BOARD)):
        assert (choice.card.name, choice.pinned, choice.as_dict()) == ("yolov3-tiny@192", True, None)
    assert "the model is set to yolov3-tiny@192" in explain_selection(loaded, board=BOARD)


def test_a_model_that_is_set_and_is_not_there_or_does_something_else_is_an_error(tmp_path):
    with pytest.raises(ModelError, match="nonsense"):
        start(settings(tmp_path, model="nonsense"), board=BOARD)
    with pytest.raises(ConfigError, match="set one of them only"):
        start(settings(tmp_path, model="yolov3-tiny", task="classify"), board=BOARD)


@pytest.mark.parametrize(
    ("call", "values", "measured"),
    [
        (start, {}, False),
        (start, {"max_ms": 90.0}, True),
        (start, {"min_fps": 10.0}, True),
        (lambda loaded, **k: start(loaded, remeasure=True, **k), {}, True),
        (measure_again, {}, True),
    ],
)
def test_it_measures_where_a_budget_or_the_user_asks_for_it(tmp_path, monkeypatch, call, values, measured):
    calls = []

    def fake(cards, folders, known, requirements, **options):
        calls.append(requirements.budget.ms)
        known.records.update({card.key: Record((sample(card.sizes[0], 42.0),)) for card in cards})
        options["progress"]("measured")

    monkeypatch.setattr("edgeannot.choice.measure.measure_models", fake)
    choice = call(settings(tmp_path, **values), board=BOARD)

    assert bool(calls) == measured
    assert choice.evaluation.decision.measured == measured
    again = Measurements.load(tmp_path / "cache" / "measurements.json", conditions_of(BOARD))
    assert bool(again.records) == measured, "what was measured is remembered"


def test_what_was_measured_on_a_busy_board_is_measured_again_at_rest_only(tmp_path, monkeypatch):
    remember(tmp_path, ALL_TIMES, wait_share=0.6)
    seen = []
    monkeypatch.setattr(
        "edgeannot.choice.measure.measure_models", lambda cards, f, known, *a, **k: seen.append(known.record(cards[0].key).samples)
    )
    start(settings(tmp_path, max_ms=90.0), board=BOARD)
    measure_again(settings(tmp_path), board=BOARD)

    assert [len(samples) for samples in seen] == [len(SSDLITE_TIMES), 0]


def test_a_disturbed_figure_that_nobody_wants_any_more_does_not_keep_the_doubt(tmp_path, monkeypatch):
    """Else each start would go by the prior, hold the pictures, measure nothing and switch."""
    remember(tmp_path, ALL_TIMES)
    known = Measurements.load(tmp_path / "cache" / "measurements.json", conditions_of(BOARD))
    key = next(iter(known.records))
    known.records[key] = known.records[key].with_sample(replace(known.records[key].samples[0], threads=2, wait_share=0.6, thorough=True))
    known.save()
    monkeypatch.setattr("edgeannot.choice.measure.measure_models", lambda *_, **__: None)
    assert start(settings(tmp_path, threads=1), board=BOARD).evaluation.noisy
    measure_again(settings(tmp_path, threads=1), board=BOARD)

    assert not start(settings(tmp_path, threads=1), board=BOARD).evaluation.noisy


@pytest.mark.usefixtures("never_measures")
def test_at_the_start_what_was_measured_on_a_busy_board_does_not_go_over_the_prior(tmp_path):
    remember(tmp_path, {"yolov3-tiny": {192: 150.0, 320: 900.0}}, wait_share=0.6)
    found = start(settings(tmp_path), board=BOARD).evaluation

    assert (found.decision.winner.name, found.decision.measured, found.noisy) == ("ssdlite-mobilenet-v2-coco@300", False, True)


@pytest.mark.usefixtures("never_measures")
def test_figures_of_models_that_do_not_come_into_question_are_no_ground_for_doubt(tmp_path):
    """Nobody would measure them again, and each start would hold the sources for nothing."""
    remember(tmp_path, {"efficientnet-lite0": {224: 9.0}}, wait_share=0.6)
    remember(tmp_path, ALL_TIMES)

    assert not start(settings(tmp_path), board=BOARD).evaluation.noisy


def test_a_micro_benchmark_that_ran_nothing_is_no_grade_and_not_remembered(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("edgeannot.choice.measure.measure_micro", lambda *_, **__: Micro(0.0, 0.0, 1, 0.1))

    assert micro_of(BOARD, tmp_path, measuring="missing") is None
    assert "graded by its facts" in caplog.text
    assert Measurements.load(tmp_path / "cache" / "measurements.json", conditions_of(BOARD)).micro == {}


def test_the_micro_benchmark_leaves_what_another_process_measured_meanwhile(tmp_path, monkeypatch):
    def measured_meanwhile(*_, **__):
        remember(tmp_path, ALL_TIMES)
        return Micro(9.0, 3.0, 1, 1.0)

    monkeypatch.setattr("edgeannot.choice.measure.measure_micro", measured_meanwhile)
    micro_of(BOARD, tmp_path, measuring="missing")

    assert len(Measurements.load(tmp_path / "cache" / "measurements.json", conditions_of(BOARD)).records) == len(ALL_TIMES)


@pytest.mark.usefixtures("never_measures")
def test_measurements_under_another_quota_do_not_count(tmp_path):
    remember(tmp_path, ALL_TIMES)
    squeezed = replace(BOARD, limits=replace(BOARD.limits, quota_cores=0.25))

    assert start(settings(tmp_path), board=BOARD).evaluation.decision.measured
    assert not start(settings(tmp_path), board=squeezed).evaluation.decision.measured


TIMES = {
    "yolov3-tiny": {192: 0.22, 224: 0.29, 256: 0.39, 320: 0.60, 416: 1.0},
    "nanodet-g": {192: 0.18, 224: 0.24, 256: 0.32, 320: 0.50, 416: 0.85},
    "ssdlite-mobilenet-v2-coco": {236: 0.32, 300: 0.50, 364: 0.72},
}
"""Invoke times in parts of YOLOv3-tiny's at 416 pixels, measured side by side, one thread of an x86; 192 and 256 by the input's area."""


@pytest.mark.usefixtures("never_measures")
@pytest.mark.parametrize(
    ("profile", "name"), [("low", "nanodet-g@224"), ("mid", "ssdlite-mobilenet-v2-coco@300"), ("high", "ssdlite-mobilenet-v2-coco@300")]
)
def test_the_bundled_model_of_a_profile_is_accurate_for_its_time(tmp_path, profile, name):
    """Without measurements: mAP50 on VOC by the card, and the time."""
    winner = start(settings(tmp_path, profile), board=BOARD).evaluation.decision.winner

    assert winner.name == name
    assert winner.accuracy.dataset.startswith("Pascal VOC")
    assert winner.accuracy.value >= (0.62 if profile == "low" else 0.70)
    assert TIMES[winner.facts.name][winner.size] <= 0.55


@pytest.mark.usefixtures("never_measures")
@pytest.mark.parametrize("whole_ms", [40, 100, 200, 400, 800, 1600, 6400])
@pytest.mark.parametrize("profile", ["low", "mid", "high"])
def test_at_no_speed_is_a_bundled_model_taken_that_another_beats_in_time_and_accuracy(tmp_path, profile, whole_ms):
    """whole_ms: what YOLOv3-tiny takes at 416 pixels."""
    remember(tmp_path, {name: {size: part * whole_ms for size, part in times.items()} for name, times in TIMES.items()})
    decision = evaluate(requirements_of(settings(tmp_path, profile), BOARD), tmp_path, BOARD).decision
    winner = decision.winner

    assert decision.measured
    assert not [c.name for c in decision.candidates if c.sample and c.ms < winner.ms and c.accuracy.value > winner.accuracy.value]


ZERO = Board(
    machine="aarch64",
    processor=Processor(clusters=(Cluster("Cortex-A53", (0, 1, 2, 3), out_of_order=False),), int8=("neon",)),
    limits=Limits(cpus=(0, 1, 2, 3)),
    memory_total_bytes=430 << 20,
)
"""A Raspberry Pi Zero 2 W."""


@pytest.mark.usefixtures("never_measures")
@pytest.mark.parametrize("whole_ms", [1200, 1600, 2000])
def test_a_board_like_a_pi_zero_has_a_model_that_is_useful_within_its_budget(tmp_path, whole_ms):
    """Before anything is measured, on one core; and with measurements. whole_ms: what YOLOv3-tiny takes at 416 pixels with one thread:
    2.8 giga-operations of multiplication and addition at 1.4 to 2.3 a second.
    """
    loaded = settings(tmp_path, grade(ZERO).profile)
    first = start(loaded, board=ZERO).evaluation.decision
    remember(tmp_path, {name: {size: part * whole_ms for size, part in times.items()} for name, times in TIMES.items()}, ZERO)
    measured = start(loaded, board=ZERO).evaluation.decision

    assert (loaded.profile, first.budget.ms) == ("low", 500)
    assert TIMES[first.winner.facts.name][first.winner.size] * whole_ms <= first.budget.ms
    assert first.winner.accuracy.value >= 0.62
    assert measured.winner.ms <= measured.budget.ms
    assert measured.winner.accuracy.value >= first.winner.accuracy.value
    assert not [c.name for c in (first.winner, measured.winner) if c.rejection], "each fits into the memory"


@pytest.mark.usefixtures("never_measures")
def test_a_board_that_is_slower_than_any_budget_has_the_quickest_model(tmp_path):
    """A Raspberry Pi Zero W: one core of 2003's design."""
    one_core = replace(ZERO, processor=Processor(clusters=(Cluster("ARM1176", (0,)),)), limits=Limits(cpus=(0,)))
    remember(tmp_path, {name: {size: part * 8000 for size, part in times.items()} for name, times in TIMES.items()}, one_core)
    decision = start(settings(tmp_path, grade(one_core).profile), board=one_core).evaluation.decision

    assert decision.winner.name == "nanodet-g@192"
    assert "none takes at most 500 ms" in decision.reasons[0]


def simulate(cards, required, whole_ms, next_of):
    """Measure as the plan says on a board where YOLOv3-tiny takes `whole_ms` at 416 pixels; return the records."""
    records = {card.key: Record() for card in cards}
    for card in cards:
        while (point := next_of(card, records)) is not None:
            ms = 5 + TIMES[card.name][point.size] * whole_ms / (1 + 0.7 * (point.threads - 1))
            records[card.key] = records[card.key].with_sample(sample(point.size, ms, point.threads))
    return records


@pytest.mark.parametrize("whole_ms", [40, 100, 200, 400, 800, 1600, 6400])
@pytest.mark.parametrize("profile", ["low", "mid", "high"])
def test_what_is_not_measured_would_not_change_the_choice_of_a_bundled_model(tmp_path, profile, whole_ms):
    index = read_card_index(model_folders(tmp_path), tmp_path / "models.json")
    required = replace(requirements_of(settings(tmp_path, profile), BOARD), thread_counts=(1, 2))
    cards = in_measuring_order(in_prior_order(index, required))

    def next_of(card, records):
        return next_point(card, records[card.key], required, [(other, records[other.key]) for other in cards if other is not card])

    def next_of_all(card, records):
        done = {(s.size, s.threads) for s in records[card.key].samples}
        return next((Point(size, threads) for size in card.sizes for threads in (1, 2) if (size, threads) not in done), None)

    found = simulate(cards, required, whole_ms, next_of)
    everything = simulate(cards, required, whole_ms, next_of_all)

    chosen, best = (decide(index, required, records).winner for records in (found, everything))
    assert (chosen.name, chosen.threads) == (best.name, best.threads)
    assert all(record.samples for record in found.values()), "the governor knows the time of each"
    if whole_ms <= 100:
        assert sum(len(record.samples) for record in found.values()) == 6


@pytest.mark.usefixtures("never_measures")
@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"profile": "mid"}, "ssdlite-mobilenet-v2-coco@300"),
        ({"profile": "high"}, "ssdlite-mobilenet-v2-coco@236"),
        ({"profile": "low"}, "ssdlite-mobilenet-v2-coco@300"),
        ({"task": "classify"}, "efficientnet-lite0"),
        ({"labels": ("Bicycle wheel",)}, None),
    ],
)
def test_the_bundled_models_are_chosen_from_by_profile_task_and_labels(tmp_path, values, name):
    remember(tmp_path, ALL_TIMES)
    loaded = settings(tmp_path, **values)
    if name is None:
        with pytest.raises(ConfigError, match="knows all of the labels"):
            evaluate(requirements_of(loaded, BOARD), tmp_path, BOARD)
    else:
        assert evaluate(requirements_of(loaded, BOARD), tmp_path, BOARD).decision.winner.name == name


def test_the_remembered_way_loads_neither_numpy_nor_pydantic_nor_the_measuring(tmp_path):
    """A warm `edgeannot probe` is to answer in 0.2 s."""
    read_card_index(model_folders(tmp_path), tmp_path / "cache" / "models.json")
    code = (
        "import sys\nfrom pathlib import Path\nfrom edgeannot.choice.selection import *\n"
        "from edgeannot.choice.candidates import Requirements\n"
        "from edgeannot.choice.decision import budget_of\nfrom edgeannot.choice.selection import evaluate\n"
        "from edgeannot.probe import read_board\nboard = read_board()\n"
        "evaluate(Requirements('mid', budget_of('mid', None, None)), Path(sys.argv[1]), board).table()\n"
        "print([m for m in ('numpy', 'pydantic', 'cv2', 'ai_edge_litert', 'tflite_runtime', 'subprocess') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=DEADLINE_S, check=True)

    assert done.stdout.strip() == "[]"


def test_where_all_is_remembered_the_measuring_is_not_even_loaded(tmp_path, monkeypatch):
    remember(tmp_path, ALL_TIMES, threads=1)
    monkeypatch.setitem(sys.modules, "edgeannot.choice.measure", None)  # an import of it raises
    table = explain_selection(settings(tmp_path, threads=1), board=BOARD)

    assert [line.split()[1] for line in table.splitlines() if line.startswith(">")] == ["ssdlite-mobilenet-v2-coco@300"]


def test_who_waits_hears_that_it_measures(tmp_path, monkeypatch):
    monkeypatch.setattr("edgeannot.choice.measure.measure_models", lambda *_, progress, **__: progress("yolov3-tiny: 7 points measured"))
    said = []
    explain_selection(settings(tmp_path, max_ms=90.0), board=BOARD, progress=said.append)

    assert said == [
        "measuring the candidate models once; budget: 90 ms a picture (max_ms)",
        "yolov3-tiny: 7 points measured",
    ]


def test_the_public_names_are_there():
    assert all(hasattr(selection, name) for name in selection.__all__)


def test_run_explain_prints_the_table_and_stops(tmp_path):
    done = edgeannot("run", "--explain", "--max-ms", 60000, "--threads", 1, "--profile", "low", "--data-dir", tmp_path)

    assert done.returncode == 0, done.stderr
    assert "budget:    60000 ms a picture (max_ms)" in done.stdout
    [runs] = [line.split()[1] for line in done.stdout.splitlines() if line.startswith(">")]
    # A machine that is kept busy may not come to measure a model; one that was measured and is the most accurate must run.
    measured = {
        words[1 if words[0] == ">" else 0].partition("@")[0]
        for words in map(str.split, done.stdout.splitlines())
        if " MB " in " ".join(words)
    }
    assert measured, done.stdout
    assert runs.partition("@")[0] == "ssdlite-mobilenet-v2-coco" or "ssdlite-mobilenet-v2-coco" not in measured, done.stdout
    assert not (tmp_path / "state.sqlite").exists()


def test_a_model_that_is_set_but_not_there_is_said_by_the_explanation_too(tmp_path):
    with pytest.raises(ModelError, match="nosuch"):
        explain_selection(settings(tmp_path, model="nosuch"), board=BOARD)


def named(table):
    """The model that a table or JSON says would run."""
    if isinstance(table, str):
        (line,) = [line for line in table.splitlines() if line.startswith(">")]
        return line.split()[1]
    (won,) = [candidate["model"] for candidate in table["candidates"] if candidate["won"]]
    return won


@pytest.mark.usefixtures("never_measures")
@pytest.mark.parametrize("waited", [0.0, 0.6], ids=["calm", "busy"])
@pytest.mark.parametrize(
    ("profile", "budget"), [("low", {}), ("mid", {}), ("high", {}), ("mid", {"max_ms": 45.0}), ("high", {"min_fps": 1.0})]
)
def test_what_would_run_is_what_is_explained_however_busy_the_board_was(tmp_path, profile, budget, waited):
    """Figures of a busy board replace nothing where the daemon starts; the table took them for true, and named another model."""
    remember(tmp_path, ALL_TIMES, wait_share=waited, thorough=True)
    loaded = settings(tmp_path, profile, threads=1, **budget)
    runs = start(loaded, board=BOARD)

    for measuring in ("no", "missing"):
        assert named(evaluate(requirements_of(loaded, BOARD), tmp_path, BOARD, measuring=measuring).table()) == runs.card.name
    explained = explain_selection(loaded, board=BOARD)
    assert named(explained) == runs.card.name
    assert f"  {YOLO_TIMES[320]}" in explained, "the figures are shown, too"
    assert ("decide nothing" in explained) == ("CPU contention up to" in explained and not budget) == (waited > 0 and not budget)
    assert ("decide nothing" in "; ".join(runs.reasons)) == (waited > 0 and not budget)


@pytest.mark.parametrize("call", [start, measure_again, explain_selection])
def test_measuring_anew_on_a_busy_board_decides_nothing_either(tmp_path, monkeypatch, call):
    """The next start would go by the profile again."""

    def busy(cards, folders, known, requirements, **options):
        known.records.update({card.key: Record((sample(card.sizes[0], 1.0, wait_share=0.6, thorough=True),)) for card in cards})

    monkeypatch.setattr("edgeannot.choice.measure.measure_models", busy)
    loaded = settings(tmp_path, "mid")
    found = call(loaded, board=BOARD, remeasure=True)

    assert (found.card.name if isinstance(found, selection.Choice) else named(found)) == start(loaded, board=BOARD).card.name
    assert start(loaded, board=BOARD).evaluation.noisy


def test_the_threads_that_are_printed_are_those_that_would_run(tmp_path):
    """The figures of a busy board were taken with others; a row that won with them would tell of another run."""
    remember(tmp_path, ALL_TIMES, threads=1, wait_share=0.6, thorough=True)
    loaded = settings(tmp_path, "mid")
    runs = start(loaded, board=BOARD)
    found = evaluate(requirements_of(loaded, BOARD), tmp_path, BOARD)
    (line,) = [line.split() for line in found.table().splitlines() if line.startswith(">")]

    assert runs.threads == 3
    assert line[:2] + line[4:] == [">", runs.card.name, "3", "runs"], "the threads, and no figures"
    assert found.as_dict()["candidates"][0]["threads"] == 3
    assert found.as_dict()["candidates"][0]["ms"] is None, "it was not measured with 3"
    assert f"  {YOLO_TIMES[416]}" in found.table()


def test_a_failure_that_may_pass_does_not_make_the_table_name_another_model_than_the_start(tmp_path, monkeypatch):
    """It is not remembered, so the start knows nothing of it."""

    def hangs(cards, folders, known, requirements, **options):
        known.records[cards[0].key] = Record(failure="did not answer in time", failed_size=cards[0].sizes[0])

    monkeypatch.setattr("edgeannot.choice.measure.measure_models", hangs)
    loaded = settings(tmp_path, "mid")
    explained = explain_selection(loaded, board=BOARD)

    assert named(explained) == start(loaded, board=BOARD).card.name


def test_the_commands_agree_on_a_board_that_was_busy(tmp_path):
    """The real commands on this board, with figures as a busy one gives them: a fast YOLO, of which the daemon will not hear."""
    board = read_board()
    times = {name: dict.fromkeys(sizes, 5.0 if name.startswith("yolo") else 900.0) for name, sizes in ALL_TIMES.items()}
    remember(tmp_path, times, board, wait_share=0.6, thorough=True)
    environment = {"EDGEANNOT_THREADS": "1", "EDGEANNOT_PROFILE": "mid", "EDGEANNOT_DATA_DIR": str(tmp_path)}
    (tmp_path / "in").mkdir()

    shown = edgeannot("probe", "--explain", "--json", **environment)
    explained = edgeannot("run", "--explain", **environment)
    ran = edgeannot("run", "--once", "--watch", tmp_path / "in", **environment)

    assert shown.returncode == explained.returncode == ran.returncode == 0, ran.stderr
    name = named(explained.stdout)
    assert named(json.loads(shown.stdout)["choice"]) == name
    assert f"{name} with 1 thread " in ran.stderr
