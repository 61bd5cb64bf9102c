"""The line of each key in a TOML text (toml.io, version 1.0), which the standard library's reader does not tell."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence

__all__ = ["line_of", "lines_of_keys"]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_KEY = re.compile(r"""[A-Za-z0-9_-]+|"(?:\\.|[^"\\])*"|'[^']*'""")
_STRING = re.compile(r'"""(?:\\.|[^\\])*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:\\.|[^"\\])*"|\'[^\']*\'', re.DOTALL)
_OTHER = re.compile(r"[^,\]}\n#]*")

Path = tuple[str | int, ...]


def lines_of_keys(text: str) -> dict[Path, int]:
    """Return the line, from 1, of each key and section of a TOML text; its parts as in `tomllib`'s value. The text has to be valid."""
    return _Reader(text).lines


def line_of(path: Sequence[str | int], lines: Mapping[Path, int]) -> int | None:
    """Return the line of a key; of one that is not there that of the section around it; None where there is none."""
    return next((lines[tuple(path[:count])] for count in range(len(path), 0, -1) if tuple(path[:count]) in lines), None)


class _Reader:
    def __init__(self, text: str) -> None:
        self.lines: dict[Path, int] = {}
        self._text, self._at = text, 0
        self._counted, self._line = 0, 1
        self._arrays: dict[Path, int] = {}
        section: Path = ()
        while self._skip(_BLANK) < len(text):
            if text[self._at] == "[":
                section = self._header()
            else:
                self._pair(section)

    def _skip(self, pattern: re.Pattern[str]) -> int:
        found = pattern.match(self._text, self._at)
        self._at = found.end() if found and found.end() > self._at else self._at
        return self._at

    def _note(self, path: Path, at: int) -> None:
        self._line += self._text.count("\n", self._counted, at)
        self._counted = at
        for count in range(1, len(path) + 1):
            self.lines.setdefault(path[:count], self._line)

    def _header(self) -> Path:
        at = self._at
        many = self._text.startswith("[[", at)
        self._at += 1 + many
        path = self._key(())
        if many:
            number = self._arrays[path] = self._arrays.get(path, -1) + 1
            path = (*path, number)
        self._at += 1 + many
        self._note(path, at)
        self.lines[path] = self._line  # [a.b] before [a]: the section's own line counts
        return path

    def _key(self, section: Path) -> Path:
        """Read a key; a part that is a list of sections means the newest of them."""
        path = section
        while True:
            self._skip(_SPACE)
            if not (found := _KEY.match(self._text, self._at)):
                raise ValueError("not valid TOML")
            self._at = found.end()
            word = found[0]
            (name,) = tomllib.loads(f"{word} = 0")
            path = (*path, name)
            self._skip(_SPACE)
            if not self._text.startswith(".", self._at):
                return path
            if path in self._arrays:
                path = (*path, self._arrays[path])
            self._at += 1

    def _pair(self, section: Path) -> None:
        at = self._at
        path = self._key(section)
        self._note(path, at)
        self._at += 1  # the =
        self._value(path)

    def _value(self, path: Path) -> None:
        self._skip(_BLANK)
        opened = self._text[self._at : self._at + 1]
        if opened in ("[", "{"):
            self._at += 1
            number = 0
            while self._text[self._skip(_BLANK)] not in "]}":
                if opened == "{":
                    self._pair(path)
                else:
                    self._note((*path, number), self._at)
                    self._value((*path, number))
                    number += 1
                if self._text[self._skip(_BLANK)] == ",":
                    self._at += 1
            self._at += 1
        elif opened in ('"', "'"):
            self._skip(_STRING)
        else:
            self._skip(_OTHER)
