"""What becomes of an input when its results are committed; one that goes for good waits until the disk has them."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from edgeannot.base.errors import LinkError
from edgeannot.sinks import Sink
from edgeannot.sources import Source
from edgeannot.storage.store import Store
from edgeannot.vision.data import Frame

__all__ = ["PostCommit"]

log = logging.getLogger(__name__)

_MOST_HELD: Final = 10_000
"""Inputs that may wait for a failing disk; files beyond stay where they are, also later."""

_NO_IMAGE: Final = np.empty((0, 0, 3), np.uint8)


class PostCommit:
    """Lets sources do with their inputs what their options say; an input that goes for good waits until the disk has its results."""

    def __init__(self, store: Store, sinks: Sequence[Sink], patience_s: float) -> None:
        self._store = store
        self._sinks = sinks
        self._patience_s = patience_s
        self._held: deque[tuple[Source, Frame]] = deque(maxlen=_MOST_HELD)
        self._failing_since = 0.0

    def finish(self, source: Source, frame: Frame) -> None:
        """The results of this picture are committed."""
        if not source.removes_input:
            source.finish(frame)
            return
        self._held.append((source, replace(frame, image=_NO_IMAGE)))
        self._try()

    def again(self) -> None:
        """Try again what the disk did not confirm: a picture that came as a message keeps its place in the broker's window until then.

        Raises LinkError when the disk refused for `patience_s` seconds.
        """
        if self._held:
            self._try()

    def _try(self) -> None:
        try:
            for sink in self._sinks:
                sink.flush()
            self._store.sync()
        except LinkError as exc:
            now = time.monotonic()
            if not self._failing_since:
                self._failing_since = now
                log.warning("%s; %s, and what follows, stays where it is until that works", exc, self._held[-1][1].name)
            elif now - self._failing_since >= self._patience_s:
                raise
            return
        if self._failing_since:
            os.sync()  # a sink brings its last file only to the disk: this is for those before
            log.info("results are written to the disk again")
            self._failing_since = 0.0
        while self._held:
            source, frame = self._held.popleft()
            source.finish(frame)
