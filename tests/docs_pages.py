"""The generated pages of docs/: `python -m tests.docs_pages` writes them, a test holds them to the code."""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args, get_origin

from pydantic import BaseModel

from edgeannot.settings import PROFILE_DEFAULTS, Settings
from edgeannot.sinks import SINKS, SinkSections
from edgeannot.sources import SOURCES
from tests.probe.page import boards_page

DOCS = Path(__file__).resolve().parent.parent / "docs"


def sections() -> Iterator[tuple[str, str, type[BaseModel]]]:
    """Table, title and model of each section: a kind that is registered is on the page, its title is its docstring."""
    yield "", "Top level", Settings
    for kind, source in SOURCES.built_in.items():
        yield "sources.NAME", f'`kind = "{kind}"`: {_title(source.options)}', source.options
    for kind in SinkSections.model_fields:
        options = SINKS.built_in[kind].options
        yield f"sinks.{kind}", _title(options), options
        for name, field in options.model_fields.items():
            if isinstance(inner := field.annotation, type) and issubclass(inner, BaseModel):
                yield f"sinks.{kind}.{name}", _title(inner), inner


def _title(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").partition("\n")[0].partition(";")[0].rstrip(".")


INTRODUCTION = """# Settings

Made from the code by `make docs`. Command line > environment (`EDGEANNOT_` and the name in capitals, nested by `__`:
`EDGEANNOT_SINKS__MQTT__URL`) > TOML file (`--config`, else `/etc/edgeannot/edgeannot.toml`, else the same in `~/.config`) > the
profile's defaults > the default. Lists and tables in the environment are JSON. An unknown name is an error. `edgeannot config` prints every
value in force and its origin.
"""


def settings_page() -> str:
    """docs/settings.md."""
    parts = [INTRODUCTION]
    for table, title, model in sections():
        heading = f"## {title}" + (f" — `[{table}]`" if table else "")
        parts.append("\n".join([heading, "", "| name | default | meaning |", "|---|---|---|", *_rows(model), ""]))
    profiles = ["## What a profile sets", "", "| profile | " + " | ".join(PROFILE_DEFAULTS["low"]) + " |", "|---|---|---|"]
    profiles += [f"| {name} | " + " | ".join(str(v) for v in values.values()) + " |" for name, values in PROFILE_DEFAULTS.items()]
    return "\n".join([*parts, *profiles]) + "\n"


def descriptions(model: type[BaseModel]) -> dict[str, str]:
    """The docstring of each field, by its name. Pydantic can read them, too, but at each start, for a fifth of the time of the imports."""
    found = {}
    for kind in (kind for kind in reversed(model.__mro__) if kind.__module__.startswith("edgeannot")):
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
        assert isinstance(definition, ast.ClassDef)
        for field, text in itertools.pairwise(definition.body):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
                found[field.target.id] = ast.literal_eval(text.value)
    return found


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


if __name__ == "__main__":
    (DOCS / "settings.md").write_text(settings_page(), encoding="utf-8")
    (DOCS / "boards.md").write_text(boards_page(), encoding="utf-8")
