"""Logging set up once by the command: plain lines for a person, priority-marked lines for the journal."""

from __future__ import annotations

import logging
import sys
from typing import Any, TextIO

from edgeannot.base.foreign import printable
from edgeannot.base.redaction import redacted

__all__ = ["set_up_logging"]

_PRIORITY = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


class _OneLine(logging.Formatter):
    """Words in messages come from anywhere (names of files): nothing in them may make lines of its own or steer the terminal."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the library's name
        """The line, without the traceback that may follow it."""
        return printable(redacted(super().formatMessage(record)))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the library's name
        """The traceback. Its last line may hold foreign text, so that none of its lines may begin like one with a priority."""
        return printable(redacted(super().formatException(ei)), lines=True).replace("\n<", "\n <")


class _JournalFormatter(_OneLine):
    """`<4>name: message`: the prefix is the syslog priority that journald reads (sd-daemon(3)); it adds the time itself."""

    def format(self, record: logging.LogRecord) -> str:
        return f"<{_PRIORITY.get(record.levelno, 6)}>{super().format(record)}"


def set_up_logging(level: str, *, journal: bool, stream: TextIO | None = None) -> None:
    """Log everything of this package at `level` to `stream` (stderr); libraries at WARNING."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        _JournalFormatter("%(name)s: %(message)s") if journal else _OneLine("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("edgeannot").setLevel(level.upper())
