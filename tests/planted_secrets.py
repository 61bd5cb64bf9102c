"""Runs the command over and over in one process with a secret planted in each setting and each option; for test_secrets_in_output."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args
from unittest import mock

import typer
from pydantic import BaseModel

from edgeannot.base import redaction
from edgeannot.cli.app import app
from edgeannot.cli.start import guarded
from edgeannot.settings import Settings, load_settings
from edgeannot.sources import SOURCES

FORMS = (
    '"rtsp://bob:{secret}@h"',
    '"rtsp:/bob:{secret}@h/x y"',
    '"bob:{secret}@h"',
    '"rtsp://bob:{secret} {long}@h"',
    '"http://h/x?user=bob&pwd={secret}"',
    '["rtsp://bob:{secret}@h"]',
    '{{ password = "{secret}" }}',
    '{{ "rtsp//bob:{secret}@h" = 1 }}',
)
"""In TOML. The long one has its @ past the place where a message is cut."""
IN_ENVIRONMENT = (
    "rtsp:/bob:{secret}@h",
    "bob:{secret}@h",
    '{{"url": "rtsp://bob:{secret}@h", "x"',
    '{{"password": "{secret}"',
    '{{"door": {{"kind": "camera", "url": "rtsp//bob:{secret}@h/{long}"}}}}',
)
ON_THE_COMMAND_LINE = ("rtsp:/bob:{secret}@h", "bob:{secret}@h", "rtsp://bob:{secret}@127.0.0.1:9/x")
PLACES = {
    "directory": 'path = "/nonexistent"',
    "camera": 'url = "/nonexistent"',
    "files": 'paths = ["/nonexistent"]',
    "mqtt": 'topic = "a/b"',
}
"""What a source of each kind has to have."""

_numbers = itertools.count(1)


def planted(form: str) -> str:
    """The form with a secret of its own: what one case taught must not help the next."""
    return form.format(secret=f"hunter{next(_numbers):05d}", long="x" * 120)


def fields(model: type[BaseModel], before: str = "") -> Iterator[str]:
    """The dotted names of all settings of a section."""
    for name, field in model.model_fields.items():
        inner = [part for part in _parts(field.annotation) if isinstance(part, type) and issubclass(part, BaseModel)]
        if name == "sources":
            for kind, source in SOURCES.built_in.items():
                yield from fields(source.options, f"sources.{kind}.")
        elif inner:
            yield from fields(inner[0], f"{before}{name}.")
        else:
            yield before + name


def _parts(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in get_args(annotation):
        yield from _parts(part)


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with its words, those of the tools as well."""
    if hasattr(command, "list_commands"):
        for name in command.list_commands(None):
            yield from commands(command.get_command(None, name), (*path, name))
        return
    if (load_app := getattr(command, "load_app", None)) is not None:
        found = typer.main.get_command(load_app())
        if hasattr(found, "list_commands"):
            yield from commands(found, path)
            return
        command = found
    yield path, command


def tried(command: Any) -> None:
    """Run it to its end, whatever that is, as a process of its own would: what earlier ones learnt is not known to it.

    To know it would also be slow: each secret that is learnt makes a new pattern of all that are known.
    """
    redaction._Known.secrets, redaction._Known.pattern = frozenset(), None
    with contextlib.suppress(SystemExit):
        guarded(command)


def settings_file(folder: Path, key: str, value: str) -> Path:
    """A file with one setting in it, and what the setting needs around it."""
    *section, leaf = key.split(".")
    lines = [f"{leaf} = {value}"]
    if section[:1] == ["sources"]:
        need = PLACES[section[1]]
        lines += [f'kind = "{section[1]}"'] * (leaf != "kind") + [need] * (leaf != need.split()[0])
    path = folder / "edgeannot.toml"
    path.write_text("\n".join([*([f"[{'.'.join(section)}]"] if section else []), *lines]))
    return path


def shown(path: Path | None) -> None:
    """What `edgeannot config` prints, without the second that reading the board takes."""
    print("\n".join(map(" ".join, load_settings({}, path, grade=lambda: ("low", "")).rows())))


def ask_all(folder: Path) -> int:
    """Every case there is; their number."""
    count = 0
    os.chdir(folder)  # some values are taken for the name of a folder, and made
    in_files, in_environment, on_the_command_line = map(itertools.cycle, (FORMS, IN_ENVIRONMENT, ON_THE_COMMAND_LINE))
    for key in fields(Settings):
        for _ in range(3):  # their numbers have no common divisor with those of the forms, so that each setting meets others
            path = settings_file(folder, key, planted(next(in_files)))
            tried(lambda path=path: shown(path))
            count += 1
        for _ in range(2):
            name = "EDGEANNOT_" + key.upper().replace(".", "__")
            os.environ[name] = planted(next(in_environment))
            tried(lambda: shown(None))
            del os.environ[name]
            count += 1
    (folder / "empty").mkdir()
    for words, command in commands(typer.main.get_command(app)):
        for option in command.params if words != ("probe",) else ():
            if getattr(option, "is_flag", False):
                continue
            ask(folder, words, command, option, planted(next(on_the_command_line)))
            count += 1
    for form in ON_THE_COMMAND_LINE:
        for words in (
            ["{}"],
            ["--{}"],
            ["run", "--{}"],
            ["run", "{}"],
            ["probe", "{}"],
            ["probe", "--data-dir={}", "--{}"],
            ["models", "{}"],
        ):
            call([word.format(planted(form)) for word in words])
            count += 1
    return count


def ask(folder: Path, words: tuple[str, ...], command: Any, option: Any, value: str) -> None:
    """The command with the value in one option, and no work to do in the others."""
    line = list(words)
    for other in command.params:
        if other is not option and other.required:
            line += [*other.opts[:1], "/nonexistent/x"] if other.param_type_name == "option" else ["/nonexistent/x"]
    if words == ("run",):
        line += ["--once", "--data-dir", str(folder / "state"), "--log-level", "debug"]
        line += ["--watch", str(folder / "empty")] * (option.opts[0] != "--camera") + ["--model", "nothing"] * (
            option.opts[0] not in ("--camera", "--mqtt")
        )
    if words in (("listen",), ("send",)) and option.name not in ("mqtt", "url"):
        line += ["mqtt://127.0.0.1:9"] if words == ("listen",) else ["--mqtt", "mqtt://127.0.0.1:9"]
    if words in (("bench",), ("models", "verify")) and option.param_type_name != "argument":
        line += ["nothing"]
    line += [f"{option.opts[0]}={value}"] if option.param_type_name == "option" else [value]
    call(line)


def call(line: list[str]) -> None:
    """The command line, as the shell would give it."""
    print("$ edgeannot", *line[:2])
    sys.argv = ["edgeannot", *line]
    tried(lambda: app(line))


def main(folder: str) -> None:
    """All cases, and how many they were."""
    get_command = functools.cache(typer.main.get_command)  # the same commands each time, 30 ms to make
    # `doctor` leaves a check that is overdue behind it, on a machine that waits.
    with mock.patch("typer.main.get_command", get_command), mock.patch("os._exit", sys.exit):
        print(f"{ask_all(Path(folder).resolve())} cases")
