"""Kinds of one contract by name: those that are built in, and those that installed packages add by entry points.

Packages are looked at for a name only that is not built in, so that nobody else pays for them; what one offers is checked, and an error
names the package.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from edgeannot.base.entry_points import EntryPoint, entry_points
from edgeannot.base.errors import ConfigError
from edgeannot.base.foreign import shorten

__all__ = ["Registry"]

T = TypeVar("T")


class Registry(Generic[T]):
    """See the module."""

    def __init__(self, what: str, group: str, built_in: Mapping[str, T], problem: Callable[[str, object], str]) -> None:
        """what: "source", for messages. group: of the entry points. problem: why an object is no kind of that name, "" where it is one."""
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
