"""What sections of the settings have in common, how one is read by its kind, and what is said of a value that one refuses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticCustomError

from edgeannot.base.errors import ConfigError

__all__ = ["Options", "refused", "says_what_was_found", "wanted"]


class Options(BaseModel):
    """A section of the settings: each field has a default or is wanted, what it means is its docstring; unknown names are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    other_names: ClassVar[Mapping[str, str]] = {}
    """Names that other programs have for these settings -> the name here, for the answer to an unknown one."""


def refused(message: str | ConfigError) -> PydanticCustomError:
    """Return an error for pydantic, which adds the place."""
    return PydanticCustomError("kind", "{said}", {"said": str(message)})


_OURS = frozenset({"kind", "value_error", "broker_url"})
"""Errors of our own validators. They say what was found themselves, and leave out what is secret."""

_LIST, _SECTION, _NUMBER, _WHOLE, _TEXT = 'a list like ["a", "b"]', "a section", "a number", "a whole number", "text in quotes"
_WANTED: Mapping[str, str] = {
    "missing": "a value",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_parsing_size": _WHOLE,
    "int_from_float": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": "a finite number",
    "string_type": _TEXT,
    "string_sub_type": _TEXT,
    "string_unicode": _TEXT,
    "path_type": "the path of a file or folder in quotes",
    "greater_than": "a number above {gt}",
    "greater_than_equal": "a number of {ge} or more",
    "less_than": "a number below {lt}",
    "less_than_equal": "a number of {le} or less",
    "string_too_short": "text of at least {min_length} characters",
    "string_too_long": "text of at most {max_length} characters",
    "string_pattern_mismatch": "text of the form {pattern}",
    "too_short": "at least {min_length} of them",
    "too_long": "at most {max_length} of them",
    "tuple_type": _LIST,
    "list_type": _LIST,
    "set_type": _LIST,
    "frozen_set_type": _LIST,
    "dict_type": _SECTION,
    "mapping_type": _SECTION,
    "model_type": _SECTION,
    "model_attributes_type": _SECTION,
    "dataclass_type": _SECTION,
}
"""Kinds of pydantic's errors (docs.pydantic.dev, "Validation Errors") in our words: its own speak of inputs and parsing."""


def wanted(error: Mapping[str, Any], what: str = "setting") -> str:
    """Return what is said of one of `ValidationError.errors()`, without its place and mostly without what was found. what: a key."""
    kind, context = error["type"], error.get("ctx") or {}
    if kind in _OURS:
        said = str(context.get("error", error["msg"]))
        return said[:1].lower() + said[1:]
    if kind == "extra_forbidden":
        return f"unknown {what}"
    if kind in {"literal_error", "enum"}:
        return f"wanted {str(context.get('expected', '')).replace(chr(39), chr(34))}"
    shown = {key: int(bound) if isinstance(bound, float) and bound.is_integer() else bound for key, bound in context.items()}
    return f"wanted {_WANTED.get(kind, 'another value').format_map(shown)}"


def says_what_was_found(error: Mapping[str, Any]) -> bool:
    """Tell whether the message of an error says all that is to be said of the value."""
    return error["type"] in _OURS | {"extra_forbidden", "missing"}
