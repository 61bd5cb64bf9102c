"""What a command prints: on open streams, printable, without secrets, and free of what C libraries write past Python.

Names of files, labels and words of a server may hold what steers a terminal. Filtering where all text comes by holds for every print,
usage error and traceback, also of libraries.
"""

from __future__ import annotations

import codecs
import faulthandler
import io
import itertools
import os
import sys
import textwrap
from collections.abc import Sequence
from typing import BinaryIO, TextIO

from edgeannot.base.foreign import printable
from edgeannot.base.redaction import redacted

__all__ = ["columns", "open_closed_streams", "own_escapes", "printable_streams"]


_LEAST_FOLDED = 24
"""Characters: a narrower last column would be a tower of words."""


def columns(rows: Sequence[Sequence[str]], width: int | None = None) -> list[str]:
    """Format rows of cells as lines, each column as wide as its widest cell; the first row is the head, if the table is a wide one.

    A last column that does not fit `width`, by default the terminal's, is folded in its place. Where that leaves it too little room, the
    columns that do not fit go below their row, each behind its word of the head. Output that goes elsewhere than to a terminal is not
    folded: a row is a line.
    """
    if not rows:
        return []
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    whole, before = sum(widths) + 2 * (len(widths) - 1), sum(widths[:-1]) + 2 * (len(widths) - 1)
    if width is None:
        width = _terminal_width() if sys.stdout.isatty() else whole
    in_place = whole <= width or width - before >= _LEAST_FOLDED
    beside = len(widths) - 1 if in_place else sum(end - 2 <= width for end in itertools.accumulate(room + 2 for room in widths))
    lines = []
    for row in rows:
        start = "".join(cell.ljust(room + 2) for cell, room in zip(row[:beside], widths, strict=False))
        if in_place:
            first, *others = textwrap.wrap(row[-1], width - before) if len(row[-1]) > width - before else [row[-1]]
            lines += [start + first, *(" " * before + other for other in others)]
        else:
            cells = zip(rows[0][beside:], row[beside:], strict=True) if row is not rows[0] else ()
            below = (f"{word.lower()} {cell}" for word, cell in cells if cell)
            lines += [start, *textwrap.wrap(", ".join(below), width, initial_indent=" " * 6, subsequent_indent=" " * 6)]
    return [line.rstrip() for line in lines]


def _terminal_width() -> int:
    import shutil  # noqa: PLC0415 - 5 ms that a command without a terminal does not need

    return shutil.get_terminal_size().columns


class _Redacted(io.TextIOWrapper):
    """Text without its secrets."""

    def write(self, text: str) -> int:
        """Write the text without its secrets."""
        return super().write(redacted(text) if isinstance(text, str) else text)


class _Printable(_Redacted):
    """Text of which only printable characters, line ends and tabs are written. `own` writes to the same place as it is."""

    def __init__(self, buffer: BinaryIO, source: TextIO) -> None:
        # ASCII and its like come from a locale that nobody chose; words in it that have no letters there are shown as \\uXXXX.
        encoding = "utf-8" if codecs.lookup(source.encoding).name == "ascii" else source.encoding
        self._source = source  # would close the buffer when it goes
        super().__init__(buffer, encoding, errors="backslashreplace", line_buffering=True)
        self.own = _Redacted(buffer, encoding, errors="backslashreplace", line_buffering=True, write_through=True)

    def write(self, text: str) -> int:
        """Write what is printable of the text."""
        return super().write(printable(text, lines=True) if isinstance(text, str) else text)


def own_escapes(stream: TextIO) -> TextIO:
    """Return the stream that lets control characters through, for code that draws and cleans foreign text itself."""
    return stream.own if isinstance(stream, _Printable) else stream


def printable_streams() -> None:
    """Make standard output and error printable for the whole run, and point file descriptor 2 to the null device.

    libjpeg, FFmpeg and the runtimes write there, past any logging. What Python writes goes on to where the descriptor pointed, as does
    the trace of a crash.
    """
    if type(sys.stdout) is not io.TextIOWrapper or type(sys.stderr) is not io.TextIOWrapper:
        return  # done already, or somebody else's, who knows why
    sys.stdout.flush()
    sys.stderr.flush()
    sys.stdout = _Printable(sys.stdout.buffer, sys.stdout)
    try:
        error = os.fdopen(os.dup(2), "wb")
    except OSError:  # no descriptor is left
        return
    sys.stderr = _Printable(error, sys.stderr)
    faulthandler.enable(error)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)


def open_closed_streams() -> None:
    """Give a program that was started without standard streams the null device: a file opened later must not take their place."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
            stream = open(number, mode, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115 - for the whole run
            setattr(sys, name, stream)
