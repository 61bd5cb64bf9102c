"""The sections of the settings with their descriptions, for the pages and the commented file, and the JSON Schema of them for editors.

The descriptions are the docstrings of the fields. Pydantic can read them, too, but at each start, for a fifth of the time of the imports.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from edgeannot.base.registry import Registry, entry_points
from edgeannot.scene.classify_options import ClassifyOptions, StateOptions
from edgeannot.settings.problems import models_in
from edgeannot.settings.tree import RESERVED_NAMES, SOURCE_NAME, HealthOptions, PageOptions, Settings
from edgeannot.sinks import SINKS, SinkSections
from edgeannot.sources import SOURCES

__all__ = ["descriptions", "sections", "settings_schema", "title"]


def sections() -> Iterator[tuple[str, str, type[BaseModel]]]:
    """Yield table, title and model of each section that is built in: a kind that is registered is there, its title is its docstring."""
    yield "", "Top level", Settings
    yield "classify.LABEL", title(ClassifyOptions), ClassifyOptions
    yield "states.NAME", title(StateOptions), StateOptions
    yield "health", title(HealthOptions), HealthOptions
    yield "page", title(PageOptions), PageOptions
    for kind, source in SOURCES.built_in.items():
        yield "sources.NAME", f'`kind = "{kind}"`: {title(source.options)}', source.options
        yield from ((f"sources.NAME.{name}", title(inner), inner) for name, inner in _inner(source.options) if name != "broker")
    for kind in SinkSections.model_fields:
        options = SINKS.built_in[kind].options
        yield f"sinks.{kind}", title(options), options
        yield from ((f"sinks.{kind}.{name}", title(inner), inner) for name, inner in _inner(options))


def _inner(options: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield the sections inside a section."""
    for name, field in options.model_fields.items():
        if isinstance(inner := field.annotation, type) and issubclass(inner, BaseModel):
            yield name, inner


def title(model: type[BaseModel]) -> str:
    """Return what a section is, from its docstring."""
    return (model.__doc__ or "").partition("\n")[0].partition(";")[0].rstrip(".")


def descriptions(model: type) -> dict[str, str]:
    """Return the docstring of each field of a model or a dataclass, by its name, in one line; of one without its source none."""
    found: dict[str, str] = {}
    for kind in (kind for kind in reversed(model.__mro__) if kind not in (object, BaseModel)):
        try:
            (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
        except (OSError, TypeError, SyntaxError):  # made at run time, or installed without sources
            continue
        if not isinstance(definition, ast.ClassDef):
            continue
        for field, text in itertools.pairwise(definition.body):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
                found[field.target.id] = " ".join(str(ast.literal_eval(text.value)).split())
    return {name: text for name, text in found.items() if name in getattr(model, "model_fields", found)}


def settings_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of the configuration file: pydantic's own, with what it does not know of our sections.

    It describes each setting and the kinds of installed packages, and refuses what the program does, but for what needs more than the file:
    whether an address can be read, settings that exclude each other by an address, and packages that are not installed here.

    Raises ConfigError for a broken package.
    """
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
