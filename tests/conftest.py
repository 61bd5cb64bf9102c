"""What tests share: where the optional test data lies, and small real models and pictures."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from edgeannot.vision import engine
from tests.surroundings import asked

if os.environ.get("EDGEANNOT_RUNTIME") == "tflite-runtime":
    # The second test environment has LiteRT only for its schema; `auto` is to mean there what it means on a 32-bit board.
    engine.RUNTIMES.pop("litert", None)

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, by what the tests start as well

# How long an example takes says something of the machine, not of the program.
hypothesis.settings.register_profile("any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("any machine")

pytest_plugins = ["tests.brokers", "tests.faults.table", "tests.left_out", "tests.rights"]

ROOT = Path(__file__).resolve().parent.parent


def find_data() -> Path | None:
    """The folder of real models and labelled pictures, or None where it is absent."""
    named = asked("TEST_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    return folder if (folder / "MANIFEST.tsv").is_file() else None


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--runtime-name` says which runtime `auto` means, for tests whose tolerance depends on it."""
    name = "tflite-runtime" if "litert" not in engine.RUNTIMES else engine.installed_runtimes()[0]
    parser.addoption("--runtime-name", default=name, dest="runtime_name", help="set from EDGEANNOT_RUNTIME")


@pytest.fixture(autouse=True)
def _set_up_of_the_log() -> Iterator[None]:
    """Undo what a command that ran in this process has set: no test sees another's lines, and none goes to a stream that is closed."""
    loggers = logging.getLogger(), logging.getLogger("edgeannot")
    levels = [logger.level for logger in loggers]
    handlers = loggers[0].handlers[:]
    yield
    for handler in set(loggers[0].handlers).difference(handlers):
        loggers[0].removeHandler(handler)
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The optional test data; tests that need it are skipped where it is absent."""
    folder = find_data()
    if folder is None:
        pytest.skip("the test data is not here; set EDGEANNOT_TEST_DATA to its folder")
    return folder


@pytest.fixture(scope="session")
def models_dir() -> Path:
    """The models that ship with the package."""
    return ROOT / "models"
