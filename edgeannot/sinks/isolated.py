"""A sink of an installed package: its errors cost its own results only, are logged once and counted."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

from edgeannot.base.errors import ConfigError, PluginError
from edgeannot.base.isolation import Isolated
from edgeannot.sinks.base import FolderState
from edgeannot.storage.store import Message
from edgeannot.vision.data import Annotation

__all__ = ["IsolatedSink", "PluginSink"]

log = logging.getLogger(__name__)


class PluginSink(ABC):
    """Base class of a package's sink. All methods are called in one thread of its own."""

    @abstractmethod
    def write(self, annotation: Annotation) -> None:
        """Process one result. After a restart the same one may come again. An exception costs this result for this sink only."""

    def flush(self) -> None:  # noqa: B027 - for those that write files
        """Sync written files to disk; called before an input file is removed."""

    def close(self) -> None:  # noqa: B027 - for those that keep something open
        """Flush and close everything."""


class IsolatedSink:
    """Runs a package's sink in a thread of its own."""

    only_files = True
    """A result that it could not store is missing in no message."""

    def __init__(self, kind: str, package: str, make: Callable[[], object]) -> None:
        """Raises ConfigError where the sink cannot be made."""
        self._name = Path(f"sinks.{kind}")
        self._isolated = Isolated(f"the sink {kind!r} of the package {package}")
        self._lost = 0
        self._trouble = ""
        try:
            sink = self._isolated.call(make)
        except PluginError as exc:
            raise ConfigError(f"sinks.{kind}: {exc}") from exc
        if not isinstance(sink, PluginSink):
            raise ConfigError(f"sinks.{kind}: {self._isolated.whose} made a {type(sink).__name__}, wanted a PluginSink")
        self._sink = sink

    def write(self, annotation: Annotation) -> Sequence[Message]:
        """Pass one result to the sink; return no messages."""
        self._lost += not self._done(self._sink.write, annotation)
        return ()

    def folders(self) -> Sequence[FolderState]:
        """Return the number of results that it could not process, and why."""
        return (FolderState(self._name, self._lost, self._trouble),)

    def flush(self) -> None:
        """Flush the sink; an error does not hold up inputs."""
        self._done(self._sink.flush)

    def close(self) -> None:
        """Close the sink, unless it hangs."""
        self._done(self._sink.close)

    def _done(self, function: Callable[..., None], *args: Annotation) -> bool:
        try:
            self._isolated.call(function, *args)
        except PluginError as exc:
            if not self._trouble:
                log.error("%s; its results are lost for this sink only, and counted", exc, exc_info=exc.__cause__)  # noqa: TRY400 - only the first has a trace
            self._trouble = str(exc)
            return False
        if self._trouble:
            log.info("%s works again; %d results lost for it since the start", self._isolated.whose, self._lost)
            self._trouble = ""
        return True
