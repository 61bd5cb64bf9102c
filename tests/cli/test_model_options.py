"""What `models add`, `convert` and `quantize` ask about a model: the same options, and one exit code for a word that none of them knows."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from edgeannot.card_inference import Hints
from edgeannot.cli.commands.models import models_app
from edgeannot.cli.model_options import ModelOptions, with_model_options
from edgeannot.cli.start import main
from edgeannot_tools.convert.command import convert_app
from edgeannot_tools.quantize.command import quantize_app

FLAGS = {
    "--anchors", "--box-units", "--cfg", "--color", "--head", "--input-range", "--label-offset", "--labels", "--resize", "--task"
}  # fmt: skip
COMMANDS = (("models", "add", "m.tflite"), ("convert", "m.tflite"), ("quantize", "m.tflite", "-o", "int8.tflite"))
APPS = ((models_app, "add"), (convert_app, None), (quantize_app, None))


def options_of(app: typer.Typer, name: str | None) -> set[str]:
    command: Any = typer.main.get_command(app)
    if name is not None:
        command = command.commands[name]
    return {flag for parameter in command.params for flag in parameter.opts}


@pytest.mark.parametrize(("app", "name"), APPS, ids=("models add", "convert", "quantize"))
def test_each_command_has_all_of_the_options(app, name):
    assert options_of(app, name) >= FLAGS


@pytest.mark.parametrize("command", COMMANDS, ids=("models add", "convert", "quantize"))
@pytest.mark.parametrize(
    ("flag", "value"), [("--color", "foo"), ("--box-units", "feet"), ("--input-range", "loud"), ("--anchors", "1,2,3"), ("--task", "dream")]
)
def test_an_unknown_word_is_a_usage_error_everywhere(command, flag, value, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.tflite").write_bytes(b"")
    monkeypatch.setattr(sys, "argv", ["edgeannot", *command, flag, value])

    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == 64
    assert flag in capsys.readouterr().err


def test_the_options_become_hints(tmp_path):
    found: list[tuple[Hints, list[str]]] = []
    app = typer.Typer()

    @app.command()
    @with_model_options
    def command(file: str, *, model_options: ModelOptions) -> None:
        found.append((model_options.hints(name=file), model_options.words()))

    words = ["m", "--color", "bgr", "--label-offset", "1", "--box-units", "pixels", "--labels", str(tmp_path / "names.txt")]
    CliRunner().invoke(app, words, catch_exceptions=False)
    CliRunner().invoke(app, ["m"], catch_exceptions=False)

    (hints, typed), (nothing, silence) = found
    assert hints == Hints(name="m", color="BGR", label_offset=1, box_units="pixels", labels=tmp_path / "names.txt")
    assert typed == ["--label-offset", "1", "--color", "BGR", "--box-units", "pixels"]
    assert (nothing, silence) == (Hints(name="m"), [])
