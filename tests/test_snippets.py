"""Every command and snippet of the documents: parsed by what would read it. Pages that are run as they stand have tests of their own."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import tomllib

import pytest
import typer
import yaml

from edgeannot.cli.app import app
from edgeannot.settings import find_problems
from edgeannot.vision.cards import CARD_SCHEMA, ModelCard
from tests.conftest import ROOT
from tests.docs_pages import DOCS
from tests.test_docs import PAGES, blocks

COMMAND = re.compile(r"(?:sudo (?:-u \w+ )?)?(?:\w+=\S+ )*(?:[\w./-]*/)?edgeannot (?!:)(.*)")
"""A line that starts `edgeannot`, with a path before it or not."""
ENDS = {"&&", "||", "|", ">", "&", ";", "2>"}
"""What ends a command in a shell."""
NOT_FOR_PARSING = ("--install-completion", "--show-completion", "--help", "--version")
"""They act as soon as they are read."""

ALONE = re.compile(r"Missing |Usage:|.* requires an argument")
"""What is said of a command or an option without what it would be given."""
PLUGGED = ("sinks.lines", "sources.test")
"""Kinds of the example of a plug-in."""


def said(text: str) -> str:
    """What the real command says of a command line: nothing where it would run it."""
    words = shlex.split(text, comments=True)
    words = words[: min((words.index(end) for end in ENDS & {*words}), default=None)]
    if {*words} & {*NOT_FOR_PARSING}:
        return ""
    ctx = typer.main.get_command(app).make_context("edgeannot", words)
    try:
        while hasattr(ctx.command, "resolve_command"):
            rest = [*getattr(ctx, "_protected_args", []), *ctx.args]
            if not rest:
                break
            name, command, rest = ctx.command.resolve_command(ctx, rest)
            ctx = command.make_context(name, rest, parent=ctx)
    except Exception as exc:  # noqa: BLE001 - the classes are those of click, or of typer's copy of it
        return exc.format_message() if hasattr(exc, "format_message") else str(exc)
    return ""


@pytest.mark.parametrize(
    ("wrong", "words"),
    [("models ad x.tflite", "No such command"), ("run --wach x", "No such option"), ("listen a b", "unexpected extra argument")],
)
def test_a_wrong_command_line_is_found(wrong, words):
    assert words in said(wrong)


def test_a_right_command_line_is_not():
    assert said("run --watch pictures --once && ls > out") == ""
    assert said("config") == ""


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_command_line_can_be_given(page):
    text = page.read_text(encoding="utf-8")
    for block in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            if found := COMMAND.match(line):
                assert said(found[1]) == "", line
    for span in re.findall(r"(?<!`)`edgeannot ([^`]+)`(?!`)", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)):
        # In a sentence a command may stand for itself, without what it would be given.
        if span[:1].islower() and not ALONE.match(answer := said(" ".join(span.split()))):
            assert answer == "", span


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_shell_snippet_is_marked_as_one_and_is_one(page):
    for block in blocks(page, ""):
        assert not re.search(r"^(?:\S*/)?(edgeannot|mosquitto_\w+|make|git|sudo|python3?|systemctl|apt|curl) ", block, re.MULTILINE), block
    script = "\n".join(blocks(page, "sh"))
    assert subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False).stderr == ""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^make ([a-z-]+)", script, re.MULTILINE)) <= targets
    for module in re.findall(r"python3? -m ((?:benchmarks|tests|edgeannot_maintain)[\w.]*)", page.read_text(encoding="utf-8")):
        path = module.replace(".", "/")
        assert any((ROOT / root / f"{path}{end}").exists() for root in ("", "tools") for end in (".py", "/__init__.py")), module


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_toml_snippet_is_what_it_stands_for(page, tmp_path):
    settings = {"": ""}
    for block in blocks(page, "toml"):
        if "[head]" in block:
            card = ModelCard.model_validate(tomllib.loads(block.replace('"…"', f'"{"0" * 64}"')))
            assert card.schema_ == CARD_SCHEMA
        elif re.search(r"^\[\[model\]\]|^\[classes\]|^\[project", block, re.MULTILINE):
            assert tomllib.loads(block)
        else:
            for table in re.split(r"^(?=\[)", block, flags=re.MULTILINE):
                heading = table.partition("\n")[0] if table.startswith("[") else ""
                settings[heading] = table if heading else settings[""] + table
    file = tmp_path / "settings.toml"  # the snippets of a page are parts of one file; a table that comes again shows another use
    file.write_text("\n".join(settings.values()), encoding="utf-8")
    problems = [str(problem) for problem in find_problems({}, file)]
    assert [problem for problem in problems if not problem.startswith(PLUGGED)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_yaml_and_json_snippet_can_be_read(page):
    for block in blocks(page, "yaml"):
        assert yaml.safe_load(block)
    for block in blocks(page, "json"):
        assert json.loads(block)


def test_every_topic_that_is_published_is_on_the_page_of_messages():
    table = (DOCS / "messages.md").read_text(encoding="utf-8").partition("## detections")[0]
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "edgeannot").rglob("*.py"))

    leaves = set(re.findall(r'of_device\(f?"(\w+)', code)) | set(re.findall(r'of_source\([^"()]*"(\w+)"', code))

    assert {"status", "info", "detections", "events"} <= leaves | {"info"}
    for leaf in leaves:
        assert f"/{leaf}" in table, leaf
