"""Wait for a picture's turn and decode it; `crash_guard` decides which pictures have to wait."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeannot.base.errors import FrameError
from edgeannot.crash_guard import AtWork, Ticket
from edgeannot.sources.contract import Stop, Tick

if TYPE_CHECKING:
    from edgeannot.vision.decode import Picture, PictureLimits

__all__ = ["DEADLY", "UNREADABLE", "PictureDecoder", "Turns"]

log = logging.getLogger(__name__)

DEADLY = "deadly"
"""The reason for a picture that the program died of."""
UNREADABLE = "unreadable"
"""The reason for a file that the system did not let us read, whatever is in it."""
_NOT_DECODED = (UNREADABLE, "memory")
_PATIENCE_S = 0.5
"""Longest time in one wait, so that a stop is noticed and the caller gets its Tick."""


@dataclass(frozen=True, slots=True)
class PictureDecoder:
    """Decodes a source's pictures within the limits of its settings. Raises FrameError for what is over them, or is no picture.

    OpenCV is loaded when the first picture comes: settings import the sources, and `edgeannot config` must not wait for it.
    """

    max_megapixels: float
    max_decode_mb: int
    max_file_mb: int
    free_bytes: Callable[[], int | None]
    """Memory that can still be taken, now; None: not known."""

    def check_size(self, size: int) -> None:
        """Refuse a file of more bytes than are to be read."""
        from edgeannot.vision.decode import check_file_size  # noqa: PLC0415

        check_file_size(size, self._limits())

    def decode(self, data: bytes, *, smaller: bool, whole: bool = False) -> Picture:
        """Decode the picture; smaller: at a part of its size where memory is too short for all of it. whole: refuse any damage."""
        from edgeannot.vision.decode import decode  # noqa: PLC0415

        return decode(data, self._limits(), smaller=smaller, whole=whole)

    def _limits(self) -> PictureLimits:
        from edgeannot.vision.decode import PictureLimits  # noqa: PLC0415

        return PictureLimits(int(self.max_megapixels * 1e6), self.max_decode_mb << 20, self.max_file_mb << 20, self.free_bytes)


class Turns:
    """The turns of one source's pictures. Its generators give a Tick while they wait."""

    def __init__(self, source: str, at_work: AtWork, tick: Callable[[], Tick]) -> None:
        self._source = source
        self._at_work = at_work
        self._tick = tick

    def take(self, crash_key: str, name: str, stop: Stop, *, isolated: bool = False) -> Generator[Tick, None, Ticket]:
        """Wait for the turn of a picture; 0 where `stop` was set before. Raises FrameError for one that is to be set aside.

        crash_key: what makes it the same picture when it comes again. isolated: whether nothing else may be processed meanwhile.
        """
        why = self._at_work.verdict(crash_key)
        if why is not None:
            raise FrameError(why, DEADLY)
        while (ticket := self._at_work.enter(self._source, crash_key, name, _PATIENCE_S, isolated=isolated)) is None:
            if stop.is_set():
                return 0
            yield self._tick()
        return ticket

    def leave(self, ticket: Ticket, *, survived: bool = True) -> None:
        """End a turn without a usable picture. survived: see `AtWork.leave`."""
        self._at_work.leave(ticket, survived=survived)

    def decode(
        self, crash_key: str, name: str, stop: Stop, decode: Callable[[bool], Picture | None]
    ) -> Generator[Tick, None, tuple[Ticket, Picture | None]]:
        """Decode a picture when it is its turn; no picture where `decode` gives none or `stop` was set before.

        decode: told whether nothing else is being processed, so that no more memory will be free later. Raises FrameError as it does.
        """
        for isolated in (False, True):
            ticket = yield from self.take(crash_key, name, stop, isolated=isolated)
            if not ticket:
                break
            try:
                picture = decode(isolated)
            except BaseException as exc:
                reason = exc.reason if isinstance(exc, FrameError) else ""
                self.leave(ticket, survived=reason not in _NOT_DECODED)
                if isolated or reason != "memory":
                    raise
                continue
            if picture is not None:
                if picture.damage:
                    log.warning("%s: %s: %s; annotated, and marked as damaged", self._source, name, picture.damage)
                return ticket, picture
            self.leave(ticket, survived=False)
            break
        return 0, None
