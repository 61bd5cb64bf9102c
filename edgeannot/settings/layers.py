"""The layers of the settings: read one by one, to know the origin of each value; the only reader of the file."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edgeannot.base.errors import ConfigError, MissingError
from edgeannot.base.foreign import is_file, parse_toml, read_text, shorten_path
from edgeannot.base.places import NOT_SETTINGS, data_dir_without_settings, default_config_file, nothing_is_configured
from edgeannot.base.redaction import learn
from edgeannot.base.runtimes import Runtime
from edgeannot.base.systemd import is_service_of_the_system
from edgeannot.settings.problems import Problem, Where, problems_of, strictly, unusable
from edgeannot.settings.tree import PREFIX, Loaded, Settings, flatten
from edgeannot.vision.data import Profile
from edgeannot.vision.profiles import PROFILE_DEFAULTS

__all__ = ["find_data_dir", "find_problems", "find_runtime", "load_settings"]


def find_data_dir(given: Path | None) -> Path:
    """Return the data directory that `run` would use: from the command line, else from the settings.

    Raises ConfigError where the settings are wrong.
    """
    return data_dir_without_settings(given) or _without_profile().data_dir


def find_runtime() -> Runtime:
    """Return the runtime that `run` would use. Raises ConfigError where the settings are wrong."""
    return "auto" if nothing_is_configured() else _without_profile().runtime


def _without_profile() -> Settings:
    return load_settings({}, default_config_file(), grade=lambda: ("low", "not judged: no profile is asked for")).settings


def load_settings(
    overrides: Mapping[str, Any],
    config_file: Path | None = None,
    *,
    grade: Callable[[], tuple[Profile, str]],
) -> Loaded:
    """Return the settings from all layers. overrides: nested values of the command line. grade: called only if profile is auto.

    Raises MissingError when a named file is not there, ConfigError that names the first wrong key, its place and what was wanted.
    """
    layers, found = _read(overrides, config_file)
    if found:
        raise _refusal(found)
    profile, reason = _profile(layers.values, grade)
    layers.add(f"profile {profile}", PROFILE_DEFAULTS[profile])
    try:
        settings = Settings(**layers.merged)
    except ValidationError:
        found = problems_of(layers.merged, layers.where)
    if wrong := found or unusable(layers.merged, layers.where):
        raise _refusal(wrong)
    return Loaded(settings=settings, profile=profile, profile_reason=reason, origins=dict(layers.where.origins))


def find_problems(overrides: Mapping[str, Any], config_file: Path | None = None) -> list[Problem]:
    """Return everything that is wrong with the settings, unknown names first; none: they can be loaded.

    Raises MissingError when a named file is not there, ConfigError where it is no TOML.
    """
    layers, found = _read(overrides, config_file)
    layers.add("profile", {})
    return sorted({*found, *problems_of(layers.merged, layers.where), *unusable(layers.merged, layers.where)}, key=Problem.rank)


def _refusal(problems: list[Problem]) -> ConfigError:
    more = f"; and {len(problems) - 1} more: `edgeannot config check` names all" if len(problems) > 1 else ""
    return ConfigError(f"{problems[0]}{more}")


@dataclass
class _Layers:
    """The values of each layer, uppermost first, and what they are together."""

    values: dict[str, Mapping[str, Any]]
    file_text: str = ""
    file: Path | None = None
    merged: dict[str, Any] = field(default_factory=dict)
    where: Where = field(default_factory=lambda: Where({}))

    def add(self, name: str, values: Mapping[str, Any]) -> None:
        """Add the lowest layer, and merge them all."""
        self.values[name] = values
        merged: dict[str, Any] = {}
        origins: dict[str, str] = {}
        for layer, each in reversed(self.values.items()):
            merged = _merge(merged, each)
            origins.update((key, layer) for key, _ in flatten(each))
        left = {key for key, _ in flatten(merged)}
        self.merged = merged
        self.where = Where({key: layer for key, layer in origins.items() if key in left}, str(self.file), self.file_text)


def _read(overrides: Mapping[str, Any], config_file: Path | None) -> tuple[_Layers, list[Problem]]:
    """Read the layers above the profile, and tell what can be told of each alone."""
    environment, found = _environment_values()
    values, text = _file_values(config_file) if config_file else ({}, "")
    layers = _Layers({"command line": overrides, "environment": environment, str(config_file): values}, text, config_file)
    learn(layers.values.values())
    found += strictly(values, Where({}, str(config_file), text))
    return layers, found


def _profile(layers: Mapping[str, Mapping[str, Any]], grade: Callable[[], tuple[Profile, str]]) -> tuple[Profile, str]:
    for layer, values in layers.items():
        wanted = values.get("profile")
        for name in PROFILE_DEFAULTS:
            if name == wanted:
                return name, f"set by the {layer}" if layer in {"command line", "environment"} else f"set in {layer}"
        if wanted is not None:
            break
    return grade()


def _file_values(path: Path) -> tuple[dict[str, Any], str]:
    what = "the configuration file"
    if not is_file(path):
        raise MissingError(f"no configuration file at {shorten_path(path)}")
    try:
        text = read_text(path, what, error=ConfigError)
        return parse_toml(text, f"{what} {path}", error=ConfigError), text
    except ConfigError as exc:
        if not isinstance(exc.__cause__, PermissionError):
            raise
        whose = "the user of the service" if is_service_of_the_system() else "this user"
        raise ConfigError(f"{exc}; let {whose} read it (secrets belong into separate files, which it names)") from exc


def _environment_values() -> tuple[dict[str, Any], list[Problem]]:
    names = {name.upper(): name for name in os.environ if name.upper().startswith(PREFIX) and name.upper() not in NOT_SETTINGS}
    found = []
    for upper in sorted(names):
        field_name = upper.removeprefix(PREFIX).split("__")[0].lower()
        if field_name not in Settings.model_fields:  # the library would pass over a misspelt variable in silence
            found.append(Problem(field_name, "unknown setting", f"environment variable {names[upper]}", unknown=True))
    if not names:
        return {}, found
    from edgeannot.settings.environment import read_variables  # noqa: PLC0415 - its library loads asyncio, 3 MB and 0.1 s, for nothing here

    values, refused = read_variables(names.values())
    return values, found + refused


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    kinds = {values["kind"] for values in (base, over) if isinstance(values.get("kind"), str)}
    merged = dict(base) if len(kinds) < 2 else {}  # a source of another kind shares nothing but the name
    for key, value in over.items():
        under = merged.get(key)
        merged[key] = _merge(under, value) if isinstance(under, Mapping) and isinstance(value, Mapping) else value
    return merged
