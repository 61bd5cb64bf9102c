"""Only the key frames of a video stream: the others are read and never decoded.

OpenCV has no setting that makes FFmpeg's decoder skip frames. It does hand out packets undecoded (CAP_PROP_FORMAT -1) and says of each
whether it is a key frame; such a packet is a stream of one frame, which a second capture decodes from memory.
"""

from __future__ import annotations

import os
import time
from typing import Any, Final

import cv2
import numpy as np

from edgeannot.vision.data import UInt8Array

__all__ = ["KeyFrames"]

_LOOK_S: Final = 1.0
"""Longest time in one `grab`: a camera may send a key frame every 10 seconds, and the caller has to see that packets come."""
_JPEG: Final = b"\xff\xd8"
_START_CODE: Final = b"\0\0"
"""What a packet and its decoder's parameters begin with in the byte stream format (ITU-T H.264 and H.265, annex B)."""


class KeyFrames:
    """A `Capture` of key frames. `grab` also returns True, after a second without one, while other packets come: see `has_frame`."""

    def __init__(self, packets: Any) -> None:
        """packets: a cv2.VideoCapture that gives packets undecoded."""
        self._packets = packets
        self._packet = b""
        self._parameters: bytes | None = None

    @property
    def has_frame(self) -> bool:
        """Return whether the last `grab` took a key frame."""
        return bool(self._packet)

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        """Return whether the stream is open."""
        return bool(self._packets.isOpened())

    def grab(self) -> bool:
        """Take packets until one is a key frame, a second at most; False where no packet comes."""
        self._packet = b""
        until = time.monotonic() + _LOOK_S
        while self._packets.grab():
            if self._packets.get(cv2.CAP_PROP_LRF_HAS_KEY_FRAME):
                fine, packet = self._packets.retrieve()
                if not fine or packet is None:
                    return False
                self._packet = packet.tobytes()
                return True
            if time.monotonic() >= until:
                return True
        return False

    def retrieve(self) -> tuple[bool, UInt8Array | None]:
        """Decode the key frame that `grab` took."""
        if not self._packet:
            return False, None
        packet, self._packet = self._packet, b""
        if packet.startswith(_JPEG):
            image = cv2.imdecode(np.frombuffer(packet, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
            return image is not None, None if image is None else np.asarray(image, np.uint8)
        data = self._with_parameters() + packet
        memory = os.memfd_create("edgeannot-key-frame")
        try:
            os.write(memory, data)
            decoder = cv2.VideoCapture(f"/proc/self/fd/{memory}", cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
            try:
                fine, image = decoder.read()
            finally:
                decoder.release()
        finally:
            os.close(memory)
        return (True, np.asarray(image, np.uint8)) if fine else (False, None)

    def get(self, prop: int) -> float:
        """Return a property of the stream."""
        return float(self._packets.get(prop))

    def release(self) -> None:
        """Close the stream."""
        self._packets.release()

    def _with_parameters(self) -> bytes:
        """Return what a decoder needs before the first packet, where the stream told it apart (the SDP of RTSP)."""
        if self._parameters is None:
            index = int(self._packets.get(cv2.CAP_PROP_CODEC_EXTRADATA_INDEX))
            fine, extra = self._packets.retrieve(index) if index > 0 else (False, None)
            found = extra.tobytes() if fine and extra is not None else b""
            self._parameters = found if found.startswith(_START_CODE) else b""
        return self._parameters
