"""The interface between a source and its caller."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pydantic import Field, field_validator

from edgeannot.base.file_signature import FileSignature, LedgerEntry
from edgeannot.base.options import Options
from edgeannot.crash_guard import AtWork
from edgeannot.scene.motion_options import Part, checked_part
from edgeannot.vision.data import Failure, Frame, Sender

__all__ = ["Context", "Item", "Source", "SourceKind", "SourceOptions", "Stop", "Tick"]


@dataclass(frozen=True, slots=True)
class Tick:
    """Nothing new at the moment; given at least about once a second, so that the caller can show a sign of life."""

    waiting: int = 0
    """Files known to wait for their turn or for their end to be written."""
    trouble: str = ""
    """What is wrong at the moment (a folder or camera that is away), one sentence; empty when all is well. The source does not
    log it: the caller logs changes."""


Item = Frame | Failure | Tick


class Stop(Protocol):
    """The caller's stop signal; `threading.Event` fits."""

    def is_set(self) -> bool:
        """Return whether to stop."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, at most this many seconds."""


class Source(Protocol):
    """What every kind of source provides, with what holds for those without files. `items` is for one thread; `finish` and `is_gone` may be
    called from others."""

    name: str
    """Its name in the settings."""
    live: bool = False
    """Whether a new frame replaces older ones that wait. False: no frame may be lost."""
    removes_input: bool = False
    """Whether `finish` moves or deletes a frame's input: the results must be synced to disk before, not only committed."""
    done_before: int = 0
    """Pictures skipped because the ledger lists them as done."""

    @property
    def skipped(self) -> int:
        """Return the number of frames that a live source skipped because the caller was busy or the rate was limited."""
        return 0

    def items(self, stop: Stop) -> Iterator[Item]:
        """Yield frames, failures and ticks until `stop` is set or the source ends (a folder with `once`, a video file).

        Closing the generator releases its resources. Raises MissingError or LinkError if the source cannot begin and
        `once` forbids waiting for it.
        """

    def is_gone(self, path: str) -> bool:
        """Return whether the file of a key with this path is gone, so that the ledger need not keep it."""
        del path
        return True

    def finish(self, item: Frame | Failure) -> None:
        """Finish the input of an item whose results are stored (a failure: it is in the ledger): move, delete or keep it by the options.

        Logs what fails, never raises.
        """
        del item


Outcome = Callable[[str, str, FileSignature], str | None]
Refusal = Callable[[str, Sender | None, str, str], bytes]
"""From the source's name, the sender, the reason as a word, and one sentence."""
Similar = Callable[[str, FileSignature], Sequence[LedgerEntry]]
Move = Callable[[Sequence[tuple[LedgerEntry, LedgerEntry]]], None]


@dataclass(frozen=True, slots=True)
class Context:
    """Values and functions that the program provides to a source. By themselves the functions know no ledger and answer nobody."""

    quarantine: Path | None = None
    """The folder for files that cannot be read; None: they are left where they are."""
    own_folders: tuple[Path, ...] = ()
    """Folders that the program writes to: never watched, even where they lie inside a watched folder."""
    results: tuple[Path, ...] = ()
    """Folders and files that results are written to: like own_folders, and no folder inside one is watched either."""
    outcome: Outcome = lambda _source, _path, _signature: None
    """`Store.outcome`: what became of a file, unchanged since; None where it is still to be annotated."""
    similar: Similar = lambda _source, _signature: ()
    """`Store.similar`: entries of files that may be this one at another place."""
    move: Move = lambda _moves: None
    """`Store.move`: tells the ledger where those files are now."""
    once: bool = False
    """Take what is there (a camera: one frame), then end."""
    max_fps: float = 5.0
    """Rate of a live camera whose own options say nothing."""
    device: str = "edgeannot"
    """The name of this device."""
    interval_s: Callable[[float], float] = lambda interval_s: interval_s
    """Least seconds between two pictures of a live source, now, given those of its settings; asked for each picture."""
    at_work: AtWork = field(default_factory=AtWork)
    """Which picture may begin, and which are suspected of having killed the program."""
    free_bytes: Callable[[], int | None] = lambda: None
    """Memory that can still be taken, now; None: not known."""
    refusal: Refusal = lambda *_: b""
    """Makes the message for the sender of a picture that has no result."""


class SourceOptions(Options):
    """Settings of one source: [sources.NAME]."""

    kind: str
    """The kind of the source."""
    region: Part | None = Field(default=None, examples=[(0.0, 0.25, 1.0, 1.0)])
    """The part of its pictures that the model sees: left, top, right and bottom as fractions of width and height; unset: all. Boxes are in
    pixels of the whole picture."""
    min_score: float | None = Field(default=None, ge=0, le=1)
    """Smallest score that is reported for its pictures; unset: the general min_score."""

    _part = field_validator("region")(checked_part)

    @property
    def read_folders(self) -> tuple[Path, ...]:
        """Return the folders that pictures are read from."""
        return ()

    @property
    def written_folders(self) -> tuple[Path, ...]:
        """Return the folders that files are moved into or taken away from."""
        return ()


@dataclass(frozen=True, slots=True)
class SourceKind:
    """One kind of source: its settings, and what makes one of them."""

    options: type[SourceOptions]
    """Its field `kind` has the kind's name as its only value and default."""
    open: Callable[[str, Any, Context], object]
    """Name, options and context -> `Source`; a package's: `PluginSource`. Opens nothing yet. Raises ConfigError for settings that clash."""
