"""Settings from the environment's variables. Imported only where there are any."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Any, Union, cast

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsError

from edgeannot.base.errors import ConfigError
from edgeannot.base.redaction import redacted
from edgeannot.settings.problems import Problem
from edgeannot.settings.tree import PREFIX, Settings, Source
from edgeannot.sources import SOURCES

__all__ = ["read_variables"]


def read_variables(names: Collection[str]) -> tuple[dict[str, Any], list[Problem]]:
    """Return nested values, and what is wrong with those that are left out. names: of the variables. Raises ConfigError."""
    found: list[Problem] = []
    # The reader asks for no more than the fields of a model.
    source = _Environment(cast("type[BaseSettings]", Settings), env_prefix=PREFIX, env_nested_delimiter="__")
    while True:
        try:
            return source(), found
        except SettingsError as exc:
            named = (name for name in names if os.environ[name] == source.refused and name.lower() in source.env_vars)
            if (name := next(named, "")) == "":
                raise ConfigError("the environment: wanted JSON in a variable, found none that can be read") from exc
            key = name[len(PREFIX) :].lower().replace("__", ".")
            wanted = 'JSON, such as ["a", "b"] or {"a": 1}' if key != "labels" else "words separated by commas, such as person,dog"
            said = f"wanted {wanted}, found {redacted(repr(source.refused)):.80}"
            found.append(Problem(key, said, f"environment variable {name}"))
            source.env_vars = {other: value for other, value in source.env_vars.items() if other != name.lower()}


class _Environment(EnvSettingsSource):
    """The library's reader of variables; labels may also be written as on the command line, with commas."""

    refused = ""
    """The last text that was not JSON."""

    def next_field(self, field: FieldInfo | Any | None, key: str, case_sensitive: bool | None = None) -> FieldInfo | None:
        """Look for a setting of a source in all kinds: another variable says which kind it is. Else `protocol`, a text, is read as JSON."""
        if field == Source:
            field = Union[tuple(kind.options for kind in SOURCES.known.values())]  # noqa: UP007 - of as many as there are
        return super().next_field(field, key, case_sensitive)

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        try:
            return super().decode_complex_value(field_name, field, value)
        except (ValueError, RecursionError) as exc:
            words = tuple(word.strip() for word in value.split(","))
            if field is Settings.model_fields["labels"] and all(words) and not value.lstrip().startswith("["):
                return words
            self.refused = value
            # Deep in the tree the library lets the bare error through, and takes any ValueError for "not JSON after all" where it may.
            raise SettingsError(str(exc)) from exc
