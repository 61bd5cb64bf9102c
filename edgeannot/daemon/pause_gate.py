"""What stands between a source and the queue: closed while the daemon is paused, slow while the governor wants fewer pictures."""

from __future__ import annotations

from collections.abc import Callable

from edgeannot.remote.control import Control
from edgeannot.sources import Source, Stop

__all__ = ["PauseGate"]

_LOOK_S = 1.0
"""Longest time in one wait, so that a sign of life can be given."""


class PauseGate:
    """The gate of one source. For the thread that reads it; `skipped` may be asked from any."""

    def __init__(self, source: Source, control: Control, rest_s: Callable[[], float] = lambda: 0.0) -> None:
        """rest_s: seconds to wait after a picture that no clock paces, such as a file."""
        self._source = source
        self._control = control
        self._rest_s = rest_s
        self._in_pauses = 0
        self._closed_at: int | None = None

    @property
    def skipped(self) -> int:
        """Frames that the source skipped while the gate was open: what passes by during a pause is not lost."""
        closed_at = self._closed_at
        return (self._source.skipped if closed_at is None else closed_at) - self._in_pauses

    def wait_open(self, stop: Stop, heartbeat: Callable[[], None]) -> bool:
        """Wait while the daemon is paused, or until `stop`; whether there was a pause."""
        if self._control.wait_while_paused(0):
            return False
        self._closed_at = self._source.skipped
        while not self._control.wait_while_paused(_LOOK_S) and not stop.is_set():
            heartbeat()
        self._in_pauses += self._source.skipped - self._closed_at
        self._closed_at = None
        return True

    def rest(self, stop: Stop, heartbeat: Callable[[], None]) -> None:
        """Wait as long as the rate in force wants after a picture of a source that is not live; a live one paces itself."""
        left_s = 0.0 if self._source.live else self._rest_s()
        while left_s > 0 and not stop.wait(min(left_s, _LOOK_S)):
            heartbeat()
            left_s -= _LOOK_S
