"""JPEG files in, (H, W, 3) uint8 BGR pixels out, with what the decoder found wrong on the way.

libjpeg goes on after damage and only warns: what it has no data for stays gray, what follows a wrong bit is decoded out of step.
simplejpeg is the decoder that gives the warning back (docs/design.md compares it with others); its pixels are those of OpenCV, bit for
bit. Where it is not installed OpenCV decodes, and only damage that shows in the file's structure is noticed: data that ends early,
blocks of zeros, markers where none may be.

Format: ITU-T T.81 (markers B.1.1, scans B.2.3).
"""

from __future__ import annotations

import functools
import itertools
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import cv2
import numpy as np

from edgeannot.base.errors import FrameError
from edgeannot.vision.data import UInt8Array

__all__ = ["Decoded", "decode_jpeg"]

log = logging.getLogger(__name__)

_END = b"\xff\xd9"
_SCAN = b"\xff\xda"
_MOST_SCANS = 500
"""libjpeg's own script for progressive files has 10; a scan of a few bytes takes as long as one of a whole picture."""
_EARLY = "its data ends early"
_BLANKS = (128, 65)
"""The grays of pixels that no data came for: all coefficients are 0 (T.81 A.3.1); the second is that of CMYK."""
_HOLE_BYTES = 64
"""So many zeros in a row are no picture but a block that a disk or a card has lost; see `_Structure.hole`."""
_MARKER = re.compile(rb"\xff+([^\x00\xff])")
_RESTARTS = range(0xD0, 0xD8)
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_STRAY = re.compile(r"Corrupt JPEG data: (\d+) extraneous bytes before marker 0x([0-9a-f]{2})")

_Decoder = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Decoded:
    """Pixels, and what is wrong with them."""

    image: UInt8Array
    fault: str = ""
    """What the decoder said, a few words; empty for a sound picture."""
    readable: float = 1.0
    """Share of the rows that data was there for, before the first gap; of a JPEG of several scans 0 where not all coefficients of
    the brightness were there at least once. An upper bound: from where on wrong bits put the decoder out of step, nobody can tell."""


def decode_jpeg(data: bytes, wh: tuple[int, int], reduction: int, *, ends: bool, several: bool) -> Decoded | None:
    """Return the pixels of a JPEG at 1/reduction of its size, as stored; None where nothing can be decoded.

    wh: width and height by its header. ends: whether it has its end marker; where only that is missing nothing of the picture is, which
    is no fault. several: whether it has more than one scan, by its header. Raises FrameError "damaged" for more scans than any program
    writes, MemoryError, and cv2.error.
    """
    whole = data if ends else data + _END
    if several:
        _check_scans(whole)
    decoder = _simplejpeg()
    if decoder is None:
        image = _with_opencv(whole, reduction)
        return None if image is None else _by_structure(image, whole, reduction, ends=ends)
    options: dict[str, Any] = {"colorspace": "BGR"}
    if reduction > 1:  # the smallest size that is not below these is the wanted one
        options |= {"min_width": -(-wh[0] // reduction), "min_height": -(-wh[1] // reduction), "min_factor": reduction}
    try:
        image = decoder(whole, **options)
    except ValueError as exc:
        fault = str(exc)
    else:
        return Decoded(image) if ends else _without_end(image, whole)
    if "nsufficient memory" in fault:
        raise MemoryError(fault)
    image = _tolerant(decoder, whole, options)
    if image is None:  # an odd kind, which OpenCV may take
        image = _with_opencv(whole, reduction)
        return None if image is None else Decoded(image)
    structure = _Structure.of(whole)
    if structure is None or structure.explains(fault):
        return Decoded(image)
    return Decoded(image, fault, structure.readable(image, fault, lambda part: _tolerant(decoder, part, options)))


def _check_scans(data: bytes) -> None:
    if data.count(_SCAN) > _MOST_SCANS and (structure := _Structure.of(data)) and (count := len(structure.scans)) > _MOST_SCANS:
        message = f"the JPEG has {count} scans, each of which takes the time of the whole; at most {_MOST_SCANS} are read"
        raise FrameError(message, "damaged")


def _without_end(image: UInt8Array, data: bytes) -> Decoded:
    """Return a picture in which nothing is wrong but that it stops: between two scans the details are missing."""
    structure = _Structure.of(data)
    if structure is None or not structure.several or structure.is_complete():
        return Decoded(image)
    return Decoded(image, _EARLY, structure.readable(image, "premature end", lambda _: None))


@functools.cache
def _simplejpeg() -> _Decoder | None:
    """Return simplejpeg's function; None, said once, where it is not installed (32-bit Arm has it from elsewhere than PyPI)."""
    try:
        from simplejpeg import decode_jpeg as decoder  # noqa: PLC0415 - may be missing
    except ImportError:
        log.info(
            "simplejpeg is not installed, so a JPEG's damage is noticed only where its data ends early, holds blocks of zeros or wrong "
            "markers; install simplejpeg"
        )
        return None
    return cast("_Decoder", decoder)


def _tolerant(decoder: _Decoder, data: bytes, options: dict[str, Any]) -> UInt8Array | None:
    try:
        return cast("UInt8Array", decoder(data, strict=False, **options))
    except ValueError:
        return None


def _with_opencv(data: bytes, reduction: int) -> UInt8Array | None:
    flags = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}[reduction]
    return cast("UInt8Array | None", cv2.imdecode(np.frombuffer(data, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION))


def _by_structure(image: UInt8Array, data: bytes, reduction: int, *, ends: bool) -> Decoded:
    """Find what a decoder without warnings does not say."""
    structure = _Structure.of(data)
    if structure is None:
        return Decoded(image)
    fault = structure.fault()
    if not fault and not ends and (structure.several or _rows(image) < 1):
        fault = _EARLY
    if not fault:
        return Decoded(image)
    readable = structure.readable(image, "" if ends else "premature end", lambda part: _with_opencv(part, reduction))
    if readable == 1 and ends and structure.fills_up():
        return Decoded(image)
    return Decoded(image, fault, readable)


def _rows(image: UInt8Array) -> float:
    """Return the share of rows above the part that no data came for."""
    blank = (image == image[-1, -1]).all(axis=(1, 2))
    if image[-1, -1].tolist() not in [[gray] * 3 for gray in _BLANKS]:
        return 1.0
    return 0.0 if blank.all() else 1 - int(np.argmin(blank[::-1])) / len(blank)


@dataclass(frozen=True, slots=True)
class _Scan:
    """One scan: the components in it, its coefficients in zigzag order from..to, their lowest bit, where its entropy-coded data lies."""

    components: bytes
    spectrum: range
    low_bit: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Structure:
    """Where the scans of a JPEG lie."""

    data: bytes
    scans: tuple[_Scan, ...]
    count: int
    """Of components."""
    luminance: int
    """The first component's number."""
    several: bool
    """Whether the file is one of several scans, each with a part of what is to be known of every place. Of one scan, what follows it does
    not count."""
    restarts: bool
    """Whether the decoder gets into step again at restart markers."""
    flat_zeros: bool
    """Whether zeros may be a flat part of a picture: in each table for AC coefficients the code of zeros ends the block."""

    @classmethod
    def of(cls, data: bytes) -> _Structure | None:
        """Return the structure of a file; None where there is no frame or no scan."""
        scans: list[_Scan] = []
        frame = b""
        several = restarts = False
        tables: list[bool] = []
        position = 2
        while match := _MARKER.search(data, position):
            marker, start = match[1][0], match.end()
            position = start
            if marker == 0xD9:
                break
            if marker in _RESTARTS or marker == 1:
                continue
            position = start + max(2, int.from_bytes(data[start : start + 2], "big"))
            body = data[start + 2 : position]
            if marker in _FRAMES and not frame:
                frame, several = body, marker in _PROGRESSIVE
            elif marker == 0xDD:
                restarts = any(body)
            elif marker == 0xC4:
                tables += _end_block_first(body)
            elif marker == 0xDA and body and len(body) >= 4 + 2 * body[0]:
                count = body[0]
                end = _end_of_scan(data, position)
                spectrum = range(body[1 + 2 * count], body[2 + 2 * count] + 1)
                scans.append(_Scan(body[1 : 1 + 2 * count : 2], spectrum, body[3 + 2 * count] & 15, position, end))
                position = end
                several |= len(frame) > 5 and count < frame[5]
                if not several:
                    break
        if len(frame) < 7 or not scans:
            return None
        return cls(data, tuple(scans), frame[5], frame[6], several, restarts, all(tables))

    def is_complete(self) -> bool:
        """Return whether the scans have each coefficient of each component to its last bit."""
        there = {(part, number) for scan in self.scans if scan.low_bit == 0 for part in scan.components for number in scan.spectrum}
        return len(there) >= 64 * self.count

    def explains(self, warning: str) -> bool:
        """Return whether the data is sound although this is libjpeg's first warning: stray bytes that cost nothing of the picture."""
        if not warning.startswith(("Corrupt JPEG data", "Premature end", "Inconsistent progression")):
            return True  # something odd in the headers
        found = _STRAY.match(warning)
        if not found:
            return False
        count, marker = int(found[1]), int(found[2], 16)
        if marker == 0xD9:  # zeros that fill up the last block, as some cameras write them; the decoder has read up to 8 bytes ahead
            return count <= self._last_zeros() <= count + 8
        return marker not in _RESTARTS and not self.several  # between the headers

    def fills_up(self) -> bool:
        """Return whether the zeros in the data are one run before the end marker, of a file whose rows stand one after the other."""
        scan = self.scans[-1]
        return not self.several and not self.restarts and self.hole() >= scan.end - self._last_zeros()

    def _last_zeros(self) -> int:
        scan = self.scans[-1]
        return scan.end - scan.start - len(self.data[scan.start : scan.end].rstrip(b"\0"))

    def hole(self) -> int:
        """Return where the first block of zeros in a scan begins; -1 where there is none."""
        if self.flat_zeros:
            return -1
        places = (self.data.find(bytes(_HOLE_BYTES), scan.start, scan.end) for scan in self.scans)
        return next((place for place in places if place >= 0), -1)

    def fault(self) -> str:
        """Return what is wrong by the structure alone; empty where nothing shows."""
        if self.hole() >= 0:
            return "there is a block of zeros in its data"
        if self.several:
            return ""
        (scan,) = self.scans
        after = _MARKER.match(self.data, scan.end)
        if after and after[1] != b"\xd9":
            return f"the marker FF{after[1].hex().upper()} is in its data"
        numbers = [match[1][0] - 0xD0 for match in _MARKER.finditer(self.data, scan.start, scan.end)]
        if any((b - a) % 8 != 1 for a, b in itertools.pairwise(numbers)):
            return "its restart markers are not in order"
        return ""

    def readable(self, image: UInt8Array, fault: str, again: Callable[[bytes], UInt8Array | None]) -> float:
        """Return how much can be read of a picture with a fault, see `Decoded.readable`. again: decodes a part of the file."""
        hole = self.hole()
        if self.several:
            last = self.scans[-1].end
            stop = hole if hole >= 0 else last - 1 if "remature end" in fault else last
            there = {number for scan in self.scans if scan.end <= stop and self.luminance in scan.components for number in scan.spectrum}
            return _rows(image) if len(there) >= 64 else 0.0
        if hole < 0:
            return _rows(image)
        if self.restarts:  # only a part is lost
            (scan,) = self.scans
            zeros = sum(len(run) for run in re.findall(rb"\0{%d,}" % _HOLE_BYTES, self.data[scan.start : scan.end]))
            return min(_rows(image), 1 - zeros / (scan.end - scan.start))
        before = again(self.data[:hole] + _END)
        return 0.0 if before is None else _rows(before)


def _end_of_scan(data: bytes, start: int) -> int:
    """Return where the next marker stands that is no restart marker; the length of the data where none follows."""
    for match in _MARKER.finditer(data, start):
        if match[1][0] not in _RESTARTS:
            return match.start()
    return len(data)


def _end_block_first(tables: bytes) -> list[bool]:
    """Return for each Huffman table for AC coefficients whether its first code, all zeros, is "end of block" (T.81 B.2.4.2, C.2)."""
    found, position = [], 0
    while position + 17 < len(tables):
        if tables[position] >> 4:
            found.append(tables[position + 17] == 0)
        position += 17 + sum(tables[position + 1 : position + 17])
    return found
