"""What is wrong with settings: all of it at once, each with its key, its place and what was wanted, in our words."""

from __future__ import annotations

import copy
import difflib
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError

from edgeannot.base.foreign import json_text, os_bytes, printable, shorten
from edgeannot.base.options import says_what_was_found, wanted
from edgeannot.base.redaction import redacted, redacted_setting
from edgeannot.scene.classify_options import ClassifyOptions, StateOptions
from edgeannot.settings.lines import line_of, lines_of_keys
from edgeannot.settings.tree import HealthOptions, PageOptions, Settings, flatten
from edgeannot.sinks import SINKS
from edgeannot.sources import SOURCES

__all__ = ["Problem", "Where", "models_in", "problems_of", "sections_of", "strictly", "unusable"]

_Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong."""

    key: str
    """Dotted, as printed."""
    said: str
    """What was wanted and what was found."""
    place: str = ""
    """The layer that the value came from; of a file its name."""
    line: int | None = None
    """In that file, from 1."""
    unknown: bool = False
    """Whether there is no setting of that name."""

    def __str__(self) -> str:
        place = self.place + (f", line {self.line}" if self.line else "")
        return f"{self.key}: {self.said}" + (f" ({place})" if place else "")

    def rank(self) -> tuple[bool, int, str, str]:
        """Return what problems are sorted by: unknown names first, as they explain what follows; then by line."""
        return not self.unknown, self.line or 0, self.key, self.said


@dataclass(frozen=True)
class Where:
    """Where the values came from."""

    origins: Mapping[str, str]
    """Dotted key -> layer."""
    file: str = ""
    """The layer that is a file; it counts for what no layer names."""
    text: str = field(default="", repr=False)
    """Its content."""

    @functools.cached_property
    def lines(self) -> Mapping[_Path, int]:
        """Return the line of each key in the file; it is read for this when something is wrong, not at each start."""
        return lines_of_keys(self.text)

    def problem(self, path: _Path, said: str, *, unknown: bool = False) -> Problem:
        """Return a problem of a key with its place."""
        key = ".".join(map(str, path))
        whose = (key, key.rpartition(".")[0])
        layer = next((self.origins[k] for start in whose for k in self.origins if k == start or k.startswith(f"{start}.")), "")
        if not self.origins:
            layer = self.file
        line = line_of(path, self.lines) if self.text and layer == self.file else None
        shown = printable(key)
        return Problem(shown if len(shown) <= 100 else f"{shown[:97]}...", said, layer, line, unknown)


def problems_of(values: Mapping[str, Any], where: Where) -> list[Problem]:
    """Return everything that the tree of settings refuses in the merged values, unknown names first.

    What is refused is taken out and the rest is read again, as a section with a wrong value is not looked at as a whole. What is said then
    of a section that lost something follows from the loss, and is left out.
    """
    rest: dict[str, Any] = _copy(values)
    found: list[tuple[_Path, Mapping[str, Any]]] = []
    lost: set[_Path] = set()
    while True:
        try:
            Settings(**rest)
            break
        except ValidationError as exc:
            errors = [(_place(error["loc"]), error) for error in exc.errors()]
        before = len(lost)
        fresh = [
            (path, error) for path, error in errors if not any(gone[: len(path)] == path or path[: len(gone)] == gone for gone in lost)
        ]
        found += fresh
        gone_now = []
        for path, error in errors:
            again = (path, error) not in fresh
            gone_now.append(_owner(path) if again or error["type"] == "missing" or not _is_in(rest, path) else path)
        for path in gone_now:
            _take_out(rest, path)
            lost.add(path)
        if len(lost) == before:  # nothing left to take out
            break
    return sorted(dict.fromkeys(_explained(found, where)), key=Problem.rank)


def _copy(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, Mapping) else copy.copy(value) for key, value in values.items()}


def _place(loc: Sequence[str | int]) -> _Path:
    return tuple(part for part in loc if part != "[key]")


def _owner(path: _Path) -> _Path:
    """Return the section that a key is in; a source and a sink are the largest ones."""
    return path[:-1] if len(path) > 2 else path


def _is_in(values: Any, path: _Path) -> bool:
    for part in path:
        if isinstance(values, Mapping) and part in values:
            values = values[part]
        else:
            return False
    return True


def _take_out(values: Any, path: _Path) -> None:
    """Remove a key; of one that is not there, or is an entry of a list, the nearest table entry above it."""
    for part in path[:-1]:
        inner = values.get(part)
        if not isinstance(inner, dict):
            values.pop(part, None)
            return
        values = inner
    values.pop(path[-1], None)


def _explained(found: Iterable[tuple[_Path, Mapping[str, Any]]], where: Where) -> Iterator[Problem]:
    """Put the errors into words. A setting that is missing is answered with the unknown one that was written instead of it."""
    errors = list(found)
    missing = [path for path, error in errors if error["type"] == "missing"]
    answered = set()
    for path, error in errors:
        if error["type"] == "extra_forbidden":
            lacking = [other for other in missing if other[:-1] == path[:-1] and other not in answered]
            said, instead = _unknown(path, error["input"], lacking)
            answered.add(instead)
            yield where.problem(path, said, unknown=True)
    for path, error in errors:
        if error["type"] != "extra_forbidden" and not (path in answered and error["type"] == "missing"):
            yield where.problem(path, _sentence(path, error))


def _sentence(path: _Path, error: Mapping[str, Any]) -> str:
    if error["type"] == "missing":
        return "wanted a value, found none"
    said = wanted(error)
    if said == "wanted a section":
        said = f"wanted a section, [{printable('.'.join(map(str, path)))[:100]}]"
    return said if says_what_was_found(error) else f"{said}, found {redacted(shorten(error['input'], 1000)):.80}"


def _unknown(path: _Path, value: object, lacking: Sequence[_Path]) -> tuple[str, _Path | None]:
    """Return what is said of an unknown setting, and the missing one that it answers for."""
    section = sections_of(path)
    name = str(path[-1])
    names = {each for model in section for each in model.model_fields}
    other = next((each[name.lower()] for model in section if name.lower() in (each := getattr(model, "other_names", {}))), None)
    near = next(iter(difflib.get_close_matches(name, names, n=1, cutoff=0.7)), None) or other
    shown = json_text(redacted_setting(name, value)) if isinstance(value, str) else "..."
    if near:
        answer = next((each for each in lacking if each[-1] == near), None)
        return f"unknown setting; did you mean {near}{f' = {shown:.80}' if answer else ''}?", answer
    if len(lacking) == 1:
        needed = str(lacking[0][-1])
        return f"unknown setting; wanted {needed}, which is missing: {needed} = {shown:.80}", lacking[0]
    places = [place for place, model in _tables() if name in model.model_fields and model not in section]
    return "unknown setting" + (f"; it belongs into {' or '.join(places[:2])}" if places else ""), None


_NAMED = ("classify", "states")
"""Tables of sections of one kind, by a name of the user."""


def _tables() -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield where each section is written, and the section."""
    yield "the top of the file", Settings
    yield "[health]", HealthOptions
    yield "[classify.LABEL]", ClassifyOptions
    yield "[states.NAME]", StateOptions
    yield "[page]", PageOptions
    for kind, sink in SINKS.known.items():
        yield f"[sinks.{kind}]", sink.options
    for kind, source in SOURCES.known.items():
        yield f'a source of kind = "{kind}"', source.options


def sections_of(path: Sequence[str | int]) -> set[type[BaseModel]]:
    """Return the sections in which the last part of a path may be a setting: of a source those of all kinds."""
    section: set[type[BaseModel]] = {Settings}
    inner = path[:-1]
    if path[0] == "sources" and len(path) > 2:
        section, inner = {kind.options for kind in SOURCES.known.values()}, path[2:-1]
    elif path[0] == "sinks" and len(path) > 2 and path[1] not in SINKS.built_in:
        section, inner = {SINKS.find(str(path[1])).options}, path[2:-1]
    elif path[0] in _NAMED and len(path) > 2:
        inner = (path[0], *path[2:-1])
    for part in inner:
        section = {model for each in section if part in each.model_fields for model in models_in(each.model_fields[str(part)].annotation)}
    return section


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the sections that a type is made of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from models_in(part)


def unusable(merged: Mapping[str, Any], where: Where) -> list[Problem]:
    """Return text that no file name, topic or password can hold."""
    found = []
    for key, value in flatten(merged):
        texts = [text for text in (value if isinstance(value, list | tuple) else (value,)) if isinstance(text, str)]
        if any("\0" in text or os_bytes(text).decode("utf-8", "surrogateescape") != text for text in texts):
            found.append(where.problem(tuple(key.split(".")), "wanted text, found a NUL or an invalid character in it"))
    return found


def strictly(values: Mapping[str, Any], where: Where) -> list[Problem]:
    """Return what a file writes as another type than it means: "2" for 2, or "yes" for true.

    The environment has only text, so the tree reads it so; in a file it is a slip, which an editor marks by the schema as well.
    """
    return [where.problem(path, said) for path, said in _loose(values, ())]


def _loose(values: Mapping[str, Any], path: _Path) -> Iterator[tuple[_Path, str]]:
    for key, value in values.items():
        place = (*path, key)
        if isinstance(value, Mapping):
            yield from _loose(value, place)
        elif isinstance(value, bool | int | float | str):
            fields = (model.model_fields[key] for model in _models_at(place, values) if key in model.model_fields)
            types = {each for field in fields for each in _types(field.annotation)}
            if types and type(value) not in types and (wants := _type_wanted(types, value)):
                yield place, f"wanted {wants}, found {redacted(shorten(value, 1000)):.80}"


def _models_at(path: _Path, section: Mapping[str, Any]) -> set[type[BaseModel]]:
    kind = section.get("kind")
    if path[0] == "sources" and len(path) == 3 and isinstance(kind, str) and kind in SOURCES.known:
        return {SOURCES.known[kind].options}
    if path[0] == "sinks" and len(path) > 2 and path[1] not in SINKS.known:
        return set()  # the tree says that nobody offers it
    return sections_of(path)


def _types(annotation: Any) -> Iterator[type]:
    if get_origin(annotation) is Literal:
        yield from {type(value) for value in get_args(annotation)}
    elif get_origin(annotation) in (tuple, list, dict):
        return  # no scalar: the tree refuses one
    elif get_args(annotation):
        for part in get_args(annotation):
            yield from _types(part)
    elif annotation is Path:
        yield str
    elif annotation is float:
        yield from (float, int)
    elif annotation in (bool, int, str):
        yield annotation


def _type_wanted(types: set[type], value: object) -> str:
    if isinstance(value, float) and value.is_integer() and int in types:
        return ""
    if bool in types:
        return "true or false"
    if str in types:
        return ""  # the tree says what it wants
    return "a number" if float in types else "a whole number" if int in types else ""
