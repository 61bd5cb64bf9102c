"""Output at a terminal: a line a picture, a progress line below, a summary at the end."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections import defaultdict
from pathlib import Path
from typing import TextIO

from edgeannot.base.foreign import number_of, printable
from edgeannot.base.streams import own_escapes
from edgeannot.vision.data import Annotation, Failure

__all__ = ["Reporter", "summary_of"]

log = logging.getLogger(__name__)


class Reporter:
    """Writes to `stream`. On a terminal it draws a progress line, which the next line overwrites, and prints a line for a video's
    frame only if its detections differ from those of the frame before.

    After a write error (a closed pipe, a full disk) it writes no more and the daemon continues.
    """

    def __init__(self, stream: TextIO, *, once: bool = False) -> None:
        """once: the pictures that wait are all there will be, so that progress has a total."""
        self._stream = own_escapes(stream)
        self._live = stream.isatty()
        self._start = time.monotonic()
        self._once = once
        self._total = 0
        self._drawn = 0
        self._gone = False
        self._last_shown: tuple[Path | None, tuple[str, ...]] = (None, ())
        self.annotated = 0
        self.failed = 0

    def picture(self, annotation: Annotation) -> None:
        """Print the line for an annotated picture whose results are stored."""
        self.annotated += 1
        frame = annotation.frame
        if self._live and self._seen_before(annotation):
            return
        name = frame.name or (frame.path.name if frame.path else f"{frame.source} {frame.seq}")
        self._line(f"{name}  {summary_of(annotation)}  ({annotation.timing_ms.get('total', 0.0):.0f} ms)")

    def _seen_before(self, annotation: Annotation) -> bool:
        """Return whether this is a frame of a video with the same detections as the one before."""
        frame = annotation.frame
        is_video = frame.path is not None and frame.key is None
        shown = (frame.path, tuple(sorted(annotation.labels)))
        before, self._last_shown = self._last_shown, shown
        return is_video and shown == before

    def failure(self, failure: Failure) -> None:
        """Print the line for a file that could not be used."""
        self.failed += 1
        self._line(f"{failure.name}  {failure.reason}: {failure.message.removeprefix(f'{failure.name}: ')}")

    def progress(self, waiting: int) -> None:
        """Draw the progress line."""
        if not self._live:
            return
        seconds = max(time.monotonic() - self._start, 1e-3)
        rate, done = self.annotated / seconds, self.annotated + self.failed
        if self._once:
            self._total = max(self._total, done + waiting)  # those on their way through the model wait no more
            left = f", {(self._total - done) / rate:.0f} s left" if rate and self._total > done else ""
            text = f"{done}/{self._total}{self._failures()}, {rate:.1f} a second{left}"
        else:
            text = f"{self.annotated} annotated{self._failures()}, {waiting} waiting, {rate:.1f} a second"
        self._write("\r" + text.ljust(self._drawn))
        self._drawn = len(text)

    def end(self, done_before: int = 0) -> None:
        """Print the summary. done_before: pictures skipped because an earlier run annotated them."""
        seconds = time.monotonic() - self._start
        before = f"; {done_before} already done by an earlier run (to repeat: --again)" if done_before else ""
        self._line(f"{number_of(self.annotated, 'picture')} annotated{self._failures()}, in {seconds:.1f} s{before}")

    def _failures(self) -> str:
        return f", {self.failed} not annotated" if self.failed else ""

    def _line(self, text: str) -> None:
        clear = "\r" + " " * self._drawn + "\r" if self._drawn else ""
        self._drawn = 0
        # File names are untrusted: they must not break lines or send control codes to the terminal.
        shown = printable(text)
        encoding = self._stream.encoding or "utf-8"
        self._write(clear + shown.encode(encoding, "backslashreplace").decode(encoding) + "\n")

    def _write(self, text: str) -> None:
        if self._gone:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError) as exc:
            self._gone = True
            if not isinstance(exc, BrokenPipeError):  # who closed the pipe knows
                log.warning("cannot write to standard output (%s); continuing without it", getattr(exc, "strerror", None) or exc)
            # What is still buffered would be tried again when the program ends.
            with contextlib.suppress(OSError, ValueError), Path(os.devnull).open("wb") as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())


def summary_of(annotation: Annotation) -> str:
    """Return the labels with their best and least scores, highest first: "person 0.93..0.41 x3, dog 0.71"; "nothing" if there are none."""
    scores: dict[str, list[float]] = defaultdict(list)
    for label, score in zip(annotation.labels, annotation.detections.scores, strict=True):
        scores[label].append(float(score))
    words = []
    for label, each in sorted(scores.items(), key=lambda item: -max(item[1])):
        best, least = f"{max(each):.2f}", f"{min(each):.2f}"
        words.append(f"{label} {best}" + (f"..{least}" if least != best else "") + (f" x{len(each)}" if len(each) > 1 else ""))
    return ", ".join(words) or "nothing"
