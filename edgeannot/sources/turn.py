"""How a source waits for a picture's turn and decodes it; see `at_work` for who has to wait."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

from edgeannot.base.errors import FrameError
from edgeannot.crash_guard import AtWork, Place
from edgeannot.sources.contract import Stop, Tick

if TYPE_CHECKING:
    from edgeannot.vision.decode import Picture

__all__ = ["DEADLY", "UNREADABLE", "Turns"]

DEADLY = "deadly"
"""The reason for a picture that the program died of."""
UNREADABLE = "unreadable"
"""The reason for a file that the system did not let us read, whatever is in it."""
_NOT_DECODED = (UNREADABLE, "memory")
_PATIENCE_S = 0.5
"""Longest time in one wait, so that a stop is noticed and the caller gets its Tick."""


class Turns:
    """The turns of one source's pictures. Its generators give a Tick while they wait."""

    def __init__(self, source: str, at_work: AtWork, tick: Callable[[], Tick]) -> None:
        self._source = source
        self._at_work = at_work
        self._tick = tick

    def take(self, identity: str, name: str, stop: Stop, *, isolated: bool = False) -> Generator[Tick, None, Place]:
        """Wait for the turn of a picture; 0 where `stop` was set before. Raises FrameError for one that is to be set aside.

        identity: what makes it the same picture when it comes again. isolated: whether nothing else may be processed meanwhile.
        """
        why = self._at_work.verdict(identity)
        if why is not None:
            raise FrameError(why, DEADLY)
        while (place := self._at_work.enter(self._source, identity, name, _PATIENCE_S, isolated=isolated)) is None:
            if stop.is_set():
                return 0
            yield self._tick()
        return place

    def leave(self, place: Place, *, survived: bool = True) -> None:
        """There is no picture, or none that can be used; survived: see `AtWork.leave`."""
        self._at_work.leave(place, survived=survived)

    def decode(
        self, identity: str, name: str, stop: Stop, decode: Callable[[bool], Picture | None]
    ) -> Generator[Tick, None, tuple[Place, Picture | None]]:
        """Decode a picture when it is its turn; no picture where `decode` gives none or `stop` was set before.

        decode: told whether nothing else is being processed, so that no more memory will be free later. Raises FrameError as it does.
        """
        for isolated in (False, True):
            place = yield from self.take(identity, name, stop, isolated=isolated)
            if not place:
                break
            try:
                picture = decode(isolated)
            except BaseException as exc:
                reason = exc.reason if isinstance(exc, FrameError) else ""
                self.leave(place, survived=reason not in _NOT_DECODED)
                if isolated or reason != "memory":
                    raise
                continue
            if picture is not None:
                return place, picture
            self.leave(place, survived=False)
            break
        return 0, None
