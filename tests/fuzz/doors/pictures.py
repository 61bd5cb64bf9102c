"""Picture files: chunks, segments and directories spoiled with their check sums made right again."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random

import cv2
import numpy as np
from PIL import Image, features

from edgeannot.base.places import SAMPLES
from edgeannot.vision.decode import PictureLimits, configure_opencv, read_picture
from edgeannot.vision.picture_header import begins_as_picture, read_header
from tests.fuzz.door import Case, Door, Visit
from tests.fuzz.numbers import INTEGERS, flip, nasty_integer, spoil
from tests.heic import TURNED_HEIC


class TheDoor(Door):
    """`edgeannot.vision.decode`, as a folder, a message and a command use it."""

    modules = tuple(f"edgeannot/vision/{name}.py" for name in ("decode", "jpeg", "picture_header", "containers"))

    def open(self, folder: Path) -> None:
        configure_opencv()

    def seeds(self) -> list[Case]:
        photos = [cv2.imread(str(path), cv2.IMREAD_REDUCED_COLOR_4) for path in sorted(SAMPLES.glob("*.jpg"))]
        return [case for photo in photos[:3] for case in _files(photo)] + [Case("jpeg", (SAMPLES / "cat.jpg").read_bytes())]

    def mutate(self, rng: Random, case: Case) -> Case:
        own = {"jpeg": _jpeg, "png": _png, "webp": _webp, "bmp": _bmp, "tiff": _tiff, "avif": _iso, "heic": _iso}.get(case.kind, spoil)
        change: Callable[[Random, bytes], bytes] = own if rng.random() < 0.8 else spoil
        return Case(case.kind, change(rng, case.body))

    def enter(self, case: Case, folder: Path, visit: Visit) -> None:
        begins_as_picture(case.body[:16])
        read_header(case.body)
        visit.past_first = True
        path = folder / f"picture.{case.kind}"
        path.write_bytes(case.body)
        small = len(case.body) % 3 == 0
        read_picture(path, PictureLimits(max_pixels=30_000_000) if small else None, min_side=64 if small else None)


def _files(photo: np.ndarray) -> list[Case]:
    """A photo in every form that is read, small ones."""
    small = cv2.resize(photo, (61, 45))
    gray = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)
    clear = np.dstack([small, gray])
    deep = small.astype(np.uint16) * 257
    made = [
        ("jpeg", ".jpg", small, []),
        ("jpeg", ".jpg", small, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
        ("jpeg", ".jpg", gray, [cv2.IMWRITE_JPEG_RST_INTERVAL, 2]),
        *[("png", ".png", image, []) for image in (small, gray, clear, deep)],
        ("webp", ".webp", small, [cv2.IMWRITE_WEBP_QUALITY, 80]),
        *[("webp", ".webp", image, [cv2.IMWRITE_WEBP_QUALITY, 101]) for image in (small, clear)],
        *[("bmp", ".bmp", image, []) for image in (small, gray)],
        *[("tiff", ".tiff", image, [cv2.IMWRITE_TIFF_COMPRESSION, number]) for image in (small, deep) for number in (1, 5, 8)],
    ]
    cases = [Case(kind, cv2.imencode(suffix, image, options)[1].tobytes()) for kind, suffix, image, options in made]
    jpeg = cases[0].body
    exif = b"\xff\xe1" + struct.pack(">H", 8 + len(_exif(6))) + b"Exif\0\0" + _exif(6)
    png = next(case.body for case in cases if case.kind == "png")
    pil = Image.fromarray(small[..., ::-1])
    return [
        *cases,
        Case("jpeg", jpeg[:2] + exif + jpeg[2:]),
        Case("png", _join_png([*_chunks(png)[:1], (b"eXIf", _exif(8)), *_chunks(png)[1:]])),
        *[_saved(pil.convert(mode), kind, **options) for mode, kind, options in _OTHERS],
        *[_saved(pil, kind, save_all=True, append_images=[pil.rotate(180)], duration=50) for kind in ("gif", "webp", "png")],
        *([_saved(pil, "avif")] if features.check("avif") else []),
        Case("heic", TURNED_HEIC),
    ]


_OTHERS: tuple[tuple[str, str, dict[str, object]], ...] = (
    ("P", "png", {}),
    ("1", "png", {}),
    ("CMYK", "jpeg", {}),
    ("RGB", "webp", {"exif": b"Exif\0\0" + b"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\5\0\0\0\0\0\0"}),
    ("1", "tiff", {"compression": "group4"}),
    ("P", "tiff", {"compression": "packbits"}),
    ("CMYK", "tiff", {}),
    ("P", "bmp", {}),
    ("P", "gif", {"transparency": 3}),
)


def _saved(image: Image.Image, kind: str, **options: object) -> Case:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return Case(kind, file.getvalue())


def _exif(orientation: int) -> bytes:
    return b"II*\0\x08\0\0\0" + struct.pack("<HHHIHHI", 1, 274, 3, 1, orientation, 0, 0)


def _jpeg(rng: Random, raw: bytes) -> bytes:
    """A segment's length, contents, place or number; or the data behind them."""
    segments = []
    at = 2
    while at + 4 <= len(raw) and raw[at] == 0xFF:
        length = int.from_bytes(raw[at + 2 : at + 4], "big")
        segments.append((at, at + 2 + length, raw[at + 1]))
        at += 2 + length
        if segments[-1][2] == 0xDA:
            break
    if not segments:
        return spoil(rng, raw)
    start, end, marker = rng.choice(segments)
    frame = next(((s, e, m) for s, e, m in segments if m in (0xC0, 0xC1, 0xC2)), None)
    choice = rng.random()
    if choice < 0.25 and frame:  # precision, height, width, components, factors
        return raw[: frame[0] + 4] + _changed_frame(rng, raw[frame[0] + 4 : frame[1]]) + raw[frame[1] :]
    if choice < 0.4:
        return raw[: start + 2] + struct.pack(">H", nasty_integer(rng, end - start - 2) % 65536) + raw[start + 4 :]
    if choice < 0.6:
        return flip(rng, raw, start + 4, end)
    if choice < 0.7:
        return raw[:start] + raw[start:end] * rng.choice((0, 2, 50)) + raw[end:]
    if choice < 0.8:
        marker = rng.choice((0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xCA, 0xC4, 0xDB, 0xDD, 0xE1, 0xD9, 0xF7, 0xFE))
        return raw[: start + 1] + bytes([marker]) + raw[start + 2 :]
    if choice < 0.9:
        body = b"Exif\0\0" + _tiff(rng, _exif(rng.randrange(10)))
        return raw[:2] + b"\xff\xe1" + struct.pack(">H", (len(body) + 2) % 65536) + body + raw[2:]
    return flip(rng, raw, segments[-1][1])


def _changed_frame(rng: Random, frame: bytes) -> bytes:
    if rng.random() < 0.5 and len(frame) > 5:
        size = struct.pack(">HH", *(rng.choice((*INTEGERS[:18], 40_000)) % 65536 for _ in range(2)))
        return frame[:1] + size + frame[5:]
    return flip(rng, frame)


def _chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 8
    while at + 8 <= len(png):
        length, name = struct.unpack_from(">I4s", png, at)
        found.append((name, png[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def _join_png(chunks: list[tuple[bytes, bytes]]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


def _png(rng: Random, raw: bytes) -> bytes:
    """A chunk's contents, place or number, with a check sum that is right."""
    chunks = _chunks(raw)
    if not chunks:
        return spoil(rng, raw)
    at = rng.randrange(len(chunks))
    name, body = chunks[at]
    choice = rng.random()
    if choice < 0.3:
        header = bytearray(chunks[0][1].ljust(13, b"\0"))
        if rng.random() < 0.5:
            struct.pack_into(">II", header, 0, *(abs(nasty_integer(rng, 50)) % (1 << 32) for _ in range(2)))
        else:
            header[rng.randrange(8, 13)] = rng.choice((0, 1, 2, 3, 4, 6, 8, 16, 255))
        chunks[0] = chunks[0][0], bytes(header)
    elif choice < 0.45:
        chunks[at] = name, spoil(rng, body)
    elif choice < 0.55:
        chunks[at : at + 1] = [chunks[at]] * rng.choice((0, 2, 40))
    elif choice < 0.65:
        chunks.insert(rng.randrange(len(chunks)), chunks.pop(at))
    elif choice < 0.85:
        extra = rng.choice((b"eXIf", b"iCCP", b"tRNS", b"acTL", b"zTXt", b"PLTE", b"gAMA", b"sBIT", b"bKGD", b"abCd"))
        bodies = (
            _tiff(rng, _exif(rng.randrange(10))),
            b"name\0\0" + zlib.compress(b"x" * 100),
            b"\0\1",
            b"\0" * rng.randrange(800),
            b"\x1b[31m\0\0x",
        )
        chunks.insert(rng.randrange(1, len(chunks) + 1), (extra, rng.choice(bodies)))
    else:
        data = b"".join(body for name, body in chunks if name == b"IDAT")
        try:
            pixels = zlib.decompress(data)
        except zlib.error:
            return spoil(rng, raw)
        new = zlib.compress(rng.choice((flip(rng, pixels), pixels[: len(pixels) // 2], pixels * 3, b"")))
        chunks = [chunk for chunk in chunks if chunk[0] not in {b"IDAT", b"IEND"}] + [(b"IDAT", new), (b"IEND", b"")]
    return _join_png(chunks)


def _webp(rng: Random, raw: bytes) -> bytes:
    """A chunk of the RIFF container, with the file's length made right."""
    chunks, at = [], 12
    while at + 8 <= len(raw):
        name, length = struct.unpack_from("<4sI", raw, at)
        chunks.append((name, raw[at + 8 : at + 8 + length], length))
        at += 8 + length + (length & 1)
    if not chunks:
        return spoil(rng, raw)
    at = rng.randrange(len(chunks))
    name, body, length = chunks[at]
    choice = rng.random()
    if choice < 0.35:
        chunks[at] = name, flip(rng, body, 0, 12), length
    elif choice < 0.55:
        chunks[at] = name, spoil(rng, body), length
    elif choice < 0.7:
        chunks[at] = name, body, nasty_integer(rng, length) % (1 << 32)
    elif choice < 0.8:
        chunks[at : at + 1] = [chunks[at]] * rng.choice((0, 2, 40))
    else:
        new = rng.choice(
            ((b"EXIF", _tiff(rng, _exif(3))), (b"VP8X", bytes([rng.randrange(256), *[0] * 3, 60, 0, 0, 44, 0, 0])), (b"ANIM", b"\0" * 6))
        )
        chunks.insert(rng.randrange(len(chunks) + 1), (*new, len(new[1])))
    body = b"WEBP" + b"".join(struct.pack("<4sI", name, length) + body + b"\0" * (len(body) & 1) for name, body, length in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _iso(rng: Random, raw: bytes) -> bytes:
    """A property of the picture (size, rotation, mirroring), a length of a box, or a byte of the boxes before the data."""
    data = raw.find(b"mdat")
    name = rng.choice((b"ispe", b"irot", b"imir", b"meta", b"iloc", b"ipco", b"hvcC", b"av1C", b"ftyp"))
    at = raw.find(name)
    if at < 4 or rng.random() < 0.4:
        return flip(rng, raw, 0, max(data, 8))
    if rng.random() < 0.5:
        return raw[: at - 4] + struct.pack(">I", nasty_integer(rng, 20) % (1 << 32)) + raw[at:]
    return flip(rng, raw, at + 4, at + 20)


def _bmp(rng: Random, raw: bytes) -> bytes:
    """A field of the headers."""
    at, size = rng.choice(((10, 4), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2), (30, 4), (34, 4), (46, 4)))
    old = int.from_bytes(raw[at : at + size], "little")
    small = (1, 2, 4, 8, 12, 16, 24, 32, 40, 64, 108, 124)
    new = rng.choice(small) if rng.random() < 0.4 else nasty_integer(rng, old)
    return raw[:at] + (new % (1 << 8 * size)).to_bytes(size, "little") + raw[at + size :]


def _tiff(rng: Random, raw: bytes) -> bytes:
    """An entry of the first directory: its tag, kind, number of values or value."""
    order = {b"II": "<", b"MM": ">"}.get(raw[:2])
    if order is None or len(raw) < 10:
        return spoil(rng, raw)
    directory = struct.unpack_from(order + "I", raw, 4)[0]
    if directory + 2 > len(raw) or rng.random() < 0.1:
        return raw[:4] + struct.pack(order + "I", nasty_integer(rng, directory) % (1 << 32)) + raw[8:]
    count = struct.unpack_from(order + "H", raw, directory)[0]
    if rng.random() < 0.1 or not count:
        return raw[:directory] + struct.pack(order + "H", nasty_integer(rng, count) % 65536) + raw[directory + 2 :]
    entry = directory + 2 + 12 * rng.randrange(min(count, 60))
    if entry + 12 > len(raw):
        return spoil(rng, raw)
    tag, kind, values, value = struct.unpack_from(order + "HHII", raw, entry)
    choice = rng.random()
    if choice < 0.15:
        tag = rng.choice((254, 256, 257, 258, 259, 262, 273, 274, 277, 278, 279, 284, 317, 320, 322, 323, 324, 325, 338, 339))
    elif choice < 0.3:
        kind = rng.choice((0, 1, 2, 3, 4, 5, 7, 11, 12, 16, 99))
    elif choice < 0.5:
        values = abs(nasty_integer(rng, values)) % (1 << 32)
    else:
        value = nasty_integer(rng, value) % (1 << 32)
    return raw[:entry] + struct.pack(order + "HHII", tag, kind, values, value) + raw[entry + 12 :]
