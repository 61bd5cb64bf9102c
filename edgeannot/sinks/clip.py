"""A video file of JPEGs as they are: AVI with MJPG, written without encoding anything anew.

Format: Microsoft, "AVI RIFF File Reference" (header lists `hdrl` and `strl`, chunks `00dc` in `movi`, index `idx1`).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

__all__ = ["avi"]

_HAS_INDEX: Final = 0x10
_KEY_FRAME: Final = 0x10


def avi(jpegs: Sequence[bytes], size_wh: tuple[int, int], fps: float) -> bytes:
    """Return the bytes of a video file. jpegs: at least one, all of this size. fps: pictures a second, above 0."""
    width, height = size_wh
    us = max(1, round(1e6 / fps))
    most = max(map(len, jpegs))
    main = struct.pack("<14I", us, 0, 0, _HAS_INDEX, len(jpegs), 0, 1, most, width, height, 0, 0, 0, 0)
    stream = b"vids" + b"MJPG" + struct.pack("<IHHIIIIIIIIHHHH", 0, 0, 0, 0, us, 10**6, 0, len(jpegs), most, 10**4, 0, 0, 0, width, height)
    form = struct.pack("<IiiHH4sIiiII", 40, width, height, 1, 24, b"MJPG", width * height * 3, 0, 0, 0, 0)
    header = _list(b"hdrl", _chunk(b"avih", main) + _list(b"strl", _chunk(b"strh", stream) + _chunk(b"strf", form)))
    frames, index, offset = [], [], 4
    for jpeg in jpegs:
        frames.append(_chunk(b"00dc", jpeg))
        index.append(struct.pack("<4sIII", b"00dc", _KEY_FRAME, offset, len(jpeg)))
        offset += len(frames[-1])
    body = header + _list(b"movi", b"".join(frames)) + _chunk(b"idx1", b"".join(index))
    return _chunk(b"RIFF", b"AVI " + body)


def _chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def _list(name: bytes, data: bytes) -> bytes:
    return _chunk(b"LIST", name + data)
