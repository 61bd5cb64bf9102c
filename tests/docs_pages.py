"""The generated pages of docs/: `python -m tests.docs_pages` writes them, a test holds them to the code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args, get_origin

from pydantic import BaseModel

from edgeannot.settings import PROFILE_DEFAULTS
from edgeannot.settings.described import descriptions, sections
from tests.probe.page import boards_page

DOCS = Path(__file__).resolve().parent.parent / "docs"


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


if __name__ == "__main__":
    (DOCS / "settings.md").write_text(settings_page(), encoding="utf-8")
    (DOCS / "boards.md").write_text(boards_page(), encoding="utf-8")
