"""A bounds-checked view of FlatBuffers tables: enough to read a file of a known schema, without a library.

The binary form: https://flatbuffers.dev/internals/. A table is found through a signed offset to its vtable, which gives each
field's place in the order of the schema; a field that is not stored has the schema's default. All numbers are little-endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

__all__ = ["Broken", "Table", "flexbuffer_integer", "root"]

MAX_ITEMS = 1 << 24
"""No vector of tables or strings that this package reads is near this long; a longer one means that the bytes are something else."""


_TABLE_BYTES = 64
"""What a table counts for: about what the smallest take in a file, and a tenth of what they take as Python's objects."""


class Broken(ValueError):  # noqa: N818 - it is translated at the door of the file's kind, and never reaches a user
    """The bytes are not what a table's offsets claim; the text says where."""


@dataclass(slots=True)
class _Taken:
    """How much was read out of a file. Offsets may point to one text from a million places, which a writer never does."""

    total: int = 0

    def add(self, count: int, raw: bytes) -> None:
        self.total += count
        if self.total > 4 * len(raw) + (1 << 20):
            raise Broken(f"{self.total} bytes of names and lists were read, which is more than the file holds")


@dataclass(frozen=True, slots=True)
class Table:
    """One table in `raw`, at byte `at`. Fields are named by their position in the schema, from 0."""

    raw: bytes
    at: int
    _taken: _Taken = field(default_factory=_Taken, repr=False, compare=False)

    def place(self, field: int, size: int = 0) -> int:
        """Return the byte position of a field's own `size` bytes, or 0 where it is not stored."""
        vtable = self.at - self._unpack("<i", self.at)
        length = self._unpack("<H", vtable)
        slot = 4 + 2 * field
        if slot + 2 > length:
            return 0
        offset = self._unpack("<H", vtable + slot)
        if offset == 0:
            return 0
        self._within(self.at + offset, size)
        return self.at + offset

    def number(self, field: int, code: str, default: float = 0) -> int:
        """Return an integer field; `code` is its `struct` letter."""
        at = self.place(field)
        return int(self._unpack("<" + code, at)) if at else int(default)

    def real(self, field: int, default: float = 0.0) -> float:
        """Return a float field."""
        at = self.place(field)
        return float(self._unpack("<f", at)) if at else default

    def table(self, field: int) -> Table | None:
        """Return a table that the field points to, or None."""
        at = self.place(field)
        return Table(self.raw, self._follow(at), self._taken) if at else None

    def vector(self, field: int, item_size: int) -> tuple[int, int]:
        """Return the byte position of a vector's first item and how many items it has; (0, 0) where it is not stored."""
        at = self.place(field)
        if not at:
            return 0, 0
        start = self._follow(at)
        count = self._unpack("<I", start)
        self._within(start + 4, count * item_size)
        return start + 4, count

    def numbers(self, field: int, code: str) -> tuple[int, ...]:
        """Return a vector of integers; `code` is the `struct` letter of one."""
        start, count = self._vector_to_take(field, struct.calcsize("<" + code))
        return struct.unpack_from(f"<{count}{code}", self.raw, start) if count else ()

    def reals(self, field: int) -> tuple[float, ...]:
        """Return a vector of 32-bit floats."""
        start, count = self._vector_to_take(field, 4)
        return struct.unpack_from(f"<{count}f", self.raw, start) if count else ()

    def tables(self, field: int) -> tuple[Table, ...]:
        """Return a vector of tables."""
        start, count = self.vector(field, 4)
        if count > MAX_ITEMS:
            raise Broken(f"a list at byte {start} claims {count} entries")
        self._taken.add(count * _TABLE_BYTES, self.raw)
        return tuple(Table(self.raw, self._follow(start + 4 * i), self._taken) for i in range(count))

    def blob(self, field: int) -> bytes:
        """Return a vector of bytes."""
        start, count = self._vector_to_take(field, 1)
        return bytes(self.raw[start : start + count])

    def text(self, field: int) -> str:
        """Return a string; bytes that are no UTF-8 are replaced, since names are for people."""
        return self.blob(field).decode("utf-8", "replace")

    def texts(self, field: int) -> tuple[str, ...]:
        """Return a vector of strings."""
        start, count = self.vector(field, 4)
        return tuple(self._string(self._follow(start + 4 * i)) for i in range(count))

    def _vector_to_take(self, field: int, item_size: int) -> tuple[int, int]:
        start, count = self.vector(field, item_size)
        self._taken.add(count * item_size, self.raw)
        return start, count

    def _string(self, at: int) -> str:
        length = self._unpack("<I", at)
        self._within(at + 4, length)
        self._taken.add(length, self.raw)
        return bytes(self.raw[at + 4 : at + 4 + length]).decode("utf-8", "replace")

    def _follow(self, at: int) -> int:
        target = at + int(self._unpack("<I", at))
        self._within(target, 4)
        return target

    def _unpack(self, form: str, at: int) -> int:
        self._within(at, struct.calcsize(form))
        value: int = struct.unpack_from(form, self.raw, at)[0]
        return value

    def _within(self, at: int, size: int) -> None:
        if at < 0 or size < 0 or at + size > len(self.raw):
            raise Broken(f"{size} bytes are wanted at byte {at}, and the file ends at {len(self.raw)}")


def root(raw: bytes) -> Table:
    """Return the table that the file starts with. Raises Broken where the bytes are too few."""
    if len(raw) < 8:
        raise Broken(f"the file has {len(raw)} bytes")
    at = int(struct.unpack_from("<I", raw, 0)[0])
    if at + 4 > len(raw):
        raise Broken(f"its first table is said to be at byte {at}, and the file ends at {len(raw)}")
    return Table(raw, at)


def flexbuffer_integer(options: bytes, key: str) -> int | None:
    """Return an integer of a FlexBuffers map, the form of custom operators' options; None where it is not there.

    https://flatbuffers.dev/flexbuffers/: the map is a vector of values, whose keys are in a vector of the same order.
    """
    try:
        root_width = options[-1]
        root_at = len(options) - 2 - root_width
        values = root_at - int.from_bytes(options[root_at : root_at + root_width], "little")
        width = 1 << (options[-2] & 3)
        number = [int.from_bytes(options[at : at + width], "little") for at in (values - 3 * width, values - 2 * width, values - width)]
        keys, key_width, count = values - 3 * width - number[0], number[1], number[2]
        if options[-2] >> 2 != 9 or not 0 < count < 256 or key_width not in {1, 2, 4, 8}:  # type 9: map
            return None
        for i in range(count):
            at = keys + i * key_width
            start = at - int.from_bytes(options[at : at + key_width], "little")
            if options[start : options.index(b"\0", start)] != key.encode():
                continue
            kind = options[values + count * width + i] >> 2
            stored = options[values + i * width : values + (i + 1) * width]
            if kind in {1, 2}:  # signed, unsigned; those stored elsewhere, and floats, no exporter writes
                return int.from_bytes(stored, "little", signed=kind == 1)
    except (IndexError, ValueError, struct.error):
        return None
    return None
