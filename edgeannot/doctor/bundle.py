"""What `doctor --bundle` packs for a maintainer: named fields only, so that nothing of the user's is in it.

Words come from lists of ours (codes, kinds, choices, names of bundled models); of everything else only numbers, and whether it is set.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from edgeannot import __version__
from edgeannot.base.places import bundled_folder
from edgeannot.base.runtimes import RUNTIMES
from edgeannot.doctor.findings import Examined, Finding
from edgeannot.probe import Board
from edgeannot.settings import Settings
from edgeannot.settings.problems import models_in
from edgeannot.sources import SOURCES

__all__ = ["bundle"]

_PACKAGES = ("numpy", "opencv-python-headless", "simplejpeg", "paho-mqtt", "pydantic", "pydantic-settings", "typer")


def bundle(examined: Examined, findings: Sequence[Finding], board: Board, versions: Mapping[str, str]) -> dict[str, Any]:
    """Return the content: versions, the board, the code and level of each finding, and the settings without their words."""
    names = {*_PACKAGES, *RUNTIMES}
    return {
        "bundle": 1,
        "edgeannot": __version__,
        "python": platform.python_version(),
        "machine": board.machine,
        "libc": " ".join(platform.libc_ver()),
        "packages": {name: version for name, version in versions.items() if name in names},
        "board": {
            "cores": board.processor.cores,
            "usable_cores": board.usable_cores,
            "family": board.processor.family,
            "int8": list(board.processor.int8),
            "memory_mb": board.memory_bytes >> 20,
            "quota_cores": board.limits.quota_cores,
            "temperature_c": board.temperature_c,
            "firmware_throttle": board.firmware_throttle,
            "runtime": board.runtime.name if board.runtime else None,
        },
        "findings": [{"code": each.code, "level": each.level} for each in findings],
        "settings": _settings(examined.settings) if examined.settings else None,
    }


def _settings(settings: Settings) -> dict[str, Any]:
    bundled = {path.stem for path in bundled_folder().glob("*.toml")}
    model = settings.model and settings.model.partition("@")[0]
    shown = dict(_values(settings))
    shown["model"] = None if model is None else model if model in bundled else "own"
    shown["sources"] = [
        dict(_values(source)) if SOURCES.package(source.kind) is None else {"kind": "of a package"} for source in settings.sources.values()
    ]
    shown["sinks"] = {
        kind: dict(_values(options)) for kind, options in settings.sinks.by_kind() if kind in type(settings.sinks).model_fields
    }
    return shown


def _values(section: BaseModel) -> Iterator[tuple[str, Any]]:
    """Yield name and value of what can be no secret: numbers, truth values, words out of a few; of the rest whether it is set."""
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if name in ("sources", "sinks", "model"):
            continue
        if isinstance(value, BaseModel):
            yield name, dict(_values(value))
        elif list(models_in(field.annotation)):
            yield name, None
        elif isinstance(value, bool | int | float) or value is None or value in _choices(field.annotation):
            yield name, value
        else:
            yield name, "set" if value else "empty"


def _choices(annotation: object) -> tuple[object, ...]:
    return get_args(annotation) if get_origin(annotation) is Literal else ()
