"""Kinds of one contract by name: built-in ones, and those that installed packages add by entry points.

Packages are looked at only for a name that is not built in, so that nobody else pays for them; what one offers is checked, and an error
names the package. Entry points (https://packaging.python.org/specifications/entry-points/) are read here and not by `importlib.metadata`,
which takes 30 ms to import: a fifth of `edgeannot --help`.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from edgeannot.base.errors import ConfigError
from edgeannot.base.foreign import shorten

__all__ = ["EntryPoint", "Registry", "entry_points"]

T = TypeVar("T")

_METADATA = (".dist-info", ".egg-info")


class EntryPoint(NamedTuple):
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
            with os.scandir(folder or ".") as entries:  # a Path for each of some hundred entries would take longer than the rest
                names = sorted(entry.name for entry in entries if entry.name.endswith(_METADATA))
        except OSError:  # not there, or an archive
            continue
        for name in names:
            package = name.rpartition(".")[0].split("-")[0].replace("_", "-").lower()
            with contextlib.suppress(OSError, UnicodeDecodeError):
                found.setdefault(package, Path(folder, name, "entry_points.txt").read_text(encoding="utf-8"))
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


class Registry(Generic[T]):
    """The kinds of one sort: built-in ones and those of installed packages."""

    def __init__(self, what: str, group: str, built_in: Mapping[str, T], problem: Callable[[str, object], str]) -> None:
        """what: "source", for messages. group: of the entry points. problem: why an object is not a kind of that name; "" if it is."""
        self.what = what
        self.group = group
        self.built_in = built_in
        self._problem = problem
        self._added: dict[str, T] = {}
        self._packages: dict[str, str] = {}

    @property
    def wanted(self) -> str:
        """List the names that are built in as an error does: "a", "b" or "c"."""
        *others, last = (f'"{name}"' for name in self.built_in)
        return f"{', '.join(others)} or {last}"

    @property
    def known(self) -> dict[str, T]:
        """Return the kinds that are built in and those that were found."""
        return {**self.built_in, **self._added}

    def package(self, name: str) -> str | None:
        """Return the installed package that a kind is from; None for one that is built in."""
        return self._packages.get(name)

    def offers(self, name: str) -> bool:
        """Tell whether there is a kind of that name; nothing is imported."""
        return name in self.known or any(each.name == name for each in entry_points(self.group))

    def find(self, name: str) -> T:
        """Return the kind of that name. Raises ConfigError where there is none, or the package that offers it cannot be used."""
        if name not in self.built_in and name not in self._added:
            entry = self._entry(name)
            self._added[name] = self._load(entry)
            self._packages[name] = entry.package
        return self.known[name]

    def _entry(self, name: str) -> EntryPoint:
        entries = entry_points(self.group)
        for entry in entries:
            if entry.name in self.built_in:
                raise ConfigError(f"the package {entry.package} has a {self.what} called {entry.name!r}, which is built in; uninstall it")
        found = [entry for entry in entries if entry.name == name]
        if not found:
            raise ConfigError(f"wanted a {self.what} out of {self.wanted}, or one that an installed package adds; found {shorten(name)}")
        if len(found) > 1:
            packages = " and ".join(entry.package for entry in found)
            raise ConfigError(f"the packages {packages} each have a {self.what} called {name!r}; uninstall all but one")
        return found[0]

    def _load(self, entry: EntryPoint) -> T:
        whose = f"the {self.what} {entry.name!r} of the package {entry.package}"
        try:
            kind: T = entry.load()
        except (Exception, SystemExit) as exc:
            why = " ".join(f"{type(exc).__name__}: {exc}".split())
            raise ConfigError(f"{whose} cannot be imported ({why}); install another version of it, or leave it out") from exc
        if why := self._problem(entry.name, kind):
            raise ConfigError(f"{whose} cannot be used: {entry.target} {why}; install another version of it, or leave it out")
        return kind
