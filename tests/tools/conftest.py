"""Small labelled sets made on the spot: tiny real PNG files and sets over them."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest

from edgeannot_tools.datasets import Dataset, LabelledObject, Picture


@pytest.fixture(scope="session")
def small() -> type[Small]:
    """The makers of small pictures and sets."""
    return Small


class Small:
    """Makers of small pictures and sets."""

    @staticmethod
    def png(size_wh: tuple[int, int], shade: int = 0) -> bytes:
        """A real gray PNG of that size; another shade makes another file."""

        def chunk(kind: bytes, body: bytes) -> bytes:
            return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

        width, height = size_wh
        row = b"\0" + bytes((shade * 37 + x * 11) % 256 for x in range(width))
        header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row * height)) + chunk(b"IEND", b"")

    @classmethod
    def picture(
        cls, folder: Path, name: str, *objects: LabelledObject, size_wh: tuple[int, int] = (64, 48), shade: int = 0, split: str = ""
    ) -> Picture:
        """A picture whose file is written below the folder."""
        path = folder / split / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cls.png(size_wh, shade))
        return Picture(name, size_wh, objects, path, split)

    @classmethod
    def one_of_each(cls, folder: Path) -> Dataset:
        """A picture with two objects, one with one, and one without any."""
        return Dataset(
            ("cat", "dog"),
            (
                cls.picture(folder, "a.png", LabelledObject(0, (0, 0, 64, 48)), LabelledObject(1, (3, 4, 10.5, 20)), shade=1),
                cls.picture(folder, "b.png", LabelledObject(1, (1, 2, 3, 4)), shade=2),
                cls.picture(folder, "c.png", shade=3),
            ),
        )
