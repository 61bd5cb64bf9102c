"""The child process that holds a live camera open: what `capture_process` starts. FFmpeg, V4L2 and libcamera may block for ever, or crash.

One request, one answer ({"captured": ...}). The pixels of a frame go through the memory that both have open.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import re
from typing import Any, Final

from edgeannot.base.child import serve
from edgeannot.sources.capture import Capture, Format, Target, open_capture

__all__ = ["main"]

_MOST_WORDS: Final = 8192
"""Bytes of what FFmpeg said that are looked at."""
_LIBC: Final = ctypes.CDLL(None)


class _Camera:
    """The camera that is open, and the memory for its frames."""

    def __init__(self) -> None:
        self._capture: Capture | None = None
        self._memory: mmap.mmap | None = None
        self._errors = os.dup(2)
        self._nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        self._quiet = False

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Carry out one request."""
        return {"captured": getattr(self, f"_{request.pop('do')}")(**request)}

    def _start(self) -> dict[str, Any]:
        import cv2  # noqa: PLC0415 - the time that it takes is waited for apart

        cv2.setNumThreads(1)
        return {}

    def _open(self, **facts: Any) -> dict[str, Any]:
        target = Target(**{**facts, "format": Format(**facts["format"]), "ca_file": None})
        self._release()
        _speak_to(self._errors)
        self._quiet = False
        # OpenCV reads these each time it opens a stream, or when it is loaded. No secret is in them.
        os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = f"rtsp_transport;{target.transport}"
        os.environ["OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT"] = str(max(1, round(target.read_timeout_s)))
        capture = self._capture = open_capture(target)
        if not capture.isOpened():
            return {"opened": False, "said": _said(), "trouble": getattr(capture, "trouble", "")}
        return {"opened": True, "facts": _facts(capture) if target.kind == "device" else getattr(capture, "facts", "")}

    def _grab(self) -> dict[str, Any]:
        if self._capture is None or not self._capture.grab():
            return {"fine": False, "said": "" if self._quiet else _said()}
        if not self._quiet:  # FFmpeg reports each damaged packet, for as long as the stream runs
            _speak_to(self._nowhere)
            self._quiet = True
        return {"fine": True, "frame": getattr(self._capture, "has_frame", True)}

    def _retrieve(self, memory: int) -> dict[str, Any]:
        import numpy as np  # noqa: PLC0415 - loaded with OpenCV

        fine, image = self._capture.retrieve() if self._capture is not None else (False, None)
        if not fine or image is None or image.size == 0:
            return {"shape": None}
        if self._memory is None or len(self._memory) < image.nbytes:
            os.ftruncate(memory, image.nbytes)
            self._memory = mmap.mmap(memory, image.nbytes)
        np.copyto(np.frombuffer(self._memory, np.uint8, image.size).reshape(image.shape), image)
        return {"shape": image.shape}

    def _release(self) -> dict[str, Any]:
        if self._capture is not None:
            self._capture.release()
            self._capture = None
        return {}


def _facts(capture: Capture) -> str:
    """Return what a V4L2 device gives, such as "1280x720 MJPG at 30/s"."""
    import cv2  # noqa: PLC0415 - loads OpenCV

    code = int(capture.get(cv2.CAP_PROP_FOURCC))
    fourcc = "".join(chr(code >> shift & 0xFF) for shift in (0, 8, 16, 24))
    width, height, fps = (capture.get(prop) for prop in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FPS))
    shown = fourcc if re.fullmatch("[ -~]{4}", fourcc) else f"{code:#x}"
    return f"{width:.0f}x{height:.0f} {shown.strip()} at {fps:g}/s"


def _speak_to(file: int) -> None:
    """Have libraries print to this file, whichever stream they print on: OpenCV 4 and 5 differ."""
    _LIBC.fflush(None)
    os.dup2(file, 1)
    os.dup2(file, 2)


def _said() -> str:
    """Return the end of what FFmpeg wrote, as standard error is a file of the parent; and forget it."""
    _LIBC.fflush(None)  # the C library keeps what goes to a file until it has 4 KB
    try:
        size = os.fstat(2).st_size
        words = os.pread(2, _MOST_WORDS, max(0, size - _MOST_WORDS))
        os.ftruncate(2, 0)
        os.lseek(2, 0, os.SEEK_SET)
    except OSError:
        return ""
    return words.decode("utf-8", "replace")


def main() -> None:
    """Serve until the parent is gone."""
    os.environ["OPENCV_FFMPEG_LOGLEVEL"] = "16"  # errors, which say why a stream does not open
    os.environ["OPENCV_LOG_LEVEL"] = "OFF"
    serve(_Camera().answer)
