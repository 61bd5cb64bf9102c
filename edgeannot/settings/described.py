"""The sections of the settings with their descriptions, for the pages, the schema and the commented file.

The descriptions are the docstrings of the fields. Pydantic can read them, too, but at each start, for a fifth of the time of the imports.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
from collections.abc import Iterator

from pydantic import BaseModel

from edgeannot.scene.classify_options import ClassifyOptions, StateOptions
from edgeannot.settings.tree import HealthOptions, PageOptions, Settings
from edgeannot.sinks import SINKS, SinkSections
from edgeannot.sources import SOURCES

__all__ = ["descriptions", "sections", "title"]


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
