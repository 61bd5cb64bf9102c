"""The crash record: which pictures are suspected of having killed the program.

A death counts where the process itself went wrong (a signal such as SIGSEGV, which leaves a trace), where the kernel killed it for
want of memory, and where a picture hung until the watchdog ended it. What came from outside (SIGKILL by hand, a stop timeout, a power
cut) says nothing of the pictures that were being processed. Those that were at a death are suspected, and from then on processed in
isolation: a harmless one is cleared by that, and the cause is the only one there at the second death.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from edgeannot import __version__
from edgeannot.base.atomicfile import read_json, write_json
from edgeannot.base.runtimes import RUNTIMES, RuntimeName
from edgeannot.crash_guard.record import Kills, Note, RunState, killed_between

__all__ = ["CrashRecord", "Tally", "cause_of", "dead_runtime", "fatal_error", "runtime_advice"]

log = logging.getLogger(__name__)

ENOUGH: Final = 2
"""Deaths after which a picture is set aside, where it was processed in isolation at the last one."""
_MOST: Final = 1000
"""Pictures that are remembered; the oldest go."""
_SCHEMA: Final = 2
"""1 was not sealed."""
_FATAL: Final = re.compile(r"^Fatal Python error: ([ -~]{1,80})$", re.MULTILINE)
_FRAME: Final = re.compile(r'^  File "([^"]+)", line [0-9]+ in ([ -~]{1,80})$', re.MULTILINE)
"""Of a trace by faulthandler; the first one is where it died."""
_STAGE_OF: Final = {"read": "decoding", "infer": "inferring"}
"""Which stage a thread that hangs stands for, by the first word of its name. The writer may hang on a disk as well."""


@dataclass(slots=True)
class Tally:
    """The deaths of one picture."""

    source: str
    name: str
    count: int = 0
    """Deaths while it was processed."""
    isolated: bool = False
    """Whether it was the only one at the last of them."""
    cause: str = ""
    """How the program died then, in words."""


def cause_of(head: RunState, boot: str, kills: Kills, trace: str) -> tuple[str, str] | None:
    """Return how the previous run died, in words, and the stage that caused it (empty: any); None if no picture can be the cause.

    head: of its record. boot, kills: now. trace: what the handler of fatal signals wrote.
    """
    if head.boot != boot:
        return None
    fatal = fatal_error(trace)
    if fatal == "Aborted" and _was_sent(trace):
        stage = _STAGE_OF.get(head.stalled.split(" ")[0])
        return (f"it hung while {stage} until the watchdog ended it", stage) if stage else None
    if fatal:
        return fatal, ""
    if killed_between(head.kills, kills):
        return "killed by the kernel: out of memory", ""
    return None


def fatal_error(trace: str) -> str:
    """Return the error as the handler of fatal signals names it; empty if there was none."""
    found = _FATAL.search(trace)
    return found[1] if found else ""


def runtime_advice(trace: str) -> str:
    """Return words about the runtime and what to do where it is what died; empty where something else did."""
    found, name = _FRAME.search(trace), dead_runtime(trace)
    if found is None or name is None:
        return ""
    other = next(each for each in RUNTIMES if each != name)
    return (
        f" in the runtime {name}, in {found[2]}: `edgeannot doctor` tries each model; if none runs, the runtime does not go with "
        f'this processor or emulator: install another and name it, runtime = "{other}"'
    )


def dead_runtime(trace: str) -> RuntimeName | None:
    """Return the runtime that died; None where something else did."""
    found = _FRAME.search(trace)
    return next((name for name, (package, _) in RUNTIMES.items() if found and package in Path(found[1]).parts), None)


def _was_sent(trace: str) -> bool:
    """Return whether SIGABRT came from outside: it is then the main thread that gets it, which only watches."""
    return "supervisor.py" in trace.partition("most recent call first")[2]


class CrashRecord:
    """The suspected pictures and cameras, kept in a small file; not for several threads at a time."""

    def __init__(self, path: Path | None) -> None:
        """path: None keeps it in memory."""
        self._path = path
        self._pictures: dict[str, Tally] = {}
        self.cameras: dict[str, int] = {}
        """Deaths in a row while a frame of this camera was processed."""
        self._load()

    def add(self, notes: Sequence[Note], cause: str, stage: str = "") -> None:
        """Record a death while these were processed. stage: suspect only those in this stage."""
        suspects = [note for note in notes if not stage or note.stage == stage]
        for note in {note.key: note for note in suspects if note.key}.values():  # the same message may have come twice
            tally = self._pictures.pop(note.key, None) or Tally(note.source, note.name)
            tally.count, tally.isolated, tally.cause = tally.count + 1, len(notes) == 1, f"{cause}, while {note.stage}"
            self._pictures[note.key] = tally
        for source in {note.source for note in suspects if not note.key}:
            self.cameras[source] = self.cameras.get(source, 0) + 1
        if suspects:
            _say(suspects, cause, self)
            self._save()

    @property
    def has_suspects(self) -> bool:
        """Return whether there are suspected pictures without a verdict."""
        return any(self.verdict(key) is None for key in self._pictures)

    def is_suspect(self, key: str) -> bool:
        """Return whether the program died while this picture was processed, and it was not done since."""
        return key in self._pictures

    def verdict(self, key: str) -> str | None:
        """Return why the picture is to be set aside, in one sentence without its name; None if it is not."""
        tally = self._pictures.get(key)
        if tally is None or tally.count < ENOUGH or not tally.isolated:
            return None
        return f"the program died {tally.count} times while it processed this picture, the last time in isolation ({tally.cause})"

    def clear(self, key: str) -> None:
        """Clear a picture that was processed without a death."""
        if self._pictures.pop(key, None) is not None:
            self._save()

    def clear_cameras(self) -> None:
        """Clear cameras that ran for long without a death."""
        if self.cameras:
            self.cameras.clear()
            self._save()

    def _load(self) -> None:
        stored = read_json(self._path, _SCHEMA, sealed=True) if self._path is not None else {}
        if stored.get("version") == __version__:  # another version, with other libraries, may do it
            self._pictures = {key: Tally(**facts) for key, facts in stored["pictures"].items()}
            self.cameras = stored["cameras"]

    def _save(self) -> None:
        while len(self._pictures) > _MOST:
            del self._pictures[next(iter(self._pictures))]
        if self._path is not None:
            pictures = {key: asdict(tally) for key, tally in self._pictures.items()}
            value = {"schema": _SCHEMA, "version": __version__, "pictures": pictures, "cameras": self.cameras}
            write_json(self._path, value, sealed=True)


def _say(suspects: Sequence[Note], cause: str, crashes: CrashRecord) -> None:
    names = sorted({f"a frame of {note.source}" if not note.key else note.name for note in suspects})
    shown = ", ".join(names[:7]) + (f" and {len(names) - 7} more" if len(names) > 7 else "")
    known = all(crashes.verdict(note.key) for note in suspects)
    next_step = "it will be set aside when it comes again" if known else "suspected files and messages will be processed in isolation"
    log.warning("the program died (%s) while it processed %s; %s", cause, shown, next_step)
