"""`edgeannot probe`: light when everything is remembered, the same answer by every way to it."""

import json
import os
import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from edgeannot.choice.auto_profile import Grade, Micro, grade, grade_for_next_start, load_with_auto_profile, micro_of
from edgeannot.choice.selection import requirements_of
from edgeannot.cli import app as cli
from edgeannot.cli.commands import probe as probe_cli
from edgeannot.cli.commands.probe import as_json, as_text
from edgeannot.probe import read_board
from edgeannot.settings import load_settings
from tests.patience import DEADLINE_S
from tests.probe import recorded

HEAVY = ("numpy", "cv2", "pydantic", "typer", "ai_edge_litert", "tflite_runtime", "subprocess")


def command(*args, door="start import main", env=None, after=""):
    code = f"import sys\nfrom edgeannot.cli.{door}\nsys.argv = ['edgeannot', *sys.argv[1:]]\ntry: main()\nfinally:\n    {after or 'pass'}"
    clean = {key: value for key, value in os.environ.items() if not key.startswith("EDGEANNOT_")}
    arguments = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=DEADLINE_S, check=False, env={**clean, **(env or {})})


def nowhere(tmp_path):
    """An environment in which nothing is configured."""
    return {"CONFIGURATION_DIRECTORY": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path)}


def test_what_is_measured_once_is_remembered_and_then_nothing_heavy_is_loaded(tmp_path):
    first = command("probe", env=nowhere(tmp_path))
    assert first.returncode == 0, first.stderr
    assert "giga-operations" in first.stdout

    loaded = f"print([m for m in {HEAVY} if m in sys.modules], file=sys.stderr)"
    again = command("probe", env=nowhere(tmp_path), after=loaded)

    assert again.stdout == first.stdout
    assert again.stderr.strip() == "[]"


def test_nothing_is_measured_where_that_was_asked_for(tmp_path):
    done = command("probe", "--no-measure", "--json", env=nowhere(tmp_path))

    shown = json.loads(done.stdout)
    assert shown["micro"] is None
    assert shown["profile"] in {"low", "mid", "high"}
    assert not list(tmp_path.rglob("measurements.json"))


def test_the_choice_is_explained_without_measuring_too(tmp_path):
    done = command("probe", "--no-measure", "--explain", env=nowhere(tmp_path))

    assert done.returncode == 0, done.stderr
    assert re.search(r"^> +\S+", done.stdout, re.MULTILINE)
    assert "nothing was measured" in done.stdout


def test_through_the_other_commands_door_it_is_the_same(tmp_path):
    ways = [command("probe", "--no-measure", door=door, env=nowhere(tmp_path)) for door in ("start import main", "app import app as main")]

    assert ways[0].stdout == ways[1].stdout != ""
    assert command("--help").stdout.count("probe") == 1


def test_a_profile_that_is_set_is_shown_with_the_layer_that_set_it(tmp_path):
    done = command("probe", "--no-measure", env={**nowhere(tmp_path), "EDGEANNOT_PROFILE": "low"})

    assert re.search(r"^profile +low\n +set by the environment$", done.stdout, re.MULTILINE)


def test_a_model_that_is_set_is_not_chosen(tmp_path):
    done = command("probe", "--no-measure", "--explain", "--json", env={**nowhere(tmp_path), "EDGEANNOT_MODEL": "yolov3-tiny"})

    assert json.loads(done.stdout)["choice"]["reasons"] == ["the model is set to yolov3-tiny (environment): no automatic selection"]


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["--nonsense"], 64, "unrecognized arguments: --nonsense"),
        (["--remeasure", "--no-measure"], 64, "not allowed with"),
        (["--config", "missing.toml"], 66, "no configuration file at missing.toml"),
    ],
)
def test_mistakes_end_in_a_sentence_and_their_exit_code(tmp_path, args, code, words):
    done = command("probe", *args, env=nowhere(tmp_path))

    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_where_nothing_is_configured_the_wish_is_the_one_of_the_default_settings(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("EDGEANNOT_")]:
        monkeypatch.delenv(name)
    board = read_board()
    seen = []
    monkeypatch.setattr(probe_cli, "evaluate", lambda requirements, *rest, **_: seen.append((requirements, rest)))

    loaded = load_with_auto_profile({"data_dir": str(tmp_path)}, None, board)
    for known in (None, loaded):
        probe_cli._evaluate(board, grade(board), known, tmp_path, "auto", "no")

    assert seen[0] == seen[1]
    assert seen[0][0] == requirements_of(loaded, board)


def test_the_settings_are_judged_by_what_was_measured(tmp_path, monkeypatch):
    monkeypatch.setattr("edgeannot.choice.auto_profile.micro_of", lambda *_, **__: Micro(0.5, 0.5, 1, 1.0))

    loaded = load_with_auto_profile({"data_dir": str(tmp_path)}, None, read_board(recorded.FOLDER / "pi-5"))

    assert loaded.profile == "low"
    assert "slower than its facts say" in loaded.profile_reason


def test_where_the_model_is_set_or_the_profile_is_nothing_is_measured_for_the_grade(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("edgeannot.choice.auto_profile.micro_of", lambda *_, measuring, **__: asked.append(measuring))
    board = read_board(recorded.FOLDER / "pi-5")
    for given in ({}, {"model": "yolov3-tiny"}, {"profile": "low"}):
        loaded = load_with_auto_profile({"data_dir": str(tmp_path), **given}, None, board, "missing")
        grade_for_next_start(loaded, board)

    assert asked == ["missing", "noisy", "no", "noisy"]


def test_a_running_daemon_keeps_its_profile_and_says_what_the_next_start_will_have(tmp_path, monkeypatch, caplog):
    board = read_board(recorded.FOLDER / "pi-5")
    loaded = load_with_auto_profile({"data_dir": str(tmp_path)}, None, board)
    monkeypatch.setattr("edgeannot.choice.auto_profile.micro_of", lambda *_, **__: Micro(0.5, 0.5, 1, 1.0))
    with caplog.at_level("INFO"):
        grade_for_next_start(loaded, board)

    assert "profile low from the next start on" in caplog.text


@pytest.mark.parametrize(
    ("given", "measuring"),
    [
        ([], ["no"]),
        (["--explain"], ["missing"]),
        (["--explain", "--remeasure"], ["again"]),
        (["--remeasure"], ["again"]),
        (["--max-ms", "200"], ["no", "missing"]),
    ],
)
def test_a_run_is_graded_as_probe_would_where_it_measures_anyway(monkeypatch, tmp_path, given, measuring):
    seen = []

    def fake(given, config, board, measuring):
        seen.append(measuring)
        return load_settings(given, grade=lambda: ("mid", "as the test says"))

    monkeypatch.setattr("edgeannot.choice.auto_profile.load_with_auto_profile", fake)
    monkeypatch.setattr("edgeannot.choice.selection.explain_selection", lambda *_, **__: "the table")
    monkeypatch.setattr("edgeannot.daemon.run.run_daemon", lambda *_, **__: 0)
    CliRunner().invoke(cli.app, ["run", "--data-dir", str(tmp_path), *given], catch_exceptions=False)

    assert seen == measuring


def test_nothing_is_remembered_of_an_unmeasured_board(tmp_path):
    assert micro_of(read_board(recorded.FOLDER / "pi-5"), tmp_path) is None


@pytest.mark.parametrize("name", recorded.names())
def test_every_recorded_board_can_be_shown(name):
    board = read_board(recorded.FOLDER / name)
    found = grade(board)

    assert board.processor.name in as_text(board, found, None)
    assert json.loads(json.dumps(as_json(board, found, Micro(1.0, 2.0, 1, 1.0))))["board"]["machine"] == board.machine


def test_an_empty_board_can_be_shown(tmp_path):
    board = read_board(tmp_path)

    shown = as_text(board, Grade("low", ("nothing is known",)), None)

    assert "not named" in shown
    assert "nothing known" in shown
    assert json.dumps(as_json(board, Grade("low", ()), None))
