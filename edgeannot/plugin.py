"""What somebody else's package may import to add a source, a sink or a head: these names, and no other module of edgeannot.

They keep their meaning while `PLUGIN_API` keeps its number; names may be added to it. docs/plugins.md says how a package registers a kind,
examples/edgeannot-example-plugin is one. Loads numpy and pydantic, neither OpenCV nor the runtime: a plug-in is imported when the settings
are read, so it imports what is heavy when its source, sink or head is made.
"""

from __future__ import annotations

from typing import Final

from edgeannot.base.errors import CardError, ConfigError, EdgeannotError, LinkError, MissingError
from edgeannot.base.options import Options
from edgeannot.payload import Origin, detections_payload, encode
from edgeannot.sinks.base import SinkContext, SinkKind, SinkOptions
from edgeannot.sinks.isolated import PluginSink
from edgeannot.sources.contract import Context as SourceContext
from edgeannot.sources.contract import Item, SourceKind, SourceOptions, Stop, Tick
from edgeannot.sources.isolated import PluginSource
from edgeannot.vision.data import (
    Annotation,
    Detections,
    Failure,
    FloatArray,
    Frame,
    IntArray,
    Outputs,
    RawTensor,
    TensorRef,
    TensorSpec,
    UInt8Array,
)
from edgeannot.vision.heads import Head

__all__ = [
    "PLUGIN_API",
    "Annotation",
    "CardError",
    "ConfigError",
    "Detections",
    "EdgeannotError",
    "Failure",
    "FloatArray",
    "Frame",
    "Head",
    "IntArray",
    "Item",
    "LinkError",
    "MissingError",
    "Options",
    "Origin",
    "Outputs",
    "PluginSink",
    "PluginSource",
    "RawTensor",
    "SinkContext",
    "SinkKind",
    "SinkOptions",
    "SourceContext",
    "SourceKind",
    "SourceOptions",
    "Stop",
    "TensorRef",
    "TensorSpec",
    "Tick",
    "UInt8Array",
    "detections_payload",
    "encode",
]

PLUGIN_API: Final = 1
"""Raised when a name here is removed or changes its meaning."""
