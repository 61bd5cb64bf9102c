"""What a command prints: on open streams, printable, without secrets, and free of what C libraries write past Python.

Names of files, labels and words of a server may hold what steers a terminal. Filtering where all text comes by holds for every print,
usage error and traceback, also of libraries.
"""

from __future__ import annotations

import codecs
import faulthandler
import io
import os
import sys
from typing import BinaryIO, TextIO

from edgeannot.base.foreign import printable
from edgeannot.base.redaction import redacted

__all__ = ["open_closed_streams", "own_escapes", "printable_streams"]


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
