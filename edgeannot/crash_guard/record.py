"""The file that says which pictures are being processed: it outlives the process, and is not meant to outlive the power.

It lies in the page cache: a write costs microseconds, is never brought to the disk by us, and is there for the next process whatever
killed this one. Of another boot it says nothing. Plain writes and no map: on a full disk a map would kill the process by itself.
One line of fixed length a place; a line that is not understood counts as empty.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from edgeannot.base.foreign import printable
from edgeannot.crash_guard.kernel import Kills

__all__ = ["PLACES", "Head", "Note", "Record"]

log = logging.getLogger(__name__)

PLACES: Final = 128
"""Pictures that can be noted at a time; a source has seven at most."""
_LINE: Final = 1024
_SCHEMA: Final = 1
_MOST_NAME: Final = 200


@dataclass(frozen=True, slots=True)
class Note:
    """One picture that is being processed."""

    key: str
    """What makes it the same picture when it comes again, as 32 hexadecimal digits; empty: nothing does, as of a camera's frame."""
    source: str
    name: str
    """For people."""
    stage: str
    """capturing (a camera that is open), decoding, inferring or storing."""


@dataclass(frozen=True, slots=True)
class Head:
    """What holds for the run that wrote the record."""

    boot: str = ""
    kills: Kills = field(default_factory=Kills)
    stalled: str = ""
    """The thread that the watchdog waits for; empty while all move."""
    pid: int = 0


class Record:
    """For one process at a time; methods may be called from any thread, each place by one."""

    def __init__(self, path: Path) -> None:
        """Open or make the file. Raises OSError."""
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._complained = False

    def read(self) -> tuple[Head, list[Note]]:
        """What the run before left behind."""
        try:
            lines = [_parsed(os.pread(self._fd, _LINE, place * _LINE)) for place in range(PLACES + 1)]
        except OSError:
            return Head(), []
        notes = [Note(*(line[part] for part in Note.__slots__)) for line in lines[1:] if _is_note(line)]
        return _head(lines[0]), notes

    def begin(self, head: Head) -> None:
        """Forget what was there, and take the room for all places now: later the disk may be full."""
        self._write(0, b"\n" * _LINE * (PLACES + 1))
        self.put_head(head)

    def put_head(self, head: Head) -> None:
        """Say what holds now."""
        self._write(0, _line({"schema": _SCHEMA, **asdict(head)}))

    def put(self, place: int, note: Note) -> None:
        """Note a picture; place: 0 to PLACES - 1."""
        short = {"key": note.key, "source": note.source[:_MOST_NAME], "name": note.name[:_MOST_NAME], "stage": note.stage}
        self._write((place + 1) * _LINE, _line(short))

    def clear(self, place: int) -> None:
        """The picture is no longer being processed."""
        self._write((place + 1) * _LINE, b"\n" * _LINE)

    def close(self) -> None:
        """The run ends in order: nothing is being processed."""
        self._write(0, b"\n" * _LINE * (PLACES + 1))
        os.close(self._fd)

    def _write(self, offset: int, data: bytes) -> None:
        try:
            os.pwrite(self._fd, data, offset)
        except OSError as exc:
            if not self._complained:
                log.warning("%s cannot be written (%s): a picture that kills the program may not be found", self.path, exc.strerror)
            self._complained = True


def _line(value: dict[str, Any]) -> bytes:
    raw = printable(json.dumps(value, ensure_ascii=False, separators=(",", ":"))).encode()
    return raw.ljust(_LINE, b"\n") if len(raw) <= _LINE else b"\n" * _LINE


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line.strip() or b"{}")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _is_note(line: dict[str, Any]) -> bool:
    return all(isinstance(line.get(part), str) for part in Note.__slots__)


def _head(line: dict[str, Any]) -> Head:
    kills = line.get("kills")
    if line.get("schema") != _SCHEMA or not isinstance(kills, dict):
        return Head()
    in_group, on_board = (number if isinstance(number, int) else None for number in (kills.get("in_group"), kills.get("on_board")))
    pid = line.get("pid")
    return Head(
        boot=str(line.get("boot", "")),
        kills=Kills(str(kills.get("group", "")), in_group, on_board),
        stalled=str(line.get("stalled", "")),
        pid=pid if isinstance(pid, int) else 0,
    )
