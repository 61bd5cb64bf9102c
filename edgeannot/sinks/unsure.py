"""The pictures that the model was least sure of, a bounded number: the ones whose labels teach it most.

Picking by the smallest score is least-confidence sampling (Settles, "Active Learning Literature Survey", 2009, section 3.1).
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from pydantic import Field

from edgeannot.sinks.base import SinkContext
from edgeannot.sinks.files import FolderOptions, FolderSink, moment_name
from edgeannot.storage.store import Message
from edgeannot.vision.data import Annotation

__all__ = ["UnsureOptions", "UnsureSink"]

_EMPTY = "none"
_OURS = re.compile(rf"(?:0\.\d{{3}}|{_EMPTY})-.*\.jpg")


class UnsureOptions(FolderOptions):
    """Pictures that the model was least sure of, as candidates to be labelled."""

    enabled: bool = False
    """Whether such pictures are kept."""
    folder: Path = Path("unsure")
    """Folder for them; a relative one lies in the output folder. The surest ones in it are replaced: take out what you label."""
    below: float = Field(default=0.5, gt=0, le=1)
    """A picture is kept if the smallest score of what was found is below this."""
    empty: bool = False
    """Also keep pictures in which nothing was found, as the least sure of all; for a classifier, which then was sure of no class."""
    max_pictures: int = Field(default=200, ge=1, le=10_000)
    """How many are kept: the least sure."""
    every_s: float = Field(default=60.0, ge=0)
    """Least seconds between two that are kept of one camera, so that one scene does not fill the folder."""


class UnsureSink(FolderSink):
    """Writes `<folder>/<score>-<time>-<source>-<id>.jpg`, the picture as it came, without boxes; the score `none` of an empty one."""

    def __init__(self, options: UnsureOptions, context: SinkContext) -> None:
        self._options = options
        super().__init__(options, context)
        self._kept_at: dict[str, float] = {}

    def write(self, annotation: Annotation) -> Sequence[Message]:
        """Store the picture if it is one of the least sure; no messages."""
        frame, scores = annotation.frame, annotation.detections.scores
        if not len(scores) and not self._options.empty:
            return ()
        score = float(scores.min()) if len(scores) else 0.0
        now = time.monotonic()
        live = frame.path is None
        if score >= self._options.below or (live and now - self._kept_at.get(frame.source, -1e9) < self._options.every_s):
            return ()
        name = f"{f'{min(score, 0.999):.3f}' if len(scores) else _EMPTY}-{moment_name(frame)}.jpg"
        kept = sorted((path for path in self._out.folder.glob("*.jpg") if _OURS.fullmatch(path.name)), key=lambda path: _rank(path.name))
        if len(kept) < self._options.max_pictures or _rank(name) < _rank(kept[self._options.max_pictures - 1].name):
            from edgeannot.vision.draw import jpeg  # noqa: PLC0415 - loads OpenCV, which reading the settings must not

            if self._out.write(PurePosixPath(name), jpeg(frame.image, 95)) is not None:
                self._kept_at[frame.source] = now
                for path in kept[self._options.max_pictures - 1 :]:
                    path.unlink(missing_ok=True)
        return ()


def _rank(name: str) -> tuple[bool, str]:
    """Return what sorts the names of pictures, the least sure first: empty ones, then by their scores."""
    return not name.startswith(_EMPTY), name
