"""Numbers and words that programs stumble over, and changes of bytes that know nothing of their format."""

from __future__ import annotations

from random import Random

__all__ = ["INTEGERS", "REALS", "WORDS", "flip", "nasty_integer", "overwrite", "spoil"]

INTEGERS = (
    0,
    1,
    2,
    3,
    4,
    7,
    8,
    16,
    64,
    127,
    128,
    255,
    256,
    1000,
    32767,
    32768,
    65535,
    65536,
    1 << 24,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
)
REALS = (0.0, -0.0, 1.0, -1.0, 1e-45, 1e-38, 3e38, float("inf"), float("-inf"), float("nan"), 255.0, 0.5)
WORDS = (
    "", " ", "²", "٣", "½", "-", "0", "person", "a" * 300, "\u202e\u2028", "\x1b[31mred\x1b[0m", "a\rb", "\x07", "\x85", "%s%n{}", "é" * 50,
    "../../x", "/dev/null", "Identity", "$HOME", "名前", "a/b#c+d", "\U0001f600", "StatefulPartitionedCall:0",
)  # fmt: skip


def nasty_integer(rng: Random, near: int = 0) -> int:
    """A number at an edge, one near `near`, or its negative."""
    choice = rng.random()
    if choice < 0.3:
        return near + rng.choice((-2, -1, 1, 2))
    if choice < 0.4:
        return near * rng.choice((2, 3, 10, 1000))
    number = rng.choice(INTEGERS)
    return -number if rng.random() < 0.25 else number


def flip(rng: Random, raw: bytes, first: int = 0, end: int | None = None) -> bytes:
    """One to eight bytes of a part replaced."""
    end = len(raw) if end is None else min(end, len(raw))
    if end <= first:
        return raw
    changed = bytearray(raw)
    for _ in range(rng.choice((1, 1, 2, 8))):
        changed[rng.randrange(first, end)] = rng.choice((rng.randrange(256), 0, 255, 127, 128))
    return bytes(changed)


def overwrite(rng: Random, raw: bytes, sizes: tuple[int, ...] = (1, 2, 4, 8), order: str = "little") -> bytes:
    """A whole number somewhere replaced by one at an edge."""
    size = rng.choice(sizes)
    if len(raw) < size:
        return raw
    at = rng.randrange(0, len(raw) - size + 1)
    at -= at % min(size, 4)
    number = nasty_integer(rng, int.from_bytes(raw[at : at + size], order)) % (1 << 8 * size)  # type: ignore[arg-type]
    return raw[:at] + number.to_bytes(size, order) + raw[at + size :]  # type: ignore[arg-type]


def spoil(rng: Random, raw: bytes) -> bytes:
    """A change of bytes without regard to what they mean: flipped, cut off, cut out, doubled."""
    choice = rng.random()
    if choice < 0.4:
        return flip(rng, raw)
    if choice < 0.6:
        return overwrite(rng, raw)
    at = rng.randrange(len(raw) + 1)
    if choice < 0.75:
        return raw[:at]
    length = rng.choice((1, 2, 4, 16, 100, 1000))
    return raw[:at] + raw[at + length :] if choice < 0.9 else raw[: at + length] + raw[at:]
