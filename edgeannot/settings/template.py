"""The commented configuration file that `edgeannot config init` writes: every setting with its description and its default."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from edgeannot.base.foreign import json_text
from edgeannot.settings.described import descriptions, sections
from edgeannot.settings.problems import models_in
from edgeannot.settings.tree import Settings

__all__ = ["commented_settings"]

_HEAD = """\
# Settings of edgeannot (TOML). Remove the # before a name to set it; what stands there is the default, or an example where there is none.
# `edgeannot config check` names every mistake with its line, `edgeannot config` shows what is in force.
# Passwords do not belong here: put each into a file of its own and name that file.
"""
_NO_DEFAULT: dict[str, Any] = {"device": "porch", "data_dir": "/var/lib/edgeannot"}
"""Examples where the default is this machine's."""
_WIDTH = 110


def commented_settings() -> str:
    """Return the file: nothing is set in it, so that it means what no file means."""
    parts, source = [_HEAD], "NAME"
    for table, title, model in sections():
        kind = model.model_fields.get("kind")
        source = str(kind.default) if kind else source
        head = [] if not table else [f"## {title}".replace("`", ""), f"#[{table.replace('NAME', source)}]"]
        parts.append("\n".join([*head, *_settings(model)]))
    return "\n\n".join(parts).replace("\n\n\n", "\n\n") + "\n"


def _settings(model: type[BaseModel]) -> Iterator[str]:
    described = descriptions(model)
    for name, field in model.model_fields.items():
        if (model is Settings and name == "sources") or list(models_in(field.annotation)):
            continue  # a section of its own
        text = described.get(name, "The kind of the source.")
        yield from (f"# {line}" for line in textwrap.wrap(text, _WIDTH))
        yield f"#{name} = {_shown(name, field)}"


def _shown(name: str, field: FieldInfo) -> str:
    if name in _NO_DEFAULT:
        return json_text(_NO_DEFAULT[name])
    default = None if field.is_required() else field.default
    if default is None and field.examples:
        default = field.examples[0]
    if default is None:
        return f"{_example(field)}  # unset"
    if isinstance(default, dict):
        return "{}"
    return json_text(list(default) if isinstance(default, tuple) else str(default) if isinstance(default, Path) else default)


def _example(field: FieldInfo) -> str:
    """Return a value of the type of a setting that is unset by default."""
    types = str(field.annotation)
    bounds = [bound for each in field.metadata for bound in (getattr(each, "ge", None), getattr(each, "gt", None)) if bound is not None]
    if "Path" in types:
        return '"/path"'
    if "int" in types or "float" in types:
        return json_text((bounds[0] if bounds else 0) or 1)
    return '"..."'
