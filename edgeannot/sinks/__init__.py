"""Sinks: where results go. One file a kind, each with its options beside it; importing them loads neither OpenCV nor paho.

A new kind is one file and two lines here: its options in `SinkOptions`, its class in `open_sinks`.
"""

from __future__ import annotations

from pathlib import Path

from edgeannot.sinks.base import Options, Sink, SinkContext
from edgeannot.sinks.images import ImagesOptions, ImagesSink
from edgeannot.sinks.jsonl import JsonlOptions, JsonlSink
from edgeannot.sinks.labels import LabelsOptions, LabelsSink
from edgeannot.sinks.mqtt import MqttOptions, MqttSink

__all__ = [
    "ImagesOptions",
    "JsonlOptions",
    "LabelsOptions",
    "MqttOptions",
    "Sink",
    "SinkContext",
    "SinkOptions",
    "open_sinks",
    "written_paths",
]


class SinkOptions(Options):
    """Where results go."""

    mqtt: MqttOptions = MqttOptions()
    """[sinks.mqtt]: detections and counts to a broker."""
    images: ImagesOptions = ImagesOptions()
    """[sinks.images]: annotated copies of the pictures."""
    labels: LabelsOptions = LabelsOptions()
    """[sinks.labels]: label files for training tools."""
    jsonl: JsonlOptions = JsonlOptions()
    """[sinks.jsonl]: the results as lines of a file."""


def written_paths(options: SinkOptions, out_dir: Path) -> tuple[Path, ...]:
    """The folders and files that the enabled sinks write to; a watched folder must not lie in one of them."""
    paths = [out_dir / sink.folder for sink in (options.images, options.labels) if sink.enabled]
    if options.jsonl.enabled:
        paths += [out_dir / options.jsonl.file.with_name(name) for name in options.jsonl.names()]
    return tuple(paths)


def open_sinks(options: SinkOptions, context: SinkContext) -> list[Sink]:
    """The sinks that are enabled. Raises ConfigError when a file or folder of theirs cannot be written."""
    sinks: list[Sink] = []
    if options.images.enabled:
        sinks.append(ImagesSink(options.images, context))
    if options.labels.enabled:
        sinks.append(LabelsSink(options.labels, context))
    if options.jsonl.enabled:
        sinks.append(JsonlSink(options.jsonl, context))
    if options.mqtt.enabled:
        sinks.append(MqttSink(options.mqtt, context))
    return sinks
