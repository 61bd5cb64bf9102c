"""The one door to decoding picture files: bytes in, an upright (H, W, 3) uint8 BGR picture out, or a FrameError that says why not.

The kind is read from the content, never from the file's name. What a picture becomes:

* grayscale, palette, CMYK and 1-bit pictures become BGR; 16 bits a channel become 8 by the full range;
* a transparent PNG, WebP or GIF is laid on white, as most viewers show it; where nothing at all would be seen, as alpha is 0
  everywhere, its colours count; a TIFF's transparent parts are black, as its decoder gives it; the alpha of AVIF and HEIC is
  passed over;
* of an animation the first picture counts;
* the Exif orientation is applied here for JPEG, PNG and WebP (OpenCV 4.10 passes over that of WebP, 5.0 does not), that of AVIF likewise.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.util
import logging
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeannot.base.errors import INTERNAL_ERROR, FrameError
from edgeannot.base.places import SAMPLES
from edgeannot.vision.containers import first_frame
from edgeannot.vision.data import UInt8Array
from edgeannot.vision.jpeg import Decoded, decode_jpeg
from edgeannot.vision.picture_header import Header, Kind, read_header

__all__ = ["Picture", "PictureLimits", "configure_opencv", "decode", "keep_freed_memory", "read_picture", "sample_photo"]

log = logging.getLogger(__name__)

READABLE = 0.5
"""Share of the rows that a damaged JPEG must have for it to be annotated: a picture of which most is there shows most of what is there."""
_ISO = ("avif", "heic")
_SMALL_BYTES = 16 * 2**20
"""Decoding that takes less is not worth the question how much memory is free."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
"""glibc, malloc.h; its documentation: mallopt(3)."""
_KEPT_BYTES = 32 * 2**20
"""Room for a picture of 11 megapixels; glibc takes no more for M_MMAP_THRESHOLD, and on 32 bits not even this."""


@dataclass(frozen=True, slots=True)
class PictureLimits:
    """What is refused before it is decoded."""

    max_pixels: int = 100_000_000
    max_decode_bytes: int = 256 * 2**20
    """Memory that decoding may take at its peak: about 6 bytes a pixel, so 44 megapixels of ordinary JPEG; more a pixel for
    progressive JPEG, transparency and TIFF. A board of 512 MB survives that."""
    max_file_bytes: int = 128 * 2**20
    free_bytes: Callable[[], int | None] = lambda: None
    """Asked before a large picture is decoded, which may take three quarters of it: the rest is for what follows. None: not known."""


_LIMITS = PictureLimits()


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded picture. `image` is (H, W, 3) uint8 BGR, upright."""

    image: UInt8Array
    width: int
    """Of the whole picture in pixels, upright; larger than the image's own when it was decoded at reduced size."""
    height: int
    kind: Kind
    damage: str = ""
    """What is wrong with it, one clause; empty for a sound picture. Most of a damaged one can be read (`READABLE`)."""


def configure_opencv() -> None:
    """Set what OpenCV shares in a process; called once by who owns the process, never by an import.

    One thread: decoding does not use more, the resize of a picture takes well under a millisecond, and the pipeline's threads
    already overlap, so a pool of OpenCV's own would take cores from the inference. Its warnings go: each becomes a FrameError.
    """
    cv2.setNumThreads(1)
    # OpenCV 5 moved the function; level 0 is silent in both.
    logging = getattr(getattr(cv2, "utils", None), "logging", None)
    set_level = getattr(cv2, "setLogLevel", None) or getattr(logging, "setLogLevel", None)
    if set_level is not None:
        set_level(0)


def keep_freed_memory() -> None:
    """Have the C library keep the memory of one picture for the next one; called like `configure_opencv`, before there are threads.

    Else whether it gives the memory back to the kernel hangs on what happens to lie above it in the heap, and pages that come anew are
    filled with zeros first: 1,200 page faults a picture of 0.8 megapixels, 3 of 23 ms, with one model and not with another. All threads
    share one heap, as the pictures go from one to the next. Where the C library has no such settings, nothing is changed.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_ARENA_MAX, 1)
        if mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES):  # setting the other one alone would have every picture mapped anew
            mallopt(_M_TRIM_THRESHOLD, 2 * _KEPT_BYTES)


def read_picture(path: Path, limits: PictureLimits | None = None, *, min_side: int | None = None, whole: bool = False) -> Picture:
    """Return the picture in a file; see `decode`. The error names the file."""
    limits = limits or _LIMITS
    try:
        return decode(_read(path, limits), limits, min_side=min_side, whole=whole)
    except FrameError as exc:
        raise FrameError(f"{path}: {exc}", exc.reason) from exc
    except OSError as exc:
        raise FrameError(f"{path}: cannot be read ({exc.strerror})", "unreadable") from exc


def _read(path: Path, limits: PictureLimits) -> bytes:
    # Non-blocking, so that a named pipe without a writer cannot hang the reader.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        facts = os.fstat(fd)
        check_file_size(facts.st_size, limits)
        if not stat.S_ISREG(facts.st_mode):  # a pipe or a device could go on for ever, and a folder is no file to Python
            return b""
        with os.fdopen(fd, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(fd)


def sample_photo() -> UInt8Array:
    """Return (H, W, 3) uint8 BGR: the street scene that ships with the package, or plain grey where it cannot be read."""
    try:
        return read_picture(SAMPLES / "scene.jpg", min_side=640).image
    except FrameError:
        return np.full((480, 640, 3), 114, np.uint8)


def check_file_size(size: int, limits: PictureLimits) -> None:
    """Raise FrameError "too-large" for a file that is not even to be read."""
    if size > limits.max_file_bytes:
        raise FrameError(f"the file has {size >> 20} MB, allowed are {limits.max_file_bytes >> 20} MB", "too-large")


def decode(
    data: bytes, limits: PictureLimits | None = None, *, min_side: int | None = None, smaller: bool = False, whole: bool = False
) -> Picture:
    """Return the picture in a file's bytes.

    min_side: a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size as long as its shorter side keeps this many pixels; much
    faster and smaller (a 12-megapixel JPEG on x86: 58 ms and 70 MB in full, 24 ms and 6 MB at 1/4). Picture.width and height
    stay those of the whole.
    smaller: a JPEG that would not fit into the memory that is free may be decoded at such a size, too.
    whole: refuse a JPEG with any damage, or without its end marker, as one that is still being written. Otherwise it is decoded, with
    what is wrong in Picture.damage, where at least half of its rows (of one with several scans: its brightness) could be read.

    Raises FrameError with the reason empty, not-a-picture, unsupported, truncated, damaged, too-large, memory, or error for a
    fault of the program.
    """
    try:
        return _decode(data, limits or _LIMITS, min_side, smaller=smaller, whole=whole)
    except FrameError:
        raise
    except Exception as exc:  # only this picture may be lost by it, now and at each later start
        log.exception("a picture broke the program, which is a fault of the program; it goes on with the next")
        raise FrameError(f"decoding it failed ({type(exc).__name__}: {exc}), which is a fault of the program", INTERNAL_ERROR) from exc


def _decode(data: bytes, limits: PictureLimits, min_side: int | None, *, smaller: bool, whole: bool) -> Picture:
    data = first_frame(data)
    header = read_header(data)
    _check_kind(header.kind)
    if whole and not header.ends:
        raise FrameError("the JPEG is cut off: it has no end marker after its picture data", "truncated")
    reduction = _reduction(header, min_side)
    _check_size(header, reduction, limits)
    reduction = _fitting(header, reduction, limits, smaller=smaller)
    stored, damage = _pixels(data, header, reduction, whole=whole)
    image = _upright(stored, header.orientation)
    width, height = header.full_wh
    found = (image.shape[1], image.shape[0])
    if header.kind in _ISO and found[0] * found[1] <= width * height:  # the header may be that of a larger picture beside
        width, height = found
    if found != (-(-width // reduction), -(-height // reduction)):
        raise FrameError(f"the {header.kind.upper()} header says {width}x{height} pixels, its data gave {found[0]}x{found[1]}", "damaged")
    return Picture(image, width, height, header.kind, damage)


def _reduction(header: Header, min_side: int | None) -> int:
    if min_side is None or header.kind != "jpeg":
        return 1
    return next((factor for factor in (8, 4, 2) if min(header.stored_wh) // factor >= min_side), 1)


def _check_size(header: Header, reduction: int, limits: PictureLimits) -> None:
    width, height = header.stored_wh
    if width * height > limits.max_pixels:
        raise FrameError(
            f"the {header.kind.upper()} would have {width}x{height} pixels ({width * height / 1e6:.0f} megapixels), "
            f"allowed are {limits.max_pixels / 1e6:.0f} megapixels",
            "too-large",
        )
    needed = header.decode_bytes(reduction)
    if needed > limits.max_decode_bytes:
        raise FrameError(
            f"decoding the {header.kind.upper()} of {width}x{height} pixels would take {needed >> 20} MB of memory, "
            f"allowed are {limits.max_decode_bytes >> 20} MB",
            "too-large",
        )


def _fitting(header: Header, reduction: int, limits: PictureLimits, *, smaller: bool) -> int:
    """Return the reduction at which the picture fits into the memory that is free. Raises FrameError "memory" where none does."""
    needed = header.decode_bytes(reduction)
    free = limits.free_bytes() if needed > _SMALL_BYTES else None
    if free is None:
        return reduction
    room = free * 3 // 4
    factors = [factor for factor in (1, 2, 4, 8) if factor >= reduction] if smaller and header.kind == "jpeg" else [reduction]
    for factor in factors:
        if header.decode_bytes(factor) <= room:
            return factor
    width, height = header.stored_wh
    least = header.decode_bytes(factors[-1])
    at_best = f", and {least >> 20} MB at 1/{factors[-1]} of its size" if least < needed else ""
    raise FrameError(
        f"decoding the {header.kind.upper()} of {width}x{height} pixels would take {needed >> 20} MB of memory{at_best}; "
        f"{max(free, 0) >> 20} MB are free, of which it may take three quarters",
        "memory",
    )


def _pixels(data: bytes, header: Header, reduction: int, *, whole: bool) -> tuple[UInt8Array, str]:
    """Return a picture's pixels as stored, and what is wrong with them."""
    name = header.kind.upper()
    try:
        if header.kind == "jpeg":
            found = decode_jpeg(data, header.stored_wh, reduction, ends=header.ends, several=header.several_scans)
        elif header.kind == "heic":
            found = Decoded(_with_libheif(data))
        else:
            image = _with_opencv(data, header)
            found = None if image is None else Decoded(image)
    except MemoryError as exc:
        raise FrameError(f"the {name} cannot be decoded, as there is not enough memory", "memory") from exc
    except cv2.error as exc:
        reason = "memory" if exc.code == cv2.Error.StsNoMem else "damaged"
        raise FrameError(f"the {name} cannot be decoded ({str(exc).strip()})", reason) from exc
    if found is None:
        raise FrameError(f"the {name} cannot be decoded; its data is damaged or of a kind that is not read", "damaged")
    if found.image.ndim != 3 or found.image.shape[2] != 3 or found.image.dtype != np.uint8:
        raise FrameError(f"the {name} gave pixels of an unexpected kind: {found.image.dtype} {found.image.shape}", "damaged")
    if not found.fault:
        return found.image, ""
    damage = f"the {name} is {'damaged' if header.ends else 'cut off'} ({found.fault}); at most {found.readable:.0%} of it can be read"
    if whole or found.readable < READABLE:
        raise FrameError(damage, "damaged" if header.ends else "truncated")
    return found.image, damage


def _check_kind(kind: Kind) -> None:
    """Raise FrameError "unsupported" for a kind whose decoder is not here."""
    if kind == "heic" and importlib.util.find_spec("pi_heif") is None:
        raise FrameError("the file is a HEIC, which is read when its decoder is installed: pip install 'edgeannot[heic]'", "unsupported")
    if kind in ("gif", "avif") and not _opencv_reads(kind):
        raise FrameError(
            f"the file is of the kind {kind.upper()}, which OpenCV {cv2.__version__} does not read here; 5.0 does", "unsupported"
        )


@functools.cache
def _opencv_reads(kind: Kind) -> bool:
    """Return whether OpenCV was built with a decoder for the kind; it tells that nowhere else."""
    return re.search(rf"^ *{kind}: +(?!NO\b)\S", cv2.getBuildInformation(), re.IGNORECASE | re.MULTILINE) is not None


def _with_libheif(data: bytes) -> UInt8Array:
    """Return (H, W, 3) uint8 BGR, upright. Raises FrameError "damaged"."""
    import pi_heif  # noqa: PLC0415 - of the extra [heic]

    try:
        image = np.asarray(pi_heif.open_heif(data, convert_hdr_to_8bit=True, bgr_mode=True))
    except (ValueError, EOFError, OSError, RuntimeError, SyntaxError) as exc:
        raise FrameError(f"the HEIC cannot be decoded ({exc})", "damaged") from exc
    if image.ndim == 2 or image.shape[2] < 3:
        return cast("UInt8Array", cv2.cvtColor(np.ascontiguousarray(image if image.ndim == 2 else image[:, :, 0]), cv2.COLOR_GRAY2BGR))
    return np.array(image[:, :, :3], np.uint8)


def _with_opencv(data: bytes, header: Header) -> UInt8Array | None:
    flags = cv2.IMREAD_UNCHANGED if header.alpha else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    image = cast("NDArray[Any] | None", cv2.imdecode(np.frombuffer(data, np.uint8), flags))
    if image is not None and image.ndim == 3 and image.shape[2] == 4:
        return _on_white(image)
    return cast("UInt8Array | None", image)


def _on_white(bgra: NDArray[Any]) -> UInt8Array:
    """Lay a transparent picture (H, W, 4), uint8 or uint16, on white; in strips, so that little more than the result is allocated.

    One that is transparent everywhere shows its colours: programs that mean no transparency leave alpha at 0.
    """
    seen = bgra[:, :, 3].any()
    result = np.empty((*bgra.shape[:2], 3), np.uint8)
    for top in range(0, len(bgra), 256):
        part = bgra[top : top + 256]
        if part.dtype == np.uint16:
            part = (part >> 8).astype(np.uint8)
        if not seen:
            result[top : top + 256] = part[:, :, :3]
            continue
        alpha = part[:, :, 3:].astype(np.uint16)
        result[top : top + 256] = (part[:, :, :3] * alpha + 255 * (255 - alpha) + 127) // 255
    return result


_TURNS: dict[int, tuple[int | None, int | None]] = {
    # Exif orientation: (rotation, then mirror axis of cv2.flip), Exif 2.32 section 4.6.4, tag 274
    1: (None, None),
    2: (None, 1),
    3: (cv2.ROTATE_180, None),
    4: (None, 0),
    5: (cv2.ROTATE_90_CLOCKWISE, 1),
    6: (cv2.ROTATE_90_CLOCKWISE, None),
    7: (cv2.ROTATE_90_CLOCKWISE, 0),
    8: (cv2.ROTATE_90_COUNTERCLOCKWISE, None),
}


def _upright(image: UInt8Array, orientation: int) -> UInt8Array:
    rotation, mirror = _TURNS[orientation]
    if rotation is not None:
        image = cast("UInt8Array", cv2.rotate(image, rotation))
    if mirror is not None:
        image = cast("UInt8Array", cv2.flip(image, mirror))
    return image
