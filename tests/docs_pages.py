"""The generated pages of docs/: `python -m tests.docs_pages` writes them, a test holds them to the code."""

from __future__ import annotations

import dataclasses
import json
import re
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, get_args, get_origin

import typer
from pydantic import BaseModel

from edgeannot.base import errors
from edgeannot.cli import start
from edgeannot.cli.app import app
from edgeannot.daemon import deliverers, run
from edgeannot.daemon.monitoring.metrics import Distributions, exposition
from edgeannot.settings import PROFILE_DEFAULTS
from edgeannot.settings.described import descriptions, sections
from edgeannot.vision.cards import Defaults, Input, Labels, Measured, ModelCard, Provenance
from edgeannot.vision.heads import HEADS
from tests.conftest import ROOT
from tests.probe.page import boards_page

DOCS = ROOT / "docs"


INTRODUCTION = """# Settings

Made from the code by `make docs`. Command line > environment (`EDGEANNOT_` and the name in capitals, nested by `__`:
`EDGEANNOT_SINKS__MQTT__URL`) > TOML file (`--config`, else `/etc/edgeannot/edgeannot.toml`, else the same in `~/.config`) > the
profile's defaults > the default. Lists and tables in the environment are JSON. An unknown name is an error.

`edgeannot config` prints every value in force and its origin, secrets masked; `edgeannot config check` names every mistake at once with its
line; `edgeannot config init` writes a file with all settings as comments. `edgeannot config schema > edgeannot.schema.json` writes a JSON
Schema, by which an editor completes and checks the file: with Even Better TOML or taplo, its first line is
`#:schema ./edgeannot.schema.json`.
"""


def settings_page() -> str:
    """docs/settings.md."""
    parts = [INTRODUCTION]
    for table, title, model in dict.fromkeys(sections()):  # several kinds of source have the same sections inside
        heading = f"## {title}" + (f" — `[{table}]`" if table else "")
        parts.append("\n".join([heading, "", "| name | default | meaning |", "|---|---|---|", *_rows(model), ""]))
    profiles = ["## What a profile sets", "", "| profile | " + " | ".join(PROFILE_DEFAULTS["low"]) + " |", "|---|---|---|"]
    profiles += [f"| {name} | " + " | ".join(str(v) for v in values.values()) + " |" for name, values in PROFILE_DEFAULTS.items()]
    return "\n".join([*parts, *profiles]) + "\n"


def _rows(model: type[BaseModel]) -> Iterator[str]:
    described = descriptions(model)
    for name, field in model.model_fields.items():
        if name == "sources" or (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            continue  # a section of its own
        made = {"device": "the host name", "data_dir": "`~/.local/state/edgeannot`, or systemd's"}.get(name, "made")
        # A section's kind says what the others mean: it has the one value, and still has to be written.
        default = "required" if field.is_required() or name == "kind" else made if field.default_factory else _shown(field.default)
        what = " ".join(described.get(name, "The kind of the source.").split())  # a row of a table is one line
        yield f"| `{name}` | {default} | {what}{_choices(field.annotation)} |"


def _choices(annotation: object) -> str:
    """The values that can be set, where only certain ones can and there are several."""
    values = get_args(annotation) if get_origin(annotation) is Literal else ()
    return f" One of {', '.join(_shown(value) for value in values)}." if len(values) > 1 else ""


def _shown(value: object) -> str:
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, (str, Path)):
        return f'`"{value}"`'
    return f"`{list(value)}`" if isinstance(value, tuple) else f"`{value}`"


COMMANDS = """# Commands

Made from the code by `make docs`: what `edgeannot COMMAND --help` says. An option marked
"required" has to be given.

## Exit codes

| code | meaning |
|---|---|
"""


def commands_page() -> str:
    """docs/commands.md."""
    return COMMANDS + "\n".join(f"| {code} | {what} |" for code, what in exit_codes()) + "\n\n" + "\n".join(_commands()) + "\n"


def exit_codes() -> list[tuple[int, str]]:
    """Each exit code with its reasons, those of the error classes among them."""
    found = [
        (0, "Done, or stopped as asked."),
        (start._EX_UNREAD, "`doctor` found a problem; the reader of the output has gone."),
        (start._EX_USAGE, "The command line is wrong."),
        (deliverers._EX_UNAVAILABLE, "A receiver did not take all messages of `run --once`."),
        (run._EX_DATAERR, "A picture of `run FILE` could not be annotated."),
        (run.RESULTS_MISSING, "Results of `run FILE --out DIR` could not be written."),
        (start._EX_NOPERM, "A file may not be read or written by this user."),
        (start._INTERRUPTED, "Interrupted."),
        (errors.EdgeannotError.exit_code, "An internal error; please report it."),
    ]
    for name in errors.__all__:
        kind = getattr(errors, name)
        if isinstance(kind, type) and "exit_code" in vars(kind) and kind is not errors.EdgeannotError:
            found.append((kind.exit_code, " ".join((kind.__doc__ or "").split()).partition(" `reason`")[0]))
    return [(code, " ".join(what for each, what in found if each == code)) for code in sorted({code for code, _ in found})]


def _commands() -> Iterator[str]:
    for path, ctx in command_contexts():
        yield f"## edgeannot {path}\n\n{' '.join((ctx.command.help or '').split())}\n"
        records = [(param, param.get_help_record(ctx)) for param in ctx.command.params if param.name != "help"]
        arguments = [record[0].partition(" <")[0] for param, record in records if record and param.param_type_name == "argument"]
        yield f"```text\n{' '.join(['edgeannot', path, '[option...]', *arguments])}\n```\n"
        if any(record for _, record in records):
            yield "\n".join(["| argument or option | meaning |", "|---|---|", *(_row(*record) for _, record in records if record), ""])


def _row(names: str, what: str) -> str:
    """A row of the table of a command: an argument, or an option with what it takes."""
    cells = (f"`{names.partition(' <')[0]}`", " ".join(what.split()))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def command_contexts() -> Iterator[tuple[str, Any]]:
    """Each command with its words: ("models add", its context); of a group that does nothing itself only its commands."""
    group: Any = typer.main.get_command(app)
    waiting = [("", group, group.make_context("edgeannot", [], resilient_parsing=True))]
    while waiting:
        path, command, ctx = waiting.pop(0)
        if not hasattr(command, "list_commands"):
            yield path, ctx
            continue
        if command.invoke_without_command and path:
            yield path, ctx
        for name in command.list_commands(ctx):
            sub = command.get_command(ctx, name).make_context(name, [], parent=ctx, resilient_parsing=True)
            waiting.append((f"{path} {name}".strip(), sub.command, sub))


REFERENCE = """# Reference

Made from the code by `make docs`. [Settings](settings.md) and [commands with their exit codes](commands.md) have pages of their own; the
[topics](messages.md) are on the page that explains them.

## Payload of detections

By [`detections-1.json`](../edgeannot/schema/detections-1.json); [messages.md](messages.md#detections) says more of some fields.

| field | type | meaning |
|---|---|---|
"""

CARD = """
## Model card

A TOML file beside the `.tflite`; [models.md](models.md#a-card-by-hand) has an example. Boxes and sizes are in pixels of the
input, unless a field says otherwise.
"""

HEADS_TEXT = """
## Heads

The table `[head]` of a card, by its `kind`. Outputs are named by their names in the file, or by position.
"""

METRICS = """
## Metrics

The page `/metrics` ([service.md](service.md#monitoring)).

| name | type | meaning |
|---|---|---|
"""


def reference_page() -> str:
    """docs/reference.md."""
    schema = json.loads((ROOT / "edgeannot" / "schema" / "detections-1.json").read_text(encoding="utf-8"))
    tables = (("", ModelCard), ("input", Input), ("labels", Labels), ("defaults", Defaults), ("provenance", Provenance))
    card = [line for name, model in (*tables, ("[measured]", Measured)) for line in _card_table(name, model)]
    heads = [line for kind in sorted(HEADS.built_in) for line in _head_table(kind, HEADS.built_in[kind])]
    return "".join(
        [
            REFERENCE,
            "\n".join(_payload(schema)),
            "\n",
            CARD,
            "\n".join(card),
            "\n",
            HEADS_TEXT,
            "\n".join(heads),
            "\n",
            METRICS,
            "\n".join(_metrics()),
            "\n",
        ]
    )


def _payload(schema: Mapping[str, Any], path: str = "") -> Iterator[str]:
    for name, field in schema.get("properties", {}).items():
        if not field.keys() & {"type", "const", "enum", "description", "$ref"}:  # only a bound of the four numbers of a box
            continue
        kinds = field.get("type") or ("object" if "$ref" in field or "properties" in field else None)
        shown = " or ".join(kinds) if isinstance(kinds, list) else kinds or "constant"
        if "const" in field:
            shown = f"`{json.dumps(field['const'])}`"
        elif "enum" in field:
            shown = " or ".join(f"`{json.dumps(each)}`" for each in field["enum"])
        always = "" if name in schema.get("required", ()) else " (optional)"
        yield f"| `{path}{name}`{always} | {shown} | {field.get('description', '')} |"
        yield from _payload(field, f"{path}{name}.")
        yield from _payload(field.get("items", {}), f"{path}{name}[].")


def _card_table(name: str, model: type[BaseModel]) -> Iterator[str]:
    described = descriptions(model)
    text = " ".join((model.__doc__ or "").split()) if name else "The top of the file."
    yield f"\n**{f'`[{name}]`' if name else 'Top level'}** {text}\n"
    yield from ("| field | default | meaning |", "|---|---|---|")
    for key, field in model.model_fields.items():
        if not name and key in ("input", "head", "labels", "defaults", "provenance", "measured"):
            continue
        default = "required" if field.is_required() else _shown(field.default)
        yield f"| `{field.alias or key}` | {default} | {described.get(key, '')}{_choices(field.annotation)} |"


def _head_table(kind: str, head: Any) -> Iterator[str]:
    yield f"\n**`{kind}`** {' '.join((head.__doc__ or '').split())}\n"
    fields = [field for field in dataclasses.fields(head) if field.name != "kind"]
    if fields:
        yield from ("| field | default | meaning |", "|---|---|---|")
    described, hints = descriptions(head), typing.get_type_hints(head)
    for field in fields:
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        default = "required" if required else "made" if field.default is dataclasses.MISSING else _shown(field.default)
        yield f"| `{field.name}` | {default} | {described.get(field.name, '')}{_choices(hints[field.name])} |"


def _metrics() -> Iterator[str]:
    """Rows of every family, from a page of figures that has them all."""
    each = {"rows": 0, "bytes": 0, "dropped": 0, "refused": 0}
    figures = {
        "rejected": {"truncated": 0}, "queues": {"files": 0}, "sinks": {"mqtt": each}, "governor": {"step": 0, "rate": 1.0},
        "throttled": False, "cpu_temperature_c": 0.0, "rss_bytes": 0,
    }  # fmt: skip
    seen = Distributions()
    seen.annotated(typing.cast("Any", SimpleNamespace(labels=("person",), timing_ms={"inference": 1.0})))
    page = exposition(figures, seen, profile="low", connections=0)
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", page, re.MULTILINE))
    for name, what in re.findall(r"^# HELP (\S+) (.+)$", page, re.MULTILINE):
        yield f"| `{name}` | {kinds[name]} | {what} |"


GENERATED = {"settings.md": settings_page, "boards.md": boards_page, "commands.md": commands_page, "reference.md": reference_page}

if __name__ == "__main__":
    for page, made in GENERATED.items():
        (DOCS / page).write_text(made(), encoding="utf-8")
