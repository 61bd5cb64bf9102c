"""Sources: where pictures come from. A source is a generator that its caller pulls; one module per kind.

The caller owns the loop and the thread. It gets a `Frame` for each picture, a `Failure` for each file that cannot be one, and a
`Tick` when there is neither. A new kind is one file with its options and its class, and one line in `SOURCES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from pydantic_core import PydanticKnownError

from edgeannot.base.errors import ConfigError
from edgeannot.base.options import refused
from edgeannot.base.registry import Registry
from edgeannot.sources.camera import CameraOptions, CameraSource
from edgeannot.sources.contract import Context, Item, Source, SourceKind, SourceOptions, Stop, Tick
from edgeannot.sources.directory import DirectorySource
from edgeannot.sources.directory_options import DirectoryOptions
from edgeannot.sources.files import FilesOptions, FilesSource
from edgeannot.sources.isolated import IsolatedSource, PluginSource
from edgeannot.sources.mqtt import MqttSource
from edgeannot.sources.mqtt_options import MqttSourceOptions

__all__ = [
    "SOURCES",
    "CameraOptions",
    "Context",
    "DirectoryOptions",
    "FilesOptions",
    "Item",
    "MqttSourceOptions",
    "PluginSource",
    "Source",
    "SourceKind",
    "SourceOptions",
    "Stop",
    "Tick",
    "open_source",
    "read_source",
]


def _problem(name: str, kind: object) -> str:
    if not isinstance(kind, SourceKind):
        return "is not a SourceKind"
    options: object = kind.options
    if not (isinstance(options, type) and issubclass(options, SourceOptions)):
        return "has options that are not SourceOptions"
    found = options.model_fields["kind"].default
    return "" if found == name else f"has options whose kind is {found!r}"


SOURCES = Registry(
    "source",
    "edgeannot.sources",
    {
        "directory": SourceKind(DirectoryOptions, DirectorySource),
        "camera": SourceKind(CameraOptions, CameraSource),
        "files": SourceKind(FilesOptions, FilesSource),
        "mqtt": SourceKind(MqttSourceOptions, MqttSource),
    },
    _problem,
)


def read_source(section: object) -> SourceOptions:
    """Read the settings of one source by its kind. For pydantic: raises its errors."""
    if isinstance(section, SourceOptions):
        return section
    if not isinstance(section, Mapping):
        raise PydanticKnownError("dict_type")
    if not isinstance(kind := section.get("kind"), str):
        raise refused(f"wanted a kind = {SOURCES.wanted}, found {'none' if kind is None else 'no text'}")
    try:
        options = SOURCES.find(kind).options
    except ConfigError as exc:
        raise refused(exc) from exc
    return options.model_validate(section)


def open_source(name: str, options: SourceOptions, context: Context | None = None) -> Source:
    """Create the source of that kind; it opens nothing before its first item. Raises ConfigError for conflicting settings."""
    context, kind = context or Context(), SOURCES.find(options.kind)
    if package := SOURCES.package(options.kind):
        return IsolatedSource(name, options.kind, package, lambda: kind.open(name, options, context), once=context.once)
    return cast("Source", kind.open(name, options, context))
