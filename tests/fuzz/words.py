"""Changes of texts (TOML, JSON, YAML, pbtxt, Darknet's cfg, lists of names) that mostly leave the form readable: tokens and lines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random

from tests.fuzz.numbers import WORDS, flip, spoil

__all__ = ["change_text"]

TOKEN = re.compile(rb"""(?P<text>"(?:[^"\\\n]|\\.)*"|'[^'\n]*')|(?P<number>[-+]?\d[\w.+-]*)|(?P<word>[A-Za-z_][\w.-]*)|(?P<sign>[^\s\w])""")
MOST = 200_000
"""Bytes that a text may grow to."""

NUMBERS = (
    "0", "-0", "-1", "1", "2", "0.5", "1e400", "-1e400", "1e-400", "inf", "-inf", "nan", "Infinity", "-Infinity", "NaN", "9" * 5000,
    "-" + "9" * 5000, "1." + "0" * 5000, "0x10", "1_000", "²", "٣", "½", "007", "+5", "65536", "4294967296", "-2147483649",
    "9223372036854775808", "1e308", "1e19", "1.5", "3.0", "100000", "99999999999999999999",
)  # fmt: skip
VALUES = (
    "true", "false", "null", "[]", "{}", "[[]]", "[1, 2, 3]", "[0, -1]", '"x"', "'x'", "{ a = 1 }", '{"a": 1}', "1979-05-27T07:32:00Z",
    "07:32:00",     '["a", 1, null]', '[""]', "[nan]", "[1e400]",
)  # fmt: skip
ESCAPES = (r"\ud800", r"\u0000", r"\u001b[2J", r"\n", r"\udfff\ud800", r"\"", r"\\", r"\x1b", r"\U0010ffff", r"\u2028")
RAW = (
    b"\0",
    b"\xff",
    b"\xed\xa0\x80",
    b"\xc3",
    b"\x1b[31m",
    b"\r",
    b"\x0c",
    b"\x85",
    b"\xe2\x80\xa8",
    b"\xef\xbb\xbf",
    b"#",
    b";",
    b",",
    b"=",
)


def change_text(rng: Random, text: bytes, others: Sequence[bytes] = ()) -> bytes:
    """The text with one change; lines may be taken from `others`."""
    how = rng.choices((_value, _token, _line, _nested, _long, _coded, _raw), (50, 12, 20, 3, 3, 2, 4))[0]
    return how(rng, text, others)[:MOST]


def _tokens(text: bytes) -> list[re.Match[bytes]]:
    return list(TOKEN.finditer(text))


def _quoted(rng: Random) -> str:
    inner = rng.choice((*WORDS, *NUMBERS)) if rng.random() < 0.7 else rng.choice(ESCAPES)
    return f'"{inner}"' if rng.random() < 0.8 else f"'{inner}'"


def _value(rng: Random, text: bytes, _: Sequence[bytes]) -> bytes:
    """A text or a number replaced, mostly by one of its own kind."""
    found = [match for match in _tokens(text) if match.lastgroup in {"text", "number"}]
    if not found:
        return _line(rng, text, ())
    match = rng.choice(found)
    own = _quoted(rng) if match.lastgroup == "text" else rng.choice(NUMBERS)
    new = own if rng.random() < 0.75 else rng.choice((_quoted(rng), rng.choice(NUMBERS), rng.choice(VALUES)))
    return text[: match.start()] + new.encode() + text[match.end() :]


def _token(rng: Random, text: bytes, _: Sequence[bytes]) -> bytes:
    """A token left out, doubled, or put in the place of another."""
    found = _tokens(text)
    if not found:
        return text + rng.choice(WORDS).encode()
    match, other = rng.choice(found), rng.choice(found)
    new = rng.choice((b"", match[0] + b" " + match[0], other[0], rng.choice(WORDS).encode(), rng.choice(RAW)))
    return text[: match.start()] + new + text[match.end() :]


def _line(rng: Random, text: bytes, others: Sequence[bytes]) -> bytes:
    """A line left out, doubled, moved, or taken from another text."""
    lines = text.splitlines(keepends=True) or [b""]
    at, to = rng.randrange(len(lines)), rng.randrange(len(lines))
    choice = rng.random()
    if choice < 0.4:
        del lines[at]
    elif choice < 0.6:
        lines.insert(to, lines[at])
    elif choice < 0.8 or not others:
        lines.insert(to, lines.pop(at))
    else:
        foreign = rng.choice(others).splitlines(keepends=True) or [b"\n"]
        lines.insert(to, rng.choice(foreign))
    return b"".join(lines)


def _nested(rng: Random, text: bytes, _: Sequence[bytes]) -> bytes:
    """A value within many brackets."""
    depth = rng.choice((10, 200, 2000, 60_000))
    open_, close = rng.choice(((b"[", b"]"), (b'{"a":', b"}"), (b"{", b"}"), (b"(", b")"), (b"{a=", b"}")))
    found = [match for match in _tokens(text) if match.lastgroup in {"text", "number"}]
    at = rng.choice(found).start() if found else 0
    end = next((match.end() for match in found if match.start() == at), at)
    depth = min(depth, MOST // 2 // len(open_))
    return text[:at] + open_ * depth + (text[at:end] or b"1") + close * (depth if rng.random() < 0.7 else 0) + text[end:]


def _long(rng: Random, text: bytes, _: Sequence[bytes]) -> bytes:
    """A line or a token again and again."""
    lines = text.splitlines(keepends=True) or [b"x\n"]
    part = rng.choice(lines) if rng.random() < 0.5 else (rng.choice(_tokens(text))[0] if _tokens(text) else b" ")
    at = text.find(part)
    return text[:at] + part * min(rng.choice((10, 1000, 100_000)), MOST // max(len(part), 1)) + text[at:]


def _coded(rng: Random, text: bytes, _: Sequence[bytes]) -> bytes:
    """Another encoding, other ends of lines, a mark at the start."""
    shown = text.decode("utf-8", "replace")
    return rng.choice(
        (b"\xef\xbb\xbf" + text, shown.encode("utf-16"), shown.encode("utf-16-be"), text.replace(b"\n", b"\r\n"),
         text.replace(b"\n", b"\r"),          shown.encode("latin-1", "replace"), shown.encode("utf-32"))
    )  # fmt: skip


def _raw(rng: Random, text: bytes, _: Sequence[bytes]) -> bytes:
    """Bytes that are no text, somewhere."""
    if rng.random() < 0.3:
        return spoil(rng, text)
    if rng.random() < 0.3:
        return flip(rng, text)
    at = rng.randrange(len(text) + 1)
    return text[:at] + rng.choice(RAW) + text[at:]
