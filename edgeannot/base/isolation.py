"""The code of an installed package in a thread of its own: where it raises or hangs, it is named and set aside, and nobody waits for it."""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from edgeannot.base.errors import PluginError

__all__ = ["PATIENCE_S", "Isolated"]

T = TypeVar("T")

PATIENCE_S = 10.0
"""How long a call may take; the unit's watchdog waits three times as long for a sign of life of the thread that asks."""

_Call = tuple[Callable[..., Any], tuple[Any, ...], "queue.SimpleQueue[tuple[Any, BaseException | None]]"]


class Isolated:
    """Calls functions of one plug-in, one after the other, each in the same thread."""

    def __init__(self, whose: str, patience_s: float | None = None) -> None:
        """whose: "the sink 'lines' of the package some-plugin", for messages."""
        self.whose = whose
        self._patience_s = PATIENCE_S if patience_s is None else patience_s
        self._hangs = False
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        # A daemon thread: the program ends though it hangs. It knows the queue alone, so that it ends when nobody can ask any more.
        threading.Thread(target=_serve, args=(self._calls,), name=f"plug-in: {whose}", daemon=True).start()
        weakref.finalize(self, self._calls.put, None)

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """Return what the function returns. Raises PluginError: it raised, or took too long; one that hangs is not called again."""
        if self._hangs:
            raise PluginError(f"{self.whose} is set aside until the next start, as it hangs")
        answer: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        self._calls.put((function, args, answer))
        try:
            value, error = answer.get(timeout=self._patience_s)
        except queue.Empty:
            self._hangs = True
            raise PluginError(f"{self.whose} has not returned for {self._patience_s:g} s; it is set aside until the next start") from None
        if error is not None:
            raise PluginError(f"{self.whose} failed: {said(error)}") from error
        result: T = value
        return result


def said(error: BaseException) -> str:
    """Say an error in one line, with its class."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def _serve(calls: queue.SimpleQueue[_Call | None]) -> None:
    while (call := calls.get()) is not None:
        function, args, answer = call
        try:
            answer.put((function(*args), None))
        except BaseException as exc:  # noqa: BLE001 - whatever it is, the caller names it
            answer.put((None, exc))
        del call, function, args, answer  # who waits holds no picture
