"""A source of an installed package, read in a thread of its own: one that raises or hangs is logged by name, the others continue."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

from edgeannot.base.errors import ConfigError, PluginError
from edgeannot.base.isolation import PATIENCE_S, Isolated, said
from edgeannot.sources.contract import Item, Source, Stop, Tick
from edgeannot.vision.data import Failure, Frame

__all__ = ["IsolatedSource", "PluginSource"]

log = logging.getLogger(__name__)

_LOOK_S: Final = 1.0

_End = BaseException | None
"""Why a source ended; None: it had no more."""


class PluginSource(ABC):
    """Base class of a package's source. `items` is called in one thread, `finish` in another."""

    live: bool = False
    """Whether a new frame makes older ones worthless: frames that wait may be replaced. False: none may be lost."""
    removes_input: bool = False
    """Whether `finish` moves or deletes what a frame came from: the results must be on the disk before, not only committed."""

    @abstractmethod
    def items(self, stop: Stop) -> Iterator[Item]:
        """Yield frames, failures and ticks until `stop` is set or there are no more; at least a Tick about once a second."""

    def finish(self, item: Frame | Failure) -> None:  # noqa: B027 - for those that have an input to move
        """Finish the input of an item whose results are stored: move, delete or keep it by the options."""


class IsolatedSource(Source):
    """Runs a package's source in a thread of its own."""

    skipped = 0

    def __init__(self, name: str, kind: str, package: str, make: Callable[[], object], *, once: bool) -> None:
        """Raises ConfigError where the source cannot be made."""
        self.name = name
        self._once = once
        self._isolated = Isolated(f"the source {kind!r} of the package {package}")
        try:
            source = self._isolated.call(make)
        except PluginError as exc:
            raise ConfigError(f"sources.{name}: {exc}") from exc
        if not isinstance(source, PluginSource):
            raise ConfigError(f"sources.{name}: {self._isolated.whose} made a {type(source).__name__}, wanted a PluginSource")
        self._source = source
        self.live = bool(source.live)
        self.removes_input = bool(source.removes_input)

    def items(self, stop: Stop) -> Iterator[Item]:
        """Yield the source's items. If it fails, yield ticks with the reason until `stop`; with `once` end."""
        items: queue.Queue[Item | _End] = queue.Queue(maxsize=1)
        threading.Thread(target=self._read, args=(stop, items), name=f"plug-in: {self.name}", daemon=True).start()
        heard_at = time.monotonic()
        while not stop.is_set():
            try:
                item = items.get(timeout=_LOOK_S)
            except queue.Empty:
                silent_s = time.monotonic() - heard_at
                yield Tick(trouble=f"{self._isolated.whose} sends no heartbeat" if silent_s >= PATIENCE_S else "")
                continue
            if item is None:
                return
            if isinstance(item, BaseException):
                yield from self._set_aside(item, stop)
                return
            yield item
            heard_at = time.monotonic()  # the caller may have taken its time

    def finish(self, item: Frame | Failure) -> None:
        """Call the source's `finish`; log its error."""
        try:
            self._isolated.call(self._source.finish, item)
        except PluginError as exc:
            log.error("%s: %s", item.name, exc)  # noqa: TRY400 - a fault of the package, which the message names

    def _read(self, stop: Stop, items: queue.Queue[Item | _End]) -> None:
        end: _End = None
        try:
            for item in self._source.items(stop):
                if self.live and isinstance(item, Frame):
                    self._drop_waiting(items)
                if not _handed_on(self._checked(item), stop, items):
                    return
        except BaseException as exc:  # noqa: BLE001 - whatever it is, it is named where the items are taken
            end = exc
        _handed_on(end, stop, items)

    def _drop_waiting(self, items: queue.Queue[Item | _End]) -> None:
        """Take out a frame that waits: a newer one is there."""
        with contextlib.suppress(queue.Empty):
            self.skipped += isinstance(items.get_nowait(), Frame)

    def _checked(self, item: object) -> Item:
        if isinstance(item, Frame | Failure):  # the name is what the results are stored under
            return item if item.source == self.name else replace(item, source=self.name)
        if isinstance(item, Tick):
            return item
        raise TypeError(f"it gave a {type(item).__name__}, wanted a Frame, a Failure or a Tick")

    def _set_aside(self, error: BaseException, stop: Stop) -> Iterator[Tick]:
        why = f"{self._isolated.whose} failed: {said(error)}; it is set aside until the next start, the other sources continue"
        log.debug("%s: %s", self.name, why, exc_info=error)
        yield Tick(trouble=why)
        while not self._once and not stop.wait(_LOOK_S):
            yield Tick(trouble=why)


def _handed_on(item: Item | _End, stop: Stop, items: queue.Queue[Item | _End]) -> bool:
    while not stop.is_set():
        try:
            items.put(item, timeout=_LOOK_S)
        except queue.Full:
            continue
        return True
    return False
