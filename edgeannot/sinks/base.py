"""What every kind of sink has in common: the contract, and what it is built from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from edgeannot.base.options import Options
from edgeannot.payload import Origin
from edgeannot.storage.store import Message
from edgeannot.vision.data import Annotation

__all__ = ["FolderState", "Options", "Sink", "SinkContext", "SinkKind", "SinkOptions"]


class SinkOptions(Options):
    """Settings of one kind of sink: [sinks.KIND]."""

    enabled: bool = False
    """Whether results go there."""

    def written_paths(self, out_dir: Path) -> tuple[Path, ...]:
        """Return the folders and files that it writes to, relative ones below out_dir: a watched folder must not lie in one of them."""
        del out_dir
        return ()


@dataclass(frozen=True, slots=True)
class SinkContext:
    """What a sink is built from beside its own options."""

    origin: Origin
    out_dir: Path
    """The folder that relative folders of the options lie in."""
    class_names: Mapping[int, str] = field(default_factory=dict)
    """Class id -> name for every class the model may report; empty: the model has no names."""


@dataclass(frozen=True, slots=True)
class FolderState:
    """How a place for files is doing."""

    path: Path
    unwritten: int
    """Files, or lines, that it could not take since the start."""
    trouble: str
    """Why it takes none now; empty while it does."""


class Sink(Protocol):
    """Where results go. For one thread at a time; may be called again with the same annotation after a restart."""

    @property
    def only_files(self) -> bool:
        """Whether a result that it could not store is missing in a folder only, and in no message."""

    def folders(self) -> Sequence[FolderState]:
        """How the places that it writes files to are doing; none where it only makes messages. May be asked from any thread."""

    def write(self, annotation: Annotation) -> Sequence[Message]:
        """Take one result; what it returns goes into the outbox in the picture's one transaction.

        A disk that is full is reported by the sink (a log line when it changes) and costs the file, never the message.
        """

    def flush(self) -> None:
        """Bring to the disk what may be lost otherwise; asked for before an input file is removed. Raises LinkError when it fails."""

    def close(self) -> None:
        """Flush and let go of everything."""


@dataclass(frozen=True, slots=True)
class SinkKind:
    """One kind of sink: its settings, and what makes one of them."""

    options: type[SinkOptions]
    open: Callable[[Any, SinkContext], object]
    """Options and context -> `Sink`; a package's: `PluginSink`. Raises ConfigError when a file or folder of it cannot be written."""
