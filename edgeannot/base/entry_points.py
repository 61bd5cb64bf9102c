"""What installed packages add to this program: Python's entry points (https://packaging.python.org/specifications/entry-points/).

Read here and not by `importlib.metadata`, which takes 30 ms to import: a fifth of `edgeannot --help`. Nothing is imported before `load`.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["EntryPoint", "entry_points"]

_METADATA = (".dist-info", ".egg-info")


@dataclass(frozen=True, slots=True)
class EntryPoint:
    """One name of one installed package."""

    name: str
    target: str
    """module:attribute"""
    package: str
    """Name of the installed package."""

    def load(self) -> Any:
        """Import what it stands for. Raises whatever the package raises, AttributeError where the module lacks it."""
        module, _, attribute = self.target.partition(":")
        return functools.reduce(getattr, filter(None, attribute.split(".")), importlib.import_module(module))


def entry_points(group: str) -> tuple[EntryPoint, ...]:
    """Return the entry points of a group in all packages on the path, by name. Of a package that lies there twice the first counts."""
    found = (each for package, text in _installed(tuple(sys.path)) for each in _read(text, group, package))
    return tuple(sorted(found, key=lambda each: (each.name, each.package)))


@functools.lru_cache(maxsize=1)
def _installed(folders: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return name and `entry_points.txt` of each installed package that has one."""
    found: dict[str, str] = {}
    for folder in folders:
        try:
            metadata = sorted(path for path in Path(folder or ".").iterdir() if path.suffix in _METADATA)
        except OSError:  # not there, or an archive
            continue
        for path in metadata:
            package = path.stem.split("-")[0].replace("_", "-").lower()
            with contextlib.suppress(OSError, UnicodeDecodeError):
                found.setdefault(package, (path / "entry_points.txt").read_text(encoding="utf-8"))
    return list(found.items())


def _read(text: str, group: str, package: str) -> Iterator[EntryPoint]:
    section = ""
    for line in (line.strip() for line in text.splitlines()):
        if line.startswith("["):
            section = line.strip("[]").strip()
        elif section == group and not line.startswith(("#", ";")):
            name, equals, target = line.partition("=")
            if equals:
                yield EntryPoint(name.strip(), "".join(target.partition("[")[0].split()), package)
