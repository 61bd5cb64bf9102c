"""Sinks: where results go. One module per kind, with its options; importing them loads neither OpenCV nor paho.

A new kind is one file with its options and its class, and one line in `SINKS`. Its settings are the section of its name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from pydantic import ConfigDict, create_model, model_validator

from edgeannot.base.errors import ConfigError
from edgeannot.base.options import Options, refused
from edgeannot.base.registry import Registry
from edgeannot.sinks.base import Sink, SinkContext, SinkKind, SinkOptions
from edgeannot.sinks.crops import CropsOptions, CropsSink
from edgeannot.sinks.events import EventsOptions, EventsSink
from edgeannot.sinks.images import ImagesOptions, ImagesSink
from edgeannot.sinks.isolated import IsolatedSink, PluginSink
from edgeannot.sinks.jsonl import JsonlOptions, JsonlSink
from edgeannot.sinks.labels import LabelsOptions, LabelsSink
from edgeannot.sinks.mqtt import MqttOptions, MqttSink
from edgeannot.sinks.unsure import UnsureOptions, UnsureSink
from edgeannot.sinks.webhook import WebhookOptions, WebhookSink

__all__ = [
    "SINKS",
    "CropsOptions",
    "ImagesOptions",
    "JsonlOptions",
    "LabelsOptions",
    "MqttOptions",
    "PluginSink",
    "Sink",
    "SinkContext",
    "SinkKind",
    "SinkOptions",
    "SinkSections",
    "UnsureOptions",
    "WebhookOptions",
    "open_sinks",
]


def _problem(name: str, kind: object) -> str:
    del name
    if not isinstance(kind, SinkKind):
        return "is not a SinkKind"
    fits = isinstance(kind.options, type) and issubclass(kind.options, SinkOptions)
    return "" if fits else "has options that are not SinkOptions"


SINKS = Registry(
    "sink",
    "edgeannot.sinks",
    {
        "images": SinkKind(ImagesOptions, ImagesSink),
        "labels": SinkKind(LabelsOptions, LabelsSink),
        "jsonl": SinkKind(JsonlOptions, JsonlSink),
        "crops": SinkKind(CropsOptions, CropsSink),
        "unsure": SinkKind(UnsureOptions, UnsureSink),
        "events": SinkKind(EventsOptions, EventsSink),
        "mqtt": SinkKind(MqttOptions, MqttSink),
        "webhook": SinkKind(WebhookOptions, WebhookSink),
    },
    _problem,
)


def _with_every_kind(base: type[SinkSections]) -> type[SinkSections]:
    """Return the class with a section for each kind that is built in."""
    kinds = [(kind, each.options) for kind, each in SINKS.built_in.items() if kind not in base.model_fields]
    fields: dict[str, Any] = {kind: (options, options()) for kind, options in kinds}
    return create_model(base.__name__, __base__=base, __doc__=base.__doc__, __module__=__name__, **fields)


@_with_every_kind
class SinkSections(Options):
    """Where results go: a section for each kind. Those that installed packages add are there when the settings name them."""

    model_config = ConfigDict(extra="allow")

    mqtt: MqttOptions = MqttOptions()
    """Named here because the daemon itself speaks to this broker, too."""

    @model_validator(mode="before")
    @classmethod
    def _read_added(cls, sections: Any) -> Any:
        added = {name: each for name, each in sections.items() if name not in cls.model_fields} if isinstance(sections, Mapping) else {}
        if not added:
            return sections
        try:
            fields: dict[str, Any] = {name: (SINKS.find(name).options, ...) for name in added if SINKS.offers(name)}
        except ConfigError as exc:
            raise refused(exc) from exc
        read = create_model("SinkSections", __base__=Options, **fields).model_validate(added)  # refuses a name that nobody offers
        return {**sections, **{name: getattr(read, name) for name in added}}

    def by_kind(self) -> Iterator[tuple[str, SinkOptions]]:
        """Return the section of each kind, in the order in which sinks process a result."""
        for kind in [*SINKS.built_in, *(self.model_extra or {})]:
            yield kind, getattr(self, kind)

    @property
    def enabled(self) -> list[str]:
        """Return the kinds that are enabled."""
        return [kind for kind, options in self.by_kind() if options.enabled]

    def written_paths(self, out_dir: Path) -> tuple[Path, ...]:
        """Return the folders and files that the enabled sinks write to; a watched folder must not lie in one of them."""
        return tuple(path for _, options in self.by_kind() if options.enabled for path in options.written_paths(out_dir))


def open_sinks(sections: SinkSections, context: SinkContext) -> list[Sink]:
    """Create the enabled sinks. Raises ConfigError if a file or folder of theirs cannot be written."""
    return [_open(kind, options, context) for kind, options in sections.by_kind() if options.enabled]


def _open(kind: str, options: SinkOptions, context: SinkContext) -> Sink:
    found = SINKS.find(kind)
    if package := SINKS.package(kind):
        return IsolatedSink(kind, package, lambda: found.open(options, context))
    return cast("Sink", found.open(options, context))
