"""`auto` where a runtime dies with every model: the other one is used, which is said once and remembered.

The dying runtime is a package that ends its process when a model is loaded, as LiteRT does under an old emulator. All else is real.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
from pathlib import Path

import pytest

from edgeannot.base.errors import ConfigError, ModelError
from edgeannot.base.places import default_data_dir
from edgeannot.base.runtimes import RUNTIMES
from edgeannot.choice import auto_runtime
from edgeannot.choice.auto_runtime import Settled, remembered_runtime, settle_runtime
from edgeannot.doctor.findings import Examined
from edgeannot.doctor.models import models
from edgeannot.probe import Board
from tests.e2e.daemons import edgeannot

DYING = "import os, signal\nclass Interpreter:\n    def __init__(self, **_): os.kill(os.getpid(), signal.SIGSEGV)\n"
DIED = "died of a segmentation fault (SIGSEGV)"


def dying(folder: Path, *packages: str) -> str:
    """A folder of packages that take the place of runtimes."""
    for package in packages:
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").touch()
        (folder / package / "interpreter.py").write_text(DYING)
    return str(folder)


@pytest.mark.parametrize("runtime", ["auto", "litert", "tflite-runtime"])
def test_with_one_runtime_or_a_name_nothing_is_tried(tmp_path, monkeypatch, runtime):
    monkeypatch.setattr(auto_runtime, "installed_runtimes", lambda: ["litert"] if runtime == "auto" else ["litert", "tflite-runtime"])

    assert settle_runtime(runtime, tmp_path, Board()) == Settled(runtime)
    assert list(tmp_path.iterdir()) == []


def test_where_none_is_left_the_sentence_has_each_with_its_reason(tmp_path, monkeypatch):
    def refuse(name, _):
        raise ModelError(f"{name} refuses")

    monkeypatch.setattr(auto_runtime, "installed_runtimes", lambda: ["litert", "tflite-runtime"])
    monkeypatch.setattr(auto_runtime, "_run_a_model", refuse)

    with pytest.raises(
        ConfigError, match=r"no runtime runs a bundled model here: litert .*litert refuses\); tflite-runtime .*refuses\); install"
    ):
        settle_runtime("auto", tmp_path, Board())
    assert list(tmp_path.iterdir()) == []


def test_after_a_run_that_died_in_its_only_runtime_the_next_ends_with_a_sentence(tmp_path):
    """And with 78, so that systemd does not start it again and again."""
    (tmp_path / "in").mkdir()
    given = {"PYTHONPATH": dying(tmp_path / "packages", "ai_edge_litert"), "EDGEANNOT_RUNTIME": "litert"}
    command = ("run", "--once", "--model", "nanodet-g", "--watch", tmp_path / "in", "--data-dir", tmp_path / "data")
    first, second = edgeannot(*command, **given), edgeannot(*command, **given)

    assert first.returncode == -signal.SIGSEGV, first.stderr
    assert second.returncode == 78, second.stderr
    (line,) = second.stderr.splitlines()
    assert re.search(rf"no runtime runs a bundled model here: litert .*{re.escape(DIED)} with each bundled model; install", line)


@pytest.mark.older
def test_a_runtime_that_dies_with_every_model_is_left_aside_for_the_other_one(tmp_path, monkeypatch, caplog, models_dir):
    """Said once, and remembered; `doctor` names it. The other one, which is real, has run a model then."""
    if os.environ.get("EDGEANNOT_RUNTIME") != "tflite-runtime":
        pytest.skip("tflite-runtime is not here: `make test-tflite` has it")
    monkeypatch.setenv("PYTHONPATH", dying(tmp_path / "packages", "ai_edge_litert"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(auto_runtime, "installed_runtimes", lambda: ["litert", "tflite-runtime"])
    monkeypatch.setitem(RUNTIMES, "litert", ("ai_edge_litert", "ai-edge-litert"))  # left out elsewhere in this environment
    (tmp_path / "bundled").mkdir()
    for file in models_dir.glob("nanodet-g*"):  # one of them is enough here
        shutil.copy(file, tmp_path / "bundled")
    monkeypatch.setattr(auto_runtime, "bundled_folder", lambda: tmp_path / "bundled")
    data = default_data_dir()

    assert remembered_runtime("auto", data, Board()) == Settled("auto")
    found = settle_runtime("auto", data, Board())
    assert (found.runtime, found.aside["litert"]) == ("tflite-runtime", f"{DIED} with each bundled model")
    assert [record.message for record in caplog.records] == [found.text()]
    assert found.text().endswith("tflite-runtime 2.14.0 is used")
    assert settle_runtime("auto", data, Board()) == found == remembered_runtime("auto", data, Board())
    assert len(caplog.records) == 1
    assert remembered_runtime("auto", data, Board(machine="another")) == Settled("auto")

    monkeypatch.setattr("edgeannot.doctor.models.read_board", Board)
    told = next(each for each in models(Examined(None)) if each.checked.startswith("runtime"))
    assert (told.code, told.level, told.found) == ("runtime-aside", "warning", found.text())
    assert 'runtime = "tflite-runtime"' in told.advice
