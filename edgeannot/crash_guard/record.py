"""The file that says which pictures are being processed: it outlives the process, and is not meant to outlive the power.

It lies in the page cache: a write costs microseconds, is never brought to the disk by us, and is there for the next process whatever
killed this one. Of another boot it says nothing. Plain writes and no map: on a full disk a map would kill the process by itself.
One line of fixed length a place; a line that is not understood counts as empty.

Beside it, what the kernel tells of deaths. A process that is killed learns nothing of it, and SIGKILL looks the same whether the kernel
sent it for want of memory or somebody else did. The kernel counts the first kind: see proc(5) on /proc/vmstat, and its
admin-guide/cgroup-v2.rst on memory.events.
"""

from __future__ import annotations

import json
import logging
import os
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from edgeannot.base.foreign import printable
from edgeannot.base.kernel import group_folders, read

__all__ = ["PLACES", "Kills", "Note", "OomCounter", "Record", "RunState", "boot_id", "killed_between"]

log = logging.getLogger(__name__)

PLACES: Final = 128
"""Pictures that can be noted at a time; a source has seven at most."""
_LINE: Final = 1024
_SCHEMA: Final = 1
_MOST_NAME: Final = 200
_OOM_KILL = re.compile(r"^oom_kill (\d{1,18})$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Kills:
    """How many processes the kernel has killed for want of memory."""

    group: str = ""
    """The control group that `in_group` counts for: a new one of the same name begins at 0 again."""
    in_group: int | None = None
    on_board: int | None = None
    """None: the kernel does not say."""


class OomCounter:
    """Finds once where the kernel counts, so that asking costs two short reads."""

    def __init__(self, root: Path = Path("/")) -> None:
        """root: stands for / in tests."""
        self._vmstat = root / "proc/vmstat"
        self._events, self._group = _events_file(root)

    def read(self) -> Kills:
        """Return the current counts."""
        in_group = _kill_count(self._events) if self._events is not None else None
        return Kills(self._group, in_group, _kill_count(self._vmstat))


def killed_between(before: Kills, after: Kills) -> bool:
    """Return whether the kernel killed a process for want of memory in between: one of this group, where that group is still there."""
    if before.group == after.group and before.in_group is not None and after.in_group is not None:
        return after.in_group > before.in_group
    return before.on_board is not None and after.on_board is not None and after.on_board > before.on_board


def boot_id(root: Path = Path("/")) -> str:
    """Return the id of this boot; empty if it is not known."""
    return read(root / "proc/sys/kernel/random/boot_id").strip()[:64]


def _kill_count(path: Path) -> int | None:
    found = _OOM_KILL.search(read(path))
    return int(found[1]) if found else None


def _events_file(root: Path) -> tuple[Path | None, str]:
    """Return the file that counts for this process's own group, and what tells that group from a later one of the same name."""
    try:
        for version, folder in group_folders(root, "memory"):
            return folder / ("memory.events" if version == 2 else "memory.oom_control"), f"{folder}#{folder.stat().st_ino}"
    except OSError:
        pass
    return None, ""


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
class RunState:
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

    def read(self) -> tuple[RunState, list[Note]]:
        """Return the record of the previous run."""
        try:
            lines = [_parsed(os.pread(self._fd, _LINE, place * _LINE)) for place in range(PLACES + 1)]
        except OSError:
            return RunState(), []
        notes = [Note(*(line[part] for part in Note.__slots__)) for line in lines[1:] if _is_note(line)]
        return _run_state(lines[0]), notes

    def begin(self, head: RunState) -> None:
        """Clear the record and allocate the space for all places now: later the disk may be full."""
        self._write(0, b"\n" * _LINE * (PLACES + 1))
        self.put_state(head)

    def put_state(self, head: RunState) -> None:
        """Write the state of the run."""
        self._write(0, _line({"schema": _SCHEMA, **asdict(head)}))

    def put(self, place: int, note: Note) -> None:
        """Write a picture's entry. place: 0 to PLACES - 1."""
        short = {"key": note.key, "source": note.source[:_MOST_NAME], "name": note.name[:_MOST_NAME], "stage": note.stage}
        self._write((place + 1) * _LINE, _line(short))

    def clear(self, place: int) -> None:
        """Clear the entry of a picture that is no longer being processed."""
        self._write((place + 1) * _LINE, b"\n" * _LINE)

    def close(self) -> None:
        """Clear the record at the end of an orderly run."""
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


def _run_state(line: dict[str, Any]) -> RunState:
    kills = line.get("kills")
    if line.get("schema") != _SCHEMA or not isinstance(kills, dict):
        return RunState()
    in_group, on_board = (number if isinstance(number, int) else None for number in (kills.get("in_group"), kills.get("on_board")))
    pid = line.get("pid")
    return RunState(
        boot=str(line.get("boot", "")),
        kills=Kills(str(kills.get("group", "")), in_group, on_board),
        stalled=str(line.get("stalled", "")),
        pid=pid if isinstance(pid, int) else 0,
    )
