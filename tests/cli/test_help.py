"""One help style: an option names its value in words of its own, and each help is a sentence."""

from __future__ import annotations

import typer

from edgeannot.cli.app import app


def commands(command, name):
    """The command and those below it; the ones whose app is imported late are imported."""
    if load := getattr(command, "load_app", None):
        command = typer.main.get_command(load())
    yield name, command
    if hasattr(command, "list_commands"):
        context = command.make_context(name, [], resilient_parsing=True)
        for below in command.list_commands(context):
            yield from commands(command.get_command(context, below), f"{name} {below}")


def test_every_value_is_named_and_every_help_is_a_sentence():
    seen = dict(commands(typer.main.get_command(app), "edgeannot"))
    assert len(seen) > 30
    wrong = []
    for name, command in seen.items():
        if not (command.help or "").strip().endswith("."):
            wrong.append(f"{name}: no sentence")
        for each in command.params:
            said = (each.help or "").partition("  [default")[0]
            if not said.endswith("."):
                wrong.append(f"{name} {each.name}: no sentence")
            if each.param_type_name == "option" and not each.is_flag and not each.metavar:
                wrong.append(f"{name} {each.name}: no metavar")
    assert wrong == []
