"""A sink of an installed package: what it cannot take is lost for it alone, said once and counted."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from edgeannot.base.errors import ConfigError, PluginError
from edgeannot.base.isolation import Isolated
from edgeannot.sinks.base import FolderState
from edgeannot.storage.store import Message
from edgeannot.vision.data import Annotation

__all__ = ["IsolatedSink", "PluginSink"]

log = logging.getLogger(__name__)


class PluginSink:
    """What a package derives its sink from. All methods are called in one thread, which nobody else uses."""

    def write(self, annotation: Annotation) -> None:
        """Take one result. After a restart the same one may come again. What it raises costs this result for this sink."""
        raise NotImplementedError

    def flush(self) -> None:
        """Bring to the disk what may be lost otherwise; asked for before an input file is removed."""

    def close(self) -> None:
        """Flush and let go of everything."""


class IsolatedSink:
    """See the module."""

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
        """Hand one result on; no messages."""
        self._lost += not self._done(self._sink.write, annotation)
        return ()

    def folders(self) -> Sequence[FolderState]:
        """Count the results that it could not take, and say why."""
        return (FolderState(self._name, self._lost, self._trouble),)

    def flush(self) -> None:
        """Ask it to; no input waits for a sink that cannot."""
        self._done(self._sink.flush)

    def close(self) -> None:
        """Ask it to close, unless it hangs."""
        self._done(self._sink.close)

    def _done(self, function: Callable[..., None], *args: Annotation) -> bool:
        try:
            self._isolated.call(function, *args)
        except PluginError as exc:
            if not self._trouble:
                log.error("%s; its results are lost for it alone, and counted", exc, exc_info=exc.__cause__)  # noqa: TRY400 - only the first has a trace
            self._trouble = str(exc)
            return False
        if self._trouble:
            log.info("%s takes results again; %d were lost for it since the start", self._isolated.whose, self._lost)
            self._trouble = ""
        return True
