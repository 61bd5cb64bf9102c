"""The settings tree and the origin of each value; the only reader of the environment and of the configuration file.

Command line > environment (`EDGEANNOT_`, nested by `__`) > TOML file > the profile's defaults > the field's default. An unknown
key is an error that names its place.
"""

from __future__ import annotations

import difflib
import os
import platform
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, SerializeAsAny, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from edgeannot.base.errors import ConfigError, MissingError
from edgeannot.base.foreign import is_file, json_text, os_bytes, parse_toml, printable, read_text, shorten, shorten_path
from edgeannot.base.places import NOT_SETTINGS, default_config_file, default_data_dir, nothing_is_configured
from edgeannot.base.redaction import learn, redacted, redacted_setting
from edgeannot.base.systemd import is_service
from edgeannot.sinks import SINKS, SinkSections
from edgeannot.sources import SOURCES, SourceOptions, read_source
from edgeannot.sources.directory_options import named_folder
from edgeannot.vision.data import Profile
from edgeannot.vision.profiles import PROFILE_DEFAULTS
from edgeannot.vision.runtimes import Runtime

__all__ = [
    "PROFILE_DEFAULTS",
    "Loaded",
    "Settings",
    "default_config_file",
    "default_data_dir",
    "find_data_dir",
    "find_runtime",
    "load_settings",
]

PREFIX = "EDGEANNOT_"

_Source = Annotated[SerializeAsAny[SourceOptions], PlainValidator(read_source)]
"""The section of one source, read by its kind."""


def _default_device() -> str:
    # A host name is what tells one board from another without asking; only characters that need no escaping in a topic.
    return re.sub(r"[^A-Za-z0-9_-]", "-", platform.node().split(".")[0]) or "edgeannot"


class Settings(BaseSettings):
    """Every setting with its default. A section of its own for each source and each sink."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        validate_default=True,
        allow_inf_nan=False,
    )

    device: str = Field(default_factory=_default_device, min_length=1)
    """Name of this device in topics and messages; by default the host name."""
    data_dir: Path = Field(default_factory=default_data_dir)
    """Folder for the ledger, messages to be sent, quarantined files and added models."""
    out_dir: Path | None = None
    """Folder that relative folders and files of the sinks lie in; unset: out/ in data_dir."""
    profile: Literal["auto", "low", "mid", "high"] = "auto"
    """Class of the board; auto grades the board by its facts, its limits and the measurements of `edgeannot probe`."""
    task: Literal["detect", "classify"] = "detect"
    """Boxes round objects, or one class for the picture."""
    model: str | None = None
    """Name of a model, also NAME@SIZE; unset: chosen by the profile. `edgeannot models list` shows what there is."""
    max_ms: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Longest time in ms for one picture, by which the model is chosen; unset: the profile's, 500, 200 or 67."""
    min_fps: float | None = Field(default=None, ge=0.001, allow_inf_nan=False)
    """Pictures a second that the chosen model must reach, another way to say max_ms; of both the stricter counts."""
    runtime: Literal["auto", "litert", "tflite-runtime"] = "auto"
    """The TFLite runtime; auto takes LiteRT where it is installed."""
    threads: int | None = Field(default=None, ge=1, le=256)
    """Threads for one inference; unset: the number of cores, at most max_threads."""
    max_threads: int = Field(default=4, ge=1, le=256)
    """Upper bound of threads when threads is unset; set by the profile."""
    max_fps: float = Field(default=5.0, gt=0)
    """Pictures a second taken from a live camera whose own section says nothing; set by the profile. Files are never skipped."""
    min_score: float | None = Field(default=None, ge=0, le=1)
    """Smallest score that is reported; unset: the model card's."""
    iou: float | None = Field(default=None, gt=0, le=1)
    """Boxes of one label that overlap more than this are one object; unset: the model card's."""
    labels: tuple[str, ...] = ()
    """Report only these labels; empty: all that the model knows."""
    sources: dict[str, _Source] = {}
    """Where pictures come from, by name: [sources.NAME] with a kind."""
    sinks: SinkSections = SinkSections()
    """Where results go: [sinks.KIND]."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """How much is logged."""

    @property
    def out_folder(self) -> Path:
        """Return the folder for results."""
        return self.out_dir or self.data_dir / "out"

    @field_validator("data_dir", "out_dir", mode="before")
    @classmethod
    def _somewhere(cls, folder: Any) -> Any:
        return named_folder(folder)

    @field_validator("sources")
    @classmethod
    def _named(cls, sources: dict[str, Any]) -> dict[str, Any]:
        for name in sources:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", name):
                raise ValueError(f"the source name {name!r}: wanted 1 to 64 letters, digits, - or _; it is a level of the MQTT topic")
            if name in {"command", "reply"}:
                raise ValueError(f"the source name {name!r} is that of the MQTT topics of commands: choose another")
        return sources

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Use only the values that `load_settings` passes: it reads the layers one by one to record the origin of each value."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)


class Loaded(BaseModel):
    """The settings, the layer that each given value came from, and what the profile follows from."""

    model_config = ConfigDict(arbitrary_types_allowed=True, frozen=True)

    settings: Settings
    profile: Profile
    """The profile in force: the one set, or what auto found."""
    profile_reason: str
    origins: dict[str, str]
    """Dotted key -> layer, for every value that is not a field's default."""

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """Yield key, value in TOML (or "unset") and layer of every setting, in the order of the tree."""
        for key, value in _flatten(self.settings.model_dump(mode="json")):
            shown = redacted_setting(key, value) if isinstance(value, str) else value
            yield key, "unset" if shown is None else json_text(shown), self.origins.get(key, "default")


def find_data_dir(given: Path | None) -> Path:
    """Return the data directory that `run` would use: from the command line, else from the settings.

    Raises ConfigError where the settings are wrong.
    """
    if given is not None or nothing_is_configured():
        return given or default_data_dir()
    return _without_profile().data_dir


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

    Raises MissingError when a named file is not there, ConfigError that names the key, the layer and what was wanted.
    """
    layers: dict[str, Mapping[str, Any]] = {
        "command line": overrides,
        "environment": _environment_values(),
        str(config_file): _file_values(config_file) if config_file else {},
    }
    learn(layers.values())
    profile, reason = _profile(layers, grade)
    layers[f"profile {profile}"] = PROFILE_DEFAULTS[profile]
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer, values in reversed(layers.items()):
        merged = _merge(merged, values)
        origins.update((key, layer) for key, _ in _flatten(values))
    left = {key for key, _ in _flatten(merged)}
    origins = {key: layer for key, layer in origins.items() if key in left}
    try:
        settings = Settings(**merged)
    except ValidationError as exc:
        raise ConfigError(_explain(exc, origins)) from exc
    _refuse_unusable(merged, origins)
    return Loaded(settings=settings, profile=profile, profile_reason=reason, origins=origins)


def _refuse_unusable(merged: Mapping[str, Any], origins: Mapping[str, str]) -> None:
    """Raise ConfigError for text that no file name, topic or password can hold."""
    for key, value in _flatten(merged):
        for text in value if isinstance(value, list | tuple) else (value,):
            if isinstance(text, str) and ("\0" in text or os_bytes(text).decode("utf-8", "surrogateescape") != text):
                layer = f" ({origins[key]})" if key in origins else ""
                raise ConfigError(f"{printable(key)[:100]}: wanted text, found a NUL or an invalid character in it{layer}")


def _profile(layers: Mapping[str, Mapping[str, Any]], grade: Callable[[], tuple[Profile, str]]) -> tuple[Profile, str]:
    for layer, values in layers.items():
        wanted = values.get("profile")
        for name in PROFILE_DEFAULTS:
            if name == wanted:
                return name, f"set by the {layer}" if layer in {"command line", "environment"} else f"set in {layer}"
        if wanted is not None:
            break
    return grade()


def _file_values(path: Path) -> dict[str, Any]:
    what = "the configuration file"
    if not is_file(path):
        raise MissingError(f"no configuration file at {shorten_path(path)}")
    try:
        return parse_toml(read_text(path, what, error=ConfigError), f"{what} {path}", error=ConfigError)
    except ConfigError as exc:
        if not isinstance(exc.__cause__, PermissionError):
            raise
        whose = "the user of the service" if is_service() else "this user"
        raise ConfigError(f"{exc}; let {whose} read it (secrets belong into separate files, which it names)") from exc


def _environment_values() -> dict[str, Any]:
    names = {name.upper(): name for name in os.environ if name.upper().startswith(PREFIX) and name.upper() not in NOT_SETTINGS}
    for name in sorted(names):
        field = name.removeprefix(PREFIX).split("__")[0].lower()
        if field not in Settings.model_fields:  # the library would pass over a misspelt variable in silence
            raise ConfigError(f"{field}: unknown setting (environment variable {names[name]})")
    source = _Environment(Settings)
    try:
        return source()
    except SettingsError as exc:
        name = next((name for name in names.values() if os.environ[name] == source.refused), PREFIX)
        key = name[len(PREFIX) :].lower().replace("__", ".")
        wanted = 'JSON, such as ["a", "b"] or {"a": 1}' if key != "labels" else "words separated by commas, such as person,dog"
        raise ConfigError(f"{key}: wanted {wanted}, found {redacted(repr(source.refused)):.80} (environment variable {name})") from exc


class _Environment(EnvSettingsSource):
    """The library's reader of variables; labels may also be written as on the command line, with commas."""

    refused = ""
    """The last text that was not JSON."""

    def next_field(self, field: FieldInfo | Any | None, key: str, case_sensitive: bool | None = None) -> FieldInfo | None:
        """Look for a setting of a source in all kinds: another variable says which kind it is. Else `protocol`, a text, is read as JSON."""
        if field == _Source:
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


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    kinds = {values["kind"] for values in (base, over) if isinstance(values.get("kind"), str)}
    merged = dict(base) if len(kinds) < 2 else {}  # a source of another kind shares nothing but the name
    for key, value in over.items():
        under = merged.get(key)
        merged[key] = _merge(under, value) if isinstance(under, Mapping) and isinstance(value, Mapping) else value
    return merged


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _like(path: Sequence[str]) -> str:
    """Return a suggestion of the setting with the nearest name in that section; empty if none is near."""
    section: set[type[BaseModel]] = {Settings}
    inner = path[:-1]
    if path[0] == "sources" and len(path) > 2:
        section, inner = {kind.options for kind in SOURCES.known.values()}, path[2:-1]
    elif path[0] == "sinks" and len(path) > 2 and path[1] not in SINKS.built_in:
        section, inner = {SINKS.find(path[1]).options}, path[2:-1]
    for part in inner:
        section = {model for each in section if part in each.model_fields for model in _models(each.model_fields[part].annotation)}
    near = difflib.get_close_matches(path[-1], {name for model in section for name in model.model_fields}, n=1, cutoff=0.7)
    return f"; did you mean {near[0]}?" if near else ""


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the sections that a type is made of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def _explain(exc: ValidationError, origins: Mapping[str, str]) -> str:
    """Return one sentence about the first error, with its key and layer."""
    error = exc.errors()[0]
    path = [str(part) for part in error["loc"]]
    key = printable(".".join(path))
    key = key if len(key) <= 100 else f"{key[:97]}..."
    ours = {
        "extra_forbidden": f"unknown setting{_like(path)}",
        "missing": "wanted a value, found none",
        "tuple_type": 'wanted a list like ["a", "b"]',
        "dict_type": f"wanted a section, [{key}]",
        "model_attributes_type": f"wanted a section, [{key}]",
    }
    message = ours.get(error["type"]) or error["msg"].removeprefix("Value error, ")
    # Messages of our own validators say what was found themselves, and leave out what is secret.
    own = error["type"] in {"extra_forbidden", "missing", "kind", "value_error", "broker_url"}
    found = "" if own else f", found {redacted(shorten(error['input'], 1000)):.80}"
    layer = next((origins[k] for start in (key, key.rpartition(".")[0]) for k in origins if k == start or k.startswith(f"{start}.")), None)
    return f"{key}: {message[:1].lower()}{message[1:]}{found}" + (f" ({layer})" if layer else "")
