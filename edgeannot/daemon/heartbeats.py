"""Threads that show that they live, and keep what ended them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

__all__ = ["Heartbeats", "Worker"]


class Heartbeats:
    """When each worker last showed that it lives; the watchdog is fed only while all of them do."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: dict[str, float] = {}

    def beat(self, name: str) -> None:
        """`name` did a piece of work or looked for one."""
        self._last[name] = self._clock()

    def gone(self, name: str) -> None:
        """`name` has ended and owes no more signs of life."""
        self._last.pop(name, None)

    def silence_s(self) -> tuple[float, str]:
        """The longest time in seconds that a worker has been silent, and its name."""
        now = self._clock()
        return max(((now - last, name) for name, last in list(self._last.items())), default=(0.0, ""))


class Worker(threading.Thread):
    """A named thread that keeps the error which ended it."""

    def __init__(self, name: str, work: Callable[[], None], heartbeats: Heartbeats, failed: Callable[[], None]) -> None:
        super().__init__(name=name, daemon=True)
        self._work = work
        self._heartbeats = heartbeats
        self._failed = failed
        self.error: BaseException | None = None

    def run(self) -> None:
        """Do the work; on an error keep it and tell."""
        self._heartbeats.beat(self.name)
        try:
            self._work()
        except BaseException as exc:  # noqa: BLE001 - the main thread raises it again
            self.error = exc
            self._failed()
        finally:
            self._heartbeats.gone(self.name)
