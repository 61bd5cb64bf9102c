"""The two files of a Darknet network: a .cfg, read into sections, and a .weights, read from front to back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgeannot.base.errors import InputError, MissingError
from edgeannot.base.foreign import as_float, printable, shorten

__all__ = [
    "HEAD_KINDS",
    "TINY_WARNING",
    "Section",
    "WeightSource",
    "WeightsFile",
    "known_mistakes",
    "parse_cfg",
    "read_bytes",
    "read_weights",
    "with_masks",
]

_SHORT_HEADER, _LONG_HEADER = 16, 20
"""Bytes of a .weights file's header: three numbers for the version, and the count of pictures in 4 or in 8 bytes."""
MAX_INT32 = 2**31 - 1
"""What sizes and numbers of a TFLite file are stored in."""
HEAD_KINDS = ("yolo", "region")
TINY_ANCHORS = (10, 14, 23, 27, 37, 58, 81, 82, 135, 169, 344, 319)
"""The anchors of yolov3-tiny.cfg, by which `_warnings` knows it."""
TINY_WARNING = (
    "this is yolov3-tiny.cfg, whose second [yolo] says mask = 0,1,2, while the published COCO weights were trained with 1,2,3: "
    "small objects get boxes of half their size. For those weights give the masks 3,4,5 and 1,2,3; keep the cfg's for weights "
    "that you trained with it yourself."
)


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Section:
    """One [kind] of a cfg with its options; `line` is where it begins, from 1."""

    kind: str
    line: int
    options: dict[str, str] = field(default_factory=dict)

    def integer(self, name: str, default: int) -> int:
        """Return an option as a whole number. Raises InputError where it is none."""
        found = self.number(name, default)
        if not found.is_integer():
            raise InputError(f"{self._where}: {name} = {shorten(self.options[name])} is not a whole number")
        if abs(found) > MAX_INT32:
            raise InputError(f"{self._where}: wanted whole numbers up to {MAX_INT32} for {name}, found {shorten(self.options[name])}")
        return int(found)

    def count(self, name: str, default: int) -> int:
        """Return an option as a whole number of at least 1. Raises InputError where it is none."""
        found = self.integer(name, default)
        if found < 1:
            raise InputError(f"{self._where}: wanted at least 1 for {name}, found {found}")
        return found

    def number(self, name: str, default: float) -> float:
        """Return an option as a number. Raises InputError where it is none."""
        found = as_float(self.options.get(name, default))
        if found is None:
            raise InputError(f"{self._where}: {name} = {shorten(self.options[name])} is not a number")
        return found

    def numbers(self, name: str) -> tuple[float, ...]:
        """Return an option as a list of numbers, () where it is absent."""
        parts = [part.strip() for part in self.options.get(name, "").split(",")]
        numbers = [as_float(part) for part in parts if part]
        known = tuple(number for number in numbers if number is not None)
        if len(known) < len(numbers):
            raise InputError(f"{self._where}: {name} = {shorten(self.options[name])} is not a list of numbers")
        return known

    def integers(self, name: str) -> tuple[int, ...]:
        """Return an option as a list of whole numbers, () where it is absent."""
        numbers = self.numbers(name)
        if not all(number.is_integer() and abs(number) <= MAX_INT32 for number in numbers):
            raise InputError(f"{self._where}: {name} = {shorten(self.options[name])} is not a list of whole numbers")
        return tuple(map(int, numbers))

    @property
    def _where(self) -> str:
        return f"cfg line {self.line}, [{printable(self.kind)}]"


def parse_cfg(text: str, where: str = "the cfg") -> list[Section]:
    """Return the sections of a cfg, [net] first.

    >>> parse_cfg("[net]\\nwidth=32 # pixels\\n[maxpool]\\nsize = 2")[1].options
    {'size': '2'}
    """
    sections: list[Section] = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.split("#")[0].split(";")[0].strip()
        if line.startswith("["):
            sections.append(Section(line.strip("[]").strip().lower(), number))
        elif line:
            name, equals, value = line.partition("=")
            if not equals or not sections:
                raise InputError(
                    f"{where} line {number}: wanted [section] or name = value, found {raw.strip()!r:.60}; is it a Darknet cfg?"
                )
            sections[-1].options[name.strip()] = value.strip()
    if not sections or sections[0].kind not in ("net", "network"):
        found = f"[{sections[0].kind}]" if sections else "nothing"
        raise InputError(f"{where}: wanted [net] as the first section, found {found}; is it a Darknet cfg?")
    return sections


def with_masks(sections: Sequence[Section], masks: Sequence[Sequence[int]], where: str) -> list[Section]:
    """Return the sections with other anchors chosen for each head, in their order. Raises InputError where the numbers do not fit."""
    heads = [section for section in sections if section.kind in HEAD_KINDS]
    if len(heads) != len(masks):
        raise InputError(f"{where} has {len(heads)} [yolo] sections, but masks for {len(masks)} were given")
    texts = iter([",".join(map(str, mask)) for mask in masks])
    return [
        replace(section, options=section.options | {"mask": next(texts)}) if section.kind in HEAD_KINDS else section for section in sections
    ]


def known_mistakes(sections: Sequence[Section], masks: Sequence[Sequence[int]] | None) -> list[str]:
    """Return what is known to be wrong with published files."""
    heads = [section for section in sections if section.kind == "yolo"]
    if masks is None and len(heads) == 2 and heads[1].numbers("anchors") == TINY_ANCHORS and heads[1].numbers("mask") == (0, 1, 2):
        return [TINY_WARNING]
    return []


class WeightSource(Protocol):
    """Where a network gets its numbers from: a file, or a generator in a test."""

    def take(self, count: int, layer: str, what: str) -> NDArray[np.float32]:
        """Return the next `count` floats; `what` is bias, scale, mean, variance or weights."""


class _LengthError(InputError):
    """The file has more or fewer floats than the network."""


class WeightsFile:
    """The floats of a .weights file, taken from front to back."""

    def __init__(self, data: bytes, where: str, *, other_header: bool = False) -> None:
        """other_header: read the header in the other form than its version has. Raises InputError for what cannot be weights."""
        self.where = where
        if len(data) < 16:
            raise InputError(f"{where} is too short for Darknet weights: {len(data)} bytes")
        major, minor, _ = np.frombuffer(data, "<i4", 3).tolist()
        if not (0 <= major < 1000 and 0 <= minor < 1000):
            raise InputError(f"{where} does not look like Darknet weights: its version reads {major}.{minor}")
        self.version = f"{major}.{minor}"
        # Since version 0.2 the number of pictures seen in training has 8 bytes.
        self.header_bytes = _LONG_HEADER if (major * 10 + minor >= 2) != other_header else _SHORT_HEADER
        if (len(data) - self.header_bytes) % 4:
            raise InputError(f"{where} is truncated: {len(data)} bytes are not a whole number of floats; fetch it again")
        self.floats = np.frombuffer(memoryview(data)[self.header_bytes :], "<f4")
        self.position = 0

    def take(self, count: int, layer: str, what: str) -> NDArray[np.float32]:
        """Return the next `count` floats. Raises InputError where there are not so many."""
        left = self.floats.size - self.position
        if count > left:
            raise _LengthError(
                f"{self.where} ends too early: {layer} needs {count} floats ({what}), {left} of {self.floats.size} are left; "
                "the file is truncated or belongs to another cfg"
            )
        self.position += count
        return self.floats[self.position - count : self.position]

    def expect_end(self, cfg: str) -> None:
        """Raise InputError where floats are left over."""
        left = self.floats.size - self.position
        if left:
            raise _LengthError(
                f"{self.where} has {self.floats.size} floats, {cfg} needs {self.position}: {left} are left over, "
                "so the weights belong to another cfg (often another number of classes)"
            )


def read_weights(path: Path, cfg: str, read: Callable[[WeightsFile], T]) -> tuple[T, tuple[str, ...]]:
    """Return what `read` makes of the whole file, and a sentence where its header is not that of its version.

    Darknet writes the counter as the machine's size_t, 4 bytes on a 32-bit board, and exporters write 8 bytes behind any version. No file
    fits a network in both forms, as they differ by one float. Raises MissingError, and InputError as `read` and where neither form fits.
    """

    def whole(file: WeightsFile) -> T:
        made = read(file)
        file.expect_end(cfg)
        return made

    data = read_bytes(path)
    stated = WeightsFile(data, str(path))
    try:
        return whole(stated), ()
    except _LengthError:
        # The upper half of a counter of 8 bytes is 0, and no bias is: else a file that lost its last float would be read, shifted by one.
        long_counter = data[_SHORT_HEADER:_LONG_HEADER] == bytes(4)
        if long_counter == (stated.header_bytes == _LONG_HEADER):
            raise
        other = WeightsFile(data, str(path), other_header=True)
        with contextlib.suppress(_LengthError):
            note = f"{path} says version {stated.version}, whose header has {stated.header_bytes} bytes, but with one of"
            return whole(other), (f"{note} {other.header_bytes} bytes it fits {cfg}: read so",)
        raise


def read_bytes(path: Path) -> bytes:
    """Return a file's content. Raises MissingError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as exc:
        raise MissingError(f"{path} cannot be read: {exc.strerror}") from exc
