"""What a picture file says of itself before anything is decoded: kind, size, orientation, and whether all of it is there.

Pure functions of bytes. Everything that must be refused without waking a decoder is refused here: other kinds of files, cut-off
files, and pictures whose decoding would take more memory than allowed ("decompression bombs").

Formats: JPEG ITU-T T.81, PNG (W3C, third edition), WebP RFC 9649, BMP (Windows DIB), TIFF 6.0, GIF89a, Exif 2.32 (its orientation tag);
AVIF and HEIC as in `containers`.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from edgeannot.base.errors import FrameError
from edgeannot.vision.containers import iso_items_are_text, iso_kind, iso_orientation, iso_size

__all__ = ["Header", "Kind", "read_header"]

Kind = Literal["jpeg", "png", "webp", "bmp", "tiff", "gif", "avif", "heic"]

_MAGIC: tuple[tuple[bytes, Kind], ...] = (
    (b"\xff\xd8", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"BM", "bmp"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"GIF8", "gif"),
)
_OTHER_MAGIC = (
    (b"\0\0\1\0", "an icon (ICO)"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000"),
    (b"\xff\x0a", "a JPEG XL"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL"),
    (b"%PDF", "a PDF"),
    (b"PK\3\4", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"RIFF", "a RIFF file (sound or video)"),
    (b"\x1aE\xdf\xa3", "a Matroska or WebM video"),
)
"""What phones, browsers and cameras write and people put into a folder of pictures; anything else is "no known picture"."""
_CONTROL = re.compile(rb"[\x00-\x1f\x7f-\x9f]")

_JPEG_SUPPORTED = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}  # baseline, extended, progressive; the last two with arithmetic coding
_JPEG_NO_LENGTH = {0x01, *range(0xD0, 0xD9)}
_MARKER = re.compile(rb"\xff+([^\x00\xff])")
_TIFF_PHOTOMETRIC = {0, 1, 2, 3, 5, 6}  # white or black is zero, RGB, palette, CMYK, YCbCr
_TIFF_FORMATS = {1: "B", 3: "H", 4: "I"}  # BYTE, SHORT, LONG
_TIFF_COMPRESSIONS = {1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946}  # what OpenCV 4.10 and 5.0 both decode
_TIFF_TAGS = {254, 258, 259, 262, 273, 274, 279, 322, 323, 324, 325, 339}
_TIFF_MAX_VALUES = 2**17
"""Of one tag; a directory may name more than fit into memory, all in the same few bytes."""


_WHOLE_BYTES: dict[Kind, int] = {"tiff": 10, "avif": 16, "heic": 8}
"""Bytes a pixel at the peak of decoding kinds that are decoded whole."""


@dataclass(frozen=True, slots=True)
class Header:
    """The facts of a picture file that decoding needs."""

    kind: Kind
    stored_wh: tuple[int, int]
    """Width and height in pixels as stored, before the orientation is applied."""
    orientation: int
    """Exif orientation 1..8, where the decoder does not turn the picture; 1 for TIFF and HEIC, whose decoders do."""
    alpha: bool
    """Whether pixels may be transparent."""
    native_bytes: int
    """Bytes a pixel with alpha: 4, or 8 when 16 bits a channel."""
    coefficient_bytes: float
    """Bytes a pixel that the coefficients of a JPEG of several scans take while it is decoded; 0 for everything else."""
    ends: bool = True
    """Whether a JPEG has its end marker; other kinds are refused without it."""

    @property
    def several_scans(self) -> bool:
        """Whether it is a JPEG with more than one scan."""
        return self.coefficient_bytes > 0

    @property
    def full_wh(self) -> tuple[int, int]:
        """Width and height of the upright picture."""
        width, height = self.stored_wh
        return (height, width) if self.orientation >= 5 else (width, height)  # 5..8 swap the axes

    def decode_bytes(self, reduction: int = 1) -> int:
        """Return memory that decoding takes at its peak, in bytes; measured with OpenCV 4.10 and 5.0, which agree.

        OpenCV hands Python a copy, so three bytes a pixel are needed twice; a TIFF of one strip also holds the strip as RGBA; libavif
        and libheif hold the planes of colour beside them.
        """
        width, height = self.stored_wh
        if self.kind in _WHOLE_BYTES:
            return _WHOLE_BYTES[self.kind] * width * height
        if self.alpha:
            return 2 * self.native_bytes * width * height
        pixels = 3 * width * height / reduction**2
        return int(max(2 * pixels, pixels + self.coefficient_bytes * width * height))


def read_header(data: bytes) -> Header:
    """Return the header of a picture file, complete but for a JPEG (`Header.ends`). Raises FrameError: empty, unsupported,
    not-a-picture, truncated or damaged.
    """
    kind = _kind(data)
    try:
        header = _READERS[kind](data)
    except (ValueError, struct.error, IndexError, TypeError) as exc:
        raise FrameError(f"the {kind.upper()} header is damaged or cut off", "damaged") from exc
    width, height = header.stored_wh
    if (width, height) == (-1, -1):
        raise FrameError(f"the {kind.upper()} header names no size where it should", "damaged")
    if width < 1 or height < 1:
        raise FrameError(f"the {kind.upper()} header says {width}x{height} pixels; wanted at least 1x1", "damaged")
    return header


def begins_as_picture(head: bytes) -> bool:
    """Tell whether the first bytes of a file (16 are enough) are those of a kind that is read here."""
    return _known_kind(head) is not None


def _known_kind(data: bytes) -> Kind | None:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return next((kind for magic, kind in _MAGIC if data.startswith(magic)), None) or iso_kind(data)


def _kind(data: bytes) -> Kind:
    if not data:
        raise FrameError("the file is empty", "empty")
    if kind := _known_kind(data):
        return kind
    if not data.strip(b"\0"):
        raise FrameError(f"the file holds {len(data)} zero bytes and no picture; it was probably never written to its end", "truncated")
    wanted = "wanted JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF or HEIC"
    if found := _other_kind(data):
        raise FrameError(f"the file is {found}; {wanted}", "unsupported")
    raise FrameError(f"the file begins with {data[:8]!r}, which is no known picture; {wanted}", "not-a-picture")


def _other_kind(data: bytes) -> str | None:
    if data[4:8] == b"ftyp":
        return "a video or another ISO media file"
    for magic, name in _OTHER_MAGIC:
        if data.startswith(magic):
            return name
    head = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith((b"<svg", b"<?xml", b"<!doctype", b"<html")):
        return "an SVG, XML or HTML file"
    return None


def _jpeg(data: bytes) -> Header:
    frame = scan = None
    in_scan = 0
    exif = b""
    for marker, start, end in _jpeg_segments(data):
        if marker == 0xE1 and not exif and data.startswith(b"Exif\0\0", start):
            exif = data[start + 6 : end]
        if (0xC0 <= marker <= 0xCF or marker == 0xF7) and marker not in (0xC4, 0xC8, 0xCC) and frame is None:  # F7 is JPEG-LS
            frame = marker, data[start:end]
        if marker == 0xDA:
            scan, in_scan = end, data[start] if start < len(data) else 0
            break
    if scan is None:
        raise FrameError("the JPEG is cut off: it has no picture data", "truncated")
    if frame is None:
        raise FrameError("the JPEG has no frame header", "damaged")
    marker, segment = frame
    if marker not in _JPEG_SUPPORTED or segment[0] != 8:
        raise FrameError(
            f"the JPEG is of a kind that is not read (marker FF{marker:02X}, {segment[0]} bits); wanted baseline or progressive, 8 bits",
            "unsupported",
        )
    height, width = struct.unpack_from(">HH", segment, 1)
    # FF D9 cannot occur inside a scan (T.81 B.1.1.5), and thumbnails with an end of their own lie before it.
    ends = data.rfind(b"\xff\xd9", scan) >= 0  # from behind, where it is as a rule
    coefficients = 0.0
    if marker in (0xC2, 0xCA) or in_scan < segment[5]:  # progressive, or a scan for each component
        factors = [(segment[7 + 3 * i] >> 4, segment[7 + 3 * i] & 15) for i in range(segment[5])]
        largest = max(h for h, _ in factors) * max(v for _, v in factors)
        coefficients = 2 * sum(h * v for h, v in factors) / max(largest, 1)
    orientation = _exif_orientation(exif) if exif else 1
    return Header("jpeg", (width, height), orientation, alpha=False, native_bytes=3, coefficient_bytes=coefficients, ends=ends)


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of each segment's content, up to the first scan; a decoder skips stray bytes between them, so do we."""
    position = 2
    while True:
        head = data[position : position + 4]
        if len(head) == 4 and head[0] == 0xFF and head[1] not in (0, 0xFF):  # as a rule nothing lies between two segments
            marker, start = head[1], position + 2
        else:
            match = _MARKER.search(data, position)
            marker, start = (match[1][0], match.end()) if match else (0xD9, position)
        if marker in _JPEG_NO_LENGTH:
            position = start
            continue
        if marker == 0xD9 or start + 2 > len(data):
            return
        position = start + max(2, data[start] << 8 | data[start + 1])
        yield marker, start + 2, position


def _png(data: bytes) -> Header:
    exif = b""
    transparent = False
    position = 8
    while True:
        length, name = struct.unpack_from(">I4s", data, position) if position + 8 <= len(data) else (0, b"")
        if not name or position + 12 + length > len(data):
            raise FrameError("the PNG is cut off: its last chunk (IEND) is missing", "truncated")
        if name == b"IEND":
            break
        if name == b"iCCP" and _CONTROL.search(data[position + 8 : position + 8 + 80].partition(b"\0")[0]):  # the decoder would print it
            raise FrameError("the PNG's colour profile has a name with control characters in it", "damaged")
        if name == b"eXIf":
            exif = data[position + 8 : position + 8 + length]
        transparent |= name == b"tRNS"
        position += 12 + length
    width, height = _size(data)
    depth, color = data[24], data[25]
    alpha = transparent or color in (4, 6)
    return Header("png", (width, height), _exif_orientation(exif), alpha, 8 if depth == 16 else 4, 0.0)


def _size(data: bytes) -> tuple[int, int]:
    import imagesize  # noqa: PLC0415 - 1.5 MB, with a client of HTTP, that a run over JPEGs does not need

    width, height = imagesize.get(io.BytesIO(data))
    return int(width), int(height)


def _webp(data: bytes) -> Header:
    wanted = int.from_bytes(data[4:8], "little") + 8
    if wanted > len(data):
        raise FrameError(f"the WebP is cut off: its header says {wanted} bytes, found {len(data)}", "truncated")
    exif = b""
    alpha = animated = False
    position = 12
    while position + 8 <= len(data):
        name, length = struct.unpack_from("<4sI", data, position)
        body = data[position + 8 : position + 8 + length] if name in (b"VP8X", b"EXIF") else data[position + 8 : position + 13]
        animated |= name == b"VP8X" and bool(body[0] & 0x02)  # of several layers, which the decoder lays on each other
        if name == b"EXIF":
            exif = body.removeprefix(b"Exif\0\0")
        alpha |= (name == b"VP8X" and bool(body[0] & 0x10)) or (name == b"VP8L" and bool(body[4] & 0x10))
        position += 8 + length + (length & 1)
    width, height = _size(data)
    if data[12:16] == b"VP8 ":
        width, height = width & 0x3FFF, height & 0x3FFF  # the two high bits ask for upscaling, RFC 6386 9.1
    return Header("webp", (width, height), _exif_orientation(exif), alpha or animated, 8 if animated else 4, 0.0)


def _bmp(data: bytes) -> Header:
    _, pixels, info = struct.unpack_from("<I4xII", data, 2)
    if info == 12:  # an OS/2 header has 16-bit fields
        width, height, bits, compression = *struct.unpack_from("<HHxxH", data, 18), 0
    else:
        width, height = _size(data)
        bits, compression = struct.unpack_from("<HI", data, 28)
    if compression in (0, 3) and pixels + (width * bits + 31) // 32 * 4 * height > len(data):
        raise FrameError(f"the BMP is cut off: {width}x{height} pixels of {bits} bits need more than its {len(data)} bytes", "truncated")
    return Header("bmp", (width, height), 1, alpha=False, native_bytes=4, coefficient_bytes=0.0)


def _tiff(data: bytes) -> Header:
    tags = _tiff_tags(data)
    if data[8:10] == b"CR" or tags.get(254, (0,))[0] & 1:
        raise FrameError(
            "the TIFF begins with a small preview of another picture, as a camera's raw file does; wanted a picture", "unsupported"
        )
    compression = tags.get(259, (1,))[0]
    if compression not in _TIFF_COMPRESSIONS:
        raise FrameError(
            f"the TIFF is compressed in a way that is not read (number {compression}); wanted none, LZW or deflate", "unsupported"
        )
    offsets, counts = tags.get(273) or tags.get(324), tags.get(279) or tags.get(325)
    ends = [offset + count for offset, count in zip(offsets or (), counts or (), strict=False)]
    if ends and max(ends) > len(data):
        raise FrameError(f"the TIFF is cut off: its picture data ends at byte {max(ends)}, the file at {len(data)}", "truncated")
    photometric, bits = tags.get(262, (1,))[0], max(tags.get(258, (1,)))
    if photometric not in _TIFF_PHOTOMETRIC or bits > 16 or tags.get(339, (1,))[0] != 1:
        raise FrameError(
            f"the TIFF has {bits}-bit samples of a kind that is not read (photometric {photometric}); "
            "wanted 1 to 16 bit gray, RGB, palette or CMYK",
            "unsupported",
        )
    width, height = _size(data)
    tile_width, tile_height = tags.get(322, (0,))[0], tags.get(323, (0,))[0]
    if max(tile_width - width, tile_height - height) > 1024:
        raise FrameError(f"the TIFF's tiles of {tile_width}x{tile_height} are far larger than its {width}x{height} pixels", "damaged")
    return Header("tiff", (width, height), 1, alpha=False, native_bytes=4, coefficient_bytes=0.0)


def _gif(data: bytes) -> Header:
    return Header("gif", struct.unpack_from("<HH", data, 6), 1, alpha=True, native_bytes=4, coefficient_bytes=0.0)


def _avif(data: bytes) -> Header:
    return Header("avif", iso_size(data), iso_orientation(data), alpha=False, native_bytes=3, coefficient_bytes=0.0)


def _heic(data: bytes) -> Header:
    if not iso_items_are_text(data):
        raise FrameError("the HEIC names its parts in bytes that are no text", "damaged")
    return Header("heic", iso_size(data), 1, alpha=False, native_bytes=3, coefficient_bytes=0.0)


def _tiff_tags(data: bytes) -> Mapping[int, tuple[int, ...]]:
    """Return the needed whole numbers of a TIFF structure's first directory (TIFF 6.0, section 2), by tag; the first of each."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        return {}
    directory = struct.unpack_from(order + "I", data, 4)[0]
    tags = {}
    for i in range(struct.unpack_from(order + "H", data, directory)[0]):
        entry = directory + 2 + 12 * i
        tag, kind, count = struct.unpack_from(order + "HHI", data, entry)
        if tag not in _TIFF_TAGS or tag in tags or kind not in _TIFF_FORMATS or count > _TIFF_MAX_VALUES:
            continue
        form = f"{order}{count}{_TIFF_FORMATS[kind]}"
        place = entry + 8 if struct.calcsize(form) <= 4 else struct.unpack_from(order + "I", data, entry + 8)[0]
        tags[tag] = struct.unpack_from(form, data, place)
    return {tag: values for tag, values in tags.items() if values}


def _exif_orientation(exif: bytes) -> int:
    """Return the orientation in an Exif block, which is a TIFF structure; 1 where there is none or the block is damaged."""
    try:
        orientation = _tiff_tags(exif).get(274, (1,))[0]
    except struct.error:
        return 1
    return orientation if 1 <= orientation <= 8 else 1


_READERS = {"jpeg": _jpeg, "png": _png, "webp": _webp, "bmp": _bmp, "tiff": _tiff, "gif": _gif, "avif": _avif, "heic": _heic}
