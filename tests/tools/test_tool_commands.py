"""What the tools' commands share: text is printed as it is, and a signal leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text
from typer.testing import CliRunner

from edgeannot.base.runtimes import RUNTIMES, installed_runtimes
from edgeannot_tools.datasets import Dataset, LabelledObject, save_dataset
from edgeannot_tools.datasets.command import datasets_app
from edgeannot_tools.output import open_console, print_note
from tests.patience import DEADLINE_S

ODD = "a [bold] :dog: [/x]"
"""A name that rich would read as markup, an emoji, and the end of what never began."""


def run(*words):
    return CliRunner().invoke(datasets_app, [str(word) for word in words])


@pytest.mark.parametrize(
    "words",
    [
        ("bench", "nanodet-g@224", "--threads", "1"),
        ("evaluate", "nanodet-g", "--data", "{set}"),
        ("quantize", "none.tflite", "--images", "{set}", "--out", "{set}/out.tflite"),
    ],
)
def test_without_one_named_the_runtime_is_that_of_a_run(words, small, tmp_path, monkeypatch):
    """One may die with every model here: `run` has left it aside. Seen by naming one that is not installed."""
    absent = next((name for name in RUNTIMES if name not in installed_runtimes()), None)
    if absent is None:
        pytest.skip("both runtimes are installed")
    monkeypatch.setenv("EDGEANNOT_RUNTIME", absent)
    picture = small.picture(tmp_path / "in", "a.png", LabelledObject(0, (1, 1, 9, 9)))
    save_dataset(Dataset(("person",), (picture,)), tmp_path / "set", "voc")

    command = [sys.executable, "-m", "edgeannot", *(word.format(set=tmp_path / "set") for word in words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert f"the runtime '{absent}' is not installed" in done.stdout + done.stderr
    assert done.returncode > 0


def test_a_name_in_brackets_is_printed_as_it_is(capsys):
    open_console().print(ODD)
    print_note(open_console(), ODD)

    assert capsys.readouterr().out == f"{ODD}\nnote: {ODD}\n"


def test_a_name_steers_no_terminal(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    steering = "a\x1b[2J\x9b2J\u202e\r\udcff"
    table = Table(steering)
    table.add_row(steering)
    console = open_console()
    for text in (steering, table, Text(steering, "red")):
        console.print(text)
    print_note(console, steering)

    said = capsys.readouterr().out
    assert "\x1b[33mnote:" in said
    assert re.sub(r"\x1b\[[0-9;]*m|\n", "", said).isprintable()


@pytest.mark.parametrize("command", ["convert", "split", "stats", "check"])
def test_paths_and_classes_may_hold_brackets(command, small, tmp_path):
    folder = tmp_path / "set [bold] [" / "x] é"
    things = [LabelledObject(0, (1, 1, 9, 9)), LabelledObject(0, (1, 1, 99, 9), difficult=True)]
    pictures = (small.picture(tmp_path / "in", "a.png", *things, shade=1), small.picture(tmp_path / "in", "b.png", shade=2))
    save_dataset(Dataset((ODD,), pictures), folder, "voc")
    options = {"convert": [folder / "out [/y]", "--to", "yolo"], "split": [folder / "out [/y]", "--train", "0.5", "--val", "0.5"]}

    result = run(command, folder, *options.get(command, []))

    assert not isinstance(result.exception, Exception), result.exception
    assert (str(folder) if command in ("convert", "check") else ODD) in result.output.replace("\n", "")


SLOW_COPY = """
import shutil, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
real = shutil.copy2
def slow(source, target):
    real(source, target)
    print("copied", flush=True)
    time.sleep(60)
shutil.copy2 = slow
from edgeannot.cli.start import main
sys.argv = ["edgeannot", "datasets", "convert", sys.argv[1], sys.argv[2], "--to", "coco"]
main()
"""
"""Both signals as a terminal gives them: `nohup` and `&` of a script have them ignored."""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_in_the_middle_leaves_nothing_behind(number, small, tmp_path):
    save_dataset(small.one_of_each(tmp_path / "in"), tmp_path / "set", "yolo")
    work = tmp_path / "work"
    work.mkdir()
    path = os.pathsep.join([str(Path(__file__).parents[2]), str(Path(__file__).parents[2] / "tools")])
    command = [sys.executable, "-c", SLOW_COPY, str(tmp_path / "set"), str(work / "out")]

    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "copied\n"
        process.send_signal(number)
        code = process.wait(DEADLINE_S)

    assert list(work.iterdir()) == []
    assert code == (130 if number == signal.SIGINT else 128 + number)
