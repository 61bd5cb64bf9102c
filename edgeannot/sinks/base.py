"""The interface of a sink, and its options and context."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from edgeannot.base.options import Options
from edgeannot.payload import Origin
from edgeannot.storage.store import Message
from edgeannot.vision.data import Annotation
from edgeannot.vision.news import News

__all__ = ["FolderState", "Options", "Sink", "SinkContext", "SinkKind", "SinkOptions", "TellsEvents"]


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
    """Values that a sink is created with besides its options."""

    origin: Origin
    out_dir: Path
    """The folder that relative folders of the options lie in."""
    class_names: Mapping[int, str] = field(default_factory=dict)
    """Class id -> name for every class the model may report; empty: the model has no names."""


@dataclass(frozen=True, slots=True)
class FolderState:
    """The state of an output folder or file."""

    path: Path
    unwritten: int
    """Files, or lines, not written since the start."""
    trouble: str
    """Why nothing is written now; empty while it works."""


class Sink(Protocol):
    """Where results go. For one thread at a time; may be called again with the same annotation after a restart."""

    only_files: bool = True
    """Whether a result that it cannot store is missing in a folder only, not in a message."""

    def folders(self) -> Sequence[FolderState]:
        """Return the states of its output folders and files; none if it only makes messages. Thread-safe."""
        return ()

    def write(self, annotation: Annotation) -> Sequence[Message]:
        """Process one result; the returned messages go into the outbox in the picture's transaction.

        On a full disk the sink logs a line when that changes, and loses the file, never the message.
        """

    def flush(self) -> None:
        """Sync written files to disk; called before an input file is removed. Raises LinkError if that fails."""
        return  # else mypy takes it for abstract; so below

    def close(self) -> None:
        """Flush and close everything."""
        return


@runtime_checkable
class TellsEvents(Protocol):
    """A sink that tells what happened to tracked objects, also without a picture."""

    def tell(self, news: News) -> Sequence[Message]:
        """Return the messages, which go into the outbox in one transaction with the state of the tracking."""


@dataclass(frozen=True, slots=True)
class SinkKind:
    """One kind of sink: its settings, and what makes one of them."""

    options: type[SinkOptions]
    open: Callable[[Any, SinkContext], object]
    """Options and context -> `Sink`; a package's: `PluginSink`. Raises ConfigError when a file or folder of it cannot be written."""
