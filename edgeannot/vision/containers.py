"""The one picture that is annotated of files that may hold several: animations, and the ISO media files of phones (HEIC, AVIF).

Pure functions of bytes. Formats: WebP RFC 9649 (2.7), APNG (PNG third edition, 11.3.6), ISO/IEC 14496-12 boxes with the properties
`ispe`, `irot` and `imir` of ISO/IEC 23008-12 (6.5).
"""

from __future__ import annotations

import re
import struct
from typing import Literal

__all__ = ["first_frame", "iso_items_are_text", "iso_kind", "iso_orientation", "iso_size"]

_AVIF = (b"avif", b"avis")
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx")
_EITHER = (b"mif1", b"msf1", b"miaf")
"""Brands that do not say how the picture is coded; the compatible ones do."""
_SIZE = re.compile(rb"ispe\0\0\0\0(.{4})(.{4})", re.DOTALL)
_ITEM = re.compile(rb"(.{4})infe([\x02\x03])", re.DOTALL)
_ROTATION = re.compile(rb"\0\0\0\x09irot(.)", re.DOTALL)
_MIRROR = re.compile(rb"\0\0\0\x09imir(.)", re.DOTALL)
_ORIENTATIONS = {
    # (quarter turns to the left, then the mirrored axis, 0: top and bottom change places) as an Exif orientation
    (0, None): 1, (0, 1): 2, (2, None): 3, (0, 0): 4, (1, None): 8, (3, None): 6,
    (1, 0): 5, (1, 1): 7, (2, 0): 2, (2, 1): 4, (3, 0): 7, (3, 1): 5,
}  # fmt: skip


def first_frame(data: bytes) -> bytes:
    """Return a file with the first picture of an animated WebP or PNG alone; any other file as it is.

    Of a PNG that is the picture which programs show that know no animation. A WebP whose first frame is smaller than the whole stays as it
    is: newer decoders lay the frame in its place.
    """
    if data.startswith(b"\xff\xd8"):  # a JPEG
        return data
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _first_of_webp(data)
    if data.startswith(b"\x89PNG\r\n\x1a\n") and b"acTL" in data[:4096]:
        return _without_animation(data)
    return data


def _first_of_webp(data: bytes) -> bytes:
    if data[12:16] != b"VP8X" or len(data) < 30 or not data[20] & 0x02 or int.from_bytes(data[4:8], "little") + 8 > len(data):
        return data
    position = 30
    while position + 8 <= len(data):
        name, length = struct.unpack_from("<4sI", data, position)
        body = data[position + 8 : position + 8 + length]
        if name == b"ANMF" and len(body) > 16:
            if body[:6] != bytes(6) or body[6:12] != data[24:30]:  # not at 0, 0 or not of the whole size
                return data
            header = bytes([data[20] & ~0x02]) + data[21:30]
            chunks = b"WEBPVP8X" + struct.pack("<I", 10) + header + body[16:] + b"\0" * (len(body) & 1) + _later_exif(data, position)
            return b"RIFF" + struct.pack("<I", len(chunks)) + chunks
        position += 8 + length + (length & 1)
    return data


def _later_exif(data: bytes, position: int) -> bytes:
    """Return the Exif chunk behind the frames, which has the orientation."""
    while position + 8 <= len(data):
        name, length = struct.unpack_from("<4sI", data, position)
        end = position + 8 + length + (length & 1)
        if name == b"EXIF":
            return data[position:end]
        position = end
    return b""


def _without_animation(data: bytes) -> bytes:
    kept, position = [data[:8]], 8
    while position + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if name not in (b"acTL", b"fcTL", b"fdAT"):
            kept.append(data[position:end])
        position = end
    return b"".join(kept)


def iso_kind(data: bytes) -> Literal["avif", "heic"] | None:
    """Return what picture an ISO media file holds by its brands; None for a video, or where it is no such file."""
    if data[4:8] != b"ftyp":
        return None
    length = min(int.from_bytes(data[:4], "big"), 256)
    major, compatible = data[8:12], data[16:length]
    brands = [major]
    if major in _EITHER:
        brands += [compatible[i : i + 4] for i in range(0, len(compatible), 4)]
    for brand in brands:
        if brand in _AVIF:
            return "avif"
        if brand in _HEIC:
            return "heic"
    return "heic" if major in _EITHER else None


def iso_size(data: bytes) -> tuple[int, int]:
    """Return width and height of the largest picture in an ISO media file, as stored; (0, 0) where it names none.

    That is an upper bound for its pictures, tiles and thumbnails, and enough to refuse one that is too large.
    """
    sizes = [(int.from_bytes(match[1], "big"), int.from_bytes(match[2], "big")) for match in _SIZE.finditer(data)]
    return max(sizes, key=lambda size: size[0] * size[1], default=(0, 0))


def iso_items_are_text(data: bytes) -> bool:
    """Return whether the types and names of all items are ASCII, as ISO/IEC 14496-12, 8.11.6, wants them.

    pi-heif 1.4 takes them for text without a look, and dies of others.
    """
    for match in _ITEM.finditer(data):
        start = match.end() + 3 + (4 if match[2] == b"\2" else 6)  # flags, number, protection
        if not data[start : match.start() + int.from_bytes(match[1], "big")].isascii():
            return False
    return True


def iso_orientation(data: bytes) -> int:
    """Return the rotation and mirroring of an ISO media file's picture as an Exif orientation, 1..8."""
    rotation, mirror = _ROTATION.search(data), _MIRROR.search(data)
    return _ORIENTATIONS[rotation[1][0] & 3 if rotation else 0, mirror[1][0] & 1 if mirror else None]
