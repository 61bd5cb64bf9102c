"""A thread that keeps a live camera open and returns its newest frame on demand.

Reads from a camera block and cannot be cancelled, so they have a thread of their own. It takes every frame off the device (else
old ones pile up: 72 frames after a pause of 3 s were seen), but unpacks only those that somebody waits for.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from edgeannot.base.connections.backoff import backoff_s
from edgeannot.base.foreign import number_of
from edgeannot.crash_guard import AtWork
from edgeannot.sources.capture import AskedCapture, Capture, OpenCapture, Opener, Target, TellingCapture, as_bgr, device_trouble
from edgeannot.vision.data import UInt8Array

__all__ = ["Grabber", "Shot"]

log = logging.getLogger(__name__)

FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 5.0
"""A stream gives frames again within twice this after its server is back."""
_LOOK_S = 0.5
"""Longest wait for somebody who wants a picture, so that a stop is noticed."""
STEADY_S = 10.0
"""A camera that gave frames for this long is taken for well: the next attempt to reopen it comes soon."""


@dataclass(frozen=True, slots=True)
class Shot:
    """A frame as the camera gave it. `image` is (H, W, 3) uint8 BGR."""

    image: UInt8Array
    captured_at: datetime
    taken_at: float
    """When, by the monotonic clock, in seconds."""
    decode_ms: float


class Grabber:
    """Reads a camera in a thread of its own. Use `start`, `newest` and `close`; one consumer."""

    def __init__(
        self,
        name: str,
        target: Target,
        open_capture: OpenCapture,
        at_work: AtWork,
    ) -> None:
        """at_work: an open camera may kill the program, too, so it is closed while a picture is processed in isolation."""
        self._name = name
        self._at_work = at_work
        self._gave_way = False
        self._asked_pause_s = 0.0
        self._target = target
        self._open_capture = open_capture
        self._changed = threading.Condition()
        self._wanted = True
        self._shot: Shot | None = None
        self._crash: BaseException | None = None
        self._closing = threading.Event()
        self._facts = ""
        if isinstance(open_capture, Opener):
            open_capture.stopped = self._closing.is_set
        self._thread = threading.Thread(target=self._run, name=f"camera-{name}", daemon=True)
        self.trouble = ""
        """What is wrong at the moment; empty while frames come."""
        self.answered = False
        """Whether that is what the camera itself answered."""
        self.explained = False
        """Whether `trouble` has a reason."""
        self.failures = 0
        """Attempts in a row that gave no steady stream."""
        self.skipped = 0
        """Frames that nobody waited for."""

    def start(self) -> None:
        """Start opening the camera."""
        self._thread.start()

    def newest(self, timeout_s: float) -> Shot | None:
        """Return the next frame that the camera takes from now on; None when none came in time. Raises what broke the thread."""
        with self._changed:
            self._wanted = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._shot is not None or self._crash is not None, timeout_s)
            if self._crash is not None:
                raise RuntimeError(f"internal error in the reader of the camera {self._target.shown} (please report)") from self._crash
            shot, self._shot = self._shot, None
            return shot

    def close(self, timeout_s: float = 1.0) -> None:
        """Stop the thread and wait a moment; a blocked thread closes the camera when its read returns."""
        self._closing.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            self._pause()
            while not self._closing.is_set():
                place = self._at_work.enter(self._name, "", self._target.shown, 0.5, stage="capturing")
                if place is None:
                    continue
                try:
                    steady = self._session()
                finally:
                    self._at_work.leave(place)
                if not self._gave_way:
                    self.failures = 1 if steady else self.failures + 1
                    self._closing.wait(max(backoff_s(self.failures, FIRST_WAIT_S, LONGEST_WAIT_S), self._asked_pause_s))
        except Exception as exc:  # noqa: BLE001 - handed to the consumer, who raises it
            with self._changed:
                self._crash = exc
                self._changed.notify_all()
        finally:
            if isinstance(self._open_capture, Opener):
                self._open_capture.close()

    def _pause(self) -> None:
        """Leave the others some time where the program died while this camera was open: it may be what kills it."""
        pause_s, deaths = self._at_work.pause_s(self._name)
        if deaths:
            self.trouble = (
                f"the program died {number_of(deaths, 'time')} in a row while the camera {self._target.shown} was open; "
                f"opening it after {pause_s:g} s"
            )
            self._closing.wait(pause_s)

    def _session(self) -> bool:
        """Open the camera and read until it fails; whether it gave frames for a while."""
        self._gave_way, self._asked_pause_s = False, 0.0
        capture = self._open_capture(self._target)
        try:
            # A device that was unplugged opens, too, and gives no frame: only the first frame says that it is open.
            if not capture.isOpened() or not capture.grab():
                why = device_trouble(self._target)
                self._say(capture, f"cannot be opened: {why}" if why else "")
                return False
            began = time.monotonic()
            self.trouble = ""
            self._tell_facts(capture)
            while not self._closing.is_set() and not self._gives_way() and self._use_frame(capture) and self._next(capture):
                pass
            if not self._closing.is_set() and not self._gave_way:
                self._say(capture, "gives no more frames")
            return time.monotonic() - began > STEADY_S
        finally:
            capture.release()

    def _next(self, capture: Capture) -> bool:
        """Take the next frame off the camera; a still one is asked only for a picture that somebody waits for."""
        while isinstance(capture, AskedCapture) and not self._wanted:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted, _LOOK_S)
            if self._closing.is_set() or self._gives_way():
                return False
        return capture.grab()

    def _say(self, capture: Capture, why: str) -> None:
        """Set what is wrong; some captures know it better."""
        self.answered = isinstance(capture, TellingCapture) and capture.answered
        if isinstance(capture, TellingCapture):
            why, self._asked_pause_s = capture.trouble or why, capture.pause_s
        self.explained = bool(why)
        self.trouble = f"the camera {self._target.shown} {why or 'cannot be opened'}"

    def _tell_facts(self, capture: Capture) -> None:
        """Log what the camera gives, once and when it changes."""
        if isinstance(capture, TellingCapture) and capture.facts not in {"", self._facts}:
            self._facts = capture.facts
            log.info("%s: the camera %s gives %s", self._name, self._target.shown, self._facts)

    def _gives_way(self) -> bool:
        """Return whether the camera is to be closed for a picture that is processed in isolation."""
        self._gave_way = self._at_work.isolation_wanted
        return self._gave_way

    def _use_frame(self, capture: Capture) -> bool:
        """Unpack the frame that was just taken if somebody waits for it; False when it cannot be."""
        if not self._wanted:
            self.skipped += 1
            return True
        captured_at, taken_at = datetime.now(UTC), time.monotonic()
        began = time.perf_counter()
        fine, image = capture.retrieve()
        if not fine or image is None or image.size == 0:
            return False
        shot = Shot(as_bgr(image), captured_at, taken_at, (time.perf_counter() - began) * 1e3)
        with self._changed:
            self._wanted = False
            self._shot = shot
            self._changed.notify_all()
        return True
