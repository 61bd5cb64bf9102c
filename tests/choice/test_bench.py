"""`edgeannot bench`: figures by stage, a reference of the board, and what makes figures noisy."""

from __future__ import annotations

import builtins
import json
import sys
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from edgeannot.base.errors import ConfigError, InputError, ModelError, UsageError
from edgeannot.choice.bench import Bench, Reference, Row, as_json, as_text, bench, points_of
from edgeannot.choice.measurements import Conditions
from edgeannot.cli.commands.bench import bench_app, save_plot
from tests.choice.test_decision import SSD, YOLO, facts, sample
from tests.choice.test_measure import ANSWER, SAMPLE, fake
from tests.e2e.daemons import edgeannot

HERE = Conditions("x86_64 board", "0-1", None, "", "litert 2.3.0")
STAGES = {"decode": 1.0, "preprocess": 0.5, "inference": 8.0, "postprocess": 0.5}


def row(size=416, threads=1, ms=10.0, reference_ms=None, card=YOLO, **fields):
    return Row(card, size, threads, sample(size, ms, threads, stages=STAGES, p95_stages=STAGES, **fields), reference_ms=reference_ms)


def result(*rows, conditions=HERE, load=0.0, reference=None, tmp_path=None):
    return Bench(rows, conditions, load, reference or Reference(tmp_path, {}))


def test_no_model_gives_no_point_and_an_unknown_name_is_an_error_with_the_known_ones():
    assert points_of([], [], (1,)) == []
    with pytest.raises(ModelError, match="no model called 'x'; known are: yolo@192"):
        points_of([YOLO], ["x"], (1,))
    with pytest.raises(ModelError, match="yolo@300"):
        points_of([YOLO], ["yolo@300"], (1,))


def test_a_name_stands_for_all_its_sizes_and_thread_counts():
    assert [(s, t) for _, s, t in points_of([YOLO, SSD], ["yolo"], (1, 2))] == [(s, t) for s in (192, 224, 320, 416) for t in (1, 2)]
    assert [(c.name, s) for c, s, _ in points_of([YOLO, SSD, facts("e", task="embed")], [], (1,))][-1] == ("ssd", 416)
    assert len(points_of([YOLO], ["yolo@224"], (1,))) == 1


def test_without_a_reference_nothing_is_compared_and_the_run_becomes_the_reference(tmp_path):
    path = tmp_path / "cache" / "bench.json"
    first = Reference.load(path, HERE)
    assert (first.times_ms, first.taken) == ({}, "")

    first.with_rows([row(ms=10.0)], HERE, anew=False)
    again = Reference.load(path, replace(HERE, governor="powersave"))

    assert again.times_ms == {row().key: 10.0}
    assert "x86_64 board" in again.taken
    assert Reference.load(path, replace(HERE, quota=0.25)).times_ms == {}


def test_what_was_measured_on_a_busy_board_is_no_reference(tmp_path):
    reference = Reference.load(tmp_path / "bench.json", HERE).with_rows([row(192, wait_share=0.4), row(416)], HERE, anew=False)

    assert len(reference.times_ms) == 1


def test_a_later_run_does_not_move_the_reference_but_adds_what_is_new(tmp_path):
    path = tmp_path / "bench.json"
    Reference.load(path, HERE).with_rows([row(ms=10.0)], HERE, anew=False)
    Reference.load(path, HERE).with_rows([row(ms=99.0), row(192, ms=3.0)], HERE, anew=False)
    assert sorted(Reference.load(path, HERE).times_ms.values()) == [3.0, 10.0]

    Reference.load(path, HERE).with_rows([row(ms=99.0)], HERE, anew=True)
    assert sorted(Reference.load(path, HERE).times_ms.values()) == [3.0, 99.0]


@pytest.mark.parametrize(("ms", "flag"), [(10.0, None), (12.9, None), (13.1, "slower"), (7.1, None), (6.9, "faster")])
def test_what_is_thirty_percent_off_the_reference_is_flagged(tmp_path, ms, flag):
    found = result(row(ms=ms, reference_ms=10.0), tmp_path=tmp_path)

    assert as_json(found)["rows"][0]["flag"] == flag
    assert (str(flag).upper() in as_text(found)) == (flag is not None)


def test_the_governor_the_load_and_waiting_are_remarked_on(tmp_path):
    quiet = result(row(), conditions=replace(HERE, governor="performance"), tmp_path=tmp_path)
    noisy = result(row(wait_share=0.4), conditions=replace(HERE, governor="powersave"), load=1.5, tmp_path=tmp_path)

    assert quiet.remarks() == []
    assert [word in " ".join(noisy.remarks()) for word in ("powersave", "1.50", "40%")] == [True] * 3


def test_a_run_that_is_no_reference_does_not_say_that_it_is_one(tmp_path):
    found = result(row(wait_share=0.4), tmp_path=tmp_path)

    assert "later runs are compared with this one" in as_text(found)
    assert as_text(found, kept=False).endswith("reference: there is none yet, as this run is noisy")


def test_where_nothing_could_be_measured_nothing_is_called_disturbed(tmp_path):
    found = result(replace(row(), sample=None, failure="died"), tmp_path=tmp_path)

    assert as_text(found, kept=False).endswith("reference: there is none yet, as nothing could be measured")


def test_the_json_has_every_figure(tmp_path):
    value = json.loads(json.dumps(as_json(result(row(), tmp_path=tmp_path))))
    (entry,) = value["rows"]

    assert entry["stages"] == entry["p95_stages"] == STAGES
    assert (entry["per_s"], entry["cpu_s"], entry["peak_bytes"]) == (100.0, 0.01, 100 << 20)
    assert entry["accuracy"]["value"] == 0.51


def test_a_model_that_dies_is_a_row_and_the_others_are_measured(tmp_path):
    die = "if request['points'][0]['model'] == 'ssd': os.kill(os.getpid(), signal.SIGILL)"
    complete = ANSWER.replace(str(SAMPLE), str({**SAMPLE, "stages": STAGES, "p95_stages": STAGES}))
    points = points_of([SSD, YOLO], ["ssd", "yolo@192"], (1,))
    found = bench(points, [], HERE, Reference(tmp_path, {}), runtime="auto", command=fake(f"{die}\n    {complete}"))

    assert [r.failure != "" for r in found.rows] == [True, False]
    assert "FAILED: ssd with 1 thread died of an illegal instruction" in as_text(found)


def test_the_plot_is_a_picture(tmp_path):
    save_plot(result(row(192, ms=5), row(192, 2, ms=4), row(416, ms=20), tmp_path=tmp_path), tmp_path / "x.png")

    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_a_plot_that_is_no_png_is_refused_before_the_measuring(tmp_path):
    result = CliRunner().invoke(bench_app, ["--plot", str(tmp_path / "x.jpg")])

    assert isinstance(result.exception, UsageError)
    assert "--plot: wanted a name that ends in .png, found x.jpg" in str(result.exception)


def test_a_plot_of_models_without_accuracies_is_refused(tmp_path):
    with pytest.raises(InputError, match="evaluate"):
        save_plot(result(row(card=SSD), tmp_path=tmp_path), tmp_path / "x.png")


def test_a_plot_without_matplotlib_names_the_extra(tmp_path, monkeypatch):
    real = builtins.__import__
    monkeypatch.setattr(
        builtins, "__import__", lambda name, *a, **k: real("nonexistent" if name.startswith("matplotlib") else name, *a, **k)
    )
    for name in [name for name in sys.modules if name.startswith("matplotlib")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ConfigError, match=r"edgeannot\[plots\]"):
        save_plot(result(row(), tmp_path=tmp_path), tmp_path / "x.png")


def test_more_threads_than_cores_are_refused(tmp_path):
    done = edgeannot("bench", "yolov3-tiny@192", "--threads", 1, "--threads", 9999, "--data-dir", tmp_path)

    assert done.returncode == 64
    assert "--threads: wanted 1 to " in done.stderr
    assert "found 9999" in done.stderr


@pytest.mark.runtime
def test_the_command_times_a_bundled_model_twice_and_compares(tmp_path):
    args = ("bench", "yolov3-tiny@192", "--threads", 1, "--seconds", 0.1, "--data-dir", tmp_path)
    first = edgeannot(*args, "--new-reference")
    second = edgeannot(*args, "--json")

    assert first.returncode == 0, first.stderr
    assert "there was none; later runs are compared with this one" in first.stdout
    (entry,) = json.loads(second.stdout)["rows"]
    assert entry["change"] is not None
    assert entry["stages"]["inference"] > 0
    assert entry["runs"] >= 2


def test_the_command_with_an_unknown_model_is_one_sentence(tmp_path):
    done = edgeannot("bench", "nonsense", "--data-dir", tmp_path)

    assert done.returncode == 78
    assert done.stderr.startswith("edgeannot: no model called 'nonsense'")
    assert len(done.stderr.splitlines()) == 1
