"""Sources: where pictures come from. A source is a generator that its caller pulls; one file a kind.

The caller owns the loop and the thread. It gets a `Frame` for each picture, a `Failure` for each file that cannot be one, and a
`Tick` when there is neither. A new kind is one file with its options (a pydantic model with a `kind`) and one line here.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from edgeannot.sources.camera import CameraOptions, CameraSource
from edgeannot.sources.contract import Context, Item, Source, Stop, Tick
from edgeannot.sources.directory import DirectorySource
from edgeannot.sources.directory_options import DirectoryOptions
from edgeannot.sources.mqtt import MqttSource
from edgeannot.sources.mqtt_options import MqttSourceOptions

__all__ = [
    "CameraOptions",
    "Context",
    "DirectoryOptions",
    "Item",
    "MqttSourceOptions",
    "Source",
    "SourceOptions",
    "Stop",
    "Tick",
    "open_source",
]

SourceOptions = Annotated[DirectoryOptions | CameraOptions | MqttSourceOptions, Field(discriminator="kind")]


def open_source(name: str, options: DirectoryOptions | CameraOptions | MqttSourceOptions, context: Context | None = None) -> Source:
    """The source of that kind; nothing is opened before its items are asked for. Raises ConfigError for settings that clash."""
    context = context or Context()
    if isinstance(options, DirectoryOptions):
        return DirectorySource(name, options, context)
    if isinstance(options, MqttSourceOptions):
        return MqttSource(name, options, context)
    return CameraSource(name, options, context)
