"""Where the lines of the log go: a terminal, systemd's journal with its fields, or JSON for a collector.

A record may have fields beside its message (`extra={"fields": {...}}`): the journal has them as EDGEANNOT_NAME, JSON under their names.
"""

from __future__ import annotations

import logging
import os
import socket
import struct
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from edgeannot.base.foreign import json_text, printable
from edgeannot.base.redaction import redacted

__all__ = ["set_up_logging"]

_PRIORITY = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
_JOURNAL = Path("/run/systemd/journal/socket")


class _OneLine(logging.Formatter):
    """Text in messages is untrusted (file names): it must not break lines or send control codes to the terminal."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the library's name
        """Return the line, without the traceback that may follow it."""
        return printable(redacted(super().formatMessage(record)))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the library's name
        """Return the traceback. Its last line may hold untrusted text, so no line may begin like one with a priority."""
        return printable(redacted(super().formatException(ei)), lines=True).replace("\n<", "\n <")


class _JournalFormatter(_OneLine):
    """`<4>name: message`: the prefix is the syslog priority that journald reads (sd-daemon(3)); it adds the time itself."""

    def format(self, record: logging.LogRecord) -> str:
        return f"<{_PRIORITY.get(record.levelno, 6)}>{super().format(record)}"


class _JsonFormatter(_OneLine):
    """One JSON object a line: time (UTC), level, logger, message, and the record's fields."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": moment.replace("+00:00", "Z"), "level": record.levelname.lower(), "logger": record.name, "message": text}
        return json_text({**line, **_fields(record)})


class _JournalHandler(logging.StreamHandler[TextIO]):
    """Sends to the journal by its own protocol, with fields (systemd: Journal Native Protocol); else writes a line with its priority."""

    def __init__(self, stream: TextIO, address: Path) -> None:
        super().__init__(stream)
        self._address = str(address)
        self._plain = _OneLine("%(name)s: %(message)s")

    def emit(self, record: logging.LogRecord) -> None:
        fields = {
            "MESSAGE": self._plain.format(record),
            "PRIORITY": str(_PRIORITY.get(record.levelno, 6)),
            "SYSLOG_IDENTIFIER": "edgeannot",
            "LOGGER": record.name,
            **{f"EDGEANNOT_{name.upper()}": str(value) for name, value in _fields(record).items()},
        }
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.sendto(b"".join(_entry(name, value) for name, value in fields.items()), self._address)
        except OSError:  # no journal there, or a message over its size
            super().emit(record)


def _entry(name: str, value: str) -> bytes:
    data = value.encode("utf-8", "replace")
    if b"\n" in data:
        return name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"
    return name.encode() + b"=" + data + b"\n"


def _leads_to_journal(stream: TextIO) -> bool:
    """Tell whether a stream is the one that JOURNAL_STREAM names (systemd.exec(5)): a child's may lead elsewhere."""
    try:
        state = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{state.st_dev}:{state.st_ino}"


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return dict(getattr(record, "fields", None) or {})


def set_up_logging(
    level: str, *, journal: bool, as_json: bool = False, stream: TextIO | None = None, journal_socket: Path | None = None
) -> None:
    """Log everything of this package at `level` to `stream` (stderr), as JSON or to the journal; libraries at WARNING.

    journal_socket: of the journal; None: the system's, if the stream leads into it.
    """
    where = stream or sys.stderr
    handler: logging.StreamHandler[TextIO]
    if as_json:
        handler = logging.StreamHandler(where)
        handler.setFormatter(_JsonFormatter("%(message)s"))
    elif journal:
        address = journal_socket or (_JOURNAL if _leads_to_journal(where) else None)
        handler = _JournalHandler(where, address) if address else logging.StreamHandler(where)
        handler.setFormatter(_JournalFormatter("%(name)s: %(message)s"))
    else:
        handler = logging.StreamHandler(where)
        handler.setFormatter(_OneLine("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("edgeannot").setLevel(level.upper())
