"""The JSON Schema (2020-12) of the configuration file, for editors: pydantic's own, with what it does not know of our sections.

It accepts and refuses what the program does, but for what needs more than the file: whether an address can be read, settings that
exclude each other by an address, and packages that are not installed here.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from edgeannot.base.registry import Registry, entry_points
from edgeannot.settings.described import descriptions
from edgeannot.settings.problems import models_in
from edgeannot.settings.tree import RESERVED_NAMES, SOURCE_NAME, Settings
from edgeannot.sinks import SINKS, SinkSections
from edgeannot.sources import SOURCES

__all__ = ["settings_schema"]


def settings_schema() -> dict[str, Any]:
    """Return the schema, with a description for each setting and the kinds of installed packages. Raises ConfigError for a broken one."""
    sources = {name: SOURCES.find(name).options for name in _names(SOURCES)}
    sinks = {name: SINKS.find(name).options for name in _names(SINKS)}
    models: list[type[BaseModel]] = list(dict.fromkeys(_with_parts([Settings, SinkSections, *sources.values(), *sinks.values()])))
    refs, schema = models_json_schema([(model, "validation") for model in models], ref_template="#/$defs/{model}")
    parts = schema["$defs"]
    of = {model: parts[refs[model, "validation"]["$ref"].rpartition("/")[2]] for model in models}
    for model, part in of.items():
        part.pop("title", None)
        part.pop("description", None)
        described = descriptions(model)
        for name, each in part.get("properties", {}).items():
            plain = {key: value for key, value in _without_null(each).items() if key not in {"title", "format"}}
            part["properties"][name] = plain | ({"description": described[name]} if name in described else {})
    for options in sources.values():
        of[options]["required"] = sorted({*of[options].get("required", ()), "kind"})
    of[SinkSections]["additionalProperties"] = False
    of[SinkSections]["properties"] |= {name: {"$ref": refs[options, "validation"]["$ref"]} for name, options in sinks.items()}
    top = parts.pop("Settings")
    parts.pop("SourceOptions", None)  # what all kinds have in common stands in each
    top["properties"]["sources"] = {
        "description": "Where pictures come from, by name.",
        "type": "object",
        "propertyNames": {"pattern": f"^{SOURCE_NAME}$", "not": {"enum": list(RESERVED_NAMES)}},
        "additionalProperties": _by_kind({name: refs[options, "validation"]["$ref"] for name, options in sources.items()}),
    }
    top["properties"]["sinks"] = {"$ref": refs[SinkSections, "validation"]["$ref"], "description": "Where results go."}
    for name in ("device", "data_dir"):  # this machine's are no defaults of another
        top["properties"][name].pop("default", None)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "edgeannot.toml",
        **top,
        "$defs": parts,
    }


def _names(kinds: Registry[Any]) -> list[str]:
    return list(dict.fromkeys([*kinds.built_in, *(each.name for each in entry_points(kinds.group))]))


def _with_parts(models: list[type[BaseModel]]) -> list[type[BaseModel]]:
    found = list(models)
    for model in models:
        for field in model.model_fields.values():
            found += _with_parts(list(models_in(field.annotation)))
    return found


def _without_null(part: dict[str, Any]) -> dict[str, Any]:
    """Remove what TOML cannot say: that a setting is null."""
    rest = {key: value for key, value in part.items() if not (key == "default" and value is None)}
    kinds = rest.get("anyOf")
    if kinds and len(others := [each for each in kinds if each != {"type": "null"}]) == 1:
        del rest["anyOf"]
        rest |= {key: value for key, value in others[0].items() if key != "format"}
    if "$ref" in rest:
        rest.pop("default", None)  # a section's are those of its settings
    return rest


def _by_kind(refs: dict[str, str]) -> dict[str, Any]:
    """Return the schema of a section that its `kind` chooses; an editor then names what is wrong in that kind, not in all of them."""
    branches = [
        {"if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]}, "then": {"$ref": ref}} for kind, ref in refs.items()
    ]
    return {"type": "object", "properties": {"kind": {"enum": list(refs)}}, "required": ["kind"], "allOf": branches}
